"""What it costs that clients can come back: an event given an id of ours and logged, a stream kept, events replayed.

    python -m benches.bench_resumption

CPU time of the thread, medians of interleaved rounds. "feed" is all that happens on the wire's path: framing, the ids
exchanged, the event kept for the log; "kept and logged" runs an event loop and a keeper that writes each chunk's events
to a store in memory. Beside them stand framing alone, without which nothing here can begin, and what one would write by
hand: cut at blank lines, a counter put in front, a deque that forgets. That knows nothing of the server's ids.

Replay is wall time, since it waits for stores: a client comes back to the first of 1,000 events, at a proxy that has
none of them in memory. Stores take turns. The Redis is a redis-server on this machine.
"""

import asyncio
import gc
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benches.bench_messages import medians
from benches.bench_sessions import record
from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.resumption import EventPlace, GoOn, ResumableStream, StreamKeeper, StreamPurpose, way_back
from shadowcat_core.sessions import MemoryStore, RedisStore, SqliteStore, new_stream_id
from shadowcat_core.sessions.store import Store
from shadowcat_core.sse import SseParser
from tests.store_contract.redis_server import RedisServer, missing

EVENTS = 2_048
"""More than the window of ids that a resumed stream looks back on, so that the window is full."""
EVENT_BYTES = 270
REPLAYED = 1_000
STREAMS = 200
BUDGET_US = 5.0
"""For one event on the wire's path, also alone in its chunk and with an id of the server's."""
BY_HAND, FRAMING, FEED, ANSWERS, LOGGED = "by hand", "framing", "feed", "feed, answers awaited", "kept and logged"

type Work = Callable[[], object]


def event(count: int, *, with_id: bool) -> bytes:
    """A progress notification, with an id as the SDKs write them: a stream's UUID and a count."""
    head = b"event: message\n"
    if with_id:
        head += b"id: 6f9619ff-8b86-d011-b42d-00c04fc964ff_%d\n" % count
    head += b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"message":"'
    return head.ljust(EVENT_BYTES - 5, b".") + b'"}}\n\n'


def chunks(together: int, *, with_ids: bool) -> list[bytes]:
    events = [event(count, with_id=with_ids) for count in range(EVENTS)]
    return [b"".join(events[start : start + together]) for start in range(0, EVENTS, together)]


def stream(*requests: int) -> ResumableStream:
    return ResumableStream("session", EventPlace(new_stream_id(), 0), epoch=1, purpose=StreamPurpose(requests))


def framing(fed: list[bytes]) -> Work:
    def run() -> None:
        parser = SseParser()
        for chunk in fed:
            parser.feed(chunk)

    return run


def by_hand(fed: list[bytes]) -> Work:
    def run() -> None:
        kept: deque[tuple[int, bytes]] = deque(maxlen=256)
        count = 0
        for chunk in fed:
            frames = []
            for frame in chunk.split(b"\n\n")[:-1]:
                count += 1
                kept.append((count, frame))
                frames.append(b"id: %d\n%b\n\n" % (count, frame))
            b"".join(frames)

    return run


def feed(fed: list[bytes], *requests: int) -> Work:
    """Feed a stream whose log keeps up: what a chunk brought is forgotten before the next one."""

    def run() -> None:
        kept = stream(*requests)
        for chunk in fed:
            kept.feed(chunk)
            kept.forget_unlogged(kept.position)

    return run


def logged(fed: list[bytes]) -> Work:
    async def read() -> None:
        store = MemoryStore()
        await store.create(session := record(0))
        keeper = StreamKeeper(store)
        kept = keeper.open(session.mapping.session_id, epoch=1)
        for chunk in fed:
            kept.feed(chunk)
            await asyncio.sleep(0)  # as between two chunks of a socket
        if kept.logged != EVENTS:
            raise RuntimeError(f"{kept.logged} of {EVENTS} events were logged")
        await keeper.aclose()
        await store.aclose()

    return lambda: asyncio.run(read())


