"""The ways back at another proxy, at the server, without the log; and what is said where there is none."""

import asyncio

import pytest

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.resumption import EventPlace, GoOn, StreamKeeper, UpstreamMark, way_back
from shadowcat_core.resumption.remarks import CAME_BACK, STILL_READ, TAKEN_OVER
from shadowcat_core.sessions import Event, event_id
from shadowcat_core.sessions.contract import SetClock, Settings
from tests.core.resumption_bed import ANSWER, running_bed, walk
from tests.core.resumption_world import SESSION, at_once, ids, new_session, payloads, settle

pytest_plugins = ["tests.store_contract.fixtures"]


@pytest.fixture
async def bed():
    async with running_bed() as made:
        yield made


# --- Back at another proxy ---------------------------------------------------------------------------------------


async def test_another_proxy_takes_the_stream_over_and_resumes_it_at_the_server(make_store):
    clock = SetClock()
    async with make_store(Settings(clock)) as store:
        await new_session(store, clock)
        one, two = StreamKeeper(store, sleep=at_once), StreamKeeper(store, sleep=at_once)
        stream = one.open(SESSION, epoch=1, requests=[7])
        sent = ids(stream.feed(b"id: 1\r\ndata: a\r\n\r\nid: 2\r\ndata: b\r\n\r\n"))
        await one.flush()
        way = way_back(two, SESSION, sent[0], epoch=1)
        assert await walk(way) == [b"b"]
        assert (way.go_on, way.stream.mark, way.stream.unanswered) == (GoOn.AT_SERVER, UpstreamMark(1, "2"), {7})
        repeated = b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\n"
        assert payloads(way.stream.feed(repeated + ANSWER)) == payloads(ANSWER)
        assert way.stream.repeats == 2
        two.release(way.stream)
        await two.flush()
        late = way_back(one, SESSION, sent[1], epoch=1)
        assert len(one) == 1  # it does not know yet that the stream is not its own
        stream.feed(b"id: 9\ndata: too late\n\n")
        await one.flush()
        assert len(one) == 0
        assert await walk(late) == payloads(ANSWER)
        assert late.go_on is GoOn.NOT
        await one.aclose()
        await two.aclose()


async def test_a_proxy_that_died_before_logging_the_answer_loses_nothing(bed):
    """The client's own id says from where the server has to go on."""
    stream, _ = await bed.open(bed.one, b"id: 1\ndata: a\n\n", requests=[7])
    bed.log.is_away = True
    seen = ids(stream.feed(b"id: 2\ndata: b\n\nid: 3\ndata: c\n\n"))
    await bed.one.aclose()
    bed.log.is_away = False
    way = bed.way(bed.two, seen[-1])
    assert await walk(way) == []
    assert (way.go_on, way.stream.mark, way.stream.unanswered) == (GoOn.AT_SERVER, UpstreamMark(1, "3"), {7})
    assert (await bed.info(stream)).closed
    assert payloads(way.stream.feed(b"id: 3\ndata: c\n\nid: 4\ndata: d\n\n")) == [b"d"]


async def test_a_complete_stream_that_its_dead_proxy_did_not_close_is_over(bed):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\nid: 2\n" + ANSWER, requests=[7])
    await bed.one.aclose()
    way = bed.way(bed.two, sent[1])
    assert await walk(way) == []
    assert (way.go_on, way.stream) == (GoOn.NOT, None)
    await settle()
    assert (await bed.info(stream)).closed


async def test_a_stream_that_another_proxy_still_reads_is_followed_in_the_log(bed):
    stream, sent = await bed.open(bed.one, b"data: a\n\n", requests=[7])
    bed.one.leave(stream)
    await bed.one.flush()
    way = bed.way(bed.two, sent[0])
    got = []
    script = iter([b"data: b\n\n", b"", b"data: c\n\ndata: d\n\n", ANSWER])

    async def sleep(_seconds):
        stream.feed(next(script, b""))
        if stream.is_complete:
            bed.one.release(stream)
        await bed.one.flush()
        await settle()

    bed.two.sleep = sleep
    async for frames in way.frames():
        got += payloads(frames)
    assert got == [b"b", b"c", b"d", *payloads(ANSWER)]
    assert (way.go_on, way.lost) == (GoOn.NOT, 0)


