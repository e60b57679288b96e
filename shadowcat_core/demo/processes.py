"""The demo's child processes: started together, watched through their logs, stopped in reverse order."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.02
STOP_S = 15.0  # a proxy drains its tape in milliseconds; this is for a machine under load
LOG_TAIL_LINES = 20
# A proxy that the shell is set up for would take the demo's own loopback traffic away from ours.
PROXY_VARIABLES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


class PartFailedError(Exception):
    """One of the demo's processes did not do its part. `log` holds the last lines it wrote."""

    def __init__(self, part: str, what: str, log: str) -> None:
        super().__init__(part, what, log)
        self.part = part
        self.what = what
        self.log = log

    def __str__(self) -> str:
        return f"the {self.part} {self.what}"


class Part:
    """One child process, with all it writes in a log file."""

    def __init__(self, name: str, command: Sequence[str], log_path: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("wb") as log:
            # Its own session: Ctrl-C reaches the demo alone, which then stops its parts in order.
            self.process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def failed(self, what: str) -> PartFailedError:
        return PartFailedError(self.name, what, "\n".join(self.log_lines()[-LOG_TAIL_LINES:]))

    def log_lines(self) -> list[str]:
        return self.log_path.read_text(errors="replace").splitlines()

    def wait_for_line(self, pattern: str, timeout_s: float) -> str:
        """Wait for a log line that matches; give its first group. Raises PartFailedError at exit or time-out."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            exited = self.process.poll()  # before the log is read: what it wrote last is in there
            for line in self.log_lines():
                if match := re.search(pattern, line):
                    return match[1]
            if exited is not None:
                raise self.failed(f"ended with status {exited} before it was ready")
            time.sleep(POLL_S)
        raise self.failed(f"was not ready within {timeout_s:g} s")

    def wait(self, timeout_s: float, meanwhile: Callable[[], None]) -> None:
        """Wait for a clean end, calling `meanwhile` all the while. Raises PartFailedError."""
        deadline = time.monotonic() + timeout_s
        while (status := self.process.poll()) is None:
            if time.monotonic() > deadline:
                raise self.failed(f"was not done within {timeout_s:g} s")
            meanwhile()
            time.sleep(POLL_S)
        if status != 0:
            raise self.failed(f"ended with status {status}")

    def stop(self) -> bool:
        """Ask it to end, and insist after a while. Gives whether asking was enough."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True


class Cast:
    """Every process of the demo. Leaving the context stops them, the last started first."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.parts: list[Part] = []
        self.environment = {name: text for name, text in os.environ.items() if name.lower() not in PROXY_VARIABLES}
        self.environment["PYTHONUNBUFFERED"] = "1"  # logs are read while they are written

    def start(self, name: str, command: Sequence[str]) -> Part:
        part = Part(name, command, self.log_dir / f"{name.replace(' ', '-')}.log", self.environment)
        self.parts.append(part)
        return part

    def dismiss(self, part: Part) -> None:
        """Stop one part before the others. Raises PartFailedError when it had to be forced."""
        self.parts.remove(part)
        if not part.stop():
            raise part.failed(f"did not end within {STOP_S:g} s of being asked to")

    def check(self) -> None:
        """Raise PartFailedError for a part that ended on its own."""
        for part in self.parts:
            if status := part.process.poll():
                raise part.failed(f"ended with status {status}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self.parts:
            self.parts.pop().stop()
