"""Events of streams in SQLite. Each function is part of a transaction that its caller holds."""

import sqlite3
from collections.abc import Sequence

from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, Retention, StreamInfo
from shadowcat_core.sessions.sqlite_schema import STREAM, stream_of


def begin(
    database: sqlite3.Connection,
    session_id: str,
    stream: StreamInfo,
    events: Sequence[Event],
    now_ms: int,
    keeps: Retention,
) -> bool:
    """Open a stream, with its first events, and closed if `stream` is. Returns False when it has other events."""
    key = (session_id, stream.stream_id)
    open_stream(database, session_id, StreamInfo(stream.stream_id, stream.label), keeps)
    if events:
        return append(database, *key, events, 0, now_ms, keeps, closed=stream.closed)
    if stream.closed:
        close(database, *key)
    return True


def open_stream(database: sqlite3.Connection, session_id: str, stream: StreamInfo, keeps: Retention) -> None:
    """Make a stream unless it is there; one too many makes the oldest go, closed ones first."""
    place = database.execute(
        f"insert or ignore into streams (session_id, {STREAM}) values (?, ?, ?, ?, ?, ?) returning place",  # noqa: S608 -- names of columns
        (session_id, stream.stream_id, stream.label, stream.position, stream.closed, stream.upstream_event_id),
    ).fetchone()
    if place is not None:
        database.execute(
            "delete from streams where place in (select place from streams where session_id = ? and place != ? "
            "order by closed desc, place limit max(0, (select count(*) from streams where session_id = ?) - ?))",
            (session_id, place[0], session_id, keeps.max_streams),
        )


def append(
    database: sqlite3.Connection,
    session_id: str,
    stream_id: str,
    events: Sequence[Event],
    position: int,
    now_ms: int,
    keeps: Retention,
    *,
    closed: bool = False,
) -> bool:
    """Append events behind `position`, and close the stream if `closed`. Returns False when it does not end there."""
    row = database.execute(
        "select place, bytes, newest_ms from streams where session_id = ? and id = ? and position = ? and not closed",
        (session_id, stream_id, position),
    ).fetchone()
    if row is None:
        return False
    place, size, newest_ms = row
    now_ms = max(now_ms, newest_ms)
    database.executemany(
        "insert into events values (?, ?, ?, ?, ?, ?)",
        [
            (place, at, now_ms, event.size, event.upstream_id, event.data)
            for at, event in enumerate(events, position + 1)
        ],
    )
    size += sum(event.size for event in events)
    end = position + len(events)
    size -= _forget_oldest(database, place, end, size, now_ms, keeps)
    upstream_id = next((event.upstream_id for event in reversed(events) if event.upstream_id), "")
    database.execute(
        "update streams set position = ?, bytes = ?, newest_ms = ?, closed = ?, "
        "upstream_event_id = coalesce(nullif(?, ''), upstream_event_id) where place = ?",
        (end, size, now_ms, closed, upstream_id, place),
    )
    return True


def close(database: sqlite3.Connection, session_id: str, stream_id: str) -> None:
    """Take no more events for a stream."""
    database.execute("update streams set closed = 1 where session_id = ? and id = ?", (session_id, stream_id))


def _forget_oldest(database: sqlite3.Connection, place: int, end: int, size: int, now_ms: int, keeps: Retention) -> int:
    """Forget what is over a bound. Returns its bytes."""
    dropped, first = 0, 0
    oldest = database.execute("select position, size, at_ms from events where stream = ? order by position", (place,))
    for position, each, at_ms in oldest:
        over = end - position + 1 > keeps.max_events or size - dropped > keeps.max_bytes
        if not over and at_ms > now_ms - keeps.max_age_ms:
            break
        dropped += each
        first = position + 1
    oldest.close()
    if dropped:
        database.execute("delete from events where stream = ? and position < ?", (place, first))
    return dropped


def after(
    database: sqlite3.Connection, session_id: str, stream_id: str, position: int, limit: int, since_ms: int
) -> Missed | None:
    """Read what came behind `position` and not before `since_ms`."""
    stream = find(database, session_id, stream_id)
    if stream is None:
        return None
    rows = database.execute(
        "select position, data, upstream_id from events where stream = "
        "(select place from streams where session_id = ? and id = ?) and position > ? and at_ms > ? "
        "order by position limit ?",
        (session_id, stream_id, position, since_ms, limit),
    ).fetchall()
    kept = [LoggedEvent(at, Event(data, upstream_id)) for at, data, upstream_id in rows]
    next_kept = kept[0].position if kept else stream.position + 1
    return Missed(stream, kept, max(0, next_kept - position - 1))


def find(database: sqlite3.Connection, session_id: str, stream_id: str) -> StreamInfo | None:
    """Read one stream of a session."""
    row = database.execute(
        f"select {STREAM} from streams where session_id = ? and id = ?",  # noqa: S608 -- names of columns
        (session_id, stream_id),
    ).fetchone()
    return None if row is None else stream_of(row)


def restore_stream(
    database: sqlite3.Connection,
    session_id: str,
    stream: StreamInfo,
    events: Sequence[LoggedEvent],
    now_ms: int,
    keeps: Retention,
) -> None:
    """Put a stream in the place of a shorter one."""
    there = find(database, session_id, stream.stream_id)
    key = (session_id, stream.stream_id)
    if there is None or there.position < stream.position:
        database.execute("delete from streams where session_id = ? and id = ?", key)
        start = stream.position - len(events)
        open_stream(database, session_id, StreamInfo(stream.stream_id, stream.label, start), keeps)
        append(database, *key, [each.event for each in events], start, now_ms, keeps)
        database.execute(
            "update streams set upstream_event_id = ? where session_id = ? and id = ?",
            (stream.upstream_event_id, *key),
        )
    if stream.closed:
        close(database, *key)
