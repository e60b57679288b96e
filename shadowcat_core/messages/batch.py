"""The messages of one chunk, routed without objects for those nobody wants, edited by position, emitted once.

An untouched batch emits the chunk itself. In an edited one, everything but the edited messages is as it came.
No I/O.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from typing import Final

from shadowcat_core.jsonrpc import Envelope, ErrorCode, Json, Kind, classify, classify_each
from shadowcat_core.messages.answers import RpcError, settled
from shadowcat_core.messages.edits import Act, Change, Edits
from shadowcat_core.messages.emission import Chunk, emitted, joined_chunks, raw_at, unit_of, wire_of
from shadowcat_core.messages.layout import Layout, Units, layout_of
from shadowcat_core.messages.message import Content, Message, MessageContext, message_of
from shadowcat_core.messages.routing import proves_method, proves_methods
from shadowcat_core.sse import FrameBatch

_BRACE: Final = ord("{")


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
        "_hints",
        "_kinds",
        "_layout",
        "_methods",
        "_originals",
        "_proven",
        "_spans",
        "at_ns",
        "context",
        "edited",
        "hint",
    )

    _kinds: Sequence[Kind]
    edited: bool
    """True once a message was replaced, dropped or inserted."""
    hint: Envelope | None
    """The routing hint of the only message, as long as it is as it came; else None."""

    def __init__(self, chunk: Chunk, context: MessageContext, at_ns: int = 0) -> None:
        """The same as `of_frames`, without its call, for who makes one for every chunk."""
        self.context = context
        self.at_ns = at_ns
        self.edited = False
        self._chunk = chunk
        self._layout: Layout | None = None
        self._edits: Edits | None = None
        self._originals: dict[int, Message] | None = None
        self._methods: Sequence[str | None] | None = None  # that are there, like the kinds
        self._proven: bool | None = None  # that all hints tell the method exactly
        self._spans = spans = chunk.records
        # A hint that was got from the bytes proves that the unit is one JSON object, which is nearly always so.
        if len(spans) == 1:  # and servers write one event at a time
            _, _, start, end = spans[0]
            self.hint = hint = classify(chunk.buffer, start, end)
            if hint is None:
                self._hints: list[Envelope | None] = [None]
                self._look_closer()
        else:
            self.hint = None
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

    @classmethod
    def joined(cls, batches: Sequence["MessageBatch"]) -> "MessageBatch":
        """One batch of the messages of many, which nobody has edited and which come from one stream, one at least."""
        chunk = joined_chunks([batch._chunk for batch in batches])  # noqa: SLF001 -- batches like this one
        return cls(chunk, batches[0].context, batches[0].at_ns)

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
        message = self._now(position)
        if message is None:
            raise IndexError(f"the message at position {position} was dropped")
        return message

    def where(
        self, methods: AbstractSet[str] | None = None, kinds: AbstractSet[Kind] | None = None, exact: bool = False
    ) -> Sequence[tuple[int, Message]]:
        """Find messages by method and kind, with their positions; None does not restrict. No object for the others.

        Messages are routed by hints, and parsed where the bytes give none. A hint can be deceived (see
        `jsonrpc.classify`): whatever *decides* asks for `exact`, which parses every message whose bytes do not prove
        that it is another one.
        """
        if exact and methods is not None:
            return [
                (at, message)
                for at, message in self.candidates(methods)
                if message.method in methods and (kinds is None or message.kind in kinds)
            ]
        hint = self.hint
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

    def candidates(self, methods: AbstractSet[str]) -> Sequence[tuple[int, Message]]:
        """Find every message that some reader may take for one of these methods, with its position.

        The others are ruled out by their bytes, mostly without a parse. Who asks parses what is found: it may be
        another message after all, or one that is not JSON to us and still something to a lenient endpoint.
        """
        hint = self.hint
        if hint is not None:
            if hint.method not in methods:
                if self._proven is None:
                    _, _, start, end = self._spans[0]
                    self._proven = proves_method(self._chunk.buffer, start, end)
                if self._proven:
                    return ()
            return ((0, self._original(0)),)
        if self.edited:
            return [(at, self[at]) for at in self._live() if self._may_be(at, methods)]
        present = self._methods or self._route()
        if self._proven is None:
            named = len(present) - present.count(None)
            # A burst of equal messages is one entry in `present`.
            self._proven = proves_methods(
                named * (len(self._hints) // len(present) if present else 0), self._chunk.buffer
            )
        if self._proven and methods.isdisjoint(present) and Kind.INVALID not in self._kinds:
            return ()
        return [(at, self._original(at)) for at in range(len(self._hints)) if self._may_be(at, methods)]

    def replace(self, position: int, content: Content, reason: str = "") -> None:
        """Put another message in the place of one; the event, line or array around it stays.

        Raises:
            InvalidMessage: the content cannot be written, or is empty.
        """
        self._check(position)
        message = message_of(content, self.context, self.at_ns)
        before = self._now(position)
        if before is not None and message is not content:
            message = before.with_raw(message.raw)  # of the same event
        self._put(position, Act.MODIFY, message, None, reason)

    def drop(self, position: int, reason: str = "") -> None:
        """Take a message out, together with its event or line, and tell nobody. Dropping it again changes nothing."""
        self._check(position)
        if self._now(position) is not None:
            self._put(position, Act.DROP, None, None, reason)

    def block(self, position: int, reason: str = "", code: int = ErrorCode.BLOCKED, data: Json = None) -> None:
        """Refuse a message: who waits for it, or for its answer, gets a JSON-RPC error (`answers.settlement_of`)."""
        self._settle(position, Act.BLOCK, RpcError(code, reason or "blocked", data), reason)

    def answer(self, position: int, answer: Json | RpcError, reason: str = "") -> None:
        """Answer a request without its going on, by a result or an error.

        An answer is exchanged for this one, with its own id. A notification just does not go on, as nobody waits.

        Raises:
            InvalidMessage: the answer cannot be written as JSON.
        """
        self._settle(position, Act.MOCK, answer, reason)

    @property
    def replies(self) -> list[Message]:
        """What the senders of blocked and answered requests are to get, in order: messages of the other direction."""
        latest = {change.position: change.reply for change in self.changes}
        left = None if self._edits is None else self._edits.left
        return [
            reply
            for position, reply in latest.items()
            if reply is not None and (left is None or self._unit(position) in left)
        ]

    @property
    def changes(self) -> Sequence[Change]:
        """Every edit so far, in the order they were made. Its length is a mark that `undo` understands."""
        return () if self._edits is None else self._edits.changes

    def undo(self, mark: int) -> None:
        """Take back every edit made since `len(changes)` was `mark`, however long ago; a split is not undone."""
        if self._edits is None:
            return
        while len(self._edits.changes) > mark:
            self._edits.undo()
        if not self._edits.changes and self._edits.left is None:
            self._edits = None
            self.edited = False
            self.hint = self._hints[0] if len(self._hints) == 1 else None

    def copy(self) -> "MessageBatch":
        """The same messages and edits, to be edited in another way."""
        twin = copy(self)
        twin._edits = None if self._edits is None else self._edits.copy()  # noqa: SLF001 -- a batch like this one
        return twin

    def split(self, position: int) -> "MessageBatch | None":
        """Part with everything before the event, line or array of a position, which may then go ahead.

        Gives the batch of it; None when no message stands there. The positions in both stay what they are, and empty
        where the message went with the other one.
        """
        unit = self._unit(position)
        parted: dict[bool, list[int]] = {True: [], False: []}
        for at in self._live():
            parted[self._unit(at) < unit].append(at)
        if not parted[True] and not any(self._unit(change.position) < unit for change in self.changes):
            return None
        units = self._edit().left or range(len(self._chunk.records))
        head = self.copy()
        head._edit().part_with(parted[False], range(units.start, unit))  # noqa: SLF001 -- likewise
        self._edit().part_with(parted[True], range(unit, units.stop))
        return head

    def insert_before(self, position: int, content: Content, reason: str = "") -> int:
        """Put a message directly before a position, dropped or not, and tell its own position.

        Raises:
            InvalidMessage: the content cannot be written, or is empty.
            ValueError: the batch is a body of one message, which has no room for another (see `can_insert`).
        """
        return self._insert(position, content, reason, after=False)

    def insert_after(self, position: int, content: Content, reason: str = "") -> int:
        """Put a message directly behind a position, like `insert_before`."""
        return self._insert(position, content, reason, after=True)

    @property
    def can_insert(self) -> bool:
        """False for a body that is one message: it must not become an array."""
        return wire_of(self._chunk).fresh is not None or (self._layout is not None and bool(self._layout.arrays))

    def emit(self) -> bytes:
        """The bytes to send: the chunk itself when nothing was edited, empty when nothing is left."""
        if self._edits is not None:
            return emitted(self._chunk, self._layout, self._edits)
        buffer, records = self._chunk.buffer, self._chunk.records
        end = records[-1][1] if records else 0
        return buffer if end == len(buffer) else buffer[:end]

    def _is_edited(self, position: int) -> bool:
        return self._edits is not None and position in self._edits.contents

    def _now(self, position: int) -> Message | None:
        """The message at a position as it is; None when it was dropped."""
        if self._edits is not None and position in self._edits.contents:
            return self._edits.contents[position]
        return self._original(position)

    def _live(self) -> Iterator[int]:
        return iter(range(len(self))) if self._edits is None else self._edits.live()

    def _check(self, position: int) -> None:
        total = len(self) if self._edits is None else self._edits.total
        if not 0 <= position < total:
            raise IndexError(f"no position {position} in a batch of {total}")

    def _unit(self, position: int) -> int:
        return unit_of(position, self._layout, self._edits)

    def _original(self, position: int) -> Message:
        if self._originals is None:
            self._originals = {}
        message = self._originals.get(position)
        if message is None:
            message = self._originals[position] = self._made(position)
        return message

    def _made(self, position: int) -> Message:
        raw = raw_at(position, self._chunk, self._layout)
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

    def _may_be(self, position: int, methods: AbstractSet[str]) -> bool:
        if self._is_edited(position):
            return True
        hint = self._hints[position]
        if (
            hint is None
            or hint.kind is Kind.INVALID
            or hint.method in methods
            or (self._layout is not None and self._layout.sources)
        ):
            return True
        _, _, start, end = self._spans[position]
        return not (self._proven or proves_method(self._chunk.buffer, start, end))

    def _matches(
        self, position: int, methods: AbstractSet[str] | None, kinds: AbstractSet[Kind] | None, *, exact: bool
    ) -> bool:
        if methods is None and kinds is None:
            return True
        route = None if exact or self._is_edited(position) else self._hints[position]
        kind, method, _ = route or self[position].envelope
        return (methods is None or method in methods) and (kinds is None or kind in kinds)

    def _edit(self) -> Edits:
        if self._edits is None:
            self._edits = Edits(len(self))
            self._hints = [self.hint] if self.hint is not None else self._hints
            self.hint = None  # it is the hint of a message that is to be changed
            self.edited = True
        return self._edits

    def _put(self, position: int, act: Act, after: Message | None, reply: Message | None, reason: str) -> None:
        change = Change(position, act, self._now(position), after, reply, reason)
        self._edit().put(change)

    def _settle(self, position: int, act: Act, answer: Json | RpcError, reason: str) -> None:
        after, reply = settled(self[position], answer, self.at_ns)
        self._put(position, act, after, reply, reason)

    def _insert(self, position: int, content: Content, reason: str, *, after: bool) -> int:
        self._check(position)
        unit = self._unit(position)
        if wire_of(self._chunk).fresh is None and (self._layout is None or unit not in self._layout.arrays):
            raise ValueError("a body of one message has no room for another")
        message = message_of(content, self.context, self.at_ns)
        return self._edit().insert(position, message, unit, reason, after=after)
