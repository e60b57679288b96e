"""What the life of a session consists of on the wire: headers to exchange, refusals, requests of our own. No I/O.

Source: MCP 2025-11-25, Basic / Lifecycle, and Transports / Session Management.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from shadowcat_core.jsonrpc import ErrorCode, Json, JsonRpcId, dump, envelope, error_response, parse
from shadowcat_core.mcp import PROTOCOL_VERSION_HEADER, SESSION_ID_HEADER
from shadowcat_core.mcp.headers import HeaderLookup, is_event_stream
from shadowcat_core.sessions.model import SessionMapping
from shadowcat_core.sse import SseParser

type Headers = Sequence[tuple[str, str]]
type HeaderEdit = tuple[str, str | None]
"""A header and its new value in the place of all it had; None takes it away."""

UPSTREAM_FAILS: Final = (502, 503, 504)
"""It, or what stands behind it, does not work."""
INVALID_REQUEST: Final = -32600
"""JSON-RPC's own code: what the SDKs' servers say of a session they do not know, and their clients understand."""
NOTED_METHODS: Final = frozenset({"resources/subscribe", "resources/unsubscribe", "logging/setLevel"})
"""Requests that change what a server knows of a session, once it has answered them with a result."""

_JSON: Final = ("Content-Type", "application/json")
_ACCEPT: Final = ("Accept", "application/json, text/event-stream")
_VERSION_HEADER_SINCE: Final = "2025-06-18"


class Refusal(Enum):
    """Why a request is not let through.

    UNKNOWN has the HTTP status and the words of the official servers. A session of somebody else is as unknown as one
    that never was: an id cannot be probed. UNVOUCHED ends nothing: no server can be asked now whether a refreshed token
    is genuine.
    """

    UNKNOWN = (404, INVALID_REQUEST, "Session not found")
    UNVOUCHED = (503, ErrorCode.UPSTREAM_UNREACHABLE, "No server can be asked now about this access token")

    @property
    def status(self) -> int:
        """The HTTP status. After 404 a client begins a new session."""
        status: int = self.value[0]
        return status

    def body(self, request_id: JsonRpcId | None = None) -> bytes:
        """The JSON-RPC error, for `application/json`; `request_id` is None where nothing was asked, as by GET."""
        _, code, message = self.value
        return error_response(request_id, code, message)


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to a request of ours: `body` is whole and without content coding."""

    status: int
    headers: HeaderLookup
    body: bytes = b""


class Ask(Protocol):
    """Sends a request of ours to an upstream of that name and waits for the answer.

    An event stream may be left as soon as it has the answer to what `body` asked.

    Raises:
        OSError: the server cannot be reached, or broke off (TimeoutError is one).
    """

    async def __call__(self, upstream: str, method: str, headers: Headers, body: bytes) -> Answer:
        """Do so. `headers` are complete but for `Host`, `Content-Length` and what the connection needs."""
        ...


def request_edits(mapping: SessionMapping) -> Sequence[HeaderEdit]:
    """What to change in the head of a client's request on its way to the session's upstream. Nothing else changes."""
    return ((SESSION_ID_HEADER, mapping.upstream.session_id),)


def response_edits(mapping: SessionMapping, upstream_session_id: str | None, *, begins: bool) -> Sequence[HeaderEdit]:
    """What to change in the head of an answer, which has `upstream_session_id` in its header, on its way to the client.

    Whatever id a server names, the client's is ours. It is told to the client that `begins` in any case.
    """
    return ((SESSION_ID_HEADER, mapping.session_id),) if begins or upstream_session_id is not None else ()


def own_headers(version: str | None, session_id: str | None, carried: Headers) -> Headers:
    """The headers of a request of ours: `carried` ones, such as the caller's Authorization, and the protocol's own."""
    own = [_JSON, _ACCEPT]
    if session_id is not None:
        own.append((SESSION_ID_HEADER, session_id))
    if version is not None and version >= _VERSION_HEADER_SINCE:
        own.append((PROTOCOL_VERSION_HEADER, version))
    names = {name.lower() for name, _ in own} | {SESSION_ID_HEADER.lower(), PROTOCOL_VERSION_HEADER.lower()}
    return [*((name, value) for name, value in carried if name.lower() not in names), *own]


def own_request(request_id: JsonRpcId, method: str, params: Json) -> bytes:
    """Write a request of ours."""
    return dump({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def answered_with(answer: Answer, request_id: JsonRpcId | None) -> dict[str, Json] | None:
    """Find the JSON-RPC answer to a request in a body, which may be a document or an event stream.

    Returns None when there is none. Other messages, such as log lines that a server sends first, are passed over.

    Raises:
        InvalidMessage: something in the body is not JSON.
    """
    documents = [answer.body]
    if is_event_stream(answer.headers.get("content-type")):
        documents = [frame.data for frame in SseParser().feed(answer.body) if frame.data]
    for document in documents:
        message = parse(document)
        found = envelope(message)
        if isinstance(message, dict) and found.method is None and found.id is not None and found.id == request_id:
            return message
    return None
