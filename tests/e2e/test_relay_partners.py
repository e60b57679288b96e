"""The MCP Inspector and the official SDK's client of the modern era, before a server that is gone and one that goes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ChildProcess, environment, free_port
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.relay_lanes import PATIENT
from tests.e2e.sdk import HERE, SDK2_PYTHON, SERVERS, Servers, output_of
from tests.e2e.test_inspector import CALL_ADD, LIST, inspect

CALLS = 100
"""So many are made at least; the client goes on while servers are killed."""


def leading(proxies: Proxies, folder: Path, *ports: int) -> Proxy:
    """A proxy in front of the servers at these ports, which are asked in turn."""
    upstreams = [{"name": f"at-{port}", "url": f"http://127.0.0.1:{port}/mcp"} for port in ports]
    file = folder / "upstreams.json"
    route = {"upstreams": upstreams, "health": {"backoff": {"base_s": 0.1, "max_s": 0.5}}, "retry": PATIENT}
    file.write_text(json.dumps({"routes": [route]}))
    return proxies.shadowcat("regular", shadowcat_upstreams=str(file), flow_detail="0")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Proxies]:
    with Proxies(tmp_path) as proxies:
        yield proxies


@pytest.mark.partner
@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize(
    ("era", "asked"), [("legacy", LIST), ("legacy", CALL_ADD), ("auto", LIST), ("modern", CALL_ADD)]
)
async def test_the_inspector_does_not_notice_that_one_of_two_servers_is_gone(
    started: Proxies, servers: Servers, tmp_path: Path, era: str, asked: tuple[str, ...]
):
    url = servers.url(SERVERS["sdk2"])
    proxy = leading(started, tmp_path, free_port(), int(url.rpartition(":")[2]))
    direct = await inspect(f"{url}/mcp", "http", era, asked, tmp_path)
    assert await inspect(f"{proxy.url}/mcp", "http", era, asked, tmp_path) == direct


async def test_the_modern_client_of_the_official_sdk_goes_on_while_its_servers_are_killed_in_turn(
    started: Proxies, tmp_path: Path
):
    ports = [free_port(), free_port()]

    def serve(port: int, life: int) -> ChildProcess:
        argv, env = SERVERS["sdk2"].command(port)
        return ChildProcess("server", argv, port=port, log=tmp_path / f"server-{port}-{life}.txt", env=env)

    lives: dict[int, ChildProcess] = {port: serve(port, 0) for port in ports}
    try:
        for server in lives.values():
            server.wait_listening()
        proxy = leading(started, tmp_path, *ports)
        client = HERE / "clients" / "persistent.py"
        over = tmp_path / "over"
        mode = ("--mode", "2026-07-28", "--calls", str(CALLS), "--until", str(over))
        calling = asyncio.create_task(
            output_of(SDK2_PYTHON, client, f"{proxy.url}/mcp", *mode, env=environment(), succeeds=True)
        )
        kills = 0
        for life in (1, 2):
            for port in ports:
                await asyncio.sleep(0.3)
                await asyncio.to_thread(lives[port].stop)
                lives[port] = serve(port, life)
                await asyncio.to_thread(lives[port].wait_listening)
                kills += 1
        over.touch()
        (outcomes,) = json.loads(await calling)
        assert len(outcomes) >= CALLS
        wrong = {said for number, said in enumerate(outcomes, start=1) if said != f"call {number}"}
        assert [said for said in wrong if "may have run" not in said] == []
        assert len(wrong) <= kills
    finally:
        for server in lives.values():
            server.stop()
