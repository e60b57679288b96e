"""Servers behind `shadowcat_upstreams` that a test plays by hand: each test has a route and two servers, its lane.

A `Server` begins and ends sessions by itself and hands everything else to the test, byte by byte. Of one proxy with
many routes, `Lanes` gives each test the next one, so that what one server's death does to its health meets no other.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, JSON, WITHIN_S, Answer, Exchange, Origin, Request, ServeH2
from tests.e2e.processes import free_port
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import Connection, Response, connect

SESSION = "mcp-session-id"
LAST = "Last-Event-ID"
UNREACHABLE, CLOSED = -31001, -31002
AT_ONCE_S = 1.0
"""Longer than anything takes that waits for nobody."""
QUICK: Mapping[str, Any] = {"backoff": {"base_s": 0.05, "max_s": 0.1, "jitter": 0}}
"""Health that lets a test be over soon."""
CRASHES = ("has crashed", "Traceback", "never retrieved", "never awaited", "was destroyed", "shadowcat: KeyError")

type Settings = Mapping[str, Any]


def method_of(request: Request) -> str:
    """What a request asks: JSON-RPC's method, `answer` for what answers the server, else HTTP's method."""
    if request.method != "POST":
        return request.method
    try:
        message = json.loads(request.body)
    except ValueError:
        return "?"
    return str(message.get("method", "answer")) if isinstance(message, dict) else "batch"


async def accept(exchange: Exchange) -> None:
    """Take a notification."""
    await exchange.answer(b"", {}, status=202)


async def say_lost(exchange: Exchange) -> None:
    """Know nothing of the session."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}
    await exchange.answer(json.dumps(body).encode(), status=404)


class Server(Origin):
    """One MCP server. What `own` has an answer for it answers itself; all else waits for the test in `exchange()`."""

    def __init__(self, name: str, port: int, *, tls: ssl.SSLContext | None = None, h2: ServeH2 | None = None):
        super().__init__(port, tls=tls, h2=h2)
        self.name = name
        self.begun: list[str] = []
        """Ids of the sessions that it has given, in all its lives."""
        self.known: set[str] = set()
        """Those that it knows."""
        self.own: dict[str, Answer] = {
            "initialize": self.begin,
            "notifications/initialized": accept,
            "DELETE": self.end,
            "ping": lambda exchange: exchange.answer(json.dumps(wire.result(self.id_of(exchange))).encode()),
        }
        self._life: AsyncExitStack | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> Self:
        """Listen from now on."""
        self._life = AsyncExitStack()
        await self._life.enter_async_context(self.listening())
        return self

    async def die(self) -> None:
        """Break everything off and listen no more; sessions are forgotten."""
        self.forget()
        if self._life is not None:
            life, self._life = self._life, None
            await life.aclose()
        while not self._waiting.empty():
            self._waiting.get_nowait()

    def forget(self) -> None:
        """Know no session any more."""
        self.known.clear()

    def asked(self, what: str) -> list[Request]:
        """The requests of one method, in all its lives."""
        return [request for request in self.requests if method_of(request) == what]

    def received(self, exchange: Exchange) -> None:
        what = method_of(exchange.request)
        answer = self.own.get(what)
        session = exchange.request.header(SESSION)
        if session is not None and session not in self.known and what != "initialize":
            answer = self.own.get("lost", say_lost)
        if answer is None:
            super().received(exchange)
            return
        self.requests.append(exchange.request)
        task = asyncio.create_task(answer(exchange))
        self._answering.add(task)

    async def begin(self, exchange: Exchange) -> None:
        """Begin a session, and say so in JSON."""
        await exchange.answer(json.dumps(self.hello(exchange)).encode(), JSON | self.give_id())

    def give_id(self) -> dict[str, str]:
        """Make up the id of another session."""
        session = f"{self.name}-{len(self.begun) + 1}"
        self.begun.append(session)
        self.known.add(session)
        return {SESSION: session}

    def hello(self, exchange: Exchange) -> dict[str, Any]:
        """What it answers to `initialize`."""
        version = json.loads(exchange.request.body)["params"]["protocolVersion"]
        info = {"name": self.name, "version": "1"}
        return wire.result(
            self.id_of(exchange), protocolVersion=version, capabilities={"tools": {}, "logging": {}}, serverInfo=info
        )

    async def end(self, exchange: Exchange) -> None:
        """End a session."""
        self.known.discard(exchange.request.header(SESSION) or "")
        await exchange.answer(b"", {}, status=200)

    @staticmethod
    def id_of(exchange: Exchange) -> Any:
        return json.loads(exchange.request.body).get("id")

    async def settled(self) -> None:
        """Wait for what it answers by itself; errors of that which are not the peer's going away are the test's."""
        for task in self._answering:
            with contextlib.suppress(ConnectionError):
                await task


