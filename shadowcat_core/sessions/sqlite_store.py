"""The store in a SQLite file: one machine, several processes, survives restarts.

SQL runs on one thread (`sqlite_worker`), so the event loop never waits for a disk or for another process's lock.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from shadowcat_core.errors import StoreFull
from shadowcat_core.limits import (
    ENDED_SESSIONS_MS,
    EXPIRE_BATCH_SESSIONS,
    MAX_SESSIONS,
    MAX_SUBSCRIPTION_BYTES,
    MISSED_EVENTS_PAGE,
    SESSION_PAGE,
)
from shadowcat_core.sessions import sqlite_log as log
from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, Retention, StreamInfo, parse_event_id
from shadowcat_core.sessions.model import ClockMs, SessionMapping, SessionRecord, Upstream, askable, subscription_bytes
from shadowcat_core.sessions.sqlite_schema import MAPPING, RECORD, STREAM, connect, mapping_of, record_of, stream_of
from shadowcat_core.sessions.sqlite_worker import SqliteWorker
from shadowcat_core.sessions.store import Page, check_page, read_cursor, wall_clock_ms, write_cursor

# ruff: noqa: S608 -- the only text put into statements is the names of columns

_ALIVE: Final = "id = ? and expires_ms > ?"
_GET: Final = f"select {RECORD} from sessions join handshakes on session_id = id where {_ALIVE}"
_MAP: Final = f"select {MAPPING} from sessions where {_ALIVE}"
_TOUCH: Final = (
    "update sessions set used_ms = max(used_ms, ?2), expires_ms = min(max(used_ms, ?2) + idle_ttl_ms, ends_ms) "
    f"where id = ?1 and expires_ms > ?2 returning {MAPPING}"
)
_REBIND: Final = (
    "update sessions set upstream = ?, upstream_session = ?, epoch = epoch + 1 "
    f"where {_ALIVE} and epoch = ? returning {MAPPING}"
)
_REBIND_CREDENTIAL: Final = f"update sessions set credential = ? where {_ALIVE} and credential in (?, ?)"
_END: Final = f"delete from sessions where {_ALIVE} returning {MAPPING}"
_EXPIRE: Final = (
    "delete from sessions where id in (select id from sessions where expires_ms <= ? order by expires_ms limit ?) "
    f"returning {MAPPING}"
)
_LIST: Final = (
    f"select {RECORD} from sessions join handshakes on session_id = id "
    "where (created_ms, id) > (?, ?) and expires_ms > ? order by created_ms, id limit ?"
)
_INSERT: Final = (
    f"insert or ignore into sessions ({MAPPING}, created_ms, used_ms, idle_ttl_ms, ends_ms, expires_ms, log_level) "
    "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MERGE: Final = (
    "update sessions set used_ms = max(used_ms, ?2), expires_ms = min(max(used_ms, ?2) + idle_ttl_ms, ends_ms), "
    "upstream = iif(?3 > epoch, ?4, upstream), upstream_session = iif(?3 > epoch, ?5, upstream_session), "
    "epoch = max(epoch, ?3) where id = ?1"
)


class SqliteStore:
    """Sessions and events in one file; any number of processes of one machine may use it together."""

    def __init__(
        self,
        path: Path,
        *,
        clock_ms: ClockMs = wall_clock_ms,
        max_sessions: int = MAX_SESSIONS,
        retention: Retention | None = None,
    ) -> None:
        self._clock_ms = clock_ms
        self._max_sessions = max_sessions
        self._retention = retention or Retention()
        self._worker = SqliteWorker(partial(connect, path))

    async def create(self, record: SessionRecord) -> bool:
        return await self._worker.write(lambda database: self._create(database, record))

    async def get(self, session_id: str) -> SessionRecord | None:
        return (await self.get_many([session_id]))[0]

    async def get_many(self, session_ids: Sequence[str]) -> Sequence[SessionRecord | None]:
        now_ms = self._clock_ms()

        def get(database: sqlite3.Connection) -> list[SessionRecord | None]:
            rows = [database.execute(_GET, (askable(session_id), now_ms)).fetchone() for session_id in session_ids]
            return [None if row is None else record_of(row, _subscriptions(database, row[0])) for row in rows]

        return await self._worker.read(get)

    async def touch(self, session_id: str) -> SessionMapping | None:
        now_ms = self._clock_ms()
        return await self._worker.write(lambda database: _mapping(database, _TOUCH, askable(session_id), now_ms))

    async def touch_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        now_ms = self._clock_ms()
        return await self._worker.write(
            lambda database: [_mapping(database, _TOUCH, askable(session_id), now_ms) for session_id in session_ids]
        )

    async def find(self, upstream: Upstream) -> SessionMapping | None:
        find = f"select {MAPPING} from sessions where upstream = ? and upstream_session = ? and expires_ms > ?"
        now_ms = self._clock_ms()
        return await self._worker.read(
            lambda database: _mapping(database, find, upstream.name, upstream.session_id, now_ms)
        )

    async def rebind(self, session_id: str, expected_epoch: int, upstream: Upstream) -> SessionMapping | None:
        session_id, now_ms = askable(session_id), self._clock_ms()
        move = (upstream.name, upstream.session_id, session_id, now_ms, expected_epoch)
        return await self._worker.write(
            lambda database: _mapping(database, _REBIND, *move) or _mapping(database, _MAP, session_id, now_ms)
        )

    async def rebind_credential(self, session_id: str, expected: str, credential: str) -> bool:
        return await self._change(
            _REBIND_CREDENTIAL, credential, askable(session_id), self._clock_ms(), expected, credential
        )

    async def add_subscription(self, session_id: str, uri: str) -> bool:
        return await self._within(session_id, lambda database: _subscribe(database, session_id, uri))

    async def remove_subscription(self, session_id: str, uri: str) -> bool:
        return await self._within(session_id, lambda database: _unsubscribe(database, session_id, uri))

    async def set_log_level(self, session_id: str, level: str | None) -> bool:
        return await self._change(
            f"update sessions set log_level = ? where {_ALIVE}", level, askable(session_id), self._clock_ms()
        )

    async def end(self, session_id: str) -> SessionMapping | None:
        return (await self.end_many([session_id]))[0]

    async def end_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        now_ms = self._clock_ms()

        def end(database: sqlite3.Connection) -> list[SessionMapping | None]:
            ended = [_mapping(database, _END, askable(session_id), now_ms) for session_id in session_ids]
            database.execute("delete from ended where at_ms <= ?", (now_ms - ENDED_SESSIONS_MS,))
            database.executemany(
                "insert or replace into ended values (?, ?)", [(each.session_id, now_ms) for each in ended if each]
            )
            return ended

        return await self._worker.write(end)

    async def expire(self, limit: int = EXPIRE_BATCH_SESSIONS) -> Sequence[SessionMapping]:
        now_ms = self._clock_ms()
        return await self._worker.write(
            lambda database: [mapping_of(row) for row in database.execute(_EXPIRE, (now_ms, limit)).fetchall()]
        )

    async def restore(self, records: Sequence[SessionRecord]) -> Sequence[SessionMapping | None]:
        return await self._worker.write(lambda database: [self._restore(database, record) for record in records])

    async def list(self, cursor: str | None = None, limit: int = SESSION_PAGE) -> Page:
        check_page(limit)
        start = (-(1 << 62), "") if cursor is None else read_cursor(cursor)
        now_ms = self._clock_ms()

        def read(database: sqlite3.Connection) -> list[SessionRecord]:
            rows = database.execute(_LIST, (*start, now_ms, limit)).fetchall()
            return [record_of(row, _subscriptions(database, row[0])) for row in rows]

        records = await self._worker.read(read)
        last = records[-1] if len(records) == limit else None
        return Page(records, None if last is None else write_cursor(last.times.created_ms, last.session_id))

    async def count(self, upstream: str | None = None) -> int:
        where, values = ("", ()) if upstream is None else (" where upstream = ?", (upstream,))

        def count(database: sqlite3.Connection) -> int:
            found: tuple[int] = database.execute(f"select count(*) from sessions{where}", values).fetchone()
            return found[0]

        return await self._worker.read(count)

    async def open_stream(
        self, session_id: str, stream_id: str, label: str = "", events: Sequence[Event] = (), *, closed: bool = False
    ) -> bool:
        stream, now_ms = StreamInfo(stream_id, label, closed=closed), self._clock_ms()

        def begin(database: sqlite3.Connection) -> bool:
            return _is_alive(database, session_id, now_ms) and log.begin(
                database, session_id, stream, events, now_ms, self._retention
            )

        return await self._worker.write(begin)

    async def append(
        self, session_id: str, stream_id: str, events: Sequence[Event], *, position: int, closed: bool = False
    ) -> bool:
        now_ms = self._clock_ms()

        def append(database: sqlite3.Connection) -> bool:
            return _is_alive(database, session_id, now_ms) and log.append(
                database, session_id, stream_id, events, position, now_ms, self._retention, closed=closed
            )

        return await self._worker.write(append)

    async def after(self, session_id: str, last_event_id: str, limit: int = MISSED_EVENTS_PAGE) -> Missed | None:
        check_page(limit)
        place = parse_event_id(last_event_id)
        if place is None:
            return None
        now_ms = self._clock_ms()

        def after(database: sqlite3.Connection) -> Missed | None:
            if not _is_alive(database, session_id, now_ms):
                return None
            return log.after(database, session_id, *place, limit, now_ms - self._retention.max_age_ms)

        return await self._worker.read(after)

    async def stream_of(self, session_id: str, last_event_id: str) -> StreamInfo | None:
        place = parse_event_id(last_event_id)
        if place is None:
            return None
        now_ms = self._clock_ms()
        return await self._worker.read(
            lambda database: (
                log.find(database, session_id, place[0]) if _is_alive(database, session_id, now_ms) else None
            )
        )

    async def streams(self, session_id: str) -> Sequence[StreamInfo]:
        select = f"select {STREAM} from streams where session_id = ? order by place"
        now_ms = self._clock_ms()

        def read(database: sqlite3.Connection) -> list[StreamInfo]:
            alive = _is_alive(database, session_id, now_ms)
            return [stream_of(row) for row in database.execute(select, (session_id,))] if alive else []

        return await self._worker.read(read)

    async def close_stream(self, session_id: str, stream_id: str) -> bool:
        return await self._change(
            "update streams set closed = 1 where id = ? and session_id = (select id from sessions where id = ? and "
            "expires_ms > ?)",
            stream_id,
            askable(session_id),
            self._clock_ms(),
        )

    async def restore_stream(self, session_id: str, stream: StreamInfo, events: Sequence[LoggedEvent]) -> bool:
        now_ms = self._clock_ms()
        return await self._within(
            session_id,
            lambda database: log.restore_stream(database, session_id, stream, events, now_ms, self._retention),
        )

    async def aclose(self) -> None:
        await self._worker.aclose()

    async def _change(self, statement: str, *values: str | int | None) -> bool:
        """Run an update. Returns True when there was something to update."""
        return await self._worker.write(lambda database: database.execute(statement, values).rowcount > 0)

    async def _within(self, session_id: str, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Do some work if the session is there. Returns whether it is."""
        now_ms = self._clock_ms()

        def run(database: sqlite3.Connection) -> bool:
            if not _is_alive(database, session_id, now_ms):
                return False
            work(database)
            return True

        return await self._worker.write(run)

    def _create(self, database: sqlite3.Connection, record: SessionRecord) -> bool:
        if database.execute("select 1 from sessions where id = ?", (record.session_id,)).fetchone():
            return False
        if not self._has_room(database):
            raise StoreFull("sessions", self._max_sessions)
        _insert(database, record)
        return True

    def _restore(self, database: sqlite3.Connection, record: SessionRecord) -> SessionMapping | None:
        now_ms = self._clock_ms()
        mapping, times = record.mapping, record.times
        upstream = mapping.upstream
        merge = (record.session_id, times.used_ms, mapping.epoch, upstream.name, upstream.session_id)
        if not database.execute(_MERGE, merge).rowcount:
            ended = database.execute(
                "select 1 from ended where session_id = ? and at_ms > ?",
                (record.session_id, now_ms - ENDED_SESSIONS_MS),
            ).fetchone()
            if ended or times.expires_ms <= now_ms or not self._has_room(database):
                return None
            _insert(database, record)
        return _mapping(database, _MAP, record.session_id, now_ms)

    def _has_room(self, database: sqlite3.Connection) -> bool:
        found: tuple[int] = database.execute("select count(*) from sessions").fetchone()
        return found[0] < self._max_sessions


