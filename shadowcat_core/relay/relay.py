"""Leads exchanges through sessions and upstreams, and tends what lives longer than one exchange.

It belongs to one event loop. It decides and remembers; requests go through whoever calls it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.messages import Message
from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.counts import RelayCounts
from shadowcat_core.relay.passage import Passage
from shadowcat_core.relay.world import World
from shadowcat_core.resumption import ResumableStream, StreamKeeper
from shadowcat_core.sessions import SessionMapping, SessionRecord, Store
from shadowcat_core.sessions.lifecycle import NOTED_METHODS
from shadowcat_core.sessions.manager import Revived, SessionManager
from shadowcat_core.upstreams import Changes, Fleet, Pool, UpstreamsFile

_TOUCH_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Listing:
    """The sessions at a moment of the monotonic clock: the first of them, and how many there are."""

    records: Sequence[SessionRecord]
    count: int
    at_s: float


class Relay:
    """All of a configuration at work: its upstreams, sessions and streams."""

    def __init__(
        self,
        fleet: Fleet,
        manager: SessionManager,
        store: Store,
        *,
        gather_s: float = 0.0,
        clock_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        catch_up: Callable[[], object] = lambda: None,
        on_store: Callable[[StoreUnavailable], object] = lambda _exc: None,
        on_moved: Callable[[SessionMapping, Revived], object] = lambda _before, _revived: None,
    ) -> None:
        """Put the parts together. `gather_s` is as in `StreamKeeper`, `on_store` hears of each event that cannot be
        logged; for the rest see `World`.
        """
        self.fleet = fleet
        self.manager = manager
        self.store = store
        self.listing = Listing((), 0, clock_s())
        """As `tend` found them."""
        self._on_moved = on_moved
        self._world = World(
            manager,
            StreamKeeper(store, gather_s=gather_s, sleep=sleep, on_outage=on_store, on_taken=self._taken),
            clock_s,
            sleep,
            catch_up,
            self._moved,
            lambda upstream: fleet.find(upstream) is not None,
        )
        manager.on_revived = self._world.moved

    @property
    def counts(self) -> RelayCounts:
        """What happened so far."""
        return self._world.counts

    @property
    def keeper(self) -> StreamKeeper:
        """The streams that clients can come back for."""
        return self._world.keeper

    def routes(self, host: str | None, path: str) -> Pool | None:
        """Find the route of a request; None when none is about it."""
        return self.fleet.route(host, path)

    def open(self, pool: Pool, asked: Asked) -> Passage:
        """Begin the way of a request that a route is about."""
        return Passage(self._world, pool, asked)

    def apply(self, file: UpstreamsFile) -> Changes:
        """Go by another file, as far as routes and upstreams go. Sessions stay in their store."""
        return self.fleet.apply(file)

    async def answered(self, route: str, session_id: str | None, request: Message, answer: Message) -> None:
        """Take note of what an answer says about a session or a server.

        Raises:
            StoreError: it was not noted. A server that the session moves to is not told.
        """
        if answer.kind is not Kind.RESPONSE:
            return
        if request.method == "tools/list":
            self._world.books[route].learn(_member(answer.payload, "result"))
        elif session_id is not None and request.method in NOTED_METHODS:
            await self.manager.note(session_id, request.method, _member(request.payload, "params"))

    async def tend(self) -> None:
        """Do what is due now and then: keep sessions in use, end expired ones, count them where they are.

        Raises:
            StoreUnavailable: the store does not answer; nothing is lost by it.
        """
        # Who waits for a long call, or follows a stream, sends nothing meanwhile.
        used = list({*self._world.in_use, *(stream.session_id for stream in self._world.carried)})
        for start in range(0, len(used), _TOUCH_BATCH):
            await self.store.touch_many(used[start : start + _TOUCH_BATCH])
        self.counts.sessions_expired += await self.manager.sweep()
        for pool in self.fleet.pools():
            for member in pool.members():
                pool.sessions_are(member.name, await self.store.count(member.name))
        page = await self.store.list()
        self.listing = Listing(page.records, await self.store.count(), self._world.clock_s())

    def beat(self) -> None:
        """Say in the log which streams are still read. Call it every `READING_BEAT_S`."""
        self.keeper.beat()

    async def aclose(self, within_s: float) -> None:
        """Write what is left to the log, for so long at most, and give up the store."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.keeper.flush()
        await self.keeper.aclose()
        await self.manager.aclose()
        await self.store.aclose()

    def _moved(self, before: SessionMapping, revived: Revived) -> None:
        for name, tell in (
            (before.upstream.name, Pool.session_ended),
            (revived.mapping.upstream.name, Pool.session_began),
        ):
            found = self.fleet.find(name)
            if found is not None:
                tell(found[0], name)
        self._on_moved(before, revived)

    def _taken(self, stream: ResumableStream) -> None:
        carriage = self._world.carried.get(stream)
        if carriage is not None:
            carriage.taken()


def _member(payload: Json, name: str) -> Json:
    return payload.get(name) if isinstance(payload, dict) else None