def costs(console: Console, rounds: int) -> list[Figure]:
    ways: dict[str, Callable[[list[bytes]], Work]] = {
        BY_HAND: by_hand,
        FRAMING: framing,
        FEED: feed,
        ANSWERS: lambda fed: feed(fed, 7),
        LOGGED: logged,
    }
    layouts = {
        f"{together} a chunk, {'ids' if with_ids else 'no ids'}": chunks(together, with_ids=with_ids)
        for together in (16, 1)
        for with_ids in (True, False)
    }
    works = {f"{name}, {layout}": way(fed) for layout, fed in layouts.items() for name, way in ways.items()}
    us = {name: ns / 1000 for name, ns in medians(works, EVENTS, rounds).items()}
    table = Table("", *layouts, title="µs an event", title_justify="left")
    for name in ways:
        table.add_row(name, *(f"{us[f'{name}, {layout}']:.2f}" for layout in layouts))
    console.print(table)
    budgets = {f"{FEED}, 16 a chunk, ids", f"{FEED}, 1 a chunk, ids"}
    return [Figure(name, value, "µs", BUDGET_US if name in budgets else None) for name, value in us.items()]


def memory() -> list[Figure]:
    """Bytes of a stream that was opened and got one event, and of one whose window of ids is full; both logged."""
    fed = chunks(16, with_ids=True)
    figures = []
    for name, some in {"a stream after one chunk": fed[:1], "a stream after 2,048 events": fed}.items():
        gc.collect()
        tracemalloc.start()
        kept = []
        for _ in range(STREAMS):
            one = stream(7)
            for chunk in some:
                one.feed(chunk)
                one.forget_unlogged(one.position)
            kept.append(one)
        gc.collect()
        figures.append(Figure(f"memory, {name}", tracemalloc.get_traced_memory()[0] / len(kept) / 1024, "KiB"))
        tracemalloc.stop()
    return figures


async def fill(store: Store) -> tuple[str, str]:
    """Log a whole stream; give the ids of its session and of the place before its first event."""
    session = record(0)
    session_id = session.mapping.session_id
    await store.create(session)
    keeper = StreamKeeper(store)
    kept = keeper.open(session_id, epoch=1, requests=[7])
    begin = str(kept.place)
    for count in range(REPLAYED - 1):
        kept.feed(event(count, with_id=True))
        if count % 100 == 0:
            await keeper.flush()
    kept.feed(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n')
    keeper.release(kept)
    await keeper.flush()
    return session_id, begin


async def replay(store: Store, session_id: str, begin: str) -> float:
    """Lead one client over all events. Returns events a second."""
    way = way_back(StreamKeeper(store), session_id, begin, epoch=1)
    assert way is not None
    started = time.perf_counter()
    size = 0
    async for data in way.frames():
        size += len(data)
    elapsed = time.perf_counter() - started
    if way.go_on is not GoOn.NOT or way.lost or size < (REPLAYED - 1) * EVENT_BYTES:
        raise RuntimeError(f"not what was sent: {size} bytes, {way.lost} lost, {way.go_on}")
    return REPLAYED / elapsed


async def replays(folder: Path, server: RedisServer | None, rounds: int) -> list[Figure]:
    stores: dict[str, Store] = {"memory": MemoryStore(), "sqlite": SqliteStore(folder / "sessions.db")}
    if server is not None:
        stores["redis"] = RedisStore.from_url(server.url)
    async with AsyncExitStack() as stack:
        for store in stores.values():
            stack.push_async_callback(store.aclose)
        filled = {name: await fill(store) for name, store in stores.items()}
        rates: dict[str, list[float]] = {name: [] for name in stores}
        for _ in range(rounds):
            for name, store in stores.items():
                rates[name].append(await replay(store, *filled[name]))
    return [Figure(f"replay, {name}", median(found), "events/s", None, "higher") for name, found in rates.items()]


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and return the figures; `quick` takes fewer rounds."""
    console = Console(width=120)
    figures = costs(console, 5 if quick else 15)
    figures += memory()
    with tempfile.TemporaryDirectory() as name:
        if reason := missing():
            console.print(f"without Redis: {reason}")
            figures += asyncio.run(replays(Path(name), None, 5 if quick else 15))
        else:
            with RedisServer(Path(name)) as server:
                figures += asyncio.run(replays(Path(name), server, 5 if quick else 15))
    print_figures(console, f"Resumption; {machine('redis')}", figures)
    return figures


if __name__ == "__main__":
    main("--quick" in sys.argv)