@dataclass(frozen=True, slots=True)
class Event:
    """One event as a client reads it."""

    id: str | None
    data: bytes
    retry: str | None = None

    @property
    def message(self) -> Any:
        return json.loads(self.data)


def events_of(body: bytes) -> list[Event]:
    """The events of whole frames, those without data too; comments are not among them."""
    found = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line and line[:1] != b":")
        if b"id" in fields or b"data" in fields:
            event_id = fields[b"id"].decode() if b"id" in fields else None
            retry = fields[b"retry"].decode() if b"retry" in fields else None
            found.append(Event(event_id, fields.get(b"data", b""), retry))
    return found


class Stream:
    """A client's event stream, read event by event."""

    def __init__(self, response: Response):
        self.response = response
        self.events: list[Event] = []
        """All that came, those without data too."""

    @property
    def last_id(self) -> str:
        """With which the client would come back."""
        return [event.id for event in self.events if event.id is not None][-1]

    async def next(self, *, within_s: float = WITHIN_S) -> Event:
        """The next event with or without data."""
        block = b""
        async with asyncio.timeout(within_s):
            while not (block.endswith((b"\n\n", b"\r\n\r\n")) and (found := events_of(block))):
                block += await self.response.receive(1)
        self.events += found
        return found[0]

    async def messages(self, count: int, *, within_s: float = WITHIN_S) -> list[Any]:
        """The next so many messages."""
        found: list[Any] = []
        while len(found) < count:
            event = await self.next(within_s=within_s)
            if event.data:
                found.append(event.message)
        return found

    async def rest(self, *, within_s: float = WITHIN_S) -> list[Any]:
        """The messages until the proper end."""
        found = events_of(await self.response.rest(within_s=within_s))
        self.events += found
        return [event.message for event in found if event.data]


@dataclass
class Client:
    """A client of one lane. `line` is its connection that is kept alive; GET streams have others."""

    port: int
    path: str
    line: Connection
    stack: AsyncExitStack
    session: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    version: str = wire.LEGACY_VERSION
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    def headers(self, **more: str) -> dict[str, str]:
        own = {"Accept": wire.ACCEPT, "Content-Type": "application/json", "MCP-Protocol-Version": self.version}
        if self.session is not None:
            own["Mcp-Session-Id"] = self.session
        return own | dict(self.more) | {name.replace("_", "-"): value for name, value in more.items()}

    async def another(self) -> Connection:
        """One more connection."""
        return await self.stack.enter_async_context(connect(self.port))

    async def elsewhere(self) -> "Client":
        """The same client, over one more connection."""
        return Client(
            self.port, self.path, await self.another(), self.stack, self.session, self.more, self.version, self.ids
        )

    async def initialize(self) -> Response:
        """Ask for a session, and give the answer's head."""
        params = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        self.session = None
        response = await self.line.request(
            "POST", self.path, self.headers(), wire.request("initialize", params, era="legacy", message_id="first")
        )
        self.session = response.header(SESSION)
        return response

    async def begin(self) -> Self:
        """Begin a session, as clients do."""
        response = await self.initialize()
        body = await response.rest()
        assert response.status == 200, body
        assert self.session is not None
        if response.header("connection") == "close":
            self.line = await self.another()
        assert await self.notify("notifications/initialized") == 202
        return self

    async def notify(self, method: str) -> int:
        """Send a notification, give its status."""
        response = await self.line.request("POST", self.path, self.headers(), wire.notification(method))
        await response.rest()
        return response.status

    async def send(
        self, method: str, *, message_id: int | str = 1, on: Connection | None = None, **params: Any
    ) -> None:
        """Post a request, and do not wait."""
        body = wire.request(method, params, era="legacy", message_id=message_id)
        await (on or self.line).send("POST", self.path, self.headers(), body)

    async def call(self, *, message_id: int | str = 1, tool: str = "echo", on: Connection | None = None) -> None:
        """Call a tool that nobody said is safe to call twice, and do not wait."""
        await self.send("tools/call", message_id=message_id, on=on, name=tool, arguments={})

    async def answer(self, *, on: Connection | None = None, within_s: float = WITHIN_S) -> Any:
        """The answer in JSON to what was sent."""
        response = await (on or self.line).response(within_s=within_s)
        body = await response.rest(within_s=within_s)
        assert response.status == 200, (response.status, body)
        return json.loads(body)

    async def stream(self, *, on: Connection | None = None, within_s: float = WITHIN_S) -> Stream:
        """The answer as an event stream."""
        response = await (on or self.line).response(within_s=within_s)
        if response.header("content-type") != "text/event-stream":
            raise AssertionError((response.status, await response.rest()))
        return Stream(response)

    async def listen(self, last_event_id: str | None = None, *, on: Connection | None = None) -> Stream:
        """Open the stream of a GET, over a connection of its own; or come back to one."""
        line = on or await self.another()
        more = {} if last_event_id is None else {LAST: last_event_id}
        headers = {name: value for name, value in self.headers().items() if name != "Content-Type"}
        await line.send("GET", self.path, headers | {"Accept": "text/event-stream"} | more)
        return await self.stream(on=line)


