"""All metrics of a proxy: exchanges, streams, interceptors, holds, the tape, and what a relay adds."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.interceptors import Action, Pipeline
from shadowcat_core.metrics.families import PREFIX, Told, counter, counters, gauge, histogram
from shadowcat_core.metrics.relay import RelayState, relay_metrics
from shadowcat_core.stream import StreamMetrics
from shadowcat_core.tape.recorder import Recorder

STREAMS: Final[Told] = {
    "chunks": "Chunks of streamed responses that came from servers.",
    "bytes": "Bytes of streamed responses, as servers sent them.",
    "messages": "Messages of streams that watchers have seen, events without a message included.",
    "batches": "Batches in which watchers saw the messages of streams.",
    "duplicates": "Events of resumed streams whose id had been seen.",
    "held": "Times that a stream waited for an interceptor.",
    "unwatched_bytes": "Bytes of streams that passed and were not looked at.",
    "failures": "Failures of watchers of streams, or to read a stream; the stream went on.",
}
INTERCEPTORS: Final[Told] = {
    "batches": "Batches that an interceptor was shown.",
    "messages": "Messages that an interceptor was shown.",
    "failures": "Times that an interceptor failed.",
    "timeouts": "Times that an interceptor took too long, which are among its failures.",
    "unaudited": "Batches that an interceptor did not audit, because too many audits were waiting.",
}
_INTERCEPTOR: Final = ("interceptor",)


class ProxyMetrics(Collector):
    """Reads the counters of one proxy whenever it is asked.

    It belongs to the thread of those who count. Counters only grow for as long as what they are about is there: those
    of the tape begin anew with each tape, those of an interceptor when it is added anew, those of upstreams when their
    URL changes.
    """

    def __init__(
        self,
        registry: ExchangeRegistry,
        pipeline: Pipeline,
        *,
        versions: Mapping[str, str],
        held: Callable[[], int] = lambda: 0,
        recorder: Callable[[], Recorder | None] = lambda: None,
        relay: Callable[[], RelayState | None] = lambda: None,
    ) -> None:
        """Read from these. `held` tells how many messages wait for a person."""
        self._registry = registry
        self._pipeline = pipeline
        self._versions = dict(versions)
        self._held = held
        self._recorder = recorder
        self._relay = relay

    def collect(self) -> Iterator[Metric]:
        """Give all families that have something to tell."""
        return (family for family in self._families() if family.samples)

    def _families(self) -> Iterator[Metric]:
        yield InfoMetricFamily(f"{PREFIX}build", "Versions, as labels.", value=self._versions)
        yield counter("exchanges", "Exchanges that were recognised.", self._registry.opened)
        yield gauge("exchanges_running", "Exchanges that run now.", len(self._registry))
        yield from _streams(self._registry)
        yield from _interceptors(self._pipeline)
        yield gauge("held_messages", "Messages that are held for somebody to decide.", self._held())
        recorder, relay = self._recorder(), self._relay()
        if recorder is not None:
            yield from _tape(recorder)
        if relay is not None:
            yield from relay_metrics(relay)


def _streams(registry: ExchangeRegistry) -> Iterator[Metric]:
    taps = registry.taps()
    # Those that have ended are in the total already, in one step of the event loop: nothing is counted twice or not.
    total = StreamMetrics()
    for part in (registry.metrics, *(tap.metrics for tap in taps)):
        total.merge(part)
    yield gauge("streams_running", "Streamed responses that run now.", len(taps))
    yield from counters("stream", STREAMS, [((), total)])
    behind_bytes = sum(tap.behind_bytes for tap in taps)
    yield gauge("stream_behind_bytes", "Memory of what has passed and watchers have not seen yet.", behind_bytes)
    yield histogram(
        "stream_lag_seconds",
        "From a chunk's arrival until watchers saw its messages, which wait for nobody.",
        total.lag,
    )


def _interceptors(pipeline: Pipeline) -> Iterator[Metric]:
    stages = [(stage.settings.name, stage.metrics) for stage in pipeline.stages]
    yield from counters("interceptor", INTERCEPTORS, [((name,), metrics) for name, metrics in stages], _INTERCEPTOR)
    verdicts = CounterMetricFamily(
        f"{PREFIX}interceptor_verdicts",
        "What an interceptor did to messages, by action.",
        labels=(*_INTERCEPTOR, "action"),
    )
    seconds = CounterMetricFamily(
        f"{PREFIX}interceptor_seconds",
        "Time that an interceptor took: running, up to where its calls first waited, and waiting from there.",
        labels=(*_INTERCEPTOR, "phase"),
    )
    for name, metrics in stages:
        for action in Action:
            verdicts.add_metric((name, action), metrics.verdicts.get(action, 0))
        seconds.add_metric((name, "running"), metrics.spent_ns / 1e9)
        seconds.add_metric((name, "waiting"), metrics.waited_ns / 1e9)
    yield verdicts
    yield seconds


def _tape(recorder: Recorder) -> Iterator[Metric]:
    yield counter("tape_records", "Records that are in the tape's file.", recorder.recorded)
    yield counter("tape_lost_records", "Records that are not on the tape and never will be.", recorder.dropped)
    yield counter("tape_bytes", "Size of the tape's file.", recorder.bytes_written)
    yield counter("tape_write_failures", "Writes to the tape that failed and are tried again.", recorder.failures)
    yield gauge("tape_waiting_records", "Records that wait for the disk.", recorder.waiting)
    yield gauge("tape_waiting_bytes", "Memory of records that wait for the disk.", recorder.waiting_bytes)
