"""Routing without a batch, and the proof that a hint names the method that any reader would find.

A hint names the `"method"` that stands before the first nested value of a message; readers take the last one. A second
one at the top would stand behind the first `}`, spelled out or with escapes: when neither is there, there is none.
Proves nothing about the kind, nor that the message is valid. No I/O.
"""

from typing import Final

from shadowcat_core.jsonrpc import Envelope, classify, classify_burst
from shadowcat_core.messages.hints import Hints
from shadowcat_core.sse import FrameBatch

_BACKSLASH: Final = ord("\\")
_BRACE: Final = ord("}")
_ESCAPED_ASCII: Final = b"\\u00"


def sole_hint(frames: FrameBatch) -> Envelope | None:
    """The routing hint of a chunk's only message; None when there is not exactly one, or its bytes do not tell.

    Servers write one event at a time, and most are of no interest to anybody: whoever runs interceptors can skip such
    a chunk before a batch is made of it.
    """
    records = frames.records
    if len(records) != 1:
        return None
    return classify(frames.buffer, records[0][2], records[0][3])


def burst_hints(frames: FrameBatch) -> Hints | None:
    """The routing hints of all messages of a chunk; None when the bytes of some frame do not tell."""
    usual, others = classify_burst(frames.buffer, frames.records)
    known = {index: hint for index, hint in others.items() if hint is not None}
    return Hints(len(frames.records), usual, known) if len(known) == len(others) else None


def proves_method(buffer: bytes, start: int, end: int) -> bool:
    """True when a hint for `buffer[start:end]` tells the method, or that there is none, as any reader would find it."""
    behind = buffer.find(_BRACE, start, end)
    return buffer.find(b'"method"', behind, end) < 0 and (
        buffer.find(_BACKSLASH, behind, end) < 0 or buffer.find(_ESCAPED_ASCII, behind, end) < 0
    )


def proves_methods(named: int, buffer: bytes) -> bool:
    """The same for all messages of a buffer at once, `named` of which have a method by hint or by parse.

    Also false when only something else in the buffer looks like one more method.
    """
    return buffer.count(b'"method"') == named and (buffer.find(_BACKSLASH) < 0 or buffer.find(_ESCAPED_ASCII) < 0)
