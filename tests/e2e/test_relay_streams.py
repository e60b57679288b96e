"""Event streams through a real mitmdump whose servers break off, event by event."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.origin import Exchange
from tests.e2e.proxies import Proxies
from tests.e2e.relay_lanes import Lanes, calling, events_of
from tests.e2e.relay_servers import CLOSED, SESSION, numbered, numbers, say


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    kinds = {"plain": ({}, 60), "impatient": ({"retry": {"patience_s": 0}}, 10)}
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies)


def answer(message_id: int = 1, *, event_id: str | None = None) -> bytes:
    return wire.sse(wire.result(message_id), event_id=event_id)


# --- Streams that their server breaks off -----------------------------------------------------------------------------


@pytest.mark.parametrize("unfinished", [b"", b"id: 4\ndata: {", b'data: {"a":1}\n', b"i"])
@pytest.mark.parametrize("how", ["reset", "closed in a chunk", "ended"])
async def test_an_answer_that_breaks_off_goes_on_from_the_server_with_the_servers_own_id(
    lanes: Lanes, how: str, unfinished: bytes
):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1, event_id="one") + numbered(2, event_id="two"))
        assert numbers(await stream.messages(2)) == [1, 2]
        if how == "closed in a chunk":
            await exchange.raw(b"ff\r\n" + unfinished)
            exchange._writer.close()
        elif how == "reset":
            await exchange.send(unfinished) if unfinished else None
            await exchange.reset()
        else:
            await exchange.send(unfinished) if unfinished else None
            await exchange.end()
        again = await lane.a.exchange()
        assert (again.request.method, again.request.header("last-event-id")) == ("GET", "two")
        assert again.request.header(SESSION) == lane.a.begun[0]
        assert again.request.header("content-length") is None
        assert again.request.body == b""
        await again.head()
        await again.send(numbered(2, event_id="two") + numbered(3, event_id="three") + answer(event_id="four"))
        await again.end()
        rest = await stream.rest()
        assert numbers(rest) == [3]
        assert rest[-1]["id"] == 1
        ids = [event.id for event in stream.events]
        assert len(set(ids)) == len(ids)
        assert not {"one", "two", "three", "four"} & set(ids)
        await client.call(message_id=2)
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 2


async def test_an_answer_survives_many_breaks(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        for number in range(6):
            await exchange.send(numbered(number, event_id=str(number)))
            assert numbers(await stream.messages(1)) == [number]
            await exchange.reset()
            exchange = await lane.a.exchange()
            assert exchange.request.header("last-event-id") == str(number)
            await exchange.head()
        await exchange.send(answer(event_id="end"))
        await exchange.end()
        assert (await stream.rest())[0]["id"] == 1
        await client.call(message_id=2)
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 2


async def test_an_answer_without_ids_that_breaks_off_ends_with_an_error_that_says_it_may_have_run(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1) + b"data: {")
        assert numbers(await stream.messages(1)) == [1]
        await exchange.reset()
        (error,) = (message for message in await stream.rest() if "error" in message)
        assert (error["id"], error["error"]["code"]) == (1, CLOSED)
        assert error["error"]["data"]["mayHaveRun"] is True
        assert lane.a.asked("GET") == []
        await client.call(message_id=2)
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 2


async def test_an_answer_without_ids_that_ends_in_good_order_ends_so(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        await exchange.end()
        assert numbers(await stream.rest()) == [1]
        await client.call(message_id=2)
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 2


async def test_a_server_that_lets_itself_be_polled_is_asked_when_it_wants(lanes: Lanes):
    async with lanes.lane() as lane:
        _, exchange, stream = await calling(lane)
        await exchange.send(b"id: p-1\nretry: 300\ndata:\n\n")
        loop = asyncio.get_running_loop()
        before = loop.time()
        await exchange.end()
        for number in range(3):
            exchange = await lane.a.exchange()
            assert loop.time() - before > 0.25
            assert exchange.request.header("last-event-id") == (f"{number - 1}" if number else "p-1")
            await exchange.head()
            await exchange.send(numbered(number, event_id=str(number)))
            before = loop.time()
            await exchange.end()
        exchange = await lane.a.exchange()
        await exchange.head()
        await exchange.send(answer(event_id="last"))
        await exchange.end()
        rest = await stream.rest()
        assert numbers(rest) == [0, 1, 2]
        assert rest[-1]["id"] == 1


@pytest.mark.parametrize("status", [405, 404, 400, 401])
async def test_an_answer_that_the_server_will_not_go_on_with_ends_with_an_error(lanes: Lanes, status: int):
    async with lanes.lane() as lane:
        _, exchange, stream = await calling(lane)
        await exchange.send(numbered(1, event_id="1"))
        await exchange.reset()
        await (await lane.a.exchange()).answer(b'"no session"', status=status)
        error = (await stream.rest())[-1]["error"]
        assert (error["code"], error["data"]["mayHaveRun"]) == (CLOSED, True)
        assert len(lane.a.asked("GET")) == 1


async def test_a_server_that_still_holds_the_old_stream_is_asked_again(lanes: Lanes):
    async with lanes.lane() as lane:
        _, exchange, stream = await calling(lane)
        await exchange.send(numbered(1, event_id="1"))
        await exchange.reset()
        for _ in range(3):
            await (await lane.a.exchange()).answer(b"busy", status=409)
        again = await lane.a.exchange()
        assert again.request.header("last-event-id") == "1"
        await again.head()
        await again.send(answer(event_id="2"))
        await again.end()
        assert (await stream.rest())[-1]["id"] == 1


async def test_an_answer_whose_session_was_lost_with_its_server_ends_with_an_error(lanes: Lanes):
    async with lanes.lane() as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1, event_id="1"))
        assert numbers(await stream.messages(1)) == [1]
        await lane.a.die()
        await lane.a.start()
        error = (await stream.rest())[-1]["error"]
        assert (error["code"], error["data"]["mayHaveRun"]) == (CLOSED, True)
        await client.call(message_id=2)
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 2


# --- The server's own stream (GET) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [True, False])
async def test_the_stream_of_a_get_goes_on_when_its_server_ends_it(lanes: Lanes, ids: bool):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        listening = asyncio.create_task(client.listen())
        for number in range(5):
            exchange = await lane.a.exchange()
            expected = str(number - 1) if ids and number else None
            assert exchange.request.header("last-event-id") == expected
            await exchange.head()
            stream = await listening
            await exchange.send(numbered(number, event_id=str(number) if ids else None))
            assert numbers(await stream.messages(1)) == [number]
            await (exchange.end() if number % 2 else exchange.reset())
        assert len(lane.a.begun) == 1


async def test_a_server_that_ends_each_stream_at_once_is_not_asked_without_a_pause(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()

        async def say_and_end(exchange: Exchange) -> None:
            await exchange.head()
            await exchange.send(numbered(1))
            await exchange.end()

        lane.a.own["GET"] = say_and_end
        stream = await client.listen()
        assert numbers(await stream.messages(4)) == [1] * 4
        await asyncio.sleep(1)
        assert len(lane.a.asked("GET")) < 12


@pytest.mark.parametrize("where", ["here", "there"])
async def test_the_stream_of_a_get_goes_on_over_the_same_connection_when_its_server_dies(lanes: Lanes, where: str):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        listening = asyncio.create_task(client.listen())
        exchange = await lane.a.exchange()
        await exchange.head()
        stream = await listening
        await exchange.send(numbered(1, event_id="1"))
        assert numbers(await stream.messages(1)) == [1]
        await lane.a.die()
        server = await (lane.a if where == "here" else lane.b).start()
        again = await server.exchange()
        assert again.request.header("last-event-id") is None or where == "here"
        assert again.request.header(SESSION) == server.begun[-1]
        await again.head()
        await again.send(numbered(2, event_id="1"))
        assert numbers(await stream.messages(1)) == [2]
        await client.call()
        await say(await server.exchange())
        assert (await client.answer())["id"] == 1


@pytest.mark.parametrize(("status", "body"), [(405, b""), (404, b"Not Found"), (406, b"x")])
async def test_a_server_without_a_stream_of_its_own_says_so_to_the_client(lanes: Lanes, status: int, body: bytes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        for _ in range(2):
            await client.line.send("GET", lane.path, client.headers())
            await (await lane.a.exchange()).answer(body, {}, status=status)
            response = await client.line.response()
            assert (response.status, await response.rest()) == (status, body)
        assert len(lane.a.begun) == 1


async def test_a_last_event_id_that_is_not_ours_passes_to_the_server(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        listening = asyncio.create_task(client.listen("the-servers-own"))
        exchange = await lane.a.exchange()
        assert exchange.request.header("last-event-id") == "the-servers-own"
        await exchange.head()
        stream = await listening
        await exchange.send(numbered(1))
        assert numbers(await stream.messages(1)) == [1]


@pytest.mark.parametrize(("version", "primes"), [("2025-11-25", True), ("2025-06-18", False), ("2025-03-26", False)])
async def test_clients_that_know_them_get_an_event_to_come_back_with_before_the_first(
    lanes: Lanes, version: str, primes: bool
):
    async with lanes.lane() as lane:
        _, exchange, stream = await calling(lane, version=version)
        if primes:
            assert (await stream.next()).data == b""
        await exchange.send(answer())
        await exchange.end()
        assert [bool(event.data) for event in events_of(await stream.response.rest())] == [True]
