"""Writes an edited chunk: what was edited anew, everything else as it came. No I/O."""

from collections.abc import Iterator, Sequence
from typing import Final

from shadowcat_core.messages.edits import Edits
from shadowcat_core.messages.layout import EVENTS, Layout, Record, Units, Wire
from shadowcat_core.sse import FrameBatch

type Chunk = FrameBatch | Units

_LF: Final = ord("\n")
_CR: Final = ord("\r")
_DATA: Final = b"data: "


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
    buffer, records, contents = chunk.buffer, chunk.records, edits.contents
    units = range(len(records)) if edits.left is None else edits.left
    if not units:
        return b""
    simple = layout is None and not edits.units  # one message a unit, and no new ones
    touched = {} if simple else _touched(layout, edits)
    plain = simple and isinstance(chunk, FrameBatch)
    pieces: list[bytes] = []
    sent = records[units.start][0]
    for unit in sorted(contents if simple else touched):
        if unit not in units:
            continue
        start, unit_end, data_start, data_end = records[unit]
        message = contents.get(unit)
        if plain and message is not None and buffer.startswith(_DATA, data_start - 6) and _is_one_line(message.raw):
            pieces.append(buffer[sent:data_start])
            pieces.append(message.raw)
            sent = data_end
            continue
        pieces.append(buffer[sent:start])
        positions = touched[unit] if not simple else () if message is None else (unit,)
        pieces.extend(_unit(unit, positions, chunk, layout, edits))
        sent = unit_end
    pieces.append(buffer[sent : records[units.stop - 1][1]])
    return b"".join(pieces)


def _is_one_line(raw: bytes) -> bool:
    return raw.find(_LF) < 0 and raw.find(_CR) < 0


def _touched(layout: Layout | None, edits: Edits) -> dict[int, list[int]]:
    """The units that have edits, and the positions that are left in them, inserted ones included."""
    touched: dict[int, list[int]] = {unit_of(position, layout, edits): [] for position in edits.contents}
    for position in edits.live():
        unit = unit_of(position, layout, edits)
        if unit in touched:
            touched[unit].append(position)
    return touched


def _unit(unit: int, positions: Sequence[int], chunk: Chunk, layout: Layout | None, edits: Edits) -> Iterator[bytes]:
    """Write a unit that has edits; `positions` are those of its messages that are left."""
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
