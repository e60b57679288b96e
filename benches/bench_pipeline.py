"""What it costs to judge the messages of a stream: three interceptors of batches, and of single messages.

    python -m benches.bench_pipeline

CPU time of the thread, medians of interleaved rounds, framing included. The baseline is that of `bench_messages`: one
event at a time through httpx-sse's decoder and a JSON library, three awaited interceptors, and encoding anew.

- "for nobody": the interceptors declare what they care for, which is none of the events. One of them decides, so the
  bytes must prove that it is none of the events.
- "watched": the same with three that only watch, and go by hints.
- "for one": one of the three is shown every event.
- "a tenth edited": one of the three redacts every tenth event.
- "edits": the same beside an edit of the bytes, and beside one by hand, which is the least that an edit can take:
  framing, classification, the proof that there is no other method, one parse, one dump, and joining the pieces.
- "adapted": three interceptors of single messages that declare nothing, sync and async, unchanged in a pipeline.
"""

import asyncio
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence

import orjson
from rich.console import Console
from rich.table import Table

from benches.bench_messages import (
    CONTEXT,
    DENIED,
    ERRORS,
    EVENTS,
    Counter,
    event,
    framing_alone,
    medians,
    members,
    per_event_async,
    python_order,
    typescript_order,
)
from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.interceptors import Block, Continue, Pipeline, Verdict, on_asyncio
from shadowcat_core.jsonrpc import classify_burst, dump, parse
from shadowcat_core.messages import Message, MessageBatch, proves_methods
from shadowcat_core.sse import SseParser

type Work = Callable[[], object]

LOG = "notifications/message"
TEXT = re.compile(rb'"message":"[^"]*"')
REDACTED = b'"message":"[redacted]"'
PACE_HZ = 1_000
PACED_PER_TICK = 10
PACED_S = 1.0


class Deny:
    """Blocks calls of tools; it decides, so it must not be deceived."""

    methods = DENIED

    def intercept_batch(self, batch: MessageBatch) -> None:
        for position, _ in batch.where(methods=DENIED, exact=True):
            batch.block(position, "tools are not to be called")


class CallLog:
    """Counts calls of tools; it only watches."""

    methods = DENIED
    exact = False
    seen = 0

    def intercept_batch(self, batch: MessageBatch) -> None:
        self.seen += len(batch.where(methods=self.methods))


class ErrorLog:
    """Keeps errors; it only watches."""

    kinds = ERRORS
    exact = False

    def __init__(self) -> None:
        self.errors: list[bytes] = []

    def intercept_batch(self, batch: MessageBatch) -> None:
        for _, message in batch.where(kinds=ERRORS):
            self.errors.append(message.raw)


class ListWatch:
    """Counts changes of tool lists; it only watches."""

    methods = frozenset({"notifications/tools/list_changed"})
    exact = False
    seen = 0

    def intercept_batch(self, batch: MessageBatch) -> None:
        self.seen += len(batch.where(methods=self.methods))


class Redact:
    """Takes the text out of log messages."""

    methods = frozenset({LOG})

    def intercept_batch(self, batch: MessageBatch) -> None:
        for position, message in batch.where(methods=self.methods, exact=True):
            payload = message.payload
            batch.replace(position, {**payload, "params": {**payload["params"], "message": "[redacted]"}})


class RedactBytes:
    """The same without a look at the payload; what it makes is parsed all the same, to be sure of it."""

    methods = frozenset({LOG})

    def intercept_batch(self, batch: MessageBatch) -> None:
        for position, message in batch.where(methods=self.methods, exact=True):
            batch.replace(position, TEXT.sub(REDACTED, message.raw))


def redacted_by_hand(chunks: Sequence[bytes]) -> Work:
    """What all three do to these chunks, without interceptors, messages, records, or a way back."""
    parser = SseParser()

    def run() -> int:
        sent = 0
        for chunk in chunks:
            frames = parser.feed(chunk)
            buffer, records = frames.buffer, frames.records
            usual, others = classify_burst(buffer, records)
            proves_methods(len(records), buffer)
            logs = [at for at in range(len(records)) if others.get(at, usual).method == LOG] if others else ()
            pieces, kept = [], 0
            for at in logs:
                _, _, start, end = records[at]
                payload = parse(buffer[start:end])
                edited = {**payload, "params": {**payload["params"], "message": "[redacted]"}}
                pieces += (buffer[kept:start], dump(edited))
                kept = end
            sent += len(b"".join((*pieces, buffer[kept:])))
        return sent

    return run


class CountEach:
    """The three of the baseline, as interceptors of single messages. This one counts."""

    seen = 0

    def intercept(self, message: Message) -> Verdict:  # noqa: ARG002 -- a shape
        self.seen += 1
        return Continue()


class DenyEach:
    def intercept(self, message: Message) -> Verdict:
        return Block("no") if message.method == "tools/call" else Continue()


