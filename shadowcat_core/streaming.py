"""Decides which responses must pass as they come, and makes the taps they pass through. No I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shadowcat_core.content_coding import ContentDecoder, decoder_for
from shadowcat_core.dedup import DedupWindow
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.exchange import Exchange
from shadowcat_core.framing import BodyFraming, Framing, LineFraming, SseFraming
from shadowcat_core.interceptors import BatchPolicy, Running
from shadowcat_core.limits import MAX_DECODED_CHUNK_BYTES, MAX_EVENT_BYTES, MAX_HELD_BODY_BYTES
from shadowcat_core.mcp import (
    Direction,
    HeaderLookup,
    RecognitionKind,
    is_event_stream,
    reads_as_event_stream,
    reads_as_json,
)
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.outlet import Refusal
from shadowcat_core.stream import BatchPipeline, Clock, StreamTap


@dataclass(frozen=True, slots=True)
class Judges:
    """Who decides about the messages of a response, where somebody does."""

    pipeline: BatchPipeline
    on_replies: Callable[[Sequence[Message]], None]
    """Gets the answers to requests of the server's that did not pass."""
    policy: BatchPolicy | None = None

    @property
    def decide_now(self) -> bool:
        """True when there is an interceptor already, so that head and body can be made ready for it."""
        return Direction.SERVER_TO_CLIENT in self.pipeline.active


def must_stream(exchange: Exchange, head: HeaderLookup) -> bool:
    """Say whether a response has to pass as it comes. What is short enough is held whole, so people can edit it.

    So is what answers that were given here are to join, whatever its length.
    """
    streams = _is_event_stream(exchange, head.get("content-type"))
    if exchange.owed and not streams:
        return False
    if exchange.listens or exchange.outlet is not None or streams:
        return True
    length = head.get("content-length") or ""
    return not (length.isdecimal() and int(length) <= MAX_HELD_BODY_BYTES)


def may_be_message(content_type: str | None) -> bool:
    """Say whether a body in one piece can be JSON-RPC; a page of HTML that explains a status is not."""
    return not content_type or reads_as_json(content_type)


def make_tap(
    exchange: Exchange,
    head: HeaderLookup,
    *,
    clock_ns: Clock,
    on_failure: Callable[[Exception], None],
    judges: Judges | None = None,
) -> StreamTap:
    """Make the tap of a response that streams, with the sinks that the exchange has gathered.

    The head must not name a content coding where what passes is without one, and no length where it may be of another
    (`passes_decoded`, `may_change`).
    """
    judged = is_judged(exchange) or exchange.may_tell
    decides = judges is not None and judged and (judges.decide_now or bool(exchange.owed))
    framing, decoder = _reading_of(exchange, head, on_failure, whole=decides)
    tap = StreamTap(
        framing,
        clock_ns=clock_ns,
        on_failure=on_failure,
        chunk_sinks=exchange.chunk_sinks,
        passed_sinks=exchange.passed_sinks,
        batch_sinks=exchange.batch_sinks,
        pipeline=None if judges is None or not judged else _for_mcp(exchange, judges.pipeline),
        policy=None if judges is None else judges.policy,
        on_replies=_nobody if judges is None else judges.on_replies,
        decoder=decoder,
        passes_decoded=decides and decoder is not None,
        sinks_first=exchange.sinks_first,
    )
    tap.outlet = exchange.outlet
    tap.may_change = decides and framing is not None
    unreadable = decides and framing is None and _has_messages(exchange, head)
    closed = judges is not None and judges.pipeline.fails_closed(Direction.SERVER_TO_CLIENT)
    if unreadable and (closed or exchange.owed):
        coding = head.get("content-encoding")
        tap.outlet = Refusal(f"the content coding {coding} is not known, so no interceptor can judge the body")
    return tap


def is_judged(exchange: Exchange) -> bool:
    """Say whether the messages of an exchange are for interceptors: whether it is known to be MCP."""
    return exchange.recognition.is_mcp and exchange.recognition.kind is not RecognitionKind.MAYBE_STREAM


class _Undecided:
    """Lets everything pass until an event has told that a stream is MCP: the chunk sinks see it before."""

    def __init__(self, exchange: Exchange, pipeline: BatchPipeline) -> None:
        self._exchange = exchange
        self._pipeline = pipeline

    @property
    def active(self) -> frozenset[Direction]:
        return self._pipeline.active

    def fails_closed(self, direction: Direction) -> bool:
        return is_judged(self._exchange) and self._pipeline.fails_closed(direction)

    def run(self, batch: MessageBatch, release: Callable[[MessageBatch], None] | None = None) -> Running | None:
        return self._pipeline.run(batch, release) if is_judged(self._exchange) else None


def _for_mcp(exchange: Exchange, pipeline: BatchPipeline) -> BatchPipeline:
    return pipeline if is_judged(exchange) else _Undecided(exchange, pipeline)


def _is_event_stream(exchange: Exchange, content_type: str | None) -> bool:
    """Of an exchange of MCP what its client takes for one, of any other what is one."""
    return (reads_as_event_stream if exchange.recognition.is_mcp else is_event_stream)(content_type)


def _reading_of(
    exchange: Exchange, head: HeaderLookup, on_failure: Callable[[Exception], None], *, whole: bool
) -> tuple[Framing | None, ContentDecoder | None]:
    """How the messages of a streamed response are found, and how its content coding is undone before that.

    No framing: one large body, to be read when it is over unless it is wanted `whole`, or one in an unknown coding.
    """
    context = exchange.context(Direction.SERVER_TO_CLIENT)
    content_type, coding = head.get("content-type"), head.get("content-encoding")
    try:
        # A watcher may give up on a chunk that unpacks to much; who decides would end the stream with that.
        max_bytes = MAX_EVENT_BYTES if whole else MAX_DECODED_CHUNK_BYTES
        decoder = decoder_for(coding, max_output_bytes=max_bytes) if coding else None
    except InvalidMessage as exc:
        on_failure(exc)
        return None, None
    if _is_event_stream(exchange, content_type):
        return SseFraming(context, dedup=DedupWindow() if exchange.resumes else None), decoder
    if exchange.listens:
        return LineFraming(context), decoder
    if whole and may_be_message(content_type):
        return BodyFraming(context), decoder
    return None, None


def _has_messages(exchange: Exchange, head: HeaderLookup) -> bool:
    content_type = head.get("content-type")
    return exchange.listens or _is_event_stream(exchange, content_type) or may_be_message(content_type)


def _nobody(_replies: Sequence[Message]) -> None:
    pass
