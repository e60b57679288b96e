"""Requests that wait for a server in a real mitmdump, and clients that do not wait for them."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import h11
import pytest

from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.loopback import WITHIN_S
from tests.e2e.proxies import SCRIPTS, Proxies
from tests.e2e.raw_client_h2 import connect_h2
from tests.e2e.relay_lanes import QUICK, Client, Lane, Lanes, put
from tests.e2e.relay_servers import method_of, say

PATIENCE_S = 600
RELAYED, JUDGING = SCRIPTS / "relayed.py", SCRIPTS / "judging.py"
PATIENT = {"retry": {"patience_s": PATIENCE_S}}
PROBED = PATIENT | {"health": QUICK | {"active": {"kind": "tcp", "interval_s": 0.2, "failures": 1}}}
"""Only probes find out that a server is back: no request is its trial."""
CALL = wire.request("tools/call", {"name": "echo", "arguments": {}}, era="legacy")
BROKEN = (h11.RemoteProtocolError, ConnectionError, AssertionError)
LOOK_S = 0.02


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("waits")
    with Proxies(folder) as proxies:
        kinds = {"plain": (PATIENT, 2), "probed": (PROBED, 7), "tls": (PATIENT | {"scheme": "https"}, 1)}
        yield Lanes(folder, kinds).run(
            proxies, "regular", RELAYED, JUDGING, judging="s2c", ssl_verify_upstream_trusted_ca=str(authority.ca_file)
        )


async def counted(lane: Lane, *, is_down: bool = False, **wanted: int) -> None:
    """Wait until the proxy counts so many, and, with `is_down`, knows that no server of the lane works."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            _, counts = await put(lane.proxy, "count")
            _, servers = await put(lane.proxy, "call", ["shadowcat.upstreams"])
            downs = sum(row.startswith(lane.name) and "down" in row for row in servers)
            found = all(counts[name.replace("_", " ")] == number for name, number in wanted.items())
            if found and (downs == 2 or not is_down):
                return
            await asyncio.sleep(LOOK_S)


async def nothing_is_left(lane: Lane) -> None:
    await counted(lane, exchanges=0, flows=0, ways=0, waiting=0, in_use=0)


async def downed(lane: Lane) -> Client:
    """A client of a session whose servers are known to be down: what it asks waits before any attempt."""
    await lane.a.start()
    client = await (await lane.client()).begin()
    await lane.a.die()
    await counted(lane, exchanges=0, in_use=0, is_down=True)
    return client


async def nothing_was_sent(lane: Lane) -> None:
    """The server is back, and all that reaches it is what is asked now."""
    before = len(lane.a.requests)
    await lane.a.start()
    other = await (await lane.client()).begin()
    await other.send("prompts/list")
    await say(await lane.a.exchange())
    await other.answer()
    assert [method_of(each) for each in lane.a.requests[before:]] == [
        "initialize", "notifications/initialized", "prompts/list",
    ]  # fmt: skip
    await nothing_is_left(lane)


@pytest.mark.parametrize("over", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("where", ["before its first attempt", "behind it"])
async def test_a_client_that_leaves_ends_the_wait_of_its_request(lanes: Lanes, where: str, over: str):
    is_first = where == "before its first attempt"
    async with (
        lanes.lane("probed" if is_first else "plain") as lane,
        connect_h2(lane.proxy.port, lane.proxy.tls_context()) as h2,
    ):
        if is_first:
            client = await downed(lane)
        else:
            await lane.a.start()
            client = await (await lane.client()).begin()
            await lane.a.die()
        if over == "HTTP/2":
            stream = await h2.post(lane.path, client.headers(), CALL)
        else:
            await client.call()
        await counted(lane, exchanges=1, in_use=1, waiting=int(is_first), is_down=True)
        if over == "HTTP/2":
            await h2.take_back(stream)
        else:
            await client.line.be_gone()
        await nothing_is_left(lane)
        await nothing_was_sent(lane)


@pytest.mark.parametrize("what", ["initialize", "a notification", "GET"])
async def test_whatever_its_client_asked_ends_with_it(lanes: Lanes, what: str):
    async with lanes.lane("probed") as lane:
        client = await downed(lane)
        if what == "GET":
            await client.line.send("GET", lane.path, client.headers())
        elif what == "initialize":
            client.session = None
            await client.send(what, protocolVersion=client.version, capabilities={}, clientInfo={"name": "late"})
        else:
            body = wire.notification("notifications/progress")
            await client.line.send("POST", lane.path, client.headers(), body)
        await counted(lane, exchanges=1, waiting=1)
        await client.line.be_gone()
        await nothing_is_left(lane)
        await nothing_was_sent(lane)


async def test_a_request_that_is_killed_waits_no_longer(lanes: Lanes):
    async with lanes.lane("probed") as lane:
        client = await downed(lane)
        await client.call()
        await counted(lane, waiting=1)
        assert (await put(lane.proxy, "kill"))[1] == 1
        await nothing_is_left(lane)
        with pytest.raises(BROKEN):
            await client.line.response()
        await nothing_was_sent(lane)


async def test_who_left_while_its_request_was_judged_waits_for_no_server(lanes: Lanes):
    async with lanes.lane("probed") as lane:
        client = await downed(lane)
        await put(lane.proxy, "set", {"judging": "c2s"})
        await client.send("tools/call", name="echo", arguments={}, hold_s=PATIENCE_S)
        await counted(lane, exchanges=1, waiting=0)
        await client.line.be_gone()
        await nothing_is_left(lane)
        await put(lane.proxy, "set", {"judging": "s2c"})
        await nothing_was_sent(lane)


async def test_who_takes_its_request_back_while_a_connection_is_made_has_sent_nothing(
    lanes: Lanes, authority: Authority
):
    async with lanes.lane("tls") as lane, connect_h2(lane.proxy.port, lane.proxy.tls_context()) as client:
        taken, goes_on, heads = asyncio.Event(), asyncio.Event(), asyncio.Queue[bytes]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken.set()
            await goes_on.wait()
            await writer.start_tls(authority.server_context("http/1.1"))
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                heads.put_nowait(await reader.readuntil(b"\r\n\r\n"))
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", lane.a.port), asyncio.timeout(WITHIN_S):
            one = await client.post(lane.path, wire.CALL_HEADERS | {"x-which": "a"}, CALL)
            other = await client.post(lane.path, wire.CALL_HEADERS | {"x-which": "b"}, CALL)
            await taken.wait()
            await client.take_back(one)
            await counted(lane, exchanges=2)
            goes_on.set()
            assert b"x-which: b" in await heads.get()
            await client.take_back(other)
        assert heads.empty()
        await nothing_is_left(lane)


async def test_requests_that_wait_are_answered_when_upstreams_are_taken_away(tmp_path: Path):
    with Proxies(tmp_path) as proxies:
        lanes = Lanes(tmp_path, {"probed": (PROBED, 1)}).run(proxies, "regular", RELAYED)
        async with lanes.lane("probed") as lane:
            client = await downed(lane)
            await client.call()
            await counted(lane, waiting=1)
            assert (await put(lane.proxy, "set", {"shadowcat_upstreams": ""}))[0] == 200
            assert (await client.line.response()).status == 503
