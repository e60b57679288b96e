"""The messages of one chunk, routed without objects for those nobody wants, edited by position, emitted once.

An untouched batch emits the chunk itself. In an edited one, everything but the edited messages is as it came.
No I/O.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Envelope, Json, Kind, classify, classify_each, dump
from shadowcat_core.messages.edits import Edits
from shadowcat_core.messages.layout import EVENTS, Layout, Units, Wire, layout_of
from shadowcat_core.messages.message import Message, MessageContext
from shadowcat_core.sse import FrameBatch

type Content = Message | bytes | Json  # a message, its JSON text, or its payload

_BRACE: Final = ord("{")
_BLANKS: Final = b" \t\r\n"


def sole_hint(frames: FrameBatch) -> Envelope | None:
    """The routing hint of a chunk's only message; None when there is not exactly one, or its bytes do not tell.

    Servers write one event at a time, and most are of no interest to anybody: whoever runs interceptors can skip such
    a chunk before a batch is made of it.
    """
    records = frames.records
    if len(records) != 1:
        return None
    return classify(frames.buffer, records[0][2], records[0][3])


class MessageBatch:
    """The messages of one chunk, in order.

    A message keeps its *position*, a number counted from 0, through every edit of the batch. A dropped position stays
    empty and an inserted message gets the next free number, so editing while going through `where()` is safe, and an
    interceptor sees what those before it made. `len` and iteration cover the messages that would be emitted now.

    JSON-RPC arrays keep their shape: each element has a position, insertions beside one join the array, and an array
    that lost all its elements is not sent at all (JSON-RPC 2.0, section 6).
    """

    __slots__ = (
        "_chunk",
        "_edits",
        "_hint",
        "_hints",
        "_kinds",
        "_layout",
        "_methods",
        "_originals",
        "_spans",
        "at_ns",
        "context",
        "edited",
    )

    _kinds: Sequence[Kind]
    edited: bool
    """True once a message was replaced, dropped or inserted."""

    def __init__(self, chunk: FrameBatch | Units, context: MessageContext, at_ns: int = 0) -> None:
        """The same as `of_frames`, without its call, for who makes one for every chunk."""
        self.context = context
        self.at_ns = at_ns
        self.edited = False
        self._chunk = chunk
        self._layout: Layout | None = None
        self._edits: Edits | None = None
        self._originals: dict[int, Message] | None = None
        self._methods: Sequence[str | None] | None = None  # that are there, like the kinds
        self._spans = spans = chunk.records
        # A hint that was got from the bytes proves that the unit is one JSON object, which is nearly always so.
        if len(spans) == 1:  # and servers write one event at a time
            _, _, start, end = spans[0]
            self._hint = hint = classify(chunk.buffer, start, end)
            if hint is None:
                self._hints: list[Envelope | None] = [None]
                self._look_closer()
        else:
            self._hint = None
            self._hints = classify_each(chunk.buffer, spans)
            if not all(self._hints):
                self._look_closer()

    @classmethod
    def of_frames(cls, frames: FrameBatch, context: MessageContext, at_ns: int = 0) -> "MessageBatch":
        """The messages in the frames of one chunk; comments, priming events and retries stay where they are."""
        return cls(frames, context, at_ns)

    @classmethod
    def of_body(cls, body: bytes, context: MessageContext, at_ns: int = 0) -> "MessageBatch":
        """The message, or the array of messages, that is a whole body. A blank body has none."""
        return cls(Units.of_body(body), context, at_ns)

    @classmethod
    def of_lines(cls, lines: bytes, context: MessageContext, at_ns: int = 0) -> "MessageBatch":
        """The messages in complete lines, as stdio has them; a line that is not JSON is one of kind INVALID."""
        return cls(Units.of_lines(lines), context, at_ns)

    def __len__(self) -> int:
        if self._edits is None:
            return len(self._spans)
        return self._edits.total - self._edits.dropped

    def __iter__(self) -> Iterator[Message]:
        return (self[position] for position in self._live())

    def __getitem__(self, position: int) -> Message:
        """The message at a position as it is now.

        Raises:
            IndexError: there is no such position, or its message was dropped.
        """
        self._check(position)
        if not self._is_edited(position):
            return self._original(position)
        message = self._edited[position]
        if message is None:
            raise IndexError(f"the message at position {position} was dropped")
        return message

    def where(
        self, methods: AbstractSet[str] | None = None, kinds: AbstractSet[Kind] | None = None, exact: bool = False
    ) -> Sequence[tuple[int, Message]]:
        """Find messages by method and kind, with their positions; None does not restrict. No object for the others.

        Messages are routed by hints, and parsed where the bytes give none. A hint can be deceived (see
        `jsonrpc.classify`): whatever *decides* asks for `exact`, which parses every message once.
        """
        hint = self._hint
        if hint is not None and not exact:
            if (methods is not None and hint.method not in methods) or (kinds is not None and hint.kind not in kinds):
                return ()
            return ((0, self._original(0)),)
        if self.edited or exact or methods is kinds:
            found = [at for at in self._live() if self._matches(at, methods, kinds, exact=exact)]
            return [(position, self[position]) for position in found]
        present = self._methods or self._route()
        # The common answer is "none", and sets tell it without a loop.
        if (methods is not None and methods.isdisjoint(present)) or (
            kinds is not None and kinds.isdisjoint(self._kinds)
        ):
            return ()
        found = [at for at in range(len(self._hints)) if self._matches(at, methods, kinds, exact=False)]
        return [(position, self._original(position)) for position in found]

    def replace(self, position: int, content: Content) -> None:
        """Put another message in the place of one; the event, line or array around it stays.

        Raises:
            InvalidMessage: the content cannot be written, or is empty.
        """
        self._check(position)
        message = self._message(content)
        self._edit().put(position, message)

    def drop(self, position: int) -> None:
        """Take a message out, together with its event or line. Dropping it again changes nothing."""
        self._check(position)
        self._edit().put(position, None)

    def insert_before(self, position: int, content: Content) -> int:
        """Put a message directly before a position, dropped or not, and tell its own position.

        Raises:
            InvalidMessage: the content cannot be written, or is empty.
            ValueError: the batch is a body of one message, which has no room for another (see `can_insert`).
        """
        return self._insert(position, content, after=False)

    def insert_after(self, position: int, content: Content) -> int:
        """Put a message directly behind a position, like `insert_before`."""
        return self._insert(position, content, after=True)

    @property
    def can_insert(self) -> bool:
        """False for a body that is one message: it must not become an array."""
        return self._wire.fresh is not None or (self._layout is not None and bool(self._layout.arrays))

    def emit(self) -> bytes:
        """The bytes to send: the chunk itself when nothing was edited, empty when nothing is left."""
        buffer, records = self._chunk.buffer, self._chunk.records
        end = records[-1][1] if records else 0
        if self._edits is None:
            return buffer if end == len(buffer) else buffer[:end]
        touched: dict[int, list[int]] = {self._unit(position): [] for position in self._edited}
        for position in self._edits.live():
            unit = self._unit(position)
            if unit in touched:
                touched[unit].append(position)
        pieces: list[bytes] = []
        sent = 0
        for unit in sorted(touched):
            pieces.append(buffer[sent : records[unit][0]])
            pieces.append(self._rewritten(unit, touched[unit]))
            sent = records[unit][1]
        pieces.append(buffer[sent:end])
        return b"".join(pieces)

    @property
    def _wire(self) -> Wire:
        return EVENTS if isinstance(self._chunk, FrameBatch) else self._chunk.wire

    @property
    def _edited(self) -> dict[int, Message | None]:
        return {} if self._edits is None else self._edits.contents

    def _is_edited(self, position: int) -> bool:
        return self._edits is not None and position in self._edits.contents

    def _live(self) -> Iterator[int]:
        return iter(range(len(self))) if self._edits is None else self._edits.live()

    def _check(self, position: int) -> None:
        total = len(self) if self._edits is None else self._edits.total
        if not 0 <= position < total:
            raise IndexError(f"no position {position} in a batch of {total}")

    def _unit(self, position: int) -> int:
        if self._edits is not None and position in self._edits.units:
            return self._edits.units[position]
        return position if self._layout is None else self._layout.unit_of[position]

    def _raw(self, position: int) -> bytes:
        _, _, start, end = self._spans[position]
        source, layout = self._chunk.buffer, self._layout
        if layout is not None:
            source = layout.sources.get(layout.unit_of[position], source)
        return source[start:end]

    def _original(self, position: int) -> Message:
        if self._originals is None:
            self._originals = {}
        message = self._originals.get(position)
        if message is None:
            message = self._originals[position] = self._made(position)
        return message

    def _made(self, position: int) -> Message:
        raw = self._raw(position)
        if not isinstance(self._chunk, FrameBatch):
            return Message(raw, self.context, at_ns=self.at_ns)
        start, end, data_start, data_end = self._chunk.records[self._unit(position)]
        buffer = self._chunk.buffer
        fields = buffer[start:end] if data_start < 0 else buffer[start:data_start] + buffer[data_end:end]
        return Message.of_event(raw, self.context, self.at_ns, fields)

    def _look_closer(self) -> None:
        """Lay out a chunk of which some unit gave no hint and may not be one JSON object."""
        buffer = self._chunk.buffer
        if any(start < 0 or buffer[start] != _BRACE for _, _, start, _ in self._spans):
            self._layout = layout_of(self._chunk)
            self._spans = self._layout.spans
            self._hints = [None] * len(self._spans) if self._layout.sources else classify_each(buffer, self._spans)

    def _route(self) -> Sequence[str | None]:
        """Tell the methods and kinds that are there, after parsing the messages whose bytes gave no hint."""
        hints = self._hints
        if not all(hints):
            self._hints = hints = [hint or self._original(position).envelope for position, hint in enumerate(hints)]
        if hints and hints[0] is not None and hints.count(hints[0]) == len(hints):  # such as a burst of progress
            self._kinds, self._methods = (hints[0].kind,), (hints[0].method,)
        else:
            self._kinds = [hint.kind for hint in hints if hint is not None]
            self._methods = [hint.method for hint in hints if hint is not None]
        return self._methods

    def _matches(
        self, position: int, methods: AbstractSet[str] | None, kinds: AbstractSet[Kind] | None, *, exact: bool
    ) -> bool:
        if methods is None and kinds is None:
            return True
        route = None if exact or self._is_edited(position) else self._hints[position]
        kind, method, _ = route or self[position].envelope
        return (methods is None or method in methods) and (kinds is None or kind in kinds)

    def _message(self, content: Content) -> Message:
        if isinstance(content, Message):
            message = content
        else:
            raw = content if isinstance(content, bytes) else dump(content)
            message = Message(raw, self.context, at_ns=self.at_ns)
        if not message.raw.strip(_BLANKS):
            raise InvalidMessage("an empty message cannot be sent; drop it instead")
        return message

    def _edit(self) -> Edits:
        if self._edits is None:
            self._edits = Edits(len(self))
            self._hints = [self._hint] if self._hint is not None else self._hints
            self._hint = None  # it is the hint of a message that is to be changed
            self.edited = True
        return self._edits

    def _insert(self, position: int, content: Content, *, after: bool) -> int:
        self._check(position)
        unit = self._unit(position)
        if self._wire.fresh is None and (self._layout is None or unit not in self._layout.arrays):
            raise ValueError("a body of one message has no room for another")
        message = self._message(content)
        return self._edit().insert(position, message, unit, after=after)

    def _rewritten(self, unit: int, positions: list[int]) -> bytes:
        """Write a unit that has edits; `positions` are those of its messages that are left, inserted ones included."""
        if not positions:
            return b""
        start, end, _, _ = self._chunk.records[unit]
        framed = self._chunk.buffer[start:end]
        if self._layout is None or unit not in self._layout.arrays:
            return b"".join([self._rewritten_one(framed, position) for position in positions])
        before, behind = self._layout.arrays[unit]
        elements = [self[at].raw if self._is_edited(at) else self._raw(at) for at in positions]
        return self._wire.rewritten(framed, before + b",".join(elements) + behind)

    def _rewritten_one(self, framed: bytes, position: int) -> bytes:
        wire = self._wire
        if not self._is_edited(position):
            return wire.kept(framed)
        raw = self[position].raw
        if wire.fresh is not None and self._edits is not None and position in self._edits.units:
            return wire.fresh(raw)
        return wire.rewritten(framed, raw)
