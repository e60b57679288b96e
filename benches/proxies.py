"""The proxies that are compared, as real processes in front of one origin, and what the system says they use."""

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.processes import ChildProcess, free_port
from tests.e2e.proxies import Proxies

PLAIN, IDLE, RECORDING = "stream=True", "suite", "suite recording"
"""mitmproxy with the one-line script; with the suite and its live view; the same with a tape."""

ORIGIN = "no proxy"
STREAM_EVENTS = Path(__file__).parent / "stream_events.py"
QUIET = {"flow_detail": "0", "termlog_verbosity": "error"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to the origin."""

    name: str
    process: ChildProcess

    @property
    def port(self) -> int:
        return self.process.port

    def main_thread_ns(self) -> int:
        """Processor time of the thread that runs the event loop, so far (Linux)."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])

    def process_ns(self) -> int:
        """Processor time of all threads, so far, those that have ended included: the event loop's and the tape's."""
        # What clock_getcpuclockid(3) makes of a process id; Python has no name for it.
        return time.clock_gettime_ns(~self.process.pid << 3 | 2)

    def resident_bytes(self) -> int:
        """Memory the process occupies now."""
        return self.process.resident_bytes()

    def peak_bytes(self) -> int:
        """The most memory it has occupied since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def forget_peak(self) -> int:
        """Begin a new measurement of the peak. Returns what the process occupies now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.resident_bytes()


class Variants:
    """The origin and every way to it, started together and ended together."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._folder = folder
        self.all: dict[str, Variant] = {}

    def __enter__(self) -> Self:
        port = free_port()
        argv = [sys.executable, "-m", "benches.load_origin", str(port)]
        origin = ChildProcess("load origin", argv, port=port, log=self._folder / "origin.log")
        self._stack.enter_context(origin).wait_listening()
        self.all[ORIGIN] = Variant(ORIGIN, origin)
        proxies = self._stack.enter_context(Proxies(self._folder))
        mode = f"reverse:http://127.0.0.1:{port}"
        started = {
            PLAIN: proxies.stock(mode, STREAM_EVENTS, **QUIET),
            IDLE: proxies.shadowcat(mode, **QUIET),
            RECORDING: proxies.shadowcat(mode, **QUIET, shadowcat_tape=str(self._folder / "tapes")),
        }
        self.all |= {name: Variant(name, proxy.process) for name, proxy in started.items()}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def proxied(self) -> list[Variant]:
        """Every way but the direct one."""
        return [variant for variant in self.all.values() if variant.name != ORIGIN]

    @property
    def tape_bytes(self) -> int:
        """What the tapes hold: proof that there was recording."""
        return sum(entry.stat().st_size for entry in os.scandir(self._folder / "tapes"))
