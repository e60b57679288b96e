"""One upstream as a pool has it: what its configuration says, how it is, and what it has done so far."""

from dataclasses import dataclass
from typing import Final

from shadowcat_core.upstreams.endpoint import Endpoint
from shadowcat_core.upstreams.health import Breaker, Circuit, State
from shadowcat_core.upstreams.models import Health, UpstreamConfig

DRAINING: Final = "draining"
"""Why one gets no new sessions of which a person said so, and nothing else."""


@dataclass(slots=True)
class MemberCounts:
    """What happened at an upstream since it was first configured at this URL."""

    picks: int = 0
    successes: int = 0
    failures: int = 0
    trips: int = 0
    """How often it went from working to not."""
    probes: int = 0
    probe_failures: int = 0


class Member:
    """One upstream. Two of the same name are not the same: one at another URL is a new one."""

    __slots__ = ("breaker", "config", "counts", "drained_at", "drained_because", "endpoint", "is_removed", "sessions")

    def __init__(self, config: UpstreamConfig, policy: Health, now: float, *, sessions: int = 0) -> None:
        self.config = config
        self.endpoint: Endpoint = config.endpoint
        self.breaker = Breaker(policy, now)
        self.counts = MemberCounts()
        self.sessions = sessions
        self.drained_because: str | None = None
        """Why it gets no new sessions; None when it does."""
        self.drained_at = now
        """Since when, if it does not."""
        self.is_removed = False
        """Kept for its old sessions alone, as the configuration has it no more."""

    def __repr__(self) -> str:
        return f"<Member {self.name} {self.state}>"

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.config.name

    @property
    def state(self) -> State:
        """What it is good for, in a word. A draining one that is down is down."""
        state = self.breaker.state
        return State.DRAINING if self.drained_because is not None and state is not State.DOWN else state

    def drain(self, reason: str, now: float) -> None:
        """Give it no new sessions from now on; one that drains already does so since then."""
        if self.drained_because is None:
            self.drained_at = now
        self.drained_because = reason

    @property
    def is_usable(self) -> bool:
        """True when requests of its own sessions go through without more ado."""
        return self.breaker.circuit is Circuit.CLOSED

    @property
    def takes_new(self) -> bool:
        """True when what belongs to no upstream yet may come to it."""
        return self.drained_because is None and self.is_usable


@dataclass(frozen=True, slots=True)
class MemberRow:
    """An upstream for a command's table. `for_s` is how long it has been as it is, or since it drains.

    `in_flight` counts the requests that are at it, open event streams included.
    """

    route: str
    name: str
    url: str
    weight: int
    state: State
    circuit: Circuit
    reason: str
    for_s: float
    retry_in_s: float | None
    sessions: int
    in_flight: int
    picks: int
    successes: int
    failures: int

    @property
    def is_drained(self) -> bool:
        """True when one that drains has nothing any more, and can be stopped."""
        return self.state is State.DRAINING and not self.sessions and not self.in_flight

    def __str__(self) -> str:
        """Write it as a line."""
        state = "half open" if self.circuit is Circuit.HALF_OPEN else "drained" if self.is_drained else str(self.state)
        why = f" ({self.reason})" if self.reason else ""
        retry = "" if self.retry_in_s is None else f", tried again in {self.retry_in_s:.1f} s"
        return (
            f"{self.route} · {self.name} {self.url} · {state} for {self.for_s:,.0f} s{why}{retry} · "
            f"sessions {self.sessions:,}, in flight {self.in_flight:,} · "
            f"requests {self.picks:,}, answered {self.successes:,}, failed {self.failures:,}"
        )


def row_of(member: Member, route: str, now: float, in_flight: int = 0) -> MemberRow:
    """Write down how an upstream is."""
    breaker, counts, state = member.breaker, member.counts, member.state
    drained_because = member.drained_because
    if state is State.DRAINING and drained_because == DRAINING:
        drained_because = None  # the state says it
    return MemberRow(
        route=route,
        name=member.name,
        url=member.config.url,
        weight=member.config.weight,
        state=state,
        circuit=breaker.circuit,
        reason="; ".join(why for why in (breaker.reason, drained_because) if why),
        for_s=now - (member.drained_at if state is State.DRAINING else breaker.since),
        retry_in_s=max(0.0, breaker.retry_at - now) if breaker.circuit is Circuit.OPEN else None,
        sessions=member.sessions,
        in_flight=in_flight,
        picks=counts.picks,
        successes=counts.successes,
        failures=counts.failures,
    )
