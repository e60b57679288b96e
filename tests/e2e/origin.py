"""An HTTP origin the test plays by hand: which bytes, in which chunks, when, and how it ends.

`Origin` accepts HTTP/1.1, and over TLS also HTTP/2. Every request becomes an `Exchange` that the test takes with
`await origin.exchange()` and answers step by step, so "sent only after the client had the last one" is an order of
statements and not a matter of time. `origin.requests` lists everything that was asked, in order.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import h11

from tests.e2e.loopback import WITHIN_S, until_read

READ_BYTES = 65_536

EVENT_STREAM: Mapping[str, str] = {"content-type": "text/event-stream", "cache-control": "no-cache"}
JSON: Mapping[str, str] = {"content-type": "application/json"}

# How a body ends: HTTP/1.1 chunks, the connection's end, or a length known before.
type Framing = Literal["chunked", "close"] | int


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the origin read it; header names in lower case, in order, repeated when they came repeated."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    http_version: str

    def header(self, name: str) -> str | None:
        """The header's value, None when absent; a header that came twice fails."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass
class Exchange(ABC):
    """A request that waits for the test to answer it."""

    request: Request
    peer_gone: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @abstractmethod
    async def head(
        self, headers: Mapping[str, str] = EVENT_STREAM, *, status: int = 200, framing: Framing = "chunked"
    ) -> None:
        """Send status and headers."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send one piece of the body (one HTTP/1.1 chunk, or HTTP/2 DATA)."""

    @abstractmethod
    async def end(self) -> None:
        """End the body properly."""

    @abstractmethod
    async def reset(self) -> None:
        """Break off behind what was sent: RST_STREAM, or a TCP reset, which waits as it overtakes what is not read."""

    async def wait_peer_gone(self) -> None:
        """Until whoever asked has left."""
        async with asyncio.timeout(WITHIN_S):
            await self.peer_gone.wait()

    async def answer(
        self, body: bytes, headers: Mapping[str, str] = JSON, *, status: int = 200, cut: int | None = None
    ) -> None:
        """The whole answer at once, or in pieces of `cut` bytes."""
        await self.head(headers, status=status, framing=len(body) if cut is None else "chunked")
        pieces = [body] if cut is None else [body[at : at + cut] for at in range(0, len(body), cut)]
        for piece in filter(None, pieces):
            await self.send(piece)
        await self.end()


class Http1Exchange(Exchange):
    """An exchange over HTTP/1.1, its bytes written by hand."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter):
        super().__init__(request)
        self._writer = writer
        self._framing: Framing = "chunked"

    async def head(
        self, headers: Mapping[str, str] = EVENT_STREAM, *, status: int = 200, framing: Framing = "chunked"
    ) -> None:
        self._framing = framing
        match framing:
            case "chunked":
                ending = ("transfer-encoding", "chunked")
            case "close":
                ending = ("connection", "close")
            case length:
                ending = ("content-length", str(length))
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in (*headers.items(), ending))]
        await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._framing == "chunked" else data)

    async def raw(self, data: bytes) -> None:
        """Bytes onto the connection as they are, for what no well-meant server sends."""
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        if self._framing == "chunked":
            await self.raw(b"0\r\n\r\n")
        if self._framing == "close":
            self._writer.close()
        self.finished.set()

    async def wait_read(self) -> None:
        """Until the other side has read all that was sent."""
        await until_read(self._writer)

    async def reset(self) -> None:
        await self.wait_read()
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        self.finished.set()


type Answer = Callable[[Exchange], Coroutine[Any, Any, None]]
type ServeH2 = Callable[["Origin", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Origin:
    """Listens on one loopback port and hands every request to the test."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None, h2: ServeH2 | None = None):
        self.port = port
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._h2 = h2
        self._waiting: asyncio.Queue[Exchange] = asyncio.Queue()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def exchange(self) -> Exchange:
        """The next request nobody has taken yet."""
        async with asyncio.timeout(WITHIN_S):
            return await self._waiting.get()

    def received(self, exchange: Exchange) -> None:
        """A request is complete: list it and offer it to the test."""
        self.requests.append(exchange.request)
        self._waiting.put_nowait(exchange)

    @contextlib.asynccontextmanager
    async def answering(self, answer: Answer) -> AsyncIterator[None]:
        """Within the block every request is answered by `answer`, many at a time; its errors fail the block."""

        async def take() -> None:
            while True:
                group.create_task(answer(await self._waiting.get()))

        async with asyncio.TaskGroup() as group:
            taker = group.create_task(take())
            yield
            taker.cancel()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Origin"]:
        """Listen for as long as the block runs; connections that are still open then are aborted."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls, limit=READ_BYTES)
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        tls = writer.get_extra_info("ssl_object")
        try:
            if self._h2 and tls and tls.selected_alpn_protocol() == "h2":
                await self._h2(self, reader, writer)
            else:
                await self._serve_http1(reader, writer)
        except (ConnectionError, h11.RemoteProtocolError):
            pass  # who asked has gone; the exchange knows by `peer_gone`
        finally:
            self._open.discard(writer)
            writer.close()

    async def _serve_http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        while (read := await _read_request(reader, rest)) is not None:
            request, rest = read
            exchange = Http1Exchange(request, writer)
            self.received(exchange)
            rest += await _until_finished(exchange, reader)
            if exchange.peer_gone.is_set() or writer.is_closing():
                return


async def _until_finished(exchange: Exchange, reader: asyncio.StreamReader) -> bytes:
    """Wait for the test to finish the exchange, or for the peer to leave; what was read meanwhile."""
    read = b""
    finished = asyncio.ensure_future(exchange.finished.wait())
    while not finished.done():
        reading = asyncio.ensure_future(reader.read(READ_BYTES))
        await asyncio.wait((finished, reading), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            reading.cancel()
            await asyncio.wait((reading,))
            continue
        more = b"" if reading.exception() else reading.result()
        read += more
        if not more:
            exchange.peer_gone.set()
            finished.cancel()
            break
    return read


async def _read_request(reader: asyncio.StreamReader, rest: bytes) -> tuple[Request, bytes] | None:
    connection = h11.Connection(h11.SERVER)
    if rest:  # no bytes would mean the end of the connection
        connection.receive_data(rest)
    head: h11.Request | None = None
    body: list[bytes] = []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(READ_BYTES)
            if not data and head is None:
                return None
            connection.receive_data(data)
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            version = f"HTTP/{head.http_version.decode()}"
            request = Request(
                head.method.decode(), head.target.decode(), text_headers(head.headers), b"".join(body), version
            )
            return request, connection.trailing_data[0]
        else:
            return None


def text_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Header pairs as text, names as h11 and h2 give them: in lower case."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
