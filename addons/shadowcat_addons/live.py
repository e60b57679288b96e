"""Keeps mitmproxy's user interfaces up to date: body, comment, labels and marks of each exchange, while it runs.

What people see is put together a few times a second (`shadowcat_live_ms`), for all exchanges in one go and off the
wire's path, a few milliseconds at a time; the kept bodies are bounded (`shadowcat_live_bytes`). Where labels and
comments are part of an answer to be given now, as for a filter that intercepts or a flow that is written to a file,
they are put together at once.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.hooks import UpdateHook

from shadowcat_core.content_coding import decoded_body
from shadowcat_core.correlation import Call
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.kept_body import TIMES_KEY, KeptBody
from shadowcat_core.limits import (
    CHUNK_OVERHEAD_BYTES,
    MAX_ACCEPTED_BODY_BYTES,
    MAX_ACCEPTED_EXCHANGES,
    MAX_KEPT_BODY_BYTES,
    MAX_WAITING_BYTES,
)
from shadowcat_core.streaming import may_be_message
from shadowcat_core.summary import HTTP_ACCEPTED, exchange_failed, is_unanswered, labels, summary

FAILED_MARK = ":red_circle:"
SLICE_NS = 3_000_000
"""How long putting together may take before the wire gets its turn again."""
VIEWS_AT_A_TIME = 16
NOBODY_THERE = ("killed", "client_closed")
"""How an exchange ends whose client has not got a response that is there in one piece."""
ASKED_AT_ONCE = (
    "dumper_filter", "hardump", "intercept", "map_local", "map_remote", "modify_body", "modify_headers",
    "save_stream_file", "stickyauth", "stickycookie",
)  # fmt: skip
"""mitmproxy options that read a flow's labels or comment in the hook of the request or response itself."""


class ChunkTimes(list[list[int]]):
    """A list, which flow files can hold, that does not fill the screen where mitmproxy's console prints metadata."""

    def __str__(self) -> str:
        return f"of {len(self)} chunks"

    __repr__ = __str__


