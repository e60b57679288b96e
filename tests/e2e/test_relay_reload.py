"""The file of upstreams is saved, mistaken, set and taken away, and commands are given, while a real mitmdump runs."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shadowcat_core.tape.reader import Tape
from tests.e2e import wire
from tests.e2e.origin import WITHIN_S
from tests.e2e.processes import READY_WITHIN_S, ChildProcess, free_port
from tests.e2e.proxies import PROGRAMS, SCRIPTS, SHADOWCAT, Proxies
from tests.e2e.relay_lanes import Lanes, put
from tests.e2e.relay_servers import numbered, numbers, say

RELAYED = SCRIPTS / "relayed.py"


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[Lanes]:
    """A proxy of this test's own: its file is changed."""
    with Proxies(tmp_path) as proxies:
        yield Lanes(tmp_path, {"plain": ({}, 2)}).run(proxies, "regular", RELAYED)


async def command(lanes: Lanes, *said: str) -> Any:
    status, answer = await put(lanes.proxy, "call", said)
    assert status == 200, answer
    return answer


async def until(lanes: Lanes, text: str, *, times: int = 1) -> None:
    """Until the proxy has said something so often."""
    async with asyncio.timeout(WITHIN_S):
        while lanes.proxy.process.log.count(text) < times:  # noqa: ASYNC110 -- another process's file has no events
            await asyncio.sleep(0.05)


async def test_a_file_that_is_saved_counts_at_once_and_what_runs_goes_on(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        await client.call()
        exchange = await lane.a.exchange()
        await exchange.head()
        stream = await client.stream()
        await exchange.send(numbered(1))
        assert numbers(await stream.messages(1)) == [1]
        ours = next(route for route in lanes.content["routes"] if route["name"] == lane.name)
        ours["upstreams"] = [each for each in ours["upstreams"] if each["name"] == lane.b.name]
        lanes.save()
        await until(lanes, f"removed: {lane.a.name}")
        await lane.b.start()
        await exchange.send(numbered(2))
        assert numbers(await stream.messages(1)) == [2]
        other = await (await lane.client()).begin()
        assert (len(lane.a.begun), len(lane.b.begun)) == (1, 1)
        await exchange.send(wire.sse(wire.result(1)))
        await exchange.end()
        assert (await stream.rest())[-1]["id"] == 1
        await client.call(message_id=2)  # the old session stays where it is, at a server that drains
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 2
        assert any(lane.a.name in row for row in await command(lanes, "shadowcat.upstreams"))
        await client.line.send("DELETE", lane.path, client.headers())
        assert (await client.line.response()).status == 200
        assert not any(lane.a.name in row for row in await command(lanes, "shadowcat.upstreams"))
        await other.call()
        await say(await lane.b.exchange())
        assert (await other.answer())["id"] == 1


async def test_a_file_with_a_mistake_is_said_once_and_changes_nothing(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        for content in ('{"routes": [{"balance": "x"}]}', "{", ""):
            before = lanes.proxy.process.log.count("The upstreams stay as they were.")
            lanes.write(content)
            await until(lanes, "The upstreams stay as they were.", times=before + 1)
            await client.call()
            await say(await lane.a.exchange())
            assert (await client.answer())["id"] == 1
        lanes.file.unlink()
        await asyncio.sleep(1.2)
        assert lanes.proxy.process.log.count("The upstreams stay as they were.") == 3
        await client.call()
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 1
        more = {"name": "more", "path": "/more", "upstreams": [{"name": "more-1", "url": "http://127.0.0.1:9"}]}
        lanes.content["routes"].append(more)
        lanes.save()
        await until(lanes, "added: more-1")


def of_one(url: str, **more: Any) -> str:
    """A file with one upstream."""
    return json.dumps({"routes": [{"upstreams": [{"name": "x", "url": url}]}], **more})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "upstreams.json"),
        (of_one("ftp://x"), "upstreams.json:1: routes[0].upstreams[0].url"),
        (of_one("http://x", sessions={"store": "sqlite:/no/such/folder/x"}), "/no/such/folder"),
    ],
)
async def test_a_bad_file_at_the_start_ends_mitmdump_with_one_clear_line(
    tmp_path: Path, content: str | None, said: str
):
    file = tmp_path / "upstreams.json"
    if content is not None:
        file.write_text(content)
    argv = [PROGRAMS / "mitmdump", "--listen-host", "127.0.0.1", "-p", str(free_port()), "-s", SHADOWCAT]
    argv += ["--set", f"shadowcat_upstreams={file}", "--set", f"confdir={tmp_path}"]
    with ChildProcess("mitmdump", argv, port=0, log=tmp_path / "log.txt") as ended:
        async with asyncio.timeout(READY_WITHIN_S):
            while ended.alive:  # noqa: ASYNC110 -- another process's end has no event
                await asyncio.sleep(0.05)
        lines = [line for line in ended.log.splitlines() if "shadowcat_upstreams" in line]
        assert len(lines) == 1, ended.log
        assert said in lines[0]
        assert "Traceback" not in ended.log


