"""What a session costs in each store: looked up, used, begun, listed; and what it takes of memory.

    python -m benches.bench_sessions

Latencies are wall time, as a request feels them, of verbs asked one after the other among 10,000 sessions; rounds of
the stores alternate, so that each meets the same neighbours. The server is a redis-server on this machine: to one
elsewhere, add the way there and back. The naive peers do a touch as one would by hand: a pickled dict in Redis read and
written back in two round trips, and a row of SQLite selected and updated on the event loop, a transaction each.
"""

import asyncio
import gc
import pickle
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from benches.figures import Figure
from benches.report import machine, number, print_figures
from shadowcat_core.sessions import (
    Event,
    Handshake,
    MemoryStore,
    RedisStore,
    SessionRecord,
    SessionTimes,
    SqliteStore,
    Upstream,
    begin_session,
    wall_clock_ms,
)
from shadowcat_core.sessions.store import Store
from tests.store_contract.redis_server import RedisServer, missing

SESSIONS = 10_000
BUDGETS_MS = {"get": 2.0, "touch": 1.0, "create": 10.0, "list": 50.0}
REQUEST = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'.ljust(600)
RESULT = b'{"jsonrpc":"2.0","id":0,"result":{"capabilities":{},"serverInfo":{"name":"tools"}}}'.ljust(2_000)
"""As long as the SDKs' own, with a few lines of instructions."""

type Verb = Callable[[], Awaitable[object]]


def record(count: int) -> SessionRecord:
    begun = begin_session(
        Upstream(f"server-{count % 3}", f"{count:032x}"),
        Handshake(bytes(bytearray(REQUEST)), bytes(bytearray(RESULT))),
        "2025-11-25",
        credential=f"{count:064x}",
        times=SessionTimes.starting(wall_clock_ms()),
    )
    return SessionRecord(
        begun.mapping, begun.handshake, begun.times, [f"file:///{count}/{n}" for n in range(3)], "info"
    )


async def fill(store: Store) -> list[str]:
    ids = []
    for start in range(0, SESSIONS, 100):
        records = [record(start + n) for n in range(100)]
        await store.restore(records)
        ids += [each.session_id for each in records]
    return ids


def verbs_of(store: Store, ids: Sequence[str], rng: random.Random) -> dict[str, Verb]:
    made = iter(range(SESSIONS, sys.maxsize))
    return {
        "get": lambda: store.get(rng.choice(ids)),
        "touch": lambda: store.touch(rng.choice(ids)),
        "create": lambda: store.create(record(next(made))),
        "list": lambda: store.list(limit=100),
    }


async def timed(verb: Verb, count: int) -> list[float]:
    """Wall time in ms of each of `count` calls."""
    found = []
    for _ in range(count):
        started = time.perf_counter_ns()
        await verb()
        found.append((time.perf_counter_ns() - started) / 1e6)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def naive_sqlite(path: Path, ids: Sequence[str], rng: random.Random) -> Verb:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=normal")
    database.execute("create table sessions (id text primary key, used integer, data blob)")
    database.execute("begin")
    database.executemany("insert into sessions values (?, 0, ?)", [(each, RESULT) for each in ids])
    database.execute("commit")

    async def touch() -> None:
        session_id = rng.choice(ids)
        database.execute("select data from sessions where id = ?", (session_id,)).fetchone()
        database.execute("update sessions set used = ? where id = ?", (wall_clock_ms(), session_id))

    return touch


async def naive_redis(client: Redis, ids: Sequence[str], rng: random.Random) -> Verb:
    session = {"upstream": "server-1", "id": "x" * 32, "request": REQUEST, "result": RESULT, "used": 0}
    pipeline = client.pipeline(transaction=False)
    for each in ids:
        pipeline.set(f"naive:{each}", pickle.dumps(session))
    await pipeline.execute()

    async def touch() -> None:
        key = f"naive:{rng.choice(ids)}"
        found = pickle.loads(await client.get(key))
        found["used"] = wall_clock_ms()
        await client.set(key, pickle.dumps(found), ex=1_800)

    return touch


async def memory_per_session() -> tuple[float, float]:
    """Bytes of a session in memory, without events and with a stream of ten."""
    gc.collect()
    tracemalloc.start()
    store = MemoryStore()
    ids = await fill(store)
    gc.collect()
    bare = tracemalloc.get_traced_memory()[0] / SESSIONS
    for session_id in ids[:1_000]:
        await store.open_stream(session_id, "s")
        events = [Event(bytes(bytearray(270))) for _ in range(10)]
        await store.append(session_id, "s", events, position=0)
    gc.collect()
    with_events = tracemalloc.get_traced_memory()[0] - bare * SESSIONS
    tracemalloc.stop()
    return bare, bare + with_events / 1_000


