"""The joint between a byte stream and those who watch or change its messages.

`StreamTap` has the shape of a mitmproxy stream callable: `tap(chunk)` gives the chunks to send on, `tap(b"")` ends
the stream. It keeps the two rules of that seat: the list never holds `b""` (which would end a chunked body early), and
it never raises (which would drop the chunk). A tap that only watches passes every chunk as it came and looks at it
afterwards; what goes wrong while looking is reported once and costs the wire nothing.

No I/O: clock and sinks are handed in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shadowcat_core.content_coding import ContentDecoder
from shadowcat_core.errors import ShadowcatError
from shadowcat_core.framing import Framing
from shadowcat_core.histogram import Histogram
from shadowcat_core.limits import CHUNK_OVERHEAD_BYTES, MAX_BEHIND_BYTES, KiB
from shadowcat_core.messages import MessageBatch

type Clock = Callable[[], int]
"""A monotonic clock in nanoseconds."""

type ChunkSink = Callable[[int, bytes], None]
"""Takes each chunk as it came, with its arrival in ns. It is on the wire's path: it must be quick and must not wait."""


_OVERHEAD = int(CHUNK_OVERHEAD_BYTES)

READ_BYTES = 64 * KiB
BURST_NS = 1_000_000
"""Chunks that arrive within a millisecond are one burst: finer than any person or log needs."""


class BatchSink(Protocol):
    """Sees the messages of a chunk, in order, after the chunk has passed."""

    def __call__(self, batch: MessageBatch) -> None: ...


class BatchPipeline(Protocol):
    """Judges and edits the messages of a chunk before the chunk passes."""

    def run(self, batch: MessageBatch) -> None:
        """Edit the batch in place; what the tap sends on is `batch.emit()`."""
        ...


@dataclass(slots=True)
class StreamMetrics:
    """What one stream carried, or many together: plain ints, cheap enough to be always on."""

    chunks: int = 0
    bytes: int = 0
    messages: int = 0
    batches: int = 0
    unwatched_bytes: int = 0
    """Bytes that passed without being looked at: no framing, a frame over the limit, or a broken coding."""
    failures: int = 0
    lag: Histogram = field(default_factory=Histogram)
    """From a chunk's arrival until its messages were seen by the watchers."""

    def merge(self, other: "StreamMetrics") -> None:
        """Add everything that `other` has counted."""
        self.chunks += other.chunks
        self.bytes += other.bytes
        self.messages += other.messages
        self.batches += other.batches
        self.unwatched_bytes += other.unwatched_bytes
        self.failures += other.failures
        self.lag.merge(other.lag)


