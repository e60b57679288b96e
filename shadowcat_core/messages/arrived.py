"""The messages of one chunk as they came: found in it, and routed without an object for those nobody wants. No I/O."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from shadowcat_core.jsonrpc import Envelope, Kind, classify, classify_burst
from shadowcat_core.messages.edits import Edits
from shadowcat_core.messages.emission import Chunk, raw_at
from shadowcat_core.messages.hints import Hints
from shadowcat_core.messages.layout import Layout, layout_of
from shadowcat_core.messages.message import Message, MessageContext
from shadowcat_core.messages.routing import proves_method, proves_methods
from shadowcat_core.sse import FrameBatch

_BRACE: Final = ord("{")
type Found = Sequence[tuple[int, Message]]

_NO_HINT: Final = Envelope(Kind.INVALID, None, None)  # of messages that are all among those that differ


class Arrived:
    """What a batch starts with. Messages are told by position, counted from 0."""

    __slots__ = (
        "_chunk",
        "_edits",
        "_found",
        "_hints",
        "_layout",
        "_originals",
        "_others",
        "_proven",
        "_spans",
        "_usual",
        "at_ns",
        "context",
        "edited",
        "hint",
    )

    _usual: Envelope  # what `classify_burst` told, where there is no `hint`
    _others: dict[int, Envelope | None]
    hint: Envelope | None
    """The routing hint of the only message, as long as it is as it came; else None."""
    edited: bool
    """True once a message was replaced, dropped or inserted."""

    def __init__(self, chunk: Chunk, context: MessageContext, at_ns: int = 0) -> None:
        """One object for every chunk: whatever a batch has is made here, as another `__init__` would cost as much."""
        self.context = context
        self.at_ns = at_ns
        self.edited = False
        self._chunk = chunk
        self._edits: Edits | None = None
        self._layout: Layout | None = None
        self._originals: dict[int, Message] | None = None
        self._hints: Hints | None = None
        self._proven: bool | None = None  # that all hints tell the method exactly
        self._found: tuple[AbstractSet[str] | None, Found] | None = None  # by methods, or all: what was asked for last
        self._spans = spans = chunk.records
        # A hint that was got from the bytes proves that the unit is one JSON object, which is nearly always so.
        if len(spans) == 1:  # and servers write one event at a time
            _, _, start, end = spans[0]
            self.hint = hint = classify(chunk.buffer, start, end)
            if hint is None:
                self._look_closer()
        else:
            self.hint = None
            self._usual, self._others = classify_burst(chunk.buffer, spans)
            if self._others and None in self._others.values():
                self._look_closer()

    def _original(self, position: int) -> Message:
        originals = self._originals
        if originals is None:
            originals = self._originals = {}
        message = originals.get(position)
        if message is None:
            message = originals[position] = self._made(position)
        return message

    def _possible(self, methods: AbstractSet[str]) -> Sequence[int]:
        """Find the messages that some reader may take for one of these methods."""
        hints = self._hints or self._route()
        if self._proven is None:
            self._proven = proves_methods(hints.named, self._chunk.buffer)
        if self._proven and Kind.INVALID not in hints.kinds:
            return () if methods.isdisjoint(hints.methods) else hints.of_methods(methods)
        return [
            at
            for at in range(len(self._spans))
            if hints[at].method in methods
            or hints[at].kind is Kind.INVALID
            or not (self._proven or self._is_proven(at))
        ]

    def _is_proven(self, position: int) -> bool:
        _, _, start, end = self._spans[position]
        layout = self._layout
        if layout is not None and layout.unit_of[position] in layout.sources:  # it does not stand there in one piece
            return False
        return proves_method(self._chunk.buffer, start, end)

    def _route(self) -> Hints:
        """Tell the methods and kinds that are there, after parsing the messages whose bytes gave no hint."""
        if self.hint is not None:
            hints = Hints(1, self.hint, {})
        else:
            known = {at: hint or self._original(at).envelope for at, hint in self._others.items()}
            hints = Hints(len(self._spans), self._usual, known)
        self._hints = hints
        return hints

    def _made(self, position: int) -> Message:
        chunk, layout = self._chunk, self._layout
        if not isinstance(chunk, FrameBatch):
            return Message(raw_at(position, chunk, layout), self.context, self.at_ns)
        start, end, data_start, data_end = chunk.records[position if layout is None else layout.unit_of[position]]
        buffer = chunk.buffer
        raw = buffer[data_start:data_end] if layout is None else raw_at(position, chunk, layout)
        fields = buffer[start:end] if data_start < 0 else buffer[start:data_start] + buffer[data_end:end]
        return Message(raw, self.context, self.at_ns, None, fields)

    def _look_closer(self) -> None:
        """Lay out a chunk of which some unit gave no hint and may not be one JSON object."""
        buffer = self._chunk.buffer
        if any(start < 0 or buffer[start] != _BRACE for _, _, start, _ in self._spans):
            self._layout = layout_of(self._chunk)
            self._spans = self._layout.spans
        if self._layout is not None and self._layout.sources:
            self._usual, self._others = _NO_HINT, dict.fromkeys(range(len(self._spans)))
        else:
            self._usual, self._others = classify_burst(buffer, self._spans)