class ErrorsOfEach:
    def __init__(self) -> None:
        self.errors: list[Message] = []

    def intercept(self, message: Message) -> Verdict:
        if message.kind in ERRORS:
            self.errors.append(message)
        return Continue()


class AwaitCountEach(CountEach):
    async def intercept(self, message: Message) -> Verdict:  # noqa: ARG002 -- likewise
        self.seen += 1
        return Continue()


class AwaitDenyEach:
    async def intercept(self, message: Message) -> Verdict:
        return Block("no") if message.method == "tools/call" else Continue()


class AwaitErrorsOfEach(ErrorsOfEach):
    async def intercept(self, message: Message) -> Verdict:
        if message.kind in ERRORS:
            self.errors.append(message)
        return Continue()


SYNC = (CountEach, DenyEach, ErrorsOfEach)
ASYNC = (AwaitCountEach, AwaitDenyEach, AwaitErrorsOfEach)


def through(chunks: Sequence[bytes], *interceptors: type) -> Work:
    """A stream through a pipeline, in the way of a tap."""
    pipeline = Pipeline(on_asyncio(time.perf_counter_ns))
    for interceptor in interceptors:
        pipeline.add(interceptor())
    direction = CONTEXT.direction
    parser = SseParser()

    def run() -> int:
        sent = 0
        for chunk in chunks:
            frames = parser.feed(chunk)
            if pipeline.passes(frames, direction):
                sent += len(frames.buffer)
                continue
            batch = MessageBatch(frames, CONTEXT, 0)
            if pipeline.run(batch) is not None:
                raise RuntimeError("nobody waits here")
            sent += len(batch.emit())
        return sent

    return run


def workloads() -> dict[str, list[bytes]]:
    """Events by name: progress in the form of both SDKs, a tenth of them log messages, and large ones."""
    numbers = range(EVENTS)
    progress = [typescript_order("params", members(n, 200), None) for n in numbers]
    logs = [each.replace(b"notifications/progress", LOG.encode()) for each in progress]
    large = [typescript_order("params", {"progress": n, "message": "x" * 860}, None) for n in numbers]
    decoys = [typescript_order("params", members(n, 1_000), None) for n in numbers]
    return {
        "270 B": [event(progress[n], n) for n in numbers],
        "270 B, CRLF": [event(python_order("params", members(n, 200), None), n, b"\r\n") for n in numbers],
        "270 B, a tenth logs": [event(logs[n] if n % 10 == 9 else progress[n], n) for n in numbers],
        "1 KB": [event(large[n], n) for n in numbers],
        "1 KB, with decoys": [event(decoys[n], n) for n in numbers],
    }


BUDGETS_US = {"for nobody": {16: 0.7, 1: 1.2}, "watched": {16: 0.7, 1: 1.2}, "a tenth edited": {16: 1.0}}
COLUMNS = ("framing", "watched", "for nobody", "for one", "a tenth edited", "adapted, sync", "adapted, async",
           "async, orjson", "async, json")  # fmt: skip
FACTORS = {16: 10, 1: 5}


