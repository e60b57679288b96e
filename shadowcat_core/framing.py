"""How a stream's bytes become messages: server-sent events, one JSON document a line, or all as one. Sans-I/O.

A framing holds at most one unfinished frame between two chunks. They fail alike: `MessageTooLarge` says that nothing
of the chunk was taken, and `close()` gives back what is held, so a caller that forwards loses no byte.
"""

from typing import Protocol

from shadowcat_core.dedup import DedupWindow
from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.messages import MessageBatch, MessageContext
from shadowcat_core.sse import SseParser


class Framing(Protocol):
    """Turns the chunks of one stream into batches of messages."""

    frames: int
    """Frames completed so far: events, comments, lines."""
    duplicates: int
    """Frames whose event id had been seen within the dedup window, where there is one."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished frame that is held."""
        ...

    def read(self, chunk: bytes, at_ns: int) -> MessageBatch | None:
        """Take a chunk; give the batch of what it completed, None when it completed nothing.

        The batches' bytes and the final `close()` are together the stream, byte for byte.

        Raises:
            MessageTooLarge: a frame is over the limit. Nothing of `chunk` was taken.
        """
        ...

    def finish(self, at_ns: int) -> MessageBatch | None:
        """The stream is over: give what its end completes, None when it completes nothing. `close` comes after it."""
        ...

    def close(self) -> bytes:
        """End the stream and give the unfinished rest."""
        ...


class SseFraming:
    """Server-sent events, each carrying one message (or an array of them, in protocol 2025-03-26)."""

    def __init__(
        self, context: MessageContext, *, dedup: DedupWindow | None = None, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        """Frame one stream. `dedup` is for a stream that was resumed: no other has anything to repeat."""
        self.frames = 0
        self.duplicates = 0
        self._context = context
        self._dedup = dedup
        self._parser = SseParser(max_event_bytes=max_event_bytes)

    @property
    def held_bytes(self) -> int:
        return self._parser.held_bytes

    def read(self, chunk: bytes, at_ns: int) -> MessageBatch | None:
        frames = self._parser.feed(chunk)
        if not frames.records:
            return None
        self.frames += len(frames.records)
        if self._dedup is not None:
            self.duplicates += sum(self._dedup.seen(frame.id) for frame in frames if frame.id is not None)
        return MessageBatch(frames, self._context, at_ns)

    def finish(self, _at_ns: int) -> MessageBatch | None:
        # An event without its blank line is not dispatched (WHATWG HTML, 9.2.6).
        return None

    def close(self) -> bytes:
        return self._parser.close()


class LineFraming:
    """One JSON document a line: stdio, and servers that answer `subscriptions/listen` so."""

    def __init__(self, context: MessageContext, *, max_line_bytes: int = MAX_EVENT_BYTES) -> None:
        self.frames = 0
        self.duplicates = 0
        self._context = context
        self._limit = int(max_line_bytes)
        # Pieces of an unfinished line, joined once when it ends: joining at every chunk would be quadratic.
        self._held: list[bytes] = []
        self.held_bytes = 0

    def read(self, chunk: bytes, at_ns: int) -> MessageBatch | None:
        end = chunk.rfind(b"\n") + 1
        self._check(chunk, end)
        if not end:
            self._hold(chunk)
            return None
        lines = b"".join([*self._held, chunk[:end]]) if self._held or end < len(chunk) else chunk
        self._held.clear()
        self.held_bytes = 0
        self._hold(chunk[end:])
        self.frames += lines.count(b"\n")
        return MessageBatch.of_lines(lines, self._context, at_ns)

    def finish(self, at_ns: int) -> MessageBatch | None:
        # Whoever reads lines takes the last one without its line end too.
        return MessageBatch.of_lines(self.close(), self._context, at_ns) if self.held_bytes else None

    def close(self) -> bytes:
        rest = b"".join(self._held)
        self._held.clear()
        self.held_bytes = 0
        return rest

    def _check(self, chunk: bytes, end: int) -> None:
        """Refuse a chunk that makes a line longer than the limit, before anything is taken of it."""
        if self.held_bytes + len(chunk) <= self._limit:
            return
        start, held = 0, self.held_bytes
        while (newline := chunk.find(b"\n", start, end)) >= 0:
            self._check_line(held + newline - start)
            start, held = newline + 1, 0
        self._check_line(held + len(chunk) - start)

    def _check_line(self, size: int) -> None:
        if size > self._limit:
            raise MessageTooLarge(size, self._limit)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._held.append(piece)
            self.held_bytes += len(piece)


class BodyFraming:
    """One JSON document, or an array of them, that is the whole body: complete when the body is."""

    def __init__(self, context: MessageContext, *, max_body_bytes: int = MAX_EVENT_BYTES) -> None:
        self.frames = 0
        self.duplicates = 0
        self.held_bytes = 0
        self._context = context
        self._limit = int(max_body_bytes)
        self._held: list[bytes] = []

    def read(self, chunk: bytes, _at_ns: int) -> MessageBatch | None:
        if self.held_bytes + len(chunk) > self._limit:
            raise MessageTooLarge(self.held_bytes + len(chunk), self._limit)
        self._held.append(chunk)
        self.held_bytes += len(chunk)
        return None

    def finish(self, at_ns: int) -> MessageBatch | None:
        self.frames = 1
        return MessageBatch.of_body(self.close(), self._context, at_ns)

    def close(self) -> bytes:
        rest = b"".join(self._held)
        self._held.clear()
        self.held_bytes = 0
        return rest
