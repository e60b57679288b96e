"""Reads what a guard decides about, and rules out by bytes what it need not read."""

from collections.abc import Collection
from typing import Final

from shadowcat_core.errors import UnroutableMessage
from shadowcat_core.interceptors.protocols import is_unroutable
from shadowcat_core.jsonrpc import Json
from shadowcat_core.messages import Message
from shadowcat_core.transcript import shortened

TOOLS_LIST: Final = "tools/list"
TOOLS_CALL: Final = "tools/call"
MAX_NAMED: Final = 5
"""How many things a reason names before it only counts them."""


def is_plain(raw: bytes) -> bool:
    r"""True when ASCII letters in the JSON text are what they are: no `\u0041`, and no encoding that hides them."""
    return b"\\u" not in raw and b"\0" not in raw


def may_mention(raw: bytes, words: Collection[bytes]) -> bool:
    """False when the bytes prove that none of the words (ASCII, without anything JSON escapes) is in the message."""
    return not is_plain(raw) or any(word in raw for word in words)


def read_object(message: Message) -> dict[str, Json] | None:
    """The parsed message; None when it is no object, and nobody could take it for one.

    Raises:
        UnroutableMessage: it is not JSON to us, but may be to its receiver, so it cannot be judged.
    """
    if not message.is_json:
        if is_unroutable(message):
            raise UnroutableMessage("no JSON to us, but perhaps some to its receiver")
        return None
    payload = message.payload
    return payload if isinstance(payload, dict) else None


def listed_tools(message: Message, payload: dict[str, Json]) -> list[Json] | None:
    """The tools in an answer to `tools/list`; None when the message is none.

    An answer whose request is not known, as on a resumed stream, is told by its tools.
    """
    result = payload.get("result")
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(tools, list):
        return None
    request = message.request
    return tools if request is None or request.method == TOOLS_LIST else None


def with_tools(payload: dict[str, Json], tools: list[Json]) -> dict[str, Json]:
    """The same answer with other tools; its cursor and everything else stay."""
    result = payload["result"]
    return {**payload, "result": {**result, "tools": tools} if isinstance(result, dict) else result}


def tool_name(tool: Json) -> str | None:
    """The name by which a tool is called; None when it has none."""
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else None


def named(names: Collection[str]) -> str:
    """A few names on one printable line, and how many more there are."""
    listed = ", ".join(shortened(name, 60) for name in list(names)[:MAX_NAMED])
    return listed if len(names) <= MAX_NAMED else f"{listed} and {len(names) - MAX_NAMED} more"
