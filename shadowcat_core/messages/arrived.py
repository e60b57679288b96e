"""The messages of one chunk as they came: found in it, and routed without an object for those nobody wants. No I/O."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from shadowcat_core.jsonrpc import Envelope, Kind, classify, classify_each
from shadowcat_core.messages.edits import Edits
from shadowcat_core.messages.emission import Chunk, raw_at, unit_of
from shadowcat_core.messages.layout import Layout, layout_of
from shadowcat_core.messages.message import Message, MessageContext
from shadowcat_core.messages.routing import proves_method, proves_methods
from shadowcat_core.sse import FrameBatch

_BRACE: Final = ord("{")
_NOTHING_ASKED: Final = (None, ())


class Arrived:
    """What a batch starts with. Messages are told by position, counted from 0."""

    __slots__ = (
        "_asked",
        "_chunk",
        "_edits",
        "_hints",
        "_kinds",
        "_layout",
        "_methods",
        "_named",
        "_originals",
        "_proven",
        "_spans",
        "at_ns",
        "context",
        "edited",
        "hint",
    )

    _hints: list[Envelope | None]
    _kinds: AbstractSet[Kind]
    _named: int  # how many have a method
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
        self._methods: AbstractSet[str | None] | None = None  # that are there, like the kinds
        self._proven: bool | None = None  # that all hints tell the method exactly
        self._asked: tuple[AbstractSet[str] | None, Sequence[int]] = _NOTHING_ASKED
        self._spans = spans = chunk.records
        # A hint that was got from the bytes proves that the unit is one JSON object, which is nearly always so.
        if len(spans) == 1:  # and servers write one event at a time
            _, _, start, end = spans[0]
            self.hint = hint = classify(chunk.buffer, start, end)
            if hint is None:
                self._hints = [None]
                self._look_closer()
        else:
            self.hint = None
            self._hints = classify_each(chunk.buffer, spans)
            if not all(self._hints):
                self._look_closer()

    def _original(self, position: int) -> Message:
        originals = self._originals
        if originals is None:
            originals = self._originals = {}
        message = originals.get(position)
        if message is None:
            chunk, layout = self._chunk, self._layout
            if layout is None and isinstance(chunk, FrameBatch):
                start, end, data_start, data_end = chunk.records[position]
                buffer = chunk.buffer
                fields = buffer[start:data_start] + buffer[data_end:end]
                message = Message.of_event(buffer[data_start:data_end], self.context, self.at_ns, fields)
            else:
                message = self._made(position)
            originals[position] = message
        return message

    def _routed(self, methods: AbstractSet[str] | None, kinds: AbstractSet[Kind] | None) -> Sequence[int]:
        """Find messages by method and kind, as their hints tell, or a parse of those that have none."""
        if methods is None and kinds is None:
            return range(len(self._spans))
        present = self._methods or self._route()
        # The common answer is "none", and sets tell it without a loop.
        if methods is not None and methods.isdisjoint(present):
            return ()
        if kinds is not None and kinds.isdisjoint(self._kinds):
            return ()
        return [
            at
            for at, (kind, method, _) in enumerate(filter(None, self._hints))
            if (methods is None or method in methods) and (kinds is None or kind in kinds)
        ]

    def _possible(self, methods: AbstractSet[str]) -> Sequence[int]:
        """Find the messages that some reader may take for one of these methods."""
        asked, positions = self._asked
        if asked is not methods or not isinstance(
            methods, frozenset
        ):  # whoever asks twice asks twice in a row: a pipeline, and then the interceptor
            positions = () if self._rules_out(methods) else self._search(methods)
            self._asked = (methods, positions)
        return positions

    def _rules_out(self, methods: AbstractSet[str]) -> bool:
        """True when no reader may take any message for one of these methods."""
        present = self._methods or self._route()
        if self._proven is None:
            self._proven = proves_methods(self._named, self._chunk.buffer)
        return self._proven and methods.isdisjoint(present) and Kind.INVALID not in self._kinds

    def _search(self, methods: AbstractSet[str]) -> Sequence[int]:
        if self._proven and Kind.INVALID not in self._kinds:
            return [at for at, hint in enumerate(self._hints) if hint is not None and hint[1] in methods]
        return [
            at
            for at, (kind, method, _) in enumerate(filter(None, self._hints))
            if method in methods or kind is Kind.INVALID or not (self._proven or self._is_proven(at))
        ]

    def _is_proven(self, position: int) -> bool:
        _, _, start, end = self._spans[position]
        layout = self._layout
        if layout is not None and layout.unit_of[position] in layout.sources:  # it does not stand there in one piece
            return False
        return proves_method(self._chunk.buffer, start, end)

    def _route(self) -> AbstractSet[str | None]:
        """Tell the methods and kinds that are there, after parsing the messages whose bytes gave no hint."""
        if self.hint is not None:
            self._hints = [self.hint]
        hints = self._hints
        if not all(hints):
            self._hints = hints = [hint or self._original(position).envelope for position, hint in enumerate(hints)]
        first = hints[0] if hints else None
        if first is not None and hints.count(first) == len(hints):  # such as a burst of progress
            self._kinds, self._methods = {first.kind}, {first.method}
            self._named = 0 if first.method is None else len(hints)
        else:
            named = [hint.method for hint in hints if hint is not None]
            self._kinds, self._methods = {hint.kind for hint in hints if hint is not None}, set(named)
            self._named = len(named) - named.count(None)
        return self._methods

    def _made(self, position: int) -> Message:
        """Make a message of a line, of a body, or of an event that is not just one message on one line."""
        chunk, layout = self._chunk, self._layout
        raw = raw_at(position, chunk, layout)
        if not isinstance(chunk, FrameBatch):
            return Message(raw, self.context, at_ns=self.at_ns)
        start, end, data_start, data_end = chunk.records[unit_of(position, layout, None)]
        buffer = chunk.buffer
        fields = buffer[start:end] if data_start < 0 else buffer[start:data_start] + buffer[data_end:end]
        return Message.of_event(raw, self.context, self.at_ns, fields)

    def _look_closer(self) -> None:
        """Lay out a chunk of which some unit gave no hint and may not be one JSON object."""
        buffer = self._chunk.buffer
        if any(start < 0 or buffer[start] != _BRACE for _, _, start, _ in self._spans):
            self._layout = layout_of(self._chunk)
            self._spans = self._layout.spans
            self._hints = [None] * len(self._spans) if self._layout.sources else classify_each(buffer, self._spans)
