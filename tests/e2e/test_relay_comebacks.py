"""Clients that lose their connections and come back to their streams, through a real mitmdump."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.proxies import Proxies
from tests.e2e.relay_lanes import Lanes, calling
from tests.e2e.relay_servers import CLOSED, SESSION, numbered, numbers


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    kinds = {"plain": ({}, 60), "impatient": ({"retry": {"patience_s": 0}}, 10)}
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies)


def answer(message_id: int = 1, *, event_id: str | None = None) -> bytes:
    return wire.sse(wire.result(message_id), event_id=event_id)


# --- Clients that leave and come back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("when", ["while it runs", "when it is over"])
async def test_a_client_that_lost_its_connection_comes_back_for_what_it_missed_and_what_comes(
    lanes: Lanes, when: str, ids: bool
):
    def event(number: int) -> bytes:
        return numbered(number, event_id=str(number) if ids else None)

    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(event(1) + event(2))
        assert numbers(await stream.messages(2)) == [1, 2]
        await client.line.be_gone()
        await exchange.send(event(3) + event(4))
        if when == "when it is over":
            await exchange.send(answer(event_id="end" if ids else None))
            await exchange.end()
            await exchange.wait_read()
        back = await client.listen(stream.last_id)
        if when == "while it runs":
            assert numbers(await back.messages(2)) == [3, 4]
            await exchange.send(event(5))
            assert numbers(await back.messages(1)) == [5]
            await exchange.send(answer(event_id="end" if ids else None))
            await exchange.end()
            assert (await back.rest())[-1]["id"] == 1
        else:
            rest = await back.rest()
            assert numbers(rest) == [3, 4]
            assert rest[-1]["id"] == 1
        assert lane.a.asked("GET") == []
        assert len(lane.a.asked("tools/call")) == 1


async def test_a_client_comes_back_before_the_first_event(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await stream.next()
        await client.line.be_gone()
        back = await client.listen(stream.last_id)
        await exchange.send(numbered(1) + answer())
        await exchange.end()
        rest = await back.rest()
        assert numbers(rest) == [1]
        assert rest[-1]["id"] == 1


async def test_a_client_that_comes_back_twice_at_once_is_told_twice(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        await stream.messages(1)
        await client.line.be_gone()
        backs = [await client.listen(stream.last_id) for _ in range(2)]
        await exchange.send(numbered(2) + numbered(3))
        for back in backs:
            assert numbers(await back.messages(2)) == [2, 3]
        await exchange.send(answer())
        await exchange.end()
        for back in backs:
            assert (await back.rest())[-1]["id"] == 1


async def test_a_client_leaves_and_comes_back_again_and_again(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        for number in range(10):
            await exchange.send(numbered(number))
            assert numbers(await stream.messages(1)) == [number]
            line = stream.response._connection
            await line.be_gone() if number % 2 else line.leave()
            stream_before = stream
            stream = await client.listen(stream_before.last_id)
        await exchange.send(answer())
        await exchange.end()
        assert (await stream.rest())[-1]["id"] == 1
        assert len(lane.a.asked("tools/call")) == 1
        assert lane.a.asked("GET") == []


async def test_a_server_that_breaks_off_behind_a_client_that_left_is_resumed_when_the_client_comes_back(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1, event_id="1"))
        assert numbers(await stream.messages(1)) == [1]
        await client.line.be_gone()
        await exchange.send(numbered(2, event_id="2"))
        await exchange.reset()
        await asyncio.sleep(0.1)
        assert lane.a.asked("GET") == []
        coming = asyncio.create_task(client.listen(stream.last_id))
        again = await lane.a.exchange()
        assert again.request.header("last-event-id") == "2"
        await again.head()
        await again.send(answer(event_id="3"))
        await again.end()
        back = await coming
        rest = await back.rest()
        assert numbers(rest) == [2]
        assert rest[-1]["id"] == 1


async def test_an_answer_without_ids_that_broke_off_behind_a_client_that_left_is_an_error_when_it_comes_back(
    lanes: Lanes,
):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        assert numbers(await stream.messages(1)) == [1]
        await client.line.be_gone()
        await exchange.send(numbered(2))
        await exchange.reset()
        back = await client.listen(stream.last_id)
        rest = await back.rest()
        assert numbers(rest) == [2]
        assert rest[-1]["error"]["code"] == CLOSED


async def test_a_client_that_comes_back_while_its_first_connection_is_open_hears_all_on_both(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        await stream.messages(1)
        back = await client.listen(stream.last_id)
        await exchange.send(numbered(2) + answer())
        await exchange.end()
        for each in (stream, back):
            assert numbers(await each.rest()) == [2]


async def test_the_get_stream_of_a_client_that_left_is_left_too_and_resumed_when_it_comes_back(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        listening = asyncio.create_task(client.listen())
        exchange = await lane.a.exchange()
        await exchange.head()
        stream = await listening
        await exchange.send(numbered(1, event_id="1"))
        await stream.messages(1)
        stream.response._connection.leave()
        await exchange.wait_peer_gone()
        coming = asyncio.create_task(client.listen(stream.last_id))
        again = await lane.a.exchange()
        assert again.request.header("last-event-id") == "1"
        await again.head()
        await again.send(numbered(2, event_id="2"))
        assert numbers(await (await coming).messages(1)) == [2]


async def test_who_has_a_foreign_sessions_event_id_gets_nothing(lanes: Lanes):
    async with lanes.lane() as lane:
        _, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        await stream.messages(1)
        other = await (await lane.client()).begin()
        listening = asyncio.create_task(other.listen(stream.last_id))
        theirs = await lane.a.exchange()
        assert theirs.request.header(SESSION) == lane.a.begun[1]
        await theirs.head()
        await theirs.send(numbered(7))
        assert numbers(await (await listening).messages(1)) == [7]