async def test_the_option_can_be_set_taken_away_and_set_again_while_it_runs(tmp_path: Path):
    with Proxies(tmp_path) as proxies:
        lanes = Lanes(tmp_path, {"plain": ({}, 2)})
        lanes.proxy = proxies.shadowcat("regular", RELAYED, flow_detail="0")
        assert (await command(lanes, "shadowcat.upstreams"))[0].startswith("no upstreams")
        for _ in range(2):
            async with lanes.lane() as lane:
                await lane.a.start()
                assert (await put(lanes.proxy, "set", {"shadowcat_upstreams": str(lanes.file)}))[0] == 200
                client = await (await lane.client()).begin()
                await client.call()
                exchange = await lane.a.exchange()
                await exchange.head()
                stream = await client.stream()
                await exchange.send(numbered(1))
                await stream.messages(1)
                status, text = await put(lanes.proxy, "set", {"shadowcat_upstreams": str(tmp_path / "none")})
                assert (status, "none" in text) == (400, True)
                assert (await put(lanes.proxy, "set", {"shadowcat_upstreams": ""}))[0] == 200
                await exchange.send(wire.sse(wire.result(1)))
                await exchange.end()
                assert (await stream.rest())[-1]["id"] == 1


async def test_commands_list_drain_and_end(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        await lane.b.start()
        client = await (await lane.client()).begin()
        here, there = (lane.a, lane.b) if lane.a.begun else (lane.b, lane.a)
        async with asyncio.timeout(WITHIN_S):
            # The list is made now and then.
            while not any(client.session in row for row in await command(lanes, "shadowcat.sessions")):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert here.name in str(await command(lanes, "shadowcat.upstreams"))
        assert "gets no new sessions" in await command(lanes, "shadowcat.drain", here.name)
        for _ in range(3):
            await (await lane.client()).begin()
        assert (len(here.begun), len(there.begun)) == (1, 3)
        await client.call()
        await say(await here.exchange())
        assert (await client.answer())["id"] == 1
        await command(lanes, "shadowcat.undrain", here.name)
        for _ in range(4):
            await (await lane.client()).begin()
        assert len(here.begun) > 1
        await until(lanes, f"upstream {here.name} drains, by command")
        await until(lanes, f"upstream {here.name} gets new sessions again, by command")
        for said in (("shadowcat.drain", "nobody"), ("shadowcat.undrain", "nobody")):
            assert (await put(lanes.proxy, "call", said))[0] == 400
        await command(lanes, "shadowcat.sessions.end", client.session)
        await until(lanes, f"session {client.session} has ended by command")
        assert [request.header("mcp-session-id") for request in here.asked("DELETE")] == [here.begun[0]]
        await client.call()
        assert (await client.line.response()).status == 404
        await command(lanes, "shadowcat.sessions.end", "nobody")
        await until(lanes, "there is no session nobody")


async def test_a_tape_has_all_of_a_stream_that_broke_off_and_went_on(tmp_path: Path):
    tapes, answered = tmp_path / "tapes", wire.sse(wire.result(1), event_id="3")
    with Proxies(tmp_path) as proxies:
        lanes = Lanes(tmp_path, {"plain": ({}, 2)}).run(proxies, "regular", RELAYED, shadowcat_tape=str(tapes))
        async with lanes.lane() as lane:
            await lane.a.start()
            client = await (await lane.client()).begin()
            await client.call()
            exchange = await lane.a.exchange()
            await exchange.head()
            stream = await client.stream()
            await exchange.send(numbered(1, event_id="1"))
            assert numbers(await stream.messages(1)) == [1]
            await exchange.reset()
            again = await lane.a.exchange()
            await again.head()
            await again.send(numbered(2, event_id="2") + answered)
            await again.end()
            assert numbers(await stream.rest()) == [2]
            await client.send("tools/list", message_id=5)
            await (await lane.a.exchange()).reset()
            await say(await lane.a.exchange(), tools=[])
            assert (await client.answer())["id"] == 5
    (path,) = tapes.iterdir()
    verify = [PROGRAMS / "shadowcat", "tape", "verify", path]
    verified = await asyncio.to_thread(subprocess.run, verify, check=False, capture_output=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    asked = {each.request_body: each for each in Tape.open(path).exchanges()}
    (call,) = (each for body, each in asked.items() if b"tools/call" in body)
    assert call.response_body == numbered(1, event_id="1") + numbered(2, event_id="2") + answered
    assert [note.text for note in call.notes] == [f"goes on at {lane.a.name}"]
    (listed,) = (each for body, each in asked.items() if b"tools/list" in body)
    assert [note.text for note in listed.notes][-1:] == [f"sent again at {lane.a.name}"]
