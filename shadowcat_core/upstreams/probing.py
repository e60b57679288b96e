"""When which upstream is asked whether it is there, what it is asked, and what its answer means. Sans-I/O.

Whoever runs the probes calls `due` a few times a second, sends what it gives, and tells `report` what came of each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final

from shadowcat_core.jsonrpc import dump
from shadowcat_core.mcp import METHOD_HEADER, MODERN_VERSIONS, PROTOCOL_VERSION_HEADER
from shadowcat_core.upstreams.health import Circuit
from shadowcat_core.upstreams.member import Member
from shadowcat_core.upstreams.models import ActiveHealth, ProbeKind
from shadowcat_core.upstreams.pool import Pool
from shadowcat_core.upstreams.ranking import Ranking

_FIRST_WITHIN_S: Final = 1.0
_SPREAD: Final = 0.1
"""Of an interval: so that the probes of many proxies do not keep time with each other."""
_GRACE_S: Final = 1.0
"""For whoever runs a probe to say that it timed out."""
_GATEWAY_FAILS_FROM: Final = 500

_HEADERS: Final = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """One question to one upstream. `body` is what to post; None when it is enough that it takes a connection."""

    pool: Pool
    member: Member
    kind: ProbeKind
    timeout_s: float
    headers: Mapping[str, str] = field(default=_NO_HEADERS, repr=False)
    body: bytes | None = None


class Prober:
    """The schedule of all pools that want probes. One probe of an upstream is under way at a time."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._plan: Ranking[Member] = Ranking()
        self._pools: dict[Member, Pool] = {}
        self._out: dict[Member, Probe] = {}

    def follow(self, pools: Iterable[Pool], now: float) -> None:
        """Go by these pools from now on, after a reload too. Those that come are asked within a second."""
        before = self._pools
        self._pools = {
            member: pool for pool in pools if pool.route.health.active is not None for member in pool.members()
        }
        for member in before.keys() - self._pools.keys():
            self._leave(member)
        for member, pool in self._pools.items():
            if member not in before:
                within_s = min(_FIRST_WITHIN_S, _policy(pool).interval_s)
                self._plan.put(member, now + within_s * self._random.random())

    def due(self, now: float) -> list[Probe]:
        """Give the probes to send now. Those that were sent and never reported count as failed."""
        for pool in dict.fromkeys(self._pools.values()):
            for member in pool.wanting(now):
                if member not in self._out and member in self._pools:
                    self._plan.put(member, now)
        probes: list[Probe] = []
        while (found := self._plan.first()) is not None and found[0] <= now:
            member = found[1]
            if self._pools[member].member(member.name) is not member:
                self._leave(member)  # the last of its sessions is over
            elif (probe := self._out.get(member)) is not None:
                self.report(probe, now, "no answer, and nobody said so")
            elif (breaker := member.breaker).circuit is Circuit.OPEN:
                self._plan.put(member, breaker.retry_at)
            else:
                probes.append(self._send(member, now))
        return probes

    def report(self, probe: Probe, now: float, failure: str | None) -> None:
        """Note what came of a probe: None when it was answered well, else why not. A late one is ignored."""
        member, pool = probe.member, probe.pool
        if self._out.get(member) is not probe:
            return
        del self._out[member]
        pool.probed(member, failure)
        spread = 1 + _SPREAD * (2 * self._random.random() - 1)
        self._plan.put(member, now + _policy(pool).interval_s * spread)

    def _leave(self, member: Member) -> None:
        self._plan.discard(member)
        self._out.pop(member, None)
        self._pools.pop(member, None)

    def _send(self, member: Member, now: float) -> Probe:
        pool = self._pools[member]
        policy = _policy(pool)
        headers, body = request_of(policy.kind)
        probe = Probe(pool, member, policy.kind, policy.timeout_s, {**headers, **member.config.headers}, body)
        self._out[member] = probe
        within_s = policy.timeout_s + _GRACE_S
        pool.begin_probe(member, now, within_s)
        self._plan.put(member, now + within_s)
        return probe


def request_of(kind: ProbeKind) -> tuple[dict[str, str], bytes | None]:
    """Write the headers and the body that a kind of probe posts; a `tcp` probe posts nothing."""
    match kind:
        case "tcp":
            return {}, None
        case "ping":
            return dict(_HEADERS), dump({"jsonrpc": "2.0", "id": "shadowcat-probe", "method": "ping"})
        case "discover":
            version = MODERN_VERSIONS[-1]
            meta = "io.modelcontextprotocol/"
            return (
                {**_HEADERS, PROTOCOL_VERSION_HEADER: version, METHOD_HEADER: "server/discover"},
                dump({
                    "jsonrpc": "2.0",
                    "id": "shadowcat-probe",
                    "method": "server/discover",
                    "params": {"_meta": {f"{meta}protocolVersion": version, f"{meta}clientCapabilities": {}}},
                }),
            )  # fmt: skip


def failure_of(status: int) -> str | None:
    """Tell why an HTTP status means that an upstream does not work; None when it does.

    Any answer below 500 is one of a server that lives: servers refuse a ping without a session (400), a method of the
    other era (400, 404), or one without a token (401).
    """
    return f"HTTP {status}" if status >= _GATEWAY_FAILS_FROM else None


def _policy(pool: Pool) -> ActiveHealth:
    active = pool.route.health.active
    if active is None:  # pragma: no cover -- only pools that have it are followed
        raise ValueError("this pool is not probed")
    return active
