"""A proxy whose store is away carries on, and says so."""

from dataclasses import replace

import pytest

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import STORE_WARNING_INTERVAL_S
from shadowcat_core.sessions import Event, ResilientStore, StreamInfo, Upstream, event_id
from shadowcat_core.sessions.contract.given import IDLE_MS
from shadowcat_core.sessions.store import EventLog, SessionStore

pytest_plugins = ["tests.store_contract.fixtures"]

SHORT = {"before": 1, "on": 2, "over": 2, "meanwhile": 1}
"""Streams of a test by name, and how many events they get."""
VERBS = [name for each in (SessionStore, EventLog) for name in vars(each) if not name.startswith("_")]


async def test_while_the_store_is_away_sessions_that_are_known_live_on(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    session_id = record.session_id
    await store.open_stream(session_id, "s", "label")
    await store.append(session_id, "s", [Event(b"1"), Event(b"2", "up-2")], position=0)
    bed.primary.away = True
    assert await store.touch(session_id) == record.mapping
    assert store.is_away
    assert (await store.get(session_id)).handshake == record.handshake
    assert await store.find(record.mapping.upstream) == record.mapping
    assert await store.count() == 1
    assert [each.session_id for each in (await store.list()).records] == [session_id]
    missed = await store.after(session_id, event_id("s", 1))
    assert [each.event for each in missed.events] == [Event(b"2", "up-2")]
    assert missed.stream.label == "label"


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("fails_after", [False, True])
async def test_streams_that_are_closed_in_the_step_of_their_last_events_are_closed_on_both_sides(
    bed, fails_after, is_lost
):
    store = bed.proxy()
    session_id = (await bed.begin(store)).session_id
    assert await store.open_stream(session_id, "before", "", [Event(b"1")], closed=True)
    assert await store.open_stream(session_id, "on", "", [Event(b"1")])
    assert await store.append(session_id, "on", [Event(b"2")], position=1, closed=True)
    assert await store.open_stream(session_id, "over", "", [Event(b"1")])
    bed.primary.away, bed.primary.fails_after = not fails_after, fails_after
    assert await store.append(session_id, "over", [Event(b"2")], position=1, closed=True)
    assert store.is_away
    assert await store.open_stream(session_id, "meanwhile", "", [Event(b"1")], closed=True)
    wanted = [StreamInfo(name, "", events, closed=True) for name, events in SHORT.items()]
    assert list(await store.streams(session_id)) == wanted
    if is_lost:
        bed.primary.lose_everything()
    await bed.back()
    assert list(await bed.truth().streams(session_id)) == wanted
    for name, events in SHORT.items():
        missed = await bed.truth().after(session_id, event_id(name, 0))
        assert [each.event.data for each in missed.events] == [b"1", b"2"][:events]


async def test_what_happens_while_the_store_is_away_reaches_it_afterwards(bed):
    store = bed.proxy()
    kept, ended = await bed.begin(store), await bed.begin(store)
    await store.add_subscription(kept.session_id, "file:///old")
    await store.open_stream(kept.session_id, "s")
    await store.append(kept.session_id, "s", [Event(b"1")], position=0)
    bed.primary.away = True
    bed.clock.advance(1_000)
    await store.touch(kept.session_id)
    moved = await store.rebind(kept.session_id, 1, Upstream("b", "new"))
    moved = await store.rebind(kept.session_id, 2, Upstream("b", "newer"))
    assert moved.epoch == 3
    assert await store.rebind_credential(kept.session_id, kept.mapping.credential, "second")
    assert await store.rebind_credential(kept.session_id, "second", "third")
    await store.add_subscription(kept.session_id, "file:///new")
    await store.add_subscription(kept.session_id, "file:///both")
    await store.remove_subscription(kept.session_id, "file:///both")
    await store.remove_subscription(kept.session_id, "file:///old")
    await store.set_log_level(kept.session_id, "error")
    assert await store.append(kept.session_id, "s", [Event(b"2"), Event(b"3", "up-3")], position=1)
    assert await store.open_stream(kept.session_id, "t", "second")
    assert await store.append(kept.session_id, "t", [Event(b"t1")], position=0)
    assert await store.close_stream(kept.session_id, "t")
    new = await bed.begin(store)
    assert await store.end(ended.session_id) == ended.mapping
    assert await store.end(ended.session_id) is None
    ours, streams = await store.get(kept.session_id), await store.streams(kept.session_id)
    await bed.back()
    truth = bed.truth()
    assert await truth.get(kept.session_id) == ours
    assert ours.mapping.credential == "third"
    assert ours.subscriptions == ("file:///new",)
    assert await truth.streams(kept.session_id) == streams
    missed = await truth.after(kept.session_id, event_id("s", 0))
    assert [each.event.data for each in missed.events] == [b"1", b"2", b"3"]
    assert await truth.get(new.session_id) == new
    assert await truth.get(ended.session_id) is None
    assert await truth.restore([ended]) == [None]
    assert await truth.find(Upstream("b", "newer")) == ours.mapping


async def test_a_session_that_the_store_may_know_and_the_proxy_does_not_is_not_called_unknown(bed):
    elsewhere, here = bed.proxy(), bed.proxy()
    record = await bed.begin(elsewhere)
    bed.primary.away = True
    session_id = record.session_id
    for asking in (
        here.touch(session_id),
        here.get(session_id),
        here.end(session_id),
        here.rebind(session_id, 1, Upstream("b")),
        here.set_log_level(session_id, "info"),
        here.append(session_id, "s", [], position=0),
        here.after(session_id, "s.1"),
        here.streams(session_id),
        here.stream_of(session_id, "s.1"),
    ):
        with pytest.raises(StoreUnavailable, match="not known here"):
            await asking
    assert await elsewhere.touch(session_id) == record.mapping
    await bed.back()
    assert await here.touch(session_id) == record.mapping


async def test_a_session_that_another_proxy_began_is_known_once_it_was_used_here(bed):
    elsewhere, here = bed.proxy(), bed.proxy()
    record = await bed.begin(elsewhere)
    await elsewhere.open_stream(record.session_id, "s", "label")
    await elsewhere.append(record.session_id, "s", [Event(b"1")], position=0)
    assert await here.touch(record.session_id) == record.mapping
    assert await here.append(record.session_id, "s", [Event(b"2")], position=1)
    mapping = await elsewhere.rebind(record.session_id, 1, Upstream("b", "x"))
    assert await here.touch(record.session_id) == mapping
    bed.primary.away = True
    assert await here.touch(record.session_id) == mapping
    missed = await here.after(record.session_id, event_id("s", 0))
    assert ([each.event.data for each in missed.events], missed.lost) == ([b"2"], 1)
    assert missed.stream.label == "label"


async def test_a_stream_that_began_elsewhere_is_written_on_while_the_store_is_away(bed):
    elsewhere, here = bed.proxy(), bed.proxy()
    record = await bed.begin(elsewhere)
    await elsewhere.open_stream(record.session_id, "s")
    await elsewhere.append(record.session_id, "s", [Event(b"1"), Event(b"2")], position=0)
    await here.touch(record.session_id)
    bed.primary.away = True
    assert await here.append(record.session_id, "s", [Event(b"3")], position=2)
    assert not await here.append(record.session_id, "s", [Event(b"x")], position=2)
    await bed.back()
    stream = await bed.truth().stream_of(record.session_id, event_id("s", 0))
    assert stream.position == 3
    assert await elsewhere.append(record.session_id, "s", [Event(b"4")], position=3)


async def test_a_writer_that_is_behind_is_refused_as_ever(bed):
    one, other = bed.proxy(), bed.proxy()
    record = await bed.begin(one)
    await one.open_stream(record.session_id, "s")
    await one.append(record.session_id, "s", [Event(b"1")], position=0)
    await other.touch(record.session_id)
    assert await other.append(record.session_id, "s", [Event(b"2")], position=1)
    assert not await one.append(record.session_id, "s", [Event(b"also 2")], position=1)
    await one.close_stream(record.session_id, "s")
    assert not await other.append(record.session_id, "s", [Event(b"3")], position=2)
    assert not one.is_away
    assert not other.is_away


async def test_an_outage_is_reported_at_once_then_once_a_minute_and_at_its_end(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    bed.primary.away = True
    for _ in range(50):
        await store.touch(record.session_id)
    await bed.settle()
    assert [(str(report.error), report.away_ms) for report in bed.reports] == [("away", 0)]
    assert [seconds for seconds, _ in bed.sleepers] == [1.0]
    for _ in range(STORE_WARNING_INTERVAL_S * 2):
        await bed.wake()
        await store.touch(record.session_id)
    assert [report.away_ms for report in bed.reports] == [0, 60_000, 120_000]
    await store.set_log_level(record.session_id, "info")
    await bed.back()
    last = bed.reports[-1]
    assert (last.error, last.away_ms, last.waiting) == (None, 121_000, 0)


async def test_nobody_waits_for_a_store_that_is_known_to_be_away(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    bed.primary.away = True
    await store.touch(record.session_id)
    await bed.settle()
    bed.primary.asked.clear()
    for _ in range(10):
        await store.touch(record.session_id)
    assert bed.primary.asked == []


async def test_the_copy_forgets_what_expired(bed):
    store = bed.proxy()
    await bed.begin(store)
    bed.clock.advance(IDLE_MS)
    assert len(await store.expire()) == 1
    record = await bed.begin(store)
    bed.primary.away = True
    assert await store.expire() == []
    bed.clock.advance(IDLE_MS)
    assert await store.expire() == [record.mapping]
    assert await store.count() == 0


async def test_batches_while_the_store_is_away_speak_of_what_is_known(bed):
    store = bed.proxy()
    first, second = await bed.begin(store), await bed.begin(store)
    ids = [first.session_id, "nobody", second.session_id]
    assert await store.touch_many(ids) == [first.mapping, None, second.mapping]
    bed.primary.away = True
    assert await store.get_many(ids) == [first, None, second]
    assert await store.touch_many(ids) == [first.mapping, None, second.mapping]
    later = replace(bed.given.record(), log_level="info")
    assert await store.restore([later]) == [later.mapping]
    assert await store.end_many(ids) == [first.mapping, None, second.mapping]
    await bed.back()
    assert [record.session_id for record in (await bed.truth().list()).records] == [later.session_id]


async def test_closing_tries_once_more_to_tell_the_store(bed):
    store, hopeless = bed.proxy(), bed.proxy()
    known = await bed.begin(hopeless)
    bed.primary.away = True
    record = await bed.begin(store)
    await hopeless.touch(known.session_id)
    await bed.settle()
    await hopeless.aclose()
    assert bed.reports[-1].error is not None
    bed.primary.away = False
    await store.aclose()
    assert await bed.truth().get(record.session_id) == record
    assert bed.primary.closed


async def test_a_report_that_cannot_be_delivered_breaks_nothing(bed):
    def fail(report):
        raise RuntimeError("no room in the log")

    store = ResilientStore(bed.primary, on_report=fail, clock_ms=bed.clock, sleep=bed.sleep)
    bed.proxies.append(store)
    record = await bed.begin(store)
    bed.primary.away = True
    assert await store.touch(record.session_id) == record.mapping
    await bed.back()
    assert store.report_failures == 2


def test_every_verb_of_the_contract_is_there():
    for verb in VERBS:
        assert verb in vars(ResilientStore), verb
