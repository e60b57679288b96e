"""Follows exchanges through mitmproxy's hooks: opens, streams and ends them, and tells who watches.

One set of hooks for all: mitmproxy spends a microsecond on each handler of each hook, and traffic that is not MCP
costs no more than that.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from mitmproxy import connection, ctx, http
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy.mode_specs import ReverseMode

from shadowcat_core import sse
from shadowcat_core.content_coding import decoded_body
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.mcp import (
    SESSION_ID_HEADER,
    FirstEvent,
    HeaderFields,
    Recogniser,
    Recognition,
    is_event_stream,
    leads_elsewhere,
)
from shadowcat_core.stream import StreamTap
from shadowcat_core.streaming import Judges, make_tap, must_stream
from shadowcat_core.transcript import printable, shortened

logger = logging.getLogger(__name__)


class FlowWatcher(Protocol):
    """Told of each exchange, on the wire's path: it must not wait. Its flow is mitmproxy's."""

    def opened(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """The request is complete, and the exchange is one of ours."""
        ...

    def answering(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """The response's head is here; sinks can be added to the exchange."""
        ...

    def ended(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """The exchange is over; `flow.error` says whether it broke off."""
        ...


class Gate(Protocol):
    """Has the last word on a request, after the interceptors and before it goes to the server."""

    def asking(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """May change the request's headers, or set the response, so that the server is not asked."""
        ...


class FlowRelay(Protocol):
    """Decides which server a request goes to, MCP or not. What it gives is awaited, when it gives anything."""

    def asking(self, exchange: Exchange | None, flow: http.HTTPFlow) -> Awaitable[None] | None: ...
    def over(self, flow: http.HTTPFlow) -> None: ...


class FlowJudge(Protocol):
    """Decides about messages. What it gives is awaited before the flow goes on, when it gives anything."""

    def judge_request(self, exchange: Exchange, flow: http.HTTPFlow, body: bytes | None) -> Awaitable[None] | None: ...
    def judge_response(self, exchange: Exchange, flow: http.HTTPFlow) -> Awaitable[None] | None: ...
    def judges(self, exchange: Exchange, flow: http.HTTPFlow) -> Judges: ...


class Exchanges:
    """Connects mitmproxy's hooks with the registry, and the registry's exchanges with their flows."""

    def __init__(
        self,
        registry: ExchangeRegistry,
        watchers: Sequence[FlowWatcher],
        judge: FlowJudge,
        gates: Sequence[Gate],
        relay: FlowRelay,
        is_own: Callable[[http.HTTPFlow], bool],
    ) -> None:
        """Follow exchanges. `is_own` tells the requests that we make ourselves, which nobody has to judge."""
        self._registry = registry
        self._watchers = watchers
        self._judge = judge
        self._gates = gates
        self._relay = relay
        self._is_own = is_own
        self._recogniser = Recogniser()
        self._flows: dict[str, http.HTTPFlow] = {}

    def load(self, loader: Loader) -> None:
        loader.add_command("shadowcat.streams", self.streams)

    def streams(self) -> str:
        """Say how many exchanges run, and what the streams that ended have carried."""
        total = self._registry.metrics
        return (
            f"{len(self._registry)} exchanges running; ended streams: {total.messages} messages in {total.bytes} bytes "
            f"and {total.chunks} chunks, seen after {total.lag.quantile_us(0.5)} µs (median), "
            f"{total.unwatched_bytes} bytes not looked at, {total.failures} failures"
        )

    def find(self, flow_id: str) -> tuple[Exchange, http.HTTPFlow] | None:
        """The running exchange of a flow's id, and the flow."""
        exchange, flow = self._registry.get(flow_id), self._flows.get(flow_id)
        return None if exchange is None or flow is None else (exchange, flow)

    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        # Read from a file, it keeps what it said when it was live; open already, its response came before its body.
        if not flow.live or self._registry.get(flow.id) is not None:
            return None
        recognition, head, body = self._recognise(flow)
        is_own = self._is_own(flow)
        if recognition.is_mcp:
            exchange = self._open(flow, recognition, head, body or b"")
            waiting = None if is_own else self._judge.judge_request(exchange, flow, body)
            return self._ask(exchange, flow) if waiting is None else self._ask_after(waiting, exchange, flow)
        if not flow.comment:  # which mitmweb shows in place of the path there (`McpDefaults`)
            if isinstance(flow.client_conn.proxy_mode, ReverseMode):
                flow.comment = flow.request.path
            elif ctx.options.shadowcat_upstreams:
                flow.comment = flow.request.pretty_url
        return None if is_own else self._relay.asking(None, flow)

    async def _ask_after(self, waiting: Awaitable[None], exchange: Exchange, flow: http.HTTPFlow) -> None:
        await waiting
        waiting_more = self._ask(exchange, flow)
        if waiting_more is not None:
            await waiting_more

    def _ask(self, exchange: Exchange, flow: http.HTTPFlow) -> Awaitable[None] | None:
        for gate in self._gates:
            if flow.response is None:
                gate.asking(exchange, flow)
        return None if flow.response is not None or self._is_own(flow) else self._relay.asking(exchange, flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        response = flow.response
        if response is None or not flow.live:
            return
        exchange = self._registry.get(flow.id)
        head = HeaderFields(response.headers.fields)
        if exchange is None:
            if not is_event_stream(head.get("content-type")):
                return
            exchange = self._open_stream(flow, head.get("content-encoding"))
        elif exchange.recognition.session_id is None and (session_id := head.get(SESSION_ID_HEADER)):
            exchange.settle(replace(exchange.recognition, session_id=session_id))
        exchange.status = response.status_code
        for watcher in self._watchers:
            watcher.answering(exchange, flow)
        # Another addon's callable is the user's own doing, and mitmproxy sends an addon's own response whole.
        if callable(response.stream) or response.raw_content is not None:
            return
        if must_stream(exchange, head) or (response.stream and not exchange.owed):
            self._stream(exchange, flow, response, head)
        else:
            response.stream = False

    def stream_again(self, flow: http.HTTPFlow, *, is_ours: bool = False) -> StreamTap | None:
        """Make another tap for an event stream that goes on from another connection; None when it has none.

        `is_ours` means that what follows is of our own making, about which nobody decides.
        """
        exchange, response = self._registry.get(flow.id), flow.response
        if exchange is None or exchange.tap is None or response is None:
            return None
        self._registry.metrics.merge(exchange.tap.metrics)
        exchange.tap.release()
        self._stream(exchange, flow, response, HeaderFields(response.headers.fields), is_ours=is_ours)
        return exchange.tap

    def _stream(
        self,
        exchange: Exchange,
        flow: http.HTTPFlow,
        response: http.Response,
        head: HeaderFields,
        *,
        is_ours: bool = False,
    ) -> None:
        judges = None if is_ours or self._is_own(flow) else self._judge.judges(exchange, flow)
        tap = make_tap(
            exchange,
            head,
            clock_ns=self._registry.clock_ns,
            on_failure=lambda exc: logger.warning("shadowcat: exchange %d: %s", exchange.number, exc),
            judges=judges,
        )
        response.stream = exchange.tap = tap
        tap.keeps_body = ctx.options.store_streamed_bodies
        if tap.passes_decoded:
            response.headers.pop("content-encoding", None)
        if tap.may_change:
            response.headers.pop("content-length", None)
            if flow.request.http_version == "HTTP/1.1":  # else nobody could tell its end from a cut
                response.headers["transfer-encoding"] = "chunked"
        if exchange.owed:
            tap.owe(b"".join([sse.encode(reply.raw, event="message") for reply in exchange.owed]))
            exchange.owed = []

    def response(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        exchange = self._registry.get(flow.id)
        if exchange is not None and exchange.tap is None and not self._is_own(flow):
            waiting = self._judge.judge_response(exchange, flow)
            if waiting is not None:
                return self._end_after(waiting, flow)
        self._end(flow)
        return None

    async def _end_after(self, waiting: Awaitable[None], flow: http.HTTPFlow) -> None:
        await waiting
        self._end(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        exchange = self._registry.get(flow.id)
        if exchange is not None and exchange.tap is not None:
            exchange.tap.abort()
        self._end(flow)

    def client_disconnected(self, client: connection.Client) -> None:
        # What mitmproxy killed without telling; usually nothing is left.
        # A replayed flow keeps the connection of its first time, and is not ended with it.
        left = [flow for flow in self._flows.values() if flow.client_conn is client and flow.is_replay != "request"]
        for flow in left:
            self.error(flow)

    def _recognise(self, flow: http.HTTPFlow) -> tuple[Recognition, HeaderFields, bytes | None]:
        request = flow.request
        head = HeaderFields(request.headers.fields)
        body = decoded_body(request.raw_content or b"", head.get("content-encoding") or "")
        place = (request.data.host, request.data.port, request.data.path.partition(b"?")[0])
        return self._recogniser.request(request.method, lambda: request.url, head, body, place), head, body

    def _open(self, flow: http.HTTPFlow, recognition: Recognition, head: HeaderFields, body: bytes) -> Exchange:
        exchange = self._registry.open(flow.id, recognition, body)
        exchange.head = head
        exchange.server = flow.request.url.partition("?")[0]
        exchange.resumes = head.get("last-event-id") is not None
        self._flows[flow.id] = flow
        for watcher in self._watchers:
            watcher.opened(exchange, flow)
        return exchange

    def _open_stream(self, flow: http.HTTPFlow, coding: str | None) -> Exchange:
        """Open an event stream that was not asked for in MCP's way: HTTP+SSE, an LLM's answer, somebody's own."""
        recognition, head, _ = self._recognise(flow)
        exchange = self._open(flow, recognition, head, b"")
        # A GET that did not ask for an event stream and got one may be of a client that takes it all the same.
        exchange.may_tell = not recognition.is_mcp and flow.request.method == "GET"
        if exchange.may_tell:
            decides = self._judge.judges(exchange, flow).decide_now
            exchange.chunk_sinks.append(
                FirstEvent(lambda found: self._settle(flow, exchange, found), coding=coding, is_patient=decides)
            )
        return exchange

    def _settle(self, flow: http.HTTPFlow, exchange: Exchange, recognition: Recognition) -> None:
        exchange.settle(recognition)
        if recognition.endpoint is not None and exchange.tap is not None:
            exchange.tap.skip(recognition.endpoint)
        host = flow.request.host_header
        self._recogniser.learn(recognition, flow.request.url, host)
        endpoint = recognition.endpoint or ""
        if isinstance(flow.client_conn.proxy_mode, ReverseMode) and leads_elsewhere(endpoint, host):
            logger.warning(
                "shadowcat: exchange %d announces the endpoint %s: its client will post there, past this proxy",
                exchange.number, shortened(printable(endpoint.partition("?")[0])),
            )  # fmt: skip

    def _end(self, flow: http.HTTPFlow) -> None:
        exchange = self._registry.get(flow.id)
        if exchange is None:
            self._relay.over(flow)
            return
        if flow.error is not None:
            exchange.broke_off = how_it_broke_off(flow.error.msg)
        elif flow.response is None or flow.response.timestamp_end is None:
            exchange.broke_off = "client_closed"
        for watcher in self._watchers:
            watcher.ended(exchange, flow)
        self._relay.over(flow)
        del self._flows[flow.id]
        self._registry.close(flow.id)


def how_it_broke_off(error: str) -> str:
    """Put mitmproxy's error text into the tape's words: `client_closed`, `killed`, `reset` or `error`."""
    lowered = error.lower()
    if "client disconnected" in lowered or "by client" in lowered:
        return "client_closed"
    if "killed" in lowered:
        return "killed"
    if "closed connection" in lowered or "reset" in lowered or "disconnected" in lowered:
        return "reset"
    return "error"
