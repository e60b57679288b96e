"""Puts Shadowcat's rooms together behind one addon, in the order in which they must see things."""

import logging
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from mitmproxy.addonmanager import Loader

from shadowcat_addons import http_stream
from shadowcat_addons.console import Console
from shadowcat_addons.exchanges import Exchanges
from shadowcat_addons.live import Live
from shadowcat_addons.mcp_defaults import McpDefaults
from shadowcat_addons.tape import Tape
from shadowcat_addons.upstream_errors import UpstreamErrors
from shadowcat_addons.views import Views
from shadowcat_core.exchange import ExchangeRegistry

logger = logging.getLogger(__name__)


class Shadowcat:
    """Makes mitmproxy understand MCP.

    mitmproxy asks every addon for a handler of every hook, eight times an exchange. So its rooms are plain objects,
    and the addon's handlers of the flow hooks are those of the one room that follows exchanges.
    """

    def __init__(self) -> None:
        self.registry = ExchangeRegistry(time.monotonic_ns, on_failure=report)
        self.defaults = McpDefaults()
        self.tape = Tape()
        self.live = Live(self.registry, on_failure=report)
        self.console = Console(self.registry)
        self.upstream_errors = UpstreamErrors(self.registry)
        # The tape first: what happens is recorded before anybody acts on it.
        self.exchanges = Exchanges(self.registry, [self.tape, self.live, self.console])
        # The defaults last: what they set makes mitmproxy configure everybody once more, and an error of the tape's is
        # better told before that.
        self._configurable = (self.tape, self.live, self.console, self.defaults)
        self._restore: Callable[[], None] = lambda: None
        self.requestheaders = self.defaults.requestheaders
        self.request = self.exchanges.request
        self.responseheaders = self.exchanges.responseheaders
        self.response = self.exchanges.response
        self.error = self.exchanges.error
        self.client_disconnected = self.exchanges.client_disconnected

    def load(self, loader: Loader) -> None:
        for room in (*self._configurable, self.exchanges, Views()):
            room.load(loader)
        try:
            self._restore = http_stream.install(self.upstream_errors.answer)
        except http_stream.UnexpectedInternalsError as exc:
            logger.warning(
                "shadowcat: this mitmproxy is not as expected (%s): an upstream that is down is answered with HTML, "
                "and watching a stream adds a few microseconds a chunk",
                exc,
            )

    def configure(self, updated: AbstractSet[str]) -> None:
        for room in self._configurable:
            room.configure(updated)

    def done(self) -> None:
        for undo in (self.live.done, self.console.done, self.tape.done, self.defaults.done, self._restore):
            try:
                undo()
            except Exception as exc:  # noqa: BLE001 - each room is left, whatever happens in another
                report(exc)


def report(exc: Exception) -> None:
    """Say that something beside the traffic went wrong, such as the line that an exchange is shown with."""
    logger.error("shadowcat: %r (the traffic is not concerned)", exc, exc_info=exc)
