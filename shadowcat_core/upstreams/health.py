"""Whether one upstream works: a circuit breaker that learns from requests and probes.

A pure state machine; `now` is seconds on the caller's monotonic clock.

    closed ── failures within a window, or of probes ──> open ── back-off ──> half-open ── one trial succeeds ──> closed
                                                           ^                      │
                                                           └── it fails: longer ──┘
"""

from collections import deque
from enum import StrEnum
from random import Random
from typing import Final

from shadowcat_core.upstreams.models import Backoff, Health

_MAX_DOUBLINGS: Final = 64
"""Beyond it any back-off has reached its maximum; without it the power would overflow."""


WAITED_FOR_S: Final = 0.5
"""How long an upstream that failed is left alone when somebody waits for it."""


class State(StrEnum):
    """What an upstream is good for. DRAINING: its old sessions alone, which a person wanted."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    DOWN = "down"
    DRAINING = "draining"


class Circuit(StrEnum):
    """Whether requests go through. HALF_OPEN: one does, and what becomes of it decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class FailureKind(StrEnum):
    """What went wrong."""

    CONNECT = "cannot be reached"
    FIRST_BYTE = "gave no answer in time"
    CLOSED = "closed the connection without an answer"
    BROKEN = "broke off its answer"
    STATUS = "answered that it cannot"
    """502, 503 or 504: what stands behind it does not work."""
    PROBE = "failed a probe"


class Breaker:
    """The health of one upstream. `reason` says what made its state, `since` when it began."""

    __slots__ = (
        "_failures",
        "_opened_at",
        "_probe_failures",
        "_successes",
        "_suspect_until",
        "_trial_until",
        "circuit",
        "policy",
        "reason",
        "retry_at",
        "since",
        "trips",
    )

    def __init__(self, policy: Health, now: float) -> None:
        self.policy = policy
        self.circuit = Circuit.CLOSED
        self.reason = ""
        self.since = now
        self.trips = 0  # in a row: each doubles the back-off
        self.retry_at = 0.0
        self._opened_at = 0.0
        self._successes = 0
        # When it failed, and how often it had succeeded by then.
        self._failures: deque[tuple[float, int]] = deque()
        self._probe_failures = 0
        self._suspect_until: float | None = None
        self._trial_until: float | None = None

    @property
    def state(self) -> State:
        """Healthy, suspect or down."""
        if self.circuit is not Circuit.CLOSED:
            return State.DOWN
        return State.HEALTHY if self._suspect_until is None else State.SUSPECT

    @property
    def wants_trial(self) -> bool:
        """True when it is half open, and nobody tries it yet."""
        return self.circuit is Circuit.HALF_OPEN and self._trial_until is None

    @property
    def wakes_at(self) -> float | None:
        """When time alone changes something; `wake` is to be called then."""
        match self.circuit:
            case Circuit.CLOSED:
                return self._suspect_until
            case Circuit.OPEN:
                return self.retry_at
            case Circuit.HALF_OPEN:
                return self._trial_until

    def wake(self, now: float) -> None:
        """Let the time that has passed have its effect."""
        at = self.wakes_at
        if at is None or now < at:
            return
        match self.circuit:
            case Circuit.CLOSED:
                self._trust(now)
            case Circuit.OPEN:
                self.circuit = Circuit.HALF_OPEN
            case Circuit.HALF_OPEN:
                self._trial_until = None  # whoever tried never said what came of it

    def hurry(self, now: float) -> None:
        """Let it be tried soon, as somebody waits for it: half a second after it failed, whatever its back-off."""
        if self.circuit is Circuit.OPEN:
            self.retry_at = min(self.retry_at, max(now, self._opened_at + WAITED_FOR_S))

    def begin_trial(self, now: float, within_s: float) -> None:
        """Note that a request or a probe tries it. One that says nothing within this time makes room for another."""
        self._trial_until = now + within_s

    def give_up_trial(self) -> None:
        """Note that nothing came of the trial, neither good nor bad."""
        self._trial_until = None

    def succeeded(self, now: float) -> None:
        """Note that a request was answered. While the circuit is open, that is an old one and means nothing."""
        self._successes += 1
        self._probe_failures = 0
        if self.circuit is Circuit.HALF_OPEN:
            self._close(now)
        elif self._suspect_until is not None:
            self._trust(now)

    def probed(self, now: float) -> None:
        """Note that a probe was answered."""
        self._probe_failures = 0
        if self.circuit is not Circuit.CLOSED:
            self._close(now)
        elif self._suspect_until is not None:
            self._trust(now)

    def failed(self, now: float, kind: FailureKind, reason: str, random: Random) -> None:
        """Note that a request failed, or a probe. While the circuit is open, that is no news."""
        if self.circuit is Circuit.OPEN:
            return
        before = self.state
        if self.circuit is Circuit.HALF_OPEN or self._is_enough(now, kind):
            self._open(now, random)
        else:
            self._suspect_until = now + self.policy.passive.window_s
        self.reason = f"{kind}: {reason}" if reason else str(kind)
        if self.state is not before:
            self.since = now

    def _is_enough(self, now: float, kind: FailureKind) -> bool:
        if kind is FailureKind.PROBE:
            self._probe_failures += 1
            active = self.policy.active
            return active is not None and self._probe_failures >= active.failures
        passive, failures = self.policy.passive, self._failures
        failures.append((now, self._successes))
        while len(failures) > passive.failures:
            failures.popleft()
        at, successes = failures[0]
        if len(failures) < passive.failures or now - at > passive.window_s:
            return False
        requests = passive.failures + self._successes - successes
        return passive.failures >= passive.share * requests

    def _open(self, now: float, random: Random) -> None:
        self.circuit = Circuit.OPEN
        self.trips += 1
        self._opened_at = now
        self.retry_at = now + backoff_s(self.policy.backoff, self.trips, random)
        self._suspect_until = None
        self._trial_until = None

    def _close(self, now: float) -> None:
        self.circuit = Circuit.CLOSED
        self.trips = 0
        self._failures.clear()
        self._trial_until = None
        self._trust(now)

    def _trust(self, now: float) -> None:
        self._suspect_until = None
        self.reason = ""
        self.since = now


def backoff_s(policy: Backoff, trips: int, random: Random) -> float:
    """Tell how long an upstream is left alone that failed so many times in a row, from 1.

    Chance shortens it, so that many proxies do not come back at the same moment.
    """
    longest_s = min(policy.max_s, policy.base_s * 2.0 ** min(trips - 1, _MAX_DOUBLINGS))
    return longest_s * (1 - policy.jitter * random.random())
