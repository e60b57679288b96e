"""The store in memory: one proxy, gone when it ends. The default, and the measure for the others.

A touch is one look-up in a dict. Expiry needs no scan: a heap holds, for each session, a moment before which it cannot
be over; only when that has passed is the session looked at, once an idle time at most.
"""

import heapq
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence

from shadowcat_core.errors import StoreFull
from shadowcat_core.limits import (
    ENDED_SESSIONS_MS,
    EVENT_LOG_TOTAL_BYTES,
    EXPIRE_BATCH_SESSIONS,
    MAX_SESSIONS,
    MISSED_EVENTS_PAGE,
    SESSION_PAGE,
)
from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, Retention, StreamInfo, parse_event_id
from shadowcat_core.sessions.memory_log import EventMemory, StreamBuffer
from shadowcat_core.sessions.memory_session import HeldSession
from shadowcat_core.sessions.model import ClockMs, SessionMapping, SessionRecord, Upstream
from shadowcat_core.sessions.store import Page, check_page, read_cursor, wall_clock_ms, write_cursor

_STALE_DEADLINES = 64


class MemoryStore:
    """Sessions and events of one process. Belongs to one event loop."""

    def __init__(
        self,
        *,
        clock_ms: ClockMs = wall_clock_ms,
        max_sessions: int = MAX_SESSIONS,
        retention: Retention | None = None,
        max_event_bytes: int = EVENT_LOG_TOTAL_BYTES,
    ) -> None:
        self._clock_ms = clock_ms
        self._max_sessions = max_sessions
        self._sessions: dict[str, HeldSession] = {}
        self._order: list[tuple[int, str]] = []  # by beginning, for `list`
        self._deadlines: list[tuple[int, str]] = []  # heap; a session is over at its moment or later
        self._by_upstream: dict[Upstream, str] = {}
        self._per_upstream: Counter[str] = Counter()
        self._ended: dict[str, int] = {}  # when, oldest first
        self._events = EventMemory(retention or Retention(), max_event_bytes)

    async def create(self, record: SessionRecord) -> bool:
        if record.session_id in self._sessions:
            return False
        if len(self._sessions) >= self._max_sessions:
            raise StoreFull("sessions", self._max_sessions)
        self._keep(HeldSession(record))
        return True

    async def get(self, session_id: str) -> SessionRecord | None:
        session = self._living(session_id)
        return None if session is None else session.record

    async def get_many(self, session_ids: Sequence[str]) -> Sequence[SessionRecord | None]:
        return [await self.get(session_id) for session_id in session_ids]

    async def touch(self, session_id: str) -> SessionMapping | None:
        session = self._sessions.get(session_id)
        if session is None:
            return None
        return session.mapping if session.touch(self._clock_ms()) else None

    async def touch_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        return [await self.touch(session_id) for session_id in session_ids]

    async def find(self, upstream: Upstream) -> SessionMapping | None:
        session = self._living(self._by_upstream.get(upstream, ""))
        return None if session is None else session.mapping

    async def rebind(self, session_id: str, expected_epoch: int, upstream: Upstream) -> SessionMapping | None:
        session = self._living(session_id)
        if session is None:
            return None
        if session.mapping.epoch == expected_epoch:
            self._move(session, upstream, expected_epoch + 1)
        return session.mapping

    async def rebind_credential(self, session_id: str, expected: str, credential: str) -> bool:
        session = self._living(session_id)
        if session is None or session.mapping.credential not in (expected, credential):
            return False
        session.bind_credential(credential)
        return True

    async def add_subscription(self, session_id: str, uri: str) -> bool:
        session = self._living(session_id)
        if session is None:
            return False
        session.subscribe(uri)
        return True

    async def remove_subscription(self, session_id: str, uri: str) -> bool:
        session = self._living(session_id)
        if session is None:
            return False
        session.unsubscribe(uri)
        return True

    async def set_log_level(self, session_id: str, level: str | None) -> bool:
        session = self._living(session_id)
        if session is None:
            return False
        session.log_level = level
        return True

    async def end(self, session_id: str) -> SessionMapping | None:
        session = self._living(session_id)
        if session is None:
            return None
        now_ms = self._clock_ms()
        self._forget_ended(now_ms)
        self._ended[session_id] = now_ms
        return self._remove(session)

    async def end_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        return [await self.end(session_id) for session_id in session_ids]

    async def expire(self, limit: int = EXPIRE_BATCH_SESSIONS) -> Sequence[SessionMapping]:
        now_ms = self._clock_ms()
        expired: list[SessionMapping] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms and len(expired) < limit:
            _, session_id = heapq.heappop(self._deadlines)
            session = self._sessions.get(session_id)
            if session is None:
                continue
            if session.is_over(now_ms):
                expired.append(self._remove(session))
            else:
                heapq.heappush(self._deadlines, (session.expires_ms, session_id))
        return expired

    async def restore(self, records: Sequence[SessionRecord]) -> Sequence[SessionMapping | None]:
        now_ms = self._clock_ms()
        self._forget_ended(now_ms)
        return [self._restore(record, now_ms) for record in records]

    async def list(self, cursor: str | None = None, limit: int = SESSION_PAGE) -> Page:
        check_page(limit)
        start = 0 if cursor is None else bisect_right(self._order, read_cursor(cursor))
        chosen = self._order[start : start + limit]
        now_ms = self._clock_ms()
        sessions = [self._sessions[session_id] for _, session_id in chosen]
        more = start + limit < len(self._order)
        return Page(
            [session.record for session in sessions if not session.is_over(now_ms)],
            write_cursor(*chosen[-1]) if more else None,
        )

    async def count(self, upstream: str | None = None) -> int:
        return len(self._sessions) if upstream is None else self._per_upstream[upstream]

    async def open_stream(
        self, session_id: str, stream_id: str, label: str = "", events: Sequence[Event] = (), *, closed: bool = False
    ) -> bool:
        stream = StreamInfo(stream_id, label)
        session = self._living(session_id)
        if session is None:
            return False
        buffer = session.streams.get(stream_id) or self._events.open(session.streams, stream)
        if events and not self._append(buffer, events, 0):
            return False
        buffer.closed = buffer.closed or closed
        return True

    async def append(
        self, session_id: str, stream_id: str, events: Sequence[Event], *, position: int, closed: bool = False
    ) -> bool:
        buffer = self._stream(session_id, stream_id)
        if buffer is None or not self._append(buffer, events, position):
            return False
        buffer.closed = closed
        return True

    async def after(self, session_id: str, last_event_id: str, limit: int = MISSED_EVENTS_PAGE) -> Missed | None:
        check_page(limit)
        place = parse_event_id(last_event_id)
        buffer = None if place is None else self._stream(session_id, place[0])
        if place is None or buffer is None:
            return None
        return buffer.after(place[1], limit, self._clock_ms() - self._events.retention.max_age_ms)

    async def stream_of(self, session_id: str, last_event_id: str) -> StreamInfo | None:
        place = parse_event_id(last_event_id)
        buffer = None if place is None else self._stream(session_id, place[0])
        return None if buffer is None else buffer.info

    async def streams(self, session_id: str) -> Sequence[StreamInfo]:
        session = self._living(session_id)
        return [] if session is None else [buffer.info for buffer in session.streams.values()]

    async def close_stream(self, session_id: str, stream_id: str) -> bool:
        buffer = self._stream(session_id, stream_id)
        if buffer is None:
            return False
        buffer.closed = True
        return True

    async def restore_stream(self, session_id: str, stream: StreamInfo, events: Sequence[LoggedEvent]) -> bool:
        session = self._living(session_id)
        if session is None:
            return False
        there = session.streams.get(stream.stream_id)
        if there is not None:
            if there.position >= stream.position:
                there.closed = there.closed or stream.closed
                return True
            self._events.forget(there)
            del session.streams[stream.stream_id]
        buffer = self._events.open(session.streams, stream)
        buffer.position -= len(events)
        self._events.put(buffer, [each.event for each in events], self._clock_ms())
        buffer.upstream_event_id = stream.upstream_event_id
        return True

    async def aclose(self) -> None:
        self._sessions.clear()

    def follow(self, mapping: SessionMapping) -> None:
        """Move a session as another store says, unless what is here has moved on to a later epoch."""
        session = self._sessions.get(mapping.session_id)
        if session is not None and session.mapping.epoch <= mapping.epoch:
            self._move(session, mapping.upstream, mapping.epoch)

    def adopt(self, record: SessionRecord) -> bool:
        """Keep a session as another store knows it, in the place of what is here: this one is a copy, then.

        Returns False, and changes nothing, when what is here has moved on to a later epoch, or there is no room.
        """
        session = HeldSession(record)
        there = self._sessions.get(record.session_id)
        if there is not None:
            if there.mapping.epoch > record.mapping.epoch:
                return False
            session.used_ms = max(session.used_ms, there.used_ms)
            session.streams, there.streams = there.streams, {}
            self._remove(there)
        elif len(self._sessions) >= self._max_sessions:
            return False
        self._keep(session)
        return True

    def _living(self, session_id: str) -> HeldSession | None:
        session = self._sessions.get(session_id)
        return None if session is None or session.is_over(self._clock_ms()) else session

    def _stream(self, session_id: str, stream_id: str) -> StreamBuffer | None:
        session = self._living(session_id)
        return None if session is None else session.streams.get(stream_id)

    def _append(self, buffer: StreamBuffer, events: Sequence[Event], position: int) -> bool:
        if buffer.closed or buffer.position != position:
            return False
        self._events.put(buffer, events, self._clock_ms())
        return True

    def _keep(self, session: HeldSession) -> None:
        self._sessions[session.session_id] = session
        insort(self._order, (session.created_ms, session.session_id))
        # Sessions that end before their time leave their deadline behind.
        if len(self._deadlines) > 2 * len(self._sessions) + _STALE_DEADLINES:
            self._deadlines = [(each.expires_ms, each.session_id) for each in self._sessions.values()]
            heapq.heapify(self._deadlines)
        else:
            heapq.heappush(self._deadlines, (session.expires_ms, session.session_id))
        self._enlist(session)

    def _enlist(self, session: HeldSession) -> None:
        upstream = session.mapping.upstream
        self._per_upstream[upstream.name] += 1
        if upstream.session_id is not None:
            self._by_upstream[upstream] = session.session_id

    def _delist(self, session: HeldSession) -> None:
        upstream = session.mapping.upstream
        self._per_upstream[upstream.name] -= 1
        if not self._per_upstream[upstream.name]:
            del self._per_upstream[upstream.name]
        if self._by_upstream.get(upstream) == session.session_id:
            del self._by_upstream[upstream]

    def _move(self, session: HeldSession, upstream: Upstream, epoch: int) -> None:
        self._delist(session)
        session.move(upstream, epoch)
        self._enlist(session)

    def _remove(self, session: HeldSession) -> SessionMapping:
        del self._sessions[session.session_id]
        del self._order[bisect_right(self._order, (session.created_ms, session.session_id)) - 1]
        self._delist(session)
        for buffer in session.streams.values():
            self._events.forget(buffer)
        return session.mapping

    def _restore(self, record: SessionRecord, now_ms: int) -> SessionMapping | None:
        session = self._sessions.get(record.session_id)
        if session is None:
            over = record.times.expires_ms <= now_ms or record.session_id in self._ended
            if over or len(self._sessions) >= self._max_sessions:
                return None
            session = HeldSession(record)
            self._keep(session)
            return session.mapping
        session.used_ms = max(session.used_ms, record.times.used_ms)
        if record.mapping.epoch > session.mapping.epoch:
            self._move(session, record.mapping.upstream, record.mapping.epoch)
        return None if session.is_over(now_ms) else session.mapping

    def _forget_ended(self, now_ms: int) -> None:
        while self._ended:
            session_id, ended_ms = next(iter(self._ended.items()))
            if ended_ms + ENDED_SESSIONS_MS > now_ms and len(self._ended) < self._max_sessions:
                return
            del self._ended[session_id]
