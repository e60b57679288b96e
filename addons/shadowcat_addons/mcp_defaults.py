"""mitmproxy options that break MCP at their defaults: set to what MCP needs, unless the user chose something else.

- `tcp_timeout` (600 s) cuts every stream that is silent for longer; MCP streams are silent by nature.
- `connection_strategy=eager` hangs up on a reverse proxy's client when the upstream is down, before any request could
  be answered.
- In reverse mode mitmproxy rewrites `Host`, which turns off the DNS-rebinding check of MCP servers on this machine
  (MCP specification, Streamable HTTP, security warning). So `Host` stays as the client sent it for an upstream on a
  loopback address, and is rewritten as ever for any other, which needs its own name to find itself.
- mitmweb does not show comments, which is where Shadowcat says what an exchange is. Its path column takes all the
  room there is and leaves a comment 150 pixels. So in reverse mode and with upstreams, where every MCP exchange has
  the same URL, the comment takes its place.
"""

import ipaddress
import logging
from collections.abc import Set as AbstractSet
from functools import lru_cache

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader
from mitmproxy.net.http import url
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

logger = logging.getLogger(__name__)

SILENT_STREAM_S = 86_400
"""A day: longer than an agent's working session, and still an end for connections that are truly dead."""

FORWARD_COLUMNS = ["tls", "path", "icon", "comment", "method", "status", "size", "time"]
LED_COLUMNS = ["icon", "status", "method", "comment", "size", "time"]
"""A comment stands at the right edge of its column, as size and time do; another column behind it would touch it."""


class McpDefaults:
    """Sets mitmproxy's options for MCP once, at start-up and when the proxy's modes change."""

    def __init__(self) -> None:
        self._set: dict[str, object] = {}

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_mcp_defaults",
            bool,
            True,
            "Set tcp_timeout, connection_strategy, keep_host_header and web_columns to what MCP needs where they are "
            "at their defaults.",
        )

    def configure(self, updated: AbstractSet[str]) -> None:
        # Not in `running`: the proxy may have clients by then, whose connections keep the options they began with.
        if updated & {"mode", "shadowcat_mcp_defaults", "shadowcat_upstreams"}:
            self._apply()

    def done(self) -> None:
        """Undo what was set: a script that is loaded again would take it for the user's own choice."""
        ours = {name: value for name, value in self._set.items() if getattr(ctx.options, name) == value}
        self._set.clear()
        if ours:
            ctx.options.update(**{name: ctx.options.default(name) for name in ours})

    def _apply(self) -> None:
        if not ctx.options.shadowcat_mcp_defaults:
            self.done()
            return
        wanted: dict[str, object] = {"tcp_timeout": SILENT_STREAM_S}
        reverse = any(isinstance(ProxyMode.parse(mode), ReverseMode) for mode in ctx.options.mode)
        if reverse:
            wanted |= {"connection_strategy": "lazy", "keep_host_header": True}
        if "web_columns" in ctx.options:  # only mitmweb has it
            is_led = reverse or bool(ctx.options.shadowcat_upstreams)
            wanted["web_columns"] = LED_COLUMNS if is_led else FORWARD_COLUMNS
        changes = {name: value for name, value in wanted.items() if self._may_set(name)}
        if changes:
            logger.debug("shadowcat: %s", ", ".join(f"{name}={value}" for name, value in changes.items()))
            self._set |= changes
            ctx.options.update(**changes)

    def _may_set(self, name: str) -> bool:
        """Whether nobody has chosen otherwise: what we set ourselves for another mode is no choice."""
        is_ours = name in self._set and getattr(ctx.options, name) == self._set[name]
        return is_ours or not ctx.options.has_changed(name)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if "keep_host_header" not in self._set or not isinstance(flow.client_conn.proxy_mode, ReverseMode):
            return
        request = flow.request
        if not is_loopback(request.host):
            request.host_header = url.hostport(request.scheme, request.host, request.port)


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
