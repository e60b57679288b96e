"""What the messages of a chunk are by their routing hints: which methods and kinds there are, and where. No I/O."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from shadowcat_core.jsonrpc import Envelope, Kind


class Hints:
    """The hints of `count` messages, told by position: the usual one, and those that differ from it.

    A burst is mostly one method over and over, so what is asked of it takes as long as it has exceptions.
    """

    __slots__ = ("_count", "_others", "_usual", "kinds", "methods", "named")

    def __init__(self, count: int, usual: Envelope, others: Mapping[int, Envelope]) -> None:
        self._count = count
        self._usual = usual
        self._others = others
        is_there = len(others) < count
        self.kinds = kinds = {usual.kind} if is_there else set[Kind]()
        self.methods = methods = {usual.method} if is_there else set[str | None]()
        self.named = 0 if usual.method is None else count - len(others)
        """How many messages have a method."""
        for kind, method, _ in others.values():
            kinds.add(kind)
            methods.add(method)
            if method is not None:
                self.named += 1

    def __getitem__(self, position: int) -> Envelope:
        return self._others.get(position, self._usual)

    def of_methods(self, methods: AbstractSet[str]) -> Sequence[int]:
        """The positions of the messages with one of these methods."""
        others = self._others
        if self._usual.method in methods:
            return [at for at in range(self._count) if at not in others or others[at].method in methods]
        return [at for at, hint in others.items() if hint.method in methods]

    def of(self, methods: AbstractSet[str] | None, kinds: AbstractSet[Kind] | None) -> Sequence[int]:
        """The positions of the messages with one of these methods and one of these kinds; None does not restrict."""
        # The common answer is "none", and sets tell it without a loop.
        if methods is not None and methods.isdisjoint(self.methods):
            return ()
        if kinds is not None and kinds.isdisjoint(self.kinds):
            return ()
        found: Sequence[int] = range(self._count) if methods is None else self.of_methods(methods)
        return found if kinds is None else [at for at in found if self[at].kind in kinds]
