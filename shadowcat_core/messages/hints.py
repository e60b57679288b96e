"""What the messages of a chunk are by their routing hints: which methods and kinds there are, and where. No I/O."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from shadowcat_core.jsonrpc import Envelope, Kind


class Hints:
    """The hints of `count` messages, told by position: the usual one, and those that differ from it.

    A burst is mostly one method over and over, so what is asked of it takes as long as it has exceptions.
    """

    __slots__ = ("_count", "_others", "_usual", "kinds", "methods", "named")

    kinds: AbstractSet[Kind]
    methods: AbstractSet[str | None]
    named: int
    """How many messages have a method."""

    def __init__(self, count: int, usual: Envelope, others: Mapping[int, Envelope]) -> None:
        self._count = count
        self._usual = usual
        self._others = others
        if not others:
            self.kinds, self.methods = {usual.kind}, {usual.method}
            self.named = 0 if usual.method is None else count
            return
        different = others.values()
        self.kinds = {hint.kind for hint in different}
        self.methods = {hint.method for hint in different}
        self.named = sum([hint.method is not None for hint in different])
        if len(others) < count:
            self.kinds.add(usual.kind)
            self.methods.add(usual.method)
            self.named += 0 if usual.method is None else count - len(others)

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
