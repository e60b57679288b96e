"""A session ends when its client says so, or when nobody uses it; and nothing of it is kept."""

import json

import pytest

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.relay import RelayCounts
from tests.core.relay_driver import begun, called, listening, note
from tests.core.relay_parts import EVERYTHING_400, SDK_404, Connection, Head, call, initialize, result
from tests.core.resumption_world import settle
from tests.core.upstream_parts import file, named, route

pytest_plugins = ["tests.core.relay_fixtures"]


# --- By its client ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [None, Head(204), Head(*SDK_404), Head(404), Head(*EVERYTHING_400)])
async def test_a_deleted_session_is_over_also_when_its_server_knew_it_no_more(world, said):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("DELETE", said)
    exchange = await client.do("DELETE")
    assert exchange.status == (204 if said is not None and said.status == 204 else 200)
    assert await client.mapping() is None
    assert (its.proxy.counts.sessions_ended, its.proxy.sessions()) == (1, {"a": 0})
    assert (await client.post(call(1))).status == 404


@pytest.mark.parametrize("said", [Head(405), Head(401), Head(500), Head(400, b"why?")])
async def test_a_server_may_keep_a_session_that_its_client_would_end(world, said):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("DELETE", said)
    assert (await client.do("DELETE")).status == said.status
    assert (await client.post(call(1))).json["result"] == {"by": "a"}


async def test_the_store_may_be_away_when_a_session_is_deleted(world):
    its = world("a")
    client = await begun(its)

    async def fail(_session_id):
        raise StoreUnavailable("away")

    its.store.end = fail
    assert (await client.do("DELETE")).status == 503


async def test_a_session_whose_server_is_gone_is_deleted_without_beginning_it_elsewhere(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].die()
    began_s = its.time.now_s
    assert (await client.do("DELETE")).status == 200
    assert its.time.now_s == began_s
    assert await client.mapping() is None
    assert its.servers["b"].asked == []
    assert its.proxy.sessions() == {"a": 0, "b": 0}


async def test_a_server_that_says_that_it_cannot_end_a_session_is_believed(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].then("DELETE", Head(503))
    assert (await client.do("DELETE")).status == 503
    assert its.servers["b"].asked == []
    its.servers["a"].then("DELETE", ConnectionResetError("reset"))
    assert (await client.do("DELETE")).status == 200
    assert await client.mapping() is None


@pytest.mark.parametrize("is_down", [True, False])
async def test_the_store_may_be_away_when_its_server_is_gone_too(world, is_down):
    its = world("a")
    client = await begun(its)
    its.servers["a"].die()
    if is_down:
        for _ in range(3):
            await client.do("GET")

    async def fail(_session_id):
        raise StoreUnavailable("away")

    its.store.end = fail
    assert (await client.do("DELETE")).status == 503


# --- By time ------------------------------------------------------------------------------------------------------


async def test_a_session_that_nobody_uses_is_ended_here_and_at_its_server(world):
    its = world("a", idle_ttl_ms=60_000)
    client = await begun(its)
    await its.time.pass_s(59)
    await its.proxy.relay.tend()
    assert its.proxy.counts.sessions_expired == 0
    await its.time.pass_s(2)
    await its.proxy.relay.tend()
    assert (its.proxy.counts.sessions_expired, its.proxy.sessions()) == (1, {"a": 0})
    await settle()
    assert its.servers["a"].sessions == {}
    assert (await client.post(call(1))).status == 404


@pytest.mark.parametrize("is_call", [True, False])
async def test_a_session_is_in_use_while_it_has_a_stream(world, is_call):
    its = world("a", idle_ttl_ms=60_000)
    client = await begun(its)
    exchange, stream = await (called if is_call else listening)(client)
    for _ in range(10):
        await its.time.pass_s(30)
        await its.proxy.relay.tend()
    stream.finish(result(7))
    await settle()
    assert exchange.payloads == [result(7)]
    exchange.leave()
    await settle()
    await its.time.pass_s(61)
    await its.proxy.relay.tend()
    assert await client.mapping() is None


async def test_a_session_is_in_use_while_it_waits_for_a_slow_answer(world):
    its = world("a", idle_ttl_ms=60_000)
    client = await begun(its)
    connection = Connection()
    its.servers["a"].then("tools/call", Head(200, connection=connection))
    exchange = await client.stream("POST", call(7))
    for _ in range(5):
        await its.time.pass_s(59)
        await its.proxy.relay.tend()
    connection.send(result(7))
    connection.close()
    await its.time.finish(exchange.task)
    assert exchange.json == json.loads(result(7))
    assert (await client.post(call(8))).status == 200
    its.proxy.leaves_nothing()


