"""A real redis-server on a loopback port of its own: started, killed and started again by its own id."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.processes import free_port

READY_WITHIN_S = 60.0


def missing() -> str | None:
    """Say why there is no redis-server here; None when there is one."""
    return None if shutil.which("redis-server") else "redis-server is not installed: apt-get install redis-server"


def require_redis() -> None:
    """Skip with the reason when there is no redis-server; where partners are required, fail with it."""
    reason = missing()
    if reason is None:
        return
    if os.environ.get("SHADOWCAT_REQUIRE_PARTNERS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class RedisServer:
    """One server, in the process group of the tests: what ends them ends it.

    Its data are in `directory`; with `durable` each write is on disk before it is answered.
    """

    def __init__(self, directory: Path, *, cluster: bool = False, durable: bool = False) -> None:
        self.port = free_port()
        self._cluster = cluster
        self._directory = directory
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        argv += ["--save", "", "--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"]
        if self._cluster:
            # Not the port that it would take, 10,000 above: connections of others may have that.
            argv += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        self._await_pong()
        if self._cluster:
            self.command("CLUSTER ADDSLOTSRANGE 0 16383")
            deadline = time.monotonic() + READY_WITHIN_S
            while b"cluster_state:ok" not in self.command("CLUSTER INFO"):
                assert time.monotonic() < deadline, "the cluster does not come up"
                time.sleep(0.05)
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def command(self, words: str) -> bytes:
        """Send one command by hand, and read the first piece of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(words.encode() + b"\r\n")
            return connection.recv(65536)

    def _await_pong(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (self._directory / "redis.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "redis-server does not answer"
            try:
                if self.command("PING").startswith(b"+PONG"):
                    return
            except OSError:
                pass
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
