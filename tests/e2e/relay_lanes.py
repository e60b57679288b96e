"""Lanes of one proxy with `shadowcat_upstreams`: each test has a route, two servers, and clients of its own.

So what one server's death does to its health meets no other test.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.e2e import wire
from tests.e2e.origin import WITHIN_S, ServeH2
from tests.e2e.processes import free_port
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import Connection, Response, connect
from tests.e2e.relay_servers import SESSION, Server

QUICK: Mapping[str, Any] = {"backoff": {"base_s": 0.05, "max_s": 0.1, "jitter": 0}}
"""Health that lets a test be over soon."""
PATIENT: Mapping[str, Any] = {"patience_s": 60}
"""No test waits so long: a server that comes is there in time, on a busy machine too."""
CRASHES = ("has crashed", "Traceback", "never retrieved", "never awaited", "was destroyed", "shadowcat: KeyError")

type Settings = Mapping[str, Any]


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
        more = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
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
        self.write(json.dumps(self.content))

    def write(self, text: str) -> None:
        """Give the file another text, at once: nobody reads half of it."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

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
    return {"name": name, "path": f"/{name}", "health": QUICK, "retry": PATIENT, "upstreams": servers} | own


async def put(proxy: Proxy, what: str, said: Any = None) -> tuple[int, Any]:
    """What `scripts/relayed.py` says to a test."""
    async with connect(proxy.port) as client:
        response = await client.request("PUT", f"/-/{what}", (), json.dumps(said).encode())
        body = await response.rest()
        return response.status, json.loads(body) if response.status == 200 else body.decode()


async def calling(lane: Lane, **how: str) -> tuple[Client, Any, Stream]:
    """A call whose answer has begun to stream."""
    await lane.a.start()
    client = await lane.client()
    client.version = how.get("version", client.version)
    await client.begin()
    await client.call()
    exchange = await lane.a.exchange()
    await exchange.head()
    return client, exchange, await client.stream()
