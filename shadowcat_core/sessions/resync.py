"""What happened while a store was away, and how the store is told when it is back. No clock, no thread."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import batched
from typing import Final

from shadowcat_core.errors import StoreFull
from shadowcat_core.limits import EVENT_LOG_EVENTS
from shadowcat_core.sessions.events import StreamInfo, event_id
from shadowcat_core.sessions.memory_store import MemoryStore
from shadowcat_core.sessions.model import SessionRecord
from shadowcat_core.sessions.store import Store

_TOGETHER: Final = 16


@dataclass(slots=True)
class Changes:
    """What changed of one session, the last word on each part."""

    subscriptions: dict[str, bool] = field(default_factory=dict)
    log_level: tuple[str | None] | None = None
    credentials: Sequence[str] = ()
    """Those it was bound to, and at last the one it is bound to."""

    def follow(self, earlier: "Changes") -> None:
        """Count in what happened before."""
        later = self.subscriptions
        self.subscriptions = {uri: on for uri, on in earlier.subscriptions.items() if uri not in later} | later
        self.log_level = self.log_level or earlier.log_level
        self.credentials = (*earlier.credentials, *self.credentials)

    def subscribe(self, uri: str, *, on: bool) -> None:
        """Note a subscription or its end, in the order of the last word."""
        self.subscriptions.pop(uri, None)
        self.subscriptions[uri] = on

    def set_level(self, level: str | None) -> None:
        """Note a log level."""
        self.log_level = (level,)

    def rebind_credential(self, expected: str, credential: str) -> None:
        """Note another credential."""
        self.credentials = (*(self.credentials or (expected,)), credential)


class Journal:
    """All that a store does not know yet: changes by session, and the sessions that ended."""

    def __init__(self) -> None:
        self.changes: dict[str, Changes] = {}
        self.ended: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self.changes) + len(self.ended)

    def of(self, session_id: str) -> Changes:
        """Note that a session changed, its mapping and streams included."""
        return self.changes.setdefault(session_id, Changes())

    def end(self, session_id: str) -> None:
        """Note that a session ended."""
        self.changes.pop(session_id, None)
        self.ended[session_id] = None

    def follow(self, earlier: "Journal") -> None:
        """Count in what happened before."""
        for session_id, changes in earlier.changes.items():
            if session_id not in self.ended:
                self.of(session_id).follow(changes)
        self.ended = earlier.ended | self.ended


async def push_all(local: MemoryStore, primary: Store) -> None:
    """Tell a store of every session and stream that is known here: it may have lost them.

    Raises:
        StoreUnavailable: it is away again; telling it once more does no harm.
    """
    cursor: str | None = None
    while True:
        page = await local.list(cursor)
        await _push_sessions(local, primary, page.records)
        cursor = page.cursor
        if cursor is None:
            return


async def push_journal(journal: Journal, local: MemoryStore, primary: Store) -> None:
    """Tell a store what happened while it was away.

    Raises:
        StoreUnavailable: likewise.
    """
    await primary.end_many(list(journal.ended))
    known = [record for record in await local.get_many(list(journal.changes)) if record is not None]
    await _push_sessions(local, primary, known)
    await _some_at_once(_push_changes(primary, session_id, changes) for session_id, changes in journal.changes.items())


async def _push_sessions(local: MemoryStore, primary: Store, records: Iterable[SessionRecord]) -> None:
    records = list(records)
    mappings = await primary.restore(records)
    with_streams: list[str] = []
    for record, mapping in zip(records, mappings, strict=True):
        if mapping is None:
            await local.end(record.session_id)
        else:
            with_streams.append(record.session_id)
            # Only where it is: what else changed here is still to be told.
            local.follow(mapping)
    await _some_at_once(_push_streams(local, primary, session_id) for session_id in with_streams)


async def _push_streams(local: MemoryStore, primary: Store, session_id: str) -> None:
    ours = await local.streams(session_id)
    if not ours:
        return
    there = {stream.stream_id: stream for stream in await primary.streams(session_id)}
    for stream in ours:
        if _is_news(stream, there.get(stream.stream_id)):
            missed = await local.after(session_id, event_id(stream.stream_id, 0), EVENT_LOG_EVENTS)
            if missed is not None:
                await primary.restore_stream(session_id, missed.stream, missed.events)


def _is_news(ours: StreamInfo, theirs: StreamInfo | None) -> bool:
    return theirs is None or ours.position > theirs.position or (ours.closed and not theirs.closed)


async def _push_changes(primary: Store, session_id: str, changes: Changes) -> None:
    for uri, on in changes.subscriptions.items():
        with suppress(StoreFull):  # another proxy's came first: the server has it, a new one will not be told
            await (primary.add_subscription if on else primary.remove_subscription)(session_id, uri)
    if changes.log_level is not None:
        await primary.set_log_level(session_id, changes.log_level[0])
    for bound in changes.credentials[:-1]:
        # Which of them the store has depends on how far it was told before.
        if await primary.rebind_credential(session_id, bound, changes.credentials[-1]):
            break


async def _some_at_once(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Await all; several at a time, so that a store far away does not make it long."""
    for some in batched(work, _TOGETHER):
        await asyncio.gather(*some)