def _is_alive(database: sqlite3.Connection, session_id: str, now_ms: int) -> bool:
    return (
        database.execute(f"select 1 from sessions where {_ALIVE}", (askable(session_id), now_ms)).fetchone() is not None
    )


def _mapping(database: sqlite3.Connection, statement: str, *values: str | int | None) -> SessionMapping | None:
    row = database.execute(statement, values).fetchone()
    return None if row is None else mapping_of(row)


def _subscriptions(database: sqlite3.Connection, session_id: str) -> tuple[str, ...]:
    rows = database.execute("select uri from subscriptions where session_id = ? order by place", (session_id,))
    return tuple(uri for (uri,) in rows)


def _insert(database: sqlite3.Connection, record: SessionRecord) -> None:
    mapping, times, upstream = record.mapping, record.times, record.mapping.upstream
    database.execute(
        _INSERT,
        (
            *(mapping.session_id, upstream.name, upstream.session_id, mapping.epoch, mapping.protocol_version),
            *(mapping.credential, times.created_ms, times.used_ms, times.idle_ttl_ms, times.ends_ms),
            *(times.expires_ms, record.log_level),
        ),
    )
    handshake = record.handshake
    database.execute(
        "insert into handshakes values (?, ?, ?)", (mapping.session_id, handshake.request, handshake.result)
    )
    for uri in record.subscriptions:
        _subscribe(database, mapping.session_id, uri)


def _subscribe(database: sqlite3.Connection, session_id: str, uri: str) -> None:
    key, size = (session_id, uri), subscription_bytes(uri)
    if database.execute("select 1 from subscriptions where session_id = ? and uri = ?", key).fetchone():
        return
    kept = database.execute(
        "update sessions set subscription_bytes = subscription_bytes + ?1 "
        "where id = ?2 and subscription_bytes + ?1 <= ?3",
        (size, session_id, int(MAX_SUBSCRIPTION_BYTES)),
    ).rowcount
    if not kept:
        raise StoreFull("bytes of subscriptions in a session", MAX_SUBSCRIPTION_BYTES)
    database.execute("insert into subscriptions (session_id, uri) values (?, ?)", key)


def _unsubscribe(database: sqlite3.Connection, session_id: str, uri: str) -> None:
    gone = database.execute("delete from subscriptions where session_id = ? and uri = ?", (session_id, uri)).rowcount
    if gone:
        database.execute(
            "update sessions set subscription_bytes = subscription_bytes - ? where id = ?",
            (subscription_bytes(uri), session_id),
        )
