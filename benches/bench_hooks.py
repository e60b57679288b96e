"""What each step from messages to batches gains, and what hooks cost beside mitmproxy's own dispatch.

    python -m benches.bench_hooks

CPU time of the thread, medians of interleaved rounds, framing and emission included. One in ten events is a log
message, which one interceptor counts in five ways:

- "async", "sync": it is shown every message and looks for itself.
- "declared": it declares the method, and is shown those messages alone.
- "a batch": it is given the batch.
- "watching": likewise, and it declares that it only watches, so hints will do.

"mcp_message" is the hook of an addon, which is shown every message like "sync". "mitmproxy's dispatch" is the same as a
hook of mitmproxy's own, triggered for each event over all addons of mitmdump.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mitmproxy import hooks, options
from mitmproxy.tools.dump import DumpMaster
from rich.console import Console
from rich.table import Table

from benches.bench_messages import CONTEXT, EVENTS, framing_alone, medians
from benches.bench_pipeline import LOG, through, workloads
from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_addons.addon_hooks import AddonHooks
from shadowcat_core.interceptors import Continue, Pipeline, Verdict, on_asyncio
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.sse import SseParser

type Work = Callable[[], object]

WORKLOAD: Final = "270 B, a tenth logs"
LOGS: Final = frozenset({LOG})
LOOKS: Final = 1_000
LOOK_BUDGET_US: Final = 3


class CountLogs:
    """Every message, one at a time."""

    seen = 0

    def intercept(self, message: Message) -> Verdict:
        self.seen += message.method == LOG
        return Continue()


class AwaitCountLogs(CountLogs):
    async def intercept(self, message: Message) -> Verdict:
        self.seen += message.method == LOG
        return Continue()


class CountDeclared(CountLogs):
    methods = LOGS


class CountInBatches:
    methods = LOGS
    seen = 0

    def intercept_batch(self, batch: MessageBatch) -> None:
        self.seen += len(batch.where(methods=LOGS, exact=True))


class CountWatching:
    methods = LOGS
    exact = False
    seen = 0

    def intercept_batch(self, batch: MessageBatch) -> None:
        self.seen += len(batch.where(methods=LOGS))


STEPS: Final = {
    "async": AwaitCountLogs,
    "sync": CountLogs,
    "declared": CountDeclared,
    "a batch": CountInBatches,
    "watching": CountWatching,
}


@dataclass
class BenchMessageHook(hooks.Hook):
    """One event, in mitmproxy's way."""

    message: Message


class CountInMitmproxysWay:
    seen = 0

    def bench_message(self, message: Message) -> None:
        self.seen += message.method == LOG


class Hooked:
    """A hook that says nothing."""

    seen = 0

    def mcp_message(self, message: Message) -> None:
        self.seen += message.method == LOG


def loaded(master: DumpMaster, addon: object) -> Callable[[], object]:
    """What stands in the pipeline for the hook of an addon, as `through` takes it."""
    pipeline = Pipeline(on_asyncio(time.perf_counter_ns))
    room = AddonHooks(pipeline)
    master.addons.add(addon)
    room.look()
    (stage,) = pipeline.stages
    return lambda: stage.interceptor


def dispatched(master: DumpMaster, chunks: Sequence[bytes]) -> Work:
    """A hook of mitmproxy's own for each event, driven without an event loop, so that only its own work is measured."""
    parser, trigger = SseParser(), master.addons.trigger_event

    def run() -> int:
        sent = 0
        for chunk in chunks:
            batch = MessageBatch(parser.feed(chunk), CONTEXT, 0)
            for message in batch:
                try:
                    trigger(BenchMessageHook(message)).send(None)
                except StopIteration:
                    continue
                raise RuntimeError("nobody waits here")
            sent += len(batch.emit())
        return sent

    return run


def steps(console: Console, master: DumpMaster, rounds: int) -> list[Figure]:
    """Compare the steps, a hook, and mitmproxy's own way."""
    hook = loaded(master, Hooked())
    master.addons.add(CountInMitmproxysWay())
    table = Table("a chunk", title=f"One interceptor, {WORKLOAD}; µs an event", title_justify="left")
    columns = ("framing", "nobody", *STEPS, "mcp_message", "mitmproxy's dispatch")
    for name in columns:
        table.add_column(name, justify="right")
    figures = []
    for burst in (16, 1):
        events = workloads()[WORKLOAD]
        chunks = [b"".join(events[n : n + burst]) for n in range(0, EVENTS, burst)]
        works = {"framing": framing_alone(chunks), "nobody": through(chunks)}
        works |= {name: through(chunks, interceptor) for name, interceptor in STEPS.items()}
        works |= {"mcp_message": through(chunks, hook), "mitmproxy's dispatch": dispatched(master, chunks)}
        found = medians(works, EVENTS, rounds)
        table.add_row(str(burst), *(f"{found[name] / 1000:.2f}" for name in columns))
        where = f"{burst} a chunk"
        figures += [Figure(f"{name}, {where}", found[name] / 1000, "µs") for name in columns]
        for name in ("sync", "declared", "a batch", "watching"):
            figures.append(Figure(f"async / {name}, {where}", found["async"] / found[name], "×", None, "higher"))
        dispatch = found["mitmproxy's dispatch"]
        figures.append(Figure(f"dispatch / mcp_message, {where}", dispatch / found["mcp_message"], "×", None, "higher"))
    console.print(table)
    return figures


def looking(master: DumpMaster, rounds: int) -> Figure:
    """What each exchange pays for nobody's hooks."""
    room = AddonHooks(Pipeline(on_asyncio(time.perf_counter_ns)))
    room.look()

    def look() -> None:
        for _ in range(LOOKS):
            room.look()

    look_ns = medians({"look": look}, LOOKS, rounds)["look"]
    return Figure(f"a look at {len(master.addons.lookup)} addons", look_ns / 1000, "µs", LOOK_BUDGET_US)


def main(quick: bool = False) -> list[Figure]:
    """Print the table and give the figures."""
    console = Console(width=130)
    console.print(machine("mitmproxy", "orjson"))
    rounds = 5 if quick else 11

    async def measured() -> list[Figure]:  # mitmproxy needs a loop, and so does what might wait
        master = DumpMaster(options.Options(), with_termlog=False, with_dumper=False)
        look = looking(master, rounds)
        return [look, *steps(console, master, rounds)]

    figures = asyncio.run(measured())
    gains = [figure for figure in figures if figure.unit == "×" or figure.budget is not None]
    print_figures(console, "Gains, and what a look costs", gains)
    return figures


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
