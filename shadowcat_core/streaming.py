"""Decides which responses must pass as they come, and makes the taps they pass through. No I/O."""

from collections.abc import Callable

from shadowcat_core.content_coding import ContentDecoder, decoder_for
from shadowcat_core.dedup import DedupWindow
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.exchange import Exchange
from shadowcat_core.framing import Framing, LineFraming, SseFraming
from shadowcat_core.limits import MAX_HELD_BODY_BYTES
from shadowcat_core.mcp import Direction, HeaderLookup, is_event_stream
from shadowcat_core.stream import Clock, StreamTap


def must_stream(exchange: Exchange, head: HeaderLookup) -> bool:
    """Say whether a response has to pass as it comes. What is short enough is held whole, so people can edit it."""
    if exchange.listens or is_event_stream(head.get("content-type")):
        return True
    length = head.get("content-length") or ""
    return not (length.isdecimal() and int(length) <= MAX_HELD_BODY_BYTES)


def make_tap(
    exchange: Exchange, head: HeaderLookup, *, clock_ns: Clock, on_failure: Callable[[Exception], None]
) -> StreamTap:
    """Make the tap of a response that streams, with the sinks that the exchange has gathered."""
    framing, decoder = _reading_of(exchange, head, on_failure)
    return StreamTap(
        framing,
        clock_ns=clock_ns,
        on_failure=on_failure,
        chunk_sinks=exchange.chunk_sinks,
        batch_sinks=exchange.batch_sinks,
        decoder=decoder,
        sinks_first=exchange.sinks_first,
    )


def _reading_of(
    exchange: Exchange, head: HeaderLookup, on_failure: Callable[[Exception], None]
) -> tuple[Framing | None, ContentDecoder | None]:
    """How the messages of a streamed response are found, and how its content coding is undone before that.

    No framing: one large body, to be read when it is whole, or one in a coding that nobody here knows.
    """
    context = exchange.context(Direction.SERVER_TO_CLIENT)
    coding = head.get("content-encoding")
    try:
        decoder = decoder_for(coding) if coding else None
    except InvalidMessage as exc:
        on_failure(exc)
        return None, None
    if is_event_stream(head.get("content-type")):
        return SseFraming(context, dedup=DedupWindow() if exchange.resumes else None), decoder
    return (LineFraming(context), decoder) if exchange.listens else (None, None)
