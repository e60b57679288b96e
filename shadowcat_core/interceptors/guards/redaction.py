"""Masks secrets in messages on the wire; their structure, and what the protocol itself needs, stays."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final

from shadowcat_core.interceptors.guards.reading import is_plain, read_object
from shadowcat_core.interceptors.guards.secret_patterns import WELL_KNOWN, SecretPattern
from shadowcat_core.interceptors.verdicts import Continue, Modify, Verdict
from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message


class _Leaf(StrEnum):
    KEEP = "keep"
    MASK = "mask"


type _Place = dict[str, _Place | _Leaf]
"""What to do with the members of a value, by name or index."""

_BY_POINTER: Final = "pointer"
_PROTOCOL_PREFIX: Final = "io.modelcontextprotocol/"
# JSON Schemas have members named like what they describe: to mask those would break the schema.
_SCHEMAS: Final = frozenset({"inputSchema", "outputSchema", "requestedSchema"})
_ENVELOPE: Final = ("jsonrpc", "id", "method")
# `requestState` is opaque and often signed (SEP-2322); the others say what a message is about, or lead to more of it.
_OWN_MEMBERS: Final = {
    "params": (
        "requestState", "name", "uri", "ref", "cursor", "taskId", "requestId", "progressToken", "protocolVersion",
    ),
    "result": ("requestState", "resultType", "nextCursor", "taskId", "protocolVersion"),
    "error": ("code",),
}  # fmt: skip
_BINARY: Final = frozenset({"image", "audio"})
_ASCII_NAME: Final = re.compile(r"[A-Za-z0-9_ .$-]+")


class Redactor:
    """Masks secrets in payloads: by what they look like, by the name of their member, and by where they are."""

    def __init__(
        self,
        patterns: Sequence[SecretPattern] = WELL_KNOWN,
        *,
        names: Collection[str] = (),
        pointers: Collection[str] = (),
    ) -> None:
        """Make a redactor.

        Args:
            patterns: what secrets look like.
            names: members whose values are secrets, in any case, wherever they are but in JSON Schemas.
            pointers: JSON Pointers (RFC 6901) to secrets in a message, such as `/params/arguments/pin`.

        Raises:
            ValueError: a name is empty; a pointer is none, or leads into what is the protocol's own.
        """
        if not all(names):
            raise ValueError("an empty name is no member's name")
        self._patterns = tuple(patterns)
        self._names = frozenset(name.lower() for name in names)
        self._places = _places(pointers)
        # One pass for all hints: to look for each by itself takes four times as long.
        hints = "|".join(re.escape(hint) for pattern in patterns for hint in pattern.hints) or "(?!)"
        self._hints, self._hints_in_bytes = re.compile(hints), re.compile(hints.encode("ascii"))
        self._has_hints = all(pattern.hints for pattern in self._patterns)
        self._name_hints = tuple(f'"{name}"'.encode() for name in self._names if _ASCII_NAME.fullmatch(name))
        self._must_read = bool(pointers) or len(self._name_hints) < len(self._names) or not self._has_hints

    def may_concern(self, raw: bytes) -> bool:
        """False when the bytes of a message prove that there is nothing to mask."""
        if self._must_read or not is_plain(raw) or self._hints_in_bytes.search(raw) is not None:
            return True
        if not self._name_hints:
            return False
        lowered = raw.lower()
        return any(hint in lowered for hint in self._name_hints)

    def masked(self, payload: dict[str, Json]) -> tuple[dict[str, Json], Counter[str]]:
        """The message without its secrets, and what was masked how often. With nothing to mask, it is the same object.

        Strings become `[REDACTED:what]`, numbers 0; objects, arrays and their sizes stay.
        """
        found: Counter[str] = Counter()
        masked = self._walk(payload, self._places, found, by_name=True)
        return (masked if isinstance(masked, dict) else payload), found

    def _walk(self, value: Json, place: _Place | _Leaf | None, found: Counter[str], *, by_name: bool) -> Json:
        if place is _Leaf.KEEP:
            return value
        if place is _Leaf.MASK:
            return _hidden(value, _BY_POINTER, found)
        places = place if isinstance(place, dict) else {}
        if isinstance(value, str):
            return self._mask_text(value, found)
        if isinstance(value, list):
            items = [self._walk(item, places.get(str(at)), found, by_name=by_name) for at, item in enumerate(value)]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if not isinstance(value, dict):
            return value
        edited: dict[str, Json] = {}
        for name, member in value.items():
            if name.startswith(_PROTOCOL_PREFIX) or _is_binary(name, value):
                continue
            inner = places.get(name)
            if by_name and name.lower() in self._names and inner is not _Leaf.KEEP:
                new = _hidden(member, name.lower(), found)
            else:
                new = self._walk(member, inner, found, by_name=by_name and name not in _SCHEMAS)
            if new is not member:
                edited[name] = new
        return {**value, **edited} if edited else value

    def _mask_text(self, text: str, found: Counter[str]) -> str:
        hints = set(self._hints.findall(text))
        if not hints and self._has_hints:
            return text
        for each in self._patterns:
            if each.hints and hints.isdisjoint(each.hints):
                continue
            mask = f"[REDACTED:{each.name}]"
            group = 1 if each.pattern.groups else 0

            def replaced(match: re.Match[str], group: int = group, mask: str = mask, name: str = each.name) -> str:
                start, end = match.span(group)
                if start == end:
                    return match[0]
                found[name] += 1
                return match[0][: start - match.start()] + mask + match[0][end - match.start() :]

            text = each.pattern.sub(replaced, text)
        return text


class RedactMessages:
    """Masks secrets in what passes: both ways, or only to the client or to the server.

    The verdict's `original` holds the secrets, and is to be treated as one: the reason only says how many there were.
    """

    def __init__(self, redactor: Redactor, direction: Direction | None = None) -> None:
        self.direction = direction
        self._redactor = redactor

    def intercept(self, message: Message) -> Verdict:
        """Judge one message."""
        if not self._redactor.may_concern(message.raw):
            return Continue()
        payload = read_object(message)
        if payload is None:
            return Continue()
        masked, found = self._redactor.masked(payload)
        if not found:
            return Continue()
        kinds = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in sorted(found.items()))
        return Modify(masked, f"masked {found.total()} secret{'' if found.total() == 1 else 's'}: {kinds}")


def _hidden(value: Json, name: str, found: Counter[str]) -> Json:
    """The value with all that could be a secret masked: texts and numbers, however deep."""
    match value:
        case bool() | None | "" | 0:
            return value
        case str():
            found[name] += 1
            return f"[REDACTED:{name}]"
        case int() | float():
            found[name] += 1
            return 0
        case list():
            return [_hidden(item, name, found) for item in value]
        case dict():
            return {member: _hidden(item, name, found) for member, item in value.items()}


def _is_binary(name: str, holder: dict[str, Json]) -> bool:
    """Whether a member is base64, in which a secret's form can only be chance."""
    return name == "blob" or (name == "data" and holder.get("type") in _BINARY)


