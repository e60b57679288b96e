"""The joint between a byte stream and those who watch or change its messages.

A tap that only watches passes every chunk as it came and looks at it afterwards; what goes wrong while looking is
reported once and costs the wire nothing. Where a pipeline has interceptors, messages are judged before they pass, and
may make the stream wait. No I/O: clock, sinks and pipeline are handed in.
"""

from collections.abc import Callable, Iterator, Sequence

from shadowcat_core.content_coding import ContentDecoder
from shadowcat_core.errors import ShadowcatError
from shadowcat_core.framing import Framing
from shadowcat_core.interceptors import BatchPolicy
from shadowcat_core.limits import CHUNK_OVERHEAD_BYTES, MAX_BEHIND_BYTES
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.outlet import Cut, Outlet
from shadowcat_core.stream.held import Held
from shadowcat_core.stream.judging import BatchPipeline, Judging, Passed
from shadowcat_core.stream.metrics import StreamMetrics
from shadowcat_core.stream.watching import BatchSink, Watching

type Clock = Callable[[], int]
"""A monotonic clock in nanoseconds."""

type ChunkSink = Callable[[int, bytes], None]
"""Takes each chunk, with its arrival in ns. It is on the wire's path: it must be quick and must not wait."""

_OVERHEAD = int(CHUNK_OVERHEAD_BYTES)


