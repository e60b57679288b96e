"""One line for one message, the same wherever people read it: mitmweb, the terminal, a tape, the demo. No I/O.

→ tools/call #7 echo {"text":"hi"}
← notifications/progress 2/4 halfway there
← result #7 tools/call echo hi
! → tools/call #8 delete · blocked by no-deletes: not today

What peers send is cut to a length that a line can bear, and its control characters are shown as escapes: it must not
steer a terminal.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Json, Kind, dump
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message

MAX_DETAIL_CHARS: Final = 80
"""Enough to tell one log line, argument or error from another; the payload has all of it."""
MAX_NAME_CHARS: Final = 60
"""Longer than any method, id or tool name that is meant to be read."""
_LOOK_CHARS: Final = 1_000
"""How much of a text is worked on, so that a line about a megabyte costs what any line costs."""

ARROWS: Final = {Direction.CLIENT_TO_SERVER: "→", Direction.SERVER_TO_CLIENT: "←"}
COLOURS: Final = {
    Kind.REQUEST: "blue",
    Kind.NOTIFICATION: "yellow",
    Kind.RESPONSE: "green",
    Kind.ERROR: "red",
    Kind.INVALID: "red",
}
"""How kinds are told apart on a terminal, in names that both rich and click know."""

_LISTS: Final = {
    "tools": "tool",
    "resources": "resource",
    "resourceTemplates": "template",
    "prompts": "prompt",
    "messages": "message",
    "roots": "root",
}
"""What a result lists: the member, and one of its items."""

DEEDS: Final = {
    "modify": "changed",
    "drop": "dropped",
    "inject": "injected",
    "block": "blocked",
    "mock": "answered",
    "answer": "answered",
    "delay": "delayed",
    "pause": "held",
    "release": "released",
    "fail": "failed on",
}
"""What was done to a message, by the verdict's name on a tape."""

type Fields = Mapping[str, Json]


class Words(NamedTuple):
    """The words of a line in their order, each printable, short, and empty where there is nothing to say."""

    what: str
    """The method; of an answer `result`, `tool error` or `error`."""
    number: str
    """The id, as in `#7`."""
    about: str
    """The tool, prompt or resource; of an answer, what it answers."""
    gist: str
    """What the message says, where that fits a line: arguments, progress, an error, a result's text or size."""


def headline(message: Message, *, answers: str | None = None) -> str:
    """Say what a message is in one line. `answers` names the request that a response answers, when it is known."""
    return " ".join(_some(ARROWS[message.direction], *words(message, answers=answers)))


def words(message: Message, *, answers: str | None = None) -> Words:
    """Give the words of a message's headline, for those who lay them out in columns or colours."""
    kind, number = message.kind, "" if message.id is None else _name(f"#{message.id}")
    if kind is Kind.INVALID:
        return Words("not JSON-RPC:", "", "", gist(message))
    if message.method is not None:
        return Words(_name(message.method), number, _name(message.target), gist(message))
    what = "error" if kind is Kind.ERROR else "tool error" if is_tool_error(message.payload) else "result"
    return Words(what, number, shortened(answers or "", 2 * MAX_NAME_CHARS), gist(message))


def deed(action: str, by: str, reason: str = "", *, audited: bool = False) -> str:
    """Say what somebody did to a message, or would have done (`audited`): `blocked by no-deletes: not today`."""
    done = DEEDS.get(action, action)
    text = f"{by} failed" if action == "fail" else f"{'would have been ' if audited else ''}{done} by {by}"
    return printable(text if reason in ("", done) else f"{text}: {reason}")


def deed_line(message: Message, done: str, *, answers: str | None = None, became: Message | None = None) -> str:
    """Say what was done (`deed`) to a message in one line, and in short what it became."""
    parts = [f"! {headline(message, answers=answers)}", done]
    if became is not None:
        parts.append(f"became {_news(message, became)}")
    return " · ".join(parts)


def note_line(about: Message | None, text: str) -> str:
    """Say in one line what happened beside the messages, with the request that it is about."""
    named = "" if about is None else title(about)
    return f"! {' · '.join(_some(named, printable(text)))}"


def title(message: Message) -> str:
    """Name what a request or notification is about: its method and target."""
    return " ".join(_some(_name(message.method), _name(message.target)))


