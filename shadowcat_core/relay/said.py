"""What servers' answers say, as far as the way of an exchange depends on it. No I/O."""

import re
from collections.abc import Collection
from typing import Final

from shadowcat_core.content_coding import decoded_body
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Json, JsonRpcId, parse
from shadowcat_core.mcp import HeaderLookup
from shadowcat_core.messages import Message
from shadowcat_core.sessions.lifecycle import Answer, answered_with

NOT_FOUND: Final = 404
LOST: Final = (400, NOT_FOUND)
"""404 is what a server says of a session that it does not know; some say 400 (server-everything)."""
_OF_A_LOST_SESSION: Final = re.compile(
    r"\b(?:no|no valid|no such|missing|invalid|unknown|expired) (?:mcp[ -])?session\b"
    r"|\bsession(?:[ -]?id)?(?: header)?(?: \S+)? (?:(?:is|was|has|has been|does|could|cannot|can) )?(?:be )?"
    r"(?:not found|not valid|not exist|unknown|invalid|missing|required|expired|terminated|closed|over)\b",
    re.ASCII | re.IGNORECASE,
)
"""How the official servers, and others, say in an error that they do not know a session."""


def answered_in(request: Message | None, status: int, headers: HeaderLookup, body: bytes) -> dict[str, Json] | None:
    """Find the answer to a request in as much of a body as there is."""
    if request is None or request.id is None:
        return None
    try:
        return answered_with(Answer(status, headers, _decoded(headers, body)), request.id)
    except InvalidMessage:
        return None


def says_lost(
    method: str, status: int, headers: HeaderLookup, body: bytes, asked: Collection[JsonRpcId | None] = ()
) -> bool:
    """Say whether an answer to a request of this HTTP method means that the server does not know the session.

    To GET, 404 is also what servers say that have no streams of their own; those that mean the session name it. 400 is
    said of many things: it means the session in an error that says so, about none of the requests with the ids `asked`.
    """
    if status == NOT_FOUND:
        return method != "GET" or b"session" in _decoded(headers, body).lower()
    return status in LOST and _speaks_of_lost_session(_decoded(headers, body), asked)


def _speaks_of_lost_session(body: bytes, asked: Collection[JsonRpcId | None]) -> bool:
    try:
        message = parse(body)
    except InvalidMessage:
        return False
    error = message.get("error") if isinstance(message, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    if not isinstance(message, dict) or not isinstance(text, str):
        return False
    its_id = message.get("id")
    return (its_id is None or its_id not in asked) and _OF_A_LOST_SESSION.search(text) is not None


def _decoded(headers: HeaderLookup, body: bytes) -> bytes:
    """A body without its content coding; empty when it cannot be undone."""
    coding = headers.get("content-encoding")
    return body if coding is None else decoded_body(body, coding) or b""
