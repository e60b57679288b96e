"""The contract of session stores: small atomic verbs, which every implementation means in the same way.

Rules for all verbs, and for whoever writes another store (`sessions.contract` checks them):

- Each verb is one atomic step, also among several processes. There is no `put`, so nobody overwrites unseen changes.
- A session that has expired does not exist, except for `expire` (which takes it away) and `count`.
- What does not exist is answered with None or False, never with an error, whatever text a client sent as its id.
- StoreUnavailable is raised when the store cannot be asked or did not answer. The step may then have been taken or
  not. Doing it again is safe: repeating a verb whose effect is there has no second effect.
- A verb whose caller was cancelled may still take effect.
- Time comes from one clock that the store is given. It may be another machine's next time: nothing moves back.

`docs/sessions.md` is the manual.
"""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shadowcat_core.limits import EXPIRE_BATCH_SESSIONS, MISSED_EVENTS_PAGE, SESSION_PAGE
from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, StreamInfo
from shadowcat_core.sessions.model import SessionMapping, SessionRecord, Upstream


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some of all sessions, and where to go on: `cursor` is None at the end. A page may be short, even empty."""

    records: Sequence[SessionRecord]
    cursor: str | None


class SessionStore(Protocol):
    """Sessions by the id the client holds."""

    async def create(self, record: SessionRecord) -> bool:
        """Keep a new session. Returns False when its id is taken, be it by an expired session that is still there.

        Raises:
            StoreFull: the store keeps no more sessions.
        """
        ...

    async def get(self, session_id: str) -> SessionRecord | None:
        """Read all of a session. This is no use of it."""
        ...

    async def get_many(self, session_ids: Sequence[str]) -> Sequence[SessionRecord | None]:
        """Read several sessions, in the order of the ids."""
        ...

    async def touch(self, session_id: str) -> SessionMapping | None:
        """Note a use of a session now and read its mapping: the one step that every request takes."""
        ...

    async def touch_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        """Touch several sessions, in the order of the ids."""
        ...

    async def find(self, upstream: Upstream) -> SessionMapping | None:
        """Find the session that stands for an upstream's session now. None for a server that gives no ids."""
        ...

    async def rebind(self, session_id: str, expected_epoch: int, upstream: Upstream) -> SessionMapping | None:
        """Move a session to another upstream session, if it is still in `expected_epoch`; its epoch grows by one.

        Returns the mapping now in force: with `upstream` when the move was made, with another's when somebody was
        quicker.
        """
        ...

    async def rebind_credential(self, session_id: str, expected: str, credential: str) -> bool:
        """Bind a session to another credential (a refreshed token), if it is still bound to `expected`.

        Returns True when it is bound to `credential` now.
        """
        ...

    async def add_subscription(self, session_id: str, uri: str) -> bool:
        """Remember a subscription; one that is there keeps its place. Returns False without session.

        Raises:
            StoreFull: the session's subscriptions are over `limits.MAX_SUBSCRIPTION_BYTES`; this one is not kept.
        """
        ...

    async def remove_subscription(self, session_id: str, uri: str) -> bool:
        """Forget a subscription, if it is there. Returns False without session."""
        ...

    async def set_log_level(self, session_id: str, level: str | None) -> bool:
        """Remember the log level that the client asked for. Returns False without session."""
        ...

    async def end(self, session_id: str) -> SessionMapping | None:
        """End a session, its event log with it. Of several callers one gets the mapping, the others None."""
        ...

    async def end_many(self, session_ids: Sequence[str]) -> Sequence[SessionMapping | None]:
        """End several sessions, in the order of the ids."""
        ...

    async def expire(self, limit: int = EXPIRE_BATCH_SESSIONS) -> Sequence[SessionMapping]:
        """Take away sessions that have expired, at most `limit`, so that their upstream sessions can be ended.

        Of several callers one gets each session. Fewer than `limit` does not mean that there are no more.
        """
        ...

    async def restore(self, records: Sequence[SessionRecord]) -> Sequence[SessionMapping | None]:
        """Merge what was known elsewhere while this store was away; answers in the order of the records.

        A session that is not there is kept as given. Of one that is there, the mapping of the higher epoch and the
        later use stay (of equal epochs the store's own), subscriptions and log level as they are in the store. The
        answer is the mapping in force; None for one that was ended within `limits.ENDED_SESSIONS_MS`, for one that
        has expired all the same, and for a new one where there is no room.
        """
        ...

    async def list(self, cursor: str | None = None, limit: int = SESSION_PAGE) -> Page:
        """Read sessions in order of their beginning, from where `cursor` says.

        A session that is there from the first page to the last is listed exactly once, whatever happens to others.

        Raises:
            ValueError: the cursor is none of ours, or `limit` is not positive.
        """
        ...

    async def count(self, upstream: str | None = None) -> int:
        """Count the sessions, or those of the server of this name. Expired ones count until `expire` takes them."""
        ...

    async def aclose(self) -> None:
        """Give up what the store holds. It is not used afterwards; closing twice is allowed."""
        ...


