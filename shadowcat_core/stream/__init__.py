"""Streams on their way: watched after they passed, or judged before."""

from shadowcat_core.stream.held import Held
from shadowcat_core.stream.judging import BatchPipeline, Passed
from shadowcat_core.stream.metrics import StreamMetrics
from shadowcat_core.stream.tap import ChunkSink, Clock, StreamTap
from shadowcat_core.stream.watching import BURST_NS, BatchSink

__all__ = [
    "BURST_NS",
    "BatchPipeline",
    "BatchSink",
    "ChunkSink",
    "Clock",
    "Held",
    "Passed",
    "StreamMetrics",
    "StreamTap",
]
