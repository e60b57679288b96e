"""Answers for an upstream that cannot: a JSON-RPC error with the request's id in place of an HTML page.

A client of both eras that gets an HTML page or a bare status for its first request concludes that the server speaks
the legacy era only (MCP 2026-07-28, version negotiation), and one that waits for an answer to its id waits in vain.

The status is 502 in the modern era, whose clients read the error in any answer. Clients of the legacy era give a
session up at an error's status without reading its text (the Python SDK 1.x does), so they get the error as JSON-RPC
sends errors: with 200.
"""

import logging

from mitmproxy import http

from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.jsonrpc import ErrorCode, Json, error_response
from shadowcat_core.mcp import Era
from shadowcat_core.summary import UPSTREAM_LABEL

logger = logging.getLogger(__name__)

MODERN_STATUS = 502
LEGACY_STATUS = 200


class UpstreamErrors:
    """Makes the answers; the seam in `http_stream` sends them."""

    def __init__(self, registry: ExchangeRegistry) -> None:
        self._registry = registry

    def answer(self, flow: http.HTTPFlow, error: str) -> http.Response | None:
        """Give the response for an exchange whose upstream failed before it answered; None when it asked nothing."""
        exchange = self._registry.get(flow.id)
        if exchange is None:
            return None
        asked = exchange.requests
        if not asked:
            return None
        reached = flow.server_conn.timestamp_tcp_setup is not None
        code = ErrorCode.UPSTREAM_CLOSED if reached else ErrorCode.UPSTREAM_UNREACHABLE
        upstream = flow.metadata.get(UPSTREAM_LABEL) or f"{flow.request.host}:{flow.request.port}"
        text = f"MCP server {upstream} {'gave no answer' if reached else 'cannot be reached'}: {error}"
        logger.warning("shadowcat: %s", text)
        data: dict[str, Json] = {"upstream": upstream, "mayHaveRun": reached}
        bodies = [error_response(message.id, code, text, data) for message in asked]
        body = bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"
        exchange.answered_by_us = True
        status = MODERN_STATUS if exchange.recognition.era is Era.MODERN else LEGACY_STATUS
        return http.Response.make(status, body, {"content-type": "application/json"})
