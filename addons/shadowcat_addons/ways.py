"""The ways of flows through sessions and upstreams: found, changed where they must be, and forgotten at their ends.

What a way consists of is said by `shadowcat_core.relay`; here it meets mitmproxy's flows.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence

from mitmproxy import connection, http
from mitmproxy.utils.asyncio_utils import create_task

from shadowcat_core import sse
from shadowcat_core.content_coding import decoded_body
from shadowcat_core.correlation import Call
from shadowcat_core.errors import StoreError
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.mcp import Direction, is_event_stream
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.relay import Asked, Leg, Passage, Relay, Reply, broken_off, edited
from shadowcat_core.resumption import WayBack
from shadowcat_core.sessions.lifecycle import NOTED_METHODS
from shadowcat_core.stream import StreamTap
from shadowcat_core.upstreams import Pool, RouteConfig

logger = logging.getLogger(__name__)

_NOT_RESUMED = ("content-length", "content-type", "content-encoding", "transfer-encoding", "mcp-method", "mcp-name")
UPSTREAM = "mcp.upstream"
"""Name in the metadata of flows: the server that has it, or had it last."""
_LEARNED_FROM = NOTED_METHODS | {"tools/list"}


class Ways:
    """The ways of the flows that run, for `http_stream`, which takes them one step after the other."""

    def __init__(
        self,
        relay: Relay,
        registry: ExchangeRegistry,
        *,
        find: Callable[[str], tuple[Exchange, http.HTTPFlow] | None],
        stream_again: Callable[[http.HTTPFlow], StreamTap | None],
        on_note: Callable[[Exchange, str], object],
    ) -> None:
        """Find ways by a relay. `on_note` hears of what happened to an exchange on its way."""
        self.stream_again = stream_again
        self._relay = relay
        self._registry = registry
        self._find = find
        self._on_note = on_note
        self._passages: dict[str, Passage] = {}
        self._ways: dict[str, WayBack] = {}
        self._routes: dict[int, str] = {}
        self._endpoints: dict[str, str] = {}
        self._read_on: dict[str, asyncio.Future[None]] = {}
        self._noting: set[asyncio.Task[None]] = set()

    def done(self) -> None:
        """Wait for nobody any more."""
        for read in self._read_on.values():
            if not read.done():
                read.set_result(None)

    def asking(self, exchange: Exchange | None, its_flow: http.HTTPFlow) -> Awaitable[None] | None:
        """A request is about to go to its server: find out where that is."""
        request = its_flow.request
        pool = self._relay.routes(request.host_header, request.path)
        if pool is None:
            return None
        if request.stream:
            logger.warning("shadowcat: a request whose body streams goes to no upstream: %s", request.path)
            return None
        return self._begin(pool, exchange, its_flow)

    def is_routed(self, its_flow: http.HTTPFlow) -> bool:
        """Say whether a request, whose head is here, goes to an upstream: then its body must be whole."""
        request = its_flow.request
        return self._relay.routes(request.host_header, request.path) is not None

    def endpoint(self, route: RouteConfig) -> str:
        """Tell where requests of our own go: a route of whole servers does not say at which path they speak MCP."""
        return self._endpoints.get(route.name, route.path)

    def over(self, its_flow: http.HTTPFlow) -> None:
        """A flow has come to its end, one of ours or not."""
        passage = self._passages.pop(its_flow.id, None)
        if passage is not None:
            self._ways.pop(its_flow.id, None)
            passage.close()
            self.read_enough(its_flow)

    def in_flight(self) -> Counter[str]:
        """Count the flows that are at each upstream now, by its name; those that wait for one are at none, empty."""
        return Counter(passage.upstream for passage in self._passages.values())

    def disconnected(self, client: connection.Client) -> Awaitable[object] | None:
        """Keep what a client's connection carries for as long as streams are read on for it."""
        waiting = [
            done
            for flow_id, done in self._read_on.items()
            if (found := self._find(flow_id)) and found[1].client_conn is client
        ]
        return asyncio.wait(waiting) if waiting else None

    async def _begin(self, pool: Pool, exchange: Exchange | None, its_flow: http.HTTPFlow) -> None:
        request = its_flow.request
        passage = self._relay.open(
            pool,
            Asked(
                request.method,
                request.host_header,
                request.path,
                request.headers.fields,
                None if exchange is None else exchange.recognition.era,
                () if exchange is None else _messages_of(exchange, its_flow),
            ),
        )
        if exchange is not None:
            self._routes[exchange.number] = pool.route.name
            if request.method == "POST":
                self._endpoints[pool.route.name] = request.path
        step = await passage.begin()
        match step:
            case Leg():
                self._passages[its_flow.id] = passage
                self.apply(its_flow, step)
            case Reply():
                passage.close()
                its_flow.response = self.answered(its_flow, step, "")
            case WayBack():
                self._passages[its_flow.id] = passage
                self._ways[its_flow.id] = step

    # --- What the seam asks (`FlowRelay`) -----------------------------------------------------------------------------

    def passage(self, its_flow: http.HTTPFlow) -> Passage | None:
        """The way of a flow; None when it goes to where its client asked."""
        return self._passages.get(its_flow.id)

    def way_back(self, its_flow: http.HTTPFlow) -> WayBack | None:
        """The way back into a stream that its client is to be led first, once."""
        return self._ways.pop(its_flow.id, None)

    def apply(self, its_flow: http.HTTPFlow, leg: Leg) -> http.Request:
        """Make the request of an attempt: the flow's own, changed, or another one that goes on with its stream."""
        passage, exchange = self._passages[its_flow.id], self._registry.get(its_flow.id)
        before = its_flow.metadata.get(UPSTREAM)
        its_flow.metadata[UPSTREAM] = passage.upstream
        if before is not None and exchange is not None:
            self._on_note(exchange, f"{'goes on' if leg.resumes else 'sent again'} at {passage.upstream}")
        request = _resuming(its_flow.request) if leg.resumes else its_flow.request
        # The fields at once: mitmproxy's own setters each write all headers anew, which costs more than all else here.
        data, endpoint = request.data, leg.endpoint
        data.scheme, data.host, data.port = endpoint.scheme.encode(), endpoint.host, endpoint.port
        data.path = leg.path.encode("utf-8", "surrogateescape")
        authority = endpoint.authority
        if data.authority:  # of HTTP/2, or a proxy's absolute form
            data.authority = authority.encode()
        hosts = [("Host", authority)] if "host" in data.headers or not data.authority else []
        # A body of HTTP/2 may come without its length, and there would be no end to it in HTTP/1.1.
        lengths = [("Content-Length", str(len(data.content)))] if request.is_http2 and data.content else []
        dropped = [(name, None) for name in _NOT_RESUMED] if leg.resumes else []
        # From what the client sent, each time: what one server is told of its own is not for another.
        data.headers.fields = edited(passage.asked.fields, [*hosts, *lengths, *dropped, *leg.edits])
        return request

    def lost_answers(self, its_flow: http.HTTPFlow, reason: str) -> bytes:
        """Write an event with an error for each request whose answer will not come on its event stream."""
        passage, exchange = self._passages.get(its_flow.id), self._registry.get(its_flow.id)
        if passage is None or exchange is None or its_flow.response is None:
            return b""
        if not is_event_stream(its_flow.response.headers.get("content-type")):
            return b""
        self._registry.catch_up()
        waiting = [
            call.request.id
            for call in exchange.calls
            if call.request.id is not None and call.answer is None and call.cancelled_ns is None
        ]
        self._relay.counts.answers_lost += len(waiting)
        return b"".join([sse.encode(broken_off(request_id, passage.upstream, reason)) for request_id in waiting])

    def answered(self, its_flow: http.HTTPFlow, reply: Reply, reason: str) -> http.Response:
        """Make the response for a reply, which is given in the place of a server's."""
        exchange = self._registry.get(its_flow.id)
        if exchange is not None:
            exchange.answered_by_us = True
            if reason:
                self._on_note(exchange, reason)
        headers = {"content-type": "application/json"} if reply.body else {}
        return http.Response.make(reply.status, reply.body, headers)

    def read_on(self, its_flow: http.HTTPFlow) -> None:
        """The client has left, and the connection must stay until `read_enough`."""
        self._read_on[its_flow.id] = asyncio.get_running_loop().create_future()

    def read_enough(self, its_flow: http.HTTPFlow) -> None:
        """The connection need not stay any more."""
        done = self._read_on.pop(its_flow.id, None)
        if done is not None and not done.done():
            done.set_result(None)

    # --- What answers say ---------------------------------------------------------------------------------------------

    def saw(self, exchange: Exchange, _batch: MessageBatch, calls: Sequence[Call]) -> None:
        """Learn from answers what another server would have to be told, and what may be called again."""
        route = self._routes.get(exchange.number)
        if route is None:
            return
        for call in calls:
            answer = call.answer
            if answer is not None and call.request.method in _LEARNED_FROM:
                self._later(self._relay.answered(route, exchange.recognition.session_id, call.request, answer))

    def closed(self, exchange: Exchange) -> None:
        """An exchange is over."""
        self._routes.pop(exchange.number, None)

    def _later(self, noting: Coroutine[None, None, None]) -> None:
        async def note() -> None:
            try:
                await noting
            except StoreError as exc:
                logger.warning("shadowcat: the store does not take note: %s", exc)

        task = create_task(note(), name="shadowcat: note", keep_ref=False)
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)


def _messages_of(exchange: Exchange, its_flow: http.HTTPFlow) -> Sequence[Message]:
    """The messages of a request as it goes out, which an interceptor may have changed."""
    request = its_flow.request
    body = decoded_body(request.raw_content or b"", request.headers.get("content-encoding", ""))
    return list(MessageBatch.of_body(body or b"", exchange.context(Direction.CLIENT_TO_SERVER), exchange.started_ns))


def _resuming(asked: http.Request) -> http.Request:
    """Make the request that goes on with a stream, of one that was posted or not."""
    request = asked.copy()
    request.method = "GET"
    request.raw_content = None
    return request
