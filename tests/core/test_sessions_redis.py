"""The store in Redis with real servers: killed, restarted empty or not, hanging; and what it asks of them."""

import asyncio
import re
import secrets
import sys
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shadowcat_core.errors import StoreError, StoreUnavailable
from shadowcat_core.sessions import Event, RedisStore, ResilientStore, SessionTimes, Upstream, event_id, wall_clock_ms
from shadowcat_core.sessions import redis_scripts as scripts
from shadowcat_core.sessions.contract import CONTRACT, SetClock, Settings, run_check
from shadowcat_core.sessions.contract.given import IDLE_MS, Given
from tests.store_contract import stores
from tests.store_contract.redis_server import RedisServer, require_redis

pytest_plugins = ["tests.store_contract.fixtures"]


@pytest.fixture
def mortal(request, tmp_path):
    """A server for this test alone, to be killed."""
    require_redis()
    with RedisServer(tmp_path, durable=getattr(request, "param", False)) as server:
        yield server


@pytest.fixture
async def store(mortal):
    made = RedisStore.from_url(mortal.url, timeout_ms=30_000)
    yield made
    await made.aclose()


def a_session(given):
    """A session of real time."""
    record = given.record()
    return type(record)(record.mapping, record.handshake, SessionTimes.starting(wall_clock_ms()))


@pytest.fixture
def given(store):
    return Given(store, Settings(SetClock()), SetClock())


def calls(server):
    """How often each command was called, by the server's own count; nothing in scripts."""
    found = re.findall(rb"cmdstat_([a-z|]+):calls=(\d+)", server.command("INFO commandstats"))
    return {name.decode(): int(count) for name, count in found}


async def test_what_every_request_asks_is_one_command(store, given, mortal):
    record = a_session(given)
    await store.create(record)
    await store.open_stream(record.session_id, "s")
    session_id = record.session_id
    verbs = {
        "touch": lambda: store.touch(session_id),
        "get": lambda: store.get(session_id),
        "open_stream": lambda: store.open_stream(session_id, "t", "", [Event(b"x"), Event(b"y")], closed=True),
        "append": lambda: store.append(session_id, "s", [Event(b"x"), Event(b"y")], position=0, closed=True),
        "after": lambda: store.after(session_id, "s.1"),
        "streams": lambda: store.streams(session_id),
        "subscribe": lambda: store.add_subscription(session_id, "file:///a"),
        "set_log_level": lambda: store.set_log_level(session_id, "info"),
        "refused move": lambda: store.rebind(session_id, 9, Upstream("b")),
        "count": store.count,
    }
    for verb in verbs.values():  # so that the server knows the scripts
        await verb()
    for name, verb in verbs.items():
        before = calls(mortal).get("evalsha", 0)
        await verb()
        assert calls(mortal)["evalsha"] - before == 1, name


async def test_nothing_scans_the_keys_and_every_key_of_a_session_ends_by_itself(mortal):
    for check in CONTRACT:
        await run_check(check, stores.redis(mortal))
    assert not {"keys", "scan", "hscan", "sscan", "zscan", "flushdb", "flushall"} & calls(mortal).keys()
    client = Redis.from_url(mortal.url)
    forever = [key async for key in client.scan_iter() if await client.ttl(key) == -1]
    await client.aclose()
    assert all(b":{index}:" in key for key in forever), forever


async def test_keys_of_a_session_share_a_slot(redis_cluster):
    def slots(keys):
        return {redis_cluster.command(f"CLUSTER KEYSLOT {key}") for key in keys}

    async for store in _open(stores.cluster(redis_cluster)):
        for session_id in ("abc", "}", "{", "a}b", "", "é", "x y"):
            keys = [key for key in store._keys.session(session_id) if " " not in key]
            assert len(slots(keys)) == 1, session_id
        assert len(slots(store._keys.index)) == 1


async def _open(make):
    async with make(Settings(SetClock())) as store:
        yield store


