"""Keeps mitmproxy's user interfaces up to date while a stream runs: body, comment, labels and marks.

Updates are throttled (`shadowcat_live_ms`), together for all streams, and the kept bodies are bounded
(`shadowcat_live_bytes`).
"""

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from mitmproxy import connection, ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.hooks import UpdateHook
from mitmproxy.proxy.mode_specs import ReverseMode

from shadowcat_core.content_coding import decoded_body
from shadowcat_core.correlation import Call
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.kept_body import KeptBody
from shadowcat_core.limits import CHUNK_OVERHEAD_BYTES, MAX_ACCEPTED_EXCHANGES, MAX_KEPT_BODY_BYTES
from shadowcat_core.mcp import is_json
from shadowcat_core.summary import exchange_failed, summary

ACCEPTED = 202
FAILED_MARK = ":red_circle:"
TIMES_KEY = "shadowcat.times"
"""Flow metadata that the content views read: [end offset in the body, arrival in µs] for each kept chunk."""


@dataclass(slots=True)
class _View:
    """What people see of one exchange."""

    flow: http.HTTPFlow
    exchange: Exchange
    kept: KeptBody | None = None
    dirty: bool = False
    comment: str = ""


class Live:
    """Shows every exchange of the registry on its flow."""

    def __init__(self, registry: ExchangeRegistry) -> None:
        self._registry = registry
        self._views: dict[str, _View] = {}
        self._dirty: list[_View] = []
        self._timer: asyncio.TimerHandle | None = None
        # Exchanges that are over while their answers come on another stream, by number, the oldest first.
        self._accepted: dict[int, _View] = {}
        registry.when_answered_elsewhere = self._answered_elsewhere

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_live_bytes",
            int,
            int(MAX_KEPT_BODY_BYTES),
            "Bytes of each stream that mitmproxy shows: its beginning and its latest part. 0 keeps none.",
        )
        loader.add_option(
            "shadowcat_live_ms", int, 200, "Shortest time between two updates of the user interface, in ms."
        )

    def configure(self, _updated: AbstractSet[str]) -> None:
        if ctx.options.shadowcat_live_bytes and ctx.options.shadowcat_live_bytes < CHUNK_OVERHEAD_BYTES * 10:
            raise exceptions.OptionsError(f"shadowcat_live_bytes must be 0 or at least {CHUNK_OVERHEAD_BYTES * 10}")
        if ctx.options.shadowcat_live_ms < 10:
            raise exceptions.OptionsError("shadowcat_live_ms must be at least 10")

    def request(self, flow: http.HTTPFlow) -> None:
        if (exchange := self._registry.get(flow.id)) is not None:
            self._tell(self._view(flow, exchange))
        elif isinstance(flow.client_conn.proxy_mode, ReverseMode) and not flow.comment:
            flow.comment = flow.request.path  # mitmweb shows the comment in place of the path there (`McpDefaults`)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        exchange = self._registry.get(flow.id)
        if exchange is None or flow.response is None:
            return
        exchange.status = flow.response.status_code
        view = self._view(flow, exchange)
        if ctx.options.shadowcat_live_bytes:
            coded = bool(flow.response.headers.get("content-encoding"))
            view.kept = KeptBody(ctx.options.shadowcat_live_bytes, keep_tail=not coded)
        exchange.chunk_sinks.append(lambda at_ns, chunk: self._see(view, at_ns, chunk))

    def response(self, flow: http.HTTPFlow) -> None:
        self._finish(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self._finish(flow)

    def client_disconnected(self, client: connection.Client) -> None:
        for view in [view for view in self._views.values() if view.flow.client_conn is client]:
            self._finish(view.flow)

    def done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _view(self, flow: http.HTTPFlow, exchange: Exchange) -> _View:
        return self._views.setdefault(flow.id, _View(flow, exchange))

    def _see(self, view: _View, at_ns: int, chunk: bytes) -> None:
        if view.kept is not None:
            view.kept.add((at_ns - view.exchange.started_ns) // 1000, chunk)
        if not view.dirty:
            view.dirty = True
            self._dirty.append(view)
            if self._timer is None:
                delay_s = ctx.options.shadowcat_live_ms / 1000
                self._timer = asyncio.get_running_loop().call_later(delay_s, self._update)

    def _update(self) -> None:
        self._timer = None
        dirty, self._dirty = self._dirty, []
        for view in dirty:
            view.dirty = False
            if view.exchange.tap is not None:
                view.exchange.tap.catch_up()
            self._show_body(view)
            self._tell(view)
        ctx.master.addons.trigger(UpdateHook([view.flow for view in dirty]))

    def _finish(self, flow: http.HTTPFlow) -> None:
        view = self._views.pop(flow.id, None)
        if view is None:
            return
        exchange = view.exchange
        if exchange.tap is None:
            self._read_body(view)
        else:
            if flow.error is not None:
                exchange.tap.abort()
            self._show_body(view)
            if not exchange.tap.has_framing and view.kept is not None and not view.kept.dropped_bytes:
                self._read_body(view)
        exchange.ended_ns = self._registry.clock_ns()
        self._tell(view)
        if exchange.status == ACCEPTED and exchange.calls:
            if len(self._accepted) >= MAX_ACCEPTED_EXCHANGES:
                del self._accepted[next(iter(self._accepted))]
            self._accepted[exchange.number] = view

    def _answered_elsewhere(self, call: Call) -> None:
        view = self._accepted.pop(call.request.exchange_id or 0, None)
        if view is not None:
            view.exchange.ended_ns = self._registry.clock_ns()
            self._tell(view)
            ctx.master.addons.trigger(UpdateHook([view.flow]))

    def _read_body(self, view: _View) -> None:
        """Let the registry see a response that is one body, now that it is whole."""
        response = view.flow.response
        if response is not None and response.raw_content and may_be_message(response):
            body = decoded_body(response.raw_content, response.headers.get("content-encoding", ""))
            self._registry.see_body(view.exchange, body or b"")

    def _show_body(self, view: _View) -> None:
        if view.kept is not None and view.flow.response is not None:
            view.flow.response.data.content = view.kept.content()
            view.flow.metadata[TIMES_KEY] = view.kept.times()

    def _tell(self, view: _View) -> None:
        """Bring comment and mark up to date, unless the user has written a comment of their own."""
        flow = view.flow
        if flow.comment == view.comment:
            flow.comment = view.comment = summary(view.exchange, self._registry.clock_ns())
        if exchange_failed(view.exchange):
            flow.marked = flow.marked or FAILED_MARK


def may_be_message(response: http.Response) -> bool:
    """Say whether a body in one piece can be JSON-RPC; a page of HTML that explains a status is not."""
    content_type = response.headers.get("content-type", "")
    return not content_type or is_json(content_type)
