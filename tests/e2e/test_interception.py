"""Interceptors in a real mitmdump: messages held, changed, answered and blocked one by one, on every path."""

import asyncio
import json
import random
import time

import h11
import pytest

from shadowcat_core.limits import MiB
from tests.e2e import wire
from tests.e2e.memory import PeakMemory
from tests.e2e.origin import JSON, Exchange, Origin
from tests.e2e.proxies import SCRIPTS, Proxies, Proxy
from tests.e2e.raw_client import Connection, Response, connect

STEERED = SCRIPTS / "steered.py"
LONG_S = 3600
HOLD_S = 0.4
HOLD_LONG_S = 3.0
BLOCKED, FAILED = -31010, -31011


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", STEERED)


def event(step: int, hold_s: float | None = None) -> bytes:
    message = wire.progress(step, total=5)
    if hold_s is not None:
        message["params"]["hold_s"] = hold_s
    return wire.sse(message)


def answer(hold_s: float | None = None) -> bytes:
    return wire.sse(wire.result(1, hold_s=hold_s))


async def begin(client: Connection, origin: Origin) -> tuple[Exchange, Response]:
    """A call whose answer begins to stream."""
    await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
    exchange = await origin.exchange()
    await exchange.head()
    return exchange, await client.response()


async def ask(client: Connection, body: bytes, headers=wire.CALL_HEADERS) -> object:
    response = await client.request("POST", "/mcp", headers, body)
    assert response.status == 200
    return json.loads(await response.rest())


async def test_a_held_event_keeps_its_place_and_nothing_before_it_waits(origin: Origin, proxy: Proxy):
    events = [event(1), event(2), event(3, HOLD_S), event(4), event(5), answer()]
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        began_ns = time.monotonic_ns()
        for piece in events:
            await exchange.send(piece)
        await exchange.end()
        assert await response.rest() == b"".join(events)
        held, *_ = [arrival for arrival in response.arrivals if event(3, HOLD_S) in arrival.data]
        assert held.at_ns - began_ns >= HOLD_S * 1e9


