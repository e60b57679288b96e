"""The one seam into mitmproxy's internals: what its addon hooks cannot do for a stream.

mitmproxy hands each piece of a streamed body to a synchronous callable and sends what that returns. Rebinding the
class of its HTTP streams, and nothing else, adds:

- a watched chunk is sent first and looked at afterwards, so watching adds nothing before the send;
- an upstream that cannot be reached is answered by us (a JSON-RPC error) instead of with mitmproxy's HTML page.

Behaviour is mitmproxy's own for every response whose stream is not ours, and for every error that `answer` leaves
alone. Proved on the versions in `PROVED_VERSIONS`; on internals of another shape `install` refuses and the suite
runs without the seam.
"""

import inspect
from collections.abc import Callable
from typing import Any, cast

from mitmproxy import http
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpErrorHook,
    HttpStream,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

from shadowcat_core.errors import ShadowcatError
from shadowcat_core.stream import StreamTap

PROVED_VERSIONS = ("12.2.3",)

type Answer = Callable[[http.HTTPFlow, str], http.Response | None]
"""Gives the response for an exchange whose upstream failed before answering (flow, error text); None leaves it."""


class UnexpectedInternalsError(ShadowcatError):
    """mitmproxy's HTTP layer is not of the shape that the seam was proved on."""


def install(answer: Answer) -> Callable[[], None]:
    """Rebind mitmproxy's stream class and give a function that restores it.

    Raises:
        UnexpectedInternalsError: a name or a parameter that the seam relies on is not there. Nothing was changed.
    """
    _check_shape()
    original = http_layer.HttpStream

    class SeamedHttpStream(_SeamedHttpStream):
        answer_for = staticmethod(answer)

    http_layer.HttpStream = SeamedHttpStream  # type: ignore[misc]

    def restore() -> None:
        if http_layer.HttpStream is SeamedHttpStream:
            http_layer.HttpStream = original  # type: ignore[misc]

    return restore


def _check_shape() -> None:
    expected = {
        "state_stream_response_body": ["self", "event"],
        "handle_protocol_error": ["self", "event"],
        "check_invalid": ["self", "request"],
        "check_body_size": ["self", "request"],
    }
    for name, parameters in expected.items():
        method = getattr(HttpStream, name, None)
        # mitmproxy wraps its state methods in a check of the event's type.
        if method is None or list(inspect.signature(inspect.unwrap(method)).parameters) != parameters:
            raise UnexpectedInternalsError(f"HttpStream.{name} is not as expected")
    if "HttpStream" not in http_layer.HttpLayer.make_stream.__code__.co_names:
        raise UnexpectedInternalsError("HttpLayer.make_stream does not look HttpStream up by name")


class _SeamedHttpStream(HttpStream):
    answer_for: Answer

    def state_stream_response_body(self, event: Any) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData) and self.flow.response is not None:
            tap = self.flow.response.stream
            if isinstance(tap, StreamTap) and tap.watches_only:
                yield SendHttp(event, self.context.client)
                tap.watch(event.data)
                return
        yield from super().state_stream_response_body(event)

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        steps = super().handle_protocol_error(event)
        unanswered = self.server_state in (self.state_wait_for_response_headers, self.state_consume_response_body)
        if isinstance(event, ResponseProtocolError) and self.client_state == self.state_done and unanswered:
            steps = self._answering(steps)
        return (yield from steps)

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        steps = super().check_invalid(request)
        return (yield from (steps if request else self._answering(steps)))

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        steps = super().check_body_size(request)
        return (yield from (steps if request else self._answering(steps)))

    def _answering[T](self, steps: layer.CommandGenerator[T]) -> layer.CommandGenerator[T]:
        """Go mitmproxy's steps for a response that cannot be had, with our answer where its page would be sent."""
        response: http.Response | None = None
        reply = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration as stop:
                return cast(T, stop.value)
            reply = None
            if isinstance(command, HttpErrorHook) and self.flow.error is not None:
                # Before the hook runs, so that every addon sees error and answer together.
                response = self.answer_for(self.flow, self.flow.error.msg)
                if response is not None:
                    self.flow.response = response
            if (
                response is not None
                and isinstance(command, SendHttp)
                and isinstance(command.event, ResponseProtocolError)
                and command.event.code is not ErrorCode.KILL
            ):
                yield from self._send(response)
            else:
                reply = yield command

    def _send(self, response: http.Response) -> layer.CommandGenerator[None]:
        client = self.context.client
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), client)
        yield SendHttp(ResponseData(self.stream_id, response.raw_content or b""), client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), client)
