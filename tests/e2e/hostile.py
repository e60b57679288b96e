"""Hostile exchanges: what one is, and how it is played through a proxy while another stream goes on beside it.

A `Case` is a request as bytes and the origin's part as a function. `play` gives what the client saw, as far as HTTP
lets it be told: that is what two proxies are compared by.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import h11

from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, JSON, READ_BYTES, WITHIN_S, Framing, Http1Exchange, Origin
from tests.e2e.raw_client import Response, connect

type Part = Callable[[Http1Exchange], Awaitable[None]]
type Headers = Mapping[str, str] | tuple[tuple[str, str], ...]

# A client that cannot tell where a response ends waits this long for more of it.
QUIET_S = 1.0
# Between two events of the stream beside.
PAUSE_S = 0.01
EVENT = wire.sse(wire.progress(1))
ANSWER = wire.sse(wire.result(1))
STANDALONE = {"Accept": "text/event-stream", "Mcp-Session-Id": "s-1", "MCP-Protocol-Version": wire.LEGACY_VERSION}


@dataclass(frozen=True)
class Case:
    """One hostile exchange and what has to come of it.

    `request` is complete but for its target. `ids` are those of its JSON-RPC requests: what the proxy must answer for
    a server that gives no answer to pass on. `held` marks an answer that we keep until it is whole, so that one cut
    off is none. `said` is what our one line in the log must contain; `taped` says whether it belongs on the tape.
    `leaves`: the client goes when it has sent, when the origin was asked, or after so many bytes of the body.
    """

    name: str
    part: Part
    request: bytes
    asked: bytes = wire.CALL
    responses: int = 1
    ids: tuple[object, ...] = (1,)
    held: bool = False
    said: str | None = None
    messages: int | None = None
    taped: bool = True
    leaves: Literal["sent", "asked"] | int | None = None

    @property
    def target(self) -> str:
        return "/mcp/" + "".join(char if char.isalnum() else "-" for char in self.name)


@dataclass
class Answer:
    """One response, or what came of it."""

    status: int
    head: tuple[object, ...]
    body: bytes = b""
    whole: bool = False


def is_interim(answer: Answer) -> bool:
    return answer.status < 200


@dataclass
class Seen:
    """Everything the client got."""

    answers: list[Answer] = field(default_factory=list)
    unreadable: bytes = b""

    @property
    def final(self) -> list[Answer]:
        """The responses that are not interim ones."""
        return [answer for answer in self.answers if not is_interim(answer)]

    def __repr__(self) -> str:
        answers = [(a.status, a.head, a.body[:200], len(a.body), a.whole) for a in self.answers]
        return f"<Seen {answers} unreadable={self.unreadable[:300]!r}>"


def ask(
    body: bytes = wire.CALL, headers: Headers = wire.CALL_HEADERS, *, method: str = "POST", query: str = ""
) -> bytes:
    """A request with a proper length, its target left open."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if body or method == "POST":
        pairs.append(("Content-Length", str(len(body))))
    lines = [f"{method} TARGET{query} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in pairs)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def body_of(
    body: bytes, headers: Mapping[str, str] = JSON, *, status: int = 200, framing: Framing | None = None, cut: int = 0
) -> Part:
    """The origin answers with this body: of known length unless `framing` says otherwise."""

    async def part(exchange: Http1Exchange) -> None:
        await exchange.head(headers, status=status, framing=len(body) if framing is None else framing)
        step = cut or max(len(body), 1)
        for at in range(0, len(body), step):
            await exchange.send(body[at : at + step])
        await exchange.end()

    return part


def stream_of(body: bytes, headers: Mapping[str, str] = EVENT_STREAM, *, cut: int = 1_000) -> Part:
    """The origin streams this body in chunks of `cut` bytes."""
    return body_of(body, headers, framing="chunked", cut=cut)


def chunks_of(*chunks: bytes, headers: Mapping[str, str] = EVENT_STREAM) -> Part:
    """The origin streams exactly these chunks."""

    async def part(exchange: Http1Exchange) -> None:
        await exchange.head(headers)
        for chunk in chunks:
            await exchange.send(chunk)
        await exchange.end()

    return part


def raw(*pieces: bytes, then: Literal["stays", "closes", "resets"] = "stays") -> Part:
    """The origin writes exactly these bytes."""

    async def part(exchange: Http1Exchange) -> None:
        for piece in pieces:
            await exchange.raw(piece)
        match then:
            case "resets":
                await exchange.reset()
            case "closes":
                exchange._writer.close()
                exchange.finished.set()
            case "stays":
                exchange.finished.set()

    return part


async def until_gone(exchange: Http1Exchange) -> None:
    """The origin says nothing and waits for its client to leave."""
    await exchange.wait_peer_gone()


def then_until_gone(*chunks: bytes) -> Part:
    """The origin streams these chunks, then waits for its client to leave."""

    async def part(exchange: Http1Exchange) -> None:
        await exchange.head()
        for chunk in chunks:
            await exchange.send(chunk)
        await exchange.wait_peer_gone()

    return part


