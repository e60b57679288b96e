"""A ring of hashes: which of some names a key belongs to, so that few keys move when a name comes or goes.

Each name has points on the ring in proportion to its weight; a key belongs to the next point. A name that comes takes
keys from all others and moves none between them; one that goes gives its own away and moves no other.

Source: D. Karger et al., Consistent Hashing and Random Trees, STOC 1997.
"""

from array import array
from bisect import bisect_left
from collections.abc import Container, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from itertools import compress, count, islice
from struct import Struct
from typing import Final, Self

POINTS: Final = 128
"""Of each weight: shares differ by some 9 % (one over the root of it) from what weights say."""
_WORD_BYTES: Final = 8
_EIGHT_WORDS: Final = Struct(">8Q")


class Ring:
    """The names of a ring, and whom keys belong to: the same in every process and on every machine."""

    __slots__ = ("_names", "_owners", "_points")

    def __init__(self, names: Sequence[str], points: array[int], owners: array[int]) -> None:
        """Make a ring of points in ascending order, and of whose they are, as indices of names."""
        self._names = names
        self._points = points
        self._owners = owners

    @classmethod
    def of(cls, weights: Mapping[str, int]) -> Self:
        """Make a ring of names with their weights, in O(p log p) for p points."""
        owners = {
            point: index
            for index, (name, weight) in enumerate(weights.items())
            for point in islice(_points(name), POINTS * weight)
        }
        points = sorted(owners)
        return cls(tuple(weights), array("Q", points), array("H", map(owners.__getitem__, points)))

    def without(self, names: AbstractSet[str]) -> Self:
        """Make a ring without some names, in O(p)."""
        stays = [name not in names for name in self._names]
        kept = [stays[owner] for owner in self._owners]
        points = array("Q", compress(self._points, kept))
        return type(self)(self._names, points, array("H", compress(self._owners, kept)))

    def owner(self, key: str, exclude: Container[str] = ()) -> str | None:
        """Tell whom a key belongs to, or would if some names were not there; None when nobody is left."""
        points, owners, names = self._points, self._owners, self._names
        size = len(points)
        if not size:
            return None
        place = bisect_left(points, _hash(key)) % size
        for step in range(size):
            name = names[owners[(place + step) % size]]
            if name not in exclude:
                return name
        return None


def _hash(key: str) -> int:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_WORD_BYTES).digest()
    return int.from_bytes(digest, "big")


def _points(name: str) -> Iterator[int]:
    for part in count():
        yield from _EIGHT_WORDS.unpack(blake2b(f"{part}:{name}".encode()).digest())