def gist(message: Message) -> str:
    """Say what a message carries in a few words; empty when that would tell nothing."""
    kind = message.kind
    if kind is Kind.INVALID:
        return shortened(message.raw[: 4 * _LOOK_CHARS].decode("utf-8", "replace"))
    if message.method is not None:
        return shortened(_params_gist(message.method, _part(message.payload, "params")))
    return error_text(message) if kind is Kind.ERROR else shortened(_result_gist(_part(message.payload, "result")))


def is_tool_error(payload: Json) -> bool:
    """Say whether a parsed response is a tool's own failure (`isError`), which JSON-RPC counts as a success."""
    return _part(payload, "result").get("isError") is True


def is_failure(message: Message) -> bool:
    """Say whether a message reports a failure: a JSON-RPC error or a tool's own."""
    return message.kind is Kind.ERROR or (message.kind is Kind.RESPONSE and is_tool_error(message.payload))


def error_text(message: Message) -> str:
    """Code and text of a JSON-RPC error, shortened to one line."""
    error = _part(message.payload, "error")
    return shortened(" ".join(_some(_text(error.get("code")), _text(error.get("message")))))


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


def shortened(text: str, max_chars: int = MAX_DETAIL_CHARS) -> str:
    """The text on one printable line, cut to `max_chars`."""
    line = printable(" ".join(text[:_LOOK_CHARS].split()))
    return line if len(line) <= max_chars and len(text) <= _LOOK_CHARS else line[: max_chars - 1] + "…"


def printable(text: str) -> str:
    """The text with its control characters, and whatever else is not to be seen, as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _news(before: Message, after: Message) -> str:
    """What the words of one message say and those of another did not; its size where words do not tell them apart."""
    new = [word for was, word in zip(words(before), words(after), strict=True) if word != was]
    return " ".join(_some(*new)) or size_text(len(after.raw))


def _name(text: str | None) -> str:
    return shortened(text or "", MAX_NAME_CHARS)


def _some(*texts: str) -> list[str]:
    return [text for text in texts if text]


def _result_gist(result: Fields) -> str:
    if result.get("resultType") == "input_required":
        return "input required"
    if versions := _items(result, "supportedVersions"):
        return f"speaks {', '.join(map(_text, versions))}"
    if "serverInfo" in result:
        return _implementation(_part(result, "serverInfo"))
    for member, item in _LISTS.items():
        if isinstance(listed := result.get(member), list):
            return f"{len(listed)} {item}{'' if len(listed) == 1 else 's'}"
    content = result.get("content", result.get("contents"))
    texts = _some(*map(_block_gist, content if isinstance(content, list) else [content]))
    if not texts and "structuredContent" in result:
        return _text(result["structuredContent"])
    return " ".join(texts) or _text(result.get("action"))


def _params_gist(method: str, params: Fields) -> str:
    match method:
        case "initialize":
            return _implementation(_part(params, "clientInfo"))
        case "tools/call" | "prompts/get":
            return _text(params.get("arguments") or None)
        case "elicitation/create":
            return _text(params.get("message"))
        case "logging/setLevel":
            return _text(params.get("level"))
        case "notifications/progress":
            total = params.get("total")
            steps = _text(params.get("progress")) + ("" if total is None else f"/{_text(total)}")
            return " ".join(_some(steps, _text(params.get("message"))))
        case "notifications/message":
            return ": ".join(_some(_text(params.get("level")), _text(params.get("data"))))
        case "notifications/cancelled":
            return " ".join(_some(f"#{_text(params.get('requestId'))}", _text(params.get("reason"))))
        case _:
            return ""


def _block_gist(block: Json) -> str:
    """The text of a content block; of an image, a sound or a link only what it is."""
    if not isinstance(block, dict):
        return ""
    kind = _text(block.get("type") or block.get("mimeType"))
    return _text(block.get("text")) or (f"[{kind}]" if kind else "")


def _implementation(about: Fields) -> str:
    return " ".join(_some(_text(about.get("name")), _text(about.get("version"))))


def _part(fields: Json | Fields, member: str) -> Fields:
    """The object under a member, empty when it is anything else: a peer may send what it likes."""
    part = fields.get(member) if isinstance(fields, Mapping) else None
    return part if isinstance(part, dict) else {}


def _items(fields: Fields, member: str) -> list[Json]:
    items = fields.get(member)
    return items if isinstance(items, list) else []


def _text(value: Json) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else str(value)
    try:
        return dump(value).decode()
    except InvalidMessage:  # an infinity, as which a peer's 1e999 is read
        return str(value)
