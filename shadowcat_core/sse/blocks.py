"""The standard's rules for one block of an event stream: its lines, its fields, and what they make of it.

A block is everything up to and including a blank line. Offsets are into the buffer that holds it.

Source: WHATWG HTML, 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream".
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from shadowcat_core.limits import MAX_RETRY_MS

NO_DATA: Final = -1
FOLDED: Final = -2
DEFAULT_EVENT: Final = "message"
LF: Final = 10
CR: Final = 13
SPACE: Final = 32
NUL: Final = 0

type Record = tuple[int, int, int, int]
"""(start, end, data_start, data_end) of a frame; `data_start` may be `NO_DATA` or `FOLDED`."""

# Lines are searched in windows that grow, so that looking for a CR that never comes costs no more than the line.
_FIRST_WINDOW_BYTES: Final = 1024
_BLANKS: Final = (b"\n\n", b"\r\n\r\n")
_COLONS: Final = (b":", b": ")
_SHAPED: Final = (b"event", b"id", b"data")
_RETRY_DIGITS: Final = len(str(int(MAX_RETRY_MS))) + 1


class Shape(NamedTuple):
    """The literals around the only two values that vary between the blocks of one layout: the id and the data.

    `until_data` stands between the two; it is empty in a layout without an id. `blank` ends the block and `link` is it
    and the head of a next one. `cr` is 1 when lines end in CRLF: the literal behind a value then begins one byte before
    the LF. `tight` says that a value follows its colon directly, so that one which begins with a space does not fit.
    """

    head: bytes
    head_size: int
    until_data: bytes
    until_data_size: int
    cr: int
    blank: bytes
    blank_size: int
    link: bytes
    tight: bool
    event: str


class Block(NamedTuple):
    """What the fields of one block say. `id` and `retry_ms` are None when absent or when the standard ignores them."""

    record: Record
    event: str
    id: bytes | None
    retry_ms: int | None


def line_end(buffer: bytes | bytearray, at: int) -> int:
    """Find the first LF or CR at or behind `at`; -1 when there is none."""
    window = _FIRST_WINDOW_BYTES
    while at < len(buffer):
        lf = buffer.find(LF, at, at + window)
        cr = buffer.find(CR, at, lf if lf >= 0 else at + window)
        if cr >= 0:
            return cr
        if lf >= 0:
            return lf
        at += window
        window *= 4
    return -1


def find_blank_line(buffer: bytes | bytearray, line: int, searched: int) -> tuple[int, int]:
    """Find the end of the block whose unfinished line begins at `line` and has no line end before `searched`.

    Returns (end, end), or (-1, start of the line that is now unfinished) when the buffer ends first. A CR at the end
    of the buffer ends its line at once, as the standard's line ends do: nobody waits for an LF that may not come.
    """
    if line and buffer.startswith(b"\r\n", line - 1):
        line += 1  # the second half of a CRLF that came in two chunks
    stop = line_end(buffer, max(line, searched))
    while stop >= 0:
        after = stop + (2 if buffer.startswith(b"\r\n", stop) else 1)
        if stop == line:
            return after, after
        line = after
        stop = line_end(buffer, line)
    return -1, line


def fields(buffer: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes | bytearray, int, int]]:
    """Yield (name, value_start, value_end) of each complete line in between; a comment has an empty name."""
    while start < end:
        stop = line_end(buffer, start)
        if not 0 <= stop < end:
            return
        colon = buffer.find(b":", start, stop)
        if colon < 0:
            yield buffer[start:stop], stop, stop
        else:
            value = colon + 1
            if value < stop and buffer[value] == SPACE:
                value += 1
            yield buffer[start:colon], value, stop
        start = stop + (2 if buffer.startswith(b"\r\n", stop) else 1)


def read_retry_ms(value: bytes) -> int | None:
    """Read the value of a `retry` field: ASCII digits only, in any number; more than `MAX_RETRY_MS` is that."""
    if not value.isdigit():
        return None
    # int() refuses thousands of digits, and quadratic work with them
    return min(int(value.lstrip(b"0")[:_RETRY_DIGITS] or b"0"), int(MAX_RETRY_MS))


def read_block(buffer: bytes, start: int, end: int) -> Block:
    """Interpret the complete block between two offsets."""
    event = b""
    event_id: bytes | None = None
    retry_ms: int | None = None
    data_start = data_end = NO_DATA
    for name, value_start, value_end in fields(buffer, start, end):
        if name == b"data":
            data_start, data_end = (value_start, value_end) if data_start == NO_DATA else (FOLDED, FOLDED)
        elif name == b"event":
            event = buffer[value_start:value_end]
        elif name == b"id":
            value = buffer[value_start:value_end]
            event_id = event_id if NUL in value else value
        elif name == b"retry":
            told = read_retry_ms(buffer[value_start:value_end])
            retry_ms = retry_ms if told is None else told
    return Block((start, end, data_start, data_end), text(event) or DEFAULT_EVENT, event_id, retry_ms)


def shape_of(buffer: bytes, block: Block) -> Shape | None:
    """Tell the shape of a block made of `event` and `id` lines and then one of `data`; None for any other block.

    Whatever may change from block to block without being the id or the data (a comment, a retry) has no place in a
    literal. Each literal ends in the colon before its value, or in that and the one space which the standard drops.
    """
    start, end, data_start, data_end = block.record
    blank = buffer[data_end:end]
    if data_start < 0 or blank not in _BLANKS:
        return None
    lines = list(fields(buffer, start, data_end + 1))
    ids = [(value_start, value_end) for name, value_start, value_end in lines if name == b"id"]
    if any(name not in _SHAPED for name, _, _ in lines):
        return None
    head, until_data = buffer[start:data_start], b""
    if ids:
        id_start, id_end = ids[-1]
        head, until_data = buffer[start:id_start], buffer[id_end:data_start]
    if not head.endswith(_COLONS) or not (until_data or b":").endswith(_COLONS):
        return None
    tight = head.endswith(b":") or until_data.endswith(b":")
    return Shape(
        head=head,
        head_size=len(head),
        until_data=until_data,
        until_data_size=len(until_data),
        cr=blank.count(b"\r") // 2,
        blank=blank,
        blank_size=len(blank),
        link=blank + head,
        tight=tight,
        event=block.event,
    )


def text(value: bytes) -> str:
    """Decode UTF-8 as the standard does: bytes that are none become U+FFFD."""
    return value.decode("utf-8", "replace")
