"""The text of a held message as people edit it: JSON with line ends and indents, and not one token of it changed.

So what they did not touch goes on as it came: numbers as they were written, escapes, names that are there twice.
No I/O. Source: RFC 8259, section 2.
"""

import re
from typing import Final

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import parse

MAX_INDENTED_BYTES: Final = 262_144
"""Beyond that nobody edits by hand, and laying it out would keep others waiting for more than some 50 ms."""
MAX_INDENT: Final = 16
"""Levels that are indented. What is deeper stands below each other: indents must not outgrow the text."""

_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^ \t\r\n"{}\[\]:,]+', re.DOTALL)
_OPENING: Final = (b"{", b"[")
_CLOSING: Final = (b"}", b"]")


def indented(raw: bytes) -> bytes | None:
    """Lay JSON out, two blanks a level; None for what is no JSON, or too large to be read."""
    if len(raw) > MAX_INDENTED_BYTES or not _is_json(raw):
        return None
    text = bytearray()
    depth = 0
    before = b""
    for token in _TOKEN.findall(raw):
        opened, closes = before in _OPENING, token in _CLOSING
        if closes:
            depth -= 1
        if opened != closes or before == b",":  # what has nothing in it stays together
            text += b"\n" + b"  " * min(depth, MAX_INDENT)
        elif before == b":":
            text += b" "
        text += token
        if token in _OPENING:
            depth += 1
        before = token
    return bytes(text)


def compact(text: bytes) -> bytes:
    """Take the layout away; what is no JSON stays as it is, and is to be refused as it was written."""
    return b"".join(_TOKEN.findall(text)) if _is_json(text) else text


def _is_json(text: bytes) -> bool:
    try:
        parse(text)
    except InvalidMessage:
        return False
    return True
