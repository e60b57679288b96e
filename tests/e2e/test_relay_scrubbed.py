"""Requests that scripts change behind the suite, or once they are answered, through a real mitmdump."""

from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.proxies import SCRIPTS, Proxies
from tests.e2e.relay_lanes import PATIENT, Lanes
from tests.e2e.relay_servers import CLOSED, say

TOKEN = "Bearer of-the-caller"


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("scrubbed")
    kinds = {"safe": ({"retry": {"tools": ["echo", "turned"], **PATIENT}}, 4)}
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies, "regular", SCRIPTS / "scrubbing.py")


async def test_a_call_goes_again_as_it_went_first_whatever_becomes_of_the_flow(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        await lane.a.start()
        client = await lane.client()
        client.more = {"Authorization": TOKEN}
        await client.begin()
        await client.call(tool="echo")
        exchange = await lane.a.exchange()
        await exchange.head()
        stream = await client.stream()
        await exchange.send(wire.sse(wire.progress(1)))
        await stream.messages(1)
        await exchange.reset()
        again = await lane.a.exchange()
        assert again.request.body == exchange.request.body
        assert again.request.header("authorization") == TOKEN
        await again.head()
        await again.send(wire.sse(wire.result(1)))
        await again.end()
        assert (await stream.rest())[-1]["id"] == 1


async def test_a_call_that_another_addon_made_an_unsafe_one_does_not_go_again(lanes: Lanes):
    async with lanes.lane("safe") as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await client.call(tool="turned")
        exchange = await lane.a.exchange()
        assert b'"pay"' in exchange.request.body
        await exchange.reset()
        assert (await client.answer())["error"]["code"] == CLOSED
        await client.call(message_id=2, tool="other")
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 2
