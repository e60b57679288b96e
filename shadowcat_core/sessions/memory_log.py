"""Events of streams in memory, bounded by stream, by age, and all together. No I/O."""

from collections import OrderedDict, deque
from collections.abc import Sequence

from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, Retention, StreamInfo


class StreamBuffer:
    """The latest events of one stream, with the moments at which they came."""

    __slots__ = ("closed", "events", "label", "newest_ms", "position", "size", "stream_id", "upstream_event_id")

    def __init__(self, stream: StreamInfo) -> None:
        self.stream_id = stream.stream_id
        self.label = stream.label
        self.position = stream.position
        self.closed = stream.closed
        self.upstream_event_id = stream.upstream_event_id
        self.events: deque[tuple[int, Event]] = deque()
        self.size = 0
        self.newest_ms = 0

    @property
    def info(self) -> StreamInfo:
        """The stream as it is now."""
        return StreamInfo(self.stream_id, self.label, self.position, self.closed, self.upstream_event_id)

    def put(self, events: Sequence[Event], now_ms: int) -> int:
        """Add events at the end. Returns the bytes they take."""
        self.newest_ms = now_ms = max(now_ms, self.newest_ms)
        size = 0
        for event in events:
            self.events.append((now_ms, event))
            size += event.size
            if event.upstream_id:
                self.upstream_event_id = event.upstream_id
        self.position += len(events)
        self.size += size
        return size

    def drop_oldest(self) -> int:
        """Forget the oldest event. Returns the bytes it took."""
        size = self.events.popleft()[1].size
        self.size -= size
        return size

    def after(self, position: int, limit: int, since_ms: int) -> Missed:
        """Read what came behind `position` and not before `since_ms`."""
        first = self.position - len(self.events) + 1
        kept = [
            LoggedEvent(at, event)
            for at, (at_ms, event) in enumerate(self.events, first)
            if at > position and at_ms > since_ms
        ]
        next_kept = kept[0].position if kept else self.position + 1
        return Missed(self.info, kept[:limit], max(0, next_kept - position - 1))


class EventMemory:
    """All streams of a store, in the order in which they were last written, so that the oldest can go first."""

    __slots__ = ("_max_total_bytes", "_written", "retention", "size")

    def __init__(self, retention: Retention, max_total_bytes: int) -> None:
        self.retention = retention
        self.size = 0
        self._max_total_bytes = int(max_total_bytes)
        self._written: OrderedDict[StreamBuffer, None] = OrderedDict()

    def put(self, buffer: StreamBuffer, events: Sequence[Event], now_ms: int) -> None:
        """Add events to one stream, and forget what is over a bound."""
        keeps = self.retention
        self.size += buffer.put(events, now_ms)
        self._written[buffer] = None
        self._written.move_to_end(buffer)
        while len(buffer.events) > keeps.max_events or buffer.size > keeps.max_bytes:
            self.size -= buffer.drop_oldest()
        since_ms = now_ms - keeps.max_age_ms
        while buffer.events and buffer.events[0][0] <= since_ms:
            self.size -= buffer.drop_oldest()
        while self._written:
            oldest = next(iter(self._written))
            if oldest.newest_ms <= since_ms:
                self.forget(oldest)
            elif self.size > self._max_total_bytes and oldest.events:
                self.size -= oldest.drop_oldest()
            elif not oldest.events:
                del self._written[oldest]
            else:
                break

    def forget(self, buffer: StreamBuffer) -> None:
        """Forget all events of a stream."""
        self.size -= buffer.size
        buffer.size = 0
        buffer.events.clear()
        self._written.pop(buffer, None)

    def open(self, streams: dict[str, StreamBuffer], stream: StreamInfo) -> StreamBuffer:
        """Begin a stream of the session that has `streams`; one too many makes the oldest go, closed ones first."""
        if len(streams) >= self.retention.max_streams:
            oldest = next((each for each in streams.values() if each.closed), None) or next(iter(streams.values()))
            self.forget(oldest)
            del streams[oldest.stream_id]
        streams[stream.stream_id] = buffer = StreamBuffer(stream)
        return buffer
