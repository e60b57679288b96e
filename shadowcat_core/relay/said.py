"""What servers' answers say, as far as the way of an exchange depends on it. No I/O."""

from typing import Final

from shadowcat_core.content_coding import decoded_body
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp import HeaderLookup
from shadowcat_core.messages import Message
from shadowcat_core.sessions.lifecycle import Answer, answered_with

LOST: Final = (400, 404)
"""404 is what a server says of a session that it does not know; some say 400 (server-everything)."""
_NOT_FOUND: Final = 404


def answered_in(request: Message | None, status: int, headers: HeaderLookup, body: bytes) -> dict[str, Json] | None:
    """Find the answer to a request in as much of a body as there is."""
    if request is None or request.id is None:
        return None
    try:
        return answered_with(Answer(status, headers, _decoded(headers, body)), request.id)
    except InvalidMessage:
        return None


def says_lost(method: str, status: int, headers: HeaderLookup, body: bytes) -> bool:
    """Say whether an answer to a request of this HTTP method means that the server does not know the session.

    To GET, 404 is also what servers say that have no streams of their own; those that mean the session name it.
    """
    if status == _NOT_FOUND and method != "GET":
        return True
    return status in LOST and b"session" in _decoded(headers, body).lower()


def _decoded(headers: HeaderLookup, body: bytes) -> bytes:
    """A body without its content coding; empty when it cannot be undone."""
    coding = headers.get("content-encoding")
    return body if coding is None else decoded_body(body, coding) or b""
