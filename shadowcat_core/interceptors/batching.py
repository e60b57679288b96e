"""Larger batches at the price of latency, for who wants them: joins the batches of several chunks. Sans-I/O."""

from dataclasses import dataclass

from shadowcat_core.messages import MessageBatch


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How much may be collected before it is judged, and how long the first message of it may wait.

    With `max_delay_ms` 0 nothing is ever held back: a batch is what one chunk brought.
    """

    max_events: int = 64
    max_bytes: int = 65_536
    max_delay_ms: float = 0

    def __post_init__(self) -> None:
        if self.max_events < 1 or self.max_bytes < 1 or not 0 <= self.max_delay_ms < float("inf"):
            raise ValueError(f"no batch can be made by {self}")


class Batcher:
    """Collects the batches of one stream. Whoever owns the time calls `flush` when `due_ns` is over."""

    def __init__(self, policy: BatchPolicy) -> None:
        self.due_ns: int | None = None
        """When what is held is to be flushed, on the clock of the batches' `at_ns`; None when nothing is held."""
        self._policy = policy
        self._held: list[MessageBatch] = []
        self._events = 0
        self._bytes = 0

    def add(self, batch: MessageBatch) -> MessageBatch | None:
        """Take the batch of a chunk, which nobody has edited; gives one to judge when it is time.

        The limits end a batch, they do not cut a chunk: the one that reaches them still belongs to it.
        """
        policy = self._policy
        if not policy.max_delay_ms:
            return batch
        self._held.append(batch)
        self._events += len(batch)
        self._bytes += len(batch.emit())
        if self._events >= policy.max_events or self._bytes >= policy.max_bytes:
            return self.flush()
        if self.due_ns is None:
            self.due_ns = batch.at_ns + int(policy.max_delay_ms * 1_000_000)
        return None

    def flush(self) -> MessageBatch | None:
        """Give what is held as one batch; None when nothing is. Also to be called when the stream ends."""
        held, self._held = self._held, []
        self._events = self._bytes = 0
        self.due_ns = None
        return MessageBatch.joined(held) if held else None