def _places(pointers: Collection[str]) -> _Place:
    places: _Place = dict.fromkeys(_ENVELOPE, _Leaf.KEEP)
    for part, members in _OWN_MEMBERS.items():
        places[part] = {**dict.fromkeys(members, _Leaf.KEEP), "_meta": {"progressToken": _Leaf.KEEP}}
    for pointer in pointers:
        *path, last = _tokens(pointer)
        place = places
        for token in path:
            inner = place.setdefault(token, {})
            if not isinstance(inner, dict):
                if inner is _Leaf.KEEP:
                    raise ValueError(f"{pointer!r} leads into what is the protocol's own")
                break  # what is around it is masked anyway
            place = inner
        else:
            there = place.get(last)
            if there is _Leaf.KEEP or _keeps(there):
                raise ValueError(f"{pointer!r} leads to what is the protocol's own")
            place[last] = _Leaf.MASK
    return places


def _keeps(place: _Place | _Leaf | None) -> bool:
    return isinstance(place, dict) and any(inner is _Leaf.KEEP or _keeps(inner) for inner in place.values())


def _tokens(pointer: str) -> list[str]:
    """The reference tokens of a JSON Pointer (RFC 6901, section 4)."""
    if not pointer.startswith("/") or re.search("~(?![01])", pointer):
        raise ValueError(f"no JSON Pointer: {pointer!r} (such as /params/arguments/password)")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]
