"""The contract of event logs: append, read what was missed, stay bounded. Each check is a sentence about any store."""

import asyncio

from shadowcat_core.sessions.contract.given import IDLE_MS, Given, expect, expect_equal, info, numbered
from shadowcat_core.sessions.events import Event, LoggedEvent, Missed, StreamInfo, event_id

FOREIGN_EVENT_IDS = (
    "",
    "s",
    "s.",
    ".1",
    "s.-1",
    "s.01",
    "s.1 ",
    "s.1\n",
    "t.1",
    "é.1",
    "s.٣",
    "\udcff",
    "s." + "9" * 99,
)


async def a_client_reads_what_it_missed(given: Given) -> None:
    session_id, stream_id = await given.stream(4)
    events = [LoggedEvent(position, numbered(position)) for position in range(1, 5)]
    for position in range(5):
        missed = await given.store.after(session_id, event_id(stream_id, position))
        wanted = Missed(info(stream_id, 4), events[position:], 0)
        expect_equal(missed and (missed.stream, list(missed.events), missed.lost), (*_parts(wanted),), "what it missed")


async def a_long_absence_is_read_in_pages(given: Given) -> None:
    session_id, stream_id = await given.stream(5)
    position, read = 0, []
    for _ in range(3):
        missed = await given.store.after(session_id, event_id(stream_id, position), limit=2)
        if missed is None:
            break
        read.append(len(missed.events))
        position = missed.events[-1].position if missed.events else position
    expect_equal((read, position), ([2, 2, 1], 5), "page by page to the end")


async def streams_do_not_mix(given: Given) -> None:
    store = given.store
    session_id, _ = await given.stream(2)
    expect(await store.open_stream(session_id, "t", "standalone"), "a session has several streams")
    await store.append(session_id, "t", [Event(b"t1"), Event(b"t2")], position=0)
    expect_equal(await given.missed(session_id, "t", 1), ([b"t2"], 0), "one stream's events")
    expect_equal(await given.missed(session_id, "s", 1), ([numbered(2).data], 0), "and the other's")
    other = (await given.session()).session_id
    expect_equal(await store.after(other, "s.0"), None, "an event id is worth nothing in another session")
    expect_equal(await store.stream_of(other, "s.0"), None, "nor does it name a stream there")
    wanted = [info("s", 2), StreamInfo("t", "standalone", 2)]
    expect_equal(list(await store.streams(session_id)), wanted, "streams in order of opening")
    expect_equal(await store.stream_of(session_id, "t.1"), wanted[1], "an event id names its stream")


async def no_event_id_of_ours_is_unknown(given: Given) -> None:
    session_id, _ = await given.stream(2)
    for text in FOREIGN_EVENT_IDS:
        expect_equal(await given.store.after(session_id, text), None, f"{text!r} names no event")
        expect_equal(await given.store.stream_of(session_id, text), None, f"{text!r} names no stream")
    expect_equal(await given.missed(session_id, "s", 2), ([], 0), "after the last comes nothing")
    missed = await given.store.after(session_id, "s.7")
    expect_equal(missed and (list(missed.events), missed.lost), ([], 0), "nor after one that is still to come")


async def opening_again_changes_nothing(given: Given) -> None:
    session_id, stream_id = await given.stream(2)
    expect(await given.store.open_stream(session_id, stream_id, "other"), "a stream can be opened again")
    expect_equal(list(await given.store.streams(session_id)), [info(stream_id, 2)], "and stays as it is")


