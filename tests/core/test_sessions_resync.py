"""When a store is back it is told of what happened, and of what it has lost itself."""

import asyncio

import pytest

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.sessions import Event, MemoryStore, Upstream, event_id
from tests.store_contract.outage_bed import Unreliable

pytest_plugins = ["tests.store_contract.fixtures"]


async def test_an_ended_session_does_not_come_back(bed):
    one, other = bed.proxy(), bed.proxy()
    record = await bed.begin(one)
    await other.touch(record.session_id)
    assert await one.end(record.session_id) == record.mapping
    assert await other.touch(record.session_id) is None
    record = await bed.begin(one)
    await other.touch(record.session_id)
    await one.end(record.session_id)
    bed.primary.away = True
    await other.touch(record.session_id)
    await other.rebind(record.session_id, 1, Upstream("b", "x"))
    await bed.back()
    assert await bed.truth().get(record.session_id) is None
    assert await other.touch(record.session_id) is None


async def test_a_store_that_restarted_empty_is_given_everything_again(bed):
    store = bed.proxy()
    records = [await bed.begin(store) for _ in range(250)]
    first = records[0].session_id
    await store.open_stream(first, "s", "label")
    await store.append(first, "s", [Event(b"1"), Event(b"2")], position=0)
    bed.primary.lose_everything()
    assert await store.touch(first) == records[0].mapping
    await bed.settle()
    assert not store.is_away
    assert await bed.truth().count() == 250
    assert await store.append(first, "s", [Event(b"3")], position=2)
    missed = await bed.truth().after(first, event_id("s", 0))
    assert [each.event.data for each in missed.events] == [b"1", b"2", b"3"]
    assert [str(report.error) for report in bed.reports] == ["the store has lost sessions", "None"]


@pytest.mark.parametrize(
    "verb",
    [
        lambda store, session_id: store.get(session_id),
        lambda store, session_id: store.rebind(session_id, 1, Upstream("b", "x")),
        lambda store, session_id: store.add_subscription(session_id, "file:///a"),
        lambda store, session_id: store.open_stream(session_id, "t"),
        lambda store, session_id: store.append(session_id, "s", [Event(b"2")], position=1),
        lambda store, session_id: store.after(session_id, event_id("s", 0)),
        lambda store, session_id: store.streams(session_id),
        lambda store, session_id: store.end(session_id),
    ],
)
async def test_every_verb_notices_that_the_store_restarted_empty(bed, verb):
    store, alone = bed.proxy(), MemoryStore(clock_ms=bed.clock)
    record = await bed.begin(store)
    await alone.create(record)
    for each in (store, alone):
        await each.open_stream(record.session_id, "s")
        await each.append(record.session_id, "s", [Event(b"1")], position=0)
    bed.primary.lose_everything()
    assert await verb(store, record.session_id) == await verb(alone, record.session_id)
    await bed.settle()
    assert await bed.truth().get(record.session_id) == await alone.get(record.session_id)
    assert await bed.truth().streams(record.session_id) == await alone.streams(record.session_id)