class StreamTap:
    """One streamed body, seen and perhaps changed on its way. Made for one stream, used once, from one thread.

    It has the shape of a mitmproxy stream callable: `tap(chunk)` gives the chunks to send on, `tap(b"")` ends the
    stream. It keeps the two rules of that seat: the list never holds `b""` (which would end a chunked body early), and
    it never raises (which would drop the chunk). Who can wait uses `passes_first`, `watch`, `take` and `end`.
    """

    def __init__(
        self,
        framing: Framing | None,
        *,
        clock_ns: Clock,
        on_failure: Callable[[Exception], None],
        chunk_sinks: Sequence[ChunkSink] = (),
        passed_sinks: Sequence[ChunkSink] = (),
        batch_sinks: Sequence[BatchSink] = (),
        pipeline: BatchPipeline | None = None,
        policy: BatchPolicy | None = None,
        on_replies: Callable[[Sequence[Message]], None] = lambda _replies: None,
        direction: Direction = Direction.SERVER_TO_CLIENT,
        decoder: ContentDecoder | None = None,
        passes_decoded: bool = False,
        sinks_first: bool = False,
        max_behind_bytes: int = MAX_BEHIND_BYTES,
    ) -> None:
        """Make a tap for one stream.

        Args:
            framing: finds the messages; None for a body that has none to find, which only the chunk sinks see.
            on_failure: told once for each thing that stops: a sink that raised, or watching as a whole.
            chunk_sinks: see each chunk as it came.
            passed_sinks: see what passed, which interceptors may have changed.
            batch_sinks: see the messages that passed, some time later.
            pipeline: judges the messages whenever it has interceptors for this direction, also later.
            policy: how the pipeline's batches are collected; None makes one of each chunk.
            on_replies: gets the answers to messages that interceptors did not let through.
            decoder: undoes the body's content coding. Without `passes_decoded` the body passes as it came, for watchers
                only; a coded stream cannot be changed.
            passes_decoded: what passes is without its coding: the head says so.
            sinks_first: call the chunk sinks before the chunk passes instead of after it.
            max_behind_bytes: how far watching may fall behind before it catches up within the stream's own turn.
        """
        self.metrics = StreamMetrics()
        self.passes_decoded = passes_decoded
        """True when what passes is without the content coding that the body came in."""
        self.has_framing = framing is not None
        self.may_change = False
        """True when what passes may be another than what came, now or when the first event has told what it is."""
        self.outlet: Outlet | None = None
        """Decides how what passes goes to the client, where somebody wants it otherwise than at once."""
        self.keeps_body = False
        """True when whoever sends is to keep what it sends, as mitmproxy's option `store_streamed_bodies` asks."""
        self.on_post: Callable[[], object] | None = None
        """Called when something was posted; set by who can send it."""
        self._clock_ns = clock_ns
        self._on_failure = on_failure
        self._chunk_sinks = list(chunk_sinks)
        self._passed_sinks = list(passed_sinks)
        unread = None if passes_decoded else decoder
        self._watching = Watching(framing, unread, self.metrics, clock_ns, batch_sinks, self._fail)
        self._pipeline = pipeline
        self._policy = policy
        self._on_replies = on_replies
        self._direction = direction
        self._decoder = decoder
        self._sinks_first = sinks_first
        self._max_behind_bytes = int(max_behind_bytes)
        self._judging: Judging | None = None
        self._said_coded = False
        self._posted: list[bytes] = []
        self._is_over = False
        self._judges()

    def __call__(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and give what to send on: at most one item, never an empty one. `b""` ends the stream.

        For who cannot wait: what an interceptor wants to hold is not sent, and reported.
        """
        if self._is_over:
            return []
        sent = b"".join(map(self._at_once, self._due_and(chunk) if chunk else self.end()))
        return [sent] if sent else []

    def passes_first(self) -> bool:
        """True when the next chunk may be sent before it is looked at (`watch`), as nobody decides about it."""
        if self._judging is not None or self._sinks_first or self.passes_decoded or self.outlet is not None:
            return False
        pipeline = self._pipeline
        return pipeline is None or self._direction not in pipeline.active or not self._judges()

    def watch(self, chunk: bytes) -> None:
        """Look at a chunk that has passed, or is about to; the chunk sinks see it now, the batch sinks soon."""
        arrived_ns = self._arrive(chunk)
        if self._passed_sinks:
            self._passed(arrived_ns, chunk)
        self._watch(arrived_ns, chunk)

    def show(self, chunk: bytes) -> None:
        """Let whole frames be seen that pass for another time: who decides has decided about them before."""
        if self.passes_first():
            self.watch(chunk)
        else:
            self._arrive(chunk)

    def take(self, chunk: bytes) -> Passed:
        """Take a chunk and give what becomes of it, to be dealt with before the next one is taken."""
        arrived_ns = self._arrive(chunk)
        if self.passes_decoded and self._decoder is not None:
            try:
                chunk = self._decoder.decode(chunk)
            except ShadowcatError as exc:
                self._fail(exc)
                return Cut(str(exc))
        if not self._judges():
            self._passed(arrived_ns, chunk)
            self._watch(arrived_ns, chunk)
            return chunk
        return self._count(self._judging.take(chunk, arrived_ns)) if self._judging is not None else chunk

    def flush(self) -> Iterator[Passed]:
        """Give what was posted, and what was collected for long enough."""
        if self.has_posted:
            posted, self._posted = self._posted, []
            data = b"".join(posted)
            self._passed(self._clock_ns(), data)
            yield data
        if self.due_ns is not None and self._clock_ns() >= self.due_ns and self._judging is not None:
            yield self._count(self._judging.flush())

    def end(self) -> Iterator[Passed]:
        """End the stream, giving what is left of it."""
        if self._is_over:
            return
        self._is_over = True
        yield from self.flush()
        if self._judging is not None:
            yield from map(self._count, self._judging.end(self._clock_ns()))
        self.catch_up()
        self._watching.close()

    def post(self, data: bytes) -> bool:
        """Send whole frames of our own between others; False when the stream has no way to."""
        is_coded = self._decoder is not None and not self.passes_decoded
        if self._is_over or self.on_post is None or is_coded:
            return False
        self._posted.append(data)
        self.on_post()
        return True

    def owe(self, data: bytes) -> None:
        """Send whole frames of our own before all others; to be called before the stream begins."""
        self._posted.append(data)

    @property
    def has_posted(self) -> bool:
        """True when something of our own is to be sent, and no frame has passed in half."""
        if not self._posted:
            return False
        return self._is_over or not self.is_within_frame

    @property
    def is_within_frame(self) -> bool:
        """True while a frame has passed in half."""
        judging = self._judging
        return self._watching.is_within_frame() if judging is None else judging.is_within_frame

    @property
    def behind_bytes(self) -> int:
        """Memory of what has passed and the batch sinks have not seen."""
        return self._watching.behind_bytes

    @property
    def due_ns(self) -> int | None:
        """When `flush` is to be called for what is collected; None when nothing is."""
        return None if self._judging is None else self._judging.due_ns

    def skip(self, endpoint: str) -> None:
        """Leave alone the event of the chunk at hand that says where to post (HTTP+SSE), and all before it."""
        if self._judging is not None:
            self._judging.skip(endpoint)

    def catch_up(self) -> None:
        """Let the batch sinks see every message that has passed. Call it now and then while the stream is quiet."""
        self._watching.catch_up()

    def abort(self) -> None:
        """The stream broke off: let the batch sinks see what had passed. Nothing can be sent any more."""
        self._is_over = True
        self.catch_up()
        self._watching.close()

    def release(self) -> None:
        """Let go of all who watch: they know the stream as it knows them, and only a collection would free both."""
        self._chunk_sinks, self._passed_sinks = [], []
        self._watching.release()
        self._judging = self._pipeline = self.outlet = self.on_post = None
        self._on_failure = _ignore
        self._on_replies = _ignore

    def _judges(self) -> bool:
        """Say whether messages are judged; begins to as soon as there is an interceptor."""
        if self._judging is not None:
            return True
        pipeline = self._pipeline
        if pipeline is None or self._direction not in pipeline.active:
            return False
        if self._decoder is not None and not self.passes_decoded:
            if pipeline.fails_closed(self._direction) and not self._said_coded:
                self._said_coded = True
                self._fail(ShadowcatError("a coded stream began before its interceptors, which cannot judge it"))
            return False
        framing = self._watching.hand_over()
        if framing is None:
            return False
        self._judging = Judging(
            framing,
            pipeline,
            passed=self._judged,
            on_replies=self._on_replies,
            on_failure=self._fail,
            direction=self._direction,
            policy=self._policy,
        )
        return True

    def _judged(self, batch: MessageBatch | None, data: bytes) -> None:
        if self._passed_sinks:
            self._passed(self._clock_ns(), data)
        if batch is None:
            self.metrics.unwatched_bytes += len(data)
        elif self._watching.show_soon(batch, len(data)) > self._max_behind_bytes:
            self.catch_up()

    def _watch(self, arrived_ns: int, chunk: bytes) -> None:
        if self._watching.watch_soon(arrived_ns, chunk, len(chunk) + _OVERHEAD) > self._max_behind_bytes:
            self.catch_up()

    def _due_and(self, chunk: bytes) -> Iterator[Passed]:
        yield from self.flush()
        yield self.take(chunk)

    def _count(self, passed: Passed) -> Passed:
        if isinstance(passed, Held):
            self.metrics.held += 1
        return passed

    def _at_once(self, passed: Passed) -> bytes:
        match passed:
            case bytes():
                return passed
            case Held():
                ahead = passed.take()
                passed.cancel()
                self._fail(ShadowcatError("a message that an interceptor holds cannot wait here, and was dropped"))
                return ahead
            case Cut():
                self._is_over = True
                return b""

    def _arrive(self, chunk: bytes) -> int:
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

    def _passed(self, at_ns: int, data: bytes) -> None:
        for sink in self._passed_sinks:
            try:
                sink(at_ns, data)
            except Exception as exc:  # noqa: BLE001 - likewise
                self._passed_sinks = [other for other in self._passed_sinks if other is not sink]
                self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        self.metrics.failures += 1
        self._on_failure(exc)


def _ignore(_ignored: object) -> None:
    pass
