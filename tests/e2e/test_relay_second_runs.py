"""Servers of the official SDK that are killed in the middle of a call: a safe one is answered all the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.failover import Server, upstreams_file
from tests.e2e.processes import ChildProcess, environment, free_port
from tests.e2e.proxies import Proxies
from tests.e2e.relay_servers import CLOSED
from tests.e2e.sdk import PYTHONS, Line

pytestmark = pytest.mark.partner

HERE = Path(__file__).parent
STEP_S = 0.04
WITHIN_S = 60.0


@dataclass
class Play:
    """Servers of one line that share a ledger, the proxy before them, and one client's call."""

    servers: dict[str, Server]
    ledger: Path
    gate: Path
    url: str
    heard: list[dict[str, Any]] = field(default_factory=list)
    """What the client has told so far."""

    def entries(self, what: str) -> list[dict[str, Any]]:
        written = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return [entry for entry in written if entry["what"] == what]

    def kill_who_runs_it(self) -> Server:
        """Kill the server that has stopped in the middle of the call; the next one does not stop there."""
        server = self.servers[self.entries("begin")[-1]["server"]]
        server.kill()
        self.gate.touch()
        return server

    @property
    def progress(self) -> list[float]:
        return [each["progress"] for each in self.heard if "progress" in each]

    @asynccontextmanager
    async def calling(self, line: Line, tool: str, mode: str = "legacy") -> AsyncIterator[asyncio.StreamReader]:
        """One call by a client of the SDK; it has come to its end with the block."""
        process = await asyncio.create_subprocess_exec(
            *(PYTHONS[line], HERE / "clients" / "one_call.py", self.url, tool, "--mode", mode),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(WITHIN_S):
                yield process.stdout
                while said := await process.stdout.readline():
                    self.heard.append(json.loads(said))
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def hear(self, stdout: asyncio.StreamReader, count: int) -> None:
        """Wait until the client has heard so much."""
        while len(self.heard) < count:
            self.heard.append(json.loads(await stdout.readline()))


@pytest.fixture
def play(request: pytest.FixtureRequest, tmp_path: Path, sdk1: None) -> Iterator[Play]:
    line, names, *flags = request.param
    ledger, gate = tmp_path / "ledger.txt", tmp_path / "gate"
    ledger.touch()

    def start(name: str, port: int, log: Path) -> ChildProcess:
        argv = [PYTHONS[line], HERE / "servers" / "ledger.py", "--port", str(port), "--name", name]
        argv += ["--ledger", ledger, "--step-s", str(STEP_S), "--gate", gate, *flags]
        return ChildProcess(f"server {name} ({line})", argv, port=port, log=log)

    with ExitStack() as stack:
        servers = {name: Server(name, free_port(), start, tmp_path) for name in names}
        for server in servers.values():
            stack.callback(server.stop)
            server.start()
        proxies = stack.enter_context(Proxies(tmp_path))
        file = upstreams_file(tmp_path, [*servers.values()])
        proxy = proxies.shadowcat("regular", shadowcat_upstreams=str(file), flow_detail="0")
        for server in servers.values():
            server.wait()
        yield Play(servers, ledger, gate, f"{proxy.url}/mcp")


@pytest.mark.parametrize(
    ("play", "client"),
    [(("sdk1", "AB"), "sdk1"), (("sdk2", "AB"), "sdk2"), (("sdk1", "A"), "sdk2"), (("sdk2", "A"), "sdk1")],
    indirect=["play"],
    ids=["another-1", "another-2", "restarted-1", "restarted-2"],
)
async def test_a_read_only_call_is_answered_though_its_server_is_killed_in_the_middle(play: Play, client: Line):
    async with play.calling(client, "look") as stdout:
        await play.hear(stdout, 2)
        killed = play.kill_who_runs_it()
        if len(play.servers) == 1:
            killed.start()
    assert play.progress == [1, 2, 3, 4]
    assert play.heard[-1] == {"result": "the call"}
    begun = [entry["pid"] for entry in play.entries("begin")]
    assert (len(begun), len(set(begun)), len(play.entries("end"))) == (2, 2, 1)


@pytest.mark.parametrize("play", [("sdk2", "AB")], indirect=True, ids=["another"])
async def test_a_call_that_nobody_says_is_safe_is_an_error_and_runs_once(play: Play):
    async with play.calling("sdk1", "transfer") as stdout:
        await play.hear(stdout, 2)
        play.kill_who_runs_it()
    assert play.progress == [1, 2]
    error = play.heard[-1]
    assert (error["code"], error["data"]["mayHaveRun"]) == (CLOSED, True)
    assert (len(play.entries("begin")), play.entries("end")) == (1, [])


@pytest.mark.parametrize(
    "play", [("sdk2", "AB", "--resumable"), ("sdk1", "A", "--resumable")], indirect=True, ids=["another", "restarted"]
)
async def test_a_server_whose_events_have_ids_makes_no_difference_when_it_is_killed(play: Play):
    async with play.calling("sdk2", "look") as stdout:
        await play.hear(stdout, 2)
        killed = play.kill_who_runs_it()
        if len(play.servers) == 1:
            killed.start()
    assert play.progress == [1, 2, 3, 4]
    assert play.heard[-1] == {"result": "the call"}
    assert len(play.entries("begin")) == 2


@pytest.mark.parametrize("tool", ["look", "transfer"])
@pytest.mark.parametrize("play", [("sdk2", "AB")], indirect=True, ids=["another"])
async def test_calls_of_the_modern_era_which_has_no_sessions_fare_alike(play: Play, tool: str):
    async with play.calling("sdk2", tool, "2026-07-28") as stdout:
        await play.hear(stdout, 2)
        play.kill_who_runs_it()
    is_safe = tool == "look"
    assert play.progress == ([1, 2, 3, 4] if is_safe else [1, 2])
    assert play.heard[-1] == {"result": "the call"} if is_safe else play.heard[-1]["data"]["mayHaveRun"]
    assert len(play.entries("begin")) == (2 if is_safe else 1)