async def a_stream_can_be_opened_with_its_first_events(given: Given) -> None:
    store = given.store
    session_id = (await given.session()).session_id
    events = [numbered(1), numbered(2)]
    expect(await store.open_stream(session_id, "s", "call 7", events), "one step opens and appends")
    expect_equal(await store.stream_of(session_id, "s.0"), info("s", 2), "it is as if two had")
    expect_equal(await given.missed(session_id, "s", 0), ([each.data for each in events], 0), "with its events")
    await given.append(session_id, "s", 2)
    expect(await store.open_stream(session_id, "t", "call 7", closed=True), "or opens and closes")
    expect_equal(await store.stream_of(session_id, "t.0"), info("t", 0, closed=True), "an empty one, too")
    expect(await store.open_stream(session_id, "u", "call 7", events, closed=True), "or does all of it")
    expect_equal(await store.stream_of(session_id, "u.0"), info("u", 2, closed=True), "and it is complete")
    expect_equal((await given.missed(session_id, "u", 1))[0], [numbered(2).data], "and can be read")
    expect(not await store.append(session_id, "u", [Event(b"x")], position=2), "but takes no more")
    expect(not await store.open_stream("nobody", "s", "", events), "a stream needs a session")


async def first_events_are_taken_once(given: Given) -> None:
    store = given.store
    session_id, _ = await given.stream()
    events = [numbered(1), numbered(2)]
    expect(await store.open_stream(session_id, "s", "other", events), "an open stream without events takes them")
    expect_equal(await store.stream_of(session_id, "s.0"), info("s", 2), "and is otherwise as it was")
    for closed in (False, True):
        again = await store.open_stream(session_id, "s", "call 7", [*events, numbered(3)], closed=closed)
        expect(not again, "one that has events takes no others as its first")
        expect_equal(await store.stream_of(session_id, "s.0"), info("s", 2), "and is not closed by the attempt")
    expect(await store.open_stream(session_id, "s", "call 7"), "without events it can be opened again")
    expect(await store.open_stream(session_id, "s", "call 7", closed=True), "or closed")
    expect_equal(await store.stream_of(session_id, "s.0"), info("s", 2, closed=True), "behind what it has")
    expect(await store.open_stream(session_id, "t", closed=True), "one that is closed")
    expect(not await store.open_stream(session_id, "t", "", events), "takes no first events either")
    expect(await store.open_stream(session_id, "t"), "it can be opened again")
    expect_equal((await store.streams(session_id))[-1].closed, True, "and stays closed")
    expect_equal(await given.missed(session_id, "t", 0), ([], 0), "none of them")


async def first_events_are_bounded_like_others(given: Given) -> None:
    store, most = given.store, given.retention.max_events
    session_id = (await given.session()).session_id
    await store.open_stream(session_id, "s", "", [numbered(position + 1) for position in range(most + 2)])
    kept = [numbered(position).data for position in range(3, most + 3)]
    expect_equal(await given.missed(session_id, "s", 0), (kept, 2), "the oldest go, and are counted")
    await store.open_stream(session_id, "t", "", [Event(b"x" * given.retention.max_bytes, "big")], closed=True)
    expect_equal(await given.missed(session_id, "t", 0), ([], 1), "what is too large had its place")
    for stream_id in ("u", "v"):
        await store.open_stream(session_id, stream_id, "", [numbered(1)], closed=True)
    streams = [stream.stream_id for stream in await store.streams(session_id)]
    expect_equal(streams, ["s", "u", "v"], "a closed stream goes before an older one that is open")


async def the_last_events_can_close_their_stream(given: Given) -> None:
    store = given.store
    session_id, _ = await given.stream(1)
    expect(not await store.append(session_id, "s", [numbered(2)], position=0, closed=True), "who is behind is refused")
    expect_equal(await store.stream_of(session_id, "s.0"), info("s", 1), "and closes nothing")
    expect(await store.append(session_id, "s", [numbered(2)], position=1, closed=True), "one step appends and closes")
    expect_equal(await store.stream_of(session_id, "s.0"), info("s", 2, closed=True), "it is as if two had")
    expect(not await store.append(session_id, "s", [numbered(3)], position=2), "and it takes no more")
    await store.open_stream(session_id, "t", "call 7")
    expect(await store.append(session_id, "t", [], position=0, closed=True), "nothing can be the last")
    expect_equal(await store.stream_of(session_id, "t.0"), info("t", 0, closed=True), "and closes it, too")


