"""The log is written behind the wire's back, and a client comes back to a stream that is still here."""

import asyncio

import pytest

from shadowcat_core.resumption import GoOn, UnloggedRoom, UpstreamMark
from shadowcat_core.sessions import Event, Retention
from tests.core.resumption_bed import ANSWER, Bed, running_bed, walk
from tests.core.resumption_world import SESSION, new_session, payloads, settle


@pytest.fixture
async def bed():
    async with running_bed() as made:
        yield made


# --- The log -----------------------------------------------------------------------------------------------------


async def test_what_gathered_since_the_last_write_is_one_step_of_the_log(bed):
    steps = []
    append = bed.store.append

    async def counted(*args, **kwargs):
        steps.append(len(args[2]))
        await asyncio.sleep(0)
        return await append(*args, **kwargs)

    bed.store.append = counted
    stream, _ = await bed.open(bed.one)
    stream.feed(b"data: a\n\n" * 5)
    await settle(1)
    stream.feed(b"data: b\n\n" * 3)
    stream.feed(b"data: c\n\n" * 4)
    await bed.one.flush()
    assert steps == [5, 7]
    assert stream.logged == stream.position == 12


async def test_a_complete_stream_is_closed_in_the_log_and_forgotten_here(bed):
    stream, _ = await bed.open(bed.one, ANSWER, requests=[7])
    assert len(bed.one) == 1
    bed.one.release(stream)
    bed.one.release(stream)
    await settle()
    bed.one.release(stream)
    assert (await bed.info(stream)).closed
    assert len(bed.one) == 0


async def test_a_stream_whose_answer_is_due_stays_open_in_the_log(bed):
    stream, _ = await bed.open(bed.one, b"data: progress\n\n", requests=[7])
    bed.one.release(stream)
    await settle()
    info = await bed.info(stream)
    assert (info.closed, info.label, len(bed.one)) == (False, "post [7]", 0)


async def test_the_wire_goes_on_while_the_log_is_away_and_the_log_has_all_afterwards(bed):
    stream, _ = await bed.open(bed.one, b"id: u0\ndata: a\n\n")
    bed.log.is_away = True
    assert payloads(stream.feed(b"id: u1\ndata: b\n\n")) == [b"b"]
    await settle()
    assert payloads(stream.feed(b"id: u2\ndata: c\n\n")) == [b"c"]
    assert bed.outages
    assert set(bed.sleeps) == {1.0}
    bed.log.is_away = False
    await bed.one.flush()
    assert len(await bed.logged(stream)) == 3
    assert (await bed.info(stream)).upstream_event_id == "1:u2"


async def test_a_step_that_was_taken_without_an_answer_is_not_taken_twice(bed):
    stream, _ = await bed.open(bed.one, b"data: a\n\n")
    bed.log.is_away = bed.log.takes_the_step = True
    stream.feed(b"data: b\n\n")
    await settle()
    stream.feed(b"data: c\n\n")
    bed.log.is_away = False
    await bed.one.flush()
    assert [payloads(each) for each in await bed.logged(stream)] == [[b"a"], [b"b"], [b"c"]]
    assert bed.taken == []


async def test_events_left_out_for_want_of_room_are_a_gap_in_the_log_and_counted(bed):
    keeper = bed.keeper(room=UnloggedRoom(limit=500))
    stream, (first,) = await bed.open(keeper, b"data: 0\n\n")
    bed.log.is_away = True
    for number in range(1, 11):
        stream.feed(b"data: %d\n\n" % number)
    await settle()
    bed.log.is_away = False
    await keeper.flush()
    assert stream.left_out == 7
    keeper.release(stream)
    await settle()
    way = bed.way(bed.two, first)
    assert await walk(way) == [b"8", b"9", b"10"]
    assert way.lost == 7
    await keeper.aclose()


