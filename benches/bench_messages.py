"""What it costs to know the messages of a stream: classification, and the batch path beside per-event interception.

    python -m benches.bench_messages

CPU time of the thread, medians of interleaved rounds. The baseline is what anybody would write first: one event at a
time through httpx-sse's decoder and the standard library's json, three awaited interceptors, and encoding anew.

Two batch paths: in "called", each interceptor gets every batch and looks for itself; in "declared", the two that say
what they care for are asked only when a chunk may hold it (`sole_hint`), and the third counts.
"""

import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import orjson
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from rich.console import Console
from rich.table import Table

from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.jsonrpc import Kind, classify
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import MessageBatch, MessageContext, sole_hint
from shadowcat_core.sse import SseParser

type Work = Callable[[], object]

EVENTS = 1_600
CONTEXT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP, "session", 1, "stream")
DENIED = frozenset({"tools/call"})
ERRORS = frozenset({Kind.ERROR})


def python_order(body: str, members: dict, request_id: int | None) -> bytes:
    """A message as the Python SDK writes it: version and id before the nested value."""
    head = {"jsonrpc": "2.0"} | ({} if request_id is None else {"id": request_id})
    rest = {"method": "notifications/progress", body: members} if request_id is None else {body: members}
    return orjson.dumps(head | rest)


def typescript_order(body: str, members: dict, request_id: int | None) -> bytes:
    """A message as the TypeScript SDK writes it: version and id behind the nested value."""
    rest = {"method": "notifications/progress", body: members} if request_id is None else {body: members}
    tail = {"jsonrpc": "2.0"} | ({} if request_id is None else {"id": request_id})
    return orjson.dumps(rest | tail)


