"""What a stream carried, counted."""

from dataclasses import dataclass, field

from shadowcat_core.histogram import Histogram


@dataclass(slots=True)
class StreamMetrics:
    """What one stream carried, or many together: plain ints, cheap enough to be always on."""

    chunks: int = 0
    bytes: int = 0
    messages: int = 0
    batches: int = 0
    duplicates: int = 0
    """Events of resumed streams whose id had been seen (see `DEDUP_WINDOW_IDS`)."""
    held: int = 0
    """How often the stream had to wait for an interceptor."""
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
        self.duplicates += other.duplicates
        self.held += other.held
        self.unwatched_bytes += other.unwatched_bytes
        self.failures += other.failures
        self.lag.merge(other.lag)
