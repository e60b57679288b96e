"""Interceptors that fail in a real mitmdump: messages pass or are blocked as was said, in the log and on the tape."""

import asyncio
import json
from pathlib import Path

import h11
import pytest

from shadowcat_core.tape.exchange import RecordedExchange
from shadowcat_core.tape.reader import Tape
from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, JSON, Origin
from tests.e2e.proxies import SCRIPTS, Proxies, Proxy
from tests.e2e.raw_client import Connection, Response, connect

FAILING = SCRIPTS / "failing.py"
BLOCKED, FAILED = -31010, -31011
FAILURES = ["raise", "hang", "nonsense", "not json", "not json-rpc"]


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin, fail: str) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", FAILING, failing_fail=fail)


@pytest.fixture
def tapes(tmp_path: Path) -> Path:
    return tmp_path / "tapes"


@pytest.fixture
def recording(proxies: Proxies, origin: Origin, tapes: Path) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", FAILING, shadowcat_tape=str(tapes))


async def recorded(proxy: Proxy, tapes: Path) -> list[RecordedExchange]:
    await asyncio.to_thread(proxy.process.stop)
    return await asyncio.to_thread(read, tapes)


def read(tapes: Path) -> list[RecordedExchange]:
    (path,) = tapes.glob("*.tape.jsonl*")
    return sorted(Tape.open(path).exchanges(), key=lambda exchange: exchange.number)


def calling(how: str, message_id: int = 1) -> bytes:
    call = json.loads(wire.tool_call("echo", message_id=message_id))
    call["params"]["how"] = how
    return json.dumps(call).encode()


def event(how: str, step: int = 0) -> bytes:
    message = wire.progress(step)
    message["params"]["how"] = how
    return wire.sse(message)


async def call(client: Connection, origin: Origin, request: bytes, answer: bytes, headers=JSON) -> Response:
    await client.send("POST", "/mcp", wire.CALL_HEADERS, request)
    exchange = await origin.exchange()
    assert exchange.request.body == request
    await exchange.answer(answer, headers, cut=30 if headers is EVENT_STREAM else None)
    return await client.response()


@pytest.mark.parametrize("fail", ["open"])
@pytest.mark.parametrize("how", FAILURES)
async def test_who_fails_open_lets_everything_pass_as_it_came(origin: Origin, proxy: Proxy, how):
    result = json.dumps(wire.result(1, how=how)).encode()
    stream = wire.sse(wire.progress(1)) + event(how) + wire.sse(wire.result(1, how=how))
    async with connect(proxy.port) as client:
        response = await call(client, origin, calling(how), result)
        assert await response.rest() == result
        response = await call(client, origin, calling(how), stream, EVENT_STREAM)
        assert await response.rest() == stream


@pytest.mark.parametrize("fail", ["closed"])
@pytest.mark.parametrize("how", FAILURES)
async def test_who_fails_closed_blocks_what_it_failed_on_and_nothing_else(origin: Origin, proxy: Proxy, how):
    result = json.dumps(wire.result(1, how=how)).encode()
    stream = wire.sse(wire.progress(1)) + event(how) + wire.sse(wire.progress(2)) + wire.sse(wire.result(1, how=how))
    async with connect(proxy.port) as client:
        response = await client.request("POST", "/mcp", wire.CALL_HEADERS, calling(how, message_id=7))
        reply = json.loads(await response.rest())
        assert (reply["id"], reply["error"]["code"]) == (7, FAILED)
        assert origin.requests == []
        response = await call(client, origin, wire.CALL, result)
        reply = json.loads(await response.rest())
        assert (reply["id"], reply["error"]["code"]) == (1, FAILED)
        response = await call(client, origin, wire.CALL, stream, EVENT_STREAM)
        body = await response.rest()
        assert body.startswith(wire.sse(wire.progress(1)) + wire.sse(wire.progress(2)))
        last = json.loads(body.splitlines()[-2].removeprefix(b"data: "))
        assert (last["id"], last["error"]["code"]) == (1, FAILED)


