"""Two servers of which one is killed every few seconds, the way to them, and many clients that should not notice.

A kill is `kill -9`; the server comes back a second later at the same port, and now and then both are gone at once.
What happened is judged in tests/e2e/failover_findings.py.
"""

import itertools
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

from tests.e2e import partners
from tests.e2e.failover_findings import Findings
from tests.e2e.processes import ChildProcess, environment, free_port
from tests.e2e.proxies import Proxies
from tests.e2e.sdk import PYTHONS, Line

HERE = Path(__file__).parent
READY_WITHIN_S = 60.0
REPORT_WITHIN_S = 120.0
"""From the last kill: calls come to their end, and every session shows that it still works."""

PATIENCE_S = 30.0
"""More than two servers need to start on a machine that has much else to do."""
CALL_WITHIN_S = {"shadowcat": PATIENCE_S + 10, "direct": 5.0}
"""Nobody waits so long but clients that a killed server has left without an answer."""

type Way = Literal["shadowcat", "direct"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Which servers there are, and who calls them."""

    name: str
    servers: tuple[Line | Literal["npm"], ...] = ("sdk1", "sdk2")
    flags: tuple[str, ...] = ()
    sessions: int = 50

    @property
    def everything(self) -> bool:
        return "npm" in self.servers

    @property
    def progress(self) -> tuple[int, ...]:
        """What a call that succeeds has heard of its progress."""
        return () if "--json" in self.flags else (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Course:
    """How long it goes on, and who is killed in turn: each turn comes once at least, however long that takes."""

    seconds: float
    turns: tuple[tuple[str, ...], ...] = (("A",), ("B",), ("B", "A"))
    down_s: float = 1.0
    up_s: tuple[float, float] = (1.5, 3.0)
    seed: int = 4


@dataclass(slots=True)
class Server:
    """A server that is killed and started again at its port."""

    name: str
    port: int
    start_one: Callable[[str, int, Path], ChildProcess]
    folder: Path
    lives: list[ChildProcess] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        """Start it; `wait` says when it listens."""
        log = self.folder / f"{self.name}-{len(self.lives)}.txt"
        self.lives.append(self.start_one(self.name, self.port, log))

    def wait(self) -> None:
        self.lives[-1].wait_listening()

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        process = self.lives[-1]
        os.kill(process.pid, signal.SIGKILL)
        while process.alive:
            time.sleep(0.001)
        process.stop()

    def stop(self) -> None:
        for process in self.lives[-1:]:
            process.stop()


class Clients:
    """One program with many sessions, all of one line of the SDK."""

    def __init__(self, line: Line, urls: Sequence[str], sessions: int, folder: Path, *flags: str):
        self._output = folder / f"clients-{line}.json"
        self._errors = folder / f"clients-{line}.txt"
        argv = [PYTHONS[line], HERE / "clients" / "many_sessions.py", *urls, "--name", line]
        argv += ["--sessions", str(sessions), *flags]
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=output, stderr=errors, env=environment(), start_new_session=True
            )

    def wait_ready(self) -> None:
        """Block until all sessions have begun."""
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._output.read_text().startswith("ready\n"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the sessions have not begun:\n{self._errors.read_text()}")
            time.sleep(0.05)

    def end(self) -> None:
        """Tell it that it is over."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def report(self) -> dict[str, Any]:
        """What each session saw, by its name."""
        try:
            self._process.wait(REPORT_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError("clients hang") from error
        assert self._process.returncode == 0, self._errors.read_text()
        return dict(json.loads(self._output.read_text().removeprefix("ready\n")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def upstreams_file(folder: Path, servers: Sequence[Server]) -> Path:
    """The file that the proxy is started with (JSON is YAML)."""
    route = {
        "name": "servers",
        "upstreams": [{"name": server.name, "url": server.url} for server in servers],
        "timeouts": {"connect_s": 2},
        "health": {"backoff": {"base_s": 0.2, "max_s": 1}},
        "retry": {"attempts": 3, "patience_s": PATIENCE_S},
    }
    path = folder / "shadowcat.yaml"
    path.write_text(json.dumps({"version": 1, "sessions": {"store": "memory"}, "routes": [route]}, indent=2))
    return path


class Stage:
    """Everything that takes part, in a folder of its own; all of it ends together."""

    def __init__(self, folder: Path, setting: Setting, way: Way):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._setting = setting
        self._way = way
        self._ledger = folder / "ledger.txt"
        self._ledger.touch()
        self._stack = ExitStack()
        self.servers: list[Server] = []
        self.clients: list[Clients] = []
        self.kills: Counter[str] = Counter()

    def __enter__(self) -> Self:
        with self._stack as stack:
            for name, line in zip("AB", self._setting.servers, strict=True):
                start = self._everything if line == "npm" else self._ledger_server(line)
                server = Server(name, free_port(), start, self._folder)
                stack.callback(server.stop)
                server.start()
                self.servers.append(server)
            urls = [server.url for server in self.servers]
            if self._way == "shadowcat":
                urls = [
                    stack.enter_context(Proxies(self._folder))
                    .shadowcat(
                        "regular", shadowcat_upstreams=str(upstreams_file(self._folder, self.servers)), flow_detail="0"
                    )
                    .url
                    + "/mcp"
                ]
            for server in self.servers:
                server.wait()
            lines: tuple[Line, ...] = ("sdk1", "sdk2")
            for line in lines:
                share = self._setting.sessions // len(lines)
                clients = Clients(line, urls, share, self._folder, *self._client_flags())
                self.clients.append(stack.enter_context(clients))
            for clients in self.clients:
                clients.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _client_flags(self) -> list[str]:
        everything = ["--everything"] if self._setting.everything else []
        return [*everything, "--patience-s", str(CALL_WITHIN_S[self._way])]

    def _ledger_server(self, line: Line) -> Callable[[str, int, Path], ChildProcess]:
        def start(name: str, port: int, log: Path) -> ChildProcess:
            argv = [PYTHONS[line], HERE / "servers" / "ledger.py", "--port", str(port), "--name", name]
            argv += ["--ledger", self._ledger, *self._setting.flags]
            return ChildProcess(f"server {name} ({line})", argv, port=port, log=log)

        return start

    def _everything(self, name: str, port: int, log: Path) -> ChildProcess:
        argv = [partners.node(), partners.EVERYTHING, "streamableHttp"]
        return ChildProcess(f"server {name} (everything)", argv, port=port, log=log, env=environment(PORT=str(port)))

    def kill_and_restart(self, course: Course) -> None:
        """Each turn's servers, and again from the first turn; they are back before the next ones go."""
        servers = {server.name: server for server in self.servers}
        random = Random(course.seed)
        deadline = time.monotonic() + course.seconds
        for turn in itertools.cycle(course.turns):
            time.sleep(random.uniform(*course.up_s))
            if time.monotonic() > deadline and self.kills.total() >= len(course.turns):
                return
            victims = [servers[name] for name in turn]
            for server in victims:
                server.kill()
            self.kills[together(turn)] += 1
            time.sleep(course.down_s)
            for server in victims:
                server.start()
            for server in victims:
                server.wait()

    def findings(self) -> Findings:
        """End the conversation, and say what came of it."""
        for clients in self.clients:
            clients.end()
        people: dict[str, Any] = {}
        for clients in self.clients:
            people |= clients.report()
        entries = [json.loads(line) for line in self._ledger.read_text().splitlines()]
        return Findings(
            people=people,
            entries=None if self._setting.everything else entries,
            kills=dict(self.kills),
            progress=list(self._setting.progress),
            patience_s=PATIENCE_S,
        )


def together(turn: Sequence[str]) -> str:
    """What those who are killed at once are called."""
    return " and ".join(sorted(turn))


def run(folder: Path, setting: Setting, way: Way, course: Course) -> Findings:
    """Run it from begin to end."""
    with Stage(folder, setting, way) as stage:
        stage.kill_and_restart(course)
        return stage.findings()
