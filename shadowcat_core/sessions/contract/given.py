"""What a check of the contract is given: a store, its clock, and sessions to put into it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final

from shadowcat_core.sessions.events import Event, Retention, StreamInfo, event_id
from shadowcat_core.sessions.model import (
    ClockMs,
    Handshake,
    SessionMapping,
    SessionRecord,
    SessionTimes,
    Upstream,
    begin_session,
)
from shadowcat_core.sessions.store import Store

START_MS: Final = 1_800_000_000_000
IDLE_MS: Final = 60_000
LIFETIME_MS: Final = 600_000


class ContractBroken(AssertionError):
    """A store does not do what the contract says."""


def expect(holds: object, sentence: str) -> None:
    """Demand that something is true; `sentence` says what should be."""
    if not holds:
        raise ContractBroken(sentence)


def expect_equal(found: object, wanted: object, sentence: str) -> None:
    """Demand that two values are equal."""
    if found != wanted:
        raise ContractBroken(f"{sentence}\nfound:  {found!r}\nwanted: {wanted!r}")


class SetClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, by_ms: int) -> None:
        """Let time pass; back, too, as between two machines."""
        self.now_ms += by_ms


_SMALL: Final = Retention(max_events=5, max_bytes=2_000, max_age_ms=30_000, max_streams=3)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a check wants its store: give all three to the constructor."""

    clock_ms: ClockMs
    retention: Retention = _SMALL
    max_sessions: int = 300


type MakeStore = Callable[[Settings], AbstractAsyncContextManager[Store]]
"""Makes an empty store, and closes it behind the check."""


class Given:
    """One empty store, and words to say what a check needs."""

    def __init__(self, store: Store, settings: Settings, clock: SetClock) -> None:
        self.store = store
        self.clock = clock
        self.retention = settings.retention
        self.max_sessions = settings.max_sessions
        self._made = 0

    def record(self, upstream: Upstream | None = None, *, session_id: str | None = None) -> SessionRecord:
        """Make a session that begins now and is like no other."""
        self._made += 1
        return begin_session(
            upstream or Upstream("tools", f"upstream-{self._made}"),
            Handshake(b'{"method":"initialize","id":%d}' % self._made, b'{"result":{"\xc3\xa9\x00\xff":1}}'),
            "2025-11-25",
            credential=f"credential-{self._made}",
            times=SessionTimes.starting(self.clock(), idle_ttl_ms=IDLE_MS, lifetime_ms=LIFETIME_MS),
            session_id=session_id,
        )

    async def session(self, upstream: Upstream | None = None) -> SessionRecord:
        """Make a session and put it into the store."""
        record = self.record(upstream)
        expect(await self.store.create(record), "a session under a new id can be created")
        return record

    async def stream(self, events: int = 0) -> tuple[str, str]:
        """Make a session with one stream, `events` events long. Returns the ids of session and stream."""
        record = await self.session()
        expect(await self.store.open_stream(record.session_id, "s", "call 7"), "a stream can be opened")
        for position in range(events):
            await self.append(record.session_id, "s", position)
        return record.session_id, "s"

    async def append(self, session_id: str, stream_id: str, position: int) -> None:
        """Append the event that belongs behind `position`."""
        appended = await self.store.append(session_id, stream_id, [numbered(position + 1)], position=position)
        expect(appended, "an event can be appended behind a stream's last")

    async def missed(self, session_id: str, stream_id: str, position: int) -> tuple[list[bytes], int]:
        """Read what came behind a position: the events' data, and how many are lost."""
        missed = await self.store.after(session_id, event_id(stream_id, position))
        if missed is None:
            raise ContractBroken("what came after an event of a stream can be read")
        positions = [each.position for each in missed.events]
        first = position + missed.lost + 1
        expect_equal(positions, list(range(first, first + len(positions))), "positions have no gap behind the lost")
        return [each.event.data for each in missed.events], missed.lost


def numbered(position: int) -> Event:
    """Make the event that the checks put at a position."""
    return Event(b"event %d\n\x00\xff" % position, f"up-{position}")


def moved(mapping: SessionMapping, upstream: Upstream) -> SessionMapping:
    """What a mapping becomes when its session moves."""
    return replace(mapping, upstream=upstream, epoch=mapping.epoch + 1)


def info(stream_id: str, position: int, *, closed: bool = False, label: str = "call 7") -> StreamInfo:
    """What is known of a stream of `position` numbered events."""
    return StreamInfo(stream_id, label, position, closed, f"up-{position}" if position else "")
