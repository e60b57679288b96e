"""Clients of every kind, interceptors, faults, commands and reloads, while servers behind a real mitmdump die."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import h11
import pytest

from tests.e2e import wire
from tests.e2e.origin import WITHIN_S
from tests.e2e.proxies import SCRIPTS, Proxies, Proxy
from tests.e2e.relay_lanes import Lanes, put
from tests.e2e.relay_servers import CLOSED, SESSION, UNREACHABLE, accept, numbered, numbers, say

BROKEN = (h11.RemoteProtocolError, ConnectionError, AssertionError)
RELAYED, JUDGING = SCRIPTS / "relayed.py", SCRIPTS / "judging.py"
QUICK_CONNECT = {"timeouts": {"connect_s": 1}, "retry": {"patience_s": 0}}
ONE_TRY_S, TWO_TRIES_S = 4.5, 9.0
"""Less than two servers would take that are given the time to connect that is not said."""


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    kinds = {
        "plain": ({}, 40),
        "impatient": ({"retry": {"patience_s": 0}}, 10),
        "hasty": (QUICK_CONNECT, 6),
        "hasty-tls": (QUICK_CONNECT | {"scheme": "https"}, 4),
    }
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies, "regular", RELAYED)


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    """A proxy whose interceptor holds, drops and changes."""
    folder = tmp_path_factory.mktemp("judging")
    with Proxies(folder) as proxies:
        yield Lanes(folder, {"plain": ({}, 10)}).run(proxies, "regular", RELAYED, JUDGING, judging="s2c")


async def command(proxy: Proxy, *said: str) -> Any:
    status, answer = await put(proxy, "call", said)
    assert status == 200, answer
    return answer


# --- Flows that are killed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["the first attempt", "a later one"])
async def test_a_request_that_waits_for_a_server_and_is_killed_ends_soon(lanes: Lanes, at: str):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        if at == "a later one":
            await client.send("tools/list")
            await (await lane.a.exchange()).reset()
            await lane.a.die()
        else:
            await lane.a.die()
            await client.send("tools/list")
        await asyncio.sleep(0.3)
        async with asyncio.timeout(WITHIN_S):
            while not (await put(lane.proxy, "kill"))[1]:  # it has not got to the proxy yet
                pass
        with pytest.raises(BROKEN):
            await client.line.response()


async def test_a_client_that_is_led_back_and_killed_is_cut_off(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await client.call()
        exchange = await lane.a.exchange()
        await exchange.head()
        stream = await client.stream()
        await exchange.send(numbered(1))
        await stream.messages(1)
        await client.line.be_gone()
        back = await client.listen(stream.last_id)
        await exchange.send(numbered(2))
        assert numbers(await back.messages(1)) == [2]
        assert (await put(lane.proxy, "kill"))[1] >= 1
        with pytest.raises(BROKEN):
            await back.rest()


@pytest.mark.parametrize("what", ["request", "stream"])
async def test_a_client_that_leaves_while_its_request_waits_for_a_server_leaves_nothing_behind(lanes: Lanes, what: str):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        other = await client.elsewhere()
        await lane.a.die()
        if what == "request":
            await client.call()
        else:
            await client.line.send("GET", lane.path, client.headers())
        await asyncio.sleep(0.2)
        await client.line.be_gone()
        await lane.a.start()
        await other.send("tools/list")
        await say(await lane.a.exchange())
        assert (await other.answer())["id"] == 1
        assert lane.a.asked("tools/call") == []


# --- Servers that do not take connections -----------------------------------------------------------------------------


@contextlib.contextmanager
def full_backlog(port: int) -> Iterator[None]:
    """A port that answers nobody: it listens, and its backlog is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filling.connect(("127.0.0.1", port))
        yield


