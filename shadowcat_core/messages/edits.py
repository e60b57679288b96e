"""What was changed in a batch: messages replaced, dropped and inserted, by positions that never move.

A linked list of positions, so each edit takes the same time however large the batch.
"""

from collections.abc import Iterator

from shadowcat_core.messages.message import Message


class Edits:
    """The edits of a batch that came with `count` messages, at positions 0 to `count - 1`."""

    __slots__ = ("_next", "_previous", "contents", "dropped", "units")

    def __init__(self, count: int) -> None:
        self.contents: dict[int, Message | None] = {}  # replaced and inserted messages; None where one was dropped
        self.units: dict[int, int] = {}  # the units that inserted messages belong to
        self.dropped = 0
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

    def put(self, position: int, message: Message | None) -> None:
        """Replace the message at a position, or drop it with None; a dropped one comes back when replaced."""
        was_dropped = self.contents.get(position, ...) is None
        self.dropped += (message is None) - was_dropped
        self.contents[position] = message

    def insert(self, position: int, message: Message, unit: int, *, after: bool) -> int:
        """Insert a message directly before or behind a position and tell the position it got."""
        left = position + 1 if after else self._previous[position + 1]
        right = self._next[left]
        new = len(self._next)
        self._next[left] = self._previous[right] = new
        self._next.append(right)
        self._previous.append(left)
        self.contents[new - 1] = message
        self.units[new - 1] = unit
        return new - 1
