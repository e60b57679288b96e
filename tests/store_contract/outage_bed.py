"""Proxies in front of one store that is away when told to be; time passes when told to."""

import asyncio

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.sessions import MemoryStore, ResilientStore, Retention
from shadowcat_core.sessions.contract import SetClock, Settings
from shadowcat_core.sessions.contract.given import Given


class Unreliable:
    """A store that is away when told to be, and can lose everything. `answered` is how often it was asked."""

    def __init__(self, clock):
        self.clock = clock
        self.away = False
        self.fails_after = False
        self.asked = []
        self.store = MemoryStore(clock_ms=clock, retention=Retention(max_events=50))
        self.closed = False

    def __getattr__(self, name):
        verb = getattr(self.store, name)

        async def ask(*values, **named):
            self.asked.append(name)
            await asyncio.sleep(0)  # as over a network: others get a turn
            if self.away:
                raise StoreUnavailable("away")
            answer = await verb(*values, **named)
            await asyncio.sleep(0)
            if self.fails_after:
                raise StoreUnavailable("no answer, but done")
            return answer

        return ask

    def lose_everything(self):
        self.store = MemoryStore(clock_ms=self.clock, retention=Retention(max_events=50))

    async def aclose(self):
        self.closed = True


class Bed:
    """Proxies in front of one unreliable store, with time that passes when told to."""

    def __init__(self):
        self.clock = SetClock()
        self.primary = Unreliable(self.clock)
        self.given = Given(self.primary.store, Settings(self.clock), self.clock)
        self.reports = []
        self.sleepers = []
        self.proxies = []

    def proxy(self, primary=None):
        store = ResilientStore(
            primary or self.primary,
            on_report=self.reports.append,
            clock_ms=self.clock,
            sleep=self.sleep,
            retry_ms=1_000,
        )
        self.proxies.append(store)
        return store

    async def sleep(self, seconds):
        waiting = asyncio.get_running_loop().create_future()
        self.sleepers.append((seconds, waiting))
        await waiting

    async def settle(self):
        for _ in range(300):
            await asyncio.sleep(0)

    async def wake(self, after_ms=1_000):
        """Let the time until the next attempt pass, and all that comes of it happen."""
        await self.settle()
        self.clock.advance(after_ms)
        sleepers, self.sleepers = self.sleepers, []
        for _, waiting in sleepers:
            if not waiting.done():
                waiting.set_result(None)
        await self.settle()

    async def back(self):
        self.primary.away = self.primary.fails_after = False
        await self.wake()
        assert not any(proxy.is_away for proxy in self.proxies)

    def truth(self):
        """The store itself, without the proxies."""
        return self.primary.store

    async def begin(self, store, upstream=None):
        record = self.given.record(upstream)
        assert await store.create(record)
        return record
