"""Carry on while the store is away: fail open. Who wants to fail closed uses the store as it is.

Beside the store, a copy in memory follows the sessions that this proxy serves. When the store does not answer, the copy
goes on alone: sessions served here live, new ones begin, events are logged. When the store is back it is told of all of
it, and of what it has lost itself, before anybody asks it again. Where two proxies went on with one session each, the
higher epoch wins; of equal ones, what the store has.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import (
    EXPIRE_BATCH_SESSIONS,
    MISSED_EVENTS_PAGE,
    SESSION_PAGE,
    STORE_RETRY_MS,
)
from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, StreamInfo, event_id
from shadowcat_core.sessions.memory_store import MemoryStore
from shadowcat_core.sessions.model import ClockMs, SessionMapping, SessionRecord, Upstream
from shadowcat_core.sessions.outage import Outage, StoreReport, lost
from shadowcat_core.sessions.resync import Changes
from shadowcat_core.sessions.store import Page, Store, wall_clock_ms


class ResilientStore:
    """A store with a copy in memory. Its verbs raise StoreUnavailable only for a session that is not known here.

    While the store is away `find`, `list`, `count`, `expire` and the batch forms speak of what is known here.
    `on_report` hears of an outage at once, then once a minute, and of its end. `sleep` takes seconds.
    """

    def __init__(
        self,
        primary: Store,
        *,
        on_report: Callable[[StoreReport], None],
        local: MemoryStore | None = None,
        clock_ms: ClockMs = wall_clock_ms,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        retry_ms: int = STORE_RETRY_MS,
    ) -> None:
        self._primary = primary
        self._local = local or MemoryStore(clock_ms=clock_ms)
        self._looked_at: str | None = None
        self._outage = Outage(
            primary, self._local, on_report=on_report, clock_ms=clock_ms, sleep=sleep, retry_ms=retry_ms
        )

    @property
    def is_away(self) -> bool:
        """True while the copy goes on alone."""
        return self._outage.is_on

    @property
    def report_failures(self) -> int:
        """How often `on_report` raised."""
        return self._outage.report_failures

    async def create(self, record: SessionRecord) -> bool:
        if await self._outage.is_over():
            try:
                created = await self._primary.create(record)
            except StoreUnavailable as exc:
                self._outage.begin(exc)
            else:
                if created:
                    self._local.adopt(record)
                return created
        created = await self._local.create(record)
        if created:
            self._outage.journal.of(record.session_id)
        return created

    async def get(self, session_id: str) -> SessionRecord | None:
        if await self._outage.is_over():
            try:
                record = await self._copy(session_id)
                if record is not None or not await self._has_lost(session_id):
                    return record
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        await self._demand(session_id)
        return await self._local.get(session_id)

    async def get_many(self, session_ids: Sequence[str]) -> Sequence[SessionRecord | None]:
        return await self._read(lambda store: store.get_many(session_ids))

    async def touch(self, session_id: str) -> SessionMapping | None:
        if await self._outage.is_over():
            try:
                mapping = await self._primary.touch(session_id)
                if mapping is not None and await self._local.touch(session_id) != mapping:
                    await self._copy(session_id)
                if mapping is not None or not await self._has_lost(session_id):
                    return mapping
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        await self._demand(session_id)
        return await self._local.touch(session_id)

    async def touch_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        mappings = await self._read(lambda store: store.touch_many(session_ids))
        if not self.is_away:
            await self._local.touch_many(session_ids)
        return mappings

    async def find(self, upstream: Upstream) -> SessionMapping | None:
        return await self._read(lambda store: store.find(upstream))

    async def rebind(self, session_id: str, expected_epoch: int, upstream: Upstream) -> SessionMapping | None:
        if await self._outage.is_over():
            try:
                mapping = await self._primary.rebind(session_id, expected_epoch, upstream)
                if mapping is not None:
                    await self._copy(session_id)
                if mapping is not None or not await self._has_lost(session_id):
                    return mapping
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        await self._demand(session_id)
        mapping = await self._local.rebind(session_id, expected_epoch, upstream)
        self._outage.journal.of(session_id)
        return mapping

    async def rebind_credential(self, session_id: str, expected: str, credential: str) -> bool:
        return await self._change(
            session_id,
            lambda store: store.rebind_credential(session_id, expected, credential),
            lambda changes: changes.rebind_credential(expected, credential),
        )

    async def add_subscription(self, session_id: str, uri: str) -> bool:
        return await self._change(
            session_id,
            lambda store: store.add_subscription(session_id, uri),
            lambda changes: changes.subscribe(uri, on=True),
        )

    async def remove_subscription(self, session_id: str, uri: str) -> bool:
        return await self._change(
            session_id,
            lambda store: store.remove_subscription(session_id, uri),
            lambda changes: changes.subscribe(uri, on=False),
        )

    async def set_log_level(self, session_id: str, level: str | None) -> bool:
        return await self._change(
            session_id, lambda store: store.set_log_level(session_id, level), lambda changes: changes.set_level(level)
        )

    async def end(self, session_id: str) -> SessionMapping | None:
        if await self._outage.is_over():
            try:
                mapping = await self._primary.end(session_id)
                if mapping is not None or not await self._has_lost(session_id):
                    await self._local.end(session_id)
                    return mapping
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        await self._demand(session_id)
        return await self._end_here(session_id)

    async def end_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        if await self._outage.is_over():
            try:
                mappings = await self._primary.end_many(session_ids)
            except StoreUnavailable as exc:
                self._outage.begin(exc)
            else:
                await self._local.end_many(session_ids)
                return mappings
        return [await self._end_here(session_id) for session_id in session_ids]

    async def expire(self, limit: int = EXPIRE_BATCH_SESSIONS) -> Sequence[SessionMapping]:
        if await self._outage.is_over():
            try:
                expired = await self._primary.expire(limit)
            except StoreUnavailable as exc:
                self._outage.begin(exc)
            else:
                # The copy's idea of idleness is its own: what goes here may live on elsewhere.
                await self._local.end_many([mapping.session_id for mapping in expired])
                await self._local.expire(limit)
                await self._look_at_one()
                return expired
        return await self._local.expire(limit)

    async def _look_at_one(self) -> None:
        """See whether the store has one of the sessions here, another each time: nobody may use those that it lost."""
        page = await self._local.list(self._looked_at, 1)
        self._looked_at = page.cursor
        for record in page.records:
            await self.get(record.session_id)

    async def restore(self, records: Sequence[SessionRecord]) -> Sequence[SessionMapping | None]:
        if await self._outage.is_over():
            try:
                return await self._primary.restore(records)
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        mappings = await self._local.restore(records)
        for mapping in mappings:
            if mapping is not None:
                self._outage.journal.of(mapping.session_id)
        return mappings

    async def list(self, cursor: str | None = None, limit: int = SESSION_PAGE) -> Page:
        return await self._read(lambda store: store.list(cursor, limit))

    async def count(self, upstream: str | None = None) -> int:
        return await self._read(lambda store: store.count(upstream))

    async def open_stream(
        self, session_id: str, stream_id: str, label: str = "", events: Sequence[Event] = (), *, closed: bool = False
    ) -> bool:
        return await self._change(
            session_id, lambda store: store.open_stream(session_id, stream_id, label, events, closed=closed)
        )

    async def append(
        self, session_id: str, stream_id: str, events: Sequence[Event], *, position: int, closed: bool = False
    ) -> bool:
        if await self._outage.is_over():
            try:
                appended = await self._primary.append(session_id, stream_id, events, position=position, closed=closed)
                if appended:
                    await self._follow(session_id, stream_id, events, position, closed=closed)
                if appended or not await self._has_lost_stream(session_id, stream_id, position):
                    return appended
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        await self._demand(session_id)
        self._outage.journal.of(session_id)
        if await self._local.stream_of(session_id, event_id(stream_id, 0)) is None:
            # Its events so far are in the store that is away; who writes it knows how many there were.
            await self._local.restore_stream(session_id, StreamInfo(stream_id, "", position), ())
        return await self._local.append(session_id, stream_id, events, position=position, closed=closed)

    async def after(self, session_id: str, last_event_id: str, limit: int = MISSED_EVENTS_PAGE) -> Missed | None:
        return await self._read_of(session_id, lambda store: store.after(session_id, last_event_id, limit))

    async def stream_of(self, session_id: str, last_event_id: str) -> StreamInfo | None:
        return await self._read_of(session_id, lambda store: store.stream_of(session_id, last_event_id))

    async def streams(self, session_id: str) -> Sequence[StreamInfo]:
        return await self._read_of(session_id, lambda store: store.streams(session_id))

    async def close_stream(self, session_id: str, stream_id: str) -> bool:
        return await self._change(session_id, lambda store: store.close_stream(session_id, stream_id))

    async def restore_stream(self, session_id: str, stream: StreamInfo, events: Sequence[LoggedEvent]) -> bool:
        return await self._change(session_id, lambda store: store.restore_stream(session_id, stream, events))

    async def aclose(self) -> None:
        await self._outage.aclose()
        await self._primary.aclose()

    async def _read[T](self, verb: Callable[[Store], Awaitable[T]]) -> T:
        if await self._outage.is_over():
            try:
                return await verb(self._primary)
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        return await verb(self._local)

    async def _read_of[T](self, session_id: str, verb: Callable[[Store], Awaitable[T]]) -> T:
        if await self._outage.is_over():
            try:
                answer = await verb(self._primary)
                if answer or not await self._has_lost(session_id):
                    return answer
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        await self._demand(session_id)
        return await verb(self._local)

    async def _change(
        self,
        session_id: str,
        verb: Callable[[Store], Awaitable[bool]],
        note: Callable[[Changes], None] = lambda _: None,
    ) -> bool:
        if await self._outage.is_over():
            try:
                done = await verb(self._primary)
                if done:
                    await verb(self._local)
                if done or not await self._has_lost(session_id):
                    return done
            except StoreUnavailable as exc:
                self._outage.begin(exc)
        await self._demand(session_id)
        done = await verb(self._local)
        if done:
            note(self._outage.journal.of(session_id))
        return done

    async def _end_here(self, session_id: str) -> SessionMapping | None:
        mapping = await self._local.end(session_id)
        if mapping is not None:
            self._outage.journal.end(session_id)
        return mapping

    async def _demand(self, session_id: str) -> None:
        """Refuse to say that a session is unknown which the store might know.

        Raises:
            StoreUnavailable: it is neither known here nor was it ended here.
        """
        if session_id not in self._outage.journal.ended and await self._local.get(session_id) is None:
            raise StoreUnavailable("the session store is away, and this session is not known here")

    async def _copy(self, session_id: str) -> SessionRecord | None:
        record = await self._primary.get(session_id)
        # An answer that was under way when an outage began is older than what happened here since.
        if record is not None and not self._outage.is_on:
            self._local.adopt(record)
        return record

    async def _follow(
        self, session_id: str, stream_id: str, events: Sequence[Event], position: int, *, closed: bool
    ) -> None:
        """Append to the copy what was appended to the store; a stream begun elsewhere is followed from here on."""
        if await self._local.append(session_id, stream_id, events, position=position, closed=closed):
            return
        stream = await self._primary.stream_of(session_id, event_id(stream_id, 0))
        if stream is not None and stream.position == position + len(events):
            logged = [LoggedEvent(at, event) for at, event in enumerate(events, position + 1)]
            await self._local.restore_stream(session_id, stream, logged)

    async def _has_lost(self, session_id: str) -> bool:
        """Tell, of a session the store does not know, whether it was lost there: restarted empty, without a word.

        Then all others may be lost as well, so the store is left to be told anew. False for what was ended.
        """
        record = await self._local.get(session_id)
        if record is None or await self._primary.get(session_id) is not None:
            return False
        if (await self._primary.restore([record]))[0] is None:
            await self._local.end(session_id)
            return False
        self._outage.begin(lost("sessions"))
        return True

    async def _has_lost_stream(self, session_id: str, stream_id: str, position: int) -> bool:
        """Likewise of a stream that ends at `position` here, and earlier in the store."""
        start = event_id(stream_id, 0)
        ours = await self._local.stream_of(session_id, start)
        if ours is None or ours.closed or ours.position != position:
            return False
        theirs = await self._primary.stream_of(session_id, start)
        if theirs is not None and (theirs.closed or theirs.position >= position):
            return False
        self._outage.begin(lost("events"))
        return True
