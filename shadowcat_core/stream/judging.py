"""Lets interceptors decide about a stream's messages before they pass. No I/O.

What cannot be judged (a frame over the limit) passes when every interceptor fails open, and ends the stream when one
fails closed: what nobody could look at must not get past somebody who decides.
"""

from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from shadowcat_core.errors import ShadowcatError
from shadowcat_core.framing import Framing
from shadowcat_core.interceptors import Batcher, BatchPolicy, Running
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.outlet import Cut
from shadowcat_core.stream.held import Held

type Passed = bytes | Held | Cut
"""What becomes of a chunk: bytes to send now (perhaps none), a wait, or the end of the stream."""


class BatchPipeline(Protocol):
    """Judges and edits the messages of a chunk before the chunk passes: `shadowcat_core.interceptors.Pipeline`."""

    @property
    def active(self) -> frozenset[Direction]:
        """The directions in which there is an interceptor."""
        ...

    def fails_closed(self, direction: Direction) -> bool:
        """True when what cannot be judged must not pass."""
        ...

    def run(self, batch: MessageBatch, release: Callable[[MessageBatch], None] | None = None) -> Running | None:
        """Edit the batch in place; what the tap sends on is `batch.emit()`, once what is given is done."""
        ...


class Judging:
    """The messages of one stream before its interceptors: one batch at a time, in order."""

    def __init__(
        self,
        framing: Framing,
        pipeline: BatchPipeline,
        *,
        passed: Callable[[MessageBatch | None, bytes], None],
        on_replies: Callable[[Sequence[Message]], None],
        on_failure: Callable[[Exception], None],
        direction: Direction,
        policy: BatchPolicy | None = None,
    ) -> None:
        """Judge what a framing reads.

        Args:
            passed: told of all bytes that go on, with their messages as they were edited; None where nobody looked.
            on_replies: gets the answers to what interceptors did not let through.
            policy: collects chunks before they are judged; None judges every chunk as it comes.

        What the framing holds already has passed: the frame of it is not judged, and the rest of it passes.
        """
        self._framing: Framing | None = framing
        self._pipeline = pipeline
        self._batcher = None if policy is None or not policy.max_delay_ms else Batcher(policy)
        self._tell_passed = passed
        self._on_replies = on_replies
        self._on_failure = on_failure
        self._direction = direction
        self._passed_bytes = framing.held_bytes
        self._endpoint: str | None = None
        self._ahead: list[bytes] = []
        self._held: Held | None = None
        self._cut: Cut | None = None

    @property
    def due_ns(self) -> int | None:
        """When what is collected is to be flushed; None when nothing is."""
        return None if self._batcher is None else self._batcher.due_ns

    @property
    def is_within_frame(self) -> bool:
        """True while the frame that had passed in half has not passed as a whole."""
        return self._passed_bytes > 0

    def take(self, chunk: bytes, arrived_ns: int) -> Passed:
        """Take a chunk. What is given must be dealt with before the next one is taken."""
        if self._cut is not None:
            return self._cut
        if self._framing is None:
            return self._pass_unseen(chunk)
        try:
            batch = self._framing.read(chunk, arrived_ns)
        except ShadowcatError as exc:
            return self._go_blind(exc, chunk)
        if batch is not None and self._batcher is not None:
            batch = self._batcher.add(batch)
        return b"" if batch is None else self._judge(batch)

    def skip(self, endpoint: str) -> None:
        """Leave alone the event that says where to post (HTTP+SSE), and all before it: they are no messages."""
        self._endpoint = endpoint

    def flush(self) -> Passed:
        """Judge what was collected; to be called when it is due."""
        batch = None if self._batcher is None else self._batcher.flush()
        return b"" if batch is None else self._judge(batch)

    def end(self, at_ns: int) -> Iterator[Passed]:
        """End the stream: judge what is left of it, one piece after the other."""
        yield self._cut or self.flush()
        framing, self._framing = self._framing, None
        if framing is None:
            return
        batch = framing.finish(at_ns)
        if batch is not None:
            yield self._judge(batch)
        elif rest := framing.close():  # an unfinished frame is no message, but its bytes belong to the body
            yield self._pass_unseen(self._not_passed(rest))

    def _judge(self, batch: MessageBatch) -> bytes | Held:
        if self._passed_bytes and len(batch):
            return self._judge_behind(batch, 1)
        if self._endpoint is not None and (position := _position_of(self._endpoint, batch)) is not None:
            self._endpoint = None
            return self._judge_behind(batch, position + 1)
        try:
            running = self._pipeline.run(batch, self._release)
        except Exception as exc:  # noqa: BLE001 - the tap's rule: to raise would drop the chunk
            return self._failed(batch, exc)
        if running is None:
            return self._pass(batch)
        self._held = Held(running, self._ahead, partial(self._settle, batch, running))
        return self._held

    def _judge_behind(self, batch: MessageBatch, position: int) -> bytes | Held:
        """Let pass what stands before a position, and judge the rest."""
        heads = (batch.split(at) for at in range(position, len(batch)))
        first = next((head for head in heads if head is not None), None)
        if first is None:
            return self._pass(batch)
        self._ahead.append(self._pass(first))
        judged = self._judge(batch)
        if not isinstance(judged, bytes):
            return judged
        ahead = b"".join(self._ahead)
        self._ahead.clear()
        return ahead + judged

    def _settle(self, batch: MessageBatch, running: Running) -> bytes:
        self._held = None
        try:
            running.result()
        except CancelledError:  # not by us: then nobody would ask
            return self._failed(batch, ShadowcatError("the judging of a message was cancelled"))
        except Exception as exc:  # noqa: BLE001 - as above
            return self._failed(batch, exc)
        return self._pass(batch)

    def _release(self, head: MessageBatch) -> None:
        self._ahead.append(self._pass(head))
        if self._held is not None:
            self._held.nudge()

    def _pass(self, batch: MessageBatch) -> bytes:
        data = self._not_passed(batch.emit())
        if batch.edited and (replies := batch.replies):
            try:
                self._on_replies(replies)
            except Exception as exc:  # noqa: BLE001 - as above
                self._on_failure(exc)
        self._tell_passed(batch, data)
        return data

    def _failed(self, batch: MessageBatch, exc: Exception) -> bytes:
        """The pipeline itself failed, although it covers for its interceptors."""
        self._on_failure(exc)
        if self._pipeline.fails_closed(self._direction):
            return b""
        batch.undo(0)
        return self._pass(batch)

    def _not_passed(self, data: bytes) -> bytes:
        """Leave away what had passed before judging began."""
        if not self._passed_bytes:
            return data
        start, self._passed_bytes = self._passed_bytes, 0
        return data[start:]

    def _pass_unseen(self, data: bytes) -> bytes:
        self._tell_passed(None, data)
        return data

    def _go_blind(self, exc: ShadowcatError, chunk: bytes) -> Passed:
        """Judge what was collected until now, and nothing any more."""
        framing, self._framing = self._framing, None
        self._on_failure(exc)
        unseen = self._not_passed(b"" if framing is None else framing.close()) + chunk
        collected = None if self._batcher is None else self._batcher.flush()
        if self._pipeline.fails_closed(self._direction):
            self._cut = Cut(f"{exc}, so no interceptor can judge it")
            return self._cut if collected is None else self._judge(collected)
        if collected is None:
            return self._pass_unseen(unseen)
        judged = self._judge(collected)
        if isinstance(judged, bytes):
            return judged + self._pass_unseen(unseen)
        judged.then(partial(self._pass_unseen, unseen))
        return judged


def _position_of(endpoint: str, batch: MessageBatch) -> int | None:
    said = ((position, message.raw.decode("utf-8", "replace")) for position, message in batch.where())
    return next((position for position, text in said if text.strip() == endpoint.strip()), None)