def members(number: int, size: int) -> dict:
    """Nested content of about `size` bytes, with decoys of the names that matter."""
    rows = [
        {"id": row, "method": "tools/call", "text": "a line of text that a tool found", "score": row / 8}
        for row in range(max(0, size - 180) // 96)
    ]
    text = "x" * max(0, size - 110 - len(orjson.dumps(rows)))
    return {"progressToken": "t1", "progress": number, "rows": rows, "message": text}


def event(message: bytes, number: int, eol: bytes = b"\n") -> bytes:
    return eol.join((b"event: message", b"id: 3f1c_%06d" % number, b"data: " + message, b"", b""))


class Counter:
    """Counts every message."""

    seen = 0

    def count(self, messages: int) -> None:
        self.seen += messages

    def intercept_batch(self, batch: MessageBatch) -> None:
        self.seen += len(batch)


class Deny:
    """Drops calls of tools."""

    def intercept_batch(self, batch: MessageBatch) -> None:
        for position, _ in batch.where(methods=DENIED):
            batch.drop(position)


class ErrorLog:
    """Keeps errors."""

    def __init__(self) -> None:
        self.errors: list[bytes] = []

    def intercept_batch(self, batch: MessageBatch) -> None:
        for _, message in batch.where(kinds=ERRORS):
            self.errors.append(message.raw)


def called(chunks: Sequence[bytes]) -> Work:
    def run() -> int:
        parser = SseParser()
        interceptors = [one.intercept_batch for one in (Counter(), Deny(), ErrorLog())]
        sent = 0
        for chunk in chunks:
            batch = MessageBatch(parser.feed(chunk), CONTEXT, 0)
            for intercept in interceptors:
                intercept(batch)
            sent += len(batch.emit())
        return sent

    return run


def declared(chunks: Sequence[bytes]) -> Work:
    def run() -> int:
        parser, counter = SseParser(), Counter()
        interceptors = [one.intercept_batch for one in (counter, Deny(), ErrorLog())]
        sent = 0
        for chunk in chunks:
            frames = parser.feed(chunk)
            hint = sole_hint(frames)
            if hint is not None and hint.method not in DENIED and hint.kind not in ERRORS:
                counter.count(1)
                sent += len(frames.buffer)
                continue
            batch = MessageBatch(frames, CONTEXT, 0)
            for intercept in interceptors:
                intercept(batch)
            sent += len(batch.emit())
        return sent

    return run


def framing_alone(chunks: Sequence[bytes]) -> Work:
    def run() -> None:
        feed = SseParser().feed
        for chunk in chunks:
            feed(chunk)

    return run


def awaited_interceptors() -> list[Callable[[dict], Awaitable[dict | None]]]:
    errors: list[dict] = []
    seen = 0

    async def count(message: dict) -> dict | None:
        nonlocal seen
        seen += 1
        return message

    async def deny(message: dict) -> dict | None:
        return None if message.get("method") == "tools/call" else message

    async def keep_errors(message: dict) -> dict | None:
        if "error" in message:
            errors.append(message)
        return message

    return [count, deny, keep_errors]


def per_event_async(chunks: Sequence[bytes], loads: Callable, dumps: Callable) -> Work:
    """The baseline, driven without an event loop, so that only its own work is measured."""

    async def main() -> int:
        lines, events, interceptors = SSELineDecoder(), SSEDecoder(), awaited_interceptors()
        sent = 0
        for chunk in chunks:
            out = []
            for line in lines.decode(chunk.decode()):
                sse = events.decode(line)
                if sse is None:
                    continue
                message = loads(sse.data)
                for intercept in interceptors:
                    message = await intercept(message)
                    if message is None:
                        break
                else:
                    out.append(f"event: {sse.event}\nid: {sse.id}\ndata: {dumps(message)}\n\n".encode())
            sent += len(b"".join(out))
        return sent

    def run() -> int:
        try:
            main().send(None)
        except StopIteration as done:
            return done.value
        raise RuntimeError("the baseline never suspends")

    return run


def medians(works: dict[str, Work], count: int, rounds: int) -> dict[str, float]:
    """Nanoseconds per item of each work: medians over rounds in which all take turns."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            started = time.thread_time_ns()
            work()
            samples[name].append((time.thread_time_ns() - started) / count)
    return {name: statistics.median(taken) for name, taken in samples.items()}


def repeated(function: Callable[[bytes], object], message: bytes, times: int) -> Work:
    def run() -> None:
        for _ in range(times):
            function(message)

    return run


def classification(console: Console, rounds: int) -> list[Figure]:
    table = Table(
        "message", "bytes", "classify", "orjson.loads", "json.loads", title="Classification, ns a message",
        title_justify="left",
    )  # fmt: skip
    figures = []
    for order, write in {"Python order": python_order, "TypeScript order": typescript_order}.items():
        for body, request_id in {"params": None, "result": 17}.items():
            for size in (200, 1_000, 20_000):
                message = write(body, members(3, size), request_id)
                times = 400 if size < 20_000 else 20
                found = medians(
                    {
                        "classify": repeated(classify, message, times),
                        "orjson": repeated(orjson.loads, message, times),
                        "json": repeated(json.loads, message, times),
                    },
                    times,
                    rounds,
                )
                name = f"{order}, {'notification' if request_id is None else 'response'}"
                table.add_row(name, f"{len(message):,}", *(f"{ns:,.0f}" for ns in found.values()))
                figures.append(Figure(f"classify {name} {size:,} B", found["classify"], "ns"))
    console.print(table)
    return figures


def interception(console: Console, rounds: int) -> list[Figure]:
    table = Table("events", "a chunk", title="Framing, classification, three interceptors, emission; µs an event")
    for column in ("framing", "called", "declared", "async, orjson", "async, json"):
        table.add_column(column, justify="right")
    figures = []
    for name, events in workloads().items():
        for burst, budget_us, factor in ((16, 0.7, 10), (1, 1.2, 5)):
            chunks = [b"".join(events[n : n + burst]) for n in range(0, EVENTS, burst)]
            found = medians(
                {
                    "framing": framing_alone(chunks),
                    "called": called(chunks),
                    "declared": declared(chunks),
                    "orjson": per_event_async(chunks, orjson.loads, lambda message: orjson.dumps(message).decode()),
                    "json": per_event_async(chunks, json.loads, json.dumps),
                },
                EVENTS,
                rounds,
            )
            table.add_row(name, str(burst), *(f"{ns / 1000:.2f}" for ns in found.values()))
            for path in ("called", "declared"):
                held = name == "270 B"
                where = f"{path}, {name}, {burst} a chunk"
                figures += [
                    Figure(where, found[path] / 1000, "µs", budget_us if held else None),
                    Figure(f"async / {where}", found["json"] / found[path], "×", factor if held else None, "higher"),
                ]
    console.print(table)
    return figures


def workloads() -> dict[str, list[bytes]]:
    """Events by name: notifications in both SDKs' forms, with answers among them, and larger ones."""
    numbers = range(EVENTS)
    small = [typescript_order("params", members(n, 200), None) for n in numbers]
    answers = [typescript_order("result", members(n, 200), n) for n in numbers]
    large = [typescript_order("params", members(n, 1_000), None) for n in numbers]
    return {
        "270 B": [event(small[n], n) for n in numbers],
        "270 B, CRLF": [event(python_order("params", members(n, 200), None), n, b"\r\n") for n in numbers],
        "270 B, a tenth answers": [event(answers[n] if n % 10 == 9 else small[n], n) for n in numbers],
        "1 KB": [event(large[n], n) for n in numbers],
    }


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and give the figures."""
    console = Console()
    console.print(machine("orjson", "httpx-sse"))
    rounds = 7 if quick else 21
    figures = classification(console, rounds) + interception(console, rounds)
    print_figures(console, "Budgets", [figure for figure in figures if figure.budget is not None])
    return figures


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
