"""Cuts an event stream into frames: losslessly, in linear time, holding at most one unfinished frame.

The layouts that servers write again and again are recognised by comparing a block with the literals of an earlier one
(`Shape`): three comparisons and two searches for an LF, whatever the size of the data. All other blocks go through the
standard's rules line by line, which is also where shapes are learned; both ways give the same answer.

Source: WHATWG HTML, 9.2.5 and 9.2.6.
"""

from typing import Final

from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.sse.blocks import (
    CR,
    LF,
    NO_DATA,
    NUL,
    SPACE,
    Block,
    Record,
    Shape,
    fields,
    find_blank_line,
    read_block,
    read_retry_ms,
    shape_of,
    text,
)
from shadowcat_core.sse.frames import FrameBatch

_BOM: Final = b"\xef\xbb\xbf"
_MAX_SHAPES: Final = 8  # the busiest LLM stream has as many event types


class SseParser:
    """Reads one event stream; make another for the next.

    Args:
        max_event_bytes: the most bytes that a frame may have, and so the most that are held between two chunks.
    """

    __slots__ = (
        "_at_start",
        "_held",
        "_id",
        "_limit",
        "_line",
        "_max_shapes",
        "_retry_ms",
        "_shapes",
        "_single",
        "_special",
    )

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        if max_event_bytes < 1:
            raise ValueError(f"max_event_bytes must be at least 1, not {max_event_bytes}")
        self._limit = int(max_event_bytes)
        self._held = bytearray()  # the unfinished block
        self._line = 0  # where the unfinished line begins in it
        self._at_start = True  # a byte order mark may come
        self._special = True  # there is something held, or due: one test tells the common case from the rare ones
        self._shapes: list[Shape] = []  # the latest to match first
        self._max_shapes = _MAX_SHAPES
        self._single: Shape | None = None  # what the latest chunk was one block of; None when anything special is due
        self._id = b""
        self._retry_ms: int | None = None

    @property
    def last_event_id(self) -> str:
        """The id of the last complete frame that had one, as `Last-Event-ID` would carry it; empty at first."""
        return text(self._id)

    @property
    def retry_ms(self) -> int | None:
        """The reconnection time that the stream asked for last; in force as soon as its line is complete."""
        return self._retry_ms

    @property
    def held_bytes(self) -> int:
        """How many bytes of an unfinished block are held."""
        return len(self._held)

    def close(self) -> bytes:
        """End the stream and return the unfinished rest verbatim. It is never an event, however complete it looks."""
        rest = bytes(self._held)
        self._held = bytearray()
        self._special = False
        return rest

    def feed(self, chunk: bytes) -> FrameBatch:
        """Take the next bytes of the stream, cut anywhere, and return the frames which they complete.

        Raises:
            MessageTooLarge: a frame passes the limit. Nothing of `chunk` was taken and no buffer has grown; `close()`
                still returns what is held from before, so `close() + chunk` is where the stream goes on.
        """
        if self._single is not None:
            # One event a chunk is how servers write: a way of its own takes a third off its cost.
            head, head_size, until_data, until_data_size, cr, blank, blank_size, _, _, event = self._single
            size = len(chunk)
            if chunk.startswith(head) and chunk.endswith(blank) and size <= self._limit:
                data_start = head_size
                first_cr = data_end = size - blank_size
                if until_data:
                    first_cr = id_end = chunk.find(LF, head_size) - cr
                    data_start = id_end + until_data_size if chunk.startswith(until_data, id_end) else size
                if chunk.find(LF, data_start) - cr == data_end and (
                    (chunk.find(CR, head_size) == first_cr and chunk.find(CR, data_start) == data_end)
                    if cr
                    else CR not in chunk
                ):
                    batch = FrameBatch(chunk, [(0, size, data_start, data_end)], self._id, event)
                    if until_data:
                        value = chunk[head_size:id_end]
                        self._id = self._id if NUL in value else value
                    return batch
        return self._cut(chunk)

    def _cut(self, chunk: bytes) -> FrameBatch:
        """Do what `feed` does, for any chunk."""
        records: list[Record] = []
        special = self._special
        buffer, at = self._resume(chunk, records) if special else (chunk, 0)
        size = len(buffer)
        has_cr = CR in buffer
        line = 0
        latest_id: bytes | None = None
        retry_ms = self._retry_ms
        event: str | None = None  # "" once two types were seen
        while at < size:
            for shape in self._shapes:
                run = at
                at = _match_run(buffer, at, shape, has_cr, records)
                if at > run:
                    event = shape.event if event is None or event == shape.event else ""
                    if shape.until_data:
                        start, _, data_start, _ = records[-1]
                        value = buffer[start + shape.head_size : data_start - shape.until_data_size]
                        latest_id = value if NUL not in value else _id_before_nul(buffer, run, records, latest_id)
                    if shape is not self._shapes[0]:
                        self._shapes.remove(shape)
                        self._shapes.insert(0, shape)
                    break
            else:
                special = True
                end, line = find_blank_line(buffer, at, at)
                if end < 0:
                    break
                block = read_block(buffer, at, end)
                records.append(block.record)
                at = end
                latest_id = latest_id if block.id is None else block.id
                retry_ms = retry_ms if block.retry_ms is None else block.retry_ms
                if block.record[2] != NO_DATA:
                    event = block.event if event is None or event == block.event else ""
                self._learn(buffer, block)
        if size > self._limit:
            _refuse_oversized(records, size - at, self._limit)
        batch = FrameBatch(buffer, records, self._id, event or None)
        if latest_id is not None:
            self._id = latest_id
        if special and buffer:
            self._retry_ms = retry_ms
            self._settle(buffer, at, line)
        # After a burst or something special the next chunk is not expected to be one block.
        fit = len(records) == 1 and not self._special and self._shapes and not self._shapes[0].tight
        self._single = self._shapes[0] if fit else None
        return batch

    def _resume(self, chunk: bytes, records: list[Record]) -> tuple[bytes, int]:
        """Return the buffer to cut and where its first block begins; an empty buffer while there is no block to cut."""
        if self._at_start:
            buffer = bytes(self._held) + chunk
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._held += chunk
                return b"", 0
            if buffer.startswith(_BOM):
                records.append((0, len(_BOM), NO_DATA, NO_DATA))
                return buffer, len(_BOM)
            return buffer, 0
        return self._join(chunk), 0

    def _join(self, chunk: bytes) -> bytes:
        """Take `chunk` behind what is held; return all of it once the held block is complete, else nothing."""
        searched = len(self._held)
        if searched + len(chunk) > self._limit:
            # Held and given back: a copy of what is held may be the largest thing in memory.
            self._held += chunk[: self._limit - searched]
            end, _ = find_blank_line(self._held, self._line, searched)
            del self._held[searched:]
            if end < 0:
                raise MessageTooLarge(self._limit + 1, self._limit)
            return b"".join((self._held, chunk))
        self._held += chunk
        end, line = find_blank_line(self._held, self._line, searched)
        if end >= 0:
            return bytes(self._held)
        self._note_retry(self._held, self._line, line)
        self._line = line
        return b""

    def _settle(self, buffer: bytes, at: int, line: int) -> None:
        """Hold what is behind the last block; its unfinished line begins at `line`."""
        self._held = bytearray(memoryview(buffer)[at:])
        self._line = line - at
        self._note_retry(buffer, at, line)
        self._at_start = False
        self._special = bool(self._held)

    def _note_retry(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        """Obey the `retry` lines of an unfinished block: unlike an id, they do not wait for the blank line."""
        for name, value_start, value_end in fields(buffer, start, end):
            if name == b"retry":
                retry_ms = read_retry_ms(bytes(buffer[value_start:value_end]))
                self._retry_ms = self._retry_ms if retry_ms is None else retry_ms

    def _learn(self, buffer: bytes, block: Block) -> None:
        """Remember the shape of a block, if it has one; the one that matched longest ago gives way."""
        start, end, _, _ = block.record
        if buffer.count(b"\r", start, end - 1) > buffer.count(b"\r\n", start, end):
            # Where lines end in a lone CR, the search for an LF may run far beyond the block, again and again.
            self._max_shapes = 0
        shape = shape_of(buffer, block)
        if shape is not None and shape not in self._shapes:
            self._shapes.insert(0, shape)
        del self._shapes[self._max_shapes :]


def _match_run(buffer: bytes, at: int, shape: Shape, has_cr: bool, records: list[Record]) -> int:
    """Record the blocks of one shape that begin at `at`, one behind the other; return where the last one ends."""
    head, head_size, until_data, until_data_size, cr, blank, blank_size, link, tight, _ = shape
    careful = has_cr or tight
    linked = buffer.startswith(head, at)
    while linked:
        data_start = at + head_size
        if until_data:
            id_end = buffer.find(LF, data_start) - cr
            if not buffer.startswith(until_data, id_end):
                break
            data_start = id_end + until_data_size
        data_end = buffer.find(LF, data_start) - cr
        linked = buffer.startswith(link, data_end)
        if not linked and not buffer.startswith(blank, data_end):
            break
        if careful:
            id_start, id_end = at + head_size, data_start - until_data_size
            if buffer.find(CR, data_start, data_end) >= 0 or buffer.find(CR, id_start, id_end) >= 0:
                break
            if tight and (buffer[id_start] == SPACE or buffer[data_start] == SPACE):
                break
        end = data_end + blank_size
        records.append((at, end, data_start, data_end))
        at = end
    return at


def _id_before_nul(buffer: bytes, run: int, records: list[Record], before: bytes | None) -> bytes | None:
    """Tell the id in force after the run of blocks which begins at `run`; the last id in it is to be ignored."""
    for start, end, _, _ in reversed(records):
        if start < run:
            break
        block = read_block(buffer, start, end)
        if block.id is not None:
            return block.id
    return before


def _refuse_oversized(records: list[Record], rest: int, limit: int) -> None:
    """Raise MessageTooLarge when a frame, or the rest that is to be held, passes the limit."""
    largest = max(rest, *(end - start for start, end, _, _ in records), 0)
    if largest > limit:
        raise MessageTooLarge(largest, limit)
