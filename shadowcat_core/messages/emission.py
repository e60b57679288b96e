"""Writes an edited chunk: what was edited anew, everything else as it came. No I/O."""

from collections.abc import Iterator, Sequence

from shadowcat_core.messages.edits import Edits
from shadowcat_core.messages.layout import EVENTS, Layout, Record, Units, Wire
from shadowcat_core.sse import FrameBatch

type Chunk = FrameBatch | Units


def wire_of(chunk: Chunk) -> Wire:
    """How the units of a chunk are written."""
    return EVENTS if isinstance(chunk, FrameBatch) else chunk.wire


def joined_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """Put chunks of one stream behind each other, without what the last frame of each leaves for the next chunk."""
    buffers: list[bytes] = []
    records: list[Record] = []
    base = 0
    for chunk in chunks:
        size = chunk.records[-1][1] if chunk.records else 0
        buffers.append(chunk.buffer[:size])
        records += [
            (start + base, end + base, *((first, last) if first < 0 else (first + base, last + base)))
            for start, end, first, last in chunk.records
        ]
        base += size
    buffer, first = b"".join(buffers), chunks[0]
    # The id in force before the first frame is lost: messages tell their own event's id, and no other.
    return Units(buffer, records, first.wire) if isinstance(first, Units) else FrameBatch(buffer, records, b"", None)


def unit_of(position: int, layout: Layout | None, edits: Edits | None) -> int:
    """Tell the unit that a position belongs to."""
    if edits is not None and position in edits.units:
        return edits.units[position]
    return position if layout is None else layout.unit_of[position]


def raw_at(position: int, chunk: Chunk, layout: Layout | None) -> bytes:
    """The JSON text that came at a position."""
    spans: Sequence[Record] = chunk.records if layout is None else layout.spans
    _, _, start, end = spans[position]
    source = chunk.buffer
    if layout is not None:
        source = layout.sources.get(layout.unit_of[position], source)
    return source[start:end]


def emitted(chunk: Chunk, layout: Layout | None, edits: Edits) -> bytes:
    """Write the units of a chunk that are left, with their edits, in one piece. Empty when there are none."""
    touched: dict[int, list[int]] = {unit_of(position, layout, edits): [] for position in edits.contents}
    for position in edits.live():
        unit = unit_of(position, layout, edits)
        if unit in touched:
            touched[unit].append(position)
    buffer, records = chunk.buffer, chunk.records
    units = range(len(records)) if edits.left is None else edits.left
    pieces: list[bytes] = []
    sent = records[units.start][0] if units else 0
    end = records[units.stop - 1][1] if units else 0
    for unit in sorted(touched):
        if unit in units:
            pieces.append(buffer[sent : records[unit][0]])
            pieces.extend(_unit(unit, touched[unit], chunk, layout, edits))
            sent = records[unit][1]
    pieces.append(buffer[sent:end])
    return b"".join(pieces)


def _unit(unit: int, positions: list[int], chunk: Chunk, layout: Layout | None, edits: Edits) -> Iterator[bytes]:
    """Write a unit that has edits; `positions` are those of its messages that are left, inserted ones included."""
    if not positions:
        return
    wire = wire_of(chunk)
    start, end, _, _ = chunk.records[unit]
    framed = chunk.buffer[start:end]
    edited = [edits.contents.get(position) for position in positions]
    if layout is not None and unit in layout.arrays:
        before, behind = layout.arrays[unit]
        raws = [
            raw_at(position, chunk, layout) if message is None else message.raw
            for position, message in zip(positions, edited, strict=True)
        ]
        yield wire.rewritten(framed, before + b",".join(raws) + behind)
        return
    for position, message in zip(positions, edited, strict=True):
        if message is None:
            yield wire.kept(framed)
        elif wire.fresh is not None and position in edits.units:
            yield wire.fresh(message.raw)
        else:
            yield wire.rewritten(framed, message.raw)
