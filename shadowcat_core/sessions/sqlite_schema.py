"""The tables of a SQLite store, and rows as values.

What every request changes is kept apart from what is long: SQLite writes a changed row anew, whole.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from shadowcat_core.errors import StoreError
from shadowcat_core.limits import STORE_BUSY_MS
from shadowcat_core.sessions.events import StreamInfo
from shadowcat_core.sessions.model import Handshake, SessionMapping, SessionRecord, SessionTimes, Upstream

SCHEMA_VERSION: Final = 1

_TABLES: Final = """
create table sessions (
    id text primary key,
    upstream text not null,
    upstream_session text,
    epoch integer not null,
    version text not null,
    credential text not null,
    log_level text,
    created_ms integer not null,
    used_ms integer not null,
    idle_ttl_ms integer not null,
    ends_ms integer not null,
    expires_ms integer not null,
    subscription_bytes integer not null default 0
) without rowid;
create index sessions_in_order on sessions (created_ms, id);
create index sessions_by_end on sessions (expires_ms);
create index sessions_by_upstream on sessions (upstream, upstream_session);

create table handshakes (
    session_id text primary key references sessions (id) on delete cascade,
    request blob not null,
    result blob not null
);

create table subscriptions (
    place integer primary key,
    session_id text not null references sessions (id) on delete cascade,
    uri text not null,
    unique (session_id, uri)
);

create table streams (
    place integer primary key,
    session_id text not null references sessions (id) on delete cascade,
    id text not null,
    label text not null,
    position integer not null,
    bytes integer not null default 0,
    newest_ms integer not null default 0,
    closed integer not null,
    upstream_event_id text not null,
    unique (session_id, id)
);

create table events (
    stream integer not null references streams (place) on delete cascade,
    position integer not null,
    at_ms integer not null,
    size integer not null,
    upstream_id text not null,
    data blob not null,
    unique (stream, position)
);

create table ended (
    session_id text primary key,
    at_ms integer not null
) without rowid;
create index ended_in_order on ended (at_ms);
"""

MAPPING: Final = "id, upstream, upstream_session, epoch, version, credential"
RECORD: Final = f"{MAPPING}, created_ms, used_ms, idle_ttl_ms, ends_ms, log_level, request, result"
STREAM: Final = "id, label, position, closed, upstream_event_id"


def connect(path: Path) -> sqlite3.Connection:
    """Open a store's file, and make it when there is none (mode 0600: handshakes and events are in it).

    Raises:
        StoreError: the file was made by another version of this schema.
        OSError, sqlite3.Error: it cannot be opened, or is no database.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=STORE_BUSY_MS / 1000, isolation_level=None, cached_statements=256)
    try:
        connection.execute("pragma journal_mode=wal")
        # A crash of the machine may lose the last transactions, a crash of the process none; nothing gets corrupt.
        connection.execute("pragma synchronous=normal")
        connection.execute("pragma foreign_keys=on")
        connection.execute("begin immediate")
        version = connection.execute("pragma user_version").fetchone()[0]
        if version == 0:
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"pragma user_version={SCHEMA_VERSION}")
        connection.execute("commit")
        if version not in (0, SCHEMA_VERSION):
            raise StoreError(f"{path} has version {version} of the sessions' schema; this program has {SCHEMA_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def mapping_of(row: tuple[Any, ...]) -> SessionMapping:
    """Read the columns of `MAPPING`."""
    return SessionMapping(row[0], Upstream(row[1], row[2]), row[3], row[4], row[5])


def record_of(row: tuple[Any, ...], subscriptions: tuple[str, ...]) -> SessionRecord:
    """Read the columns of `RECORD`."""
    created_ms, used_ms, idle_ttl_ms, ends_ms, log_level, request, result = row[6:]
    times = SessionTimes(created_ms, used_ms, idle_ttl_ms, ends_ms - created_ms)
    return SessionRecord(mapping_of(row), Handshake(request, result), times, subscriptions, log_level)


def stream_of(row: tuple[Any, ...]) -> StreamInfo:
    """Read the columns of `STREAM`."""
    return StreamInfo(row[0], row[1], row[2], bool(row[3]), row[4])
