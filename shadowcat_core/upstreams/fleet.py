"""All upstreams of a configuration: the pool for a request, the probes that are due, reloads that forget nothing."""

from collections.abc import Iterator, Mapping
from random import Random
from types import MappingProxyType

from shadowcat_core.upstreams.changes import Changes, compare
from shadowcat_core.upstreams.member import DRAINING, Member, MemberRow
from shadowcat_core.upstreams.models import UpstreamsFile
from shadowcat_core.upstreams.pool import ClockS, Pool
from shadowcat_core.upstreams.probing import Prober
from shadowcat_core.upstreams.routing import Router


class Fleet:
    """The pools of a file, one a route. The clock is monotonic, in seconds."""

    def __init__(self, file: UpstreamsFile, *, clock: ClockS, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._pools: dict[str, Pool] = {}
        self.prober = Prober(random)
        self.file = file
        self._apply(file)

    def route(self, host: str | None, path: str) -> Pool | None:
        """Find the pool for a request by its `Host` and its path; None when no route is about it."""
        return self._router.match(host, path)

    def pools(self) -> tuple[Pool, ...]:
        """All pools."""
        return tuple(self._pools.values())

    def find(self, name: str) -> tuple[Pool, Member] | None:
        """Find an upstream by its name."""
        return next(((pool, member) for pool, member in self._members() if member.name == name), None)

    def drain(self, name: str, reason: str = DRAINING) -> bool:
        """Let an upstream have no new sessions; False when there is none of that name."""
        found = self.find(name)
        return found is not None and found[0].drain(name, reason)

    def undrain(self, name: str) -> bool:
        """Let it have new sessions again; False when there is none of that name."""
        found = self.find(name)
        return found is not None and found[0].undrain(name)

    def table(self, in_flight: Mapping[str, int] = MappingProxyType({})) -> list[MemberRow]:
        """Write down how all upstreams are; `in_flight` counts what is at them now, by name."""
        return [row for pool in self._pools.values() for row in pool.table(in_flight)]

    def apply(self, file: UpstreamsFile) -> Changes:
        """Go by another file. Upstreams that stay where they are keep their health, sessions and counts."""
        changes = compare(self.file, file)
        self._apply(file)
        self.file = file
        return changes

    def _apply(self, file: UpstreamsFile) -> None:
        known = {member.name: member for _, member in self._members()}
        names = {route.name: {upstream.name for upstream in route.upstreams} for route in file.routes}
        everywhere = {name for route in names.values() for name in route}
        pools: dict[str, Pool] = {}
        for route in file.routes:
            elsewhere = everywhere - names[route.name]
            if (pool := self._pools.get(route.name)) is None:
                pool = Pool(route, clock=self._clock, random=self._random, known=known, elsewhere=elsewhere)
            else:
                pool.apply(route, known, elsewhere)
            pools[route.name] = pool
        self._pools = pools
        self._router: Router[Pool] = Router((pool.route.host, pool.route.path, pool) for pool in pools.values())
        self.prober.follow(pools.values(), self._clock())

    def _members(self) -> Iterator[tuple[Pool, Member]]:
        for pool in self._pools.values():
            for member in pool.members():
                yield pool, member
