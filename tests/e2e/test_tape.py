"""A tape recorded by a real mitmdump holds what was on the wire, and survives whatever ends the recording."""

import asyncio
import os
import signal
from pathlib import Path

import h11
import pytest

from shadowcat_core.tape.exchange import RecordedExchange
from shadowcat_core.tape.reader import Tape
from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, WITHIN_S, Origin
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import connect

FLUSH_MS = 20
EVENTS = [wire.sse(wire.progress(step)) for step in range(50)]


@pytest.fixture
def tapes(tmp_path: Path) -> Path:
    return tmp_path / "tapes"


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin, tapes: Path) -> Proxy:
    flush = {"shadowcat_tape_flush_ms": str(FLUSH_MS)}
    return proxies.shadowcat(f"reverse:{origin.url}", shadowcat_tape=str(tapes), **flush)


def read(tapes: Path) -> tuple[Tape, list[RecordedExchange]]:
    """The one tape and its exchanges; damage on it fails."""
    (path,) = tapes.glob("*.tape.jsonl*")
    tape = Tape.open(path)
    exchanges = list(tape.exchanges())
    assert tape.damage_count == 0, tape.damages
    return tape, exchanges


async def read_until(tapes: Path, wanted: bytes) -> RecordedExchange:
    """The only exchange, once its response on the tape ends with `wanted`: the recorder writes when it gets to it."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            _, exchanges = await asyncio.to_thread(read, tapes)
            if exchanges and exchanges[0].response_body.endswith(wanted):
                return exchanges[0]


async def test_a_tape_holds_request_and_stream_to_the_byte_and_no_secret(origin: Origin, proxy: Proxy, tapes: Path):
    async with connect(proxy.port) as client:
        headers = wire.CALL_HEADERS | {"Authorization": "Bearer xyzzy-secret"}
        await client.send("POST", "/mcp", headers, wire.CALL)
        exchange = await origin.exchange()
        assert exchange.request.header("authorization") == "Bearer xyzzy-secret"
        await exchange.answer(wire.EVERY_SHAPE, EVENT_STREAM, cut=11)
        body = await (await client.response()).rest()
    await asyncio.to_thread(proxy.process.stop)
    tape, (recorded,) = read(tapes)
    assert recorded.is_complete
    assert recorded.request_body == wire.CALL
    assert recorded.response_body == body == wire.EVERY_SHAPE
    assert recorded.end
    assert recorded.end.how == "eof"
    assert b"xyzzy-secret" not in tape.path.read_bytes()
    assert tape.path.stat().st_mode & 0o777 == 0o600


async def test_events_reach_the_tape_while_the_stream_is_open(origin: Origin, proxy: Proxy, tapes: Path):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        for event in EVENTS[:3]:
            await exchange.send(event)
            recorded = await read_until(tapes, event)
        assert recorded.end is None
        assert recorded.response_body == b"".join(EVENTS[:3])


async def test_a_tape_whose_proxy_was_killed_is_whole_up_to_the_last_flush(origin: Origin, proxy: Proxy, tapes: Path):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        for event in EVENTS[:-1]:
            await exchange.send(event)
            assert await response.receive(len(event)) == event
        await read_until(tapes, EVENTS[-2])
        await exchange.send(EVENTS[-1])
        await response.receive(len(EVENTS[-1]))
        os.kill(proxy.process.pid, signal.SIGKILL)
        await exchange.wait_peer_gone()
    _, (recorded,) = read(tapes)
    everything = b"".join(EVENTS)
    assert everything.startswith(recorded.response_body)
    assert len(recorded.response_body) >= len(everything) - len(EVENTS[-1])


async def test_a_proxy_that_is_told_to_end_writes_everything_first(origin: Origin, proxy: Proxy, tapes: Path):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        for event in EVENTS:
            await exchange.send(event)
            assert await response.receive(len(event)) == event
        await asyncio.to_thread(proxy.process.stop)
    tape, (recorded,) = read(tapes)
    assert not tape.cut_off
    assert recorded.response_body == b"".join(EVENTS)


async def test_how_an_exchange_ended_is_on_the_tape(origin: Origin, proxy: Proxy, tapes: Path):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(EVENTS[0])
        await (await client.response()).receive(len(EVENTS[0]))
        client.leave()
        await exchange.wait_peer_gone()
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(EVENTS[0])
        response = await client.response()
        await response.receive(len(EVENTS[0]))
        await exchange.reset()
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            await response.rest()
    await asyncio.to_thread(proxy.process.stop)
    _, exchanges = read(tapes)
    assert [exchange.end and exchange.end.how for exchange in exchanges] == ["client_closed", "reset"]
