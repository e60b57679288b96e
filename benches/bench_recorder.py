"""What recording costs: on the event loop, in the writer, and for the latency of everything else.

    python -m benches.bench_recorder

CPU figures are thread time, medians of interleaved rounds. The peers write the same records in the same run: one line
of standard-library JSON and one `write` a record, and SQLite in WAL mode with a transaction a batch.
"""

import asyncio
import json
import platform
import random
import sqlite3
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches.figures import Figure
from shadowcat_core.tape.recorder import Recorder
from shadowcat_core.tape.records import Chunk, End, Header, Open, Record, Request, Response
from shadowcat_core.tape.redaction import HeaderRedactor

SIZES = {"270 B": 270, "1 KB": 1_000, "20 KB": 20_000}
BATCH = 100
WORDS = ("file", "read", "third", "part", "rows", "names", "dates", "totals", "remarks", "links", "entries")


def event(number: int, size: int, rng: random.Random) -> bytes:
    """Write one SSE event of about `size` bytes, as a server does for a progress notification or a result."""
    words: list[str] = []
    length = 130
    while length < size:
        words.append(rng.choice(WORDS) + str(rng.randrange(1000)))
        length += len(words[-1]) + 3
    params = {"progressToken": number % 7, "progress": number, "total": 1000, "rows": words}
    message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
    return b"event: message\nid: %d\ndata: %b\n\n" % (number, json.dumps(message, separators=(",", ":")).encode())


def batch(size: int) -> list[Chunk]:
    rng = random.Random(size)
    return [Chunk(time.monotonic_ns() + n * 1000, 3, "s2c", event(n, size, rng)) for n in range(BATCH)]


def recorder(path: Path, **options: object) -> Recorder:
    def complain(exc: Exception) -> None:
        raise exc

    header = Header("2026-11-21T00:00:00+00:00", "bench", "0", "heads", "background", time.monotonic_ns())
    return Recorder(path, header, redact=HeaderRedactor(), on_failure=complain, **options)


def thread_ns(work: Callable[[], object], count: int) -> float:
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / count


