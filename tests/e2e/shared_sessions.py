"""Two proxies that share their sessions, the servers behind them, and a port in front that can be switched over.

All but the port are processes, which the test kills and starts again where they were.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from tests.e2e.origin import WITHIN_S
from tests.e2e.processes import ChildProcess, environment, free_port
from tests.e2e.proxies import PROGRAMS, SHADOWCAT, STARTED, wait_started

NUMBERED = Path(__file__).parent / "servers" / "numbered.py"

type Kind = Literal["ids", "plain", "official"]
type OnOutage = Literal["open", "closed"]


@dataclass
class Program:
    """A program at a port that is killed and started again."""

    name: str
    argv: Sequence[str | Path]
    port: int
    folder: Path
    lives: list[ChildProcess] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it; `wait` says when it listens."""
        log = self.folder / f"{self.name}-{self.port}-{len(self.lives)}.txt"
        self.lives.append(ChildProcess(self.name, self.argv, port=self.port, log=log, env=environment()))

    def wait(self) -> None:
        self.lives[-1].wait_listening()

    def kill(self) -> None:
        """End it as a crash does (SIGKILL), and return when it is gone."""
        process = self.lives[-1]
        os.kill(process.pid, signal.SIGKILL)
        while process.alive:
            time.sleep(0.001)
        process.stop()

    def stop(self) -> None:
        for process in self.lives[-1:]:
            process.stop()


class ProxyProgram(Program):
    """A mitmdump with a `confdir` in its folder that has its name."""

    def wait(self) -> None:
        wait_started(self.lives[-1], self.folder / self.name)


class NumberedProgram(Program):
    """A `servers/numbered.py`, with what only the test asks of it."""

    @classmethod
    def of(cls, kind: Kind, folder: Path) -> Self:
        port = free_port()
        return cls(f"numbered-{kind}", [sys.executable, NUMBERED, "--port", str(port), "--kind", kind], port, folder)

    async def release(self, call: str, to: int) -> None:
        """Let a call count up to a number; its answer follows the last one."""
        async with httpx.AsyncClient(trust_env=False) as control:
            answer = await control.post(f"{self.url}/-/release", json={"call": call, "to": to})
            assert answer.status_code == 204

    async def forget(self) -> None:
        """Begin the ledger anew, and hold all calls: nothing of an earlier test is told or let go."""
        async with httpx.AsyncClient(trust_env=False) as control:
            assert (await control.post(f"{self.url}/-/forget")).status_code == 204

    async def ledger(self) -> dict[str, Any]:
        """What happened at this server since it started, or was told to forget."""
        async with httpx.AsyncClient(trust_env=False) as control:
            return dict((await control.get(f"{self.url}/-/ledger")).json())

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Until something is true of the ledger."""
        async with asyncio.timeout(WITHIN_S):
            while not holds(await self.ledger()):  # noqa: ASYNC110 -- another program tells only who asks
                await asyncio.sleep(0.02)

    async def finished(self, call: str) -> None:
        """Until a call has run to its end, whoever listens."""
        await self.until(lambda ledger: call in ledger["finished"])

    async def left_with(self, sessions: int) -> None:
        """Until so many of the sessions that began here are not ended."""
        await self.until(lambda ledger: len(ledger["begun"]) - len(ledger["ended"]) == sessions)


class Rig:
    """Two proxies, the servers behind them, and one store; all of it ends together."""

    def __init__(self, folder: Path, store: str, *servers: NumberedProgram, on_outage: OnOutage = "open"):
        self.servers = servers
        self._folder = folder
        key_file = folder / "key"
        key_file.write_text(secrets.token_hex(32))
        key_file.chmod(0o600)
        file = {
            "version": 1,
            "sessions": {"store": store, "on_outage": on_outage, "key_file": str(key_file)},
            "routes": [
                {
                    "upstreams": [
                        {"name": f"server-{number}", "url": f"{server.url}/mcp"}
                        for number, server in enumerate(servers, start=1)
                    ],
                    "health": {"backoff": {"base_s": 0.1, "max_s": 0.5}},
                    "retry": {"patience_s": 60},
                }
            ],
        }
        self._file = folder / "shadowcat.yaml"
        self._file.write_text(json.dumps(file))  # JSON is YAML
        self.one, self.two = self._proxy("proxy-1"), self._proxy("proxy-2")

    def _proxy(self, name: str) -> ProxyProgram:
        port = free_port()
        argv: list[str | Path] = [PROGRAMS / "mitmdump", "--listen-host", "127.0.0.1", "-p", str(port)]
        argv += ["-s", SHADOWCAT, "-s", STARTED, "--set", f"shadowcat_upstreams={self._file}"]
        argv += ["--set", f"confdir={self._folder / name}", "--set", "flow_detail=0"]
        return ProxyProgram(name, argv, port, self._folder)

    def __enter__(self) -> Self:
        programs = (*self.servers, self.one, self.two)
        try:
            for program in programs:
                program.launch()
            for program in programs:
                program.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for program in (self.one, self.two, *self.servers):
            program.stop()


class Forwarder:
    """A loopback port whose connections go to whichever port `to` says when they are made."""

    def __init__(self, to: int):
        self.to = to
        self.port = free_port()
        self._pumps: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        """Listen for as long as the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for pump in list(self._pumps):
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(_pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Bytes from one to the other; when one side is gone, so is the other."""
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()
    except OSError:
        sink.transport.abort()
    except asyncio.CancelledError:
        sink.transport.abort()
        raise
