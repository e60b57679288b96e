"""Streams what must not wait: event streams, listen streams, and bodies too large to hold; each through a tap."""

import logging

from mitmproxy import command, connection, http

from shadowcat_core.content_coding import ContentDecoder, decoder_for
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.framing import Framing, LineFraming, SseFraming
from shadowcat_core.limits import MAX_HELD_BODY_BYTES
from shadowcat_core.mcp import Direction, is_event_stream
from shadowcat_core.stream import StreamTap

logger = logging.getLogger(__name__)


class Streams:
    """Decides, when a response begins, whether it streams; ends the exchange when the response ends."""

    def __init__(self, registry: ExchangeRegistry) -> None:
        self._registry = registry

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        exchange, response = self._registry.get(flow.id), flow.response
        # A `stream` that is set already is the user's own doing (an addon, stream_large_bodies).
        if exchange is None or response is None or response.stream or not must_stream(exchange, response):
            return
        framing, decoder = reading_of(exchange, response)
        exchange.tap = StreamTap(
            framing,
            clock_ns=self._registry.clock_ns,
            on_failure=lambda exc: logger.warning("shadowcat: exchange %d: %s", exchange.number, exc),
            chunk_sinks=exchange.chunk_sinks,
            batch_sinks=exchange.batch_sinks,
            decoder=decoder,
            sinks_first=exchange.sinks_first,
        )
        response.stream = exchange.tap

    @command.command("shadowcat.streams")
    def streams(self) -> str:
        """Say how many exchanges run, and what the streams that ended have carried."""
        total = self._registry.metrics
        return (
            f"{len(self._registry)} exchanges running; ended streams: {total.messages} messages in {total.bytes} bytes "
            f"and {total.chunks} chunks, seen after {total.lag.quantile_us(0.5)} µs (median), "
            f"{total.unwatched_bytes} bytes not looked at, {total.failures} failures"
        )

    def response(self, flow: http.HTTPFlow) -> None:
        self._registry.close(flow.id)

    def error(self, flow: http.HTTPFlow) -> None:
        self._registry.close(flow.id)

    def client_disconnected(self, client: connection.Client) -> None:
        self._registry.close_connection(client.id)


def must_stream(exchange: Exchange, response: http.Response) -> bool:
    """Say whether a response has to pass as it comes. What is short enough is held whole, so people can edit it."""
    if exchange.listens or is_event_stream(response.headers.get("content-type")):
        return True
    length = response.headers.get("content-length", "")
    return not (length.isdecimal() and int(length) <= MAX_HELD_BODY_BYTES)


def reading_of(exchange: Exchange, response: http.Response) -> tuple[Framing | None, ContentDecoder | None]:
    """How the messages of a streamed response are found, and how its content coding is undone before that.

    No framing: one large body, to be read when it is whole, or one in a coding that nobody here knows.
    """
    context = exchange.context(Direction.SERVER_TO_CLIENT)
    coding = response.headers.get("content-encoding", "")
    try:
        decoder = decoder_for(coding) if coding else None
    except InvalidMessage as exc:
        logger.warning("shadowcat: exchange %d: %s; its messages cannot be seen", exchange.number, exc)
        return None, None
    if is_event_stream(response.headers.get("content-type")):
        return SseFraming(context), decoder
    return (LineFraming(context), decoder) if exchange.listens else (None, None)
