"""What metrics cost: a scrape of a busy proxy, and what passes while nobody scrapes.

    python -m benches.bench_metrics

CPU time of the thread, medians of interleaved rounds. The proxy has 1,000 streams that run, ten upstreams, and three
interceptors. "read" is what `ProxyMetrics` makes of its counters, "text" and "OpenMetrics" are whole answers. A chunk
of one event passes a tap that watches, with nothing of metrics made, and with a server of them listening. "a counter"
is one count: a plain int, as they are here, beside a `Counter` of the library, without labels and with two.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import orjson
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from rich.console import Console
from rich.table import Table

from benches.bench_messages import medians
from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.framing import SseFraming
from shadowcat_core.interceptors import Continue, Pipeline, Verdict, on_asyncio
from shadowcat_core.listen_address import ListenAddress
from shadowcat_core.mcp import Direction, Recognition, RecognitionKind
from shadowcat_core.messages import Message
from shadowcat_core.metrics import MetricsServer, ProxyMetrics, RelayState
from shadowcat_core.relay import Relay, relay_of
from shadowcat_core.sessions.lifecycle import Answer
from shadowcat_core.stream import StreamTap
from shadowcat_core.upstreams import Fleet, parse_upstreams

STREAMS: Final = 1_000
UPSTREAMS: Final = 10
CHUNKS: Final = 2_000
COUNTS: Final = 10_000
INTERVAL_S: Final = 15
"""How often Prometheus asks by habit."""
EVENT: Final = (
    b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,'
    b'"progress":1,"total":100,"message":"' + b"x" * 130 + b'"}}\n\n'
)


class Watch:
    def intercept(self, _message: Message) -> Verdict:
        return Continue()


class Plain:
    count = 0


async def nobody(*_asked: object) -> Answer:
    raise ConnectionRefusedError


def fail(error: Exception) -> None:
    raise error


def tap_of(registry: ExchangeRegistry, flow_id: str) -> StreamTap:
    """A stream that runs."""
    exchange = registry.open(flow_id, Recognition(RecognitionKind.MESSAGES, "a bench"), b"")
    exchange.tap = StreamTap(
        SseFraming(exchange.context(Direction.SERVER_TO_CLIENT)), clock_ns=time.monotonic_ns, on_failure=fail
    )
    return exchange.tap


def relay_in(folder: Path) -> Relay:
    upstreams = [{"name": f"up-{n}", "url": f"http://127.0.0.1:{3000 + n}/mcp"} for n in range(UPSTREAMS)]
    document = {"routes": [{"name": "main", "path": "/mcp", "upstreams": upstreams}]}
    file = parse_upstreams(orjson.dumps(document), Path("upstreams.json"))
    fleet = Fleet(file, clock=time.monotonic, random=Random())
    return relay_of(file, fleet, key_file=folder / "key", ask=nobody)


def busy(relay: Relay) -> ProxyMetrics:
    """The metrics of a proxy that has much to tell."""
    registry = ExchangeRegistry(time.monotonic_ns, on_failure=fail)
    for number in range(STREAMS):
        tap = tap_of(registry, str(number))
        for _ in range(3):
            tap(EVENT)
            tap.catch_up()
    pipeline = Pipeline(on_asyncio(time.perf_counter_ns))
    for name in ("one", "two", "three"):
        pipeline.add(Watch(), name=name)
    return ProxyMetrics(
        registry, pipeline, versions={"version": "0"}, relay=lambda: RelayState(relay, {"up-1": STREAMS}, False)
    )


def scrapes(console: Console, metrics: ProxyMetrics, rounds: int) -> list[Figure]:
    """How long a scrape holds the event loop."""
    works: dict[str, Callable[[], object]] = {
        "read": lambda: list(metrics.collect()),
        "text": lambda: generate_latest(metrics),
        "OpenMetrics": lambda: generate_openmetrics(metrics),
    }
    found = medians(works, 1, rounds)
    table = Table("a scrape", title=f"{STREAMS:,} streams, {UPSTREAMS} upstreams; µs", title_justify="left")
    table.add_column("µs", justify="right")
    for name, took_ns in found.items():
        table.add_row(name, f"{took_ns / 1000:,.0f}")
    console.print(table)
    share = found["text"] / (INTERVAL_S * 1e9) * 100
    return [
        *(Figure(f"a scrape, {name}", took_ns / 1000, "µs", 10_000) for name, took_ns in found.items()),
        Figure(f"CPU at a scrape every {INTERVAL_S} s", share, "%", 1),
    ]


async def passing(console: Console, metrics: ProxyMetrics, rounds: int) -> list[Figure]:
    """What passes while nobody asks."""
    registry = ExchangeRegistry(time.monotonic_ns, on_failure=fail)
    tap = tap_of(registry, "a stream")

    def chunks() -> None:
        for _ in range(CHUNKS):
            tap.watch(EVENT)
        tap.catch_up()

    own = CollectorRegistry()
    plain, alone = Plain(), Counter("alone", "One.", registry=own)
    labelled = Counter("labelled", "Two.", ("route", "upstream"), registry=own)

    def count_plain() -> None:
        for _ in range(COUNTS):
            plain.count += 1

    def count_alone() -> None:
        for _ in range(COUNTS):
            alone.inc()

    def count_labelled() -> None:
        for _ in range(COUNTS):
            labelled.labels("main", "up-1").inc()

    before, after = [], []
    for _ in range(rounds):
        before.append(medians({"chunk": chunks}, CHUNKS, 1)["chunk"])
        server = MetricsServer(ListenAddress("127.0.0.1", 0), metrics)
        after.append(medians({"chunk": chunks}, CHUNKS, 1)["chunk"])
        await server.close()
    without, served = sorted(before)[rounds // 2], sorted(after)[rounds // 2]
    ratios = sorted(each / other for each, other in zip(after, before, strict=True))
    counts = medians({"int": count_plain, "Counter": count_alone, "Counter, labels": count_labelled}, COUNTS, rounds)
    table = Table("a chunk", "ns", title="On the way of what passes, while nobody scrapes", title_justify="left")
    table.add_row("without metrics", f"{without:,.0f}")
    table.add_row("with metrics served", f"{served:,.0f}")
    for name, took_ns in counts.items():
        table.add_row(f"a counter: {name}", f"{took_ns:,.0f}")
    console.print(table)
    return [
        Figure("a chunk, metrics served / not", ratios[rounds // 2], "×", 1.05),
        Figure("a count, Counter / int", counts["Counter"] / counts["int"], "×", None, "higher"),
        Figure("a count, Counter with labels / int", counts["Counter, labels"] / counts["int"], "×", None, "higher"),
    ]


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and give the figures."""
    console = Console(width=130)
    console.print(machine("prometheus-client", "tornado"))
    rounds = 7 if quick else 21

    async def measured() -> list[Figure]:
        with tempfile.TemporaryDirectory() as folder:
            relay = relay_in(Path(folder))
            metrics = busy(relay)
            figures = [*scrapes(console, metrics, rounds), *await passing(console, metrics, rounds)]
            await relay.aclose(0.1)
        return figures

    figures = asyncio.run(measured())
    print_figures(console, "Metrics", figures)
    return figures


if __name__ == "__main__":
    main()
