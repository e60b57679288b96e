"""Keeps results that are too large from the client: an error in their place, or their beginning with a note."""

from enum import StrEnum
from typing import Final

from shadowcat_core.interceptors.guards.reading import TOOLS_CALL, read_object
from shadowcat_core.interceptors.verdicts import Block, Continue, Modify, Verdict
from shadowcat_core.jsonrpc import Json, dump
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message

_CUT_OFF: Final = "…[truncated]"


class Excess(StrEnum):
    """What becomes of a result that is too large: a JSON-RPC ERROR, or the TRUNCATEd text of a tool."""

    ERROR = "error"
    TRUNCATE = "truncate"


class CapResults:
    """Caps answers by the bytes of their JSON text: those of tools, or with `every` those of all requests.

    Only what a tool answers can be truncated. In `content` text is cut, whatever else does not fit is left out, and a
    text at the end says so. In `structuredContent`, which must keep its schema, long texts are cut, within half of the
    room, and say so themselves. Where that is not enough, and for answers to other requests, an error takes the place
    of the answer.
    """

    direction = Direction.SERVER_TO_CLIENT

    def __init__(self, max_bytes: int, excess: Excess = Excess.ERROR, *, every: bool = False) -> None:
        """Make a cap.

        Raises:
            ValueError: a limit that nothing could keep.
        """
        if max_bytes < 1:
            raise ValueError(f"no result has less than {max_bytes} bytes")
        self._max_bytes = max_bytes
        self._excess = excess
        self._every = every

    def intercept(self, message: Message) -> Verdict:
        """Judge one message of a server: its size first, which is all that most need."""
        if len(message.raw) <= self._max_bytes:
            return Continue()
        payload = read_object(message)
        if payload is None or "method" in payload or not self._concerns(message, payload):
            return Continue()
        shorter = self._truncated(payload, len(message.raw)) if self._excess is Excess.TRUNCATE else None
        if shorter is not None:
            return Modify(shorter, f"cut from {len(message.raw):,} to at most {self._max_bytes:,} bytes")
        return Block(
            f"the result has {len(message.raw):,} bytes; no more than {self._max_bytes:,} are let through",
            data={"bytes": len(message.raw), "maxBytes": self._max_bytes},
        )

    def _concerns(self, message: Message, payload: dict[str, Json]) -> bool:
        request = message.request
        if self._every or request is not None:
            return self._every or (request is not None and request.method == TOOLS_CALL)
        result = payload.get("result")
        return isinstance(result, dict) and "content" in result

    def _truncated(self, payload: dict[str, Json], size: int) -> dict[str, Json] | None:
        result, structure = payload.get("result"), None
        content = result.get("content") if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(content, list):
            return None
        note = f"[truncated by shadowcat: {size:,} bytes, of which at most {self._max_bytes:,} are let through]"
        end: Json = {"type": "text", "text": note}
        kept: list[Json] = []
        if (structure := result.get("structuredContent")) is not None:
            result = {**result, "structuredContent": _with_short_texts(structure, self._max_bytes // 2)}
        room = self._max_bytes - len(dump({**payload, "result": {**result, "content": [end]}}))
        whole = 0
        for item in content:
            cost = len(dump(item)) + 1  # and a comma
            if cost <= room:
                kept.append(item)
                room -= cost
                whole += 1
            elif isinstance(item, dict) and isinstance(text := item.get("text"), str):
                bare = {**item, "text": ""}
                kept += _cut(bare, text, room - len(dump(bare)) - 1)
                break
        if whole < len(content) or result.get("structuredContent") is not structure:
            kept.append(end)
        shorter: dict[str, Json] = {**payload, "result": {**result, "content": kept}}
        # What stands beside the content may be too large by itself.
        return shorter if len(dump(shorter)) <= self._max_bytes else None


def _with_short_texts(value: Json, room: int) -> Json:
    """The value with its longest texts cut, so that it has at most `room` bytes if it can; itself if it has."""
    if len(dump(value)) <= room:
        return value
    fits, beyond = 0, room
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if len(dump(_shortened(value, middle))) <= room:
            fits = middle
        else:
            beyond = middle
    return _shortened(value, fits)


def _shortened(value: Json, max_chars: int) -> Json:
    match value:
        case str():
            return value if len(value) <= max_chars else value[:max_chars] + _CUT_OFF
        case list():
            return [_shortened(item, max_chars) for item in value]
        case dict():
            return {name: _shortened(item, max_chars) for name, item in value.items()}
        case _:
            return value


def _cut(item: dict[str, Json], text: str, room: int) -> list[Json]:
    """The item with as much of the text as has at most `room` bytes in JSON; nothing when none has."""
    fits, beyond = 0, min(len(text), max(room, 0) + 1)  # a character has a byte at least
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if len(dump(text[:middle])) - 2 <= room:
            fits = middle
        else:
            beyond = middle
    return [{**item, "text": text[:fits]}] if fits else []
