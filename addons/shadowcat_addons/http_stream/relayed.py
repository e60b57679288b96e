"""A stream of mitmproxy's whose response may come from several connections, one after the other.

What answers mean is said by a `Passage` of the core, and how an event stream goes on by its `Carriage`; here they meet
mitmproxy's events.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from mitmproxy import http
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import (
    HttpEvent,
    HttpResponseHeadersHook,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from shadowcat_addons.http_stream.attempts import AttemptingHttpStream
from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import READ_ON_S
from shadowcat_core.mcp import SESSION_ID_HEADER, HeaderFields
from shadowcat_core.relay import Carriage, Gather, GoOn, Leg, Pass, Passage, Tail, edited
from shadowcat_core.resumption import WayBack
from shadowcat_core.stream import StreamTap
from shadowcat_core.upstreams import FailureKind


class RelayedHttpStream(AttemptingHttpStream):
    """What the seam adds to a response whose flow has a passage."""

    _gather: Gather | None = None
    _gathered: list[HttpEvent]
    _gathered_bytes = 0
    _carriage: Carriage | None = None

    # --- The answer ---------------------------------------------------------------------------------------------------

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        passage = self.relay.passage(self.flow)
        if passage is None:
            yield from super().state_wait_for_response_headers(event)
            return
        response = event.response
        match passage.heard(response.status_code, HeaderFields(response.headers.fields)):
            case Pass() as passing:
                self._end_patience()
                yield from self._let_pass(passage, event, passing)
            case GoOn():
                self._end_patience()
                yield from self._go_on()
            case Gather() as gather:
                self._gather, self._gathered, self._gathered_bytes = gather, [event], 0
                self.server_state = self.state_gather_answer

    def state_gather_answer(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Keep the answer back until it can be decided about."""
        passage = self.relay.passage(self.flow)
        gather = self._gather
        self._gathered.append(event)
        if passage is None or gather is None:  # pragma: no cover -- there is no way into this state without them
            return
        is_over = isinstance(event, ResponseEndOfMessage)
        if isinstance(event, ResponseData):
            self._gathered_bytes += len(event.data)
        is_full = is_over or self._gathered_bytes >= gather.max_bytes
        if not is_full and gather.is_enough is None:
            return
        body = b"".join([each.data for each in self._gathered if isinstance(each, ResponseData)])
        if is_full or (gather.is_enough is not None and gather.is_enough(body)):
            yield from self._decide(passage, body, is_over=is_over)

    def _decide(self, passage: Passage, body: bytes, *, is_over: bool) -> layer.CommandGenerator[None]:
        self._end_patience()
        head, *rest = self._gathered
        self._gather, self._gathered = None, []
        response = cast(ResponseHeaders, head).response
        fields = HeaderFields(response.headers.fields)
        step = yield from self._await(lambda: passage.decide(response.status_code, fields, body))
        if not is_over and not isinstance(step, Pass | GoOn):
            yield from self._give_up_attempt()
        match step:
            case Pass():
                yield from self._let_pass(passage, cast(ResponseHeaders, head), step)
                for event in rest:
                    yield from self.server_state(event)
            case GoOn():
                yield from self._go_on()
                for event in (ResponseData(self.stream_id, step.data), ResponseEndOfMessage(self.stream_id)):
                    yield from self.server_state(event)
            case Leg():
                yield from self._send_again(passage, step)
            case Tail():
                yield from self.end_stream(step)
            case _:
                yield from self._reply_or_abandon(step, f"HTTP {response.status_code}")

    def _let_pass(self, passage: Passage, event: ResponseHeaders, passing: Pass) -> layer.CommandGenerator[None]:
        response = event.response
        if passing.edits:
            response.headers.fields = edited(response.headers.fields, passing.edits)
        if passing.status is not None:
            response.status_code = passing.status
            response.reason = http.status_codes.RESPONSES.get(passing.status, "")
        carriage = passage.carriage
        if carriage is not None:
            response.headers.pop("content-length", None)
            if self.flow.request.http_version == "HTTP/1.1":
                response.headers["transfer-encoding"] = "chunked"
        yield from super().state_wait_for_response_headers(event)
        if carriage is None:
            return
        if self.server_state != self.state_stream_response_body or self._tap() is None:
            carriage.release()  # somebody else's doing, and his affair
            return
        yield from self._carry(carriage)

    def _carry(self, carriage: Carriage) -> layer.CommandGenerator[None]:
        self._carriage = carriage
        carriage.on_over = self._nudge
        if carriage.is_over:  # while somebody looked at the head of the answer
            self._nudge()
        yield from self._send_data(carriage.prelude)

    def _go_on(self) -> layer.CommandGenerator[None]:
        """The stream goes on from this connection, behind what the client has."""
        self.server_state = self.state_stream_response_body
        tap = self.relay.stream_again(self.flow)
        if tap is not None:
            tap.on_post = self._nudge
            yield from self._pass_on(tap, tap.flush())

    # --- The stream ---------------------------------------------------------------------------------------------------

    def state_stream_response_body(self, event: Any) -> layer.CommandGenerator[None]:
        if self._carriage is not None and isinstance(event, ResponseEndOfMessage):
            yield from self._server_is_done(self._carriage, None)
        else:
            yield from super().state_stream_response_body(event)

    def _deliver(self, tap: StreamTap, data: bytes) -> layer.CommandGenerator[bool]:
        if self._carriage is not None and data:
            data = self._carriage.feed(data)
        return (yield from super()._deliver(tap, data))

    def _send_data(self, data: bytes) -> layer.CommandGenerator[None]:
        if not self._is_read_on:
            yield from super()._send_data(data)

    def _server_is_done(self, carriage: Carriage, broken: str | None) -> layer.CommandGenerator[None]:
        """Its connection brings no more of the stream."""
        tap = self._tap()
        if tap is not None:
            if not (yield from self._pass_on(tap, tap.end())):
                return
            rest = carriage.end(broken=broken is not None)
            if rest and not (yield from super()._deliver(tap, rest)):
                return
        passage = self.relay.passage(self.flow)
        step: Leg | Tail | None = carriage.settled(broken=broken)
        if step is None and passage is not None:
            self.server_state = self.state_wait_for_response_headers
            step = yield from self._await(lambda: passage.go_on(broken=broken))
        yield from self._carry_on(passage, step)

    def _carry_on(self, passage: Passage | None, step: Leg | Tail | None) -> layer.CommandGenerator[None]:
        if isinstance(step, Leg) and passage is not None:
            yield from self._send_again(passage, step)
        else:
            yield from self.end_stream(step if isinstance(step, Tail) else None)

    def end_stream(self, tail: object) -> layer.CommandGenerator[None]:
        if self._is_read_on or self._has_left or not isinstance(tail, Tail):
            yield from self._abandon()
        elif tail.cut is not None:
            yield from self._cut(tail.cut)
        else:
            self.server_state = self.state_stream_response_body
            yield from self._end_with(tail.data)

    def _end_with(self, errors: bytes) -> layer.CommandGenerator[None]:
        """End the client's stream with errors of ours, which may be none, for all to see who see what servers say."""
        tap = self._tap()
        if errors:
            self.relay.told_lost(self.flow)
            tap = self.relay.stream_again(self.flow, is_ours=True)
            yield from self._send_data(errors)
            if tap is not None:
                tap.watch(errors)
                if not (yield from self._pass_on(tap, tap.end())):
                    return
        yield from self._finish(tap)

    def lead_back(self, passage: Passage, way: WayBack) -> layer.CommandGenerator[None]:
        """Send the client what it misses, and go on with the stream behind that."""
        self.flow.response = _own_stream(self.flow, passage)
        yield HttpResponseHeadersHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        yield from self.start_response_stream()
        if passage.carriage is not None:
            yield from self._carry(passage.carriage)
        tap, frames = self._tap(), way.frames()
        while not self._has_left:
            data = yield from self._await(lambda: _next(frames))
            if isinstance(data, StoreUnavailable):
                yield from self._cut(str(data))
                return
            if not data:
                break
            if tap is not None:
                tap.show(data)
            yield from self._send_data(data)
        if self.flow.live and not self._has_left:
            step = yield from self._await(lambda: passage.go_on(broken=None))
            yield from self._carry_on(passage, step)
        elif self.flow.live:
            yield from self._abandon()

    def flow_done(self) -> layer.CommandGenerator[None]:
        yield from super().flow_done()
        self._carriage = None  # mitmproxy's streams are in a cycle of references, which need not keep what is ours

    # --- Ends ---------------------------------------------------------------------------------------------------------

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        passage = None if not hasattr(self, "flow") else self.relay.passage(self.flow)
        if passage is None or self.client_state != self.state_done or self._is_killed():
            return (yield from super().handle_protocol_error(event))
        if isinstance(event, RequestProtocolError):
            if self._is_read_on or self._leave(passage):
                return None
            self._end_patience()
            return (yield from super().handle_protocol_error(event))
        return (yield from self._server_failed(passage, event))

    def _server_failed(self, passage: Passage, event: ResponseProtocolError) -> layer.CommandGenerator[None]:
        self._end_patience()
        waits = (self.state_wait_for_response_headers, self.state_gather_answer)
        if self.server_state in waits:
            self._gather, self._gathered = None, []
            self._new_attempt()
            yield from self._failed(passage, FailureKind.CLOSED, event.message)
        elif self.server_state == self.state_stream_response_body and self._carriage is not None:
            self._new_attempt()
            yield from self._server_is_done(self._carriage, event.message)
        elif not (self.server_state == self.state_stream_response_body and (yield from self._tell_lost(event.message))):
            yield from super().handle_protocol_error(event)

    def _tell_lost(self, reason: str) -> layer.CommandGenerator[bool]:
        """Tell the client of a broken stream, which none can go on with, that its answers will not come."""
        tap = self._tap()
        if tap is None or self._is_killed():
            return False
        is_within_frame = tap.is_within_frame
        if not (yield from self._pass_on(tap, tap.end())):
            return True
        errors = self.relay.lost_answers(self.flow, reason)
        if not errors:
            return False
        # What broke off within an event is none, and nothing of ours is to be a part of it.
        self._new_attempt()
        yield from self._end_with((b"\n\n" if is_within_frame else b"") + errors)
        return True

    def _failed(self, passage: Passage, kind: FailureKind, reason: str) -> layer.CommandGenerator[None]:
        """What was sent has no answer."""
        carriage = self._carriage
        if carriage is not None:
            step = yield from self._await(lambda: passage.reconnection_failed(kind, reason))
            yield from self._carry_on(passage, step)
            return
        again = yield from self._await(lambda: passage.failed(kind, reason, sent=True))
        if isinstance(again, Leg):
            yield from self._send_again(passage, again)
        else:
            yield from self._reply_or_abandon(again, reason)

    def _flush(self, event: events.Wakeup) -> layer.CommandGenerator[None]:
        carriage = self._carriage
        is_awaited = self.server_state in (self.state_wait_for_response_headers, self.state_gather_answer)
        is_read = is_awaited or self.server_state == self.state_stream_response_body
        if carriage is not None and carriage.is_over and is_read:
            yield from self._stop_reading()
            return
        if self._is_overdue and is_awaited:
            passage = self.relay.passage(self.flow)
            self._end_patience()
            self._gather, self._gathered = None, []
            if passage is not None:
                yield from self._give_up_attempt()
                yield from self._failed(passage, FailureKind.FIRST_BYTE, str(FailureKind.FIRST_BYTE))
            return
        yield from super()._flush(event)

    def _stop_reading(self) -> layer.CommandGenerator[None]:
        """Nobody here has any use for the stream, wherever the server is with it: before its head, or behind."""
        self._end_patience()
        self._gather, self._gathered = None, []
        yield from self._give_up_attempt()
        yield from self.end_stream(Tail(cut="another proxy reads this stream, or its session has ended"))

    def _see_queued(self, event: events.Event) -> None:
        if isinstance(event, RequestProtocolError) and not self._awaits and hasattr(self, "flow"):
            passage = self.relay.passage(self.flow)
            if passage is not None and self._leave(passage):
                return  # what an interceptor holds just now is for who comes back
            self.relay.left(self.flow)
        super()._see_queued(event)

    def _leave(self, passage: Passage) -> bool:
        """The client has left. True when the server's answers are read on for when it comes back."""
        if self._carriage is None or self.server_state != self.state_stream_response_body or not passage.leave():
            return False
        self._is_read_on = True
        self.relay.read_on(self.flow)
        self._arm()
        return True

    def _arm(self) -> None:
        self._read_on_until = asyncio.get_running_loop().call_later(float(READ_ON_S), self._read_on_is_over)

    def _read_on_is_over(self) -> None:
        """Nobody came for so long. A client that is back on another connection is read for as long as it stays."""
        if self._carriage is not None and self._carriage.is_followed:
            self._arm()
        elif self._carriage is not None:
            self._carriage.taken()


async def _next(frames: AsyncIterator[bytes]) -> bytes | StoreUnavailable:
    try:
        return await anext(frames, b"")
    except StoreUnavailable as exc:
        return exc


def _own_stream(its_flow: http.HTTPFlow, passage: Passage) -> http.Response:
    response = http.Response.make(200, b"", {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    response.headers.pop("content-length", None)
    response.raw_content = None
    if passage.mapping is not None:
        response.headers[SESSION_ID_HEADER] = passage.mapping.session_id
    if its_flow.request.http_version == "HTTP/1.1":
        response.headers["Transfer-Encoding"] = "chunked"
    return response
