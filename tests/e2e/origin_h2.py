"""The scripted origin's HTTP/2 side: streams of one connection, each an exchange the test plays."""

import asyncio
from collections.abc import Mapping

import h2.config
import h2.connection
import h2.errors
import h2.events

from tests.e2e.origin import EVENT_STREAM, READ_BYTES, Exchange, Framing, Origin, Request, text_headers


class Http2Exchange(Exchange):
    """An exchange on one HTTP/2 stream."""

    def __init__(self, request: Request, connection: "Http2Connection", stream_id: int):
        super().__init__(request)
        self._connection = connection
        self._stream_id = stream_id

    async def head(
        self, headers: Mapping[str, str] = EVENT_STREAM, *, status: int = 200, framing: Framing = "chunked"
    ) -> None:
        length = {"content-length": str(framing)} if isinstance(framing, int) else {}
        pairs = [(":status", str(status)), *headers.items(), *length.items()]
        self._connection.h2.send_headers(self._stream_id, pairs)
        await self._connection.flush()

    async def send(self, data: bytes) -> None:
        while data:
            room = await self._connection.room(self._stream_id)
            self._connection.h2.send_data(self._stream_id, data[:room])
            data = data[room:]
            await self._connection.flush()

    async def end(self) -> None:
        self._connection.h2.end_stream(self._stream_id)
        await self._connection.flush()
        self.finished.set()

    async def reset(self) -> None:
        self._connection.h2.reset_stream(self._stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await self._connection.flush()
        self.finished.set()


class Http2Connection:
    """One client's connection: requests in, exchanges out, flow control obeyed."""

    def __init__(self, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self._origin = origin
        self._reader = reader
        self._writer = writer
        self._heads: dict[int, h2.events.RequestReceived] = {}
        self._bodies: dict[int, bytearray] = {}
        self._exchanges: dict[int, Http2Exchange] = {}
        self._window_grew = asyncio.Event()

    async def serve(self) -> None:
        self.h2.initiate_connection()
        await self.flush()
        try:
            while data := await self._reader.read(READ_BYTES):
                for event in self.h2.receive_data(data):
                    self._handle(event)
                await self.flush()
        finally:
            for exchange in self._exchanges.values():
                exchange.peer_gone.set()

    async def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())
        await self._writer.drain()

    async def room(self, stream_id: int) -> int:
        """How many bytes may be sent on the stream now; waits until it is at least one."""
        while not (window := self.h2.local_flow_control_window(stream_id)):
            self._window_grew.clear()
            await self._window_grew.wait()
        return min(window, self.h2.max_outbound_frame_size)

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._heads[event.stream_id] = event
                self._bodies[event.stream_id] = bytearray()
            case h2.events.DataReceived():
                self._bodies[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                exchange = Http2Exchange(self._request(event.stream_id), self, event.stream_id)
                self._exchanges[event.stream_id] = exchange
                self._origin.received(exchange)
            case h2.events.StreamReset():
                if event.stream_id in self._exchanges:
                    self._exchanges[event.stream_id].peer_gone.set()
            case h2.events.WindowUpdated():
                self._window_grew.set()
            case _:
                pass  # settings, pings and priorities are answered by the library

    def _request(self, stream_id: int) -> Request:
        pairs = text_headers(self._heads.pop(stream_id).headers)
        pseudo = dict(pair for pair in pairs if pair[0].startswith(":"))
        headers = tuple(pair for pair in pairs if not pair[0].startswith(":"))
        return Request(pseudo[":method"], pseudo[":path"], headers, bytes(self._bodies.pop(stream_id)), "HTTP/2")


async def serve_h2(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The `h2` argument of `Origin`."""
    await Http2Connection(origin, reader, writer).serve()
