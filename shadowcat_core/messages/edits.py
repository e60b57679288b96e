"""What was changed in a batch: messages replaced, dropped and inserted, by positions that never move.

A linked list of positions, so each edit takes the same time however large the batch. Every edit can be undone, the last
one first; until there is one, nothing of this exists.
"""

from collections.abc import Iterable, Iterator
from copy import copy
from enum import StrEnum
from types import EllipsisType
from typing import NamedTuple, Self

from shadowcat_core.messages.message import Message


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
    """The edits of a batch that came with `count` messages, at positions 0 to `count - 1`."""

    __slots__ = ("_next", "_previous", "_undo", "changes", "contents", "dropped", "left", "units")

    def __init__(self, count: int) -> None:
        self.contents: dict[int, Message | None] = {}  # replaced and inserted messages; None where one was dropped
        self.units: dict[int, int] = {}  # the units that inserted messages belong to
        self.left: range | None = None  # the units that a split left; None before one
        self.changes: list[Change] = []
        self.dropped = 0
        # What stood in `contents` before each change: "..." when nothing did, None also before an insertion.
        self._undo: list[Message | EllipsisType | None] = []
        # Shifted by one, so that the list is a ring around an entry 0 that is no position.
        self._next = [*range(1, count + 1), 0]
        self._previous = [count, *range(count)]

    @property
    def total(self) -> int:
        """How many positions were ever given."""
        return len(self._next) - 1

    def live(self) -> Iterator[int]:
        """Every position that is not dropped, in the order of the wire."""
        at = self._next[0]
        while at:
            if self.contents.get(at - 1, ...) is not None:
                yield at - 1
            at = self._next[at]

    def put(self, change: Change) -> None:
        """Make a change other than an insertion; a dropped message comes back when it is replaced."""
        was = self.contents.get(change.position, ...)
        self.dropped += (change.after is None) - (was is None)
        self.contents[change.position] = change.after
        self.changes.append(change)
        self._undo.append(was)

    def insert(self, position: int, message: Message, unit: int, reason: str, *, after: bool) -> int:
        """Insert a message directly before or behind a position and tell the position it got."""
        left = position + 1 if after else self._previous[position + 1]
        right = self._next[left]
        new = len(self._next)
        self._next[left] = self._previous[right] = new
        self._next.append(right)
        self._previous.append(left)
        self.contents[new - 1] = message
        self.units[new - 1] = unit
        self.changes.append(Change(new - 1, Act.INJECT, None, message, None, reason))
        self._undo.append(None)
        return new - 1

    def undo(self) -> None:
        """Take back the last change."""
        change, was = self.changes.pop(), self._undo.pop()
        position = change.position
        if change.act is Act.INJECT:
            left, right = self._previous.pop(), self._next.pop()
            self._next[left], self._previous[right] = right, left
            del self.contents[position], self.units[position]
            return
        self.dropped += (was is None) - (change.after is None)
        if was is ...:
            del self.contents[position]
        else:
            self.contents[position] = was

    def part_with(self, positions: Iterable[int], left: range) -> None:
        """Empty positions that are another batch's from now on. That is no change, and cannot be undone."""
        self.left = left
        for position in positions:
            self.dropped += self.contents.get(position, ...) is not None
            self.contents[position] = None

    def copy(self) -> Self:
        """The same edits, to be continued in another way."""
        twin = copy(self)
        for name in self.__slots__:
            setattr(twin, name, copy(getattr(self, name)))
        return twin
