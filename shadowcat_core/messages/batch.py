"""The messages of one chunk, routed without objects for those nobody wants, edited by position, emitted once.

An untouched batch emits the chunk itself. In an edited one, everything but the edited messages is as it came.
No I/O.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from copy import copy

from shadowcat_core.jsonrpc import ErrorCode, Json, Kind
from shadowcat_core.messages.answers import RpcError, settled
from shadowcat_core.messages.arrived import Arrived, Found
from shadowcat_core.messages.edits import Act, Change, Edits
from shadowcat_core.messages.emission import emitted, joined_chunks, unit_of, wire_of
from shadowcat_core.messages.layout import Units
from shadowcat_core.messages.message import Content, Message, MessageContext, message_of
from shadowcat_core.sse import FrameBatch


class MessageBatch(Arrived):
    """The messages of one chunk, in order.

    A message keeps its *position*, a number counted from 0, through every edit of the batch. A dropped position stays
    empty and an inserted message gets the next free number, so editing while going through `where()` is safe, and an
    interceptor sees what those before it made. `len` and iteration cover the messages that would be emitted now.

    JSON-RPC arrays keep their shape: each element has a position, insertions beside one join the array, and an array
    that lost all its elements is not sent at all (JSON-RPC 2.0, section 6).
    """

    __slots__ = ()

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
        if methods is None and kinds is None:
            found = self._found  # interceptors that declare nothing ask for all of them, one after the other
            return found[1] if found is not None and found[0] is None else self._everything()
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
        if kinds is not None and exact:
            return [(at, message) for at, message in self.where() if message.kind in kinds]
        positions = (self._hints or self._route()).of(methods, kinds)
        if self._edits is None:
            return [(position, self._original(position)) for position in positions] if positions else ()
        return self._with_edits(
            positions,
            lambda message: (methods is None or message.method in methods) and (kinds is None or message.kind in kinds),
        )

    def candidates(self, methods: AbstractSet[str]) -> Sequence[tuple[int, Message]]:
        """Find every message that some reader may take for one of these methods, with its position.

        The others are ruled out by their bytes, mostly without a parse. Who asks parses what is found: it may be
        another message after all, or one that is not JSON to us and still something to a lenient endpoint.
        """
        hint = self.hint
        if hint is not None:
            if hint.method not in methods:
                if self._proven is None:
                    self._proven = self._is_proven(0)
                if self._proven:
                    return ()
            return ((0, self._original(0)),)
        if self._edits is not None:
            return self._with_edits(self._possible(methods), None)
        found = self._found
        if found is None or found[0] is not methods:  # a pipeline asks, and then the interceptor
            positions = self._possible(methods)
            found = (methods, tuple([(at, self._original(at)) for at in positions]) if positions else ())
            self._found = found if isinstance(methods, frozenset) else None
        return found[1]

    def lacks(self, methods: AbstractSet[str], kinds: AbstractSet[Kind]) -> bool:
        """True when no reader may take any message for one of these methods, and none has a hint of these kinds.

        The quick half of `candidates` and `where`: False does not say that there is one.
        """
        if self.edited:
            return False
        hint = self.hint
        if hint is not None:
            return hint.kind not in kinds and not self.candidates(methods)
        hints = self._hints or self._route()
        return methods.isdisjoint(hints.methods) and kinds.isdisjoint(hints.kinds) and not self._possible(methods)

    def replace(self, position: int, content: Content, reason: str = "") -> None:
        """Put another message in the place of one; the event, line or array around it stays.

        Raises:
            InvalidMessage: the content cannot be written, or is empty.
        """
        before = self._now(position)
        message = message_of(content, self.context, self.at_ns, before)
        self._edit().put(position, Act.MODIFY, before, message, None, reason)

    def drop(self, position: int, reason: str = "") -> None:
        """Take a message out, together with its event or line, and tell nobody. Dropping it again changes nothing."""
        before = self._now(position)
        if before is not None:
            self._edit().put(position, Act.DROP, before, None, None, reason)

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
            self.hint = self._edits.hint
            self._edits = None
            self.edited = False

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

    def _now(self, position: int) -> Message | None:
        """The message at a position as it is; None when it was dropped."""
        if self._edits is None:
            total = len(self._spans)
        elif position in self._edits.contents:
            return self._edits.contents[position]
        else:
            total = self._edits.total
        if not 0 <= position < total:
            raise IndexError(f"no position {position} in a batch of {total}")
        return self._original(position)

    def _everything(self) -> Found:
        """All messages that are left."""
        if self._edits is not None:
            return self._with_edits(range(len(self._spans)), None)
        found = tuple([(at, self._original(at)) for at in range(len(self._spans))])
        self._found = (None, found)
        return found

    def _live(self) -> Iterator[int]:
        return iter(range(len(self))) if self._edits is None else self._edits.live()

    def _unit(self, position: int) -> int:
        return unit_of(position, self._layout, self._edits)

    def _with_edits(
        self, positions: Iterable[int], wanted: Callable[[Message], bool] | None
    ) -> Sequence[tuple[int, Message]]:
        """Those of the positions that nobody edited, and the edited messages that are wanted (None: all), in order."""
        edits = self._edit()
        found = {at: self._original(at) for at in positions if at not in edits.contents}
        found |= {
            at: message
            for at, message in edits.contents.items()
            if message is not None and (wanted is None or wanted(message))
        }
        return [(at, found[at]) for at in edits.in_order(found)]

    def _edit(self) -> Edits:
        if self._edits is None:
            self._edits = Edits(len(self), self.hint)
            if self.hint is not None and self._hints is None:
                self._route()
            self._found = None
            self.hint = None  # it is the hint of a message that is to be changed
            self.edited = True
        return self._edits

    def _settle(self, position: int, act: Act, answer: Json | RpcError, reason: str) -> None:
        before = self[position]
        after, reply = settled(before, answer, self.at_ns)
        self._edit().put(position, act, before, after, reply, reason)

    def _insert(self, position: int, content: Content, reason: str, *, after: bool) -> int:
        self._now(position)  # it must be there, dropped or not
        unit = self._unit(position)
        if wire_of(self._chunk).fresh is None and (self._layout is None or unit not in self._layout.arrays):
            raise ValueError("a body of one message has no room for another")
        message = message_of(content, self.context, self.at_ns)
        return self._edit().insert(position, message, unit, reason, after=after)
