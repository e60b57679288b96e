"""Messages as a person lists them: each answer beside what was asked, and how long it took."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shadowcat_core.jsonrpc import Json, JsonRpcId, Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message
from shadowcat_core.transcript import is_failure

type _Key = tuple[str | int | None, Direction, type, JsonRpcId]


@dataclass(frozen=True, slots=True)
class Row:
    """One message in a list. `method` and `target` of an answer are those of the request it answers, when known.

    `status` is `ok` or `error` for an answer (a tool's own failure is an error too), `invalid` for what is no
    JSON-RPC, else empty. `duration_ns` is an answer's, from its request; None when the request is not on the tape.
    """

    message: Message
    method: str | None
    target: str | None
    status: str
    duration_ns: int | None

    def as_json(self, origin_ns: int, *, payload: bool) -> dict[str, Json]:
        """Return the row for scripts: times in µs, sizes in bytes; with its payload, or its text when not JSON."""
        message = self.message
        fields: dict[str, Json] = {
            "t": (message.at_ns - origin_ns) // 1000,
            "exchange": message.exchange_id,
            "dir": str(message.direction),
            "kind": str(message.kind),
            "method": self.method,
            "id": message.id,
            "target": self.target,
            "status": self.status or None,
            "bytes": len(message.raw),
            "duration_us": None if self.duration_ns is None else self.duration_ns // 1000,
            "session": message.session_id,
            "event_id": message.event_id,
        }
        if payload:
            if message.kind is Kind.INVALID:
                fields["text"] = message.raw.decode("utf-8", "replace")
            else:
                fields["payload"] = message.payload
        return fields


def list_rows(messages: Iterable[Message]) -> Iterator[Row]:
    """Match answers with requests, by session or exchange, direction and id; holds the unanswered requests."""
    asked: dict[_Key, Message] = {}
    for message in messages:
        match message.kind:
            case Kind.REQUEST:
                for scope in (message.session_id, message.exchange_id):
                    if scope is not None and message.id is not None:
                        asked[scope, message.direction, type(message.id), message.id] = message
                yield Row(message, message.method, message.target, "", None)
            case Kind.RESPONSE | Kind.ERROR:
                request = _request_of(message, asked)
                status = "error" if is_failure(message) else "ok"
                if request is None:
                    yield Row(message, None, None, status, None)
                else:
                    yield Row(message, request.method, request.target, status, message.at_ns - request.at_ns)
            case Kind.NOTIFICATION:
                yield Row(message, message.method, message.target, "", None)
            case Kind.INVALID:
                yield Row(message, message.method, None, "invalid", None)


def _request_of(answer: Message, asked: dict[_Key, Message]) -> Message | None:
    if answer.id is None:
        return None
    found = None
    # The exchange first: two clients without a session, or a careless one within one, may reuse an id.
    for scope in (answer.exchange_id, answer.session_id):
        request = asked.pop((scope, answer.direction.opposite, type(answer.id), answer.id), None)
        found = found or request
    return found
