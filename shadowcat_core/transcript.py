"""One line for one message, the same wherever people read it: mitmweb, the terminal, a tape. No I/O.

+0.104 s ← notifications/progress 2/4 halfway there
+0.310 s ← result #3 tools/call echo
"""

from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message

MAX_DETAIL_CHARS = 80
"""Enough to tell one log line or error from another; the payload has all of it."""

ARROWS = {Direction.CLIENT_TO_SERVER: "→", Direction.SERVER_TO_CLIENT: "←"}


def headline(message: Message, *, answers: str | None = None) -> str:
    """Say what a message is: method, id, target and the few words that tell it from its neighbours.

    `answers` names the request that a response answers, when the caller knows it.
    """
    return " ".join([ARROWS[message.direction], *_words(message, answers)])


def _words(message: Message, answers: str | None) -> list[str]:
    if message.kind is Kind.INVALID:
        return ["not JSON-RPC:", shortened(message.raw.decode("utf-8", "replace"))]
    payload = message.payload if isinstance(message.payload, dict) else {}
    match message.kind:
        case Kind.REQUEST:
            return [*_some(message.method, _id(message), message.target)]
        case Kind.NOTIFICATION:
            return [*_some(message.method, _notification_detail(message.method, payload.get("params")))]
        case Kind.RESPONSE:
            what = "tool error" if is_tool_error(payload) else "result"
            return [*_some(what, _id(message), answers, _result_detail(payload.get("result")))]
        case Kind.ERROR:
            return [*_some("error", _id(message), answers, error_text(message))]


def is_tool_error(payload: Json) -> bool:
    """Say whether a parsed response is a tool's own failure (`isError`), which JSON-RPC counts as a success."""
    result = payload.get("result") if isinstance(payload, dict) else None
    return isinstance(result, dict) and result.get("isError") is True


def is_failure(message: Message) -> bool:
    """Say whether a message reports a failure: a JSON-RPC error or a tool's own."""
    return message.kind is Kind.ERROR or (message.kind is Kind.RESPONSE and is_tool_error(message.payload))


def error_text(message: Message) -> str:
    """Code and text of a JSON-RPC error, shortened to one line."""
    error = message.payload.get("error") if isinstance(message.payload, dict) else None
    return shortened(f"{error.get('code')} {error.get('message')}") if isinstance(error, dict) else ""


def duration_text(duration_ns: int) -> str:
    """A duration at a glance: `0.4 ms`, `12 ms`, `3.2 s`."""
    ms = duration_ns / 1e6
    if ms < 10:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def size_text(size: int) -> str:
    """A size at a glance: `214 B`, `1.2 KB`, `3.4 MB`."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:.1f} KB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def _some(*words: str | None) -> list[str]:
    return [word for word in words if word]


def _id(message: Message) -> str:
    return f"#{message.id}"


def _notification_detail(method: str | None, params: Json) -> str | None:
    if not isinstance(params, dict):
        return None
    match method:
        case "notifications/progress":
            total = params.get("total")
            steps = _number(params.get("progress")) + ("" if total is None else f"/{_number(total)}")
            return shortened(" ".join(_some(steps, _text(params.get("message")))))
        case "notifications/message":
            return shortened(" ".join(_some(_text(params.get("level")), _text(params.get("data")))))
        case "notifications/resources/updated":
            return _text(params.get("uri"))
        case "notifications/cancelled":
            return f"#{params.get('requestId')}"
        case _:
            return None


def _result_detail(result: Json) -> str | None:
    if isinstance(result, dict) and result.get("resultType") == "input_required":
        return "input required"
    return None


def _number(value: Json) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(value: Json) -> str | None:
    return None if value is None else str(value)


def shortened(text: str) -> str:
    """The text on one line, cut to `MAX_DETAIL_CHARS`."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_DETAIL_CHARS else line[: MAX_DETAIL_CHARS - 1] + "…"
