"""Proxies that take the steps of a relay as the seam does, and clients that hang up, come back, keep a session."""

import asyncio
import json

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.mcp import Direction, Era, HeaderFields, Transport
from shadowcat_core.messages import MessageBatch, MessageContext
from shadowcat_core.relay import Asked, Gather, GoOn, Leg, Pass, Passage, Relay, Reply, Tail
from shadowcat_core.relay.steps import edited
from shadowcat_core.resumption import WayBack
from shadowcat_core.sessions import CredentialBinder, MemoryStore
from shadowcat_core.sessions.manager import SessionManager
from shadowcat_core.sse import SseParser
from shadowcat_core.upstreams import FailureKind
from tests.core.relay_parts import END, VERSION, FakeServer, Head, Time, call, initialize, notification
from tests.core.resumption_world import Unsteady, settle
from tests.core.upstream_parts import fleet, route

CONTEXT = MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP)
UNREACHABLE = (ErrorCode.UPSTREAM_UNREACHABLE, False)
MAY_HAVE_RUN = (ErrorCode.UPSTREAM_CLOSED, True)
QUICK = {"active": None, "backoff": {"base_s": 0.5, "max_s": 2}}


class World:
    """Servers, a store, and any number of proxies."""

    def __init__(self, *names, has_ids=True, store=None, idle_ttl_ms=1_800_000, **options) -> None:
        self.time = Time()
        self.store = store or MemoryStore(clock_ms=self.time.clock_ms)
        self.servers = {name: FakeServer(name, self.time, has_ids=has_ids) for name in names or ("a",)}
        self.idle_ttl_ms = idle_ttl_ms
        self.options = {"health": QUICK} | options
        self.proxies = [Proxy(self)]

    @property
    def proxy(self) -> "Proxy":
        return self.proxies[0]

    def another_proxy(self) -> "Proxy":
        self.proxies.append(Proxy(self))
        return self.proxies[-1]

    async def aclose(self) -> None:
        for proxy in self.proxies:
            await proxy.aclose()