async def test_a_server_that_was_told_to_forget_its_scripts_is_told_them_again(store, given, mortal):
    record = a_session(given)
    await store.create(record)
    mortal.command("SCRIPT FLUSH")
    assert await store.touch(record.session_id) == record.mapping
    mortal.command("SCRIPT FLUSH")
    assert await store.touch_many([record.session_id, "x"]) == [record.mapping, None]


async def test_a_burst_waits_its_turn_and_does_not_fail(store, given):
    record = a_session(given)
    await store.create(record)
    answers = await asyncio.gather(*[store.touch(record.session_id) for _ in range(500)])
    assert answers == [record.mapping] * 500


@pytest.mark.parametrize("mortal", [False, True], indirect=True, ids=["forgets", "durable"])
async def test_without_the_policy_an_outage_is_an_error_and_ends_with_it(store, given, mortal, request):
    record = a_session(given)
    await store.create(record)
    mortal.kill()
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="Redis"):
            await store.touch(record.session_id)
        with pytest.raises(StoreUnavailable, match="Redis"):
            await store.end_many([record.session_id])
    mortal.start()
    durable = request.node.callspec.params["mortal"]
    assert await store.touch(record.session_id) == (record.mapping if durable else None)
    assert await store.count() == (1 if durable else 0)


async def test_a_server_that_hangs_is_waited_for_so_long_and_no_longer(mortal, given):
    store = RedisStore.from_url(mortal.url, timeout_ms=2_000)
    record = a_session(given)
    await store.create(record)
    mortal.pause()
    answers = await asyncio.gather(*[store.touch(record.session_id) for _ in range(100)], return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    mortal.resume()
    patient = RedisStore.from_url(mortal.url, timeout_ms=30_000)
    assert await patient.touch(record.session_id) == record.mapping
    await patient.aclose()
    await store.aclose()


async def test_an_answer_that_is_an_error_is_said(store, mortal, given):
    record = a_session(given)
    key = store._keys.session(record.session_id)[0]
    mortal.command(f"SET {key} x")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await store.touch(record.session_id)
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await store.touch_many([record.session_id])


async def test_two_stores_with_different_prefixes_know_nothing_of_each_other(store, given, mortal):
    other = RedisStore.from_url(mortal.url, prefix="other", timeout_ms=30_000)
    record = a_session(given)
    await store.create(record)
    assert await other.get(record.session_id) is None
    assert (await other.count(), await store.count()) == (0, 1)
    await other.aclose()


async def test_an_index_that_lost_a_session_is_put_right_by_expiry(redis_server):
    clock = SetClock()
    store = RedisStore.from_url(redis_server.url, prefix=secrets.token_hex(4), clock_ms=clock, timeout_ms=30_000)
    given = Given(store, Settings(clock), clock)
    gone, there = await given.session(), await given.session()
    key = store._keys.session(gone.session_id)[0]
    redis_server.command(f"DEL {key}")  # as an eviction does
    assert [record.session_id for record in (await store.list()).records] == [there.session_id]
    clock.advance(IDLE_MS)
    assert await store.expire() == [there.mapping]
    assert (await store.count(), await store.count("tools")) == (0, 0)
    await store.aclose()


async def test_a_session_that_is_over_leaves_nothing_behind(redis_server):
    clock, prefix = SetClock(), secrets.token_hex(4)
    store = RedisStore.from_url(redis_server.url, prefix=prefix, clock_ms=clock, timeout_ms=30_000)
    client = Redis.from_url(redis_server.url)
    given = Given(store, Settings(clock), clock)

    async def use():
        session_id, _ = await given.stream(3)
        await store.add_subscription(session_id, "file:///a")
        await store.rebind(session_id, 1, Upstream("b", session_id))
        return session_id

    ended = await use()
    assert await store.end(ended)
    left = {key.decode() async for key in client.scan_iter(f"{prefix}:*")}
    assert left == {f"{prefix}:{{{ended}}}:ended"}
    await client.delete(*left)
    await use()
    clock.advance(IDLE_MS)
    assert len(await store.expire()) == 1
    assert [key async for key in client.scan_iter(f"{prefix}:*")] == []
    await client.aclose()
    await store.aclose()


async def test_a_session_that_came_back_while_it_was_taken_away_stays_in_the_index(redis_server):
    clock = SetClock()
    store = RedisStore.from_url(redis_server.url, prefix=secrets.token_hex(4), clock_ms=clock, timeout_ms=30_000)
    record = await Given(store, Settings(clock), clock).session()
    clock.advance(IDLE_MS)
    now_ms = clock()
    index, link = store._index, store._link
    assert await index.due(now_ms, 10) == [record.session_id]
    assert await store._run(scripts.REAP, record.session_id) is not None
    assert await store.restore([replace(record, times=record.times.used_at(now_ms - 1))]) == [record.mapping]
    await link.run_all(index.gone(record.mapping, now_ms))
    assert await store.count() == 1
    assert len((await store.list()).records) == 1
    await store.aclose()


@pytest.mark.parametrize("prefix", ["", "a{b", "a}"])
def test_a_prefix_cannot_move_keys_to_other_slots(prefix):
    with pytest.raises(ValueError, match="prefix"):
        RedisStore.from_url("redis://127.0.0.1:1", prefix=prefix)


def test_a_client_that_gives_text_is_refused():
    with pytest.raises(StoreError, match="decode_responses"):
        RedisStore(Redis(decode_responses=True))


def test_a_url_that_is_none_is_refused():
    with pytest.raises(StoreError, match="scheme"):
        RedisStore.from_url("http://127.0.0.1")


@pytest.mark.parametrize("module", ["redis.asyncio", "redis.exceptions"])
def test_without_redis_py_one_is_told_what_to_install(monkeypatch, module):
    client = Redis()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StoreError, match=r"pip install 'shadowcat\[redis\]'"):
        RedisStore(client) if module == "redis.exceptions" else RedisStore.from_url("redis://127.0.0.1")


