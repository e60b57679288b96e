"""The official SDKs and server-everything as the tests meet them: which Python, which command, which conversation."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from tests.e2e import partners
from tests.e2e.authority import Authority
from tests.e2e.processes import ChildProcess, environment, free_port

HERE = Path(__file__).parent
SDK2_PYTHON = Path(sys.executable)
CLIENT_WITHIN_S = 90.0

type Line = Literal["sdk1", "sdk2"]
type Transport = Literal["http", "sse"]

PYTHONS: Mapping[Line, Path] = {"sdk1": partners.SDK1_PYTHON, "sdk2": SDK2_PYTHON}
PATHS: Mapping[Transport, str] = {"http": "/mcp", "sse": "/sse"}


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server: how it is started and what a client can talk about with it."""

    name: str
    line: Line | Literal["npm"]
    transport: Transport = "http"
    flags: tuple[str, ...] = ()
    conversation: tuple[str, ...] = ("official", "streaming")

    @property
    def path(self) -> str:
        return PATHS[self.transport]

    def command(self, port: int) -> tuple[Sequence[str | Path], Mapping[str, str]]:
        """The command that starts it, and its environment."""
        if self.line == "npm":
            mode = {"http": "streamableHttp", "sse": "sse"}[self.transport]
            return (partners.node(), partners.EVERYTHING, mode), environment(PORT=str(port))
        script = HERE / "servers" / "official.py"
        flags = ("--port", str(port), "--transport", self.transport, *self.flags)
        return (PYTHONS[self.line], script, *flags), environment()


SERVERS: Mapping[str, Server] = {
    server.name: server
    for server in (
        Server("sdk1", "sdk1"),
        Server("sdk2", "sdk2"),
        Server("sdk1-json", "sdk1", flags=("--json",), conversation=("official",)),
        Server("sdk2-json", "sdk2", flags=("--json",), conversation=("official",)),
        Server("sdk2-stateless", "sdk2", flags=("--stateless",), conversation=("official",)),
        Server("everything", "npm", conversation=("everything",)),
        Server("sdk1-sse", "sdk1", transport="sse"),
        Server("sdk2-sse", "sdk2", transport="sse"),
        Server("everything-sse", "npm", transport="sse", conversation=("everything",)),
    )
}


@dataclass(frozen=True, slots=True)
class Client:
    """One kind of client: the SDK's line and how it negotiates the era."""

    name: str
    line: Line
    mode: str = "legacy"

    async def converse(self, server: Server, base: str, *, within_s: float = 60, **env: str) -> dict[str, Any]:
        """The report of a session with `server` at `base`; an `error` in it when the session failed."""
        argv: list[str | Path] = [PYTHONS[self.line], HERE / "clients" / "official.py", base + server.path]
        argv += ["--transport", server.transport, "--mode", self.mode, "--within-s", str(within_s)]
        for name in server.conversation:
            argv += ["--conversation", name]
        return dict(json.loads(await output_of(*argv, env=environment(**env))))


CLIENTS: Mapping[str, Client] = {
    client.name: client
    for client in (
        Client("sdk1", "sdk1"),
        Client("sdk2-legacy", "sdk2", "legacy"),
        Client("sdk2-auto", "sdk2", "auto"),
        Client("sdk2-modern", "sdk2", "2026-07-28"),
    )
}


async def output_of(*argv: str | Path, env: Mapping[str, str], succeeds: bool = False) -> str:
    """What a command prints; it is killed when it takes too long. With `succeeds`, its exit code must be 0."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        async with asyncio.timeout(CLIENT_WITHIN_S):
            output, errors = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    said = f"{' '.join(map(str, argv))} ended with {process.returncode}\n{output.decode()}\n{errors.decode()}"
    assert output, said
    assert not succeeds or process.returncode == 0, said
    return output.decode()


class Servers:
    """Starts servers on demand; the same wish gets the same process, and all end together."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._started: dict[tuple[str, bool], ChildProcess] = {}

    def start(self, server: Server, *, tls: Authority | None = None) -> ChildProcess:
        key = (server.name, tls is not None)
        if key not in self._started:
            port = free_port()
            argv, env = server.command(port)
            if tls is not None:
                argv = [*argv, "--certificate", tls.certificate_file, "--key", tls.key_file]
            log = self._folder / f"{server.name}-{port}.txt"
            process = ChildProcess(f"server {server.name}", argv, port=port, log=log, env=env)
            self._started[key] = process.wait_listening()
        return self._started[key]

    def url(self, server: Server, *, tls: Authority | None = None) -> str:
        """Where the server answers, without its path."""
        return f"{'https' if tls else 'http'}://127.0.0.1:{self.start(server, tls=tls).port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started.values():
            process.stop()
