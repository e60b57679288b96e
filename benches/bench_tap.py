"""What a stream's chunk costs in a `StreamTap`: watched, and judged by three batch interceptors.

    python -m benches.bench_tap

CPU time of the thread, medians of interleaved rounds. Beside it in the same run: handing the chunk on, which is all a
streaming addon of one line does, and the same three interceptors awaited for one event at a time.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Sequence

import orjson
from rich.console import Console
from rich.table import Table

from benches.bench_messages import (
    CONTEXT,
    EVENTS,
    Counter,
    Deny,
    ErrorLog,
    Work,
    event,
    medians,
    members,
    per_event_async,
    typescript_order,
)
from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.framing import SseFraming
from shadowcat_core.interceptors import Pipeline, on_asyncio
from shadowcat_core.limits import MAX_BEHIND_BYTES
from shadowcat_core.messages import MessageBatch
from shadowcat_core.stream import StreamTap
from shadowcat_core.tape.records import Chunk

BUDGETS = {16: (0.7, 10), 1: (1.2, 5)}
"""By events in a chunk: µs an event at most, and how many times less than one event at a time."""

NO_CATCHING_UP = 1 << 40


def three_interceptors() -> Pipeline:
    pipeline = Pipeline(on_asyncio(time.monotonic_ns))
    for interceptor in (Counter(), Deny(), ErrorLog()):
        pipeline.add(interceptor)
    return pipeline


class Watchers:
    """What the suite has on every stream: a tape's queue and a count of messages."""

    def __init__(self) -> None:
        self._queue: deque[Chunk] = deque(maxlen=20_000)
        self.messages = 0

    def record(self, at_ns: int, chunk: bytes) -> None:
        self._queue.append(Chunk(at_ns, 1, "s2c", chunk))

    def count(self, batch: MessageBatch) -> None:
        self.messages += len(batch)


def complain(error: Exception) -> None:
    raise error


def passed_on(chunks: Sequence[bytes]) -> Work:
    hand_on = lambda chunk: chunk  # noqa: E731 - what people write

    def run() -> None:
        for chunk in chunks:
            hand_on(chunk)

    return run


def watching(watchers: Watchers, max_behind_bytes: int = MAX_BEHIND_BYTES) -> StreamTap:
    return StreamTap(
        SseFraming(CONTEXT),
        clock_ns=time.monotonic_ns,
        on_failure=complain,
        chunk_sinks=[watchers.record],
        batch_sinks=[watchers.count],
        max_behind_bytes=max_behind_bytes,
    )


def watched(chunks: Sequence[bytes]) -> Work:
    """Everything that watching costs: at the chunk's passage, and when the watchers catch up."""

    def run() -> None:
        watchers = Watchers()
        tap = watching(watchers)
        for chunk in chunks:
            tap.watch(chunk)
        tap(b"")
        if watchers.messages != EVENTS:
            raise RuntimeError(f"{watchers.messages} messages seen of {EVENTS}")

    return run


def noted(chunks: Sequence[bytes]) -> Work:
    """What watching costs while a chunk passes; the rest is done when the stream is quiet."""

    def run() -> None:
        watchers = Watchers()
        tap = watching(watchers, max_behind_bytes=NO_CATCHING_UP)
        for chunk in chunks:
            tap.watch(chunk)

    return run


def judged(chunks: Sequence[bytes]) -> Work:
    wanted = sum(map(len, chunks))

    def run() -> None:
        tap = StreamTap(
            SseFraming(CONTEXT), clock_ns=time.monotonic_ns, on_failure=complain, pipeline=three_interceptors()
        )
        sent = 0
        for chunk in chunks:
            passed = tap.take(chunk)
            if isinstance(passed, bytes):
                sent += len(passed)
        tap(b"")
        if sent != wanted:
            raise RuntimeError(f"{sent} bytes sent of {wanted}")

    return run


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and give the figures; `quick` takes fewer rounds."""
    console = Console(width=130)
    console.print(f"Tap: {machine('orjson', 'httpx-sse')}")
    events = [event(typescript_order("params", members(n, 200), None), n) for n in range(EVENTS)]
    names = ("handed on", "noted", "watched", "judged", "per event, orjson", "per event, json")
    table = Table("a chunk", *names, "json / judged", title=f"µs an event of {len(events[0])} bytes")
    figures: list[Figure] = []
    for burst, (budget_us, factor) in BUDGETS.items():
        chunks = [b"".join(events[n : n + burst]) for n in range(0, EVENTS, burst)]
        works = (
            passed_on(chunks),
            noted(chunks),
            watched(chunks),
            judged(chunks),
            per_event_async(chunks, orjson.loads, lambda message: orjson.dumps(message).decode()),
            per_event_async(chunks, json.loads, json.dumps),
        )
        found = medians(dict(zip(names, works, strict=True)), EVENTS, 9 if quick else 31)
        gain = found["per event, json"] / found["judged"]
        table.add_row(
            f"{burst} event{'s' * (burst > 1)}", *(f"{ns / 1000:.3f}" for ns in found.values()), f"{gain:.1f} ×"
        )
        where = f"{burst} a chunk"
        figures += [
            Figure(f"tap, judged by three interceptors, {where}", found["judged"] / 1000, "µs", budget_us),
            Figure(f"tap, watched, {where}", found["watched"] / 1000, "µs"),
            Figure(f"tap, noted at passage, {where}", found["noted"] / 1000, "µs"),
            Figure(f"per event async / tap, judged, {where}", gain, "×", factor, "higher"),
        ]
    console.print(table)
    print_figures(console, "Tap", figures)
    return figures


if __name__ == "__main__":
    main("--quick" in sys.argv)
