"""What a conversation came to: for each method and tool of each era, how many calls, how fast, how many events."""

from dataclasses import dataclass, field
from typing import NamedTuple

from shadowcat_core.demo.listener import Heard


class Subject(NamedTuple):
    """What is counted together. `tool` is empty except for `tools/call`: tools have little in common but the method."""

    era: str
    method: str
    tool: str = ""


@dataclass(slots=True)
class Tally:
    """Calls of one subject: their durations in ms, events on their streams, and failures."""

    durations_ms: list[float] = field(default_factory=list)
    events: int = 0
    failures: int = 0

    def quantile_ms(self, fraction: float) -> float:
        """The smallest duration that is not exceeded by this fraction of the calls (nearest rank)."""
        ordered = sorted(self.durations_ms)
        rank = max(1, -(-len(ordered) * fraction // 1))
        return ordered[int(rank) - 1] if ordered else 0.0


class Summary:
    """Counts messages as they are heard."""

    def __init__(self) -> None:
        self.messages = 0
        self.tallies: dict[Subject, Tally] = {}

    def add(self, message: Heard) -> None:
        self.messages += 1
        if message.duration_ms is not None:
            tally = self._tally(message.era, message.method, message.target)
            tally.durations_ms.append(message.duration_ms)
            tally.failures += message.failed
        if message.stream is not None:
            self._tally(message.era, *message.stream).events += 1

    @property
    def eras(self) -> set[str]:
        return {subject.era for subject in self.tallies}

    @property
    def calls(self) -> int:
        return sum(len(tally.durations_ms) for tally in self.tallies.values())

    @property
    def events(self) -> int:
        return sum(tally.events for tally in self.tallies.values())

    def _tally(self, era: str, method: str, target: str) -> Tally:
        return self.tallies.setdefault(Subject(era, method, target if method == "tools/call" else ""), Tally())