async def test_events_before_a_held_one_in_the_same_chunk_do_not_wait(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        await exchange.send(event(1) + event(2) + event(3, LONG_S))
        assert await response.receive(len(event(1) + event(2))) == event(1) + event(2)


async def test_nothing_is_lost_when_the_last_event_is_held_and_the_server_has_ended(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        await exchange.send(event(1))
        await exchange.send(answer(HOLD_S))
        await exchange.end()
        assert await response.rest() == event(1) + answer(HOLD_S)


async def test_other_streams_go_on_while_one_waits(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as waiting, connect(proxy.port) as going_on:
        held, _ = await begin(waiting, origin)
        await held.send(event(1, LONG_S))
        exchange, response = await begin(going_on, origin)
        for step in range(50):
            await exchange.send(event(step))
            assert await response.receive(len(event(step))) == event(step)


async def test_a_client_that_leaves_while_an_event_is_held_is_noticed_by_the_server(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        await exchange.send(event(1))
        await response.receive(len(event(1)))
        await exchange.send(event(2, LONG_S))
        await asyncio.sleep(0.1)  # until the event is held, or not yet: both must be noticed
        client.leave()
        await exchange.wait_peer_gone()


async def test_what_a_server_sent_before_it_broke_off_still_arrives(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        await exchange.send(event(1, HOLD_S))
        await exchange.send(event(2))
        await exchange.reset()
        assert await response.receive(len(event(1, HOLD_S) + event(2))) == event(1, HOLD_S) + event(2)
        with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
            await response.rest()


async def test_a_server_that_goes_on_sending_is_slowed_down_while_an_event_is_held(origin: Origin, proxy: Proxy):
    filler = wire.sse({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 60_000}})
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        await exchange.send(event(1, HOLD_LONG_S))
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(1_000):
                await exchange.send(filler)
                sent += 1
            await exchange.end()

        flooding = asyncio.create_task(flood())
        before = 0
        while not before or before != sent:
            before = sent
            await asyncio.sleep(0.4)
        assert sent < 250, "60 MB were offered; a quarter is more than sockets and limits hold"
        body = await response.rest()
        await flooding
        assert body == event(1, HOLD_LONG_S) + filler * 1_000


async def test_a_blocked_call_is_answered_and_never_reaches_the_server(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        reply = await ask(client, wire.tool_call("refuse", message_id="a"), wire.headers("tools/call", "refuse"))
        assert reply == {"jsonrpc": "2.0", "id": "a", "error": {"code": BLOCKED, "message": "not allowed here"}}
        reply = await ask(client, wire.tool_call("mock", message_id=0), wire.headers("tools/call", "mock"))
        assert reply["id"] == 0
        assert reply["result"]["content"][0]["text"] == "made up"
    assert origin.requests == []


async def test_a_request_that_is_held_goes_on_when_the_hold_is_over(origin: Origin, proxy: Proxy):
    body = wire.tool_call("echo")
    held = json.loads(body)
    held["params"]["hold_s"] = HOLD_S
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, json.dumps(held).encode())
        exchange = await origin.exchange()
        assert json.loads(exchange.request.body) == held
        await exchange.answer(json.dumps(wire.result(1)).encode())
        response = await client.response()
        assert json.loads(await response.rest()) == wire.result(1)


async def test_an_answer_in_one_piece_is_held_too(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        for framing in (None, "chunked"):
            await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
            exchange = await origin.exchange()
            body = json.dumps(wire.result(1, hold_s=0.05)).encode()
            if framing is None:
                await exchange.answer(body)
            else:
                await exchange.head(JSON, framing=framing)
                await exchange.send(body[:10])
                await exchange.send(body[10:])
                await exchange.end()
            response = await client.response()
            assert await response.rest() == body


async def test_an_answer_that_nobody_can_read_is_answered_for_when_it_is_blocked(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.answer(b'{"jsonrpc":"2.0","id":1,"result":NaN')
        reply = json.loads(await (await client.response()).rest())
        assert (reply["id"], reply["error"]["code"]) == (1, FAILED)


async def test_the_headers_of_an_edited_request_follow_its_body(origin: Origin, proxy: Proxy):
    body = json.loads(wire.tool_call("echo"))
    body["params"]["retarget"] = "other"
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, json.dumps(body).encode())
        exchange = await origin.exchange()
        assert json.loads(exchange.request.body)["params"]["name"] == "other"
        assert exchange.request.header("mcp-name") == "other"
        assert exchange.request.header("mcp-method") == "tools/call"
        assert exchange.request.header("content-length") == str(len(exchange.request.body))
        await exchange.answer(json.dumps(wire.result(1)).encode())


async def test_a_request_of_the_servers_that_is_blocked_is_answered_to_the_server(origin: Origin, proxy: Proxy):
    question = {"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {}}
    headers = wire.headers("tools/call", era="legacy", session="s-1") | {"Authorization": "Bearer t"}
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", headers, wire.tool_call(era="legacy"))
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(wire.sse(question) + event(1))
        assert await response.receive(len(event(1))) == event(1)
        posted = await origin.exchange()
        assert (posted.request.method, posted.request.target) == ("POST", "/mcp")
        assert posted.request.header("mcp-session-id") == "s-1"
        assert posted.request.header("authorization") == "Bearer t"
        assert json.loads(posted.request.body) == {
            "jsonrpc": "2.0", "id": 5, "error": {"code": BLOCKED, "message": "no sampling"},
        }  # fmt: skip
        await posted.answer(b"", {}, status=202)
        await exchange.send(answer())
        await exchange.end()
        assert await response.rest() == answer()


async def test_an_array_is_judged_one_by_one_and_answered_as_one(origin: Origin, proxy: Proxy):
    calls = [json.loads(wire.tool_call(tool, message_id=tool, era="legacy")) for tool in ("refuse", "echo", "mock")]
    headers = wire.headers("tools/call", era="legacy", session="s-1")
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", headers, json.dumps(calls).encode())
        exchange = await origin.exchange()
        assert [call["id"] for call in json.loads(exchange.request.body)] == ["echo"]
        await exchange.answer(json.dumps([wire.result("echo")]).encode())
        response = await client.response()
        assert {reply["id"] for reply in json.loads(await response.rest())} == {"refuse", "echo", "mock"}
        await client.send("POST", "/mcp", headers, json.dumps(calls).encode())
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(wire.sse(wire.result("echo")))
        await exchange.end()
        response = await client.response()
        body = await response.rest()
        assert [json.loads(line[6:])["id"] for line in body.splitlines() if line.startswith(b"data: ")] == [
            "refuse", "mock", "echo",
        ]  # fmt: skip


async def test_a_client_of_http_with_sse_is_answered_on_its_stream(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as listening, connect(proxy.port) as asking:
        await listening.send("GET", "/sse", {"Accept": "text/event-stream"})
        stream = await origin.exchange()
        await stream.head()
        response = await listening.response()
        endpoint = b"event: endpoint\r\ndata: /messages?session_id=abc\r\n\r\n"
        await stream.send(endpoint)
        assert await response.receive(len(endpoint)) == endpoint
        headers = {"Content-Type": "application/json"}
        accepted = await asking.request(
            "POST", "/messages?session_id=abc", headers, wire.tool_call("refuse", message_id=9, era="legacy")
        )
        assert accepted.status == 202
        assert await accepted.rest() == b""
        line = await response.receive(len(b"event: message\ndata: "))
        assert line == b"event: message\ndata: "
        error = wire.result("x")  # any message of the server's, to be sent after it
        await stream.send(wire.sse(error))
        await stream.end()
        data = await response.rest()
        reply = json.loads(data.splitlines()[0])
        assert (reply["id"], reply["error"]["code"]) == (9, BLOCKED)
        assert wire.sse(error) in data


async def test_two_hundred_streams_with_random_holds_keep_their_order(origin: Origin, proxy: Proxy):
    dice = random.Random(7)

    async def one(number: int) -> None:
        async with connect(proxy.port) as client:
            body = wire.tool_call(message_id=number)
            await client.send("POST", f"/mcp?{number}", wire.CALL_HEADERS, body)
            response = await client.response()
            got = await response.rest()
        steps = [json.loads(line[6:]) for line in got.splitlines() if line.startswith(b"data: ")]
        assert [message["params"]["progress"] for message in steps[:-1]] == list(range(8))
        assert {message["params"]["progressToken"] for message in steps[:-1]} == {number}
        assert steps[-1]["id"] == number

    async def serve(exchange: Exchange) -> None:
        number = json.loads(exchange.request.body)["id"]
        await exchange.head()
        for step in range(8):
            message = wire.progress(step, token=number)
            if dice.random() < 0.25:
                message["params"]["hold_s"] = dice.random() / 5
            await exchange.send(wire.sse(message))
        await exchange.send(wire.sse(wire.result(number, hold_s=dice.random() / 5)))
        await exchange.end()

    async def serve_all() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(serve(await origin.exchange()))

    memory = PeakMemory(proxy.process.pid)
    before_bytes = memory.reset()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_all())
        for number in range(200):
            group.create_task(one(number))
    # An active exchange may cost 1 MB; these have a few hundred bytes each, held or not.
    assert memory.peak_bytes() - before_bytes < 200 * MiB // 2


async def test_a_proxy_that_is_told_to_end_while_a_message_is_held_ends(origin: Origin, tmp_path):
    with Proxies(tmp_path) as proxies:
        proxy = proxies.shadowcat(f"reverse:{origin.url}", STEERED)
        async with connect(proxy.port) as client:
            exchange, response = await begin(client, origin)
            await exchange.send(event(1) + event(2, LONG_S))
            assert await response.receive(len(event(1))) == event(1)
            await asyncio.to_thread(proxy.process.stop)
    log = (proxy.confdir / "log.txt").read_text()
    assert "Traceback" not in log
