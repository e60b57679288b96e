"""Metric families made of plain counters, by the attributes that hold them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from shadowcat_core.histogram import Histogram

type Told = Mapping[str, str]
"""The counters of a source that are told, by attribute, with what each means. The attribute ends the metric's name."""
type Source = tuple[Sequence[str], object]
"""Who has such counters: the values of its labels, and the object."""

PREFIX: Final = "shadowcat_"
BOUNDS: Final = range(4, 25, 2)
"""Powers of two of microseconds that end a bucket: 16 µs to 17 s, each four times the one before."""


def counters(room: str, told: Told, sources: Iterable[Source], labels: Sequence[str] = ()) -> Iterator[Metric]:
    """Make a family of each counter, with a sample of each source."""
    sources = list(sources)
    for attribute, meaning in told.items():
        family = CounterMetricFamily(f"{PREFIX}{room}_{attribute}", meaning, labels=labels)
        for values, source in sources:
            family.add_metric(values, getattr(source, attribute))
        yield family


def counter(name: str, meaning: str, value: float) -> Metric:
    """Make a family of one counter."""
    return CounterMetricFamily(PREFIX + name, meaning, value=value)


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Make a family of one value that goes up and down."""
    return GaugeMetricFamily(PREFIX + name, meaning, value=value)


def gauges(
    name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    """Make a family of such values, each with the values of its labels."""
    family = GaugeMetricFamily(PREFIX + name, meaning, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def histogram(name: str, meaning: str, counted: Histogram) -> Metric:
    """Make a family of durations, in seconds as is the custom."""
    buckets = [(str(2**power / 1e6), float(sum(counted.buckets[: power + 1]))) for power in BOUNDS]
    buckets.append(("+Inf", float(counted.count)))
    return HistogramMetricFamily(PREFIX + name, meaning, buckets=buckets, sum_value=counted.total_us / 1e6)
