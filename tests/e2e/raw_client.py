"""An HTTP/1.1 client that hides nothing: body bytes as they arrive, each piece with its time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

import h11

from tests.e2e.loopback import WITHIN_S, until_closed
from tests.e2e.origin import READ_BYTES, text_headers


@dataclass(frozen=True, slots=True)
class Arrival:
    """One piece of a body: when it came (ns, monotonic) and its bytes."""

    at_ns: int
    data: bytes


@dataclass
class Response:
    """A response whose head has come; its body is read step by step."""

    status: int
    headers: tuple[tuple[str, str], ...]
    _connection: "Connection"
    arrivals: list[Arrival] = field(default_factory=list)
    ended: bool = False
    _unread: bytearray = field(default_factory=bytearray)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    async def receive(self, size: int, *, within_s: float = WITHIN_S) -> bytes:
        """Exactly the next `size` bytes of the body; TimeoutError when they do not come, EOFError at its end."""
        async with asyncio.timeout(within_s):
            while len(self._unread) < size:
                await self._more()
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken

    async def rest(self, *, within_s: float = WITHIN_S) -> bytes:
        """Everything until the body's proper end; h11.RemoteProtocolError when it breaks off."""
        async with asyncio.timeout(within_s):
            while not self.ended:
                with contextlib.suppress(EOFError):
                    await self._more()
        taken = bytes(self._unread)
        self._unread.clear()
        return taken

    async def _more(self) -> None:
        if self.ended:
            raise EOFError("the body has ended")
        event = await self._connection.next_event()
        if isinstance(event, h11.Data):
            self.arrivals.append(Arrival(time.monotonic_ns(), bytes(event.data)))
            self._unread += event.data
        elif isinstance(event, h11.EndOfMessage):
            self.ended = True


class Connection:
    """One client connection; requests one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        """Send one whole request; Host is 127.0.0.1 and the port unless given."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.insert(0, ("Host", "{}:{}".format(*self._writer.get_extra_info("peername"))))
        if body:
            pairs.append(("Content-Length", str(len(body))))
        events = [h11.Request(method=method, target=target, headers=pairs), h11.Data(data=body), h11.EndOfMessage()]
        self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
        await self._writer.drain()

    async def response(self, *, within_s: float = WITHIN_S) -> Response:
        """The head of the answer to what was sent."""
        async with asyncio.timeout(within_s):
            head = await self.next_event()
        assert isinstance(head, h11.Response), head
        return Response(head.status_code, text_headers(head.headers), self)

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Response:
        """Send a request, wait for the head of its answer."""
        await self.send(method, target, headers, body)
        return await self.response()

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_BYTES))
        return event

    def leave(self) -> None:
        """Go away without a word, as a client does that was closed."""
        self._writer.transport.abort()

    async def be_gone(self) -> None:
        """Leave, and wait until the other side has noticed."""
        self.leave()
        await until_closed(self._writer)


@contextlib.asynccontextmanager
async def connect(port: int) -> AsyncIterator[Connection]:
    """A connection to a loopback port for the length of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()
