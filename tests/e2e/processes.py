"""Child processes of the end-to-end tests: ready when they accept connections, log kept, ended by their own id."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

READY_WITHIN_S = 40.0
STOP_WITHIN_S = 5.0
LOG_TAIL_CHARS = 6_000

# Below Linux's ephemeral range: a port found free here is not taken by somebody's outgoing connection a moment later.
PORTS = range(20_000, 32_000)


class NotReadyError(Exception):
    """A child ended, or did not listen in time; the message carries the end of its log."""


def free_port() -> int:
    """A loopback TCP port nobody listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without proxy settings, Python's buffering off, and `changes`."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"PYTHONUNBUFFERED": "1"} | changes


class ChildProcess:
    """One server in a process of its own, from start to stop.

    It leads a process group, so whatever it starts ends with it.
    """

    running: list["ChildProcess"] = []  # noqa: RUF012 -- one list for all: what a failure report shows

    def __init__(
        self, name: str, argv: Sequence[str | Path], *, port: int, log: Path, env: Mapping[str, str] | None = None
    ):
        self.name = name
        self.port = port
        self.log_path = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env or environment()),
                start_new_session=True,
            )
        self.running.append(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything the child has said so far."""
        return self.log_path.read_text(errors="replace")

    def wait_listening(self, *further_ports: int, settle_s: float = 0.0) -> Self:
        """Block until the child accepts connections on all its ports, and has not ended `settle_s` later."""
        deadline = time.monotonic() + READY_WITHIN_S
        for port in (self.port, *further_ports):
            while not self._accepts(port):
                if time.monotonic() > deadline or self._ended_within(0.02):
                    raise self._not_ready(f"does not listen on {port}")
        if self._ended_within(settle_s):
            raise self._not_ready("ended")
        return self

    def _accepts(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _not_ready(self, why: str) -> NotReadyError:
        state = why if self.alive else "ended"
        self.stop()
        return NotReadyError(f"{self.name} {state}:\n{self.log[-LOG_TAIL_CHARS:]}")

    def _ended_within(self, wait_s: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        return not self.alive

    def resident_bytes(self) -> int:
        """Memory the child occupies now (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """End the child and whatever it started; harmless when it has ended."""
        if self in self.running:
            self.running.remove(self)
        for request in (signal.SIGTERM, signal.SIGKILL):
            # A process that was waited for has given its id back: it may be somebody else's by now.
            if self._process.returncode is None:
                os.killpg(self.pid, request)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
