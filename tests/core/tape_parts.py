"""Parts for tests of tapes: a file in memory whose disk fills up, and headers and records with little ceremony."""

import errno
import threading
from pathlib import Path

from shadowcat_core.tape.encoding import decode, decode_header
from shadowcat_core.tape.recorder import Recorder
from shadowcat_core.tape.records import Chunk, Header

ORIGIN_NS = 1_000_000_000
WAITING_S = 30


def header(mode="background"):
    return Header("2026-11-21T07:32:00+00:00", "shadowcat", "0.1.0", "default", mode, ORIGIN_NS)


def chunk(t_us, data=b"data: 1\n\n", exchange=1):
    return Chunk(ORIGIN_NS + t_us * 1000, exchange, "s2c", data)


def as_it_is(record):
    return record


class Disk:
    """A file in memory. `capacity` bytes fit; beyond it a write takes what fits, then fails as a full disk does."""

    def __init__(self):
        self.data = b""
        self.capacity = 10**12
        self.most_per_write = 10**12
        self.writes = []
        self.closed = False
        self.broken = False
        self.fails_to_close = False

    def write(self, data):
        assert not self.closed
        taken = min(len(data), self.capacity - len(self.data), self.most_per_write)
        if taken <= 0 or self.broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.data += data[:taken]
        self.writes.append(data[:taken])
        return taken

    def truncate(self, size):
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        assert size <= len(self.data)
        self.data = self.data[:size]
        return size

    def close(self):
        self.closed = True
        if self.fails_to_close:
            raise OSError(errno.EIO, "Input/output error")

    def fill_up(self):
        self.capacity = len(self.data)

    def records(self):
        lines = self.data.splitlines(keepends=True)
        origin_ns = decode_header(lines[0]).origin_ns
        return [record for line in lines[1:] for record in decode(line, origin_ns)]


class Gate:
    """Stands in for the writer's wait: no time passes, each step is let through by the test."""

    def __init__(self):
        self._steps = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        self.asked_s = []
        self.was_woken = []

    def __call__(self, event, timeout_s):
        self.asked_s.append(timeout_s)
        self._arrived.release()
        assert self._steps.acquire(timeout=WAITING_S)
        self.was_woken.append(event.is_set())

    def step(self):
        """Let the writer through one wait, and come back when it waits again."""
        self.arrive()
        self._steps.release()
        self.arrive()
        self._arrived.release()

    def arrive(self):
        assert self._arrived.acquire(timeout=WAITING_S)

    def open(self):
        """Let everything through from now on."""
        self._steps.release(10**6)


class Recording:
    """A recorder on a `Disk`. Without a gate its thread sleeps until the end, and the test flushes."""

    def __init__(self, *, gate=None, **options):
        self.disk = Disk()
        self.failures = []
        options.setdefault("redact", as_it_is)
        wait = gate or (lambda event, _timeout_s: event.wait(WAITING_S))
        self.recorder = Recorder(
            Path(options.pop("name", "a.tape.jsonl")),
            header(),
            on_failure=self.failures.append,
            open_file=lambda _path: self.disk,
            wait=wait,
            **options,
        )

    def __enter__(self):
        return self.recorder, self.disk, self.failures

    def __exit__(self, *_exc):
        self.recorder.close()