async def redis_bytes(client: Redis) -> float:
    info = await client.info("memory")
    return float(info["used_memory"])


async def together(store: Store, ids: Sequence[str], count: int) -> float:
    """Touches a second when 100 requests ask at the same time."""

    async def ask(mine: Sequence[str]) -> None:
        for session_id in mine:
            await store.touch(session_id)

    started = time.perf_counter()
    await asyncio.gather(*[ask(ids[n : count * 100 : 100]) for n in range(100)])
    return count * 100 / (time.perf_counter() - started)


def on_disk(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("sessions.db*"))


async def measure(
    directory: Path, server: RedisServer, quick: bool
) -> tuple[dict[str, dict[str, list[float]]], list[Figure]]:
    rounds, calls = (4, 50) if quick else (12, 100)
    rng = random.Random(4)
    async with AsyncExitStack() as stack:
        client = Redis.from_url(server.url)
        stack.push_async_callback(client.aclose)
        stores: dict[str, Store] = {"memory": MemoryStore(), "sqlite": SqliteStore(directory / "sessions.db")}
        for store in stores.values():
            stack.push_async_callback(store.aclose)
        before = await redis_bytes(client)
        stores["redis"] = RedisStore.from_url(server.url, timeout_ms=30_000)
        stack.push_async_callback(stores["redis"].aclose)
        ids = {name: await fill(store) for name, store in stores.items()}
        in_redis = (await redis_bytes(client) - before) / SESSIONS
        verbs = {name: verbs_of(store, ids[name], rng) for name, store in stores.items()}
        verbs["naive sqlite"] = {"touch": naive_sqlite(directory / "naive.db", ids["sqlite"], rng)}
        verbs["naive redis"] = {"touch": await naive_redis(client, ids["redis"], rng)}
        found: dict[str, dict[str, list[float]]] = {name: {verb: [] for verb in some} for name, some in verbs.items()}
        for round_number in range(rounds + 1):
            for verb in BUDGETS_MS:
                for name, some in verbs.items():
                    if verb in some:
                        count = calls // 5 if verb == "list" else calls
                        took = await timed(some[verb], count * (20 if name == "memory" and verb != "list" else 1))
                        if round_number:  # the first is for caches and connections
                            found[name][verb] += took
        figures = []
        for name, store in stores.items():
            rates = [await together(store, ids[name], 10 if quick else 40) for _ in range(3)]
            figures.append(Figure(f"{name}, touches of 100 at once", statistics.median(rates), "1/s", None, "higher"))
        size = on_disk(directory)
        figures.append(Figure("redis, a session", in_redis / 1024, "KiB", 100))
        figures.append(Figure("sqlite, a session, on disk", size / SESSIONS / 1024, "KiB", 100))
    return found, figures


def print_latencies(console: Console, found: dict[str, dict[str, list[float]]]) -> None:
    table = Table("store", *BUDGETS_MS, title="wall time in µs: p50 / p95 / p99; list is a page of 100", title_style="")
    for name, verbs in found.items():
        cells = []
        for verb in BUDGETS_MS:
            took = verbs.get(verb)
            cells.append(
                " / ".join(number(percentile(took, share) * 1000) for share in (0.5, 0.95, 0.99)) if took else ""
            )
        table.add_row(name, *cells)
    console.print(table)


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and return the figures; `quick` measures a sixth."""
    if reason := missing():
        raise SystemExit(reason)
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as name, RedisServer(Path(name)) as server:
        redis_version = server.command("INFO server").split(b"redis_version:")[1].split()[0].decode()
        found, sizes = asyncio.run(measure(Path(name), server, quick))
    print_latencies(console, found)
    figures = [
        Figure(f"{name}, {verb} p95", percentile(found[name][verb], 0.95), "ms", budget)
        for name in ("memory", "sqlite", "redis")
        for verb, budget in BUDGETS_MS.items()
    ]
    figures.append(Figure("memory, touch p99", percentile(found["memory"]["touch"], 0.99) * 1000, "µs", 100))
    for name in ("sqlite", "redis"):
        ratio = percentile(found[f"naive {name}"]["touch"], 0.5) / percentile(found[name]["touch"], 0.5)
        figures.append(Figure(f"{name}, touch p50, naive / ours", ratio, "×", None, "higher"))
    bare, with_events = asyncio.run(memory_per_session())
    figures.append(Figure("memory, a session", bare / 1024, "KiB", 100))
    figures.append(Figure("memory, a session with ten events", with_events / 1024, "KiB", 100))
    figures += sizes
    print_figures(
        console, f"{machine('redis')}, redis-server {redis_version}, SQLite {sqlite3.sqlite_version}", figures
    )
    return figures


if __name__ == "__main__":
    main("--quick" in sys.argv)