@pytest.mark.parametrize("mortal", [False, True], indirect=True, ids=["forgets", "durable"])
async def test_a_server_killed_and_restarted_under_load_loses_nothing(mortal, given):
    """Two proxies, each with sessions of its own, go on; afterwards the server has every session and every event."""
    reports = []
    proxies = [
        ResilientStore(RedisStore.from_url(mortal.url, timeout_ms=2_000), on_report=reports.append, retry_ms=50)
        for _ in range(2)
    ]
    stop = False

    async def session(store):
        record = a_session(given)
        assert await store.create(record)
        await store.open_stream(record.session_id, "s")
        position = 0
        while not stop:
            await asyncio.sleep(0.002)  # a client that has something else to do, too
            assert (await store.touch(record.session_id)) is not None
            events = [Event(b"%d" % (position + 1))]
            assert await store.append(record.session_id, "s", events, position=position)
            position += 1
            if position % 7 == 0:
                mapping = await store.touch(record.session_id)
                await store.rebind(record.session_id, mapping.epoch, Upstream("b", f"{record.session_id}-{position}"))
        return record.session_id, position

    async def until(condition):
        while not condition():  # noqa: ASYNC110 -- what it waits for is in the server's hands
            await asyncio.sleep(0.01)

    running = asyncio.gather(*[session(proxies[n % 2]) for n in range(20)])
    for outage in range(1, 3):
        mortal.kill()
        await until(lambda: all(proxy.is_away for proxy in proxies))
        mortal.start()
        await until(lambda: not any(proxy.is_away for proxy in proxies))
        assert len([report for report in reports if report.error is None]) >= 2 * outage
    stop = True
    sessions = await running
    await until(lambda: not any(proxy.is_away for proxy in proxies))
    for proxy in proxies:
        await proxy.aclose()
    truth = RedisStore.from_url(mortal.url, timeout_ms=30_000)
    assert await truth.count() == 20
    for session_id, position in sessions:
        missed = await truth.after(session_id, event_id("s", max(0, position - 50)), limit=1_000)
        wanted = [b"%d" % n for n in range(max(0, position - 50) + 1, position + 1)]
        assert ([each.event.data for each in missed.events], missed.lost) == (wanted, 0)
        assert (await truth.touch(session_id)).epoch == 1 + position // 7
    assert await truth.count("b") + await truth.count("tools") == 20
    await truth.aclose()
