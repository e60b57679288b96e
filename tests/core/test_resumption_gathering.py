"""Events gather for a moment before they go to the log, and so does the opening and the closing of their stream."""

import asyncio
import re

import pytest

from shadowcat_core.limits import GATHERING_MS
from shadowcat_core.relay import relay_of
from shadowcat_core.resumption import GoOn, StreamKeeper, UnloggedRoom
from shadowcat_core.resumption.remarks import CAME_BACK, READ_NO_MORE, STILL_READ, TAKEN_OVER
from shadowcat_core.sessions import Event, RedisStore, event_id, wall_clock_ms
from shadowcat_core.sessions.contract import SetClock, Settings
from tests.core.resumption_bed import ANSWER, running_bed, walk
from tests.core.resumption_world import SESSION, new_session, payloads, settle
from tests.core.upstream_parts import file, fleet, route

pytest_plugins = ["tests.store_contract.fixtures"]

FOREVER_S = 3_600
"""Whoever is written nevertheless did not wait for it."""
A_MOMENT_S = 1e-9
"""It has passed when the loop looks for the next time."""
SENT_ANSWER = payloads(ANSWER)[0]


@pytest.fixture
async def bed():
    async with running_bed() as made:
        made.one = made.keeper(gather_s=FOREVER_S)
        yield made


def written(bed):
    """The steps that were asked of the log, and are no look-ups."""
    return [verb for verb in bed.log.asked if verb in ("open_stream", "append", "close_stream", "restore_stream")]


async def said(bed, stream):
    return [payloads(each) for each in await bed.logged(stream)]


# --- One step ----------------------------------------------------------------------------------------------------


async def test_a_short_stream_is_opened_written_and_closed_in_one_step(bed):
    stream = bed.one.open(SESSION, epoch=1, requests=[7])
    stream.feed(b"id: u0\ndata: working\n\n")
    await settle()
    stream.feed(ANSWER)
    bed.one.release(stream)
    await settle()
    assert written(bed) == []
    await bed.one.flush()
    assert written(bed) == ["open_stream"]
    assert await said(bed, stream) == [[b"working"], [SENT_ANSWER]]
    info = await bed.info(stream)
    assert (info.closed, info.label, info.position, info.upstream_event_id) == (True, "post [7]", 2, "1:u0")
    assert len(bed.one) == 0


async def test_it_is_one_step_by_itself_when_its_moment_has_passed(bed):
    keeper = bed.keeper(gather_s=A_MOMENT_S)
    stream = keeper.open(SESSION, epoch=1, requests=[7])
    stream.feed(b"data: working\n\n")
    stream.feed(ANSWER)
    keeper.release(stream)
    await settle()
    assert written(bed) == ["open_stream"]
    assert ((await bed.info(stream)).closed, len(keeper)) == (True, 0)


async def test_a_stream_without_events_is_opened_when_its_moment_has_passed(bed):
    keeper = bed.keeper(gather_s=A_MOMENT_S)
    stream = keeper.open(SESSION, epoch=1)
    await settle()
    assert (written(bed), (await bed.info(stream)).position) == (["open_stream"], 0)
    await keeper.aclose()


async def test_each_burst_is_one_step_and_the_last_one_closes_the_stream(bed):
    stream = bed.one.open(SESSION, epoch=1, requests=[7])
    for number in range(3):
        for _ in range(5):
            stream.feed(b"data: %d\n\n" % number)
            await settle(2)
        await bed.one.flush()
    stream.feed(b"data: last\n\n")
    await settle()
    stream.feed(ANSWER)
    bed.one.release(stream)
    await bed.one.flush()
    assert written(bed) == ["open_stream", "append", "append", "append"]
    assert ((await bed.info(stream)).position, (await bed.info(stream)).closed) == (17, True)