def interleaved(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    results: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            results[name].append(measure())
    return {name: statistics.median(found) for name, found in results.items()}


def never_woken(path: Path) -> Recorder:
    """A recorder that writes only when told to: its thread sleeps, so the bench's thread does and times the work."""
    return recorder(path, flush_ms=3_600_000, flush_records=sys.maxsize)


def put_cost(directory: Path, rounds: int) -> dict[str, float]:
    tape = never_woken(directory / "put.tape.jsonl")
    records = {label: batch(size) * 10 for label, size in SIZES.items()}

    def measure(label: str) -> float:
        def put_all() -> None:
            for record in chunks:
                put(record)

        chunks, put = records[label][: 10 * BATCH if label != "20 KB" else BATCH], tape.put
        cost = thread_ns(put_all, len(chunks))
        tape.flush()
        return cost

    found = interleaved({label: lambda label=label: measure(label) for label in SIZES}, rounds)
    assert tape.dropped == 0
    tape.close()
    return found


def write_with_recorder(records: Sequence[Record], path: Path) -> float:
    tape = never_woken(path)
    for record in records:
        tape.put(record)
    cost = thread_ns(tape.flush, BATCH)
    tape.close()
    return cost


def write_with_json(records: Sequence[Chunk], path: Path) -> float:
    def write_all() -> None:
        for record in records:
            fields = {"kind": "chunk", "t": record.at_ns // 1000, "exchange": 3, "dir": "s2c"}
            file.write(json.dumps(fields | {"text": record.data.decode()}).encode() + b"\n")

    with path.open("wb", buffering=0) as file:
        return thread_ns(write_all, BATCH)


def write_with_sqlite(records: Sequence[Chunk], path: Path) -> float:
    def write_all() -> None:
        database.execute("begin")
        database.executemany(
            "insert into records values (?, ?, ?, ?)", [(r.at_ns, r.exchange, r.direction, r.data) for r in records]
        )
        database.execute("commit")

    database = sqlite3.connect(path, isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=normal")
    database.execute("create table records (t integer, exchange integer, direction text, data blob)")
    cost = thread_ns(write_all, BATCH)
    database.close()
    return cost


WRITERS: dict[str, tuple[str, Callable[[Sequence[Chunk], Path], float]]] = {
    "tape": ("a.tape.jsonl", write_with_recorder),
    "tape, zstd 1": ("a.tape.jsonl.zst", write_with_recorder),
    "json + write": ("a.jsonl", write_with_json),
    "SQLite WAL": ("a.db", write_with_sqlite),
}


def writer_cost(directory: Path, size: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """CPU ns a record, and bytes on disk per byte recorded, for each way of writing.

    Every round has a new file and removes it: pages that the system must first find cost more than all the rest.
    """
    records = batch(size)
    raw = sum(len(record.data) for record in records)
    ratios: dict[str, float] = {}

    def measure(way: str) -> float:
        name, write = WRITERS[way]
        path = directory / name
        cost = write(records, path)
        ratios[way] = path.stat().st_size / raw
        path.unlink()
        return cost

    return interleaved({way: lambda way=way: measure(way) for way in WRITERS}, rounds), ratios


def an_exchange(number: int, body: bytes, answer: bytes) -> Sequence[Record]:
    now = time.monotonic_ns()
    heads = [("Host", "127.0.0.1"), ("Accept", "application/json, text/event-stream"), ("Mcp-Session-Id", "s" * 32)]
    url = "http://127.0.0.1:8000/mcp"
    return (
        Open(now, number, "flow", "POST", url, "HTTP/1.1", heads, "http", "s" * 32, "legacy", "2025-11-25"),
        Request(now, number, body),
        Response(now, number, 200, "OK", [("Content-Type", "text/event-stream")]),
        Chunk(now, number, "s2c", answer),
        End(now, number, "eof"),
    )


def core_throughput(directory: Path, exchanges: int) -> float:
    """Exchanges a second, heads redacted, until the last byte is in the file; the producer waits for nothing."""
    tape = recorder(directory / "core.tape.jsonl", queue_records=sys.maxsize, queue_bytes=sys.maxsize)
    answer = batch(270)[0].data
    started = time.perf_counter()
    for number in range(exchanges):
        for record in an_exchange(number, b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', answer):
            tape.put(record)
    tape.close(60)
    elapsed = time.perf_counter() - started
    assert (tape.recorded, tape.dropped) == (exchanges * 5, 0)
    return exchanges / elapsed


async def tick(put: Callable[[Record], None] | None, chunks: Sequence[Chunk], ticks: int) -> list[float]:
    """Lateness in µs of a 1 ms ticker that records ten chunks a tick (10,000 a second), or makes them only."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    due = loop.time()
    for n in range(ticks):
        due = max(due + 0.001, loop.time())
        await asyncio.sleep(due - loop.time())
        late.append((loop.time() - due) * 1e6)
        for chunk in chunks[n % 10 * 10 : n % 10 * 10 + 10]:
            record = Chunk(time.monotonic_ns(), 3, "s2c", chunk.data)
            if put is not None:
                put(record)
    return late


def put_latencies(directory: Path, count: int) -> list[float]:
    """Wall time in µs of each `put` while the writer works beside it, at some 20,000 a second, the lock included."""
    tape = recorder(directory / "latency.tape.jsonl")
    chunks = batch(270)
    found = []
    for n in range(count):
        started = time.perf_counter_ns()
        tape.put(chunks[n % BATCH])
        found.append((time.perf_counter_ns() - started) / 1000)
        if n % 20 == 19:
            time.sleep(0.001)
    tape.close(60)
    assert tape.dropped == 0
    return found


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and return the figures; `quick` halves the certainty and quarters the time."""
    rounds = 11 if quick else 41
    console = Console(width=110)
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    build = f"{platform.python_implementation()} {platform.python_version()}, {'PGO' if optimised else 'no PGO'}"
    console.print(f"Recorder, {build}, {platform.machine()}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        figures = [
            Figure(f"put on the loop, {label}", cost, "ns", 500) for label, cost in put_cost(directory, rounds).items()
        ]
        table = Table("writer, CPU ns a record", *SIZES, title=f"batches of {BATCH}; ×: size on disk")
        found = {label: writer_cost(directory, size, rounds) for label, size in SIZES.items()}
        for way in found["270 B"][0]:
            cells = []
            for costs, ratios in found.values():
                cells.append(f"{costs[way]:,.0f}" + f"  {ratios[way]:.2f}×")
            table.add_row(way, *cells)
            figures += [Figure(f"writer, {way}, {label}", found[label][0][way], "ns") for label in SIZES]
        console.print(table)
        core = core_throughput(directory, 5_000 if quick else 20_000)
        figures.append(Figure("recorder core, exchanges of five records", core, "1/s", 10_000, "higher"))
        waits = put_latencies(directory, 10_000 if quick else 40_000)
        figures.append(Figure("added by put, p99, writer busy", percentile(waits, 0.99), "µs", 20))
        figures.append(Figure("added by put, p99.9, writer busy", percentile(waits, 0.999), "µs"))
        figures += ticker(directory, quick)
    print_figures(console, figures)
    return figures


def ticker(directory: Path, quick: bool) -> list[Figure]:
    """Compare the lateness of a 1 ms ticker with recording and without."""
    chunks = batch(270)
    late: dict[str, list[float]] = {"off": [], "plain": [], "zstd": []}
    for n in range(2 if quick else 4):
        for way in late:
            suffix = ".zst" if way == "zstd" else ""
            tape = None if way == "off" else recorder(directory / f"tick{n}.tape.jsonl{suffix}")
            late[way] += asyncio.run(tick(tape and tape.put, chunks, 500 if quick else 1500))
            if tape is not None:
                tape.close()
                assert tape.dropped == 0
    return [
        Figure(f"1 ms ticker late, recording {way}, {name}", percentile(values, share), "µs")
        for name, share in (("p50", 0.5), ("p99", 0.99))
        for way, values in late.items()
    ]


def print_figures(console: Console, figures: Sequence[Figure]) -> None:
    table = Table("figure", "value", "budget", "met")
    for figure in figures:
        budget = "" if figure.budget is None else f"{'≤' if figure.better == 'lower' else '≥'} {figure.budget:,.0f}"
        met = {True: "yes", False: "NO", None: ""}[figure.met]
        table.add_row(figure.name, f"{figure.value:,.1f} {figure.unit}", budget, met)
    console.print(table)


if __name__ == "__main__":
    main("--quick" in sys.argv)
