"""Decides whether an HTTP exchange carries MCP, and which kind, from values that any HTTP stack can hand over.

A wrong yes would put MCP's rules on somebody else's API, a wrong no would hide traffic. So every answer names its
evidence, and JSON-RPC without a sign of MCP (Ethereum, LSP over HTTP, A2A) is called just that.
Source: MCP transports, 2024-11-05 (HTTP+SSE), 2025-11-25 and 2026-07-28 (Streamable HTTP).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, urlsplit

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Envelope, Json, Kind, envelope, parse, split_array
from shadowcat_core.mcp.headers import (
    METHOD_HEADER,
    PROTOCOL_VERSION_HEADER,
    SESSION_ID_HEADER,
    HeaderLookup,
    is_json,
    media_type,
)
from shadowcat_core.mcp.protocol import METHODS, Direction, Era, era_of, protocol_version
from shadowcat_core.sse import Frame


class RecognitionKind(StrEnum):
    """What an exchange is for."""

    MESSAGES = "messages"  # a POST with messages for the server; its response may hold some for the client
    STREAM = "stream"  # a GET that asks for the server's own stream (legacy Streamable HTTP)
    SESSION_END = "session-end"  # a DELETE that ends a session (legacy Streamable HTTP)
    SSE_STREAM = "sse-stream"  # the one stream of HTTP+SSE (2024-11-05), which begins with an `endpoint` event
    MAYBE_STREAM = "maybe-stream"  # a GET for some event stream: its first event tells (`FirstEvent`)
    JSON_RPC = "json-rpc"  # JSON-RPC 2.0 without a sign of MCP
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Recognition:
    """What an exchange is, and why we think so.

    `protocol_version` is what the exchange itself names; None when it names none (legacy requests to servers before
    2025-06-18). `endpoint` is the URI, as sent, that a client of HTTP+SSE posts to. `evidence` is for people.
    """

    kind: RecognitionKind
    evidence: str
    era: Era | None = None
    protocol_version: str | None = None
    session_id: str | None = None
    endpoint: str | None = None

    @property
    def is_mcp(self) -> bool:
        """True when there is evidence of MCP, not only of JSON-RPC or of an event stream."""
        return self.era is not None


# Methods that name themselves. `ping` and the tasks of 2025-11-25 have namesakes elsewhere (A2A has tasks/get).
_TELLING: Final = frozenset(
    method
    for methods in METHODS.values()
    for direction in Direction
    for method in methods.sent(direction)
    if "/" in method and not method.startswith("tasks/")
)
_BOTH_TYPES: Final = {"application/json", "text/event-stream"}


def recognise_request(
    http_method: str, headers: HeaderLookup, body: bytes | None, *, posted_to_endpoint: bool = False
) -> Recognition:
    """Tell what a complete HTTP request is.

    Args:
        body: without content coding; None when it cannot be undone.
        posted_to_endpoint: the request goes to a URI that an `endpoint` event announced.
    """
    match http_method.upper():
        case "POST":
            return _recognise_post(headers, body, posted_to_endpoint=posted_to_endpoint)
        case "GET":
            return _recognise_get(headers)
        case "DELETE" if session_id := headers.get(SESSION_ID_HEADER):
            return _by_headers(RecognitionKind.SESSION_END, headers, session_id)
        case "DELETE":
            return Recognition(RecognitionKind.NONE, f"a DELETE without {SESSION_ID_HEADER}")
        case _:
            return Recognition(RecognitionKind.NONE, f"MCP does not use {http_method}")


def recognise_event(first: Frame) -> Recognition:
    """Tell what an event stream is by its first event."""
    if first.event == "endpoint":
        endpoint = first.data.decode("utf-8", "replace")
        return Recognition(
            RecognitionKind.SSE_STREAM,
            "the stream begins with an endpoint event",
            Era.LEGACY,
            "2024-11-05",
            _session_in_query(endpoint),
            endpoint,
        )
    found = _recognise_message(first.data)
    if found.is_mcp:
        return replace(found, kind=RecognitionKind.STREAM)
    return Recognition(RecognitionKind.NONE, "an event stream whose first event is no MCP message")


def _recognise_get(headers: HeaderLookup) -> Recognition:
    if headers.get(SESSION_ID_HEADER) or headers.get(PROTOCOL_VERSION_HEADER):
        return _by_headers(RecognitionKind.STREAM, headers, headers.get(SESSION_ID_HEADER))
    if "text/event-stream" in _accepted(headers):
        return Recognition(RecognitionKind.MAYBE_STREAM, "a GET that accepts an event stream")
    return Recognition(RecognitionKind.NONE, "a GET without MCP headers that accepts no event stream")


def _recognise_post(headers: HeaderLookup, body: bytes | None, *, posted_to_endpoint: bool) -> Recognition:
    version, session_id = headers.get(PROTOCOL_VERSION_HEADER), headers.get(SESSION_ID_HEADER)
    if version or session_id or headers.get(METHOD_HEADER):
        return _by_headers(RecognitionKind.MESSAGES, headers, session_id)
    if posted_to_endpoint:
        evidence = "posted to the URI of an endpoint event"
        return Recognition(RecognitionKind.MESSAGES, evidence, Era.LEGACY, "2024-11-05")
    content_type = headers.get("Content-Type")
    if content_type and not is_json(content_type):
        return Recognition(RecognitionKind.NONE, f"a POST of {media_type(content_type)[0] or 'an unreadable type'}")
    found = _recognise_message(body or b"")
    if (found.kind is RecognitionKind.JSON_RPC or body is None) and _accepted(headers) >= _BOTH_TYPES:
        evidence = "JSON-RPC from a client that accepts both JSON and an event stream"
        return Recognition(RecognitionKind.MESSAGES, evidence, Era.LEGACY)
    return found


def _by_headers(kind: RecognitionKind, headers: HeaderLookup, session_id: str | None) -> Recognition:
    version = headers.get(PROTOCOL_VERSION_HEADER)
    if version is None and session_id is None:
        return Recognition(kind, f"header {METHOD_HEADER}", Era.MODERN)
    evidence = f"header {SESSION_ID_HEADER if version is None else PROTOCOL_VERSION_HEADER}"
    era = era_of(version)
    # The modern era has no sessions; the header of a client that still sends one means nothing.
    return Recognition(kind, evidence, era, version, session_id if era is Era.LEGACY else None)


def _recognise_message(raw: bytes) -> Recognition:
    """Judge by one message, or by the first of an array that tells."""
    nothing = Recognition(RecognitionKind.NONE, "the body is no JSON-RPC message")
    # A JSON text with the name "jsonrpc" holds it literally or with an escape: anything else need not be parsed.
    if raw.find(b'"jsonrpc"') < 0 and raw.find(b"\\u") < 0:
        return nothing
    try:
        is_array = raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
        payloads = [parse(raw[start:end]) for start, end in split_array(raw)] if is_array else [parse(raw)]
    except InvalidMessage:
        return nothing
    found = [_judge(about, payload) for payload in payloads if (about := envelope(payload)).kind is not Kind.INVALID]
    return next((each for each in found if each.is_mcp), found[0] if found else nothing)


def _judge(found: Envelope, payload: Json) -> Recognition:
    version = protocol_version(payload)
    if version is not None:
        return Recognition(RecognitionKind.MESSAGES, "the message names a protocol version", era_of(version), version)
    if found.method == "server/discover":
        return Recognition(RecognitionKind.MESSAGES, "method server/discover", Era.MODERN)
    if found.method in _TELLING:
        return Recognition(RecognitionKind.MESSAGES, f"method {found.method}", Era.LEGACY)
    return Recognition(RecognitionKind.JSON_RPC, "JSON-RPC 2.0 without a sign of MCP")


def _accepted(headers: HeaderLookup) -> set[str]:
    return {media_type(accepted)[0] for accepted in (headers.get("Accept") or "").split(",")}


def _session_in_query(endpoint: str) -> str | None:
    """HTTP+SSE has no session header: servers put an id into the query of the URI that clients post to."""
    try:
        query = parse_qs(urlsplit(endpoint).query)
    except ValueError:
        return None
    for name in ("session_id", "sessionId"):
        if name in query:
            return query[name][0]
    return None
