"""A priority queue whose items may change their rank, or leave, in O(log n)."""

from collections.abc import Container, Hashable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Final

_SPARE: Final = 8


class Ranking[T: Hashable]:
    """The least rank comes first, and among equal ones who got theirs first.

    An item that leaves or moves leaves its old entry behind, which is skipped later and swept out when there are more
    of these than items. Ranks are numbers, or tuples of them.
    """

    __slots__ = ("_heap", "_last", "_stamps")

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int, T]] = []
        self._stamps: dict[T, int] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._stamps)

    def __contains__(self, item: T) -> bool:
        return item in self._stamps

    def put(self, item: T, rank: Any) -> None:
        """Let an item in, or give it another rank."""
        heap, stamps = self._heap, self._stamps
        self._last = stamp = self._last + 1
        if heap and heap[0][1] == stamps.get(item):
            heapreplace(heap, (rank, stamp, item))  # its own entry: the usual case
        else:
            heappush(heap, (rank, stamp, item))
        stamps[item] = stamp
        self._sweep()

    def discard(self, item: T) -> None:
        """Let an item go, if it is there."""
        if self._stamps.pop(item, None) is not None:
            self._sweep()

    def first(self, exclude: Container[T] = ()) -> tuple[Any, T] | None:
        """The rank and the item that come first, of those that are not excluded; O(k log n) for k that are."""
        heap, stamps = self._heap, self._stamps
        aside: list[tuple[Any, int, T]] = []
        found = None
        while heap:
            rank, stamp, item = heap[0]
            if stamps.get(item) != stamp:
                heappop(heap)
            elif item in exclude:
                aside.append(heappop(heap))
            else:
                found = rank, item
                break
        for entry in aside:
            heappush(heap, entry)
        return found

    def _sweep(self) -> None:
        heap, stamps = self._heap, self._stamps
        if len(heap) > 2 * len(stamps) + _SPARE:
            heap[:] = [entry for entry in heap if stamps.get(entry[2]) == entry[1]]
            heapify(heap)
