"""What the suite costs where it works: real mitmdump processes between a load client and a load origin.

    python -m benches.bench_proxy

The peer is mitmproxy with a one-line script that streams event streams (`stream_events.py`); the ways to the origin
take turns in rounds, and a budget holds for the ratio or the difference to the peer within a round, so that a busy
machine slows both. Processor time is the proxy's own, from the kernel's scheduler (Linux).
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches.figures import Figure
from benches.load_client import Client, take_all
from benches.load_origin import EVENT_BYTES, SLAB_EVENTS, Stream
from benches.proxies import IDLE, ORIGIN, PLAIN, RECORDING, Variant, Variants
from benches.report import machine, number, print_figures

FLOOD_EVENTS = 12_000
PACE_PER_S = 1_000
STREAMS = 100
STREAM_PER_S = 10
SESSIONS = 200
LONG_BYTES = 100_000_000
LONG_TOGETHER = 16

FLOOD = "saturated, one event a chunk"
IDLE_SESSION = "memory, an idle session"
LONG_STREAM = "memory, one long stream"
ACTIVE_EXCHANGE = "memory, an active exchange"


@dataclass(slots=True)
class Rounds:
    """What one measure found, by variant: one number a round, rounds in the same order for all."""

    unit: str
    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, variant: str, value: float) -> None:
        self.found.setdefault(variant, []).append(value)

    def median(self, variant: str) -> float:
        return statistics.median(self.found[variant])

    def ratio(self, variant: str) -> float:
        """To the peer, within a round; the median of all rounds."""
        return statistics.median(a / b for a, b in zip(self.found[variant], self.found[PLAIN], strict=True))

    def added(self, variant: str) -> float:
        """Beyond the peer, within a round; the median of all rounds."""
        return statistics.median(a - b for a, b in zip(self.found[variant], self.found[PLAIN], strict=True))


type Measures = dict[str, Rounds]


def turns(variants: Sequence[Variant], rounds: int) -> Iterator[Variant]:
    """Give each variant once a round, another one first every time."""
    for number_ in range(rounds):
        shift = number_ % len(variants)
        yield from [*variants[shift:], *variants[:shift]]


def share(values: Sequence[float], part: float) -> float:
    """The value that `part` of the others stay under."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def used_ns(variant: Variant, work: Callable[[], object]) -> tuple[int, int]:
    """Processor time of the proxy's event loop, and of all its threads, while `work` ran."""
    loop, process = variant.main_thread_ns(), variant.process_ns()
    work()
    return variant.main_thread_ns() - loop, variant.process_ns() - process


def tool_calls(variants: Variants, rounds: int, calls: int) -> Measures:
    """A small JSON POST and its answer on a kept-alive connection."""
    p50, p95, cpu = Rounds("µs"), Rounds("µs"), Rounds("µs")
    with ExitStack() as stack:
        clients = {name: stack.enter_context(Client(way.port)) for name, way in variants.all.items()}
        for client in clients.values():
            client.calls(calls)
        for way in turns(list(variants.all.values()), rounds):
            found: list[float] = []
            loop_ns, _ = used_ns(way, lambda: found.extend(clients[way.name].calls(calls)))  # noqa: B023 - runs at once
            p50.add(way.name, share(found, 0.5))
            p95.add(way.name, share(found, 0.95))
            cpu.add(way.name, loop_ns / calls / 1000)
    return {"tool call, p50": p50, "tool call, p95": p95, "tool call, loop CPU": cpu}


def saturated(variants: Variants, rounds: int) -> Measures:
    """One stream as fast as it goes, an event in each HTTP chunk."""
    rate, loop_cpu, all_cpu = Rounds("chunks/s"), Rounds("µs"), Rounds("µs")
    stream = Stream(FLOOD_EVENTS)
    with ExitStack() as stack:
        clients = {name: stack.enter_context(Client(way.port)) for name, way in variants.all.items()}
        for client in clients.values():
            client.flood(Stream(2_000))
        for way in turns(list(variants.all.values()), rounds):
            found: list[float] = []
            loop_ns, all_ns = used_ns(way, lambda: found.append(clients[way.name].flood(stream)))  # noqa: B023
            rate.add(way.name, FLOOD_EVENTS / found[0])
            loop_cpu.add(way.name, loop_ns / FLOOD_EVENTS / 1000)
            all_cpu.add(way.name, all_ns / FLOOD_EVENTS / 1000)
    return {
        FLOOD: rate,
        "saturated, loop CPU a chunk": loop_cpu,
        "saturated, CPU of all threads a chunk": all_cpu,
    }


def paced(variants: Variants, rounds: int, events: int) -> Measures:
    """One stream of 1,000 events a second: how long each event takes from the origin's write to the client's read."""
    p50, p95, cpu = Rounds("µs"), Rounds("µs"), Rounds("µs")
    with ExitStack() as stack:
        clients = {name: stack.enter_context(Client(way.port)) for name, way in variants.all.items()}
        for way in turns(list(variants.all.values()), rounds):
            found: list[float] = []
            stream = Stream(events, per_s=PACE_PER_S)
            loop_ns, _ = used_ns(way, lambda: found.extend(clients[way.name].drip(stream)))  # noqa: B023
            p50.add(way.name, share(found, 0.5))
            p95.add(way.name, share(found, 0.95))
            cpu.add(way.name, loop_ns / events / 1000)
    return {"1,000 events/s, p50": p50, "1,000 events/s, p95": p95, "1,000 events/s, loop CPU an event": cpu}