async def test_what_comes_while_a_step_is_under_way_gathers_anew(bed):
    answers, open_stream = asyncio.Event(), bed.store.open_stream

    async def slow(*args, **kwargs):
        await answers.wait()
        return await open_stream(*args, **kwargs)

    bed.store.open_stream = slow
    stream = bed.one.open(SESSION, epoch=1)
    stream.feed(b"data: a\n\n")
    bed.one.leave(stream)  # which is written at once
    await settle()
    stream.feed(b"data: b\n\n")
    await settle()
    stream.feed(b"data: c\n\n")
    answers.set()
    await settle()
    assert (written(bed), stream.logged) == (["open_stream"], 2)
    await bed.one.flush()
    assert (written(bed), stream.logged) == (["open_stream", "append"], 4)


async def test_who_waits_for_the_log_gets_also_what_comes_meanwhile(bed):
    open_stream = bed.store.open_stream
    stream = bed.one.open(SESSION, epoch=1, requests=[7])

    async def slow(*args, **kwargs):
        stream.feed(ANSWER)
        bed.one.release(stream)
        return await open_stream(*args, **kwargs)

    bed.store.open_stream = slow
    stream.feed(b"data: a\n\n")
    await bed.one.flush()
    assert written(bed) == ["open_stream", "append"]
    assert ((await bed.info(stream)).closed, len(bed.one)) == (True, 0)


async def test_a_flush_that_was_given_up_leaves_the_rest_to_gather(bed):
    bed.log.is_away = True
    never = asyncio.Event()
    keeper = StreamKeeper(bed.log, gather_s=FOREVER_S, sleep=lambda _seconds: never.wait())
    stream = keeper.open(SESSION, epoch=1)
    stream.feed(b"data: a\n\n")
    flushing = asyncio.create_task(keeper.flush())
    await settle()
    flushing.cancel()
    await settle()
    assert (written(bed), stream.logged) == (["open_stream"], 0)
    bed.log.is_away = False
    never.set()
    await settle()
    assert stream.logged == 1
    stream.feed(b"data: b\n\n")
    await settle()
    assert stream.logged == 1
    await keeper.aclose()


async def test_a_proxy_that_ends_writes_nothing_any_more(bed):
    keeper = bed.keeper(gather_s=A_MOMENT_S)
    stream = keeper.open(SESSION, epoch=1)
    stream.feed(b"data: a\n\n")
    await keeper.aclose()
    await settle()
    assert (written(bed), await bed.info(stream)) == ([], None)


@pytest.mark.parametrize("is_shared", [False, True])
async def test_what_takes_half_of_its_room_gathers_no_longer(bed, is_shared):
    options = {"room": UnloggedRoom(limit=100_000)} if is_shared else {}
    keeper = bed.keeper(gather_s=FOREVER_S, **options)
    stream = keeper.open(SESSION, epoch=1)
    chunk = b"data: " + b"x" * 20_000 + b"\n\n"
    fed = 0
    while not stream.is_pressed_for_room:
        await settle()
        assert written(bed) == []
        stream.feed(chunk)
        fed += 1
    await settle()
    assert (written(bed), stream.logged, stream.left_out) == (["open_stream"], fed, 0)
    assert fed == (3 if is_shared else 7)
    await keeper.aclose()


# --- An opening without an answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("takes_the_step", [False, True])
@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("more", [False, True])
async def test_an_opening_without_an_answer_is_taken_once(bed, takes_the_step, closes, more):
    stream = bed.one.open(SESSION, epoch=1, requests=[7])
    bed.log.is_away, bed.log.takes_the_step = True, takes_the_step
    stream.feed(b"data: a\n\n")
    if closes and not more:
        stream.feed(ANSWER)
        bed.one.release(stream)
    flushing = asyncio.create_task(bed.one.flush())
    await settle()
    assert bed.outages
    if more:
        stream.feed(b"data: b\n\n")
    if closes and more:
        stream.feed(ANSWER)
        bed.one.release(stream)
    bed.log.is_away = False
    await flushing
    wanted = [[b"a"]] + [[b"b"]] * more + [[SENT_ANSWER]] * closes
    assert await said(bed, stream) == wanted
    assert ((await bed.info(stream)).closed, stream.logged, bed.taken) == (closes, len(wanted), [])
    assert len(bed.one) == (not closes)
    if not closes:
        stream.feed(b"data: c\n\n")
        await bed.one.flush()
        assert await said(bed, stream) == [*wanted, [b"c"]]


