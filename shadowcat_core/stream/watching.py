"""Looks at what has passed, off the wire's path: chunks become messages, messages are shown. No I/O."""

from collections.abc import Callable, Sequence
from typing import Protocol

from shadowcat_core.content_coding import ContentDecoder
from shadowcat_core.errors import ShadowcatError
from shadowcat_core.framing import Framing
from shadowcat_core.limits import KiB
from shadowcat_core.messages import MessageBatch
from shadowcat_core.stream.metrics import StreamMetrics

READ_BYTES = 32 * KiB
BURST_NS = 1_000_000
"""Chunks that arrive within a millisecond are one burst: finer than any person or log needs."""


class BatchSink(Protocol):
    """Sees the messages of a chunk, in order, after the chunk has passed."""

    def __call__(self, batch: MessageBatch) -> None: ...


class Watching:
    """What the watchers of one stream have not seen yet: chunks to read, or batches that were judged already."""

    def __init__(
        self,
        framing: Framing | None,
        decoder: ContentDecoder | None,
        metrics: StreamMetrics,
        clock_ns: Callable[[], int],
        batch_sinks: Sequence[BatchSink],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._framing = framing
        self._reads = framing is not None
        self._decoder = decoder
        self._metrics = metrics
        self._clock_ns = clock_ns
        self._batch_sinks = list(batch_sinks)
        self._on_failure = on_failure
        self._chunks: list[tuple[int, bytes]] = []
        self._batches: list[MessageBatch] = []
        self.behind_bytes = 0
        """How much waits, as it was told by its `size`."""

    def watch_soon(self, arrived_ns: int, chunk: bytes, size: int) -> int:
        """Read a chunk later. Gives how many bytes wait, as they were told by their `size`."""
        if not self._reads:
            self._metrics.unwatched_bytes += len(chunk)
            return 0
        self._chunks.append((arrived_ns, chunk))
        self.behind_bytes += size
        return self.behind_bytes

    def show_soon(self, batch: MessageBatch, size: int) -> int:
        """Show a batch later; likewise."""
        self._batches.append(batch)
        self.behind_bytes += size
        return self.behind_bytes

    def hand_over(self) -> Framing | None:
        """Let somebody else read the stream from here; None while there is none to read.

        What waits is read before that. What the framing holds then has passed.
        """
        if not self._reads:
            return None
        self.catch_up()
        if self._framing is None:
            return None
        self._reads = False
        self._decoder = None
        return self._framing

    def is_within_frame(self) -> bool:
        """True when what has passed ends in the middle of a frame."""
        if self._reads:
            self.catch_up()
        return self._reads and self._framing is not None and self._framing.held_bytes > 0

    def catch_up(self) -> None:
        """Show every message that has passed.

        Chunks of one burst are read together, which costs half as much; their messages carry the time of the last.
        """
        chunks, batches = self._chunks, self._batches
        self._chunks, self._batches, self.behind_bytes = [], [], 0
        if self._decoder is not None:
            chunks = self._decoded(chunks)
        start = 0
        for end in range(1, len(chunks) + 1):
            if end == len(chunks) or chunks[end][0] - chunks[start][0] > BURST_NS:
                self._read(chunks[start:end])
                start = end
        for batch in batches:
            self._show(batch)

    def close(self) -> None:
        """The stream is over."""
        if self._framing is not None:
            self._metrics.duplicates += self._framing.duplicates
            if self._reads:
                self._framing.close()
        self._framing = None

    def release(self) -> None:
        """Let go of all who watch."""
        self._batch_sinks = []
        self._on_failure = _ignore

    def _decoded(self, chunks: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        decoded: list[tuple[int, bytes]] = []
        for position, (arrived_ns, chunk) in enumerate(chunks):
            try:
                decoded.append((arrived_ns, self._decoder.decode(chunk) if self._decoder else chunk))
            except ShadowcatError as exc:
                if decoded:
                    self._read(decoded)
                self._go_blind(exc, sum(len(chunk) for _, chunk in chunks[position:]))
                return []
        return decoded

    def _read(self, burst: list[tuple[int, bytes]]) -> None:
        framing = self._framing
        if framing is None:
            self._metrics.unwatched_bytes += sum(len(chunk) for _, chunk in burst)
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

    def _show(self, batch: MessageBatch) -> None:
        metrics = self._metrics
        metrics.batches += 1
        metrics.messages += len(batch)
        for sink in self._batch_sinks:
            try:
                sink(batch)
            except Exception as exc:  # noqa: BLE001 - a watcher never breaks what it watches
                self._batch_sinks = [other for other in self._batch_sinks if other is not sink]
                self._on_failure(exc)
        metrics.lag.add(self._clock_ns() - batch.at_ns)

    def _go_blind(self, exc: Exception, unwatched_bytes: int) -> None:
        self._framing = None
        self._reads = False
        self._metrics.unwatched_bytes += unwatched_bytes
        self._on_failure(exc)


def _ignore(_exc: Exception) -> None:
    pass
