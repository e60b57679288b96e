"""A proxy with everything on, for tests of its metrics; and a scrape of it, by name and labels. No sockets."""

import time
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.framing import SseFraming
from shadowcat_core.interceptors import Block, Pipeline, on_asyncio
from shadowcat_core.mcp import Direction, Recognition, RecognitionKind
from shadowcat_core.metrics import ProxyMetrics, RelayState
from shadowcat_core.relay import relay_of
from shadowcat_core.stream import StreamTap
from shadowcat_core.tape.recorder import Recorder
from tests.core.tape_parts import Disk, as_it_is, header
from tests.core.upstream_parts import Clock, file, fleet, route

EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'

type Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Refuse:
    """Blocks everything."""

    def intercept(self, _message):
        return Block("no")


def recorder(disk: Disk) -> Recorder:
    """One that writes at once."""
    return Recorder(
        Path("a.tape.jsonl"),
        header(),
        redact=as_it_is,
        on_failure=ignore,
        mode="standard",
        open_file=lambda _path: disk,
    )


def ignore(_error: Exception) -> None:
    pass


class World:
    """What a proxy counts in."""

    def __init__(self, folder, *names) -> None:
        routes = route(*(names or ("one", "two")), name="main")
        self.registry = ExchangeRegistry(time.monotonic_ns)
        self.pipeline = Pipeline(on_asyncio(time.perf_counter_ns))
        self.clock = Clock()
        self.fleet = fleet(routes, clock=self.clock)
        self.relay = relay_of(file(routes), self.fleet, key_file=folder / "key", ask=self._ask)
        self.disk = Disk()
        self.recorder = recorder(self.disk)
        self.held = 0
        self.in_flight: Mapping[str, int] = {}
        self.is_store_away = False
        self.is_relaying = self.is_recording = True
        self.metrics = ProxyMetrics(
            self.registry,
            self.pipeline,
            versions={"version": "1.2.3", "mitmproxy": "12.0.0"},
            held=lambda: self.held,
            recorder=lambda: self.recorder if self.is_recording else None,
            relay=self._relay,
        )

    async def aclose(self) -> None:
        self.recorder.close()
        await self.relay.aclose(0.1)

    def stream(self, flow_id: str) -> tuple[Exchange, StreamTap]:
        """Begin a streamed response."""
        exchange = self.registry.open(flow_id, Recognition(RecognitionKind.MESSAGES, "a test"), b"")
        exchange.tap = StreamTap(
            SseFraming(exchange.context(Direction.SERVER_TO_CLIENT)),
            clock_ns=time.monotonic_ns,
            on_failure=ignore,
            batch_sinks=exchange.batch_sinks,
        )
        return exchange, exchange.tap

    def _relay(self) -> RelayState | None:
        return RelayState(self.relay, self.in_flight, self.is_store_away) if self.is_relaying else None

    @staticmethod
    async def _ask(*_asked):
        raise ConnectionRefusedError


def samples_of(text: str, parse=text_string_to_metric_families) -> Samples:
    """A scrape's samples, by name and labels; each is there once."""
    found: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def scrape(collector: Collector) -> Samples:
    """What is told now, the same in both formats."""
    plain = samples_of(generate_latest(collector).decode())
    assert samples_of(generate_openmetrics(collector).decode(), parse_openmetrics) == plain
    return plain


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample's value."""
    return samples[f"shadowcat_{name}", frozenset(labels.items())]


def described(collector: Collector) -> dict[str, tuple[str, str, str]]:
    """Type, labels and meaning of every metric that is told now, by its name; as the manual's table has them."""
    suffixes = {"counter": "_total", "info": "_info"}
    found = {}
    for family in collector.collect():
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        listed = ", ".join(f"`{label}`" for label in labels)
        found[family.name + suffixes.get(family.type, "")] = (family.type, listed, family.documentation)
    return found
