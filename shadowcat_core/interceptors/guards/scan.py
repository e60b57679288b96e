"""Looks for hidden text, and for text that gives orders to a model, in what a server says."""

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from shadowcat_core.interceptors.guards.hidden_text import Hidden, examine, may_hide
from shadowcat_core.interceptors.guards.reading import MAX_NAMED, read_object, tool_name
from shadowcat_core.interceptors.verdicts import Block, Continue, Modify, Verdict
from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message
from shadowcat_core.transcript import shortened

_PARTS: Final = ("result", "params", "error")
_LISTS: Final = ("tools", "prompts", "resources", "resourceTemplates")
_INTRODUCTIONS: Final = ("instructions", "serverInfo", "supportedVersions")
_OPAQUE: Final = frozenset({"requestState", "nextCursor", "progressToken", "blob"})
_KEYS: Final = frozenset({"name", "uri", "uriTemplate"})
"""By these a client asks for an entry of a list: without what they hide, they would name another."""
_BINARY: Final = frozenset({"image", "audio"})


class ScanAction(StrEnum):
    """What is done about hidden text: it is only told (WARN), taken out (STRIP), or its message stopped (BLOCK)."""

    WARN = "warn"
    STRIP = "strip"
    BLOCK = "block"


class ScanTexts:
    """Looks at all texts of a server's messages: definitions of tools, prompts and resources, instructions, results.

    HTML comments count in definitions and instructions alone, as results often are HTML. A definition that hides
    something in what it is called by, or in the name of a member, cannot be cleaned: STRIP takes it out of its list.
    Text that gives orders is told and left, as people write about such text too.
    """

    direction = Direction.SERVER_TO_CLIENT

    def __init__(self, action: ScanAction, on_finding: Callable[[str], None] = lambda _: None) -> None:
        self._action = action
        self._on_finding = on_finding

    def intercept(self, message: Message) -> Verdict:
        """Judge one message of a server. WARN gives the message back as it is, with what was found as the reason."""
        if not may_hide(message.raw):
            return Continue()
        payload = read_object(message)
        if payload is None:
            return Continue()
        look = _Look()
        cleaned: dict[str, Json] = {name: look.part(name, payload[name]) for name in _PARTS if name in payload}
        if not look.found:
            return Continue()
        reason = look.reason()
        request = message.request
        subject = message.method or (request.method if request is not None else None) or "an answer"
        self._on_finding(f"{subject} of {shortened(message.context.server or 'a server')}: {reason}")
        if self._action is ScanAction.WARN:
            return Modify(message, reason)
        if not look.hides:
            return Continue()
        return Block(reason) if self._action is ScanAction.BLOCK else Modify({**payload, **cleaned}, reason)


class _Look:
    """One look at a message: what was found, and where."""

    def __init__(self) -> None:
        self.found: Counter[Hidden] = Counter()
        self._places: list[str] = []
        self._in_key = False
        self._comments = False

    @property
    def hides(self) -> bool:
        """Whether there is something to take out."""
        return any(kind is not Hidden.INSTRUCTION for kind in self.found)

    def reason(self) -> str:
        kinds = ", ".join(kind if count == 1 else f"{kind} ×{count}" for kind, count in sorted(self.found.items()))
        more = len(self._places) - MAX_NAMED
        places = ", ".join(self._places[:MAX_NAMED]) + (f" and {more} more places" if more > 0 else "")
        return f"{kinds} in {places}"

    def part(self, name: str, value: Json) -> Json:
        """Clean the result, the error or the parameters of a message."""
        if name != "result" or not isinstance(value, dict):
            return self._clean(value, f"/{name}")
        lists = [member for member in _LISTS if isinstance(value.get(member), list)]
        self._comments = bool(lists) or any(member in value for member in _INTRODUCTIONS)
        cleaned: dict[str, Json] = {}
        for member, inner in value.items():
            place = f"/{name}/{shortened(member)}"
            if member in lists and isinstance(inner, list):
                entries = [self._entry(entry, f"{place}/{at}") for at, entry in enumerate(inner)]
                cleaned[member] = [entry for entry in entries if entry is not None]
            else:
                cleaned[member] = inner if member in _OPAQUE else self._clean(inner, place)
        return cleaned

    def _entry(self, entry: Json, place: str) -> Json:
        """Clean a definition; None for one that cannot be cleaned."""
        self._in_key = False
        cleaned = self._clean(entry, f"{place} ({shortened(tool_name(entry) or 'no name')})", is_definition=True)
        return None if self._in_key else cleaned

    def _clean(self, value: Json, place: str, *, is_definition: bool = False) -> Json:
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, list):
            return [self._clean(item, f"{place}/{at}", is_definition=is_definition) for at, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        cleaned: dict[str, Json] = {}
        for name, member in value.items():
            there = f"{place}/{shortened(name)}"
            if is_definition:
                self._in_key |= self._text(name, there) != name
            if name in _OPAQUE or (name == "data" and value.get("type") in _BINARY):
                cleaned[name] = member
                continue
            cleaned[name] = self._clean(member, there, is_definition=is_definition)
            if is_definition and name in _KEYS:
                self._in_key |= cleaned[name] != member
        return cleaned

    def _text(self, text: str, place: str) -> str:
        cleaned, found = examine(text, comments=self._comments)
        if found:
            self.found += found
            self._places.append(place)
        return cleaned
