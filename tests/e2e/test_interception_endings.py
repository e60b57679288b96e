"""What breaks off in a real mitmdump: scripts that go, interceptors that give up, flows that are killed, floods."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import h11
import pytest

from tests.e2e import wire
from tests.e2e.judged import FAILED, JUDGING, calling, end, note, numbers, order
from tests.e2e.origin import EVENT_STREAM, WITHIN_S, Origin
from tests.e2e.proxies import ROOT, Proxies, Proxy
from tests.e2e.raw_client import connect

LONG_S = 3600
BROKEN = (h11.RemoteProtocolError, ConnectionError)
MiB = 2**20
OWN_SCRIPT = f"""
import sys
sys.path += [{str(ROOT)!r}, {str(ROOT / "addons")!r}]
from shadowcat_addons.suite import Shadowcat
addons = [Shadowcat()]
"""
HELD_CALL = wire.request("tools/call", {"name": "echo", "hold_s": LONG_S})


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", *JUDGING, judging="both")


type Gone = Callable[[Proxy], object]


@pytest.fixture
def own_script(tmp_path: Path) -> Path:
    """A script of this test's own that loads Shadowcat, so that touching it touches nobody else's."""
    script = tmp_path / "shadowcat.py"
    script.write_text(OWN_SCRIPT)
    return script


@pytest.fixture
def going(origin: Origin, tmp_path: Path, own_script: Path) -> Iterator[Proxy]:
    """A proxy whose Shadowcat can be touched and taken out."""
    with Proxies(tmp_path) as started:
        yield started.stock(f"reverse:{origin.url}", *JUDGING, own_script, judging="both")


async def go(proxy: Proxy, script: Path, how: str) -> None:
    """Let Shadowcat go: as its script is touched, or taken out of mitmproxy's list."""
    if how == "removed":
        await order(proxy, "unload")
    else:
        await asyncio.to_thread(script.write_text, OWN_SCRIPT + "\n")  # mitmproxy looks once a second


async def until_held(proxy: Proxy) -> None:
    """Until a request is with the judge."""
    async with asyncio.timeout(WITHIN_S):
        while not (await order(proxy, "count"))["exchanges"]:
            pass


def cpu_ticks(proxy: Proxy) -> int:
    user, system = Path(f"/proc/{proxy.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


async def until_not_read(said: list[int]) -> None:
    """Until the server could say no more for a while: it is not read from any more."""
    async with asyncio.timeout(WITHIN_S):
        before = -1
        while not said or len(said) != before:
            before = len(said)
            await asyncio.sleep(0.4)


@contextlib.asynccontextmanager
async def flooding(say: Callable[[], Awaitable[None]]) -> AsyncIterator[list[int]]:
    """A server that says the same again and again as fast as it is let; gives when it could (ns)."""
    said: list[int] = []

    async def flood() -> None:
        while True:
            await say()
            said.append(time.monotonic_ns())

    task = asyncio.create_task(flood())
    try:
        yield said
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await task


@pytest.mark.parametrize("how", ["removed", "touched"])
async def test_a_request_that_is_held_when_shadowcat_goes_is_refused(
    origin: Origin, going: Proxy, own_script: Path, how
):
    async with connect(going.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, HELD_CALL)
        await until_held(going)
        await go(going, own_script, how)
        response = await client.response()
        assert json.loads(await response.rest())["error"]["code"] == FAILED
    assert origin.requests == []
    assert "never awaited" not in going.process.log


@pytest.mark.parametrize("how", ["removed", "touched"])
async def test_a_stream_that_is_held_when_shadowcat_goes_is_cut(origin: Origin, going: Proxy, own_script: Path, how):
    async with calling(going, origin) as (exchange, response):
        await exchange.send(note(1) + note(2, hold_s=LONG_S))
        assert await response.receive(len(note(1))) == note(1)
        await go(going, own_script, how)
        with pytest.raises(BROKEN):
            await response.rest()
        await exchange.wait_peer_gone()
    assert "never awaited" not in going.process.log


async def test_an_event_that_is_to_be_held_when_shadowcat_is_gone_cuts_the_stream_and_keeps_nobody_busy(
    origin: Origin, going: Proxy, own_script: Path
):
    async with calling(going, origin) as (exchange, response):
        await exchange.send(note(1))
        assert await response.receive(len(note(1))) == note(1)
        await go(going, own_script, "removed")
        await exchange.send(note(2, hold_s=LONG_S))
        with pytest.raises(BROKEN):
            await response.rest()
        assert response.arrivals[-1].data == note(1)
        before = cpu_ticks(going)
        await asyncio.sleep(0.5)
        assert cpu_ticks(going) - before < 25, "half of the time is more than an idle proxy takes"
    assert "never awaited" not in going.process.log


@pytest.mark.parametrize("after_s", [0, 0.05], ids=["at once", "later"])
@pytest.mark.parametrize("where", ["request", "body", "stream"])
async def test_an_interceptor_that_cancels_its_own_task_lets_nothing_pass_and_the_stream_goes_on(
    origin: Origin, proxy: Proxy, where, after_s
):
    async with connect(proxy.port) as client:
        if where == "request":
            call = wire.request("tools/call", {"name": "echo", "gives_up_s": after_s})
            response = await client.request("POST", "/mcp", wire.CALL_HEADERS, call)
            assert json.loads(await response.rest())["error"]["code"] == FAILED
            assert origin.requests == []
            return
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        if where == "body":
            await exchange.answer(json.dumps(wire.result(1, gives_up_s=after_s)).encode())
            assert json.loads(await (await client.response()).rest())["error"]["code"] == FAILED
        else:
            await exchange.head()
            response = await client.response()
            for number in range(3):
                await exchange.send(note(number))
                await exchange.send(note(number + 10, gives_up_s=after_s))
            assert numbers(await end(exchange, response)) == [0, 1, 2]


@pytest.mark.parametrize("where", ["request", "stream"])
async def test_what_is_killed_while_it_is_held_ends_soon(origin: Origin, proxy: Proxy, where):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, HELD_CALL if where == "request" else wire.CALL)
        if where == "request":
            await until_held(proxy)
            assert await order(proxy, "kill") == 1
            with pytest.raises((AssertionError, *BROKEN)):  # the connection is closed without an answer
                await client.response()
            assert origin.requests == []
        else:
            exchange = await origin.exchange()
            await exchange.head()
            response = await client.response()
            await exchange.send(note(1) + note(2, hold_s=LONG_S))
            assert await response.receive(len(note(1))) == note(1)
            assert await order(proxy, "kill") == 1
            with pytest.raises(BROKEN):
                await response.rest()
            await exchange.wait_peer_gone()
    assert (await order(proxy, "count"))["exchanges"] == 0


