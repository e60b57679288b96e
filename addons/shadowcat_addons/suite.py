"""Puts Shadowcat's addons together: one registry that all share, in the order in which they must see a flow."""

import logging
import time
from collections.abc import Callable

from shadowcat_addons import http_stream
from shadowcat_addons.console import Console
from shadowcat_addons.live import Live
from shadowcat_addons.mcp_defaults import McpDefaults
from shadowcat_addons.recognise import Recognise
from shadowcat_addons.streams import Streams
from shadowcat_addons.tape import Tape
from shadowcat_addons.upstream_errors import UpstreamErrors
from shadowcat_addons.views import Views
from shadowcat_core.exchange import ExchangeRegistry

logger = logging.getLogger(__name__)


class Shadowcat:
    """Makes mitmproxy understand MCP."""

    def __init__(self) -> None:
        self.registry = ExchangeRegistry(time.monotonic_ns)
        self.tape = Tape(self.registry)
        self.live = Live(self.registry)
        self.upstream_errors = UpstreamErrors(self.registry)
        self._restore: Callable[[], None] | None = None
        self.addons = [
            McpDefaults(),
            Recognise(self.registry),
            self.tape,
            self.live,
            Console(self.registry),
            # Last: gives a stream its tap when all who watch have said so, and ends an exchange when all have seen it.
            Streams(self.registry),
            Views(),
        ]

    def load(self, _loader: object) -> None:
        try:
            self._restore = http_stream.install(self.upstream_errors.answer)
        except http_stream.UnexpectedInternalsError as exc:
            logger.warning(
                "shadowcat: this mitmproxy is not as expected (%s): an upstream that is down is answered with HTML, "
                "and watching a stream adds a few microseconds a chunk",
                exc,
            )

    def done(self) -> None:
        if self._restore is not None:
            self._restore()