async def test_a_failure_is_told_once_and_always_on_the_tape(origin: Origin, recording: Proxy, tapes: Path):
    async with connect(recording.port) as client:
        for number in range(5):
            response = await client.request("POST", "/mcp", wire.CALL_HEADERS, calling("raise", number))
            await response.rest()
    exchanges = await recorded(recording, tapes)
    log = (recording.confdir / "log.txt").read_text()
    told = "in Failing.intercept: LookupError: broken on purpose (on tools/call"
    assert log.count(told) == 1
    assert "blocked, as it fails closed)" in log
    for number, exchange in enumerate(exchanges):
        failed, blocked = exchange.verdicts
        assert (failed.action, failed.interceptor, failed.mode, failed.direction) == (
            "fail",
            "Failing",
            "enforce",
            "c2s",
        )
        assert failed.original == calling("raise", number)
        assert "LookupError: broken on purpose" in failed.reason
        assert blocked.action == "block"
        assert blocked.result is None
        assert blocked.reply is not None
        assert json.loads(blocked.reply)["error"]["code"] == FAILED
        assert json.loads(blocked.reply)["id"] == number
    assert len(exchanges) == 5


async def test_what_interceptors_did_is_on_the_tape_with_the_original(origin: Origin, recording: Proxy, tapes: Path):
    pieces = {how: event(how) for how in ("modify", "inject", "hold", "block")}
    stream = b"".join(pieces.values()) + wire.sse(wire.result(1))
    async with connect(recording.port) as client:
        response = await call(client, origin, wire.CALL, stream, EVENT_STREAM)
        got = await response.rest()
        blocked = await client.request("POST", "/mcp", wire.CALL_HEADERS, calling("block", 2))
        await blocked.rest()
    streamed, refused = await recorded(recording, tapes)
    assert streamed.response_body == stream
    assert b'"modified"' in got
    assert b"notifications/injected" in got
    assert event("block") not in got

    def data(how: str) -> bytes:
        return pieces[how].splitlines()[1].removeprefix(b"data: ")

    modify, inject, hold, release, block = streamed.verdicts
    assert (modify.action, modify.original, modify.reason) == ("modify", data("modify"), "because")
    assert json.loads(modify.result or b"")["params"]["how"] == "modified"
    assert (inject.action, inject.original) == ("inject", None)
    assert json.loads(inject.result or b"")["method"] == "notifications/injected"
    assert (hold.action, hold.original, hold.result, hold.reason) == (
        "pause",
        data("hold"),
        data("hold"),
        "for a while",
    )
    assert (release.action, release.original) == ("release", data("hold"))
    assert (block.action, block.original, block.result, block.reply) == ("block", data("block"), None, None)
    assert {verdict.direction for verdict in streamed.verdicts} == {"s2c"}
    (verdict,) = refused.verdicts
    assert (verdict.action, verdict.original, verdict.result) == ("block", calling("block", 2), None)
    assert json.loads(verdict.reply or b"")["error"] == {"code": BLOCKED, "message": "on purpose"}
    assert refused.end is not None


@pytest.mark.parametrize("fail", ["closed", "open"])
async def test_an_event_that_is_too_large_to_judge_breaks_the_stream_off_or_passes(origin: Origin, proxy: Proxy, fail):
    huge = b"data: " + b"x" * (17 * 2**20)
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(event("fine"))
        assert await response.receive(len(event("fine"))) == event("fine")
        sending = asyncio.create_task(exchange.send(huge))
        if fail == "open":
            assert await response.receive(len(huge)) == huge
            await sending
            await exchange.end()
            assert await response.rest() == b""
        else:
            with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
                await response.rest()
            await exchange.wait_peer_gone()
            await asyncio.wait([sending])
            sending.exception()
    log = (proxy.confdir / "log.txt").read_text()
    assert log.count(": message of at least 16,777,217 bytes is over the limit") == 1


@pytest.mark.parametrize("fail", ["closed", "open"])
async def test_a_coding_that_nobody_knows_is_refused_or_passes(origin: Origin, proxy: Proxy, fail):
    own = {"content-encoding": "own"}
    async with connect(proxy.port) as client:
        response = await call(client, origin, wire.CALL, b"\1\2\3", JSON | own)
        body = await response.rest()
        if fail == "open":
            assert (response.header("content-encoding"), body) == ("own", b"\1\2\3")
        else:
            reply = json.loads(body)
            assert (reply["id"], reply["error"]["code"]) == (1, FAILED)
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head({**EVENT_STREAM, **own})
        await exchange.send(b"\1\2\3")
        await exchange.end()
        response = await client.response()
        if fail == "open":
            assert (response.header("content-encoding"), await response.rest()) == ("own", b"\1\2\3")
        else:
            with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
                await response.rest()
            assert response.arrivals == []
