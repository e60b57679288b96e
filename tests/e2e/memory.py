"""How much memory a process has taken."""

import re
from pathlib import Path


class PeakMemory:
    """The most that a process has occupied since the last `reset` (Linux)."""

    def __init__(self, pid: int):
        self._process = Path(f"/proc/{pid}")

    def reset(self) -> int:
        (self._process / "clear_refs").write_text("5")
        return self.peak_bytes()

    def peak_bytes(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._process / "status").read_text())
        assert found
        return int(found[1]) * 1024