@contextlib.contextmanager
def taking_and_mute(port: int) -> Iterator[None]:
    """A port that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(16)
        yield


async def test_a_server_that_takes_no_connection_in_time_is_left_for_another(lanes: Lanes):
    async with lanes.lane("hasty") as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.b.start()
        await lane.a.die()
        with full_backlog(lane.a.port):
            await client.call()
            await say(await asyncio.wait_for(lane.b.exchange(), ONE_TRY_S))
            assert (await client.answer())["id"] == 1
            await client.call(message_id=2)
            await say(await asyncio.wait_for(lane.b.exchange(), ONE_TRY_S))
            assert (await client.answer())["id"] == 2


async def test_that_no_server_takes_a_connection_is_said_in_time(lanes: Lanes):
    async with lanes.lane("hasty") as lane:
        with full_backlog(lane.a.port), full_backlog(lane.b.port):
            client = await lane.client()
            for _ in range(2):
                response = await asyncio.wait_for(client.initialize(), TWO_TRIES_S)
                assert json.loads(await response.rest())["error"]["code"] == UNREACHABLE


async def test_a_server_that_takes_connections_and_says_nothing_of_tls_is_left_in_time(lanes: Lanes):
    async with lanes.lane("hasty-tls") as lane:
        with taking_and_mute(lane.a.port), taking_and_mute(lane.b.port):
            client = await lane.client()
            response = await asyncio.wait_for(client.initialize(), TWO_TRIES_S)
            assert json.loads(await response.rest())["error"]["code"] == UNREACHABLE


# --- Interceptors and faults on streams that break --------------------------------------------------------------------


def judged(number: int, *, event_id: str | None = None, **params: Any) -> bytes:
    """A numbered event that tells the judge what to do with it."""
    params = {"level": "info", "data": number} | params
    return wire.sse({"jsonrpc": "2.0", "method": "notifications/message", "params": params}, event_id=event_id)


async def calling(lane):
    """A call whose answer has begun to stream."""
    await lane.a.start()
    client = await (await lane.client()).begin()
    await client.call()
    exchange = await lane.a.exchange()
    await exchange.head()
    return client, exchange, await client.stream()


async def test_what_an_interceptor_drops_stays_away_and_what_it_holds_comes_in_order_across_breaks(judging: Lanes):
    async with judging.lane() as lane:
        _, exchange, stream = await calling(lane)
        await exchange.send(judged(1, event_id="1") + judged(2, event_id="2", text="EVIL"))
        await exchange.send(judged(3, event_id="3", hold_s=0.3) + judged(4, event_id="4"))
        await exchange.reset()
        again = await lane.a.exchange()
        assert again.request.header("last-event-id") == "4"
        await again.head()
        await again.send(judged(5, event_id="5", hold_s=0.1) + judged(6, event_id="6", text="EVIL"))
        await again.send(wire.sse(wire.result(1), event_id="7"))
        await again.end()
        rest = await stream.rest()
        assert numbers(rest) == [1, 3, 4, 5]
        assert rest[-1]["id"] == 1


async def test_an_event_that_is_held_while_its_client_leaves_is_there_when_it_comes_back(judging: Lanes):
    async with judging.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(judged(1))
        assert numbers(await stream.messages(1)) == [1]
        await exchange.send(judged(2, hold_s=0.5) + judged(3))
        await exchange.wait_read()
        await client.line.be_gone()
        back = await client.listen(stream.last_id)
        assert numbers(await back.messages(2)) == [2, 3]
        await exchange.send(judged(4, hold_s=0.1) + wire.sse(wire.result(1)))
        await exchange.end()
        rest = await back.rest()
        assert numbers(rest) == [4]
        assert rest[-1]["id"] == 1


@pytest.mark.parametrize("where", ["the first connection", "another one"])
async def test_a_server_whose_request_is_blocked_hears_so_in_its_own_session(judging: Lanes, where: str):
    async with judging.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(judged(1, event_id="1"))
        assert numbers(await stream.messages(1)) == [1]
        if where == "another one":
            await exchange.reset()
            exchange = await lane.a.exchange()
            await exchange.head()
        asked = {"jsonrpc": "2.0", "id": "asked", "method": "sampling/createMessage", "params": {"text": "EVIL"}}
        await exchange.send(wire.sse(asked, event_id="2"))
        said = await lane.a.exchange()
        assert (said.request.target, said.request.header(SESSION)) == ("/mcp", lane.a.begun[0])
        answer = json.loads(said.request.body)
        assert (answer["id"], answer["error"]["message"]) == ("asked", "evil")
        await accept(said)
        await exchange.send(wire.sse(wire.result(1), event_id="3"))
        await exchange.end()
        assert (await stream.rest())[-1]["id"] == 1
        assert client.session not in str(lane.a.requests)


async def test_a_stream_that_a_fault_cuts_is_come_back_to(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        name = await command(lane.proxy, "shadowcat.faults.add", "cut:after=1")
        try:
            await exchange.send(numbered(1, event_id="1") + numbered(2, event_id="2"))
            with pytest.raises(BROKEN):
                await stream.messages(3)
        finally:
            await command(lane.proxy, "shadowcat.faults.remove", name)
        seen = numbers([event.message for event in stream.events if event.data])
        coming = asyncio.create_task(client.listen(stream.last_id))
        again = await lane.a.exchange()
        await again.head()
        known = int(again.request.header("last-event-id") or 0)
        await again.send(b"".join([numbered(each, event_id=str(each)) for each in range(known + 1, 4)]))
        await again.send(wire.sse(wire.result(1), event_id="4"))
        await again.end()
        rest = await (await coming).rest()
        assert seen + numbers(rest) == [1, 2, 3]
        assert rest[-1]["id"] == 1


# --- Nothing is left behind -------------------------------------------------------------------------------------------


async def settled(proxy: Proxy, before: dict[str, int] | None = None) -> dict[str, int]:
    """What is kept, when it is as before; else what it is in the end."""
    for _ in range(20 if before is None else 200):
        _, now = await put(proxy, "count")
        if before is not None and all(now[name] <= before[name] + SLACK.get(name, 0) for name in now):
            break
        await asyncio.sleep(0.1)
    return now


SLACK = {"files": 2, "streams": 4, "connections": 1}


async def mishap(lane, client, kind: int) -> None:
    """One of the things that go wrong."""
    line = await client.another()
    await client.call(on=line)
    exchange = await lane.a.exchange()
    match kind:
        case 0:  # no answer
            await exchange.reset()
            assert (await client.answer(on=line))["error"]["code"] == CLOSED
        case 1:  # a stream without ids breaks off
            await exchange.head()
            stream = await client.stream(on=line)
            await exchange.send(numbered(1))
            await exchange.reset()
            await stream.rest()
        case 2:  # a stream with ids breaks off, and goes on
            await exchange.head()
            stream = await client.stream(on=line)
            await exchange.send(numbered(1, event_id="1"))
            await exchange.reset()
            again = await lane.a.exchange()
            await again.head()
            await again.send(wire.sse(wire.result(1), event_id="2"))
            await again.end()
            await stream.rest()
        case 3:  # the client leaves, and comes back
            await exchange.head()
            stream = await client.stream(on=line)
            await exchange.send(numbered(1))
            await stream.messages(1)
            line.leave()
            back = await client.listen(stream.last_id)
            await exchange.send(wire.sse(wire.result(1)))
            await exchange.end()
            await back.rest()
            back.response._connection.leave()
        case 4:  # the client leaves before the head, and for good
            line.leave()
            await exchange.wait_peer_gone()
        case 5:  # the session is lost
            await say(exchange)
            await client.answer(on=line)
            lane.a.forget()
            await client.call(on=line)
            await say(await lane.a.exchange())
            await client.answer(on=line)
        case _:  # the client leaves for good, and the server ends
            await exchange.head()
            stream = await client.stream(on=line)
            await exchange.send(numbered(1))
            await stream.messages(1)
            line.leave()
            await exchange.send(wire.sse(wire.result(1)))
            await exchange.end()
    line.leave()


async def test_two_hundred_mishaps_leave_nothing_behind(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        for kind in range(7):
            await mishap(lane, client, kind)
        await asyncio.sleep(0.3)
        before = await settled(lane.proxy)
        for number in range(203):
            await mishap(lane, client, number % 7)
        after = await settled(lane.proxy, before)
        assert {name: count for name, count in after.items() if count > before[name] + SLACK.get(name, 0)} == {}


async def test_one_connection_that_lives_through_a_hundred_breaks_keeps_none_of_them(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()

        async def break_off():
            await client.call()
            exchange = await lane.a.exchange()
            await exchange.head()
            stream = await client.stream()
            await exchange.send(numbered(1))
            await exchange.reset()
            assert (await stream.rest())[-1]["error"]["code"] == CLOSED

        await break_off()
        before = await settled(lane.proxy)
        for _ in range(100):
            await break_off()
        after = await settled(lane.proxy, before)
        assert {name: count for name, count in after.items() if count > before[name] + SLACK.get(name, 0)} == {}
