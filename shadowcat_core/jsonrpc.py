"""Turns bytes into one JSON-RPC 2.0 message and back, and tells what kind of message it is.

Three ways to look, from exact to cheap:

- `parse` and `envelope` read the document as the endpoints do (the last of two equal keys wins). Whatever *decides*
  something uses these.
- `classify` reads only the two ends of the document and answers with a routing hint, or with None.
- `split_array` finds the elements of an array without parsing them (arrays exist in protocol 2025-03-26 alone).

No I/O. Source: the JSON-RPC 2.0 specification, sections 4 to 6; RFC 8259.
"""

import json
import math
import re
import sys
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.limits import MAX_JSON_DEPTH

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None
type JsonRpcId = int | float | str  # 1 and "1" are two ids; true and false are none


class Kind(StrEnum):
    """What a message is. INVALID: not JSON, or JSON that is no JSON-RPC 2.0 message."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    ERROR = "error"
    INVALID = "invalid"


class Envelope(NamedTuple):
    """Kind, method and id of a message. `method` is given whenever it is a string, even when the kind is INVALID.

    `id` is None when it is absent or null. A named tuple, because one may be made for every event: it costs a third
    of a frozen dataclass (`benches/bench_messages.py`).
    """

    kind: Kind
    method: str | None
    id: JsonRpcId | None


class ErrorCode(IntEnum):
    """Codes of the errors that Shadowcat answers with itself.

    They lie outside -32768…-32000, which JSON-RPC and MCP keep for themselves: a client that meets a code it knows
    would draw conclusions about the server, such as falling back to the legacy era.
    """

    UPSTREAM_UNREACHABLE = -31001
    UPSTREAM_CLOSED = -31002
    TIMED_OUT = -31003
    STORE_UNAVAILABLE = -31004
    BLOCKED = -31010
    INTERCEPTOR_FAILED = -31011


_NOTHING: Final = Envelope(Kind.INVALID, None, None)
_BOM: Final = b"\xef\xbb\xbf"
_MAX_DEPTH: Final = int(MAX_JSON_DEPTH)
_new: Final = tuple.__new__  # a named tuple made in a third of the time
_DIGITS_TO_ZERO: Final = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))


def parse(raw: bytes) -> Json:
    """Read one JSON document the way the endpoints of MCP read it; the last of two equal keys wins.

    Integers of any size are exact (up to Python's 4,300 digits; beyond, and for 1e400, infinity, as in JavaScript).
    Lone surrogates in escapes are kept. A leading byte order mark is skipped and bytes that are not UTF-8 become
    U+FFFD, as the WHATWG decoder does for bodies and event streams.

    Raises:
        InvalidMessage: not JSON (`NaN` and `Infinity` are not), or nested deeper than `MAX_JSON_DEPTH`.
    """
    try:
        # orjson reads an integer beyond 64 bits as a float without a word. To rule out 19 digits in a row, every sixth
        # byte is looked at first, among which they leave three.
        if raw[::6].translate(_DIGITS_TO_ZERO).find(b"000") >= 0 and _holds_a_big_integer(raw):
            payload: Json = _parse_leniently(raw)
        else:
            payload = orjson.loads(raw)
    except orjson.JSONDecodeError:
        payload = _parse_leniently(raw)
    if len(raw) > 2 * _MAX_DEPTH and raw.count(b"{") + raw.count(b"[") > _MAX_DEPTH and _is_too_deep(payload):
        raise InvalidMessage(f"JSON nested deeper than {MAX_JSON_DEPTH:,} levels")
    return payload


def dump(payload: Json) -> bytes:
    """Write one JSON document, compact, without a line end: the inverse of `parse`.

    Raises:
        InvalidMessage: the payload holds NaN, an infinity or something JSON has no word for.
    """
    try:
        raw = orjson.dumps(payload)
    except TypeError:
        return _dump_leniently(payload)
    # orjson writes NaN and infinities as null; without a null in the text there was none.
    if raw.find(b"null") >= 0 and _has_non_finite(payload):
        raise InvalidMessage("NaN and infinity cannot be written as JSON")
    return raw


def envelope(payload: Json) -> Envelope:
    """Tell kind, method and id of a parsed message.

    A message that contradicts itself counts as what would be acted on: `method` before `error` before `result`. A
    `null` id makes a request, as JSON-RPC 2.0 has it, although MCP forbids it.
    """
    if not isinstance(payload, dict):
        return _NOTHING
    method, id_ = payload.get("method"), payload.get("id")
    if not isinstance(method, str):
        method = None
    if id_ is not None and (isinstance(id_, (bool, list, dict)) or (isinstance(id_, float) and not math.isfinite(id_))):
        return Envelope(Kind.INVALID, method, None)
    kind = Kind.INVALID
    if payload.get("jsonrpc") == "2.0":
        if method is not None:
            kind = Kind.REQUEST if "id" in payload else Kind.NOTIFICATION
        elif "method" in payload:
            pass
        elif payload.get("error") is not None:
            kind = Kind.ERROR
        elif "result" in payload and id_ is not None:
            kind = Kind.RESPONSE
    return _new(Envelope, (kind, method, id_))


def error_response(request_id: JsonRpcId | None, code: int, message: str, data: Json = None) -> bytes:
    """Write the JSON-RPC error that answers a request; `data` is left out when None."""
    error: dict[str, Json] = {"code": int(code), "message": message}
    if data is not None:
        error["data"] = data
    return dump({"jsonrpc": "2.0", "id": request_id, "error": error})


def _holds_a_big_integer(raw: bytes) -> bool:
    return raw.translate(_DIGITS_TO_ZERO).find(b"0000000000000000000") >= 0


def _parse_leniently(raw: bytes) -> Json:
    """Parse what endpoints read and orjson refuses or rounds."""
    try:
        text = raw.removeprefix(_BOM).decode("utf-8", "replace")
        payload: Json = json.loads(text, parse_int=_parse_int, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise InvalidMessage(f"not JSON: {exc}") from exc
    return payload


def _parse_int(digits: str) -> int | float:
    # Python refuses to convert more digits than this, since the time it takes grows with their square.
    return int(digits) if len(digits) < sys.get_int_max_str_digits() else float(digits)


def _refuse_constant(constant: str) -> NoReturn:
    raise InvalidMessage(f"not JSON: {constant} is no JSON value")


def _dump_leniently(payload: Json) -> bytes:
    """Write what orjson refuses: integers beyond 64 bits, lone surrogates, more than 254 levels."""
    try:
        return json.dumps(payload, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidMessage(f"cannot be written as JSON: {exc}") from exc


def _children(containers: list[Any]) -> list[Any]:
    return [child for held in containers for child in (held.values() if isinstance(held, dict) else held)]


def _is_too_deep(payload: Json) -> bool:
    level: list[Any] = [payload]
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [child for child in level if isinstance(child, dict | list)]
        if not level:
            return False
        level = _children(level)
    return True


def _has_non_finite(payload: Json) -> bool:
    level: list[Any] = [payload]
    while level:
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            return True
        level = _children([value for value in level if isinstance(value, dict | list | tuple)])
    return False


# --- Arrays ------------------------------------------------------------------------------------------------------

# Strings are taken whole, an unfinished one to the end, so no byte is looked at twice whatever the input.
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[][{},]', re.DOTALL)
_BLANK: Final = b" \t\r\n"


def split_array(raw: bytes) -> list[tuple[int, int]]:
    """Find the elements of a JSON array as (start, end) offsets into `raw`, blanks around them excluded.

    The elements themselves are not parsed. An array without elements gives no spans.

    Raises:
        InvalidMessage: not one bracketed array, or an element is missing.
    """
    first = len(raw) - len(raw.removeprefix(_BOM).lstrip(_BLANK))
    last = len(raw.rstrip(_BLANK)) - 1
    if raw[first : first + 1] != b"[":
        raise InvalidMessage("not a JSON array")
    spans: list[tuple[int, int]] = []
    depth, start = 0, first + 1
    for token in _STRUCTURE.finditer(raw, first):
        mark = raw[token.start()]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if (mark == ord(",") and depth == 1) or depth == 0:
            spans.append(_trimmed(raw, start, token.start()))
            start = token.end()
        if depth == 0:
            break
    if depth or start != last + 1 or raw[last] != ord("]"):
        raise InvalidMessage("a JSON array does not end where it should")
    if any(begin == end for begin, end in spans):
        if len(spans) > 1:
            raise InvalidMessage("an element of a JSON array is missing")
        return []
    return spans


def _trimmed(raw: bytes, start: int, end: int) -> tuple[int, int]:
    element = raw[start:end]
    start += len(element) - len(element.lstrip(_BLANK))
    return start, max(start, start + len(element.strip(_BLANK)))


# --- Routing hints -----------------------------------------------------------------------------------------------
#
# The members of a JSON-RPC message that say what it is stand before its one nested value (Python, Go and Rust SDKs:
# `{"jsonrpc":"2.0","id":1,"result":{`) or behind it (TypeScript SDK: `},"jsonrpc":"2.0","id":1}`). The text before
# the first nested `{`, called the head here, takes few forms in a stream. So it is looked up in a table of heads seen
# before, with the id cut out, and understood by regular expressions only the first time.


class _Head(NamedTuple):
    """What a head tells. `settled` is the whole answer when nothing is left to find, the id least of all."""

    kind: Kind  # REQUEST also stands for notifications as long as no id was found
    method: str | None
    versioned: bool  # "jsonrpc":"2.0" is in the head; otherwise it must be in the tail
    settled: Envelope | None


_MAX_HEAD_BYTES: Final = 256  # longer than any head an SDK writes with a method of MCP
_MAX_HEADS: Final = 256  # a peer that invents methods empties the table, it does not grow it
_heads: dict[bytes, _Head] = {}
# Head, tail and answer of the last two forms of notifications: a log line among progress must not make both strangers.
_settled: tuple[bytes, bytes, Envelope] = (b"\0", b"", _NOTHING)
_settled_before = _usual = _settled  # usual: in the last burst of mostly one form

_ID_SECOND: Final = b'{"jsonrpc":"2.0","id":'  # the head of every request and answer of most SDKs
_VERSION_TAILS: Final = (b'},"jsonrpc":"2.0"}', b'}, "jsonrpc": "2.0"}')
_ID_TAILS: Final = (b'},"jsonrpc":"2.0","id"', b'}, "jsonrpc": "2.0", "id"')
_ID_TAILS_VERSIONED: Final = (b'},"id"', b'}, "id"')
_SPACE = rb"[ \t\r\n]*"
_STRING = rb'"([ !#-\[\]-~]*)"'  # ASCII without escapes
_ID: Final = re.compile(rb"(-?(?:0|[1-9][0-9]{0,17}))|" + _STRING)
_MEMBER: Final = re.compile(
    rb'_"(?:(jsonrpc)"_:_"2\.0"|method"_:_STRING)_,'.replace(b"_", _SPACE).replace(b"STRING", _STRING)
)
_NESTED: Final = re.compile(rb'_"(params|result|error)"_:_'.replace(b"_", _SPACE))
_NESTED_KINDS: Final = {b"params": Kind.REQUEST, b"result": Kind.RESPONSE, b"error": Kind.ERROR}


def classify(buffer: bytes, start: int = 0, end: int | None = None) -> Envelope | None:
    """Tell kind, method and id of the message in `buffer[start:end]` without parsing it; None when that takes a parse.

    A ROUTING HINT: what decides must parse. It equals `envelope(parse(...))` for every message that is valid JSON
    and has no member beside JSON-RPC's own six, none of them twice, with an escaped name or in contradiction
    (`result` next to `error` or `method`). Only the ends of the message are looked at: nothing else is proved.
    """
    global _settled, _settled_before
    end = len(buffer) if end is None else end
    head_text, tail, settled = _settled
    if buffer.startswith(head_text, start) and buffer.endswith(tail, start, end):
        return settled
    head_text, tail, settled = _settled_before
    if buffer.startswith(head_text, start) and buffer.endswith(tail, start, end):
        _settled, _settled_before = _settled_before, _settled
        return settled
    # 123 is "{": a search for one byte given as a number is a memchr.
    nested = buffer.find(123, start + 3, start + _MAX_HEAD_BYTES)
    if nested < 0 or nested >= end:
        return None
    if buffer.startswith(_ID_SECOND, start):
        at = start + 22
        comma = buffer.find(44, at, nested)
        text = buffer[comma:nested]
        value = buffer[at:comma]
    elif buffer[start + 2] not in b"jmrei":  # the first letters of JSON-RPC's own names
        return None
    else:
        text = buffer[start:nested]
        head = _heads.get(text)
        at = -1 if head is not None else text.find(b'"id"')
        if at < 0:
            head = head or _learn(text, text)
            return None if head is None else _with_tail(head, text, buffer, nested, end)
        comma = text.find(44, at)
        value = text[at + 4 : comma].lstrip(b": ")
        text = text[:at] + text[comma + 1 :]
    if comma < 0:
        return None
    head = _heads.get(text) or _learn(text, text if text[0] == 123 else b'{"jsonrpc":"2.0"' + text)
    request_id = int(value) if value.isdigit() else _unusual_id(value)
    if head is None or request_id is None or buffer[end - 1] != 125:
        return None
    if head.versioned or buffer.endswith(_VERSION_TAILS, nested + 1, end):
        return _new(Envelope, (head.kind, head.method, request_id))
    return None


def classify_burst(
    buffer: bytes, spans: Sequence[tuple[int, int, int, int]]
) -> tuple[Envelope, dict[int, Envelope | None]]:
    """`classify` many messages of one buffer; a span's last two numbers are where the message starts and ends.

    Most bursts are all alike: gives one hint and, by index, those of the messages that have another.
    """
    global _usual  # noqa: PLW0603  -- an inline cache: it changes how fast the answer is found, never the answer
    head_text, tail, hint = _usual
    others = {
        index: classify(buffer, start, end)
        for index, (_, _, start, end) in enumerate(spans)
        if not (buffer.startswith(head_text, start) and buffer.endswith(tail, start, end))
    }
    if 2 * len(others) > len(spans):  # a few strangers are no reason to forget what most look like
        _usual = _settled
    return hint, others


def _with_tail(head: _Head, text: bytes, buffer: bytes, nested: int, end: int) -> Envelope | None:
    """Complete a head without an id, whose bytes are `text`, by what stands behind the nested value."""
    global _settled, _settled_before
    if buffer[end - 1] != 125:
        return None
    colon = buffer.rfind(58, nested, end)
    if buffer.endswith(_ID_TAILS_VERSIONED if head.versioned else _ID_TAILS, nested + 1, colon):
        value = buffer[colon + 1 : end - 1]
        request_id = int(value) if value.isdigit() and len(value) < _MAX_HEAD_BYTES else _unusual_id(value)
        return None if request_id is None else _new(Envelope, (head.kind, head.method, request_id))
    if head.settled is None:
        return None
    # Only when the member before the last is the nested value, no id can hide between them.
    for tail in (b"}}",) if head.versioned else _VERSION_TAILS:
        if buffer.endswith(tail, nested + 1, end):
            _settled, _settled_before = (text + b"{", tail, head.settled), _settled
            return head.settled
    return None


def _unusual_id(value: bytes) -> JsonRpcId | None:
    """Read a plain scalar with blanks around it; None for anything else."""
    match = _ID.fullmatch(value.strip(_BLANK))
    if match is None:
        return None
    return int(match[1]) if match[1] is not None else match[2].decode("ascii")


def _learn(key: bytes, text: bytes) -> _Head | None:
    """Understand the text before the nested value, its id cut out, and remember it under `key`."""
    versions, methods, at = 0, list[str](), 1
    while member := _MEMBER.match(text, at):
        versions += member[1] is not None
        methods += [] if member[2] is None else [member[2].decode("ascii")]
        at = member.end()
    nested = _NESTED.fullmatch(text, at)
    if nested is None or versions > 1 or len(methods) != (nested[1] == b"params"):
        return None
    method = methods[0] if methods else None
    # A missing id makes a notification only where the name says so: elsewhere it may hide between unknown members.
    settled = Envelope(Kind.NOTIFICATION, method, None) if method and method.startswith("notifications/") else None
    head = _Head(_NESTED_KINDS[nested[1]], method, versions == 1, settled)
    if len(_heads) >= _MAX_HEADS:
        _heads.clear()
    _heads[key] = head
    return head
