"""Streams that nobody comes back for, through a real mitmdump: wherever a second run is, it is given up in time."""

import asyncio
from collections.abc import Iterator

import h11
import pytest

from tests.e2e import wire
from tests.e2e.origin import JSON
from tests.e2e.proxies import SCRIPTS, Proxies
from tests.e2e.raw_client import connect
from tests.e2e.relay_lanes import PATIENT, Lane, Lanes, calling, put
from tests.e2e.relay_servers import numbered, say

BROKEN = (h11.RemoteProtocolError, ConnectionError)
KEPT = ("flows", "ways", "in use", "read on", "carried", "left")


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    kinds = {"safe": ({"retry": {"tools": ["echo"], **PATIENT}}, 8)}
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies, "regular", SCRIPTS / "relayed.py", SCRIPTS / "forgetful.py")


async def kept(lane: Lane) -> dict[str, int]:
    """What the proxy keeps of exchanges, this question aside."""
    _, counts = await put(lane.proxy, "count")
    return {name: counts[name] for name in KEPT}


@pytest.mark.parametrize("far", ["no head", "half a body in JSON", "half an event", "events"])
async def test_a_second_run_for_a_client_that_has_left_is_given_up_when_nobody_comes(lanes: Lanes, far: str):
    async with lanes.lane("safe") as lane:
        before = await kept(lane)
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        await stream.messages(1)
        client.line.leave()
        await asyncio.sleep(0.1)
        await exchange.reset()
        again = await lane.a.exchange()
        if far == "half a body in JSON":
            await again.head(JSON)
            await again.send(b'{"jsonrpc":"2.0","id":1,')
        elif far != "no head":
            await again.head()
            await again.send(numbered(2) if far == "events" else b'data: {"jsonrpc"')
        await again.wait_peer_gone()
        assert await kept(lane) == before
        assert len(lane.a.asked("tools/call")) == 2
        async with connect(lane.proxy.port) as line:
            client.line = line
            await client.call(message_id=2, tool="other")
            await say(await lane.a.exchange())
            assert (await client.answer())["id"] == 2


async def test_one_whose_client_is_back_in_time_is_read_to_its_end(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        client, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        await stream.messages(1)
        client.line.leave()
        await asyncio.sleep(0.1)
        await exchange.reset()
        again = await lane.a.exchange()
        back = await client.listen(stream.last_id)
        await asyncio.sleep(1)
        await again.head()
        await again.send(wire.sse(wire.result(1)))
        await again.end()
        assert (await back.rest())[-1]["id"] == 1


@pytest.mark.parametrize("far", ["no head", "half a body in JSON", "events"])
async def test_a_second_run_whose_stream_another_proxy_takes_is_given_up_and_its_client_cut(lanes: Lanes, far: str):
    async with lanes.lane("safe") as lane:
        before = await kept(lane)
        _, exchange, stream = await calling(lane)
        await exchange.send(numbered(1))
        await stream.messages(1)
        await exchange.reset()
        again = await lane.a.exchange()
        if far == "half a body in JSON":
            await again.head(JSON)
            await again.send(b'{"jsonrpc":"2.0","id":1,')
        elif far == "events":
            await again.head()
            await again.send(numbered(2))
            await stream.messages(1)
        async with connect(lane.proxy.port) as line:
            await (await line.request("PUT", "/take", ())).rest()
        await again.wait_peer_gone()
        with pytest.raises(BROKEN):
            await stream.rest()
        assert await kept(lane) == before