@pytest.mark.parametrize("takes_the_step", [False, True])
async def test_an_appending_that_closes_without_an_answer_is_taken_once(bed, takes_the_step):
    stream, _ = await bed.open(bed.one, b"data: a\n\n", requests=[7])
    bed.log.is_away, bed.log.takes_the_step = True, takes_the_step
    stream.feed(ANSWER)
    bed.one.release(stream)
    flushing = asyncio.create_task(bed.one.flush())
    await settle()
    bed.log.is_away = False
    await flushing
    assert await said(bed, stream) == [[b"a"], [SENT_ANSWER]]
    assert ((await bed.info(stream)).closed, bed.taken, len(bed.one)) == (True, [], 0)


@pytest.mark.parametrize("elsewhere", ["written", "closed", "written at the same place"])
async def test_a_stream_that_another_proxy_got_after_an_opening_without_an_answer_is_given_up(bed, elsewhere):
    stream = bed.one.open(SESSION, epoch=1)
    stream.feed(b"data: a\n\n")
    if elsewhere == "written at the same place":
        await bed.store.open_stream(SESSION, stream.stream_id, "get", [Event(b"other")])
    else:
        bed.log.is_away = bed.log.takes_the_step = True
    flushing = asyncio.create_task(bed.one.flush())
    await settle()
    if elsewhere == "closed":  # its client goes on in another stream
        await bed.store.close_stream(SESSION, stream.stream_id)
    elif elsewhere == "written":
        assert await bed.store.append(SESSION, stream.stream_id, [Event(TAKEN_OVER)], position=1)
        stream.feed(b"data: b\n\n")
    before = await bed.logged(stream)
    bed.log.is_away = False
    await flushing
    assert (bed.taken, len(bed.one), stream.keeps_events) == ([stream], 0, False)
    assert await bed.logged(stream) == before
    await bed.one.flush()
    assert bed.taken == [stream]


async def test_a_stream_that_left_out_events_before_it_was_opened_is_opened_and_mended(bed):
    keeper = bed.keeper(gather_s=FOREVER_S, room=UnloggedRoom(limit=500))
    bed.log.is_away = True
    stream = keeper.open(SESSION, epoch=1, requests=[7])
    for number in range(9):
        stream.feed(b"data: %d\n\n" % number)
        await settle()
    stream.feed(ANSWER)
    keeper.release(stream)
    bed.log.is_away = False
    await keeper.flush()
    info = await bed.info(stream)
    assert (info.position, info.closed, info.label) == (10, True, "post [7]")
    missed = await bed.store.after(SESSION, event_id(stream.stream_id, 0))
    assert (missed.lost, missed.events[-1].event.data) == (stream.left_out, b"id: \n" + ANSWER)
    assert (bed.taken, len(keeper)) == ([], 0)


# --- Remarks -----------------------------------------------------------------------------------------------------


async def test_what_other_proxies_have_to_know_is_written_at_once(bed):
    stream = bed.one.open(SESSION, epoch=1)
    (seen,) = re.findall(rb"id: (.*)", stream.feed(b"id: u\ndata: a\n\n"))
    await settle()
    assert written(bed) == []
    bed.one.leave(stream)
    await settle()
    assert (await bed.logged(stream))[1:] == [STILL_READ]
    back = asyncio.create_task(walk(bed.way(bed.one, seen.decode())))
    await settle()
    assert (await bed.logged(stream))[2:] == [CAME_BACK]
    bed.one.leave(stream)
    bed.one.release(stream)
    await settle()
    assert (await bed.logged(stream))[3:] == [STILL_READ, READ_NO_MORE]
    assert await back == []


