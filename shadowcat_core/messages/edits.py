"""What was changed in a batch: messages replaced, dropped and inserted, by positions that never move.

A linked list of positions, so each edit takes the same time however large the batch. Every edit can be undone, the last
one first; until there is one, nothing of this exists.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy
from enum import StrEnum
from typing import Final, NamedTuple, Self

from shadowcat_core.jsonrpc import Envelope
from shadowcat_core.messages.message import Message

_new: Final = tuple.__new__  # a named tuple made in half the time


class Act(StrEnum):
    """What became of a message. The names are those of the verdicts; a DROP is said by nobody, to nobody."""

    MODIFY = "modify"
    DROP = "drop"
    INJECT = "inject"
    BLOCK = "block"
    MOCK = "mock"


class Change(NamedTuple):
    """One edit of a batch. `before` is None for what was not there, `after` for what is not sent on."""

    position: int
    act: Act
    before: Message | None
    after: Message | None
    reply: Message | None
    """What the sender of `before` is answered."""
    reason: str


class Edits:
    """The edits of a batch that came with `count` messages, at positions 0 to `count - 1`, and with a `hint`."""

    dropped = 0
    left: range | None = None
    """The units that a split left; None before one."""

    def __init__(self, count: int, hint: Envelope | None) -> None:
        self.hint = hint
        self.contents: dict[int, Message | None] = {}  # replaced and inserted messages; None where one was dropped
        self.changes: list[Change] = []
        self._count = count
        self.units: dict[int, int] = {}  # the units that inserted messages belong to
        # A ring of positions around an entry 0 that is none, and shifts them by one. Empty as long as nobody inserts.
        self._next: list[int] = []
        self._previous: list[int] = []

    @property
    def total(self) -> int:
        """How many positions were ever given."""
        return self._count + len(self.units)

    def live(self) -> Iterator[int]:
        """Every position that is not dropped, in the order of the wire."""
        contents = self.contents
        return (at for at in self._order() if contents.get(at, ...) is not None)

    def in_order(self, positions: Collection[int]) -> Sequence[int]:
        """Bring positions into the order of the wire."""
        if self._next:
            return [at for at in self._order() if at in positions]
        return sorted(positions)

    def put(
        self,
        position: int,
        act: Act,
        before: Message | None,
        after: Message | None,
        reply: Message | None,
        reason: str,
    ) -> None:
        """Make a change other than an insertion; a dropped message comes back when it is replaced."""
        if after is None:
            self.dropped += 1
        if before is None:
            self.dropped -= 1
        self.contents[position] = after
        self.changes.append(_new(Change, (position, act, before, after, reply, reason)))

    def insert(self, position: int, message: Message, unit: int, reason: str, *, after: bool) -> int:
        """Insert a message directly before or behind a position and tell the position it got."""
        if not self._next:
            self._next = [*range(1, self._count + 1), 0]
            self._previous = [self._count, *range(self._count)]
        left = position + 1 if after else self._previous[position + 1]
        right = self._next[left]
        new = len(self._next)
        self._next[left] = self._previous[right] = new
        self._next.append(right)
        self._previous.append(left)
        self.contents[new - 1] = message
        self.units[new - 1] = unit
        self.changes.append(_new(Change, (new - 1, Act.INJECT, None, message, None, reason)))
        return new - 1

    def _order(self) -> Iterator[int]:
        if not self._next:
            yield from range(self._count)
            return
        at = self._next[0]
        while at:
            yield at - 1
            at = self._next[at]

    def undo(self) -> None:
        """Take back the last change."""
        change = self.changes.pop()
        position = change.position
        if change.act is Act.INJECT:
            left, right = self._previous.pop(), self._next.pop()
            self._next[left], self._previous[right] = right, left
            del self.contents[position], self.units[position]
            return
        self.dropped -= change.after is None
        earlier = [other.after for other in self.changes if other.position == position]
        if not earlier:
            del self.contents[position]
            return
        self.contents[position] = earlier[-1]
        self.dropped += earlier[-1] is None

    def part_with(self, positions: Iterable[int], left: range) -> None:
        """Empty positions that are another batch's from now on. That is no change, and cannot be undone."""
        self.left = left
        for position in positions:
            self.dropped += self.contents.get(position, ...) is not None
            self.contents[position] = None

    def copy(self) -> Self:
        """The same edits, to be continued in another way."""
        twin = copy(self)
        for name, value in vars(self).items():
            setattr(twin, name, copy(value))
        return twin
