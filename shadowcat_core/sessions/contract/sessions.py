"""The contract of sessions: begin, use, move, end, expire, list. Each check is a sentence about any store."""

import asyncio
from dataclasses import replace

from shadowcat_core.errors import StoreFull
from shadowcat_core.limits import ENDED_SESSIONS_MS
from shadowcat_core.sessions.contract.given import (
    IDLE_MS,
    LIFETIME_MS,
    Given,
    expect,
    expect_equal,
    moved,
)
from shadowcat_core.sessions.model import SessionTimes, Upstream

FOREIGN_IDS = ("", "nobody", "}", "{x}", "a b", "é", "\udcff", "x" * 5_000, "a\nb", "../x", "*")


async def what_is_created_can_be_read(given: Given) -> None:
    record = replace(given.record(), subscriptions=("file:///b", "file:///a"), log_level="warning")
    expect(await given.store.create(record), "a session under a new id can be created")
    expect_equal(await given.store.get(record.session_id), record, "a session is read as it was created")
    stateless = await given.session(Upstream("no ids"))
    expect_equal(await given.store.get(stateless.session_id), stateless, "an upstream may give no id")


async def an_id_is_taken_once(given: Given) -> None:
    first = await given.session()
    second = given.record(session_id=first.session_id)
    expect(not await given.store.create(second), "a taken id is refused")
    expect_equal(await given.store.get(first.session_id), first, "who was first stays")
    expect_equal(await given.store.count(), 1, "what was refused does not count")
    expect_equal(list((await given.store.list()).records), [first], "what was refused is not listed")


async def what_nobody_has_is_unknown(given: Given) -> None:
    await given.session()
    store = given.store
    for session_id in FOREIGN_IDS:
        answers = [
            await store.get(session_id),
            await store.touch(session_id),
            await store.rebind(session_id, 1, Upstream("tools", "x")),
            await store.end(session_id),
            await store.stream_of(session_id, "s.1"),
            await store.after(session_id, "s.1"),
        ]
        expect_equal(answers, [None] * 6, f"a session {session_id!r} is unknown")
        refusals = [
            await store.rebind_credential(session_id, "a", "b"),
            await store.add_subscription(session_id, "file:///a"),
            await store.remove_subscription(session_id, "file:///a"),
            await store.set_log_level(session_id, "info"),
            await store.open_stream(session_id, "s"),
            await store.append(session_id, "s", [], position=0),
            await store.close_stream(session_id, "s"),
        ]
        expect_equal(refusals, [False] * 7, f"nothing can be done with a session {session_id!r}")
        expect_equal(list(await store.streams(session_id)), [], "no session, no streams")
    expect_equal(await store.count(), 1, "asking creates nothing")


async def a_touch_keeps_a_session_alive(given: Given) -> None:
    record = await given.session()
    for _ in range(5):
        given.clock.advance(IDLE_MS - 1)
        expect_equal(await given.store.touch(record.session_id), record.mapping, "a touch reads the mapping")
    used = replace(record, times=record.times.used_at(given.clock()))
    expect_equal(await given.store.get(record.session_id), used, "a touch notes the time, and nothing else")
    given.clock.advance(IDLE_MS)
    expect_equal(await given.store.touch(record.session_id), None, "an idle session is over at its time")


async def reading_is_no_use(given: Given) -> None:
    record = await given.session()
    given.clock.advance(IDLE_MS - 1)
    expect_equal(await given.store.get(record.session_id), record, "a session is there until its time")
    given.clock.advance(1)
    expect_equal(await given.store.get(record.session_id), None, "and reading it did not change its time")


async def time_never_moves_back(given: Given) -> None:
    record = await given.session()
    given.clock.advance(1_000)
    await given.store.touch(record.session_id)
    given.clock.advance(-5_000)
    expect_equal(await given.store.touch(record.session_id), record.mapping, "another machine's clock is behind")
    given.clock.advance(5_000 + IDLE_MS - 1)
    expect(await given.store.touch(record.session_id), "the later use counts")


