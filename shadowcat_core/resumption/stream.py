"""One stream that a client can come back for: a server's frames in, the same frames with our ids out. Sans-I/O.

Each frame that dispatches an event or has an id takes the next position of the stream and is kept until it is logged.
Others (comments, a `retry` alone) pass as they came and are not repeated to who missed them.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, Self

from shadowcat_core.dedup import DedupWindow
from shadowcat_core.errors import InvalidMessage, MessageTooLarge
from shadowcat_core.jsonrpc import JsonRpcId, Kind, classify, dump, envelope, parse, split_array
from shadowcat_core.limits import MAX_EVENT_BYTES, UNLOGGED_BYTES, UNLOGGED_TOTAL_BYTES
from shadowcat_core.resumption.event_ids import EventPlace, UpstreamMark, carry
from shadowcat_core.resumption.frames import FrameCutter, cut_at_id, join_without_id
from shadowcat_core.sessions import Event, LoggedEvent, event_id
from shadowcat_core.sse import NO_DATA, FrameBatch, Record, SseParser, encode

_BOM: Final = b"\xef\xbb\xbf"
_ANSWERS: Final = (Kind.RESPONSE, Kind.ERROR)
_PROGRESS: Final = "notifications/progress"
_MAX_PROGRESS_BYTES: Final = 4096
_TOO_LARGE: Final = b"?"
_MAX_LABEL_BYTES: Final = 512


@dataclass(slots=True)
class UnloggedRoom:
    """Room that streams share for events which wait for the log, in bytes."""

    limit: int = int(UNLOGGED_TOTAL_BYTES)
    used: int = 0


@dataclass(frozen=True, slots=True)
class StreamPurpose:
    """What a stream is for: the answers to requests that were posted, or, without any, whatever a server sends."""

    requests: tuple[JsonRpcId, ...] = ()

    def __str__(self) -> str:
        """Write it as the label of a stream in the log."""
        ids = dump(list(self.requests)).decode()
        return f"post {ids}" if self.requests and len(ids) <= _MAX_LABEL_BYTES else "get"

    @classmethod
    def read(cls, label: str) -> Self:
        """Read a label back; one that says nothing of requests is that of a server's own stream."""
        kind, _, ids = label.partition(" ")
        try:
            told = parse(ids.encode()) if kind == "post" else []
        except InvalidMessage:
            told = []
        return cls(
            tuple(each for each in told if isinstance(each, int | float | str)) if isinstance(told, list) else ()
        )


