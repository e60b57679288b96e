"""One of several programs that change the same session at the same time, and say what they did.

python -m tests.store_contract.racer (sqlite PATH | redis URL) SESSION_ID NAME
"""

import asyncio
import json
import sys
from pathlib import Path

from shadowcat_core.sessions import Event, RedisStore, Retention, SqliteStore, Upstream, event_id
from shadowcat_core.sessions.store import Store

PREFIX = "race"
RETENTION = Retention(max_events=100_000, max_bytes=1 << 30, max_age_ms=1 << 40)
MOVES, EVENTS, SUBSCRIPTIONS, TOUCHES = 500, 1_000, 50, 3_600


def open_store(kind: str, place: str) -> Store:
    if kind == "sqlite":
        return SqliteStore(Path(place), retention=RETENTION)
    return RedisStore.from_url(place, prefix=PREFIX, retention=RETENTION, timeout_ms=30_000)


async def race(store: Store, session_id: str, name: str) -> dict[str, int]:
    """Do many things to one session, with a turn for others between any two. Counts verbs, and what came of them."""
    done = {"verbs": 0, "moves": 0, "events": 0, "subscriptions": 0, "touches": 0}

    async def move() -> None:
        epoch = 1
        while done["moves"] < MOVES:
            await asyncio.sleep(0)
            target = Upstream("u", f"{name}-{done['verbs']}")
            done["verbs"] += 1
            mapping = await store.rebind(session_id, epoch, target)
            assert mapping is not None
            done["moves"] += mapping.upstream == target
            epoch = mapping.epoch

    async def append() -> None:
        position = 0
        while done["events"] < EVENTS:
            await asyncio.sleep(0)
            done["verbs"] += 1
            if await store.append(session_id, "s", [Event(f"{name} {done['verbs']}".encode())], position=position):
                done["events"] += 1
                position += 1
            else:
                done["verbs"] += 1
                stream = await store.stream_of(session_id, event_id("s", 0))
                assert stream is not None
                position = stream.position

    async def subscribe() -> None:
        for n in range(SUBSCRIPTIONS):
            await asyncio.sleep(0)
            done["verbs"] += 1
            done["subscriptions"] += await store.add_subscription(session_id, f"{name}{n}")

    async def touch() -> None:
        while done["touches"] < TOUCHES:
            await asyncio.sleep(0)
            done["touches"] += 1
            done["verbs"] += 1
            assert await store.touch(session_id) is not None

    await asyncio.gather(move(), move(), append(), append(), subscribe(), touch(), touch(), touch())
    return done


async def main(kind: str, place: str, session_id: str, name: str) -> None:
    store = open_store(kind, place)
    done = await race(store, session_id, name)
    await store.aclose()
    print(json.dumps(done))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