async def a_writer_who_is_behind_is_refused(given: Given) -> None:
    store = given.store
    session_id, stream_id = await given.stream(2)
    for position in (0, 1, 3):
        appended = await store.append(session_id, stream_id, [Event(b"x")], position=position)
        expect(not appended, "only behind the last event can be appended")
    expect(not await store.append(session_id, "unknown", [Event(b"x")], position=0), "nor to a stream nobody opened")
    expect_equal((await given.missed(session_id, stream_id, 0))[0], [numbered(1).data, numbered(2).data], "none taken")
    expect(await store.append(session_id, stream_id, [], position=2), "nothing can be appended to the last")


async def of_two_writers_one_writes(given: Given) -> None:
    store = given.store
    session_id, stream_id = await given.stream()
    taken = [0] * 4

    async def write(writer: int) -> None:
        position = 0
        while sum(taken) < 20:
            events = [Event(b"%d of %d" % (taken[writer], writer))]
            if await store.append(session_id, stream_id, events, position=position):
                taken[writer] += 1
            stream = await store.stream_of(session_id, event_id(stream_id, 0))
            position = 0 if stream is None else stream.position

    await asyncio.gather(*[write(writer) for writer in range(4)])
    stream = await store.stream_of(session_id, event_id(stream_id, 0))
    expect_equal(stream and stream.position, sum(taken), "each position is written once")


async def a_closed_stream_can_be_read(given: Given) -> None:
    store = given.store
    session_id, stream_id = await given.stream(2)
    expect(await store.close_stream(session_id, stream_id), "a stream can be closed")
    expect(await store.close_stream(session_id, stream_id), "twice is as good as once")
    expect(not await store.append(session_id, stream_id, [Event(b"x")], position=2), "it takes no more")
    expect_equal((await given.missed(session_id, stream_id, 1))[0], [numbered(2).data], "and can still be read")
    expect_equal(await store.stream_of(session_id, "s.1"), info("s", 2, closed=True), "one sees that it is closed")
    expect(not await store.close_stream(session_id, "unknown"), "what nobody opened cannot be closed")


async def the_number_of_events_is_bounded(given: Given) -> None:
    most = given.retention.max_events
    session_id, stream_id = await given.stream(most + 3)
    kept = [numbered(position).data for position in range(4, most + 4)]
    expect_equal(await given.missed(session_id, stream_id, 0), (kept, 3), "the oldest go, and are counted")
    expect_equal(await given.missed(session_id, stream_id, 2), (kept, 1), "for who had some of them")
    expect_equal(await given.missed(session_id, stream_id, 5), (kept[2:], 0), "who had them misses nothing")


