"""Requests before servers that die, fall silent and say that they do not work: what goes again, and what is said."""

import asyncio
import gzip
import json
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.origin import JSON, WITHIN_S
from tests.e2e.proxies import Proxies
from tests.e2e.relay_lanes import Lanes
from tests.e2e.relay_servers import AT_ONCE_S, CLOSED, SESSION, UNREACHABLE, accept, fall_silent, say

IMPATIENT = {"retry": {"patience_s": 0}}


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    kinds = {"plain": ({}, 90), "impatient": (IMPATIENT, 20), "hasty": ({"timeouts": {"first_byte_s": 2}}, 4)}
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies)


# --- Servers that cannot be reached -----------------------------------------------------------------------------------


async def test_a_session_goes_on_at_another_server_over_the_same_connection_again_and_again(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        here, there = lane.a, lane.b
        for number in range(6):
            await here.die()
            await there.start()
            await client.call(message_id=number)
            await say(await there.exchange())
            assert (await client.answer())["id"] == number
            here, there = there, here
        assert len(lane.a.asked("tools/call")) == len(lane.b.asked("tools/call")) == 3
        assert len(lane.a.begun) == 4


async def test_a_request_waits_for_a_server_that_comes_back_later(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.a.die()
        await client.call()
        await asyncio.sleep(2)
        await lane.a.start()
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 1
        its = [request.header(SESSION) for request in lane.a.asked("tools/call")]
        assert its == lane.a.begun, "the old session first, which was lost with the server"


@pytest.mark.parametrize("what", ["request", "notification", "initialize", "get"])
async def test_without_patience_it_is_said_at_once_that_nobody_can_be_reached(lanes: Lanes, what: str):
    async with lanes.lane("impatient") as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.a.die()
        for _ in range(2):
            if what == "request":
                await client.call()
                error = (await client.answer(within_s=AT_ONCE_S))["error"]
                assert error["code"] == UNREACHABLE
                assert error["data"].get("mayHaveRun", False) is False
            elif what == "initialize":
                fresh = await lane.client()
                response = await fresh.initialize()
                assert json.loads(await response.rest())["error"]["code"] == UNREACHABLE
            elif what == "notification":
                assert await client.notify("notifications/cancelled") == 202
            else:
                await client.line.send("GET", lane.path, client.headers())
                assert (await client.line.response(within_s=AT_ONCE_S)).status >= 500
                client = await client.elsewhere()
        lane.a.own["tools/call"] = say
        await lane.a.start()
        async with asyncio.timeout(WITHIN_S):
            await client.call()
            while "error" in (answer := await client.answer()):
                assert answer["error"]["code"] == UNREACHABLE
                await client.call()
        assert answer["id"] == 1


# --- Servers that fall silent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_safe_request_that_a_server_takes_and_does_not_answer_goes_exactly_once_more(lanes: Lanes, where: str):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        if where == "there":
            await lane.b.start()
        await client.send("tools/list")
        exchange = await lane.a.exchange()
        if where == "there":
            await lane.a.die()
        else:
            await fall_silent(exchange)
        server = lane.b if where == "there" else lane.a
        await say(await server.exchange(), tools=[])
        assert (await client.answer())["result"] == {"tools": []}
        assert len(lane.a.asked("tools/list")) + len(lane.b.asked("tools/list")) == 2


@pytest.mark.parametrize("how", ["silence", "half a head", "reset", "rubbish"])
async def test_an_unsafe_request_that_a_server_takes_and_does_not_answer_may_have_run(lanes: Lanes, how: str):
    async with lanes.lane() as lane:
        await lane.a.start()
        await lane.b.start()
        client = await (await lane.client()).begin()
        server = lane.a if lane.a.begun else lane.b
        for number in range(3):
            await client.call(message_id=number)
            exchange = await server.exchange()
            if how == "half a head":
                await exchange.raw(b"HTTP/1.1 200 O")
            if how == "rubbish":
                await exchange.raw(b"lorem ipsum\r\n\r\n")
            if how == "reset":
                await exchange.reset()
            else:
                exchange._writer.close()
            error = (await client.answer(within_s=AT_ONCE_S))["error"]
            assert (error["code"], error["data"]["mayHaveRun"]) == (CLOSED, True)
        assert len(lane.a.asked("tools/call")) + len(lane.b.asked("tools/call")) == 3


async def test_a_json_body_that_breaks_off_is_told_as_an_error_that_says_it_may_have_run(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        for _ in range(2):
            await client.call()
            exchange = await lane.a.exchange()
            await exchange.head(JSON, framing=1000)
            await exchange.send(b'{"jsonrpc":"2.0",')
            await exchange.reset()
            error = (await client.answer(within_s=AT_ONCE_S))["error"]
            assert (error["code"], error["data"]["mayHaveRun"]) == (CLOSED, True)
        await client.call()
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 1


async def test_a_safe_request_whose_head_does_not_come_in_time_goes_elsewhere(lanes: Lanes):
    async with lanes.lane("hasty") as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.b.start()
        await client.send("tools/list")
        exchange = await lane.a.exchange()
        await say(await lane.b.exchange(), tools=[])
        assert (await client.answer())["result"] == {"tools": []}
        await exchange.wait_peer_gone()
        assert len(lane.b.begun) == 1


async def test_an_unsafe_request_whose_head_does_not_come_in_time_may_have_run(lanes: Lanes):
    async with lanes.lane("hasty") as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        for _ in range(2):
            await client.call()
            exchange = await lane.a.exchange()
            error = (await client.answer(within_s=AT_ONCE_S))["error"]
            assert (error["code"], error["data"]["mayHaveRun"]) == (CLOSED, True)
            await exchange.wait_peer_gone()


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_server_that_says_it_does_not_work_is_left_for_another(lanes: Lanes, status: int):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.b.start()
        await client.send("tools/list")
        await (await lane.a.exchange()).answer(b"<html>", {"content-type": "text/html"}, status=status)
        await say(await lane.b.exchange(), tools=[])
        assert (await client.answer())["result"] == {"tools": []}


@pytest.mark.parametrize("cut", [None, 3])
async def test_what_a_server_says_that_does_not_work_passes_when_the_request_may_not_go_again(lanes: Lanes, cut):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.b.start()
        for _ in range(2):
            await client.call()
            await (await lane.a.exchange()).answer(b"<html>", {"content-type": "text/html"}, status=503, cut=cut)
            response = await client.line.response()
            assert (response.status, await response.rest()) == (503, b"<html>")
        assert lane.b.asked("tools/call") == []


@pytest.mark.parametrize("what", ["notification", "answer"])
async def test_what_wants_no_answer_reaches_the_session_where_it_is_or_is_accepted(lanes: Lanes, what: str):
    """An answer to a question of the server's is for its session alone, so it goes nowhere when that is gone."""
    method = {"notification": "notifications/cancelled", "answer": "answer"}[what]
    body = wire.notification(method) if what == "notification" else json.dumps(wire.result(7)).encode()
    async with lanes.lane("impatient") as lane:
        for server in (lane.a, lane.b):
            server.own[method] = accept
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.b.start()
        for _ in range(2):
            response = await client.line.request("POST", lane.path, client.headers(), body)
            assert (response.status, await response.rest()) == (202, b"")
            await lane.a.die()
        assert len(lane.a.asked(method)) == 1
        assert len(lane.b.asked(method)) == (1 if what == "notification" else 0)


# --- Shapes of requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["large", "gzip", "chunked", "expect", "large and chunked"])
async def test_a_request_of_any_shape_goes_again_byte_for_byte(lanes: Lanes, shape: str):
    params = {"name": "echo", "arguments": {"x": "y" * (1_100_000 if "large" in shape else 1_000)}}
    body = wire.request("tools/call", params, era="legacy")
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.b.start()
        await lane.a.die()
        head = client.headers()
        if shape == "gzip":
            body = gzip.compress(body)
            head |= {"Content-Encoding": "gzip"}
        line = client.line
        lines = [f"POST {lane.path} HTTP/1.1", f"Host: 127.0.0.1:{lane.proxy.port}"]
        lines += [f"{name}: {value}" for name, value in head.items()]
        lines.append("Transfer-Encoding: chunked" if "chunked" in shape else f"Content-Length: {len(body)}")
        if shape == "expect":
            lines.append("Expect: 100-continue")
        line._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if shape == "expect":
            assert (await line._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        for piece in pieces:
            line._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if "chunked" in shape else piece)
            await line._writer.drain()
        if "chunked" in shape:
            line._writer.write(b"0\r\n\r\n")
        exchange = await lane.b.exchange()
        assert exchange.request.body == body
        assert exchange.request.header("expect") is None
        await exchange.answer(json.dumps(wire.result(1)).encode())
        head_of_answer = await line._reader.readuntil(b"\r\n\r\n")
        assert head_of_answer.startswith(b"HTTP/1.1 200")


async def test_a_body_that_mitmproxy_would_stream_is_whole_for_who_must_send_it_again(
    lanes: Lanes, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("large")
    with Proxies(folder) as proxies:
        small = Lanes(folder, {"plain": ({}, 1)}).run(proxies, stream_large_bodies="1k")
        async with small.lane() as lane:
            await lane.a.start()
            client = await (await lane.client()).begin()
            await lane.b.start()
            await lane.a.die()
            await client.send("tools/call", name="echo", arguments={"x": "y" * 100_000})
            exchange = await lane.b.exchange()
            assert len(exchange.request.body) > 100_000
            long = json.dumps(wire.result(1, text="z" * 100_000)).encode()
            await exchange.answer(long)
            assert len((await client.answer())["result"]["text"]) == 100_000


@pytest.mark.parametrize("answered", ["json", "refused", "lost"])
async def test_servers_that_close_after_each_answer_are_served_as_well(lanes: Lanes, answered: str):
    async with lanes.lane() as lane:
        await lane.a.start()

        async def begin(exchange):
            await exchange.head(JSON | lane.a.give_id(), framing="close")
            await exchange.send(json.dumps(lane.a.hello(exchange)).encode())
            await exchange.end()

        async def lost(exchange):
            await exchange.head({}, status=404, framing="close")
            await exchange.send(b"gone")
            await exchange.end()

        lane.a.own |= {"initialize": begin, "lost": lost}
        client = await (await lane.client()).begin()
        for number in range(3):
            client = await client.elsewhere()
            if answered == "lost":
                lane.a.forget()
            await client.call(message_id=number)
            exchange = await lane.a.exchange()
            body = json.dumps(wire.result(number)).encode() if answered != "refused" else b"no"
            await exchange.head(JSON, status=400 if answered == "refused" else 200, framing="close")
            await exchange.send(body)
            await exchange.end()
            response = await client.line.response()
            assert await response.rest() == body
        assert len(lane.a.begun) == (4 if answered == "lost" else 1)
