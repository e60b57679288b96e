"""Two proxies, one log that may be away, and a client that comes back to either."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shadowcat_core.resumption import StreamKeeper, way_back
from shadowcat_core.sessions import MemoryStore, event_id
from shadowcat_core.sessions.contract import SetClock
from tests.core.resumption_world import SESSION, Unsteady, ids, new_session, payloads, settle

ANSWER = b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'


class Bed:
    def __init__(self, retention=None):
        self.clock = SetClock()
        self.store = MemoryStore(clock_ms=self.clock, retention=retention)
        self.log = Unsteady(self.store)
        self.taken = []
        self.outages = []
        self.sleeps = []
        self.one, self.two = self.keeper(), self.keeper()

    def keeper(self, **options):
        async def sleep(seconds):
            self.sleeps.append(seconds)
            await asyncio.sleep(0)

        return StreamKeeper(self.log, sleep=sleep, on_taken=self.taken.append, on_outage=self.outages.append, **options)

    async def open(self, keeper, frames=b"", requests=(), epoch=1):
        stream = keeper.open(SESSION, epoch=epoch, requests=requests)
        sent = stream.feed(frames)
        await keeper.flush()
        return stream, ids(sent)

    def way(self, keeper, last_event_id, epoch=1):
        return way_back(keeper, SESSION, str(last_event_id), epoch=epoch)

    async def logged(self, stream):
        missed = await self.store.after(SESSION, event_id(stream.stream_id, 0))
        return [each.event.data for each in missed.events]

    async def info(self, stream):
        return await self.store.stream_of(SESSION, event_id(stream.stream_id, 0))


@asynccontextmanager
async def running_bed() -> AsyncIterator[Bed]:
    made = Bed()
    await new_session(made.store, made.clock)
    yield made
    for keeper in (made.one, made.two):
        await keeper.aclose()
    await settle()


async def walk(way):
    return payloads(b"".join([frames async for frames in way.frames()]))
