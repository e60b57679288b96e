"""What a parser hands out: the frames of one chunk, as offsets into one buffer, decoded when asked."""

from collections.abc import Iterator, Sequence
from typing import overload

from shadowcat_core.sse.blocks import FOLDED, NO_DATA, Block, Record, fields, read_block, text


class Frame:
    """One frame of a batch. It keeps the buffer of its batch alive: store `raw`, not the frame."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: "FrameBatch", index: int) -> None:
        self._batch = batch
        self._index = index

    @property
    def raw(self) -> bytes:
        """Exactly the bytes that came, the blank line included."""
        start, end, _, _ = self._batch.records[self._index]
        return self._batch.buffer[start:end]

    @property
    def dispatches(self) -> bool:
        """False for a frame without a `data` line: a comment, an id or a retry alone. It is still to be forwarded."""
        return self._batch.records[self._index][2] != NO_DATA

    @property
    def event(self) -> str:
        """The event type; "message" when absent or empty."""
        return self._batch.event_type(self._index)

    @property
    def data(self) -> bytes:
        """The data lines joined by LF, in the bytes that came: not necessarily UTF-8. Empty when there are none."""
        return self._batch.data(self._index)

    @property
    def id(self) -> str | None:
        """The id field; None when there is none, or only one which the standard ignores for its NUL."""
        value = self._batch.block(self._index).id
        return None if value is None else text(value)

    @property
    def last_event_id(self) -> str:
        """The id in force after this frame: its own, else that of the nearest frame before it, else empty."""
        return self._batch.last_event_id(self._index)

    def __repr__(self) -> str:
        return f"Frame({self.raw!r})"


class FrameBatch(Sequence[Frame]):
    """The frames that one chunk completed. A `Frame` is made only for who asks; `records` serve who is in a hurry.

    `buffer` is the chunk itself when nothing was held before it, else what was held and the chunk. Bytes behind the
    last record are held for the next chunk.

    `records` tile the buffer from its start: `(start, end, data_start, data_end)`, the frame being
    `buffer[start:end]` and its data `buffer[data_start:data_end]`. A `data_start` of `NO_DATA` says that the frame
    dispatches no event, `FOLDED` that its data is spread over several lines: ask `data()`.

    The byte order mark that opens a stream is a frame of its own, so that the first block means the same wherever it is
    put. When the last CRLF of a block comes in two chunks, the block ends with the CR and is passed on at once; the LF
    is then a frame of its own, an empty block. Neither dispatches.

    `common_event` is the event type of all frames that dispatch; None when they differ or there are none.
    """

    __slots__ = ("_blocks", "_id_before", "_ids", "buffer", "common_event", "records")

    def __init__(self, buffer: bytes, records: list[Record], id_before: bytes, common_event: str | None) -> None:
        self.buffer = buffer
        self.records = records
        self.common_event = common_event
        self._id_before = id_before
        self._blocks: list[Block] | None = None
        self._ids: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        position = range(len(self.records))[index]
        return [Frame(self, i) for i in position] if isinstance(position, range) else Frame(self, position)

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(self, i) for i in range(len(self.records)))

    def __repr__(self) -> str:
        return f"FrameBatch({list(self)!r})"

    def event_type(self, index: int) -> str:
        """Tell a frame's event type; "message" when absent or empty. Costs nothing when all frames share one."""
        if self.common_event is not None and self.records[index][2] != NO_DATA:
            return self.common_event
        return self.block(index).event

    def data(self, index: int) -> bytes:
        """Tell a frame's data; empty when it does not dispatch."""
        start, end, data_start, data_end = self.records[index]
        if data_start == NO_DATA:
            return b""
        if data_start != FOLDED:
            return self.buffer[data_start:data_end]
        lines = fields(self.buffer, start, end)
        return b"\n".join([self.buffer[begin:stop] for name, begin, stop in lines if name == b"data"])

    def last_event_id(self, index: int) -> str:
        """Tell the id in force after a frame."""
        if self._ids is None:
            # All at once: asking each frame to look back for an id would be quadratic.
            self._ids = []
            latest = self._id_before
            for i in range(len(self.records)):
                own = self.block(i).id
                latest = latest if own is None else own
                self._ids.append(latest)
        return text(self._ids[index])

    def block(self, index: int) -> Block:
        """Read a frame's fields: of all frames at the first call, as who asks for one asks for the others."""
        if self._blocks is None:
            self._blocks = [read_block(self.buffer, start, end) for start, end, _, _ in self.records]
        return self._blocks[index]
