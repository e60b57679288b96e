"""The upstreams of one route: which of them a request goes to, and what becomes of their health by what is reported.

Sans-I/O, and made to be asked once for every request: `pick` takes O(log n). The clock (monotonic, in seconds) and the
source of chance are handed in.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf
from random import Random
from types import MappingProxyType
from typing import Final

from shadowcat_core.mcp import HeaderLookup
from shadowcat_core.upstreams.balancing import Balancer, balancer
from shadowcat_core.upstreams.health import Circuit, FailureKind, State
from shadowcat_core.upstreams.member import DRAINING, Member, MemberRow, row_of
from shadowcat_core.upstreams.models import SESSION_KEY, RouteConfig
from shadowcat_core.upstreams.ranking import Ranking

type ClockS = Callable[[], float]

REMOVED: Final = "no longer in the configuration"
_NOBODY: Final[Mapping[str, Member]] = MappingProxyType({})
_NONE: Final[Mapping[str, int]] = MappingProxyType({})
_TRIAL_S: Final = 300.0
"""How long a trial may say nothing when answers may take as long as they like."""


@dataclass(slots=True)
class PoolCounts:
    """What happened in a pool since it was made."""

    picks: int = 0
    refusals: int = 0
    """Picks that found nobody."""
    strayed: int = 0
    """Picks for a session whose own upstream could not be taken."""
    trials: int = 0


class Pool:
    """The upstreams of a route.

    For each request `pick` one (or go through `candidates`), and say what came of it: `succeeded` when the head of an
    answer came, `failed`, or `released` when nothing did because the client left.
    """

    def __init__(
        self,
        route: RouteConfig,
        *,
        clock: ClockS,
        random: Random,
        known: Mapping[str, Member] = _NOBODY,
        elsewhere: AbstractSet[str] = frozenset(),
    ) -> None:
        """Make a pool; `known` and `elsewhere` are as in `apply`."""
        self.counts = PoolCounts()
        self._clock = clock
        self._random = random
        self._members: dict[str, Member] = {}
        self._timers: Ranking[Member] = Ranking()
        self._wakes_at = inf
        self._trials: dict[Member, None] = {}  # half open, and nobody tries them; the first to become so comes first
        self._places: dict[Member, Balancer] = {}
        self._preferred: Balancer
        self._suspects: Balancer
        self.route = route
        self.apply(route, known, elsewhere)

    # --- Requests ------------------------------------------------------------------------------------------------

    def key(self, session_id: str | None, headers: HeaderLookup) -> str | None:
        """Tell what of a request is hashed: its session, else the header that the route names; None for nothing."""
        route = self.route
        if route.balance != "hash":
            return None
        if session_id is not None or route.hash_by == SESSION_KEY:
            return session_id
        return headers.get(route.hash_by)

    def pick(
        self, key: str | None = None, *, bound: str | None = None, exclude: Collection[Member] = ()
    ) -> Member | None:
        """Choose an upstream; None when none of them can be taken now (`retry_in_s` tells when).

        Args:
            key: what `key` gave.
            bound: the name of the upstream that the request's session is at. It is preferred when sessions are sticky,
                also while it drains. Another answer means that the session must move.
            exclude: those that were tried already.
        """
        now = self._clock()
        if self._wakes_at <= now:
            self._wake(now)
        member = None
        if bound is not None and self.route.sticky:
            member = self._bound(bound, exclude, now)
            if member is None:
                self.counts.strayed += 1
        if member is None and self._trials and self.route.health.active is None:
            member = self._trial(exclude, now)
        if member is None:
            member = self._preferred.take(key, exclude) or self._suspects.take(key, exclude)
        if member is None:
            self.counts.refusals += 1
            return None
        self.counts.picks += 1
        member.counts.picks += 1
        return member

    def candidates(
        self, key: str | None = None, *, bound: str | None = None, exclude: Collection[Member] = ()
    ) -> Iterator[Member]:
        """Pick one upstream after the other, each once, as often as the route's `retry.attempts` allow.

        Say of each what came of it before asking for the next.
        """
        tried = set(exclude)
        for _ in range(self.route.retry.attempts):
            member = self.pick(key, bound=bound, exclude=tried)
            if member is None:
                return
            yield member
            tried.add(member)

    def succeeded(self, member: Member) -> None:
        """Note that the head of an answer came."""
        if not self._has(member):
            return
        member.counts.successes += 1
        breaker = member.breaker
        before = breaker.circuit, breaker.state
        breaker.succeeded(self._clock())
        if (breaker.circuit, breaker.state) != before:
            self._settle(member)

    def failed(self, member: Member, kind: FailureKind, reason: str = "") -> None:
        """Note that a request failed; `reason` is one line for a table."""
        if not self._has(member):
            return
        member.counts.failures += 1
        self._break(member, kind, reason)

    def released(self, member: Member) -> None:
        """Note that nothing came of a request, neither good nor bad: its client has left."""
        if self._has(member) and member.breaker.circuit is Circuit.HALF_OPEN:
            member.breaker.give_up_trial()
            self._settle(member)

    def retry_in_s(self) -> float | None:
        """Tell in how many seconds a pick may find somebody; 0 when it does now, None when no time is known."""
        now = self._clock()
        self._wake(now)
        active = self.route.health.active
        times = [
            _until_usable_s(member, now, None if active is None else active.timeout_s)
            for member in self._members.values()
            if member.drained_because is None
        ]
        return min(times, default=None)

    def hurry(self) -> None:
        """Let those that are down be tried soon, as a request waits for one of them."""
        now = self._clock()
        for member in self._members.values():
            if member.breaker.circuit is Circuit.OPEN and member.drained_because is None:
                member.breaker.hurry(now)
                self._settle(member)

    # --- Sessions ------------------------------------------------------------------------------------------------

    def session_began(self, name: str) -> None:
        """Count a session at an upstream, as soon as it is picked for it; a name that is not here counts nowhere."""
        member = self._members.get(name)
        if member is not None:
            self._count(member, member.sessions + 1)

    def session_ended(self, name: str) -> None:
        """Count a session no more: it ended, expired, or moved away."""
        member = self._members.get(name)
        if member is not None and member.sessions:
            self._count(member, member.sessions - 1)

    def sessions_are(self, name: str, sessions: int) -> None:
        """Correct the count of an upstream's sessions: other proxies begin and end some too."""
        member = self._members.get(name)
        if member is not None and member.sessions != sessions:
            self._count(member, sessions)

    def _count(self, member: Member, sessions: int) -> None:
        member.sessions = sessions
        if member.is_removed and not sessions:
            self._forget(member)
        elif (place := self._places.get(member)) is not None:
            place.recount(member)

    # --- Health --------------------------------------------------------------------------------------------------

    def wanting(self, now: float) -> list[Member]:
        """Those that a probe may try: half open, and nobody tries them."""
        self._wake(now)
        return list(self._trials)

    def begin_probe(self, member: Member, now: float, within_s: float) -> None:
        """Note that a probe goes out, which is the one trial of an upstream that is half open."""
        member.counts.probes += 1
        if member.breaker.wants_trial:
            self._begin_trial(member, now, within_s)

    def probed(self, member: Member, failure: str | None) -> None:
        """Note what came of a probe; None for a good answer."""
        if not self._has(member):
            return
        if failure is not None:
            member.counts.probe_failures += 1
            self._break(member, FailureKind.PROBE, failure)
            return
        member.breaker.probed(self._clock())
        self._settle(member)

    def _has(self, member: Member) -> bool:
        """Whether it is here: reports come also about upstreams that a reload has taken away, or elsewhere."""
        return self._members.get(member.name) is member

    def _break(self, member: Member, kind: FailureKind, reason: str) -> None:
        breaker = member.breaker
        was_usable = member.is_usable
        breaker.failed(self._clock(), kind, reason, self._random)
        if was_usable and not member.is_usable:
            member.counts.trips += 1
        self._settle(member)

    def _bound(self, name: str, exclude: Collection[Member], now: float) -> Member | None:
        member = self._members.get(name)
        if member is None or member in exclude:
            return None
        if member.is_usable:
            return member
        if member.breaker.wants_trial and self.route.health.active is None:
            self._begin_trial(member, now, self._trial_s)
            return member
        return None

    def _trial(self, exclude: Collection[Member], now: float) -> Member | None:
        for member in self._trials:
            if member not in exclude and member.drained_because is None:
                self._begin_trial(member, now, self._trial_s)
                return member
        return None

    def _begin_trial(self, member: Member, now: float, within_s: float) -> None:
        self.counts.trials += 1
        member.breaker.begin_trial(now, within_s)
        self._settle(member)

    @property
    def _trial_s(self) -> float:
        timeouts = self.route.timeouts
        return timeouts.connect_s + (timeouts.first_byte_s or _TRIAL_S)

    def _wake(self, now: float) -> None:
        while self._wakes_at <= now:
            found = self._timers.first()
            if found is None:  # pragma: no cover -- then nobody wakes
                return
            member = found[1]
            member.breaker.wake(now)
            self._settle(member)

    def _settle(self, member: Member) -> None:
        """Put an upstream where it belongs, after anything has changed it."""
        breaker = member.breaker
        place = None
        if member.takes_new:
            place = self._suspects if breaker.state is State.SUSPECT else self._preferred
        self._place(member, place)
        if breaker.wants_trial:
            self._trials[member] = None
        else:
            self._trials.pop(member, None)
        at = breaker.wakes_at
        if at is None:
            self._timers.discard(member)
        else:
            self._timers.put(member, at)
        first = self._timers.first()
        self._wakes_at = inf if first is None else first[0]

    def _place(self, member: Member, place: Balancer | None) -> None:
        before = self._places.get(member)
        if before is place:
            return
        if before is not None:
            before.remove(member)
            del self._places[member]
        if place is not None:
            self._places[member] = place
            place.add(member)

    # --- What a person does --------------------------------------------------------------------------------------

    def drain(self, name: str, reason: str = DRAINING) -> bool:
        """Let an upstream have no new sessions; False when there is none of that name."""
        return self._set_drained(name, reason)

    def undrain(self, name: str) -> bool:
        """Let it have new sessions again; False when there is none of that name, or it is no longer configured."""
        return self._set_drained(name, None)

    def _set_drained(self, name: str, reason: str | None) -> bool:
        member = self._members.get(name)
        if member is None or member.is_removed:
            return False
        if reason is None:
            member.drained_because = None
        else:
            member.drain(reason, self._clock())
        self._settle(member)
        return True

    def members(self) -> tuple[Member, ...]:
        """All of them, those included that are kept for their old sessions."""
        return tuple(self._members.values())

    def member(self, name: str) -> Member | None:
        """The one of this name."""
        return self._members.get(name)

    def wake(self) -> None:
        """Let the time that has passed have its effect, for who is about to look how they are."""
        self._wake(self._clock())

    def table(self, in_flight: Mapping[str, int] = _NONE) -> list[MemberRow]:
        """Write down how each of them is; `in_flight` counts what is at them now, by name."""
        now = self._clock()
        self._wake(now)
        return [
            row_of(member, self.route.name, now, in_flight.get(member.name, 0)) for member in self._members.values()
        ]

    def apply(self, route: RouteConfig, known: Mapping[str, Member], elsewhere: AbstractSet[str]) -> None:
        """Go by another configuration. Upstreams that stay where they are keep their health and counts.

        `known` are the upstreams of all pools by name, as one may have come from another route; `elsewhere` are the
        names that other routes have now. One that is gone stays for its sessions, and leaves with the last of them.
        """
        now = self._clock()
        members: dict[str, Member] = {}
        for config in route.upstreams:
            old = known.get(config.name)
            if old is None or old.config.url != config.url:
                member = Member(config, route.health, now, sessions=0 if old is None else old.sessions)
            else:
                member = old
                member.config = config
                member.breaker.policy = route.health
            if old is not None:
                member.drained_because = None if old.is_removed else old.drained_because
                member.drained_at = old.drained_at
            member.is_removed = False
            members[config.name] = member
        for name, old in self._members.items():
            if name not in members and name not in elsewhere and old.sessions:
                old.is_removed = True
                old.drain(REMOVED, now)
                members[name] = old
        self.route = route
        self._members = members
        self._timers = Ranking()
        self._trials = {}
        self._places = {}
        configured = [member for member in members.values() if not member.is_removed]
        self._preferred = balancer(route.balance, configured)
        # With a ring, a suspect keeps its keys: one failure is no reason to move them.
        self._suspects = self._preferred if route.balance == "hash" else balancer(route.balance, configured)
        for member in members.values():
            self._settle(member)

    def _forget(self, member: Member) -> None:
        del self._members[member.name]
        self._trials.pop(member, None)
        self._timers.discard(member)


def _until_usable_s(member: Member, now: float, probe_s: float | None) -> float:
    """How long it takes at least; `probe_s` is what the probe may take that must come first, where there are any."""
    breaker = member.breaker
    match breaker.circuit:
        case Circuit.CLOSED:
            return 0.0
        case Circuit.OPEN:
            return breaker.retry_at - now
        case Circuit.HALF_OPEN if breaker.wants_trial:
            return 0.0 if probe_s is None else probe_s
        case Circuit.HALF_OPEN:
            return max(0.0, (breaker.wakes_at or now) - now)
