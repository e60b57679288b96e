"""The ways of flows through sessions and upstreams: found, gone on with, and forgotten at their ends.

What a way consists of is said by `shadowcat_core.relay`; here it meets mitmproxy's flows. A flow's request stays what
its client sent, whatever its servers are sent: so what a person sees of it fits together with the answer, and it can
be sent again (mitmproxy's replay) as if its client had done so.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakSet

from mitmproxy import connection, http
from mitmproxy.utils.asyncio_utils import create_task

from shadowcat_core import sse
from shadowcat_core.content_coding import decoded_body
from shadowcat_core.correlation import Call
from shadowcat_core.errors import StoreError
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.jsonrpc import error_response
from shadowcat_core.mcp import is_event_stream
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.relay import Asked, Leg, Passage, Relay, Reply, broken_off, edited
from shadowcat_core.resumption import WayBack
from shadowcat_core.sessions.lifecycle import INVALID_REQUEST, NOTED_METHODS
from shadowcat_core.stream import StreamTap
from shadowcat_core.summary import UPSTREAM_LABEL
from shadowcat_core.transcript import note_line
from shadowcat_core.upstreams import Pool, RouteConfig

logger = logging.getLogger(__name__)

_NOT_RESUMED = ("content-length", "content-type", "content-encoding", "transfer-encoding", "mcp-method", "mcp-name")
_LEARNED_FROM = NOTED_METHODS | {"tools/list"}
_CONFLICT = 409
_INTERNAL = 500
_UNAVAILABLE = 503
_NOT_BY_HAND = error_response(
    None, INVALID_REQUEST, "The stream of a GET belongs to its client, and is not asked for again by hand"
)


_INTERNAL_ERROR = -32603  # JSON-RPC's own
_NOT_LED = error_response(
    None, _INTERNAL_ERROR, "The proxy failed to lead this request and did not send it (see its log)"
)


@dataclass(slots=True)
class _Way:
    """That of one flow."""

    passage: Passage
    first: Leg | WayBack | None
    """Its first step, until that is taken."""
    came: bytes | None
    """The body by which it was decided where it goes."""
    asked: http.Request | None = None
    """What every server is sent, made out for it: the request as it was when it first went to one. What becomes of the
    flow's own since, such as a token that a script blots out, is for those who look at it."""
    request: http.Request | None = None
    """What its server was sent last."""
    resumes: bool = False
    """Whether that goes on with a stream."""
    was_tried: bool = False
    """Whether a server was tried before, reached or not."""


class StreamAgain(Protocol):
    """Makes another tap for a stream that goes on."""

    def __call__(self, its_flow: http.HTTPFlow, /, *, is_ours: bool = False) -> StreamTap | None: ...


