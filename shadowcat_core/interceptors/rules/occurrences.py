"""Which of the messages that a rule holds for it acts on: the nth, some by chance, and always the same ones again.

No I/O. Chance is a generator of the rule's own, seeded by the file's seed and the rule's name, so it depends on no
other rule and on no other process.
"""

from collections.abc import Callable
from random import Random

from shadowcat_core.interceptors.rules.models import Nth
from shadowcat_core.limits import MAX_RULE_COUNTERS
from shadowcat_core.messages import Message


class Occurrences:
    """Counts what a rule holds for, and draws for it."""

    def __init__(self, nth: Nth | None, probability: float | None, seed: str) -> None:
        self.count = 0
        """What the rule held for, in all."""
        self.hits = 0
        """What it decided about."""
        self._is_due = None if nth is None else _due(nth)
        self._per = "rule" if nth is None else nth.per
        self._counts: dict[str | None, int] = {}
        self._probability = probability
        self._chance = Random(seed)  # noqa: S311 -- not for secrets: it must be the same in every run

    def admits(self, message: Message) -> bool:
        """Count one more; True when the rule acts on it."""
        self.count += 1
        if self._is_due is not None and not self._is_due(self._number(message)):
            return False
        return self._probability is None or self._chance.random() < self._probability

    def _number(self, message: Message) -> int:
        if self._per == "rule":
            return self.count
        key = message.session_id if self._per == "session" else message.stream_id
        number = self._counts.pop(key, 0) + 1
        if len(self._counts) >= MAX_RULE_COUNTERS:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = number  # at the end: the first is the one not counted for longest
        return number


def _due(nth: Nth) -> Callable[[int], bool]:
    if nth.at is not None:
        return frozenset(nth.at).__contains__
    if nth.every is not None:
        every = nth.every
        return lambda number: number % every == 0
    if nth.first is not None:
        first = nth.first
        return lambda number: number <= first
    after = nth.after or 0
    return lambda number: number > after