async def play(case: Case, origin: Origin, port: int) -> Seen:
    """Send the case's request through the proxy on `port`, play the origin's part, and give what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
    asked, idle = asyncio.Event(), asyncio.Event()
    idle.set()

    async def origins_part() -> None:
        while True:
            exchange = await origin.exchange()
            assert isinstance(exchange, Http1Exchange)
            idle.clear()
            asked.set()
            with contextlib.suppress(ConnectionError):
                await case.part(exchange)
            exchange.finished.set()
            idle.set()

    part = asyncio.create_task(origins_part())
    try:
        async with asyncio.timeout(WITHIN_S):
            writer.write(case.request.replace(b"TARGET", case.target.encode(), case.responses))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if case.leaves == "sent":
                seen = Seen()
            elif case.leaves == "asked":
                await asked.wait()
                seen = Seen()
            else:
                seen = await _read(reader, case)
            if case.leaves is not None:
                writer.transport.abort()
            # A refusing proxy may leave the origin talking to itself: that is no part of the case.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(idle.wait(), WITHIN_S / 2 if case.leaves is not None else QUIET_S)
            return seen
    finally:
        writer.transport.abort()
        part.cancel()
        await asyncio.wait((part,))
        if not part.cancelled() and (error := part.exception()) is not None:
            raise error


async def _read(reader: asyncio.StreamReader, case: Case) -> Seen:
    """Read responses until as many as expected have ended, or nothing more can come."""
    seen = Seen()
    method = case.request.split(b" ", 1)[0].decode("latin-1")
    http = _client(method)
    while True:
        try:
            event = await _next_event(http, reader, seen)
        except (h11.RemoteProtocolError, TimeoutError, ConnectionError) as exc:
            if isinstance(exc, h11.RemoteProtocolError) and (not seen.answers or seen.answers[-1].whole):
                seen.unreadable = http.trailing_data[0] + await _until_quiet(reader)
            return seen
        match event:
            case h11.InformationalResponse() | h11.Response():
                seen.answers.append(_answer(event))
            case h11.Data():
                seen.answers[-1].body += bytes(event.data)
                if isinstance(case.leaves, int) and len(seen.answers[-1].body) >= case.leaves:
                    return seen
            case h11.EndOfMessage():
                seen.answers[-1].whole = True
                seen.answers[-1].head += tuple(event.headers.raw_items())
                if len(seen.final) == case.responses:
                    return seen
                rest = http.trailing_data[0]
                http = _client(method)
                if rest:
                    http.receive_data(rest)
            case _:  # the connection has ended, or is no longer HTTP
                seen.unreadable = http.trailing_data[0] + await _until_quiet(reader)
                return seen


async def _next_event(http: h11.Connection, reader: asyncio.StreamReader, seen: Seen) -> object:
    # mitmproxy may take an interim answer for the last one, and then there is nothing to wait for.
    patience_s = QUIET_S if seen.answers and is_interim(seen.answers[-1]) else WITHIN_S
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await asyncio.wait_for(reader.read(READ_BYTES), patience_s))
    return event


def _answer(event: h11.InformationalResponse | h11.Response) -> Answer:
    head = (event.reason, *event.headers.raw_items())
    return Answer(event.status_code, head, whole=isinstance(event, h11.InformationalResponse))


def _client(method: str) -> h11.Connection:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=4_000_000)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    return http


async def _until_quiet(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            async with asyncio.timeout(QUIET_S):
                more = await reader.read(READ_BYTES)
            if not more:
                return got
            got += more
    return got


@dataclass
class Bystander:
    """A stream that has nothing to do with the case; it must never stop."""

    exchange: Http1Exchange
    response: Response
    beats: int = 0
    longest_s: float = 0.0
    stopped: bool = False

    async def beat(self) -> None:
        """One event from the origin to the client."""
        started = asyncio.get_running_loop().time()
        event = wire.sse(wire.progress(self.beats))
        await self.exchange.send(event)
        assert await self.response.receive(len(event)) == event
        self.beats += 1
        self.longest_s = max(self.longest_s, asyncio.get_running_loop().time() - started)

    async def beat_on(self) -> None:
        while not self.stopped:
            await self.beat()
            await asyncio.sleep(PAUSE_S)


@contextlib.asynccontextmanager
async def bystander(origin: Origin, port: int) -> AsyncIterator[Bystander]:
    """A stream through the proxy that carries an event every few milliseconds while the block runs, and one after."""
    async with connect(port) as client:
        await client.send("GET", "/mcp/bystander", STANDALONE)
        exchange = await origin.exchange()
        assert isinstance(exchange, Http1Exchange)
        await exchange.head()
        beside = Bystander(exchange, await client.response())
        await beside.beat()
        beating = asyncio.create_task(beside.beat_on())
        try:
            yield beside
        finally:
            beside.stopped = True
            await beating
        await beside.beat()
        await exchange.end()
        assert await beside.response.rest() == b""
