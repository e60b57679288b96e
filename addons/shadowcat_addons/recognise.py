"""Recognises MCP exchanges, opens them in the registry, and labels their flows so that mitmproxy's filters find them.

~meta "mcp.method: tools/call"      ~meta "mcp.target: echo"      ~comment error
"""

import logging
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from mitmproxy import http

from shadowcat_core.content_coding import decoded_body
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.limits import MAX_ENDPOINTS, MAX_FIRST_EVENT_BYTES
from shadowcat_core.mcp import (
    SESSION_ID_HEADER,
    Recognition,
    RecognitionKind,
    is_event_stream,
    recognise_request,
    recognise_stream,
)

logger = logging.getLogger(__name__)


class Recognise:
    """Looks at each request when it is complete, and at responses that turn out to be event streams."""

    def __init__(self, registry: ExchangeRegistry) -> None:
        self._registry = registry
        # HTTP+SSE: where the `endpoint` event of a stream told its client to post, as an absolute URI.
        self._endpoints: dict[str, Recognition] = {}

    def request(self, flow: http.HTTPFlow) -> None:
        body = readable_body(flow.request)
        recognition = self._recognise(flow, body)
        if recognition.is_mcp:
            self._open(flow, recognition, body)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        response = flow.response
        if response is None:
            return
        exchange = self._registry.get(flow.id)
        if exchange is None:
            if not is_event_stream(response.headers.get("content-type")):
                return
            # Not asked in MCP's way, but an event stream: HTTP+SSE, an LLM's answer, or somebody's own.
            exchange = self._open(flow, self._recognise(flow, readable_body(flow.request)), b"")
            if exchange.recognition.kind is RecognitionKind.MAYBE_STREAM:
                exchange.chunk_sinks.append(_FirstEvent(self, flow, exchange).take)
        elif (session_id := response.headers.get(SESSION_ID_HEADER)) and exchange.recognition.session_id is None:
            exchange.settle(replace(exchange.recognition, session_id=session_id))
            label(flow, exchange)

    def _recognise(self, flow: http.HTTPFlow, body: bytes) -> Recognition:
        request = flow.request
        stream = self._endpoints.get(request.url) if self._endpoints else None
        recognition = recognise_request(request.method, request.headers, body, posted_to_endpoint=stream is not None)
        return recognition if stream is None else replace(recognition, session_id=stream.session_id)

    def _open(self, flow: http.HTTPFlow, recognition: Recognition, body: bytes) -> Exchange:
        exchange = self._registry.open(flow.id, flow.client_conn.id, recognition, body)
        label(flow, exchange)
        return exchange

    def settle(self, flow: http.HTTPFlow, exchange: Exchange, recognition: Recognition) -> None:
        """Take note of what a stream turned out to be."""
        exchange.settle(recognition)
        label(flow, exchange)
        if recognition.endpoint is not None:
            if len(self._endpoints) >= MAX_ENDPOINTS:
                del self._endpoints[next(iter(self._endpoints))]
            self._endpoints[urljoin(flow.request.url, recognition.endpoint)] = recognition
            if urlsplit(recognition.endpoint).netloc:
                logger.warning(
                    "shadowcat: %s announces an absolute endpoint (%s); a client may post there past this proxy",
                    flow.request.pretty_url, recognition.endpoint,
                )  # fmt: skip


class _FirstEvent:
    """Collects the beginning of a stream until its first event tells what the stream is."""

    def __init__(self, recognise: Recognise, flow: http.HTTPFlow, exchange: Exchange) -> None:
        self._recognise = recognise
        self._flow = flow
        self._exchange = exchange
        self._beginning: bytes | None = b""

    def take(self, _at_ns: int, chunk: bytes) -> None:
        if self._beginning is None:
            return
        self._beginning += chunk
        recognition = recognise_stream(self._exchange.recognition, self._beginning)
        if recognition.kind is not RecognitionKind.MAYBE_STREAM:
            self._recognise.settle(self._flow, self._exchange, recognition)
            self._beginning = None
        elif len(self._beginning) > MAX_FIRST_EVENT_BYTES:
            self._beginning = None


def readable_body(request: http.Request) -> bytes:
    """The body without its content coding; empty when it cannot be decoded, for then nobody can tell what it is."""
    return decoded_body(request.raw_content or b"", request.headers.get("content-encoding", "")) or b""


def label(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Write what is known of an exchange into its flow's metadata, as text that filters and flow files can hold."""
    recognition = exchange.recognition
    requests = exchange.requests
    labels = {
        "mcp.kind": recognition.kind if recognition.is_mcp else None,
        "mcp.era": recognition.era,
        "mcp.version": recognition.protocol_version,
        "mcp.session": recognition.session_id,
        "mcp.method": " ".join(message.method for message in exchange.asked or () if message.method),
        "mcp.target": " ".join(message.target for message in requests if message.target),
        "mcp.id": " ".join(str(message.id) for message in requests),
    }
    flow.metadata.update({name: str(value) for name, value in labels.items() if value})
