"""Requests on a route that ask for another protocol, WebSocket above all, before servers that fail at first."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Message, Request, TextMessage

from tests.e2e.origin import WITHIN_S
from tests.e2e.proxies import Proxies
from tests.e2e.relay_lanes import Lane, Lanes

READ_BYTES = 65_536
FAILURES = {"": b"", "breaks off": b"", "503": b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n"}
OTHER = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: other/1\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other/1\r\n\r\n"


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("upgrades")
    with Proxies(folder) as proxies:
        yield Lanes(folder, {"plain": ({"retry": {"patience_s": 1}}, 12)}).run(proxies)


class Peer:
    """One end of a WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: ConnectionType):
        self._reader, self._writer = reader, writer
        self._ws = WSConnection(kind)
        self._events: list[Event] = []

    async def send(self, event: Event) -> None:
        self._writer.write(self._ws.send(event))
        await self._writer.drain()

    async def next(self) -> Event:
        async with asyncio.timeout(WITHIN_S):
            while not self._events:
                self._ws.receive_data(await self._reader.read(READ_BYTES) or None)
                self._events += self._ws.events()
        return self._events.pop(0)

    def feed(self, data: bytes) -> None:
        self._ws.receive_data(data)
        self._events += self._ws.events()


class Upgraders:
    """The servers of a lane: the first request that comes to either fails, the next is upgraded and given to a test."""

    def __init__(self, failure: str):
        self._failures: list[str] = [failure] if failure else []
        self.upgraded: asyncio.Queue[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._over = asyncio.Event()

    @asynccontextmanager
    async def listening(self, lane: Lane) -> AsyncIterator["Upgraders"]:
        async with AsyncExitStack() as stack:
            for server in (lane.a, lane.b):
                await stack.enter_async_context(await asyncio.start_server(self._serve, "127.0.0.1", server.port))
            yield self
            self._over.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if self._failures:
                writer.write(FAILURES[self._failures.pop()])
                await writer.drain()
                return
            self.upgraded.put_nowait((head, reader, writer))
            await self._over.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the proxy has taken its connection back
        finally:
            writer.close()

    async def next(self) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(WITHIN_S):
            return await self.upgraded.get()


@asynccontextmanager
async def client_of(lane: Lane) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", lane.proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("closes", ["client", "server"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_websocket_works_whichever_attempt_began_it(lanes: Lanes, failure: str, closes: str):
    async with (
        lanes.lane() as lane,
        Upgraders(failure).listening(lane) as servers,
        client_of(lane) as (reader, writer),
    ):
        client = Peer(reader, writer, ConnectionType.CLIENT)
        await client.send(Request(host="127.0.0.1", target=lane.path))
        head, *streams = await servers.next()
        server = Peer(*streams, ConnectionType.SERVER)
        server.feed(head)
        assert isinstance(await server.next(), Request)
        await server.send(AcceptConnection())
        assert isinstance(await client.next(), AcceptConnection)
        said: list[Message[Any]] = [TextMessage("hello"), BytesMessage(b"\x00" * 100_000), TextMessage("bye")]
        for one, other in ((client, server), (server, client)):
            for message in said:
                await one.send(message)
                assert await whole(other) == message.data
        one, other = (client, server) if closes == "client" else (server, client)
        await one.send(CloseConnection(1000, "done"))
        closing = await other.next()
        assert isinstance(closing, CloseConnection)
        assert closing.code == 1000


async def whole(peer: Peer) -> Any:
    """A message, put together of its pieces."""
    data: Any = None
    while True:
        event = await peer.next()
        assert isinstance(event, Message), event
        data = event.data if data is None else data + event.data
        if event.message_finished:
            return data


@pytest.mark.parametrize("failure", FAILURES)
async def test_another_protocol_works_whichever_attempt_began_it(lanes: Lanes, failure: str):
    async with (
        lanes.lane() as lane,
        Upgraders(failure).listening(lane) as servers,
        client_of(lane) as (reader, writer),
        asyncio.timeout(WITHIN_S),
    ):
        writer.write(OTHER % lane.path.encode())
        _, its_reader, its_writer = await servers.next()
        its_writer.write(SWITCHED)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        for one, other in ((writer, its_reader), (its_writer, reader)):
            one.write(b"ping")
            assert await other.readexactly(4) == b"ping"
        its_writer.close()
        assert await reader.read() == b""


async def test_an_upgrade_that_no_server_takes_is_answered(lanes: Lanes):
    async with lanes.lane() as lane, client_of(lane) as (reader, writer), asyncio.timeout(WITHIN_S):
        writer.write(OTHER % lane.path.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