async def test_a_stream_of_a_known_length_that_is_cut_looks_broken(origin: Origin, proxy: Proxy):
    huge = note(1) + b"data: " + b"x" * (17 * MiB)
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head(EVENT_STREAM, framing=len(huge))
        response = await client.response()
        sending = asyncio.create_task(exchange.send(huge))
        assert response.header("content-length") is None
        with pytest.raises(BROKEN):
            await response.rest()
        await asyncio.wait([sending])
        sending.exception()


async def test_a_flood_behind_events_that_are_all_held_for_a_moment_is_slowed_down_and_arrives_in_order(
    origin: Origin, proxy: Proxy
):
    """Each hold that ends lets more come; what came before it must still count."""
    total, pad = 600, "x" * 50_000
    holds = dict.fromkeys(range(29), 0.05) | {29: 2.0}  # the last one is long enough to look
    async with calling(proxy, origin) as (exchange, response):
        base_bytes = proxy.process.resident_bytes()
        sent = 0

        async def serve() -> None:
            nonlocal sent
            for number in range(total):
                await exchange.send(note(number, pad=pad, hold_s=holds.get(number, 0)))
                sent += 1
            await exchange.end()

        serving = asyncio.create_task(serve())
        first = await response.receive(sum(len(note(number, pad=pad, hold_s=holds[number])) for number in range(29)))
        assert sent < 250, "30 MB were offered; twelve are more than sockets and limits hold"
        assert proxy.process.resident_bytes() - base_bytes < 15 * MiB
        assert numbers(first + await response.rest()) == list(range(total))
        await serving


async def test_a_flood_of_tiny_chunks_behind_a_held_event_is_slowed_down(origin: Origin, proxy: Proxy):
    """What waits in memory for its turn is more than the bytes that came."""
    async with calling(proxy, origin) as (exchange, response):
        await exchange.send(note(1) + note(2, hold_s=LONG_S))
        assert await response.receive(len(note(1))) == note(1)
        base_bytes = proxy.process.resident_bytes()
        tiny = b"1\r\n:\r\n" * 2_000
        async with flooding(lambda: exchange.raw(tiny)) as said:
            await until_not_read(said)
        assert proxy.process.resident_bytes() - base_bytes < 25 * MiB


async def test_a_flow_that_is_replayed_is_cut_when_its_server_floods_it_while_an_event_is_held(
    origin: Origin, proxies: Proxies
):
    proxy = proxies.shadowcat(f"reverse:{origin.url}", *JUDGING, judging="s2c")
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await (await origin.exchange()).answer(json.dumps(wire.result(1)).encode())
        await (await client.response()).rest()
    await order(proxy, "replay")
    exchange = await origin.exchange()
    await exchange.head()
    base_bytes = proxy.process.resident_bytes()
    await exchange.send(note(1, hold_s=LONG_S))
    filler = note(2, pad="x" * 60_000)
    async with flooding(lambda: exchange.send(filler)) as said:
        await exchange.wait_peer_gone()
    assert len(said) * len(filler) < 40 * MiB
    assert proxy.process.resident_bytes() - base_bytes < 60 * MiB