@dataclass
class Lane:
    """One route, its two servers, and where clients reach it."""

    name: str
    path: str
    a: Server
    b: Server
    proxy: Proxy
    stack: AsyncExitStack

    async def client(self, **more: str) -> Client:
        """A client; `more` are headers that it always sends, such as an Authorization."""
        line = await self.stack.enter_async_context(connect(self.proxy.port))
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return Client(self.proxy.port, self.path, line, self.stack, more=headers)

    def says(self, text: str, *, since: int = 0) -> bool:
        return text in self.proxy.process.log[since:]

    async def logged(self, text: str) -> None:
        """Until the proxy has said something."""
        async with asyncio.timeout(WITHIN_S):
            while not self.says(text):  # noqa: ASYNC110 -- a file of another process has no events
                await asyncio.sleep(0.02)


class Lanes:
    """One proxy and many routes with two servers each."""

    def __init__(
        self,
        folder: Path,
        kinds: Mapping[str, tuple[Settings, int]],
        *,
        sessions: Settings | None = None,
    ):
        """Make the file. `kinds` say how many routes of which settings there are."""
        self.file = folder / "upstreams.json"
        self._free: dict[str, list[tuple[str, tuple[int, int]]]] = {}
        self.routes = []
        for kind, (settings, count) in kinds.items():
            self._free[kind] = []
            for number in range(count):
                name, ports = f"{kind}-{number}", (free_port(), free_port())
                self._free[kind].append((name, ports))
                self.routes.append(route(name, ports, settings))
        self.content = {"version": 1, "sessions": sessions or {}, "routes": self.routes}
        self.save()
        self.proxy: Proxy

    def save(self) -> None:
        self.file.write_text(json.dumps(self.content))

    def run(self, proxies: Proxies, mode: str = "regular", *scripts: Path, **options: str) -> Self:
        """Start the proxy."""
        self.proxy = proxies.shadowcat(mode, *scripts, shadowcat_upstreams=str(self.file), flow_detail="0", **options)
        return self

    @asynccontextmanager
    async def lane(
        self, kind: str = "plain", *, tls: ssl.SSLContext | None = None, h2: ServeH2 | None = None
    ) -> AsyncIterator[Lane]:
        """The next free route of a kind. Its servers are not started, and are ended with the block."""
        name, (port_a, port_b) = self._free[kind].pop()
        a, b = (Server(f"{name}-{which}", port, tls=tls, h2=h2) for which, port in (("a", port_a), ("b", port_b)))
        before = len(self.proxy.process.log)
        async with AsyncExitStack() as stack:
            yield Lane(name, f"/{name}", a, b, self.proxy, stack)
            await stack.aclose()
            for server in (a, b):
                await server.die()
                await server.settled()
        said = self.proxy.process.log[before:]
        assert not [crash for crash in CRASHES if crash in said], said


def route(name: str, ports: Sequence[int], settings: Settings) -> dict[str, Any]:
    """One route of the file."""
    scheme = settings.get("scheme", "http")
    servers = [
        {"name": f"{name}-{which}", "url": f"{scheme}://127.0.0.1:{port}/mcp"}
        for which, port in zip("ab", ports, strict=True)
    ]
    own = {key: value for key, value in settings.items() if key != "scheme"}
    return {"name": name, "path": f"/{name}", "health": QUICK, "upstreams": servers} | own


def note(number: int) -> dict[str, Any]:
    """A numbered message of a server's."""
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": number}}


def numbered(number: int, *, event_id: str | None = None) -> bytes:
    """The event of one."""
    return wire.sse(note(number), event_id=event_id)


def numbers(messages: Sequence[Any]) -> list[int]:
    """The numbers in messages, in order."""
    return [message["params"]["data"] for message in messages if message.get("method") == "notifications/message"]


async def say(exchange: Exchange, **content: Any) -> None:
    """Answer a request with a result in JSON."""
    await exchange.answer(json.dumps(wire.result(Server.id_of(exchange), **content)).encode())


async def fall_silent(exchange: Exchange) -> None:
    """Take a request and close the connection without a word."""
    await exchange.reset()


__all__ = ["EVENT_STREAM", "JSON", "Client", "Event", "Lane", "Lanes", "Server", "Stream"]
