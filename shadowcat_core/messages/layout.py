"""Where the messages stand in a chunk (event stream, lines, body), and how an edited one is put back.

A unit is what a chunk consists of: a frame, a line, or the whole body. It holds one message, or an array of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from shadowcat_core import sse
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import split_array
from shadowcat_core.sse import FOLDED, NO_DATA, FrameBatch

type Record = tuple[int, int, int, int]  # start and end of a unit in the buffer, start and end of its data

_LF: Final = ord("\n")
_BLANKS: Final = b" \t\r\n"
# A line end in JSON is a blank between tokens, so it may become one where line ends separate messages.
_LINE_ENDS_TO_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")


@dataclass(frozen=True, slots=True)
class Wire:
    """The three ways to write a unit: with other data, as it was beside a new neighbour, and anew.

    `fresh` is None where there is no room for another unit.
    """

    rewritten: Callable[[bytes, bytes], bytes]
    kept: Callable[[bytes], bytes]
    fresh: Callable[[bytes], bytes] | None


def _rewritten_frame(frame: bytes, data: bytes) -> bytes:
    """Replace the data lines of a frame; its event, id, retry, comments and line ends stay as they came."""
    lines: list[bytes] = []
    data_lines = data.splitlines()
    for line in frame.splitlines(keepends=True):
        content = line.rstrip(b"\r\n")
        if content == b"data" or content.startswith(b"data:"):
            line_end = line[len(content) :]
            lines += [b"data: " + data_line + line_end for data_line in data_lines]
            data_lines = []
        else:
            lines.append(line)
    return b"".join(lines)


def _rewritten_line(line: bytes, data: bytes) -> bytes:
    return data.translate(_LINE_ENDS_TO_BLANKS) + (line[len(line.rstrip(b"\r\n")) :] or b"\n")


def _kept_line(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n"


EVENTS: Final = Wire(_rewritten_frame, bytes, sse.encode)
LINES: Final = Wire(_rewritten_line, _kept_line, lambda data: _rewritten_line(b"", data))
BODY: Final = Wire(lambda _, data: data, bytes, None)


@dataclass(frozen=True, slots=True)
class Units:
    """A chunk that is no event stream, in the form of a `FrameBatch`: records tile the buffer."""

    buffer: bytes
    records: list[Record]
    wire: Wire

    @classmethod
    def of_body(cls, body: bytes) -> Self:
        """One unit; none for an empty body."""
        return cls(body, [(0, len(body), 0, len(body))] if body else [], BODY)

    @classmethod
    def of_lines(cls, lines: bytes) -> Self:
        """One unit a line, its line end included."""
        records: list[Record] = []
        start = 0
        while start < len(lines):
            stop = lines.find(_LF, start)
            end = stop + 1
            if stop < 0:
                stop = end = len(lines)
            records.append((start, end, start, stop))
            start = end
        return cls(lines, records, LINES)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the messages are when some units are not one JSON object each.

    `spans` and `unit_of` go by position. `sources` holds data that does not stand in the buffer in one piece, and
    `arrays` what stands before the first element of an array and behind the last, both by unit.
    """

    spans: list[Record]
    unit_of: list[int]
    sources: dict[int, bytes]
    arrays: dict[int, tuple[bytes, bytes]]


def layout_of(chunk: FrameBatch | Units) -> Layout:
    """Look into every unit: it may hold no data, folded data, blanks, an array, or what is no JSON at all."""
    layout = Layout([], [], {}, {})
    for unit, (start, end, data_start, data_end) in enumerate(chunk.records):
        if data_start == NO_DATA:
            continue
        if data_start == FOLDED and isinstance(chunk, FrameBatch):
            data, offset = chunk.data(unit), 0
            layout.sources[unit] = data
        else:
            data, offset = chunk.buffer[data_start:data_end], data_start
        elements = _elements(data)
        if elements:
            layout.arrays[unit] = (data[: elements[0][0]], data[elements[-1][1] :])
        elif data.strip(_BLANKS):
            elements = [(0, len(data))]
        layout.spans.extend((start, end, offset + first, offset + last) for first, last in elements)
        layout.unit_of.extend([unit] * len(elements))
    return layout


def _elements(data: bytes) -> list[tuple[int, int]]:
    try:
        return split_array(data)
    except InvalidMessage:
        return []
