"""A small HTTP/2 client that can take back one request of its connection and leave the others alone."""

import asyncio
import contextlib
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping

import h2.connection
import h2.errors
import h2.events

from tests.e2e.origin import READ_BYTES, WITHIN_S


class Http2Client:
    """One connection. Bodies are gathered by stream as they arrive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer
        self._h2 = h2.connection.H2Connection()
        self._h2.initiate_connection()
        self._bodies: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.over: set[int] = set()
        """Streams that the other side has ended or reset."""

    async def post(self, target: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a request and give its stream."""
        stream = self._h2.get_next_available_stream_id()
        pseudo = {":method": "POST", ":path": target, ":scheme": "https", ":authority": "127.0.0.1"}
        self._h2.send_headers(stream, [*pseudo.items(), *((name.lower(), value) for name, value in headers.items())])
        self._h2.send_data(stream, body, end_stream=True)
        await self._flush()
        return stream

    async def receive(self, stream: int, size: int) -> bytes:
        """Exactly the next `size` bytes of a stream's body."""
        async with asyncio.timeout(WITHIN_S):
            while len(self._bodies[stream]) < size:
                await self._more()
        taken = bytes(self._bodies[stream][:size])
        del self._bodies[stream][:size]
        return taken

    async def rest(self, stream: int) -> bytes:
        """Everything until the stream is over."""
        async with asyncio.timeout(WITHIN_S):
            while stream not in self.over:
                await self._more()
        return bytes(self._bodies.pop(stream))

    async def take_back(self, stream: int) -> None:
        """Want no answer any more."""
        self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        await self._flush()

    async def _more(self) -> None:
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise EOFError("the connection is closed")
        for event in self._h2.receive_data(data):
            match event:
                case h2.events.DataReceived():
                    self._bodies[event.stream_id] += event.data
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self.over.add(event.stream_id)
                case _:
                    pass  # settings and pings are answered by the library
        await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()


@contextlib.asynccontextmanager
async def connect_h2(port: int, tls: ssl.SSLContext) -> AsyncIterator[Http2Client]:
    """An HTTP/2 connection over TLS to a loopback port for the length of the block."""
    tls.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1")
    try:
        yield Http2Client(reader, writer)
    finally:
        writer.transport.abort()