class Ways:
    """The ways of the flows that run, for `http_stream`, which takes them one step after the other."""

    def __init__(
        self,
        relay: Relay,
        registry: ExchangeRegistry,
        *,
        find: Callable[[str], tuple[Exchange, http.HTTPFlow] | None],
        stream_again: StreamAgain,
        on_note: Callable[[Exchange, str], object],
    ) -> None:
        """Find ways by a relay. `on_note` hears of what happened to an exchange on its way."""
        self.stream_again = stream_again
        self._relay = relay
        self._registry = registry
        self._find = find
        self._on_note = on_note
        self._ways: dict[str, _Way] = {}
        self._begun: dict[http.HTTPFlow, asyncio.Timeout] = {}
        self._left: WeakSet[http.HTTPFlow] = WeakSet()
        self._routes: dict[int, str] = {}
        self._endpoints: dict[str, str] = {}
        self._read_on: dict[str, asyncio.Future[None]] = {}
        self._noting: set[asyncio.Task[None]] = set()

    def done(self) -> None:
        """Wait for nobody any more."""
        for waiting in self._begun.values():
            _give_up(waiting)
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
        return self._lead(pool, exchange, its_flow)

    def is_routed(self, its_flow: http.HTTPFlow) -> bool:
        """Say whether a request, whose head is here, goes to an upstream: then its body must be whole."""
        request = its_flow.request
        return self._relay.routes(request.host_header, request.path) is not None

    def endpoint(self, route: RouteConfig) -> str:
        """Tell where requests of our own go: a route of whole servers does not say at which path they speak MCP."""
        return self._endpoints.get(route.name, route.path)

    def sent(self, its_flow: http.HTTPFlow) -> http.Request:
        """What the server of a flow was sent last: its own request, when it goes to where its client asked."""
        way = self._ways.get(its_flow.id)
        return its_flow.request if way is None or way.request is None else way.request

    def look(self) -> None:
        """Look whether flows that wait for a server have been killed: mitmproxy tells nobody."""
        for its_flow, waiting in self._begun.items():
            if its_flow.error is not None:
                _give_up(waiting)

    def over(self, its_flow: http.HTTPFlow) -> None:
        """A flow has come to its end, one of ours or not."""
        way = self._ways.pop(its_flow.id, None)
        if way is not None:
            way.passage.close()
            self.read_enough(its_flow)

    def in_flight(self) -> Counter[str]:
        """Count the flows that are at each upstream now, by its name; those that wait for one are at none, empty."""
        return Counter(way.passage.upstream for way in self._ways.values())

    def disconnected(self, client: connection.Client) -> Awaitable[object] | None:
        """Keep what a client's connection carries for as long as streams are read on for it."""
        waiting = [
            done
            for flow_id, done in self._read_on.items()
            if (found := self._find(flow_id)) and found[1].client_conn is client
        ]
        return asyncio.wait(waiting) if waiting else None

    async def _lead(self, pool: Pool, exchange: Exchange | None, its_flow: http.HTTPFlow) -> None:
        try:
            await self._begin(pool, exchange, its_flow)
        except Exception:
            # Not to where its client asked: who has that address may not be who has the route.
            its_flow.response = self.answered(its_flow, Reply(_INTERNAL, _NOT_LED), "not led")
            raise

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
        its_flow.metadata.pop(UPSTREAM_LABEL, None)  # of another time, when it is replayed
        try:
            step = await self._first_step(passage, its_flow)
        except BaseException:
            passage.close()
            raise
        if isinstance(step, Leg | WayBack):
            self._ways[its_flow.id] = _Way(passage, step, request.raw_content)
            return
        passage.close()
        if step is not None:
            its_flow.response = self.answered(its_flow, step, "")

    async def _first_step(self, passage: Passage, its_flow: http.HTTPFlow) -> Leg | Reply | WayBack | None:
        """Find out where a request goes; None when nobody is left who wants to know."""
        asked = passage.asked
        is_replay = its_flow.is_replay == "request"
        if is_replay and asked.method == "GET" and asked.session_id is not None:
            # It would take the stream away from the client, and never end.
            return Reply(_CONFLICT, _NOT_BY_HAND)
        if asked.method == "DELETE":  # who leaves meanwhile wants the session to end all the same
            return await passage.begin()
        has_left = its_flow in self._left and not is_replay  # while somebody decided about the request
        waiting = asyncio.timeout(None)
        try:
            async with waiting:
                self._begun[its_flow] = waiting
                return None if has_left else await passage.begin()
        except TimeoutError:
            if not waiting.expired():
                raise
            is_moot = its_flow.error is not None or (its_flow in self._left and not is_replay)
            return None if is_moot else Reply(_UNAVAILABLE)
        finally:
            del self._begun[its_flow]

    # --- What the seam asks (`FlowRelay`) -----------------------------------------------------------------------------

    def passage(self, its_flow: http.HTTPFlow) -> Passage | None:
        """The way of a flow; None when it goes to where its client asked."""
        way = self._ways.get(its_flow.id)
        return None if way is None else way.passage

    def first_step(self, its_flow: http.HTTPFlow) -> Leg | WayBack | None:
        """Where the request goes, or the way back into a stream that its client is to be led first; told once."""
        way = self._ways[its_flow.id]
        step, way.first = way.first, None
        return step

    def left(self, its_flow: http.HTTPFlow) -> None:
        """The client has left while addons had its flow: whoever waits for a server on its behalf need not."""
        self._left.add(its_flow)
        waiting = self._begun.get(its_flow)
        if waiting is not None:
            _give_up(waiting)

    def apply(self, its_flow: http.HTTPFlow, leg: Leg) -> http.Request:
        """Make the request of an attempt, of what was asked: what one server is told is not for another."""
        way, exchange = self._ways[its_flow.id], self._registry.get(its_flow.id)
        passage = way.passage
        if way.asked is None:
            way.asked = _copied(its_flow.request)
            if exchange is not None and way.asked.raw_content != way.came:  # somebody came behind the suite
                passage.asked = replace(passage.asked, messages=_messages_of(exchange, its_flow))
        way.was_tried, way.resumes = way.request is not None, leg.resumes
        its_flow.metadata[UPSTREAM_LABEL] = passage.upstream
        way.request = request = _copied(way.asked)
        # The fields at once: mitmproxy's own setters each write all headers anew, which costs more than all else here.
        data, endpoint = request.data, leg.endpoint
        if leg.resumes:
            data.method, data.content, data.trailers = b"GET", None, None
        data.scheme, data.host, data.port = endpoint.scheme.encode(), endpoint.host, endpoint.port
        data.path = leg.path.encode("utf-8", "surrogateescape")
        authority = endpoint.authority
        if data.authority:  # of HTTP/2, or a proxy's absolute form
            data.authority = authority.encode()
        hosts = [("Host", authority)] if "host" in data.headers or not data.authority else []
        # A body of HTTP/2 may come without its length, and there would be no end to it in HTTP/1.1.
        lengths = [("Content-Length", str(len(data.content)))] if request.is_http2 and data.content else []
        dropped = [(name, None) for name in _NOT_RESUMED] if leg.resumes else []
        data.headers.fields = edited(data.headers.fields, [*hosts, *lengths, *dropped, *leg.edits])
        return request

    def connected(self, its_flow: http.HTTPFlow) -> None:
        """The server of the latest attempt is there, and is sent its request."""
        way, exchange = self._ways.get(its_flow.id), self._registry.get(its_flow.id)
        if way is not None and way.was_tried and exchange is not None:
            self._on_note(exchange, f"{'goes on' if way.resumes else 'sent again'} at {way.passage.upstream}")

    def lost_answers(self, its_flow: http.HTTPFlow, reason: str) -> bytes:
        """Write an event with an error for each request whose answer will not come on its event stream."""
        passage, exchange = self.passage(its_flow), self._registry.get(its_flow.id)
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

    def told_lost(self, its_flow: http.HTTPFlow) -> None:
        """The client is told that answers will not come."""
        passage, exchange = self.passage(its_flow), self._registry.get(its_flow.id)
        if passage is not None and exchange is not None:
            self._say(exchange, f"{passage.upstream} broke off; the client was told that it may have run")

    def answered(self, its_flow: http.HTTPFlow, reply: Reply, reason: str) -> http.Response:
        """Make the response for a reply, which is given in the place of a server's."""
        exchange = self._registry.get(its_flow.id)
        if exchange is not None:
            exchange.answered_by_us = True
            if reason:
                self._say(exchange, reason)
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

    def _say(self, exchange: Exchange, text: str) -> None:
        """Say what a client was told in the place of an answer, also to who keeps no tape."""
        self._on_note(exchange, text)
        about = note_line(next(iter(exchange.asked), None), text).removeprefix("! ")
        logger.warning("shadowcat: %s", about)

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
    return list(exchange.asked_in(body or b""))


def _copied(asked: http.Request) -> http.Request:
    """Copy a request. Its own `copy`, which checks each field's type, takes as long as everything else on the way."""
    request = _shallow(asked)
    request.data = _shallow(asked.data)
    request.data.headers = _shallow(asked.data.headers)
    return request


def _shallow[T](original: T) -> T:
    """Copy an object with its attributes as they are, in an eighth of the time of `copy.copy`."""
    made = object.__new__(type(original))
    made.__dict__.update(original.__dict__)
    return made


def _give_up(waiting: asyncio.Timeout) -> None:
    if not waiting.expired():
        waiting.reschedule(asyncio.get_running_loop().time())
