"""Keeps the streams of one proxy: those that are read from a server here, and the way back to any for a client.

The wire never waits for the log. `docs/sessions.md` says which step of a proxy calls what.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.jsonrpc import JsonRpcId
from shadowcat_core.resumption.event_ids import EventPlace, UpstreamMark
from shadowcat_core.resumption.log_writer import LogWriter
from shadowcat_core.resumption.remarks import READ_NO_MORE, STILL_READ
from shadowcat_core.resumption.stream import ResumableStream, StreamPurpose, UnloggedRoom
from shadowcat_core.sessions import EventLog, event_id, new_stream_id


@dataclass(slots=True)
class KeptStream:
    """A stream that this proxy has in memory. `is_read` says that bytes of the server's may still come."""

    stream: ResumableStream
    writer: LogWriter
    is_read: bool = True
    left_at: int | None = None
    """Position at the latest remark that it is read without its client; None when its client is there."""
    is_given_up: bool = False
    """True when its client goes on in another stream."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self) -> None:
        """Wake who waits for events, and write them."""
        self.changed.set()
        self.changed = asyncio.Event()
        self.writer.wake()

    def tell(self, remark: bytes) -> None:
        """Leave word for other proxies, at once: one of them may be asked for the stream in a moment."""
        self.stream.remark(remark)
        self.writer.hurry()


class StreamKeeper:
    """All streams of a proxy that clients can come back for. Belongs to one event loop.

    `on_outage` hears of each failed write to the log, `on_taken` of a stream that another proxy took over, whose client
    goes on in another one, or whose session has ended: reading it on is of no use. Events that come within `gather_s`
    are written in one step, with the opening and the closing of their stream: more than 0 for a log on disk or network.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        gather_s: float = 0.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_outage: Callable[[StoreUnavailable], object] = lambda _exc: None,
        on_taken: Callable[[ResumableStream], object] = lambda _stream: None,
        room: UnloggedRoom | None = None,
    ) -> None:
        self.log = log
        self.sleep = sleep
        self._gather_s = gather_s
        self._on_outage = on_outage
        self._on_taken = on_taken
        self._room = room or UnloggedRoom()
        self._kept: dict[tuple[str, str], KeptStream] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def unlogged_bytes(self) -> int:
        """What events that wait for the log hold in memory."""
        return self._room.used

    def open(self, session_id: str, *, epoch: int, requests: Iterable[JsonRpcId] = ()) -> ResumableStream:
        """Begin a stream: the answer to posted requests, or without any a server's own (GET)."""
        return self.keep(session_id, EventPlace(new_stream_id(), 0), epoch=epoch, purpose=StreamPurpose((*requests,)))

    def keep(
        self,
        session_id: str,
        place: EventPlace,
        *,
        epoch: int,
        purpose: StreamPurpose,
        is_opened: bool = False,
        seen: Iterable[UpstreamMark] = (),
    ) -> ResumableStream:
        """Have a stream here from `place` on. `is_opened` says that the log has it already."""
        stream = ResumableStream(session_id, place, epoch=epoch, purpose=purpose, seen=seen, room=self._room)
        writer = LogWriter(
            self.log,
            stream,
            is_opened=is_opened,
            gather_s=self._gather_s,
            sleep=self.sleep,
            on_outage=self._on_outage,
            on_taken=lambda: self._lose(stream),
            on_written=lambda: self._forget_released(stream),
        )
        kept = KeptStream(stream, writer)
        stream.on_change = kept.change
        self._kept[session_id, place.stream_id] = kept
        return stream

    def find(self, session_id: str, stream_id: str) -> KeptStream | None:
        """Find a stream here."""
        return self._kept.get((session_id, stream_id))

    def leave(self, stream: ResumableStream) -> None:
        """The client has left, and the server is still read: a client that turns up elsewhere can be told."""
        kept = self.find(stream.session_id, stream.stream_id)
        if kept is not None:
            kept.tell(STILL_READ)
            kept.left_at = stream.position

    def come_back(self, stream: ResumableStream) -> None:
        """The client is here again."""
        kept = self.find(stream.session_id, stream.stream_id)
        if kept is not None:
            kept.left_at = None

    async def is_taken(self, stream: ResumableStream) -> bool:
        """Look into the log whether another proxy has a stream by now. False while nobody can say.

        Who reads a stream finds out when it writes the next event; who connects to the server again has to ask, or
        two proxies whose server hands the stream to the latest connection take it from each other.
        """
        try:
            there = await self.log.stream_of(stream.session_id, event_id(stream.stream_id, 0))
        except StoreUnavailable:
            return False
        return there is not None and (there.closed or there.position > stream.position)

    def beat(self) -> None:
        """Say in the log which streams are still read without their clients. Call it every `READING_BEAT_S`."""
        for kept in self._kept.values():
            if kept.left_at is not None and kept.is_read:
                if kept.left_at == kept.stream.position:
                    kept.stream.remark(STILL_READ)
                kept.left_at = kept.stream.position

    def release(self, stream: ResumableStream) -> None:
        """No more bytes will come: the stream is complete, or its connection is over and nobody makes another one.

        What is not logged yet stays until it is.
        """
        kept = self.find(stream.session_id, stream.stream_id)
        if kept is None or kept.stream is not stream:
            return
        kept.is_read = False
        if stream.is_complete:
            kept.writer.close()
        elif kept.left_at is not None:
            kept.tell(READ_NO_MORE)  # else who comes back would wait for what this proxy still hears
        kept.change()

    def give_up(self, stream: ResumableStream) -> None:
        """The client goes on in another stream, from before what this one has: read and write it no more.

        Its server gives its events to the other one, mostly without a word here. Who came back for this one and waited
        in vain would miss them all.
        """
        kept = self._kept.pop((stream.session_id, stream.stream_id), None)
        if kept is None:
            return
        _stop_logging(kept)
        kept.is_given_up = True
        kept.changed.set()
        self._on_taken(stream)

    async def flush(self) -> None:
        """Wait until the log has all there is."""
        await asyncio.gather(*(kept.writer.written() for kept in self._kept.values()))

    async def aclose(self) -> None:
        """Write no more. Whoever wants the rest in the log waits for `flush` before, as long as seems good."""
        for kept in self._kept.values():
            _stop_logging(kept)
        self._kept.clear()

    def _lose(self, stream: ResumableStream) -> None:
        kept = self._kept.pop((stream.session_id, stream.stream_id), None)
        if kept is not None:
            kept.changed.set()
        self._on_taken(stream)

    def _forget_released(self, stream: ResumableStream) -> None:
        key = stream.session_id, stream.stream_id
        kept = self._kept.get(key)
        if kept is not None and not kept.is_read:
            del self._kept[key]
            stream.on_change = lambda: None  # else the two would keep each other alive until a garbage collection
            kept.changed.set()


def _stop_logging(kept: KeptStream) -> None:
    kept.writer.cancel()
    kept.stream.stop_keeping()
    kept.stream.on_change = lambda: None  # what still passes is nobody's to log
