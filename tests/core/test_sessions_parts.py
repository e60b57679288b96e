"""Values of sessions and event logs, the binding of credentials, and what the store in memory bounds."""

import subprocess
import sys
from pathlib import Path

import pytest

from shadowcat_core.errors import MessageTooLarge, StoreFull
from shadowcat_core.limits import MAX_HANDSHAKE_BYTES
from shadowcat_core.sessions import (
    CredentialBinder,
    Event,
    Handshake,
    MemoryStore,
    Retention,
    SessionMapping,
    SessionRecord,
    SessionTimes,
    StreamInfo,
    Upstream,
    begin_session,
    event_id,
    new_session_id,
    new_stream_id,
    parse_event_id,
    wall_clock_ms,
)
from shadowcat_core.sessions.contract import SetClock, Settings
from shadowcat_core.sessions.contract.given import IDLE_MS, Given
from shadowcat_core.sessions.model import askable
from shadowcat_core.sessions.store import read_cursor, write_cursor

TIMES = SessionTimes(1, 1)


def test_ids_are_new_and_visible_ascii_and_ours():
    ids = [make() for make in (new_session_id, new_stream_id) for _ in range(1_000)]
    assert len(set(ids)) == 2_000
    assert all(0x21 <= ord(char) <= 0x7E for each in ids for char in each)
    assert all(askable(each) == each for each in ids)
    assert len(new_session_id()) == 32
    assert len(new_stream_id()) == 22


@pytest.mark.parametrize("text", ["", "a b", "é", "\udcff", "{a}", "a" * 129, "a\n", "~"])
def test_an_id_that_is_none_of_ours_is_nobodys(text):
    assert askable(text) == "~"
    with pytest.raises(ValueError, match="no session id of a proxy"):
        SessionMapping(text, Upstream("a"), 1, "", "")