async def the_bytes_of_events_are_bounded(given: Given) -> None:
    store, most = given.store, given.retention.max_bytes
    session_id, stream_id = await given.stream()
    half = [Event(bytes([n]) * (most // 2 - 200)) for n in range(4)]
    await store.append(session_id, stream_id, half, position=0)
    expect_equal(await given.missed(session_id, stream_id, 0), ([half[2].data, half[3].data], 2), "the oldest go")
    await store.append(session_id, stream_id, [Event(b"x" * most, "big")], position=4)
    expect_equal(
        await given.missed(session_id, stream_id, 0), ([], 5), "one that is too large is lost, with all before"
    )
    stream = await store.stream_of(session_id, "s.0")
    expect_equal(stream and (stream.position, stream.upstream_event_id), (5, "big"), "but it had its place")
    await given.append(session_id, stream_id, 5)
    expect_equal(await given.missed(session_id, stream_id, 4), ([numbered(6).data], 1), "it goes on behind it")


async def the_age_of_events_is_bounded(given: Given) -> None:
    session_id, stream_id = await given.stream(2)
    given.clock.advance(given.retention.max_age_ms - 1)
    await given.append(session_id, stream_id, 2)
    expect_equal((await given.missed(session_id, stream_id, 0))[1], 0, "young enough")
    given.clock.advance(1)
    expect_equal(await given.missed(session_id, stream_id, 0), ([numbered(3).data], 2), "too old")
    await given.append(session_id, stream_id, 3)
    kept = [numbered(3).data, numbered(4).data]
    expect_equal(await given.missed(session_id, stream_id, 0), (kept, 2), "and gone")
    given.clock.advance(-10_000)
    await given.append(session_id, stream_id, 4)
    given.clock.advance(10_000 + given.retention.max_age_ms - 1)
    kept = [numbered(4).data, numbered(5).data]
    expect_equal(await given.missed(session_id, stream_id, 3), (kept, 0), "a clock that was behind makes nothing older")


async def the_number_of_streams_is_bounded(given: Given) -> None:
    store = given.store
    session_id, _ = await given.stream(1)
    for stream_id in ("t", "u"):
        await store.open_stream(session_id, stream_id)
    await store.close_stream(session_id, "t")
    await store.append(session_id, "t", [], position=0)
    for stream_id, wanted in (("v", ["s", "u", "v"]), ("w", ["u", "v", "w"])):
        await store.open_stream(session_id, stream_id)
        streams = await store.streams(session_id)
        expect_equal([stream.stream_id for stream in streams], wanted, "the oldest goes, closed ones first")
    expect_equal(await store.after(session_id, "s.0"), None, "and is unknown")
    await store.open_stream(session_id, "s")
    expect_equal(await given.missed(session_id, "s", 0), ([], 0), "its name can be used anew")


async def a_stream_is_restored_if_it_is_longer(given: Given) -> None:
    store = given.store
    session_id, _ = await given.stream(3)
    longer = [LoggedEvent(position, Event(b"theirs %d" % position)) for position in (4, 5)]
    expect(await store.restore_stream(session_id, info("s", 5), longer), "a longer stream is taken")
    data = [each.event.data for each in longer]
    expect_equal(await given.missed(session_id, "s", 1), (data, 2), "in the place of the shorter")
    expect_equal(await store.stream_of(session_id, "s.1"), info("s", 5), "with all that is known of it")
    await given.append(session_id, "s", 5)
    expect(await store.restore_stream(session_id, info("s", 5, closed=True), longer), "a shorter one is not")
    expect_equal((await given.missed(session_id, "s", 5))[0], [numbered(6).data], "nothing is lost by it")
    expect_equal(await store.stream_of(session_id, "s.1"), info("s", 6, closed=True), "but closed is closed")
    expect(await store.restore_stream(session_id, info("t", 2, closed=True), []), "one that is not there")
    expect_equal(await given.missed(session_id, "t", 0), ([], 2), "without its events: lost")
    expect_equal(await store.stream_of(session_id, "t.1"), info("t", 2, closed=True), "as it was")
    expect(not await store.restore_stream("nobody", info("s", 5), longer), "a stream needs a session")


async def events_go_with_their_session(given: Given) -> None:
    store = given.store
    session_id, _ = await given.stream(3)
    mapping = await store.end(session_id)
    expect_equal(mapping and mapping.session_id, session_id, "a session with streams can be ended")
    expect_equal(await store.after(session_id, "s.0"), None, "its events are gone")
    session_id, _ = await given.stream(3)
    given.clock.advance(IDLE_MS)
    expect_equal(await store.after(session_id, "s.0"), None, "also when it is over")
    expect(not await store.append(session_id, "s", [Event(b"x")], position=3), "nothing is added")
    expect(not await store.close_stream(session_id, "s"), "nothing is closed")
    expect(not await store.restore_stream(session_id, info("s", 9), []), "nothing is restored")
    expect_equal(len(await store.expire()), 1, "and it is taken away with them")


def _parts(missed: Missed) -> tuple[StreamInfo, list[LoggedEvent], int]:
    return missed.stream, list(missed.events), missed.lost