def judging(console: Console, rounds: int) -> list[Figure]:
    """Compare the pipeline with the baseline, for all workloads."""
    table = Table("events", "a chunk", title="Framing, three interceptors, emission; µs an event", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    figures = []
    for workload, events in workloads().items():
        for burst, factor in FACTORS.items():
            chunks = [b"".join(events[n : n + burst]) for n in range(0, EVENTS, burst)]
            found = medians(
                {
                    "framing": framing_alone(chunks),
                    "watched": through(chunks, CallLog, ErrorLog, ListWatch),
                    "for nobody": through(chunks, Deny, ErrorLog, ListWatch),
                    "for one": through(chunks, Counter, Deny, ErrorLog),
                    "a tenth edited": through(chunks, Deny, ErrorLog, Redact),
                    "adapted, sync": through(chunks, *SYNC),
                    "adapted, async": through(chunks, *ASYNC),
                    "async, orjson": per_event_async(chunks, orjson.loads, lambda each: orjson.dumps(each).decode()),
                    "async, json": per_event_async(chunks, json.loads, json.dumps),
                },
                EVENTS,
                rounds,
            )
            table.add_row(workload, str(burst), *(f"{found[name] / 1000:.2f}" for name in COLUMNS))
            figures += _figures(workload, burst, factor, found)
    console.print(table)
    return figures


def _figures(workload: str, burst: int, factor: float, found: dict[str, float]) -> list[Figure]:
    where = f"{workload}, {burst} a chunk"
    baseline = found["async, json"]
    held = workload == "270 B"  # to its budgets
    figures = []
    for path in ("watched", "for nobody", "for one"):
        budget_us = BUDGETS_US.get(path, {}).get(burst) if held else None
        figures += [
            Figure(f"{path}, {where}", found[path] / 1000, "µs", budget_us),
            Figure(f"async / {path}, {where}", baseline / found[path], "×", budget_us and factor, "higher"),
        ]
    if workload == "270 B, a tenth logs":
        budget_us = BUDGETS_US["a tenth edited"].get(burst)
        figures.append(Figure(f"a tenth edited, {where}", found["a tenth edited"] / 1000, "µs", budget_us))
    for style in ("sync", "async"):
        name = f"adapted, {style}"
        figures.append(Figure(f"{name} / async, {where}", found[name] / baseline, "×", 1.3 if held else None))
    return figures


def edits(console: Console, rounds: int) -> list[Figure]:
    """Compare ways to edit every tenth event of bursts."""
    events = workloads()["270 B, a tenth logs"]
    chunks = [b"".join(events[n : n + 16]) for n in range(0, EVENTS, 16)]
    works = {
        "for nobody": through(chunks, Deny, ErrorLog, ListWatch),
        "payloads": through(chunks, Deny, ErrorLog, Redact),
        "bytes": through(chunks, Deny, ErrorLog, RedactBytes),
        "by hand": redacted_by_hand(chunks),
    }
    found = medians(works, EVENTS, rounds)
    table = Table(*works, title="A tenth edited, 16 a chunk; µs an event", title_justify="left")
    table.add_row(*(f"{ns / 1000:.2f}" for ns in found.values()))
    console.print(table)
    return [Figure(f"a tenth edited, {way}, 16 a chunk", found[way] / 1000, "µs") for way in ("bytes", "by hand")]


def paced_cpu(work: Callable[[int], object]) -> float:
    """CPU seconds a second, of this thread, when `work` is called for every event of 10,000 a second."""
    ticks = int(PACE_HZ * PACED_S)
    began, began_cpu_ns = time.perf_counter(), time.thread_time_ns()
    for tick in range(ticks):
        for number in range(PACED_PER_TICK):
            work(tick * PACED_PER_TICK + number)
        due = began + (tick + 1) / PACE_HZ
        time.sleep(max(0.0, due - time.perf_counter()))
    return (time.thread_time_ns() - began_cpu_ns) / 1e9 / PACED_S


def paced(console: Console, rounds: int) -> list[Figure]:
    """Compare the CPU that 10,000 events a second take, one a chunk, with nothing else to keep the caches warm."""
    chunks = workloads()["270 B"]
    singles = {
        "nothing": lambda _: None,
        "pipeline": through(chunks[:1], Deny, ErrorLog, ListWatch),
        "baseline": per_event_async(chunks[:1], json.loads, json.dumps),
    }
    samples: dict[str, list[float]] = {name: [] for name in singles}
    for _ in range(rounds):
        for name, work in singles.items():
            samples[name].append(paced_cpu(work if name == "nothing" else lambda _, work=work: work()))
    percent = {name: 100 * sorted(taken)[len(taken) // 2] for name, taken in samples.items()}
    table = Table("10,000 events a second, one a chunk", "CPU", title="Share of one core", title_justify="left")
    for name, value in percent.items():
        table.add_row(name, f"{value:.1f} %")
    console.print(table)
    own = {name: value - percent["nothing"] for name, value in percent.items()}
    saved = 100 * (1 - own["pipeline"] / own["baseline"])
    return [
        Figure("pipeline at 10,000 events/s, above an idle ticker", own["pipeline"], "% of a core"),
        Figure("saved of the baseline's CPU at 10,000 events/s", saved, "%", 70, "higher"),
    ]


def memory(streams: int = 200, events_each: int = 500) -> Figure:
    """Peak memory of this whole process after many streams, each holding a batch, had the same pipeline."""

    async def main() -> None:
        class Wait:
            methods = frozenset({LOG})

            async def intercept_batch(self, batch: MessageBatch) -> None:  # noqa: ARG002 -- likewise
                await asyncio.Event().wait()

        pipeline = Pipeline(on_asyncio(time.perf_counter_ns))
        for interceptor in (Deny(), ErrorLog(), Wait()):
            pipeline.add(interceptor)
        events = workloads()["270 B, a tenth logs"]
        pending = []
        for _ in range(streams):
            parser = SseParser()
            for number in range(events_each):
                batch = MessageBatch(parser.feed(events[number % 9]), CONTEXT, 0)
                pipeline.run(batch)
            pending.append(pipeline.run(MessageBatch(parser.feed(b"".join(events[:16])), CONTEXT, 0)))
        for running in pending:
            running.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    asyncio.run(main())
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Figure(f"peak memory of the process, {streams} streams that wait", peak_kib / 1024, "MB", 100)


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and give the figures."""
    console = Console(width=130)
    console.print(machine("orjson", "httpx-sse"))

    async def judged() -> list[Figure]:  # what waits needs a loop, and so does what only might
        rounds = 5 if quick else 11
        return judging(console, rounds) + edits(console, rounds)

    figures = asyncio.run(judged())
    figures += paced(console, 1 if quick else 3)
    figures.append(memory())
    print_figures(console, "Budgets", [figure for figure in figures if figure.budget is not None])
    return figures


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
