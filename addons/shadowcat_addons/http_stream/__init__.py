"""The one seam into mitmproxy's internals: what its addon hooks cannot do for a stream.

mitmproxy hands each piece of a streamed body to a synchronous callable and sends what that returns. Rebinding the
class of its HTTP streams, and nothing else, adds:

- a watched chunk is sent first and looked at afterwards, so watching adds nothing before the send;
- a stream waits for an interceptor while all others go on: its later events queue in their order, the end included,
  and reading from the server pauses when too much has queued;
- a client that leaves ends the wait;
- what we have to say ourselves on a running stream is sent between two of its frames;
- an upstream that cannot be reached is answered by us (a JSON-RPC error) instead of with mitmproxy's HTML page;
- a server that resets a connection as it is made leaves no request without an answer;
- what mitmproxy does at each event, and could do for less, it does for less (`economies`);
- a request goes to another upstream when one fails, and a stream goes on from there on the client's open connection.

Behaviour is mitmproxy's own for every response whose stream is not ours, and for every error that `answer` leaves
alone. Proved on the versions in `PROVED_VERSIONS`; on internals of another shape `install` refuses and the suite
runs without the seam.
"""

import inspect
from typing import TYPE_CHECKING
from weakref import WeakSet

from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import Hook
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import HttpStream

from shadowcat_addons.http_stream.connecting import tell_of_resets
from shadowcat_addons.http_stream.economies import economise
from shadowcat_addons.http_stream.seamed import Answer, HoldsWhole, Left, SeamedHttpStream, ShadowcatWaitHook
from shadowcat_core.errors import ShadowcatError
from shadowcat_core.waiting import Waiting

if TYPE_CHECKING:
    from shadowcat_addons.http_stream.attempts import FlowRelay

PROVED_VERSIONS = ("12.2.3",)


class UnexpectedInternalsError(ShadowcatError):
    """mitmproxy's HTTP layer is not of the shape that the seam was proved on."""


class Seam:
    """The rebound class of mitmproxy's streams. Each is of the class that is bound when it begins."""

    def __init__(self, answer: Answer, left: Left, holds_whole: HoldsWhole) -> None:
        """Rebind the class.

        Raises:
            UnexpectedInternalsError: a name or a parameter that the seam relies on is not there. Nothing was changed.
        """
        _check_shape()
        self._original = http_layer.HttpStream
        self._waits: WeakSet[Waiting] = WeakSet()
        self._attributes = {
            "answer_for": staticmethod(answer),
            "client_left": staticmethod(left),
            "holds_whole": staticmethod(holds_whole),
            "waits": self._waits,
        }
        self._bound: type[HttpStream] = self._original
        self._undone = [tell_of_resets(), economise()]
        self._bind(SeamedHttpStream)

    def lead(self, relay: "FlowRelay") -> None:
        """Let flows be led by `relay` from now on."""
        from shadowcat_addons.http_stream.relayed import RelayedHttpStream  # here, as most proxies have no upstreams

        self._bind(RelayedHttpStream, relay=relay)

    def restore(self) -> None:
        """Put mitmproxy's own class back, and cut the streams that wait."""
        if http_layer.HttpStream is self._bound:
            http_layer.HttpStream = self._original  # type: ignore[misc]
        for undo in self._undone:
            undo()
        for waiting in list(self._waits):
            waiting.break_off()

    def _bind(self, base: type[SeamedHttpStream], **attributes: object) -> None:
        if http_layer.HttpStream is self._bound:  # else somebody else has bound it since
            self._bound = type("SeamedHttpStream", (base,), {**self._attributes, **attributes})
            http_layer.HttpStream = self._bound  # type: ignore[misc]


def _check_shape() -> None:
    expected = {
        "_handle_event": ["self", "event"],
        "handle_event": ["self", "event"],
        "start_response_stream": ["self"],
        "state_stream_response_body": ["self", "event"],
        "handle_protocol_error": ["self", "event"],
        "check_invalid": ["self", "request"],
        "check_body_size": ["self", "request"],
        "flow_done": ["self"],
        "passthrough": ["self", "event"],
        "make_server_connection": ["self"],
        "state_wait_for_response_headers": ["self", "event"],
        "send_response": ["self", "already_streamed"],
    }
    of_addons = {"trigger_event": ["self", "event"], "_iter_hooks": ["self", "addon", "event"]}
    for owner, methods in ((HttpStream, expected), (AddonManager, of_addons), (Hook, {"args": ["self"]})):
        for name, parameters in methods.items():
            method = getattr(owner, name, None)
            # mitmproxy wraps its state methods in a check of the event's type.
            if method is None or list(inspect.signature(inspect.unwrap(method)).parameters) != parameters:
                raise UnexpectedInternalsError(f"{owner.__name__}.{name} is not as expected")
    if "HttpStream" not in http_layer.HttpLayer.make_stream.__code__.co_names:
        raise UnexpectedInternalsError("HttpLayer.make_stream does not look HttpStream up by name")


__all__ = ["PROVED_VERSIONS", "Seam", "ShadowcatWaitHook", "UnexpectedInternalsError"]
