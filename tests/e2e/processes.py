"""Child processes of the end-to-end tests: ready when they accept connections, log kept, ended by their own id."""

import contextlib
import fcntl
import functools
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

READY_WITHIN_S = 90.0
STOP_WITHIN_S = 30.0
LOG_TAIL_CHARS = 6_000

# Below Linux's ephemeral range: a port found free here is not taken by somebody's outgoing connection a moment later.
PORTS = range(20_000, 32_000)


class NotReadyError(Exception):
    """A child ended, or did not listen in time; the message carries the end of its log."""


def free_port() -> int:
    """A loopback TCP port that nobody listens on, and that no other call gives while this process lives.

    What it is for may listen much later, and other processes of the tests look for ports at the same time.
    """
    while True:
        port = random.choice(PORTS)
        if not _is_ours_alone(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@functools.cache
def _taken_ports() -> tuple[int, set[int]]:
    """A file in which each process of the tests locks the bytes that stand for its ports, and those of this one."""
    path = Path(tempfile.gettempdir()) / f"shadowcat-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), set()


def _is_ours_alone(port: int) -> bool:
    """Take a port for this process; False when it is taken. The system lets go of it when the process ends."""
    file, ours = _taken_ports()
    if port in ours:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    ours.add(port)
    return True


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

    def wait_listening(self) -> Self:
        """Block until the child accepts connections."""
        return self.wait_until(lambda: self._accepts(self.port), f"does not listen on {self.port}")

    def wait_until(self, is_ready: Callable[[], bool], why_not: str) -> Self:
        """Block until the child is ready."""
        deadline = time.monotonic() + READY_WITHIN_S
        while not is_ready():
            if time.monotonic() > deadline or self._ended_within(0.02):
                raise self._not_ready(why_not)
        return self

    def _accepts(self, port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=READY_WITHIN_S).close()
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