async def test_a_log_that_lost_the_stream_gets_back_what_is_in_memory(bed):
    stream, _ = await bed.open(bed.one, b"data: a\n\n")
    del bed.store._sessions[SESSION].streams[stream.stream_id]
    stream.feed(b"id: u\ndata: b\n\n")
    await bed.one.flush()
    info = await bed.info(stream)
    assert (info.position, info.label, info.upstream_event_id) == (2, "get", "1:u")


async def test_a_log_that_lost_the_stream_hears_the_servers_latest_id_where_no_event_is_left_to_write(bed):
    stream, _ = await bed.open(bed.one, b"id: u\ndata: a\n\n")
    del bed.store._sessions[SESSION].streams[stream.stream_id]
    bed.one.leave(stream)
    await bed.one.flush()
    info = await bed.info(stream)
    assert (info.position, info.upstream_event_id) == (2, "1:u")


@pytest.mark.parametrize("is_opened", [False, True])
async def test_a_stream_of_a_session_that_has_ended_is_given_up(bed, is_opened):
    if is_opened:
        stream, _ = await bed.open(bed.one)
        await bed.store.end(SESSION)
    else:
        await bed.store.end(SESSION)
        stream = bed.one.open(SESSION, epoch=1)
    assert payloads(stream.feed(b"data: a\n\n")) == [b"a"]
    await bed.one.flush()
    assert bed.taken == [stream]
    assert payloads(stream.feed(b"data: b\n\n")) == [b"b"]
    assert (stream.keeps_events, len(bed.one), list(stream.unlogged)) == (False, 0, [])


async def test_a_stream_that_another_proxy_writes_is_given_up(bed):
    stream, _ = await bed.open(bed.one, b"data: a\n\n")
    await bed.store.append(SESSION, stream.stream_id, [Event(b"other")], position=1)
    stream.feed(b"data: b\n\n")
    await bed.one.flush()
    assert bed.taken == [stream]
    assert await bed.logged(stream) == [b"id: \ndata: a\n\n", b"other"]


# --- Back here ---------------------------------------------------------------------------------------------------


async def test_an_id_that_is_none_of_ours_is_the_servers_business(bed):
    assert bed.way(bed.one, "their-own-id") is None


async def test_a_client_comes_back_to_a_stream_that_is_read_on_here_and_gets_the_rest_live(bed):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", requests=[7])
    bed.one.leave(stream)
    stream.feed(b"id: 3\ndata: c\n\n")
    await bed.one.flush()
    stream.feed(b"id: 4\ndata: d\n\n")
    way = bed.way(bed.one, sent[0])
    assert way.is_read_here
    got = []

    async def read():
        async for frames in way.frames():
            got.extend(payloads(frames))

    reading = asyncio.create_task(read())
    await settle()
    assert got == [b"b", b"c", b"d"]
    stream.feed(b": ping\n\nid: 5\ndata: e\n\n")
    await settle()
    stream.feed(ANSWER)
    bed.one.release(stream)
    await reading
    assert got[3:] == [b"e", payloads(ANSWER)[0]]
    assert (way.go_on, way.stream, way.lost, way.is_read_here) == (GoOn.NOT, None, 0, False)


async def test_a_client_that_reads_too_late_for_log_and_memory_gets_it_from_the_server_again():
    bed = Bed(Retention(max_events=2))
    await new_session(bed.store, bed.clock)
    stream, sent = await bed.open(bed.one, b"id: 0\ndata: 0\n\n")
    for number in range(1, 9):
        stream.feed(b"id: %d\ndata: x\n\n" % number)
    await bed.one.flush()
    way = bed.way(bed.one, sent[0])
    assert await walk(way) == []
    assert (way.go_on, way.stream.mark, way.lost) == (GoOn.AT_SERVER, UpstreamMark(1, "0"), 0)
    assert way.stream.stream_id != stream.stream_id
    stream.feed(b"id: 9\ndata: x\n\n")
    await bed.one.flush()
    assert bed.taken == [stream]  # who read it before is told to stop
    await bed.one.aclose()