async def test_a_client_that_comes_back_to_a_proxy_whose_stream_was_taken_does_not_wait_there(bed):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\n", requests=[7])
    assert await walk(bed.way(bed.two, sent[0])) == []
    way = bed.way(bed.one, sent[0])
    waiting = asyncio.create_task(walk(way))
    await settle()
    assert (bed.taken, waiting.done(), way.go_on) == ([stream], True, GoOn.AT_SERVER)


async def test_a_client_that_comes_back_before_its_events_are_logged_gets_them(bed):
    stream = bed.one.open(SESSION, epoch=1, requests=[7])
    begin = str(stream.place)
    stream.feed(b"data: a\n\n")
    stream.feed(ANSWER)
    bed.one.release(stream)
    way = bed.way(bed.one, begin)
    assert await walk(way) == [b"a", SENT_ANSWER]
    assert (way.go_on, way.lost, written(bed)) == (GoOn.NOT, 0, [])


# --- Over a network ------------------------------------------------------------------------------------------------


async def test_a_short_stream_costs_one_round_trip_to_redis(redis_server):
    def scripts_run():
        found = re.search(rb"cmdstat_evalsha:calls=(\d+)", redis_server.command("INFO commandstats"))
        return int(found[1]) if found else 0

    store = RedisStore.from_url(redis_server.url, prefix="gathering", timeout_ms=30_000)
    await new_session(store, wall_clock_ms)
    keeper = StreamKeeper(store, gather_s=FOREVER_S, on_outage=lambda exc: pytest.fail(str(exc)))
    for is_known in (False, True):  # the first one loads the script
        before = scripts_run()
        stream = keeper.open(SESSION, epoch=1, requests=[7])
        stream.feed(b"data: working\n\n")
        stream.feed(ANSWER)
        keeper.release(stream)
        await keeper.flush()
        assert not is_known or scripts_run() == before + 1
        info = await store.stream_of(SESSION, event_id(stream.stream_id, 0))
        assert (info.position, info.closed) == (2, True)
    await store.end(SESSION)
    await keeper.aclose()
    await store.aclose()


async def test_each_store_gets_a_stream_whole(make_store):
    clock = SetClock()
    async with make_store(Settings(clock)) as store:
        await new_session(store, clock)
        keeper = StreamKeeper(store, gather_s=FOREVER_S)
        stream = keeper.open(SESSION, epoch=1, requests=[7])
        begin = event_id(stream.stream_id, 0)
        stream.feed(b"data: a\n\n")
        stream.feed(b"data: b\n\n")
        await keeper.flush()
        stream.feed(ANSWER)
        keeper.release(stream)
        await keeper.flush()
        info, missed = await store.stream_of(SESSION, begin), await store.after(SESSION, begin)
        assert (info.position, info.closed, len(keeper)) == (3, True, 0)
        assert [payloads(each.event.data) for each in missed.events] == [[b"a"], [b"b"], [SENT_ANSWER]]
        await keeper.aclose()


# --- Which logs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "gather_s"),
    [("memory", 0), ("sqlite:{}/sessions.db", GATHERING_MS / 1000), ("redis://127.0.0.1:1", GATHERING_MS / 1000)],
)
async def test_events_gather_for_a_log_on_disk_or_network_and_not_for_one_in_memory(tmp_path, address, gather_s):
    async def ask(*_asked):
        raise ConnectionRefusedError

    configured = file(route("a"), sessions={"store": address.format(tmp_path)})
    relay = relay_of(configured, fleet(route("a")), key_file=tmp_path / "key", ask=ask)
    assert relay.keeper._gather_s == gather_s
    await relay.aclose(0.1)