async def test_beats_keep_a_silent_stream_followed_and_without_them_it_is_taken_over(bed):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\n", requests=[7])
    bed.one.leave(stream)
    await bed.one.flush()
    way = bed.way(bed.two, sent[0])
    polls = 0

    async def sleep(seconds):
        nonlocal polls
        polls += 1
        assert seconds == 0.25
        if polls in (30, 70):
            bed.one.beat()
        await bed.one.flush()

    bed.two.sleep = sleep
    assert await walk(way) == []
    assert polls == 70 + 48
    assert way.go_on is GoOn.AT_SERVER
    assert [each for each in await bed.logged(stream) if each == STILL_READ] == [STILL_READ] * 3
    assert (await bed.logged(stream))[-1] == TAKEN_OVER


@pytest.mark.parametrize(("event", "go_on"), [(b"id: 1\ndata: a\n\n", GoOn.AT_SERVER), (b"data: a\n\n", GoOn.LOST)])
@pytest.mark.parametrize("keeper", ["one", "two"])
async def test_nobody_waits_for_a_server_that_broke_off_behind_a_client_that_left(bed, keeper, event, go_on):
    stream, sent = await bed.open(bed.one, event, requests=[7])
    bed.one.leave(stream)
    bed.one.release(stream)
    await bed.one.flush()
    way = bed.way(getattr(bed, keeper), sent[0])

    async def sleep(_seconds):
        pytest.fail("there is nothing to wait for")

    bed.one.sleep = bed.two.sleep = sleep
    assert await walk(way) == []
    assert (way.go_on, way.stream.unanswered) == (go_on, {7})


async def test_a_beat_is_left_out_where_an_event_says_as_much(bed):
    left, _ = await bed.open(bed.one)
    there, _ = await bed.open(bed.one)
    released, _ = await bed.open(bed.one)
    for stream in (left, there, released):
        bed.one.leave(stream)
    bed.one.come_back(there)
    left.feed(b"data: a\n\n")
    bed.log.is_away = True
    bed.one.release(released)
    before = released.position
    bed.one.beat()
    assert (left.position, there.position, released.position) == (2, 1, before)
    bed.one.beat()
    assert (left.position, there.position, released.position) == (3, 1, before)


async def test_leaving_and_releasing_what_is_not_here_is_no_harm(bed):
    stream, _ = await bed.open(bed.one)
    bed.two.leave(stream)
    bed.two.come_back(stream)
    bed.two.release(stream)
    assert stream.position == 0


async def test_of_two_proxies_that_take_a_stream_over_one_gets_it(bed):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\n")
    await bed.one.aclose()
    await bed.store.append(SESSION, stream.stream_id, [Event(b"id: \ndata: b\n\n", "1:2")], position=1)
    append, rivals = bed.store.append, [Event(b"id: \ndata: c\n\n", "1:3")]

    async def slower(*args, position, **kwargs):
        if rivals:
            await append(SESSION, stream.stream_id, [rivals.pop()], position=position)
        return await append(*args, position=position, **kwargs)

    bed.store.append = slower
    way = bed.way(bed.two, sent[0])
    assert await walk(way) == [b"b", b"c"]
    assert (way.go_on, way.stream.mark) == (GoOn.AT_SERVER, UpstreamMark(1, "3"))


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_client_that_comes_back_to_a_proxy_whose_stream_was_taken_in_silence_does_not_wait_there(bed, is_away):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\n", requests=[7])
    assert await walk(bed.way(bed.two, sent[0])) == []
    bed.log.is_away = is_away
    way = bed.way(bed.one, sent[0])
    waiting = asyncio.create_task(walk(way))
    await settle()
    assert (bed.taken, waiting.done()) == (([], False) if is_away else ([stream], True))
    bed.log.is_away = False
    assert await waiting == []
    assert (way.go_on, way.stream.mark, bed.taken) == (GoOn.AT_SERVER, UpstreamMark(1, "1"), [stream])