@pytest.mark.parametrize("position", [0, 1, 10**14])
def test_an_event_id_names_its_stream_and_place(position):
    stream_id = new_stream_id()
    assert parse_event_id(event_id(stream_id, position)) == (stream_id, position)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Upstream("a", ""),
        lambda: Upstream("a", "b c"),
        lambda: Upstream("a", "é"),
        lambda: Upstream("a\nb"),
        lambda: SessionMapping("a", Upstream("a"), 1, "2025\n", ""),
        lambda: SessionMapping("a", Upstream("a"), 1, "", "x\n"),
        lambda: SessionTimes(1, 1, 0, 1),
        lambda: SessionTimes(1, 1, 1, -1),
        lambda: record(("a", "b", "a")),
        lambda: Event(b"", "a\nb"),
        lambda: Event(b"", "a\0b"),
        lambda: StreamInfo(""),
        lambda: StreamInfo("a b"),
        lambda: StreamInfo("a" * 65),
        lambda: StreamInfo("a", "two\nlines"),
        lambda: Retention(max_events=0),
        lambda: Retention(max_age_ms=0),
        lambda: CredentialBinder(b"short"),
        lambda: read_cursor("no cursor"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(make):
    with pytest.raises(ValueError):  # noqa: PT011 -- each its own words
        make()


def record(subscriptions=()):
    mapping = SessionMapping("a", Upstream("u"), 1, "2025-11-25", "")
    return SessionRecord(mapping, Handshake(b"", b""), TIMES, subscriptions)


def test_a_session_stays_small():
    Handshake(b"x" * (MAX_HANDSHAKE_BYTES - 5), b"x" * 5)
    with pytest.raises(MessageTooLarge) as caught:
        Handshake(b"x" * (MAX_HANDSHAKE_BYTES - 5), b"x" * 6)
    assert (caught.value.size, caught.value.limit) == (MAX_HANDSHAKE_BYTES + 1, MAX_HANDSHAKE_BYTES)
    with pytest.raises(StoreFull, match="no more bytes of subscriptions in a session than 16,384"):
        record([f"{n}" + "x" * 1_000 for n in range(20)])


def test_a_session_expires_when_idle_or_old_whichever_is_first():
    times = SessionTimes(100, 100, 10, 25)
    assert (times.ends_ms, times.expires_ms) == (125, 110)
    assert times.used_at(90) == times
    assert times.used_at(112).expires_ms == 122
    assert times.used_at(120).expires_ms == 125


def test_a_cursor_names_the_session_it_goes_on_behind():
    assert read_cursor(write_cursor(12, "a.b-c")) == (12, "a.b-c")


def test_the_clock_is_the_walls():
    assert wall_clock_ms() > 1_700_000_000_000


def test_a_session_begins_in_its_first_epoch_under_a_new_id():
    begun = begin_session(Upstream("u", "x"), Handshake(b"a", b"b"), "2025-11-25", credential="c", times=TIMES)
    assert (begun.mapping.epoch, len(begun.session_id), begun.times.created_ms) == (1, 32, 1)
    assert begun.session_id == begun.mapping.session_id


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def memory(clock):
    return MemoryStore(clock_ms=clock, max_event_bytes=2_800)


@pytest.fixture
def given(memory, clock):
    return Given(memory, Settings(clock), clock)


async def test_all_streams_together_are_bounded_in_memory(memory, given):
    old, busy = (await given.session()).session_id, (await given.session()).session_id
    for session_id in (old, busy):
        await memory.open_stream(session_id, "s")
    await memory.append(old, "s", [Event(b"o" * 500), Event(b"p" * 500)], position=0)
    await memory.append(busy, "s", [Event(b"x" * 1_200)], position=0)
    assert await given.missed(old, "s", 0) == ([b"o" * 500, b"p" * 500], 0)
    await memory.append(busy, "s", [Event(b"y" * 200)], position=1)
    assert await given.missed(old, "s", 0) == ([b"p" * 500], 1)
    await memory.append(busy, "s", [Event(b"z" * 1_000)], position=2)
    assert await given.missed(old, "s", 0) == ([], 2)
    assert await given.missed(busy, "s", 0) == ([b"x" * 1_200, b"y" * 200, b"z" * 1_000], 0)
    await memory.append(busy, "s", [Event(b"q" * 2_900)], position=3)
    assert await given.missed(busy, "s", 0) == ([], 4)
    assert memory._events.size == 0


async def test_events_that_are_too_old_leave_memory_when_others_come(memory, given, clock):
    await given.stream(3)
    assert memory._events.size > 0
    clock.advance(memory._events.retention.max_age_ms)
    other = begin_session(
        Upstream("u"), Handshake(b"", b""), "", credential="", times=SessionTimes(clock(), clock(), 10**9, 10**9)
    )
    await memory.create(other)
    await memory.open_stream(other.session_id, "t")
    await memory.append(other.session_id, "t", [Event(b"")], position=0)
    assert memory._events.size == Event(b"").size


async def test_ended_sessions_leave_nothing_in_memory(memory, given, clock):
    for _ in range(20):
        ids = [(await given.session()).session_id for _ in range(100)]
        for session_id in ids:
            await memory.touch(session_id)
            await memory.open_stream(session_id, "s")
            await given.append(session_id, "s", 0)
        await memory.end_many(ids)
        clock.advance(IDLE_MS * 5)
    assert memory._events.size == 0
    assert len(memory._deadlines) <= 300
    assert len(memory._ended) <= 400
    held = (memory._sessions, memory._order, memory._by_upstream, memory._per_upstream)
    assert not any(held)


async def test_expiry_looks_only_at_sessions_that_may_be_over(memory, given, clock):
    for _ in range(1_000):
        await given.session()
    clock.advance(IDLE_MS - 1)
    assert await memory.expire() == []
    assert len(memory._deadlines) == 1_000


async def test_a_copy_never_goes_back_to_an_earlier_epoch(memory, given):
    first = await given.session()
    mapping = await memory.rebind(first.session_id, 1, Upstream("b", "x"))
    assert not memory.adopt(first)
    memory.follow(first.mapping)
    assert await memory.touch(first.session_id) == mapping
    full = MemoryStore(clock_ms=given.clock, max_sessions=0)
    assert not full.adopt(first)
    full.follow(first.mapping)
    assert await full.count() == 0


def test_sessions_need_no_redis_py():
    program = "import sys; sys.modules['redis'] = None; import shadowcat_core.sessions"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent.parent)
