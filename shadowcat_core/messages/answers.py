"""How a message that does not go on is settled with the one who waits for it.

Somebody waits for every request, and for every answer: neither may just vanish. Source: JSON-RPC 2.0, section 5; MCP
2026-07-28, Result and CacheableResult.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from shadowcat_core.jsonrpc import Json, Kind, dump, error_response
from shadowcat_core.mcp import PROTOCOL_VERSION_HEADER, Direction, Era, era_of, protocol_version
from shadowcat_core.messages.message import Message

_COMPLETE: Final = "complete"
_CACHEABLE: Final = frozenset({
    "prompts/list", "resources/list", "resources/read", "resources/templates/list", "server/discover", "tools/list",
})  # fmt: skip
_NOT_CACHED: Final[dict[str, Json]] = {"ttlMs": 0, "cacheScope": "private"}


@dataclass(frozen=True, slots=True)
class RpcError:
    """The error of a JSON-RPC answer; `data` is left out when None."""

    code: int
    message: str
    data: Json = None


class Settlement(Enum):
    """What happens to a message in the place of its going on."""

    REPLY = auto()
    """It is dropped, and its sender gets the answer."""
    SUBSTITUTE = auto()
    """It was an answer: its receiver, who waits, gets the other one in its place."""
    VANISH = auto()
    """It is dropped. Nobody waits."""


def settlement_of(message: Message) -> Settlement:
    """Tell how a message is settled, by what its receiver may take it for.

    A message that is not JSON-RPC may still be read by a lenient receiver, and waited for: one with an id counts as an
    answer if it has a result or an error, else as a request. What comes from a client and has neither id nor method
    gets an answer with the id null, as JSON-RPC has it for what cannot be read.
    """
    kind, method, request_id = message.envelope
    match kind:
        case Kind.REQUEST:
            return Settlement.REPLY
        case Kind.RESPONSE | Kind.ERROR:
            return Settlement.SUBSTITUTE
        case Kind.NOTIFICATION:
            return Settlement.VANISH
        case Kind.INVALID if request_id is not None:
            payload = message.payload
            answers = method is None and isinstance(payload, dict) and ("result" in payload or "error" in payload)
            return Settlement.SUBSTITUTE if answers else Settlement.REPLY
        case Kind.INVALID if method is None and message.direction is Direction.CLIENT_TO_SERVER:
            return Settlement.REPLY
        case Kind.INVALID:
            return Settlement.VANISH


def settled(message: Message, answer: Json | RpcError, at_ns: int) -> tuple[Message | None, Message | None]:
    """Settle a message by a result or an error: what goes on in its place, and what its sender gets; None for nothing.

    A result for a request of the modern era gets the members that its schema requires, where they are missing: it is
    complete, and not to be cached. One result so serves the clients of both eras.

    Raises:
        InvalidMessage: the answer cannot be written as JSON.
    """
    match settlement_of(message):
        case Settlement.REPLY:
            context = replace(message.context, direction=message.direction.opposite)
            return None, Message(_written(message, message, answer), context, at_ns=at_ns)
        case Settlement.SUBSTITUTE:
            return message.with_raw(_written(message, message.request, answer)), None
        case Settlement.VANISH:
            return None, None


def _written(message: Message, request: Message | None, answer: Json | RpcError) -> bytes:
    if isinstance(answer, RpcError):
        return error_response(message.id, answer.code, answer.message, answer.data)
    if isinstance(answer, dict) and _era(message, request) is Era.MODERN:
        answer = _modern(answer, None if request is None else request.method)
    return dump({"jsonrpc": "2.0", "id": message.id, "result": answer})


def _modern(result: dict[str, Json], method: str | None) -> dict[str, Json]:
    """Add what the modern era requires of every result, and of those that may be cached; what is there stays."""
    result = {"resultType": _COMPLETE, **result}
    is_cacheable = method in _CACHEABLE and result["resultType"] == _COMPLETE
    return {**_NOT_CACHED, **result} if is_cacheable else result


def _era(message: Message, request: Message | None) -> Era:
    """Tell the era of an answer: that of its request, and where that is not known, what the HTTP request says."""
    if request is not None:
        return era_of(protocol_version(request.payload) if request.is_json else None)
    headers = message.context.headers
    return era_of(None if headers is None else headers.get(PROTOCOL_VERSION_HEADER))