async def test_a_client_that_is_back_where_its_stream_is_read_is_no_reason_to_take_it_over(bed):
    stream, sent = await bed.open(bed.one, b"data: a\n\n", requests=[7])
    bed.one.leave(stream)
    back = asyncio.create_task(walk(bed.way(bed.one, sent[0])))
    await settle()
    assert (await bed.logged(stream))[-1] == CAME_BACK
    elsewhere = bed.way(bed.two, sent[0])

    async def sleep(_seconds):
        stream.feed(ANSWER)
        bed.one.release(stream)
        await settle()

    bed.two.sleep = sleep
    assert await walk(elsewhere) == await back == payloads(ANSWER)


@pytest.mark.parametrize(
    ("frames", "go_on", "mark"),
    [
        (b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", GoOn.AT_SERVER, UpstreamMark(1, "2")),
        (b"data: a\n\ndata: b\n\n", GoOn.ANEW, None),
    ],
)
async def test_a_servers_own_stream_goes_on_though_it_was_closed_for_another_one(bed, frames, go_on, mark):
    stream, sent = await bed.open(bed.one, frames)
    await bed.one.aclose()
    await bed.store.close_stream(SESSION, stream.stream_id)
    way = bed.way(bed.two, sent[0])
    assert await walk(way) == [b"b"]
    assert (way.go_on, way.stream.mark) == (go_on, mark)
    assert way.stream.stream_id != stream.stream_id


async def test_where_two_proxies_wrote_at_once_the_client_goes_on_from_its_own_event(bed):
    stream, _ = await bed.open(bed.one, b"id: 1\ndata: a\n\nid: 3\ndata: c\n\n")
    await bed.one.aclose()
    seen = EventPlace(stream.stream_id, 2, UpstreamMark(1, "2"))  # from the other one
    way = bed.way(bed.two, seen)
    assert await walk(way) == []
    assert (way.go_on, way.stream.mark) == (GoOn.AT_SERVER, UpstreamMark(1, "2"))
    assert way.stream.stream_id != stream.stream_id


# --- Where nothing can be resumed --------------------------------------------------------------------------------


async def test_a_servers_own_stream_without_ids_is_opened_anew_behind_what_was_missed(bed):
    stream, sent = await bed.open(bed.one, b"data: a\n\ndata: b\n\n")
    await bed.one.aclose()
    way = bed.way(bed.two, sent[0])
    assert await walk(way) == [b"b"]
    assert (way.go_on, way.stream.mark, way.stream.stream_id) == (GoOn.ANEW, None, stream.stream_id)
    assert ids(way.stream.feed(b"data: c\n\n")) == [f"{stream.stream_id}.4"]  # 3 is the take-over


async def test_a_servers_own_stream_is_opened_anew_when_the_log_is_behind_and_the_server_gave_no_ids(bed):
    stream, _ = await bed.open(bed.one, b"data: a\n\n")
    await bed.one.aclose()
    way = bed.way(bed.two, event_id(stream.stream_id, 5))
    assert await walk(way) == []
    assert way.go_on is GoOn.ANEW
    assert way.stream.stream_id != stream.stream_id


@pytest.mark.parametrize("position", [0, 5])
async def test_an_answer_that_will_not_come_is_given_up_after_a_silence_and_named(bed, position):
    stream, _ = await bed.open(bed.one, b"data: a\n\n", requests=[7])
    await bed.one.aclose()
    bed.sleeps.clear()
    way = bed.way(bed.two, event_id(stream.stream_id, position))
    assert await walk(way) == ([] if position else [b"a"])
    assert (way.go_on, way.stream.unanswered) == (GoOn.LOST, {7})
    assert bed.sleeps == [0.25] * 48
    error = b'{"jsonrpc":"2.0","id":7,"error":{"code":-31002,"message":"gone"}}'
    sent = way.stream.inject(error)
    bed.two.release(way.stream)
    await bed.two.flush()
    again = bed.way(bed.one, EventPlace(EventPlace.read(ids(sent)[0]).stream_id, 0))
    assert (await walk(again))[-1] == error
    assert again.go_on is GoOn.NOT


async def test_an_answer_of_an_epoch_before_is_lost_at_once(bed):
    _, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\n", requests=[7])
    await bed.one.aclose()
    way = bed.way(bed.two, sent[0], epoch=2)
    assert await walk(way) == []
    assert (way.go_on, way.stream.unanswered, bed.sleeps) == (GoOn.LOST, {7}, [])


async def test_a_servers_own_stream_of_an_epoch_before_is_opened_anew(bed):
    _, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
    await bed.one.aclose()
    way = bed.way(bed.two, sent[0], epoch=2)
    assert await walk(way) == [b"b"]
    assert (way.go_on, way.stream.mark) == (GoOn.ANEW, None)


@pytest.mark.parametrize(
    ("mark", "epoch", "go_on", "resumed_at"),
    [
        (UpstreamMark(1, "u"), 1, GoOn.AT_SERVER, UpstreamMark(1, "u")),
        (UpstreamMark(1, "u"), 2, GoOn.ANEW, None),
        (None, 1, GoOn.ANEW, None),
    ],
)
async def test_a_stream_that_the_log_forgot_goes_on_at_the_server_if_its_id_says_where(
    bed, mark, epoch, go_on, resumed_at
):
    way = bed.way(bed.one, EventPlace("forgotten", 9, mark), epoch)
    assert await walk(way) == []
    assert (way.go_on, way.stream.mark) == (go_on, resumed_at)


async def test_an_event_id_of_another_session_shows_nothing(bed):
    await new_session(bed.store, bed.clock, "another")
    _, sent = await bed.open(bed.one, b"data: secret\n\ndata: secret\n\n")
    await bed.one.flush()
    way = way_back(bed.one, "another", sent[0], epoch=1)
    assert await walk(way) == []
    assert way.go_on is GoOn.ANEW


async def test_while_the_log_is_away_the_clients_id_alone_leads_to_the_server(bed):
    _, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
    bed.log.is_away = True
    way = bed.way(bed.two, sent[0])
    assert await walk(way) == []
    assert (way.go_on, way.stream.mark) == (GoOn.AT_SERVER, UpstreamMark(1, "1"))
    with pytest.raises(StoreUnavailable):
        await walk(bed.way(bed.two, "s.1"))


async def test_a_log_that_goes_away_on_the_way_is_no_end_either(bed):
    _, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
    await bed.one.aclose()
    way = bed.way(bed.two, sent[0])
    frames = way.frames()
    assert payloads(await anext(frames)) == [b"b"]
    bed.log.is_away = True
    assert [each async for each in frames] == []
    assert (way.go_on, way.stream.mark) == (GoOn.AT_SERVER, UpstreamMark(1, "2"))


async def test_a_long_absence_is_led_back_in_pages(bed):
    _, sent = await bed.open(bed.one, b"".join(b"id: %d\ndata: %d\n\n" % (n, n) for n in range(350)))
    await bed.one.aclose()
    way = bed.way(bed.two, sent[0])
    pages = [payloads(frames) async for frames in way.frames()]
    assert [len(page) for page in pages] == [99, 100, 100, 50]
    assert [each for page in pages for each in page] == [b"%d" % n for n in range(1, 350)]
    assert way.stream.mark == UpstreamMark(1, "349")


async def test_a_client_that_comes_twice_at_once_is_led_along_one_stream(bed):
    stream, sent = await bed.open(bed.one, b"id: 1\ndata: a\n\n")
    await bed.one.aclose()
    after, held = bed.store.after, asyncio.Event()

    async def slow(*args, **kwargs):
        missed = await after(*args, **kwargs)
        await held.wait()
        return missed

    bed.store.after = slow
    second = bed.way(bed.two, sent[0])
    waiting = asyncio.create_task(anext(second.frames()))
    await settle()
    bed.store.after = after
    first = bed.way(bed.two, sent[0])
    assert await walk(first) == []
    held.set()
    await settle()
    assert payloads(first.stream.feed(b"id: 2\ndata: b\n\n")) == [b"b"]
    assert payloads(await waiting) == [b"b"]
    assert (second.lost, second.is_read_here, first.stream.stream_id) == (0, True, stream.stream_id)