class ResumableStream:
    """Numbers the events of one stream. The bytes may come from several connections to the server, one by one.

    `purpose` tells which answers make it complete. `on_change` hears that there are events to log, or another state.
    """

    def __init__(
        self,
        session_id: str,
        place: EventPlace,
        *,
        epoch: int,
        purpose: StreamPurpose | None = None,
        seen: Iterable[UpstreamMark] = (),
        room: UnloggedRoom | None = None,
        on_change: Callable[[], object] = lambda: None,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_unlogged_bytes: int = UNLOGGED_BYTES,
    ) -> None:
        self.session_id = session_id
        self.stream_id = place.stream_id
        self.position = place.position
        """That of the latest event."""
        self.logged = place.position
        """Up to here events need not be kept: they are in the log, or will never be."""
        self.purpose = purpose or StreamPurpose()
        self.unlogged: deque[LoggedEvent] = deque()
        self.keeps_events = True
        """Set to False when there is no log to write to any more."""
        self.left_out = 0
        """Events that were not logged for want of room."""
        self.repeats = 0
        """Events that the server repeated after it was resumed, and that were not passed on."""
        self._progress = b""
        self._has_asked = False
        self.on_change = on_change
        self.epoch = epoch
        """That of the session, in which the server's ids mean something."""
        self._mark = ""  # written out, and once more as ids carry it: each event needs both
        self._carried = b""
        self._set_mark("" if place.mark is None else str(place.mark))
        self._waiting = set(self.purpose.requests)
        self._seen = DedupWindow()
        for mark in seen:
            self._seen.seen(str(mark))
        self._room = room or UnloggedRoom()
        self._unlogged_bytes = 0
        self._max_event_bytes = max_event_bytes
        self._max_unlogged_bytes = int(max_unlogged_bytes)
        self._parser = SseParser(max_event_bytes=max_event_bytes)
        self._cut = FrameCutter().cut
        self._retry_ms: int | None = None
        self._is_resumed = False
        self._passes_unread = False

    @property
    def mark(self) -> UpstreamMark | None:
        """Where to resume at the server; None when it cannot be resumed."""
        return UpstreamMark.read(self._mark)

    @property
    def place(self) -> EventPlace:
        """Behind the latest event."""
        return EventPlace(self.stream_id, self.position, self.mark)

    @property
    def retry_ms(self) -> int | None:
        """How long the server wants to be left alone before the stream is resumed there; None: it did not say."""
        return self._retry_ms if self._parser.retry_ms is None else self._parser.retry_ms

    @property
    def passes_unread(self) -> bool:
        """True when a frame over the limit has come on this connection, which passes as it is since."""
        return self._passes_unread

    @property
    def unanswered(self) -> Collection[JsonRpcId]:
        """Ids of the requests whose answer has not come on this stream."""
        return frozenset(self._waiting)

    @property
    def is_complete(self) -> bool:
        """True when all answers are there: nobody waits for more, whatever the connection does."""
        return bool(self.purpose.requests) and not self._waiting

    @property
    def is_repeatable(self) -> bool:
        """True when another answer to the same requests could follow: its client would see nothing twice.

        Its client was asked nothing, has none of the answers, and what it heard of their progress is known.
        """
        if self._has_asked or self._progress == _TOO_LARGE or len(self._waiting) < len(self.purpose.requests):
            return False
        return not self._progress or len(self.purpose.requests) == 1

    @property
    def latest_progress(self) -> bytes:
        """The latest notification of progress that came before an answer; empty when there was none."""
        return self._progress

    @property
    def is_pressed_for_room(self) -> bool:
        """True when what waits for the log takes half of the room: it had better be written at once."""
        return 2 * self._unlogged_bytes > self._max_unlogged_bytes or 2 * self._room.used > self._room.limit

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the server's and give those to send on: whole frames, with our ids. May be empty.

        A frame over the limit makes the rest of this connection pass as it comes, the server's own ids in it, and the
        stream cannot be resumed from here: `mark` is None.
        """
        if self._passes_unread:
            return chunk
        try:
            frames = self._parser.feed(chunk)
        except MessageTooLarge:
            self._passes_unread = True
            self._set_mark("")
            return self._parser.close() + chunk
        if not frames.records:
            return b""
        before = self.position
        take = self._take
        sent = b"".join([take(frames, index, record) for index, record in enumerate(frames.records)])
        if self.position != before:
            self.on_change()
        return sent

    def end(self) -> bytes:
        """The connection to the server is over: give what is left to send of it.

        An unfinished event is no event. It goes on only if the server gave no ids, and so cannot send it again.
        """
        rest = self._parser.close()
        return b"" if self._mark else rest

    def reconnect(self, epoch: int) -> None:
        """Take the next bytes from another connection, in this epoch of the session.

        What the server sends again of what it sent in the same epoch is dropped from now on.
        """
        self._retry_ms = self.retry_ms
        self._parser = SseParser(max_event_bytes=self._max_event_bytes)
        self._is_resumed = True
        self._passes_unread = False
        if epoch != self.epoch:
            self.epoch = epoch
            self._set_mark("")

    def begin_again(self, epoch: int) -> None:
        """Take the next bytes from another answer to the same requests, whose ids have nothing to do with the first."""
        self.reconnect(epoch)
        self._set_mark("")
        self._seen = DedupWindow()

    def prime(self) -> bytes:
        """Give an event without data, so that a client can come back before the first one.

        Only for clients from protocol 2025-11-25 on: older ones take it for a broken message.
        """
        return encode(b"", id=str(self.place))

    def inject(self, message: bytes) -> bytes:
        """Give an event of our own that carries a message, such as the error for an answer that will not come."""
        raw = encode(message)
        frame = cut_at_id(raw, 0, len(raw))
        self._keep(Event(frame.without_id))
        self.note_answers(message)
        self.on_change()
        return frame.with_id(str(self.place))

    def remark(self, remark: bytes) -> None:
        """Leave word in the log for other proxies. It takes a position and is not sent."""
        self._keep(Event(remark))
        self.on_change()

    def unlogged_after(self, position: int) -> list[LoggedEvent] | None:
        """Give the events behind a position from memory; None when the log has to be asked for some of them."""
        if position >= self.position:
            return []
        if not self.unlogged or self.unlogged[0].position > position + 1:
            return None
        return [each for each in self.unlogged if each.position > position]

    def forget_unlogged(self, position: int) -> None:
        """Forget the events up to a position: they are in the log."""
        self.logged = max(self.logged, position)
        if position >= self.position:  # the usual case: the log keeps up
            self._room.used -= self._unlogged_bytes
            self._unlogged_bytes = 0
            self.unlogged.clear()
            return
        size = 0
        while self.unlogged and self.unlogged[0].position <= position:
            size += self.unlogged.popleft().event.size
        self._unlogged_bytes -= size
        self._room.used -= size

    def stop_keeping(self) -> None:
        """Keep no more events for the log."""
        self.keeps_events = False
        self.forget_unlogged(self.position)

    def note_answers(self, data: bytes) -> None:
        """Take note of the answers among the messages of an event, and of what matters if these should not come."""
        spans = [(0, len(data))]
        try:
            if data.lstrip()[:1] == b"[":
                spans = split_array(data)
            for start, end in spans:
                # A hint will do: it is wrong only about messages that contradict themselves.
                found = classify(data, start, end) or envelope(parse(data[start:end]))
                if found.method == _PROGRESS:
                    self._progress = data[start:end] if end - start <= _MAX_PROGRESS_BYTES else _TOO_LARGE
                elif found.kind is Kind.REQUEST:
                    self._has_asked = True
                elif found.kind in _ANSWERS and found.id is not None:
                    self._waiting.discard(found.id)
        except InvalidMessage:
            return  # a priming event, or what no client takes for an answer either

    def _take(self, frames: FrameBatch, index: int, record: Record) -> bytes:
        start, end, data_start, _ = record
        buffer = frames.buffer
        if data_start == NO_DATA and buffer.find(b"id", start, end) < 0:
            return self._pass(buffer[start:end])
        pieces, upstream_id = self._cut(buffer, record)
        if upstream_id:
            mark = f"{self.epoch}:{upstream_id}"
            if self._seen.seen(mark) and self._is_resumed:
                self.repeats += 1
                return b""
            self._mark = mark
            self._carried = carry(mark)
        elif upstream_id is not None:
            self._set_mark("")
        elif data_start == NO_DATA:
            return self._pass(buffer[start:end])
        if self._waiting and data_start != NO_DATA:
            self.note_answers(frames.data(index))
        self._keep(Event(join_without_id(pieces), self._mark if upstream_id else ""))
        return self._id().join(pieces)

    def _pass(self, raw: bytes) -> bytes:
        # Within a stream, where a second connection begins, a byte order mark would be part of a field's name.
        return b"" if raw == _BOM and self._is_resumed else raw

    def _set_mark(self, mark: str) -> None:
        self._mark = mark
        self._carried = carry(mark) if mark else b""

    def _id(self) -> bytes:
        """Write `place` as the id of the latest event."""
        return event_id(self.stream_id, self.position).encode() + self._carried

    def _keep(self, event: Event) -> None:
        self.position += 1
        if not self.keeps_events:
            self.logged = self.position
            return
        self.unlogged.append(LoggedEvent(self.position, event))
        size, room = event.size, self._room
        self._unlogged_bytes += size
        room.used += size
        if self._unlogged_bytes > self._max_unlogged_bytes or room.used > room.limit:
            self._leave_out()

    def _leave_out(self) -> None:
        """Leave the oldest events out of the log until the others have room."""
        room = self._room
        while self.unlogged and (self._unlogged_bytes > self._max_unlogged_bytes or room.used > room.limit):
            self.left_out += 1
            size = self.unlogged.popleft().event.size
            self._unlogged_bytes -= size
            room.used -= size
