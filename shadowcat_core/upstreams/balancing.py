"""Whom a pool prefers: in turn by weight, whoever has the fewest sessions, or whom a key's hash belongs to.

Each rule keeps the upstreams that may be taken, and takes one in O(log n); ties are broken in turn.
"""

from collections.abc import Collection, Iterable
from math import lcm
from typing import Protocol

from shadowcat_core.upstreams.member import Member
from shadowcat_core.upstreams.models import Balance
from shadowcat_core.upstreams.ranking import Ranking
from shadowcat_core.upstreams.ring import Ring


class Balancer(Protocol):
    """Those that may be taken."""

    def add(self, member: Member) -> None:
        """Let one be taken from now on."""

    def remove(self, member: Member) -> None:
        """Let one be taken no more; nothing happens when it was not."""

    def recount(self, member: Member) -> None:
        """Note that its sessions have changed."""

    def take(self, key: str | None, exclude: Collection[Member]) -> Member | None:
        """Take one that is not excluded; None when there is none."""


def strides(members: Iterable[Member]) -> dict[Member, int]:
    """How far each steps on when it is taken: the inverse of its weight, as whole numbers so that nothing drifts."""
    weights = {member: member.config.weight for member in members}
    whole = lcm(*weights.values())
    return {member: whole // weight for member, weight in weights.items()}


class RoundRobin:
    """In turn by weight, evenly spread: 3 to 1 is a a b a, not a a a b.

    Each has a place in time, the earliest is taken, and steps on by its stride (earliest deadline first). One that
    comes begins now, so that nobody is flooded for the turns that it missed.
    """

    def __init__(self, steps: dict[Member, int]) -> None:
        self._steps = steps
        self._ranking: Ranking[Member] = Ranking()
        self._now = 0

    def add(self, member: Member) -> None:
        """Let one be taken from now on."""
        if member not in self._ranking:
            self._ranking.put(member, self._now + self._steps[member])

    def remove(self, member: Member) -> None:
        """Let one be taken no more."""
        self._ranking.discard(member)

    def recount(self, member: Member) -> None:
        """Note that its sessions have changed, which is nothing here."""

    def take(self, key: str | None, exclude: Collection[Member]) -> Member | None:  # noqa: ARG002 -- keys are the ring's
        """Take the next."""
        found = self._ranking.first(exclude)
        if found is None:
            return None
        self._now, member = found
        self._ranking.put(member, self._now + self._steps[member])
        return member


class LeastSessions:
    """Whoever has the fewest sessions for its weight; among equals in turn by weight."""

    def __init__(self, steps: dict[Member, int]) -> None:
        self._steps = steps
        self._ranking: Ranking[Member] = Ranking()
        self._turns: dict[Member, int] = {}
        self._now = 0

    def add(self, member: Member) -> None:
        """Let one be taken from now on."""
        if member not in self._ranking:
            self._turns[member] = self._now + self._steps[member]
            self._rank(member)

    def remove(self, member: Member) -> None:
        """Let one be taken no more."""
        self._ranking.discard(member)
        self._turns.pop(member, None)

    def recount(self, member: Member) -> None:
        """Rank it by its sessions anew."""
        if member in self._ranking:
            self._rank(member)

    def take(self, key: str | None, exclude: Collection[Member]) -> Member | None:  # noqa: ARG002 -- keys are the ring's
        """Take the one with the fewest."""
        found = self._ranking.first(exclude)
        if found is None:
            return None
        member = found[1]
        # One that had many sessions for long has waited for long too, and shall not come first among equals for that.
        self._now = max(self._now, self._turns[member])
        self._turns[member] = self._now + self._steps[member]
        self._rank(member)
        return member

    def _rank(self, member: Member) -> None:
        self._ranking.put(member, (member.sessions * self._steps[member], self._turns[member]))


class Hashed:
    """Whom a key belongs to; what has no key goes in turn."""

    def __init__(self, steps: dict[Member, int]) -> None:
        self._members = {member.name: member for member in steps}
        self._ring = Ring.of({name: member.config.weight for name, member in self._members.items()})
        self._present: set[str] = set()
        self._now: Ring | None = None  # of those that are present; made when somebody asks
        self._others = RoundRobin(steps)

    def add(self, member: Member) -> None:
        """Let one be taken from now on: its keys come back to it."""
        self._present.add(member.name)
        self._now = None
        self._others.add(member)

    def remove(self, member: Member) -> None:
        """Let one be taken no more: its keys go to others, and no other key moves."""
        self._present.discard(member.name)
        self._now = None
        self._others.remove(member)

    def recount(self, member: Member) -> None:
        """Note that its sessions have changed, which is nothing here."""

    def take(self, key: str | None, exclude: Collection[Member]) -> Member | None:
        """Take the one that the key belongs to."""
        if key is None:
            return self._others.take(None, exclude)
        names = {member.name for member in exclude} if exclude else ()
        if len(names) >= len(self._present) and self._present.issubset(names):
            return None  # the whole ring would be walked to find that out
        ring = self._now
        if ring is None:
            absent = self._members.keys() - self._present
            self._now = ring = self._ring.without(absent) if absent else self._ring
        name = ring.owner(key, names)
        return None if name is None else self._members[name]


def balancer(rule: Balance, members: Iterable[Member]) -> Balancer:
    """Make a rule for these upstreams; none of them may be taken yet."""
    steps = strides(members)
    match rule:
        case "round_robin":
            return RoundRobin(steps)
        case "least_sessions":
            return LeastSessions(steps)
        case "hash":
            return Hashed(steps)