async def test_a_session_is_in_use_while_its_client_follows_what_another_proxy_reads(world):
    its = world("a", idle_ttl_ms=60_000)
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    exchange.leave()
    await settle()
    back = client.open("GET", proxy=other, last_event_id=exchange.last_event_id)
    for _ in range(6):
        for _ in range(5):
            its.proxy.relay.beat()
            await its.time.pass_s(5)
        await other.relay.tend()
    stream.finish(result(7))
    await its.time.finish(back.task)
    assert back.payloads == [result(7)]
    other.leaves_nothing()


async def test_tending_counts_the_sessions_of_all_proxies_where_they_are(world):
    its = world("a", "b")
    other = its.another_proxy()
    clients = [await begun(its, other) for _ in range(3)]
    assert its.proxy.sessions() == {"a": 0, "b": 0}
    await its.proxy.relay.tend()
    assert its.proxy.sessions() == other.sessions() == {"a": 2, "b": 1}
    listing = its.proxy.relay.listing
    assert ({each.session_id for each in listing.records}, listing.count) == ({each.session_id for each in clients}, 3)
    assert listing.at_s == its.time.now_s


async def test_a_server_that_is_gone_from_the_file_leaves_with_the_last_of_its_sessions(world):
    its = world("a", "b")
    client = await begun(its)
    changes = its.proxy.relay.apply(file(route("b", health=its.options["health"])))
    assert "removed: a" in str(changes)
    assert (await client.post(call(1))).json["result"] == {"by": "a"}
    its.servers["a"].die()
    exchanges = [client.open("POST", call(number)) for number in range(2, 6)]
    await its.time.finish(*(each.task for each in exchanges))
    assert {each.json["result"]["by"] for each in exchanges} == {"b"}
    assert its.proxy.pool.member("a") is None
    assert its.proxy.sessions() == {"b": 1}


async def test_a_session_of_a_server_that_nobody_has_any_more_moves(world):
    its = world("a", "b")
    client = await begun(its)
    named(its.proxy.pool, "a").sessions = 0
    its.proxy.relay.apply(file(route("b", health=its.options["health"])))
    assert (await client.post(call(1))).json["result"] == {"by": "b"}
    assert its.proxy.counts.sessions_moved == 1


async def test_a_session_of_one_route_is_unknown_at_another_until_its_server_is_in_none(world):
    its = world("a", "b")
    relay = its.proxy.relay
    there = route("b", name="there", path="/there", health=its.options["health"])
    relay.apply(file(route("a", name="here", path="/mcp", health=its.options["health"]), there))
    client = await begun(its)
    for method, body in (("POST", call(1)), ("GET", b""), ("DELETE", b"")):
        assert (await client.do(method, body, path="/there")).status == 404
    assert (its.servers["b"].asked, relay.counts.refused) == ([], 3)
    assert (await client.post(call(2))).json["result"] == {"by": "a"}
    relay.apply(file(there))
    assert (await client.post(call(3), path="/there")).json["result"] == {"by": "b"}
    its.proxy.leaves_nothing()


async def test_tending_says_that_the_store_is_away(world):
    its = world("a")
    its.proxy.log.is_away = True
    with pytest.raises(StoreUnavailable):
        await its.proxy.relay.tend()


# --- By the proxy's end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_relay_that_ends_writes_what_it_has_as_long_as_it_may(world, is_away):
    its = world("a")
    client = await begun(its)
    exchange, stream = await listening(client)
    ends = []

    async def end():
        ends.append(True)

    its.proxy.log.aclose = end
    its.proxy.log.is_away = is_away
    stream.emit(note(1))
    await settle()
    await its.proxy.relay.aclose(0.01)
    missed = await its.store.after(client.session_id, exchange.frames[0].id)
    assert len(missed.events) == (0 if is_away else 1)
    assert ends == [True]
    its.proxy.relay._world.carried.clear()
    its.proxy.relay._world.in_use.clear()
    its.proxy.leaves_nothing()


def test_counts_are_told_in_words():
    assert str(RelayCounts()) == "nothing happened yet"
    assert str(RelayCounts(requests=2, streams_read_on=1)) == "2 requests, 1 stream read on"
    one = RelayCounts(sessions_begun=1, sent_again=1, given_up=1, answers_lost=1, events_lost=1_000)
    assert str(one) == "1 session begun, 1 sent again, 1 given up, 1 answer lost, 1,000 events lost"


async def test_requests_that_no_route_is_about_go_their_own_way(world):
    its = world("a")
    assert its.proxy.relay.routes("proxy", "/else") is None
    assert its.proxy.relay.routes("proxy", "/mcp/x") is its.proxy.pool
    exchange = await its.proxy.do("POST", initialize(), path="/mcp/x?y=1")
    assert exchange.legs[0].path == "/mcp/x?y=1"
