"""Sessions that outlive a server's restart: what a proxy knows of each, where it is kept, and what a client missed.

Three stores keep one contract (`store.Store`): `MemoryStore`, `SqliteStore`, `RedisStore`; `ResilientStore` carries on
while one of them is away. `docs/sessions.md` is the manual.
"""

from shadowcat_core.sessions.credentials import CredentialBinder
from shadowcat_core.sessions.events import (
    Event,
    LoggedEvent,
    Missed,
    Retention,
    StreamInfo,
    event_id,
    new_stream_id,
    parse_event_id,
)
from shadowcat_core.sessions.memory_store import MemoryStore
from shadowcat_core.sessions.model import (
    ClockMs,
    Handshake,
    SessionMapping,
    SessionRecord,
    SessionTimes,
    Upstream,
    begin_session,
    new_session_id,
)
from shadowcat_core.sessions.outage import StoreReport
from shadowcat_core.sessions.redis_store import RedisStore
from shadowcat_core.sessions.resilient_store import ResilientStore
from shadowcat_core.sessions.sqlite_store import SqliteStore
from shadowcat_core.sessions.store import EventLog, Page, SessionStore, Store, wall_clock_ms

__all__ = [
    "ClockMs",
    "CredentialBinder",
    "Event",
    "EventLog",
    "Handshake",
    "LoggedEvent",
    "MemoryStore",
    "Missed",
    "Page",
    "RedisStore",
    "ResilientStore",
    "Retention",
    "SessionMapping",
    "SessionRecord",
    "SessionStore",
    "SessionTimes",
    "SqliteStore",
    "Store",
    "StoreReport",
    "StreamInfo",
    "Upstream",
    "begin_session",
    "event_id",
    "new_session_id",
    "new_stream_id",
    "parse_event_id",
    "wall_clock_ms",
]
