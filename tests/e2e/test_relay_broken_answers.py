"""Safe calls whose event streams break off, through a real mitmdump: what goes again, and what comes of it."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import wire
from tests.e2e.proxies import SCRIPTS, Proxies
from tests.e2e.raw_client import connect
from tests.e2e.relay_lanes import PATIENT, Client, Lane, Lanes, Stream
from tests.e2e.relay_servers import CLOSED, SESSION, Server, numbered, numbers, say

EDITING = SCRIPTS / "editing.py"
TOKEN = "the token"


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    safe = {"retry": {"tools": ["echo", "edited"], **PATIENT}}
    kinds = {"safe": (safe, 20), "impatient": ({"retry": {"tools": ["echo"], "patience_s": 0}}, 4)}
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies, "regular", EDITING)


def progress(step: int) -> bytes:
    return wire.sse(wire.progress(step, token=TOKEN))


def steps(messages: list[Any]) -> list[float]:
    """The steps of progress in messages."""
    return [each["params"]["progress"] for each in messages if each.get("method") == "notifications/progress"]


def answer() -> bytes:
    return wire.sse(wire.result(1))


async def calling(lane: Lane, tool: str = "echo") -> tuple[Client, Any, Stream]:
    """A call with a token whose answer has begun to stream."""
    await lane.a.start()
    client = await (await lane.client()).begin()
    await client.send("tools/call", name=tool, arguments={"a": 1}, _meta={"progressToken": TOKEN})
    exchange = await lane.a.exchange()
    await exchange.head()
    return client, exchange, await client.stream()


async def still_works(client: Client, server: Server) -> None:
    await client.call(message_id=2, tool="other")
    await say(await server.exchange())
    assert (await client.answer())["id"] == 2


@pytest.mark.parametrize("unfinished", [b"", b'data: {"jsonrpc":"2.0","id":1,"res'])
async def test_the_call_goes_again_as_it_was_and_the_clients_stream_goes_on(lanes: Lanes, unfinished: bytes):
    async with lanes.lane("safe") as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(progress(1) + numbered(1) + progress(2) + unfinished)
        assert steps(await stream.messages(3)) == [1, 2]
        await exchange.reset()
        again = await lane.a.exchange()
        first = exchange.request
        assert (again.request.method, again.request.body) == ("POST", first.body)
        for name in (SESSION, "content-type", "accept", "mcp-protocol-version", "content-length"):
            assert again.request.header(name) == first.header(name)
        assert again.request.header("last-event-id") is None
        await again.head()
        await again.send(progress(1) + progress(2) + numbered(2) + progress(3) + answer())
        await again.end()
        rest = await stream.rest()
        assert (steps(rest), numbers(rest), rest[-1]["id"]) == ([3], [2], 1)
        ids = [event.id for event in stream.events]
        assert len(set(ids)) == len(ids)
        assert None not in ids
        await still_works(client, lane.a)


@pytest.mark.parametrize("as_json", [True, False])
async def test_another_server_answers_in_a_session_of_its_own(lanes: Lanes, as_json: bool):
    async with lanes.lane("safe") as lane:
        client, exchange, stream = await calling(lane)
        await lane.b.start()
        await exchange.send(progress(1))
        assert steps(await stream.messages(1)) == [1]
        await lane.a.die()
        again = await lane.b.exchange()
        assert again.request.header(SESSION) == lane.b.begun[0]
        if as_json:
            await say(again, by="b")
        else:
            await again.head()
            await again.send(wire.sse(wire.result(1, by="b")))
            await again.end()
        assert (await stream.rest())[-1]["result"] == {"by": "b"}
        back = await client.listen(stream.events[-2].id)
        assert (await back.rest())[-1]["result"] == {"by": "b"}
        await still_works(client, lane.b)


async def test_it_waits_for_its_only_server_and_its_client_holds_the_line(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(progress(1))
        await stream.messages(1)
        await lane.a.die()
        await asyncio.sleep(0.3)
        await lane.a.start()
        again = await lane.a.exchange()
        assert again.request.header(SESSION) == lane.a.begun[1]
        await again.head()
        await again.send(answer())
        await again.end()
        assert (await stream.rest())[-1]["id"] == 1
        await still_works(client, lane.a)


@pytest.mark.parametrize("how", ["refused", "not an answer"])
async def test_what_nobody_takes_or_answers_is_an_error_on_the_stream(lanes: Lanes, how: str):
    async with lanes.lane("impatient" if how == "refused" else "safe") as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(progress(1))
        await stream.messages(1)
        if how == "refused":
            await lane.a.die()
        else:
            await exchange.reset()
            await (await lane.a.exchange()).answer(b'"forbidden"', status=403)
        error = (await stream.rest())[-1]["error"]
        assert (error["code"], error["data"]["mayHaveRun"]) == (CLOSED, True)
        await lane.a.die()
        await lane.a.start()
        await asyncio.sleep(0.2)
        await still_works(client, lane.a)


async def test_a_large_answer_in_json_becomes_one_event(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        _, exchange, stream = await calling(lane)
        await exchange.send(progress(1))
        await stream.messages(1)
        await exchange.reset()
        text = "x" * 3_000_000
        await (await lane.a.exchange()).answer(json.dumps(wire.result(1, text=text)).encode(), cut=50_000)
        assert (await stream.rest())[-1]["result"]["text"] == text


@pytest.mark.parametrize("as_json", [True, False])
async def test_what_was_sent_is_what_goes_again_and_answers_are_judged_as_ever(lanes: Lanes, as_json: bool):
    async with lanes.lane("safe") as lane:
        _, exchange, stream = await calling(lane, "edited")
        sent = json.loads(exchange.request.body)
        assert "edit" in sent["params"]["arguments"]
        await exchange.send(progress(1))
        await stream.messages(1)
        await exchange.reset()
        again = await lane.a.exchange()
        assert json.loads(again.request.body) == sent
        if as_json:
            await say(again, to_edit=True)
        else:
            await again.head()
            await again.send(wire.sse(wire.result(1, to_edit=True)))
            await again.end()
        assert (await stream.rest())[-1]["result"] == {"edited": True}


async def test_a_call_whose_client_left_runs_again_for_when_it_comes_back(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        client, exchange, stream = await calling(lane)
        await lane.b.start()
        await exchange.send(progress(1))
        await stream.messages(1)
        client.line.leave()
        await asyncio.sleep(0.1)
        await exchange.send(progress(2))
        await asyncio.sleep(0.1)
        await lane.a.die()
        again = await lane.b.exchange()
        await again.head()
        await again.send(progress(1) + progress(2))
        back = await client.listen(stream.last_id)
        assert steps(await back.messages(1)) == [2]
        await again.send(progress(3) + answer())
        await again.end()
        rest = await back.rest()
        assert (steps(rest), rest[-1]["id"]) == ([3], 1)


async def test_a_client_that_leaves_while_its_call_runs_again_leaves_nothing_behind(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(progress(1))
        await stream.messages(1)
        await exchange.reset()
        again = await lane.a.exchange()
        client.line.leave()
        await again.wait_peer_gone()
        async with connect(lane.proxy.port) as line:
            client.line = line
            await still_works(client, lane.a)


async def test_a_call_that_has_asked_its_client_something_is_not_sent_again(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        _, exchange, stream = await calling(lane)
        await exchange.send(wire.sse({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}))
        await stream.messages(1)
        await exchange.reset()
        assert (await stream.rest())[-1]["error"]["code"] == CLOSED
        assert len(lane.a.asked("tools/call")) == 1


async def test_calls_of_the_modern_era_go_again_and_their_events_stay_as_they_are(lanes: Lanes):
    async with lanes.lane("safe") as lane, connect(lane.proxy.port) as line:
        await lane.a.start()
        await lane.b.start()
        params = {"name": "echo", "arguments": {}, "_meta": {"progressToken": TOKEN}}
        await line.send("POST", lane.path, wire.headers("tools/call", "echo"), wire.request("tools/call", params))
        first, other = await _whoever_is_asked(lane)
        await first.head()
        stream = Stream(await line.response())
        await first.send(progress(1) + progress(2) + answer()[:30])
        assert steps(await stream.messages(2)) == [1, 2]
        await first.reset()
        again, _ = await _whoever_is_asked(lane)
        assert again.request.body == first.request.body
        for name in ("mcp-method", "mcp-name", "mcp-protocol-version"):
            assert again.request.header(name) == first.request.header(name)
        await again.head()
        await again.send(progress(1) + progress(2) + progress(3) + answer())
        await again.end()
        assert await stream.response.rest() == progress(3) + answer()
        assert other.begun == []


async def _whoever_is_asked(lane: Lane) -> tuple[Any, Server]:
    """The next request at either server, and the other one."""
    asking = {asyncio.create_task(each.exchange()): other for each, other in ((lane.a, lane.b), (lane.b, lane.a))}
    done, pending = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    await asyncio.wait(pending)
    (asked,) = done
    return asked.result(), asking[asked]