class StreamTap:
    """One streamed body, seen and perhaps changed on its way. Made for one stream, used once, from one thread."""

    def __init__(
        self,
        framing: Framing | None,
        *,
        clock_ns: Clock,
        on_failure: Callable[[Exception], None],
        chunk_sinks: Sequence[ChunkSink] = (),
        batch_sinks: Sequence[BatchSink] = (),
        pipeline: BatchPipeline | None = None,
        decoder: ContentDecoder | None = None,
        sinks_first: bool = False,
        max_behind_bytes: int = MAX_BEHIND_BYTES,
    ) -> None:
        """Make a tap for one stream.

        Args:
            framing: finds the messages; None for a body that has none to find, which only the chunk sinks see.
            on_failure: told once for each thing that stops: a sink that raised, or watching as a whole.
            decoder: undoes the body's content coding for the watchers. A coded stream cannot be changed, so it goes
                with no pipeline.
            sinks_first: call the chunk sinks before the chunk passes instead of after it.
            max_behind_bytes: how far watching may fall behind before it catches up within the stream's own turn.
        """
        if pipeline is not None and (decoder is not None or framing is None):
            raise ValueError("a stream that is coded, or has no framing, can be watched but not changed")
        self.metrics = StreamMetrics()
        self.watches_only = pipeline is None and not sinks_first
        """True when `watch` may be called after the chunk was sent, in place of `tap(chunk)` before it."""
        self.has_framing = framing is not None
        self._framing = framing
        self._clock_ns = clock_ns
        self._on_failure = on_failure
        self._chunk_sinks = list(chunk_sinks)
        self._batch_sinks = list(batch_sinks)
        self._pipeline = pipeline
        self._decoder = decoder
        self._behind: list[tuple[int, bytes]] = []
        self._behind_bytes = 0
        self._max_behind_bytes = int(max_behind_bytes)

    def __call__(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and give what to send on: at most one item, never an empty one. `b""` ends the stream."""
        if not chunk:
            return self._end()
        framing = self._framing
        if self._pipeline is None or framing is None:
            self.watch(chunk)
            return [chunk]
        arrived_ns = self._take(chunk)
        try:
            batch = framing.read(chunk, arrived_ns)
        except ShadowcatError as exc:
            # What the framing still holds has not passed yet: it goes on now, untouched, and so does all that follows.
            passed = framing.close() + chunk
            self._go_blind(exc, len(passed))
            return [passed]
        if batch is None:
            return []
        passed = self._judge(self._pipeline, batch)
        self._show(batch)
        return [passed] if passed else []

    def watch(self, chunk: bytes) -> None:
        """Look at a chunk that has passed, or is about to; the chunk sinks see it now, the batch sinks soon."""
        arrived_ns = self._take(chunk)
        if self._framing is None:
            self.metrics.unwatched_bytes += len(chunk)
            return
        self._behind.append((arrived_ns, chunk))
        self._behind_bytes += len(chunk) + _OVERHEAD
        if self._behind_bytes > self._max_behind_bytes:
            self.catch_up()

    def catch_up(self) -> None:
        """Let the batch sinks see every message that has passed. Call it now and then while the stream is quiet.

        Chunks of one burst are read together, which costs half as much; their messages carry the time of the last.
        """
        behind, self._behind, self._behind_bytes = self._behind, [], 0
        if self._decoder is not None:
            behind = self._decoded(behind)
        start = 0
        for end in range(1, len(behind) + 1):
            if end == len(behind) or behind[end][0] - behind[start][0] > BURST_NS:
                self._read(behind[start:end])
                start = end

    def _decoded(self, behind: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        decoded: list[tuple[int, bytes]] = []
        for position, (arrived_ns, chunk) in enumerate(behind):
            try:
                decoded.append((arrived_ns, self._decoder.decode(chunk) if self._decoder else chunk))
            except ShadowcatError as exc:
                if decoded:
                    self._read(decoded)
                self._go_blind(exc, sum(len(chunk) for _, chunk in behind[position:]))
                return []
        return decoded

    def _read(self, burst: list[tuple[int, bytes]]) -> None:
        framing = self._framing
        if framing is None:
            self.metrics.unwatched_bytes += sum(len(chunk) for _, chunk in burst)
            return
        data = b"".join([chunk for _, chunk in burst])
        # What is decoded may be long, and a batch of very many messages costs memory for each.
        for start in range(0, len(data), READ_BYTES):
            piece = data[start : start + READ_BYTES]
            try:
                batch = framing.read(piece, burst[-1][0])
            except ShadowcatError as exc:
                if len(burst) > 1 and start == 0:  # nothing was taken: show what came before the chunk that it was
                    for single in burst:
                        self._read([single])
                else:
                    self._go_blind(exc, framing.held_bytes + len(data) - start)
                return
            if batch is not None:
                self._show(batch)

    def abort(self) -> None:
        """The stream broke off: let the batch sinks see what had passed. Nothing can be sent any more."""
        self._end()

    def release(self) -> None:
        """Let go of all who watch: they know the stream as it knows them, and only a collection would free both."""
        self._chunk_sinks = []
        self._batch_sinks = []
        self._on_failure = _ignore

    def _end(self) -> list[bytes]:
        self.catch_up()
        rest = self._framing.close() if self._framing is not None else b""
        # An unfinished frame is no message, but its bytes belong to the body. A watching tap has passed them already.
        return [rest] if rest and self._pipeline is not None else []

    def _take(self, chunk: bytes) -> int:
        arrived_ns = self._clock_ns()
        metrics = self.metrics
        metrics.chunks += 1
        metrics.bytes += len(chunk)
        for sink in self._chunk_sinks:
            try:
                sink(arrived_ns, chunk)
            except Exception as exc:  # noqa: BLE001 - a watcher never breaks what it watches
                self._chunk_sinks = [other for other in self._chunk_sinks if other is not sink]
                self._fail(exc)
        return arrived_ns

    def _judge(self, pipeline: BatchPipeline, batch: MessageBatch) -> bytes:
        original = batch.emit()
        try:
            pipeline.run(batch)
            return batch.emit()
        except Exception as exc:  # noqa: BLE001 - the seat's rule: to raise here would drop the chunk
            self._fail(exc)
            return original

    def _show(self, batch: MessageBatch) -> None:
        metrics = self.metrics
        metrics.batches += 1
        metrics.messages += len(batch)
        for sink in self._batch_sinks:
            try:
                sink(batch)
            except Exception as exc:  # noqa: BLE001 - a watcher never breaks what it watches
                self._batch_sinks = [other for other in self._batch_sinks if other is not sink]
                self._fail(exc)
        metrics.lag.add(self._clock_ns() - batch.at_ns)

    def _go_blind(self, exc: Exception, unwatched_bytes: int) -> None:
        self._framing = None
        self.metrics.unwatched_bytes += unwatched_bytes
        self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        self.metrics.failures += 1
        self._on_failure(exc)


def _ignore(_exc: Exception) -> None:
    pass
