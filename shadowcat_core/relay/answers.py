"""What is said to a client whose request no server answers. No I/O."""

from collections.abc import Callable, Sequence
from typing import Final

from shadowcat_core.jsonrpc import ErrorCode, Json, JsonRpcId, error_response
from shadowcat_core.mcp import Era
from shadowcat_core.messages import Message, RpcError
from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.steps import Reply
from shadowcat_core.sessions.lifecycle import Refusal
from shadowcat_core.upstreams import Failures

_ACCEPTED: Final = 202
_LEGACY_STATUS: Final = 200
"""Clients of the legacy era give a session up at an error's status without reading its text (the Python SDK 1.x)."""
_MODERN_STATUS: Final = 502
_UNAVAILABLE: Final = 503


def refused(asked: Asked, refusal: Refusal) -> Reply:
    """Answer for a session that is unknown: as the official servers do, with the id of who asks."""
    requests = asked.requests
    return Reply(refusal.status, refusal.body(requests[0].id if requests else None))


def failed(asked: Asked, error_for: Callable[[Message], RpcError]) -> Reply:
    """Answer each request with its error. What wants no answer is accepted: nobody waits, and the session lives on."""
    requests = asked.requests
    if not requests:
        return Reply(_ACCEPTED if asked.messages else _MODERN_STATUS)
    return Reply(
        _MODERN_STATUS if asked.era is Era.MODERN else _LEGACY_STATUS,
        _together([_written(message, error_for(message)) for message in requests]),
    )


def sent_in_vain(tried: Failures) -> RpcError:
    """Write the error for a request that was sent, not answered, and could not be sent again: it may have run."""
    text = f"no MCP server answered this request, which was sent and may have run: {tried}"
    data: dict[str, Json] = {"upstream": tried.latest, "tried": tried.names, "mayHaveRun": True}
    return RpcError(ErrorCode.UPSTREAM_CLOSED, text, data)


def broken_off(request_id: JsonRpcId, upstream: str, reason: str) -> bytes:
    """Write the error for a request whose answer had begun, and broke off with the stream that it came on."""
    text = f"MCP server {upstream} broke off while it answered; the request may have run: {reason}"
    return error_response(request_id, ErrorCode.UPSTREAM_CLOSED, text, {"upstream": upstream, "mayHaveRun": True})


def store_away(asked: Asked, why: str, *, may_have_run: bool = False) -> Reply:
    """Answer when nobody can say whether there is such a session: the client keeps it, and may try again."""
    return _unavailable(asked, f"the store of sessions does not answer: {why}", may_have_run=may_have_run)


def not_kept(asked: Asked, why: str) -> Reply:
    """Answer when a server has begun a session that cannot be kept: nobody would know it at the next request."""
    return _unavailable(asked, f"the session cannot be kept: {why}", may_have_run=True)


def _unavailable(asked: Asked, text: str, *, may_have_run: bool) -> Reply:
    if not asked.messages:
        return Reply(_UNAVAILABLE)
    return failed(asked, lambda _message: RpcError(ErrorCode.STORE_UNAVAILABLE, text, {"mayHaveRun": may_have_run}))


def _written(message: Message, error: RpcError) -> bytes:
    return error_response(message.id, error.code, error.message, error.data)


def _together(bodies: Sequence[bytes]) -> bytes:
    return bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"