class _View:
    """What people see of one exchange."""

    __slots__ = ("_comment", "_kept", "_live", "dirty", "ended", "exchange", "flow")

    def __init__(self, live: "Live", exchange: Exchange, flow: http.HTTPFlow) -> None:
        self._live = live
        self.exchange = exchange
        self.flow = flow
        self.dirty = False
        self.ended = False
        self._kept: KeptBody | None = None
        self._comment = flow.comment

    def see(self, at_ns: int, chunk: bytes) -> None:
        """Keep a chunk that passed; a chunk sink."""
        if self._kept is None:
            coded = self.flow.response is not None and "content-encoding" in self.flow.response.headers
            self._kept = KeptBody(ctx.options.shadowcat_live_bytes, keep_tail=not coded)
        self._kept.add((at_ns - self.exchange.started_ns) // 1000, chunk)
        if not self.dirty:
            self._live.update_soon(self)

    def show_body(self) -> None:
        """Put what is kept of a streamed body where mitmproxy looks for bodies."""
        mitmproxy_keeps_it = self.ended and ctx.options.store_streamed_bodies
        wanted = ctx.options.shadowcat_live_bytes and not mitmproxy_keeps_it
        if self._kept is not None and self.flow.response is not None and wanted:
            self.flow.response.data.content = self._kept.content()
            self.flow.metadata[TIMES_KEY] = ChunkTimes(self._kept.times())

    def whole_body(self) -> bytes:
        """The response's body without its coding, when it is one piece and may be a message; else nothing."""
        tap, response = self.exchange.tap, self.flow.response
        streamed_in_part = tap is not None and (tap.has_framing or self._kept is None or self._kept.dropped_bytes > 0)
        content_type = None if response is None else response.headers.get("content-type")
        if response is None or not response.raw_content or streamed_in_part or not may_be_message(content_type):
            return b""
        return decoded_body(response.raw_content, response.headers.get("content-encoding", "")) or b""

    @property
    def body_bytes(self) -> int:
        """What the flow's bodies weigh."""
        request, response = self.flow.request.raw_content, self.flow.response and self.flow.response.raw_content
        return len(request or b"") + len(response or b"")

    def tell(self, now_ns: int) -> None:
        """Bring comment, labels and mark up to date; a comment of the user's own stays."""
        flow = self.flow
        flow.metadata.update(labels(self.exchange))
        if flow.comment == self._comment:
            # mitmweb marks a request that no client sent in its path column, which a comment may stand in place of.
            mark = "↻ " if flow.is_replay == "request" else ""
            flow.comment = self._comment = mark + summary(self.exchange, now_ns)
        if exchange_failed(self.exchange):
            flow.marked = flow.marked or FAILED_MARK


class Live:
    """Shows every exchange of the registry on its flow."""

    def __init__(self, registry: ExchangeRegistry, on_failure: Callable[[Exception], object]) -> None:
        self._registry = registry
        self._on_failure = on_failure
        self._views: dict[int, _View] = {}
        self._dirty: list[_View] = []
        self._dirty_bytes = 0
        self._timer: asyncio.Handle | None = None
        self._at_once = False
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
        options = ctx.options
        if options.shadowcat_live_bytes and options.shadowcat_live_bytes < CHUNK_OVERHEAD_BYTES * 10:
            raise exceptions.OptionsError(f"shadowcat_live_bytes must be 0 or at least {CHUNK_OVERHEAD_BYTES * 10}")
        if options.shadowcat_live_ms < 10:
            raise exceptions.OptionsError("shadowcat_live_ms must be at least 10")
        self._at_once = any(getattr(options, name) for name in ASKED_AT_ONCE if name in options)

    def done(self) -> None:
        self.show_now()

    def opened(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        view = self._views[exchange.number] = _View(self, exchange, flow)
        self._show(view)

    def answering(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        exchange.passed_sinks.append(self._views[exchange.number].see)

    def ended(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        view = self._views.pop(exchange.number)
        view.ended = True
        view.show_body()
        exchange.ended_ns = self._registry.clock_ns()
        if exchange.broke_off not in NOBODY_THERE:
            self._registry.later(lambda: self._registry.see_body(exchange, view.whole_body()))
        self._show(view)
        self._dirty_bytes += view.body_bytes
        if self._dirty_bytes > MAX_WAITING_BYTES:  # by now nobody else may keep these flows
            self.show_now()

    def update_soon(self, view: _View) -> None:
        """Let a view be shown with the next update."""
        view.dirty = True
        self._dirty.append(view)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ctx.options.shadowcat_live_ms / 1000, self._update_some)

    def show(self, exchange: Exchange) -> None:
        """Something about a running exchange is to be seen soon, such as what is held of it."""
        view = self._views.get(exchange.number)
        if view is not None:
            self._show(view)

    def show_now(self) -> None:
        """Show everything now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._registry.catch_up()
        while self._dirty:  # showing a stream may find the answer that another view waits for
            shown, self._dirty, self._dirty_bytes = self._dirty, [], 0
            self._tell(shown)

    def _update_some(self) -> None:
        """Show as much as one slice of time has room for; the rest after the wire had its turn."""
        until_ns = self._registry.clock_ns() + SLICE_NS
        if self._registry.catch_up(until_ns):
            while self._dirty and self._registry.clock_ns() < until_ns:
                burst, self._dirty = self._dirty[:VIEWS_AT_A_TIME], self._dirty[VIEWS_AT_A_TIME:]
                self._tell(burst)
        if not self._dirty:
            self._dirty_bytes = 0
        self._timer = asyncio.get_running_loop().call_soon(self._update_some) if self._dirty else None

    def _show(self, view: _View) -> None:
        if self._at_once:
            self._registry.catch_up()
            self._tell([view])
        elif not view.dirty:
            self.update_soon(view)

    def _tell(self, views: list[_View]) -> None:
        for view in views:
            view.dirty = False
            try:
                if view.exchange.tap is not None and not view.ended:
                    view.exchange.tap.catch_up()
                    if view.exchange.held is None:  # else the body is the held message, for somebody to edit
                        view.show_body()
                view.tell(self._registry.clock_ns())
            except Exception as exc:  # noqa: BLE001 - one exchange's fault must not hide all others
                self._on_failure(exc)
            if view.ended and view.exchange.status == HTTP_ACCEPTED and is_unanswered(view.exchange):
                self._await_answer(view)
        if views:
            ctx.master.addons.trigger(UpdateHook([view.flow for view in views]))

    def _await_answer(self, view: _View) -> None:
        if len(view.flow.request.raw_content or b"") > MAX_ACCEPTED_BODY_BYTES:
            return
        if len(self._accepted) >= MAX_ACCEPTED_EXCHANGES:
            del self._accepted[next(iter(self._accepted))]
        self._accepted[view.exchange.number] = view

    def _answered_elsewhere(self, call: Call) -> None:
        view = self._accepted.pop(call.request.exchange_id or 0, None)
        if view is not None:
            view.exchange.ended_ns = call.answer.at_ns if call.answer else self._registry.clock_ns()
            self._show(view)
