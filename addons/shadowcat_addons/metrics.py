"""Serves metrics to Prometheus and its like (option `shadowcat_metrics`).

Off, which it is unless somebody sets the option, neither the metrics nor what serves them is imported.
"""

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from shadowcat_core.listen_address import ListenAddress

if TYPE_CHECKING:
    from shadowcat_core.metrics import MetricsServer, ProxyMetrics

logger = logging.getLogger(__name__)


class Metrics:
    """The option, and the server that it starts."""

    def __init__(self, collect: "Callable[[], ProxyMetrics]") -> None:
        """Serve nothing yet. `collect` makes what reads the counters, when it is first wanted."""
        self._collect = collect
        self._text = ""
        self._server: MetricsServer | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_metrics",
            str,
            "",
            "Serve metrics for Prometheus at http://[host:]port/metrics; a port alone is on 127.0.0.1, :port on every "
            "interface; empty: off.",
        )

    def configure(self, _updated: AbstractSet[str]) -> None:
        text = ctx.options.shadowcat_metrics
        if text == self._text:
            return
        # Before another one listens, which may want the same port. When it cannot, mitmproxy sets what was set before.
        self._stop()
        self._text = ""
        if text:
            self._server = self._serve(text)
            self._text = text

    def done(self) -> None:
        # What was wanted stays known: other rooms that end set options back, and mitmproxy configures all once more.
        self._stop()

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            closing = server.close()
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _serve(self, text: str) -> "MetricsServer":
        try:
            address = ListenAddress.parse(text)
        except ValueError as exc:
            raise exceptions.OptionsError(f"shadowcat_metrics: {text!r}: {exc}") from exc
        from shadowcat_core.metrics import MetricsServer  # here, as most proxies serve none

        try:
            server = MetricsServer(address, self._collect())
        except OSError as exc:
            raise exceptions.OptionsError(f"shadowcat_metrics: cannot listen on {address}: {exc.strerror}") from exc
        logger.info("shadowcat: metrics at %s", server.url)
        return server