def many_streams(variants: Variants, rounds: int) -> Measures:
    """A hundred streams at once, ten events a second each."""
    p50, p95 = Rounds("µs"), Rounds("µs")
    stream = Stream(STREAM_PER_S, per_s=STREAM_PER_S, party=STREAMS)
    for way in turns(list(variants.all.values()), rounds):
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(way.port, f"session {n}")) for n in range(STREAMS)]
            found = take_all(clients, stream)
        p50.add(way.name, share(found, 0.5))
        p95.add(way.name, share(found, 0.95))
    return {"100 streams, p50": p50, "100 streams, p95": p95}


def memory(variants: Variants, long_bytes: int) -> Measures:
    """What a session costs that rests, one long stream at its worst, and a hundred at once that fill what is kept.

    Each begins while the one before is still there, so that no memory is counted twice or used again.
    """
    idle, long, active, rate = Rounds("KB"), Rounds("KB"), Rounds("KB"), Rounds("MB/s")
    stream = Stream(long_bytes // EVENT_BYTES, LONG_TOGETHER)
    full = Stream(SLAB_EVENTS, LONG_TOGETHER, party=STREAMS)
    for way in variants.proxied:
        with ExitStack() as stack:
            before = way.resident_bytes()
            for n in range(SESSIONS):
                stack.enter_context(Client(way.port, f"session {n}")).calls(1)
            idle.add(way.name, (way.resident_bytes() - before) / SESSIONS / 1000)

            before = way.forget_peak()
            elapsed = stack.enter_context(Client(way.port)).flood(stream)
            long.add(way.name, (way.peak_bytes() - before) / 1000)
            rate.add(way.name, stream.data_bytes / elapsed / 1e6)

            before = way.forget_peak()
            take_all([stack.enter_context(Client(way.port, f"stream {n}")) for n in range(STREAMS)], full)
            active.add(way.name, (way.peak_bytes() - before) / STREAMS / 1000)
    return {
        IDLE_SESSION: idle,
        LONG_STREAM: long,
        ACTIVE_EXCHANGE: active,
        f"the long stream of {long_bytes // 1_000_000} MB, 16 events a chunk": rate,
    }


def warm_up(variants: Variants) -> None:
    """Let every proxy import, compile and allocate what it does once."""
    for way in variants.proxied:
        with Client(way.port) as client:
            client.calls(100)
            client.flood(Stream(1_000))
            client.flood(Stream(1_000, LONG_TOGETHER))
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(way.port)) for _ in range(10)]
            take_all(clients, Stream(5, per_s=100, party=10))


def figures_of(measures: Measures) -> list[Figure]:
    """What the measures say beside the budgets."""
    figures = []
    for variant in (IDLE, RECORDING):

        def more(name: str, budget: float | None = None, variant: str = variant) -> Figure:
            percent = (measures[name].ratio(variant) - 1) * 100
            return Figure(f"{name}, {variant}, added", percent, "%", budget)

        def added(name: str, budget: float | None = None, variant: str = variant) -> Figure:
            return Figure(f"{name}, {variant}, added", measures[name].added(variant), measures[name].unit, budget)

        def whole(name: str, budget: float, variant: str = variant) -> Figure:
            return Figure(f"{name}, {variant}", measures[name].median(variant), measures[name].unit, budget)

        rate = measures[FLOOD].ratio(variant) * 100
        figures += [
            more("tool call, p50", 2),
            more("tool call, p95", 5),
            added("tool call, loop CPU"),
            added("1,000 events/s, p50", 10),
            added("1,000 events/s, p95"),
            Figure(f"{FLOOD}, {variant}, of the peer's rate", rate, "%", 90, "higher"),
            added("100 streams, p50"),
            whole(IDLE_SESSION, 100),
            whole(LONG_STREAM, 1_000),
            whole(ACTIVE_EXCHANGE, 1_000),
        ]
    return figures


def print_measures(console: Console, measures: Measures) -> None:
    names = (ORIGIN, PLAIN, IDLE, RECORDING)
    table = Table("medians", *(name for name in names))
    for name, rounds in measures.items():
        cells = [f"{number(rounds.median(way))} {rounds.unit}" if way in rounds.found else "" for way in names]
        table.add_row(name, *cells)
    console.print(table)


def main(quick: bool = False) -> list[Figure]:
    """Print what was measured, and the figures with their budgets; `quick` takes fewer rounds."""
    console = Console(width=130)
    console.print(f"Proxy: {machine('mitmproxy')}")
    measures: Measures = {}
    with tempfile.TemporaryDirectory() as name, Variants(Path(name)) as variants:
        warm_up(variants)
        # Memory first: what a proxy has once taken it uses again, and takes no more.
        measures |= memory(variants, LONG_BYTES // 4 if quick else LONG_BYTES)
        measures |= tool_calls(variants, 12 if quick else 30, 60)
        measures |= saturated(variants, 3 if quick else 9)
        measures |= paced(variants, 3 if quick else 7, 300 if quick else 400)
        measures |= many_streams(variants, 1 if quick else 2)
        if variants.tape_bytes < EVENT_BYTES * FLOOD_EVENTS:
            raise RuntimeError("the suite did not record: its figures mean nothing")
    print_measures(console, measures)
    figures = figures_of(measures)
    print_figures(console, "Proxy, against mitmproxy with stream=True", figures)
    return figures


if __name__ == "__main__":
    main("--quick" in sys.argv)
