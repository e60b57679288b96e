"""What must not happen on the way between servers: told keys, glued events, silent ends, endless waits, lost logs."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.e2e import wire
from tests.e2e.origin import JSON
from tests.e2e.proxies import Proxies
from tests.e2e.relay_lanes import Lanes
from tests.e2e.relay_servers import CLOSED, say

HASTY = {"timeouts": {"first_byte_s": 2}}
EVENTS = {"Content-Type": "text/event-stream"}


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    with Proxies(folder) as proxies:
        made = Lanes(folder, {"plain": ({}, 4), "hasty": (HASTY, 4), "keyed": ({}, 2)})
        for route in made.routes:
            if route["name"].startswith("keyed"):
                route["upstreams"][0]["headers"] = {"X-Api-Key": "of-a-alone", "Authorization": "Bearer of-a-alone"}
        made.save()
        yield made.run(proxies)


async def test_what_one_server_is_told_of_its_own_is_never_told_to_another(lanes: Lanes):
    async with lanes.lane("keyed") as lane:
        await lane.a.start()
        client = await (await lane.client(Authorization="Bearer the-clients")).begin()
        await lane.b.start()
        await client.send("tools/list")
        exchange = await lane.a.exchange()
        assert exchange.request.header("x-api-key") == "of-a-alone"
        assert exchange.request.header("authorization") == "Bearer of-a-alone"
        await lane.a.die()
        await say(await lane.b.exchange(), tools=[])
        assert (await client.answer())["result"] == {"tools": []}
        for request in lane.b.requests:
            assert request.header("x-api-key") is None
            assert request.header("authorization") == "Bearer the-clients"


async def test_a_stream_of_the_modern_era_that_breaks_off_ends_with_an_error_too(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await lane.client()
        body = wire.request("tools/call", {"name": "echo", "arguments": {}}, era="modern", message_id="m")
        headers = client.headers() | {
            "MCP-Protocol-Version": wire.MODERN_VERSION, "Mcp-Method": "tools/call", "Mcp-Name": "echo",
        }  # fmt: skip
        await client.line.send("POST", lane.path, headers, body)
        exchange = await lane.a.exchange()
        await exchange.head(EVENTS)
        stream = await client.stream()
        await exchange.send(b"data: " + wire.notification("notifications/progress") + b"\n\n")
        assert (await stream.messages(1))[0]["method"] == "notifications/progress"
        await exchange.reset()
        (error,) = await stream.rest()
        assert (error["id"], error["error"]["code"]) == ("m", CLOSED)
        assert error["error"]["data"]["mayHaveRun"] is True


@pytest.mark.parametrize("status", [503, 404])
async def test_a_head_without_its_body_is_waited_for_no_longer_than_a_head(lanes: Lanes, status: int):
    async with lanes.lane("hasty") as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.b.start()
        await client.send("tools/list")
        exchange = await lane.a.exchange()
        await exchange.head(JSON, status=status)
        await say(await lane.b.exchange(), tools=[])
        assert (await client.answer())["result"] == {"tools": []}


async def test_events_that_wait_for_the_log_are_written_when_the_proxy_ends(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("ending")
    made = Lanes(folder, {"plain": ({}, 1)}, sessions={"store": f"sqlite:{folder / 'sessions.db'}"})
    with Proxies(folder) as proxies:
        async with made.run(proxies).lane() as lane:
            await lane.a.start()
            client = await (await lane.client()).begin()
            await client.call()
            exchange = await lane.a.exchange()
            await exchange.head(EVENTS)
            stream = await client.stream()
            event = b"data: " + wire.notification("notifications/progress") + b"\n\n"
            await exchange.send(event * 500)
            await stream.messages(500)
            await asyncio.to_thread(made.proxy.process.stop)
    with closing(sqlite3.connect(folder / "sessions.db")) as store:
        tables = [name for (name,) in store.execute("select name from sqlite_master where type = 'table'")]
        (events,) = [name for name in tables if "event" in name]
        [(count,)] = store.execute(f"select count(*) from {events}")
    assert count == 500