async def test_events_that_the_store_lost_alone_are_given_again(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    await store.open_stream(record.session_id, "s")
    await store.append(record.session_id, "s", [Event(b"1")], position=0)
    bed.primary.lose_everything()
    await bed.truth().create(record)
    assert await store.append(record.session_id, "s", [Event(b"2")], position=1)
    await bed.settle()
    missed = await bed.truth().after(record.session_id, event_id("s", 0))
    assert [each.event.data for each in missed.events] == [b"1", b"2"]


async def test_where_two_proxies_moved_a_session_the_higher_epoch_wins(bed):
    link = Unreliable(bed.clock)
    link.store = bed.truth()
    cut_off, connected = bed.proxy(link), bed.proxy()
    behind, ahead, equal = [await bed.begin(connected) for _ in range(3)]
    for record in (behind, ahead, equal):
        await cut_off.touch(record.session_id)
    link.away = True
    theirs, ours, later = Upstream("b", "theirs"), Upstream("c", "ours"), Upstream("d", "later")
    for record in (behind, equal):
        await connected.rebind(record.session_id, 1, theirs)
    await connected.rebind(behind.session_id, 2, later)
    for record in (behind, ahead, equal):
        assert (await cut_off.rebind(record.session_id, 1, ours)).upstream == ours
    link.away = False
    await bed.back()
    wanted = [later, ours, theirs]
    for store in (cut_off, connected):
        found = [(await store.touch(record.session_id)).upstream for record in (behind, ahead, equal)]
        assert found == wanted


async def test_what_won_is_known_when_the_store_goes_away_again(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    bed.primary.away = True
    await store.rebind(record.session_id, 1, Upstream("b", "ours"))
    await bed.settle()
    theirs = await bed.truth().rebind(record.session_id, 1, Upstream("c", "theirs"))
    await bed.back()
    bed.primary.away = True
    assert await store.touch(record.session_id) == theirs


async def test_a_stream_that_was_closed_while_the_store_was_away_is_closed(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    await store.open_stream(record.session_id, "s")
    await store.append(record.session_id, "s", [Event(b"1")], position=0)
    bed.primary.away = True
    assert await store.close_stream(record.session_id, "s")
    await bed.back()
    (stream,) = await bed.truth().streams(record.session_id)
    assert (stream.closed, stream.position) == (True, 1)


async def test_an_answer_from_before_an_outage_undoes_nothing(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    truth, slow = bed.truth(), asyncio.get_running_loop().create_future()
    get = truth.get

    async def answer_late(session_id):
        truth.get = get
        found = await get(session_id)
        await slow
        return found

    truth.get = answer_late
    late = asyncio.create_task(store.get(record.session_id))
    await bed.settle()
    bed.primary.away = True
    assert await store.add_subscription(record.session_id, "a")
    slow.set_result(None)
    bed.primary.away = False
    assert await late == record
    bed.primary.away = True
    assert (await store.get(record.session_id)).subscriptions == ("a",)
    await bed.back()
    assert (await bed.truth().get(record.session_id)).subscriptions == ("a",)


async def test_a_verb_that_was_done_without_an_answer_is_not_done_twice(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    session_id = record.session_id
    await store.open_stream(session_id, "s")
    bed.primary.fails_after = True
    mapping = await store.rebind(session_id, 1, Upstream("b", "x"))
    assert mapping.epoch == 2
    await bed.back()
    assert (await bed.truth().get(session_id)).mapping == mapping
    bed.primary.fails_after = True
    assert await store.append(session_id, "s", [Event(b"1")], position=0)
    await bed.back()
    missed = await bed.truth().after(session_id, event_id("s", 0))
    assert [each.event.data for each in missed.events] == [b"1"]
    bed.primary.fails_after = True
    new = await bed.begin(store)
    await bed.back()
    assert await bed.truth().get(new.session_id) == new


async def test_traffic_while_the_store_is_told_loses_nothing(bed):
    store = bed.proxy()
    records = [await bed.begin(store) for _ in range(100)]
    for record in records:
        await store.open_stream(record.session_id, "s")
    done = 0
    stop = False

    async def traffic(record):
        nonlocal done
        position = 0
        while not stop and position < 40:
            assert await store.touch(record.session_id) is not None
            assert await store.append(record.session_id, "s", [Event(b"%d" % position)], position=position)
            position += 1
            done += 1
            await store.add_subscription(record.session_id, f"{position}")
            await asyncio.sleep(0)
        return position

    async def weather():
        for _ in range(3):
            bed.primary.away = True
            await bed.settle()
            bed.primary.away = False
            await bed.wake()

    running = asyncio.gather(*[traffic(record) for record in records])
    await weather()
    stop = True
    positions = await running
    await bed.back()
    assert done > 300
    for record, position in zip(records, positions, strict=True):
        missed = await bed.truth().after(record.session_id, event_id("s", 0))
        assert [each.event.data for each in missed.events] == [b"%d" % n for n in range(position)]
        there = await bed.truth().get(record.session_id)
        assert set(there.subscriptions) == {str(n) for n in range(1, position + 1)}


async def test_a_store_that_fails_again_while_it_is_told_is_told_again(bed):
    store = bed.proxy()
    records = [await bed.begin(store) for _ in range(80)]
    bed.primary.away = True
    for record in records:
        await store.set_log_level(record.session_id, "info")
        await store.add_subscription(record.session_id, "a")
    await store.end(records[-1].session_id)
    await store.rebind_credential(records[0].session_id, records[0].mapping.credential, "second")
    await bed.settle()
    answer = bed.primary.store.set_log_level
    bed.primary.store.set_log_level = _failing_at(answer, 20)
    bed.primary.away = False
    await bed.wake()
    assert store.is_away
    await store.set_log_level(records[0].session_id, "error")
    await store.add_subscription(records[0].session_id, "b")
    await store.remove_subscription(records[0].session_id, "a")
    await store.rebind_credential(records[0].session_id, "second", "third")
    await store.end(records[1].session_id)
    bed.primary.store.set_log_level = answer
    await bed.back()
    first = await bed.truth().get(records[0].session_id)
    assert (first.log_level, first.subscriptions, first.mapping.credential) == ("error", ("b",), "third")
    for record in records[2:-1]:
        assert (await bed.truth().get(record.session_id)).log_level == "info"
    assert await bed.truth().get_many([records[1].session_id, records[-1].session_id]) == [None, None]


def _failing_at(verb, count):
    calls = 0

    async def fail(*values):
        nonlocal calls
        calls += 1
        if calls == count:
            raise StoreUnavailable("away again")
        return await verb(*values)

    return fail


async def test_a_verb_that_fails_while_the_store_is_told_the_last_is_told_as_well(bed):
    store = bed.proxy()
    record = await bed.begin(store)
    truth, slow = bed.truth(), asyncio.get_running_loop().create_future()
    set_log_level, end_many = truth.set_log_level, truth.end_many

    async def fail_late(*values):
        truth.set_log_level = set_log_level
        await slow
        raise StoreUnavailable("no answer")

    async def meanwhile(*values):
        if not slow.done():
            slow.set_result(None)
            await bed.settle()
        return await end_many(*values)

    truth.set_log_level, truth.end_many = fail_late, meanwhile
    late = asyncio.create_task(store.set_log_level(record.session_id, "error"))
    await bed.settle()
    bed.primary.away = True
    await store.add_subscription(record.session_id, "a")
    await bed.back()
    assert await late
    await bed.settle()
    there = await truth.get(record.session_id)
    assert (there.log_level, there.subscriptions) == ("error", ("a",))