class EventLog(Protocol):
    """The events of a session's streams, for clients that come back. Bounded: see `events.Retention`."""

    async def open_stream(
        self, session_id: str, stream_id: str, label: str = "", events: Sequence[Event] = (), *, closed: bool = False
    ) -> bool:
        """Begin a stream, with its first `events` if there are any, and closed behind them if it is so short.

        One that is there stays as it is, and takes `events` only if it is open and has none. Returns False when they
        were not taken (somebody, perhaps an earlier try, wrote it before), and without session; nothing is changed
        then. Beyond `Retention.max_streams` of a session the oldest is forgotten, closed ones first.
        """
        ...

    async def append(
        self, session_id: str, stream_id: str, events: Sequence[Event], *, position: int, closed: bool = False
    ) -> bool:
        """Append events behind the one at `position`, which must be the stream's last. All are taken or none.

        With `closed` the stream is closed behind them. Returns False when it has another last position (somebody else
        writes it), is closed or unknown. The events' ids are `event_id(stream_id, position + 1)` and so on: known
        before the store has answered.
        """
        ...

    async def after(self, session_id: str, last_event_id: str, limit: int = MISSED_EVENTS_PAGE) -> Missed | None:
        """Read what came after an event, at most `limit` events. None when its stream is not one of the session."""
        ...

    async def stream_of(self, session_id: str, last_event_id: str) -> StreamInfo | None:
        """Find the stream that an event belongs to."""
        ...

    async def streams(self, session_id: str) -> Sequence[StreamInfo]:
        """List a session's streams in the order in which they were opened; empty without session."""
        ...

    async def close_stream(self, session_id: str, stream_id: str) -> bool:
        """Take no more events for a stream; what it has can still be read. Returns False when there is none."""
        ...

    async def restore_stream(self, session_id: str, stream: StreamInfo, events: Sequence[LoggedEvent]) -> bool:
        """Merge a stream that was written elsewhere: it replaces a shorter one. Returns False without session.

        `events` are the last of it, without gaps up to `stream.position`.
        """
        ...


class Store(SessionStore, EventLog, Protocol):
    """Sessions and their event logs in one place, so that they end together."""


def write_cursor(created_ms: int, session_id: str) -> str:
    """Write the cursor that goes on behind a session."""
    return base64.urlsafe_b64encode(f"{created_ms}.{session_id}".encode()).decode()


def read_cursor(cursor: str) -> tuple[int, str]:
    """Read the session that a cursor goes on behind.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        created_ms, _, session_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition(".")
        return int(created_ms), session_id
    except ValueError as exc:
        raise ValueError(f"{cursor!r} is no cursor") from exc


def check_page(limit: int) -> None:
    """Refuse a page of nothing, which would never come to an end."""
    if limit < 1:
        raise ValueError(f"a page has at least one record, not {limit}")