async def test_without_ids_of_the_server_what_is_lost_is_counted_and_the_rest_comes():
    bed = Bed(Retention(max_events=2))
    await new_session(bed.store, bed.clock)
    stream, sent = await bed.open(bed.one, b"data: 0\n\n")
    stream.feed(b"".join(b"data: %d\n\n" % number for number in range(1, 9)))
    await bed.one.flush()
    way = bed.way(bed.one, sent[0])
    frames = way.frames()
    assert payloads(await anext(frames)) == [b"7", b"8"]
    assert way.lost == 6
    await frames.aclose()
    bed.clock.advance(10**6)
    await bed.store.touch(SESSION)
    stream.feed(b"data: 9\n\n")
    late = bed.way(bed.one, sent[0])
    frames = late.frames()
    assert payloads(await anext(frames)) == [b"9"]
    assert late.lost == 8
    await frames.aclose()
    await bed.one.flush()
    bed.clock.advance(10**6)
    await bed.store.touch(SESSION)
    nothing = bed.way(bed.one, sent[0])
    waiting = asyncio.create_task(anext(nothing.frames()))
    await settle()
    assert nothing.lost == 9
    stream.feed(b"data: 10\n\n")
    assert payloads(await waiting) == [b"10"]
    await bed.one.aclose()


@pytest.mark.parametrize("requests", [(), (7,)])
async def test_what_is_read_here_is_given_up_when_its_client_is_led_on_without_log_and_memory(bed, requests):
    """Its server gives everything to the newer connection: who waited for the older one would wait for ever."""
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", requests=requests)
    early = bed.way(bed.one, sent[1])
    waiting = asyncio.create_task(walk(early))
    await settle()
    bed.log.is_away = True
    way = bed.way(bed.one, sent[0])
    assert await walk(way) == []
    assert (way.go_on, way.stream.mark, way.stream.unanswered) == (GoOn.AT_SERVER, UpstreamMark(1, "1"), {*requests})
    assert (bed.taken, len(bed.one)) == ([stream], 1)
    assert (await waiting, early.go_on) == ([], GoOn.NOT)
    stream.feed(b"id: 3\ndata: late\n\n")
    bed.one.give_up(stream)  # said twice
    bed.log.is_away = False
    await bed.one.flush()
    again = bed.way(bed.one, sent[0])
    assert await walk(again) == [b"b"]
    assert (again.go_on, again.stream.mark) == (GoOn.AT_SERVER, UpstreamMark(1, "2"))
    assert bed.taken == [stream]


async def test_a_stream_released_a_moment_ago_is_taken_up_from_memory(bed):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\n")
    bed.log.is_away = True
    stream.feed(b"id: 2\ndata: b\n\n")
    bed.one.release(stream)
    way = bed.way(bed.one, sent[0])
    assert await walk(way) == [b"b"]
    assert (way.go_on, way.stream, way.is_read_here) == (GoOn.AT_SERVER, stream, True)
    assert payloads(stream.feed(b"id: 2\ndata: b\n\nid: 3\ndata: c\n\n")) == [b"c"]


@pytest.mark.parametrize(
    ("frames", "requests", "epoch", "go_on"),
    [
        (b"data: b\n\n", (), 1, GoOn.ANEW),
        (b"data: b\n\n", (7,), 1, GoOn.LOST),
        (b"id: 2\ndata: b\n\n", (), 2, GoOn.ANEW),
        (b"id: 2\ndata: b\n\n", (7,), 2, GoOn.LOST),
        (ANSWER, (7,), 1, GoOn.NOT),
    ],
)
async def test_what_was_released_a_moment_ago_goes_on_as_its_server_allows(bed, frames, requests, epoch, go_on):
    stream, sent = await bed.open(bed.one, b"data: a\n\n", requests)
    bed.log.is_away = True
    stream.feed(frames)
    bed.one.release(stream)
    way = bed.way(bed.one, sent[0], epoch)
    assert await walk(way) == payloads(frames)
    assert way.go_on is go_on