class Proxy:
    """A relay of its own. `log` is its store, away when it is told to be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = Unsteady(world.store)
        self.fleet = fleet(route(*world.servers, **world.options), clock=world.time.clock_s)
        self.moved = []
        self.caught_up = 0
        self.unended = []
        self.exchanges = []
        manager = SessionManager(
            self.log,
            CredentialBinder(b"k" * 32),
            self._ask,
            clock_ms=world.time.clock_ms,
            idle_ttl_ms=world.idle_ttl_ms,
            on_unended=lambda upstream, reason: self.unended.append((upstream, reason)),
        )
        self.relay = Relay(
            self.fleet,
            manager,
            self.log,
            clock_s=world.time.clock_s,
            sleep=world.time.sleep,
            catch_up=self._catch_up,
            on_moved=lambda before, revived: self.moved.append((before, revived)),
        )
        self.servers = {member.endpoint.port: world.servers[member.name] for member in self.pool.members()}

    def _catch_up(self) -> None:
        self.caught_up += 1

    @property
    def pool(self):
        (only,) = self.fleet.pools()
        return only

    @property
    def counts(self):
        return self.relay.counts

    def sessions(self) -> dict[str, int]:
        return {member.name: member.sessions for member in self.pool.members()}

    async def _ask(self, upstream, method, headers, body):
        return await self.world.servers[upstream].ask(method, headers, body)

    def asked(self, method, body=b"", *, era=Era.LEGACY, path="/mcp", **headers) -> Asked:
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return Asked(method, "proxy", path, fields, era, list(MessageBatch.of_body(body, CONTEXT)))

    def passage(self, method, body=b"", **asked) -> Passage:
        """The way of a request, to be taken by hand."""
        return self.relay.open(self.pool, self.asked(method, body, **asked))

    def open(self, method, body=b"", **asked) -> "Exchange":
        self.exchanges.append(Exchange(self, self.asked(method, body, **asked), body))
        return self.exchanges[-1]

    async def do(self, method, body=b"", **asked) -> "Exchange":
        """Take a request to its end."""
        exchange = self.open(method, body, **asked)
        await self.world.time.finish(exchange.task)
        exchange.task.result()
        return exchange

    def kill(self) -> None:
        """The process is gone: whoever it had connections with sees them break."""
        for exchange in self.exchanges:
            exchange.is_killed = True
            exchange.task.cancel()

    def leaves_nothing(self) -> None:
        """Assert that nothing is kept of exchanges that are over."""
        world = self.relay._world
        assert (world.carried, world.left, len(self.relay.keeper), dict(world.in_use)) == ({}, 0, 0, {})

    async def aclose(self) -> None:
        for exchange in self.exchanges:
            exchange.task.cancel()
        await settle()
        self.log.is_away = False
        await self.relay.aclose(0.01)


class Broken(Exception):
    """What was asked of a server has no answer."""

    def __init__(self, kind, reason, *, sent) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason, self.sent = kind, reason, sent


class Exchange:
    """One request of a client's, led as the seam does it. `ended` says how the client's response did."""

    def __init__(self, proxy: Proxy, asked: Asked, body: bytes) -> None:
        self.proxy, self.asked, self.body = proxy, asked, body
        self.status = None
        self.headers = {}
        self.received = bytearray()
        self.ended = None
        self.legs = []
        self.is_killed = False
        self.is_read_on = False
        self.connection = None
        self._is_streaming = False
        pool = proxy.relay.routes(asked.host, asked.path)
        self.passage = proxy.relay.open(pool, asked)
        self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def json(self):
        return json.loads(bytes(self.received))

    @property
    def frames(self):
        return SseParser().feed(bytes(self.received))

    @property
    def payloads(self) -> list[bytes]:
        return [frame.data for frame in self.frames if frame.data]

    @property
    def last_event_id(self):
        return next((frame.id for frame in reversed(self.frames) if frame.id), None)

    def leave(self) -> None:
        """The client hangs up."""
        carriage = self.passage.carriage
        if self._is_streaming and carriage is not None and self.passage.leave():
            self.is_read_on = True
        else:
            self.task.cancel()

    async def _run(self) -> None:
        try:
            await self._lead()
        finally:
            if self.connection is not None:
                self.connection.hang_up()
            if not self.is_killed:
                self.passage.close()

    async def _lead(self) -> None:
        passage = self.passage
        step = await passage.begin()
        if isinstance(step, WayBack):
            await self._lead_back(step)
            return
        while isinstance(step, Leg):
            try:
                head = await self._attempt(step)
                heard, gathered = passage.heard(head.status, head.headers), []
                if isinstance(heard, Gather):
                    gathered = await self._gather(head, heard)
                    body = b"".join([each for each in gathered if isinstance(each, bytes)])
                    heard = await passage.decide(head.status, head.headers, body)
            except Broken as exc:
                step = await passage.failed(exc.kind, exc.reason, sent=exc.sent)
                continue
            if isinstance(heard, Pass):
                await self._pass(head, heard, gathered)
                return
            head.connection.hang_up()
            step = heard
        assert isinstance(step, Reply)
        self.status, self.ended = step.status, "ended"
        self.received += step.body

    async def _attempt(self, leg: Leg):
        self.legs.append(leg)
        fields = edited(self.asked.fields, leg.edits)
        server = self.proxy.servers[leg.endpoint.port]
        method, body = ("GET", b"") if leg.resumes else (self.asked.method, self.body)
        try:
            head = await server.handle(method, HeaderFields(fields), body)
        except ConnectionRefusedError as exc:
            raise Broken(FailureKind.CONNECT, str(exc), sent=False) from exc
        except ConnectionError as exc:
            raise Broken(FailureKind.CLOSED, str(exc), sent=True) from exc
        self.connection = head.connection
        return head

    async def _gather(self, head, gather: Gather):
        gathered = []
        while True:
            data = await head.connection.read()
            gathered.append(data)
            if isinstance(data, str):
                raise Broken(FailureKind.CLOSED, data, sent=True)
            body = b"".join([each for each in gathered if isinstance(each, bytes)])
            if data is END or len(body) >= gather.max_bytes or (gather.is_enough and gather.is_enough(body)):
                return gathered

    async def _pass(self, head, passing: Pass, gathered) -> None:
        self.status = head.status if passing.status is None else passing.status
        self.headers = dict(head.fields)
        for name, value in passing.edits:
            self.headers.pop(name.lower(), None)
            if value is not None:
                self.headers[name.lower()] = value
        carriage = self.passage.carriage
        if carriage is not None:
            await self._carry(carriage, head.connection)
            return
        while True:
            data = gathered.pop(0) if gathered else await head.connection.read()
            if not isinstance(data, bytes):
                self.ended = "ended" if data is END else "cut"
                return
            self._send(data)

    def _send(self, data: bytes) -> None:
        if not self.is_read_on:
            self.received += data

    async def _carry(self, carriage, connection) -> None:
        carriage.on_over = lambda: self.connection is not None and self.connection.nudge()
        self._send(carriage.prelude)
        while connection is not None:
            broken = await self._read(carriage, connection)
            if carriage.is_over:
                self.ended = "cut"
                return
            self._send(carriage.end(broken=broken is not None))
            step = carriage.settled(broken=broken) or await self.passage.go_on(broken=broken)
            connection = await self._follow(step)

    async def _read(self, carriage, connection):
        self._is_streaming = True
        try:
            while isinstance(data := await connection.read(), bytes):
                if carriage.is_over:
                    return None
                self._send(carriage.feed(data) if data else b"")
            return None if data is END else data
        finally:
            self._is_streaming = False

    async def _follow(self, step):
        """Take the steps until a connection goes on with the stream; None when it is over."""
        passage = self.passage
        while isinstance(step, Leg):
            try:
                head = await self._attempt(step)
                step = passage.heard(head.status, head.headers)
                if isinstance(step, Gather):
                    gathered = await self._gather(head, step)
                    body = b"".join([each for each in gathered if isinstance(each, bytes)])
                    step = await passage.decide(head.status, head.headers, body)
            except Broken as exc:
                step = await passage.reconnection_failed(exc.kind, exc.reason)
        if isinstance(step, GoOn):
            return Head(200, step.data).connection if step.data else self.connection
        assert isinstance(step, Tail), step
        if not self.is_read_on:
            self._send(step.data)
            self.ended = "ended" if step.cut is None else "cut"
        return None

    async def _lead_back(self, way: WayBack) -> None:
        self.status, self.headers = 200, {"content-type": "text/event-stream"}
        carriage = self.passage.carriage
        carriage.on_over = lambda: self.connection is not None and self.connection.nudge()
        try:
            async for data in way.frames():
                self._send(data)
        except StoreUnavailable:
            self.ended = "cut"
            return
        connection = await self._follow(await self.passage.go_on(broken=None))
        if connection is not None:
            await self._carry(carriage, connection)


class Client:
    """Holds one session, at any proxy."""

    def __init__(self, world: World, session_id=None) -> None:
        self.world = world
        self.session_id = session_id

    def _headers(self, more) -> dict[str, str]:
        own = {"mcp_session_id": self.session_id, "mcp_protocol_version": VERSION}
        return {name: value for name, value in (own | more).items() if value is not None}

    def open(self, method, body=b"", proxy=None, **headers) -> Exchange:
        return (proxy or self.world.proxy).open(method, body, **self._headers(headers))

    async def do(self, method, body=b"", proxy=None, **headers) -> Exchange:
        return await (proxy or self.world.proxy).do(method, body, **self._headers(headers))

    async def post(self, body, proxy=None, **headers) -> Exchange:
        return await self.do("POST", body, proxy, **headers)

    async def stream(self, method="GET", body=b"", proxy=None, **headers) -> Exchange:
        """Open what is answered with a stream, which goes on."""
        exchange = self.open(method, body, proxy, **headers)
        await settle()
        return exchange

    async def mapping(self):
        record = await self.world.store.get(self.session_id)
        return None if record is None else record.mapping


async def begun(world: World, proxy=None, version=VERSION, **headers) -> Client:
    """A client that has a session."""
    client = Client(world)
    exchange = await client.post(initialize(version), proxy, **headers)
    assert exchange.status == 200, bytes(exchange.received)
    client.session_id = exchange.headers["mcp-session-id"]
    assert (await client.post(notification("notifications/initialized"), proxy, **headers)).status == 202
    return client


def error_of(exchange) -> tuple[int, bool]:
    error = exchange.json["error"]
    return error["code"], error["data"]["mayHaveRun"]


def note(number) -> bytes:
    return notification("notifications/message", data=number)


async def called(client, key=7, **asked):
    """A call whose answer is a stream that goes on, and the server's end of it."""
    exchange = await client.stream("POST", call(key, how="stream"), **asked)
    return exchange, next(s.calls[key] for s in client.world.servers.values() if key in s.calls)


async def listening(client, **asked):
    """A stream of the server's own, and the server's end of it."""
    exchange = await client.stream(**asked)
    upstream = (await client.mapping()).upstream
    return exchange, client.world.servers[upstream.name].sessions[upstream.session_id].own


def plain_answer(status, body=b"", content_type="application/json", content_encoding="identity") -> Head:
    return Head(status, body, content_type=content_type, content_encoding=content_encoding)


def error_in(payload) -> tuple[object, int, bool]:
    message = json.loads(payload)
    return message["id"], message["error"]["code"], message["error"]["data"]["mayHaveRun"]