async def however_busy_a_session_ends(given: Given) -> None:
    record = await given.session()
    for _ in range(LIFETIME_MS // IDLE_MS * 2 - 1):
        given.clock.advance(IDLE_MS // 2)
        expect(await given.store.touch(record.session_id), "a busy session lives")
    given.clock.advance(IDLE_MS // 2)
    expect_equal(await given.store.touch(record.session_id), None, "and is over at the end of its lifetime")


async def an_expired_session_does_not_exist(given: Given) -> None:
    store, record = given.store, await given.session()
    session_id = record.session_id
    await store.open_stream(session_id, "s")
    given.clock.advance(IDLE_MS)
    expect_equal(await store.get(session_id), None, "it is not read")
    expect_equal(await store.find(record.mapping.upstream), None, "nor found")
    expect_equal(await store.rebind(session_id, 1, Upstream("b", "x")), None, "nor moved")
    expect(not await store.add_subscription(session_id, "file:///a"), "nor subscribed")
    expect(not await store.open_stream(session_id, "t"), "no stream is opened in it")
    expect_equal(await store.stream_of(session_id, "s.0"), None, "its streams are gone")
    expect_equal(await store.end(session_id), None, "it cannot be ended")
    expect_equal(list((await store.list()).records), [], "it is not listed")
    expect(not await store.create(given.record(session_id=session_id)), "its id is taken until it is taken away")
    expect_equal(list(await store.expire()), [record.mapping], "but it is taken away")
    expect(await store.create(given.record(session_id=session_id)), "then its id is free")


async def an_expired_session_is_taken_away_once(given: Given) -> None:
    store = given.store
    early = [await given.session() for _ in range(7)]
    given.clock.advance(IDLE_MS // 2)
    late = [await given.session() for _ in range(3)]
    busy = early.pop()
    await store.touch(busy.session_id)
    expect_equal(list(await store.expire()), [], "nothing is over yet")
    given.clock.advance(IDLE_MS // 2)
    taken = [mapping for _ in range(5) for mapping in await store.expire(limit=2)]
    wanted = sorted(record.session_id for record in early)
    expect_equal(sorted(each.session_id for each in taken), wanted, "each idle session is taken away once")
    expect_equal(await store.count(), len(late) + 1, "the others stay")
    given.clock.advance(IDLE_MS)
    both = await asyncio.gather(store.expire(), store.expire())
    rest = sorted(each.session_id for some in both for each in some)
    wanted = sorted(record.session_id for record in [busy, *late])
    expect_equal(rest, wanted, "of two who expire at the same time one gets each session")
    expect_equal((await store.count(), await store.count("tools")), (0, 0), "none is left")


async def a_session_is_ended_once(given: Given) -> None:
    store, record, other = given.store, await given.session(), await given.session()
    await store.add_subscription(record.session_id, "file:///a")
    await store.open_stream(record.session_id, "s")
    answers = await asyncio.gather(*[store.end(record.session_id) for _ in range(5)])
    won = [answer for answer in answers if answer is not None]
    expect_equal(won, [record.mapping], "of those who end a session one gets its mapping")
    expect_equal(await store.get(record.session_id), None, "it is gone")
    expect_equal(await store.find(record.mapping.upstream), None, "from both sides")
    expect_equal((await store.count(), await store.count("tools")), (1, 1), "and counts no more")
    given.clock.advance(1)
    again = given.record(session_id=record.session_id)
    expect(await store.create(again), "its id is free")
    expect_equal(await store.get(record.session_id), again, "nothing is left of the old one")
    expect_equal(list(await store.streams(record.session_id)), [], "nor of its streams")
    expect_equal(await store.get(other.session_id), other, "others are not concerned")


async def batches_answer_in_order(given: Given) -> None:
    store = given.store
    first, second, third = [await given.session() for _ in range(3)]
    ids = [third.session_id, "nobody", first.session_id]
    expect_equal(list(await store.get_many(ids)), [third, None, first], "get_many")
    expect_equal(list(await store.touch_many(ids)), [third.mapping, None, first.mapping], "touch_many")
    expect_equal(list(await store.end_many(ids)), [third.mapping, None, first.mapping], "end_many")
    expect_equal(list((await store.list()).records), [second], "the others stay")
    expect_equal([*await store.get_many([]), *await store.end_many([])], [], "of nothing comes nothing")


async def a_session_moves_from_the_epoch_one_knows(given: Given) -> None:
    store, record = given.store, await given.session(Upstream("a", "old"))
    new, other = Upstream("b", "new"), Upstream("c")
    mapping = moved(record.mapping, new)
    expect_equal(await store.rebind(record.session_id, 1, new), mapping, "a move from the epoch it is in")
    expect_equal(await store.rebind(record.session_id, 1, other), mapping, "who knows an old epoch is told the new")
    expect_equal(await store.rebind(record.session_id, 7, other), mapping, "nor is there a move from a later one")
    expect_equal(await store.get(record.session_id), replace(record, mapping=mapping), "nothing else changes")
    expect_equal(await store.find(new), mapping, "it is found from its new side")
    expect_equal(await store.find(record.mapping.upstream), None, "and not from its old one")
    counts = [await store.count(name) for name in "abc"]
    expect_equal(counts, [0, 1, 0], "servers' counts follow")
    expect_equal(await store.rebind(record.session_id, 2, other), moved(mapping, other), "to one without ids")
    expect_equal(await store.find(new), None, "who has no id is not found by it")
    expect_equal(await store.find(other), None, "nor without")


async def of_many_moves_one_is_made(given: Given) -> None:
    record = await given.session()
    targets = [Upstream("b", f"new-{n}") for n in range(20)]
    answers = await asyncio.gather(*[given.store.rebind(record.session_id, 1, target) for target in targets])
    expect_equal(len(set(answers)), 1, "all are told the same mapping")
    expect_equal(answers[0] and answers[0].epoch, 2, "one move was made")
    expect_equal(await given.store.count("b"), 1, "and counted")


async def a_credential_is_replaced_by_who_knows_it(given: Given) -> None:
    store, record = given.store, await given.session()
    session_id, old = record.session_id, record.mapping.credential
    expect(not await store.rebind_credential(session_id, "wrong", "new"), "not by another")
    expect(await store.rebind_credential(session_id, old, "new"), "by who knows it")
    expect(await store.rebind_credential(session_id, old, "new"), "twice is as good as once")
    expect(not await store.rebind_credential(session_id, old, "newer"), "but it is the old one no more")
    mapping = await store.touch(session_id)
    expect_equal(mapping, replace(record.mapping, credential="new"), "nothing else changes")


async def subscriptions_keep_their_order(given: Given) -> None:
    store, session_id = given.store, (await given.session()).session_id
    for uri in ("c", "a", "é?", "c", ""):
        expect(await store.add_subscription(session_id, uri), "one can subscribe, also again")
    for uri in ("a", "nothing"):
        expect(await store.remove_subscription(session_id, uri), "one can unsubscribe, also what is not there")
    await store.add_subscription(session_id, "a")
    record = await store.get(session_id)
    expect_equal(record and tuple(record.subscriptions), ("c", "é?", "", "a"), "each once, in order")


async def subscriptions_are_bounded(given: Given) -> None:
    store, session_id = given.store, (await given.session()).session_id
    kept: list[str] = []
    try:
        while len(kept) < 1_000:
            uri = f"file:///{len(kept)}/" + "x" * 1_000
            await store.add_subscription(session_id, uri)
            kept.append(uri)
    except StoreFull:
        pass
    expect(10 < len(kept) < 20, "they are bounded by their bytes")
    record = await store.get(session_id)
    expect_equal(record and list(record.subscriptions), kept, "the one too many is not kept")
    expect(await store.add_subscription(session_id, kept[3]), "one that is there can be asked for again")
    await store.remove_subscription(session_id, kept.pop())
    expect(await store.add_subscription(session_id, "y" * 1_000), "one that goes makes room")


async def the_log_level_is_the_last_one_set(given: Given) -> None:
    store, session_id = given.store, (await given.session()).session_id
    for level in ("debug", "error", None, ""):
        expect(await store.set_log_level(session_id, level), "a level can be set, and be none")
        record = await store.get(session_id)
        expect_equal(record and record.log_level, level, "the last one counts")


async def pages_list_each_session_once(given: Given) -> None:
    store, clock, records = given.store, given.clock, []
    for n in range(23):
        records.append(await given.session())
        clock.advance(n % 3)  # several begin in the same millisecond
    records.sort(key=lambda record: (record.times.created_ms, record.session_id))
    page = await store.list(limit=5)
    found = list(page.records)
    await store.end(records[2].session_id)  # behind the cursor
    gone = records.pop(20)
    await store.end(gone.session_id)  # before it
    new = await given.session()
    for _ in range(30):
        if page.cursor is None:
            break
        page = await store.list(page.cursor, limit=5)
        expect(len(page.records) <= 5, "a page is not longer than asked for")
        found += page.records
    expect(page.cursor is None, "there is an end")
    expect_equal([record for record in found if record != new], records, "each once, in order of beginning")


async def a_list_wants_its_own_cursor(given: Given) -> None:
    for _ in range(2):
        await given.session()
    for cursor in ("", "x", "é", "bm90YS5jdXJzb3I=", "=" * 9):
        try:
            await given.store.list(cursor)
        except ValueError:
            continue
        expect(False, f"{cursor!r} is refused")
    try:
        await given.store.list(limit=0)
    except ValueError:
        return
    expect(False, "a page of nothing is refused")


async def a_full_store_says_so(given: Given) -> None:
    records = [await given.session() for _ in range(given.max_sessions)]
    refused = given.record()
    try:
        await given.store.create(refused)
    except StoreFull as exc:
        expect_equal((exc.what, exc.limit), ("sessions", given.max_sessions), "it says what is full")
    else:
        expect(False, "a session beyond the limit is refused")
    expect_equal(await given.store.get(refused.session_id), None, "what is refused is not there")
    expect_equal(list(await given.store.restore([refused])), [None], "nor is there room to restore it")
    expect_equal(await given.store.count(), given.max_sessions, "nor does it count")
    await given.store.end(records[0].session_id)
    expect(await given.store.create(refused), "one that ends makes room")


async def restoring_merges(given: Given) -> None:
    store, clock = given.store, given.clock
    unknown, known, ahead, behind, ended = [given.record() for _ in range(5)]
    unknown = replace(unknown, subscriptions=("b", "a"), log_level="info")
    for record in (known, ahead, behind, ended):
        await store.create(record)
    await store.rebind(ahead.session_id, 1, Upstream("b", "theirs"))
    await store.end(ended.session_id)
    clock.advance(1_000)
    here, there = Upstream("c", "mine"), Upstream("d", "mine-too")
    later = known.times.used_at(clock())
    answers = await store.restore(
        [
            unknown,
            replace(known, times=later, log_level="debug"),
            replace(ahead, mapping=moved(ahead.mapping, here)),
            replace(behind, mapping=moved(moved(behind.mapping, here), there)),
            ended,
        ]
    )
    wanted = [
        unknown.mapping,
        known.mapping,
        moved(ahead.mapping, Upstream("b", "theirs")),
        moved(moved(behind.mapping, here), there),
        None,
    ]
    expect_equal(list(answers), wanted, "the higher epoch wins, of equal ones the store's; the ended stays ended")
    expect_equal(await store.get(unknown.session_id), unknown, "what was not there is kept as given")
    expect_equal(await store.get(known.session_id), replace(known, times=later), "the later use counts")
    expect_equal(await store.find(there), wanted[3], "what moved is found from its new side")
    expect_equal([await store.count(name) for name in ("tools", "b", "c", "d")], [2, 1, 0, 1], "and counted there")
    expect_equal(len((await store.list()).records), 4, "each is listed once")
    expect_equal(list(await store.restore([])), [], "of nothing comes nothing")


async def what_is_over_is_not_restored(given: Given) -> None:
    store, clock = given.store, given.clock
    idle, old, used = [await given.session() for _ in range(3)]
    new = given.record()
    clock.advance(IDLE_MS)
    later = replace(used, times=used.times.used_at(clock() - 1))
    answers = await store.restore([idle, replace(old, times=SessionTimes(1, 1, 1, 1)), later, new])
    expect_equal(list(answers), [None, None, used.mapping, None], "a use elsewhere keeps a session alive")
    taken = sorted(mapping.session_id for mapping in await store.expire())
    expect_equal(taken, sorted([idle.session_id, old.session_id]), "the others are taken away as ever")
    expect_equal(await store.count(), 1, "and none came of what was over")


async def the_ended_are_forgotten_at_last(given: Given) -> None:
    record = given.record()
    keeps = replace(record, times=SessionTimes.starting(given.clock(), idle_ttl_ms=10**9, lifetime_ms=10**9))
    await given.store.create(keeps)
    await given.store.end(keeps.session_id)
    given.clock.advance(ENDED_SESSIONS_MS - 1)
    expect_equal(list(await given.store.restore([keeps])), [None], "an ended session is remembered")


async def no_update_is_lost(given: Given) -> None:
    store, session_id = given.store, (await given.session()).session_id
    uris = [f"file:///{n}" for n in range(60)]

    async def touch(session_id: str) -> bool:
        return await store.touch(session_id) is not None

    async def move(n: int) -> int:
        epoch = 1
        while True:
            target = Upstream("b", f"id-{n}")
            mapping = await store.rebind(session_id, epoch, target)
            if mapping is None or mapping.upstream == target:
                return epoch
            epoch = mapping.epoch

    done, epochs = await asyncio.gather(
        asyncio.gather(
            *[each for uri in uris for each in (store.add_subscription(session_id, uri), touch(session_id))]
        ),
        asyncio.gather(*[move(n) for n in range(20)]),
    )
    record = await store.get(session_id)
    if record is None:
        expect(False, "the session is there")
        return
    expect(all(done), "everything was done")
    expect_equal(sorted(record.subscriptions), sorted(uris), "no subscription is lost")
    expect_equal(record.mapping.epoch, 21, "every move is one epoch")
    expect_equal(sorted(epochs), list(range(1, 21)), "each was made from another epoch")


async def closing_twice_is_allowed(given: Given) -> None:
    await given.session()
    await given.store.aclose()
    await given.store.aclose()
