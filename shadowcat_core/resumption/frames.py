"""Exchanges the id of one event-stream frame, and leaves every other byte of it alone. No I/O.

Source: WHATWG HTML, 9.2.6; an `id` with a NUL is ignored, an `id` without a data line counts all the same.
"""

from typing import Final, NamedTuple

from shadowcat_core.sse.blocks import CR, LF, NUL, Record, fields, line_end, text

_ID_LINE: Final = b"id: "
_BLANKS: Final = (b"\n\n", b"\r\n\r\n")

type Cut = tuple[tuple[bytes, ...], str | None]
"""The fields of an `IdFreeFrame`."""


class IdFreeFrame(NamedTuple):
    """A frame cut at its id: what stands before and behind each place where the id goes."""

    pieces: tuple[bytes, ...]
    upstream_id: str | None
    """The id that was there; None when there was none, or only one that the standard ignores."""

    def with_id(self, event_id: str) -> bytes:
        """The frame with this id."""
        return event_id.encode().join(self.pieces)

    @property
    def without_id(self) -> bytes:
        """The frame with an id line that is empty, to be cut again elsewhere."""
        return join_without_id(self.pieces)


class _Layout(NamedTuple):
    """The literals around what varies in the frames of one server: its id and one line of data.

    `head` goes up to the id's value, `link` from behind it to the data. In frames without an id `head` goes up to the
    data, and `link` is what is put between our id and the frame.
    """

    has_id: bool
    head: bytes
    head_size: int
    link: bytes
    link_size: int
    blank: bytes


class FrameCutter:
    """Cuts the frames of one stream as `cut_at_id` does: quickly where one is laid out as the one before it."""

    __slots__ = ("_layout",)

    def __init__(self) -> None:
        self._layout: _Layout | None = None

    def cut(self, buffer: bytes, record: Record) -> Cut:
        """Cut a frame that dispatches an event."""
        start, end, data_start, data_end = record
        if self._layout is not None:
            has_id, head, head_size, link, link_size, blank = self._layout
            value = start + head_size
            # Whatever stood between the data and the blank line would make this differ, an id line too.
            if buffer.startswith(head, start) and buffer[data_end:end] == blank:
                if has_id:
                    stop = data_start - link_size
                    if value <= stop and buffer.startswith(link, stop):
                        upstream_id = buffer[value:stop].decode("utf-8", "replace")
                        if upstream_id.isprintable():  # no other line, and no NUL
                            return (head, buffer[stop:end]), upstream_id
                elif data_start == value:
                    return (_ID_LINE, link + buffer[start:end]), None
        frame = cut_at_id(buffer, start, end)
        self._layout = _layout_of(frame, buffer, record)
        return frame


def _layout_of(frame: IdFreeFrame, buffer: bytes, record: Record) -> _Layout | None:
    """Tell how a frame is laid out; None when it is not in the way servers usually write them."""
    start, end, data_start, data_end = record
    blank = buffer[data_end:end]
    if data_start < 0 or blank not in _BLANKS or len(frame.pieces) != 2:
        return None
    head, rest = frame.pieces
    before = len(rest) - (end - start)
    if before > 0:
        head, link = buffer[start:data_start], rest[:before]
    elif head.endswith(_ID_LINE):
        link = buffer[end - len(rest) : data_start]
    else:
        return None
    return _Layout(before <= 0, head, len(head), link, len(link), blank)


def join_without_id(pieces: tuple[bytes, ...]) -> bytes:
    """Join the pieces of a cut frame. A CRLF that came in two chunks is whole again.

    Its second half passes by itself only where it came from.
    """
    frame = b"".join(pieces)
    return frame + b"\n" if frame.endswith(b"\r\n\r") else frame


def cut_at_id(buffer: bytes, start: int, end: int) -> IdFreeFrame:
    """Cut the frame at `buffer[start:end]`. One without an id line gets one at its head, with line ends like its own.

    Several id lines, of which the last counts, all get the same id.
    """
    return _cut_usual(buffer, start, end) or _cut_by_lines(buffer, start, end)


def _cut_usual(buffer: bytes, start: int, end: int) -> IdFreeFrame | None:
    """Cut a frame as servers write it, one `id: ` line and no lone CR; None for any other."""
    value = start + 4
    if not buffer.startswith(_ID_LINE, start):
        value = buffer.find(b"\nid", start, end) + 5
        if value < 5 or not buffer.startswith(_ID_LINE, value - 4) or buffer.startswith(b"id", start):
            return None
    if buffer.find(b"\nid", value, end) >= 0:
        return None
    if buffer.find(CR, start, end) >= 0 and buffer.count(b"\r", start, end) != buffer.count(b"\r\n", start, end):
        return None
    stop = buffer.find(LF, value, end)
    if buffer[stop - 1] == CR:
        stop -= 1
    upstream_id = buffer[value:stop]
    if NUL in upstream_id:
        return None
    return IdFreeFrame((buffer[start:value], buffer[stop:end]), text(upstream_id))


def _cut_by_lines(buffer: bytes, start: int, end: int) -> IdFreeFrame:
    pieces: list[bytes] = []
    upstream_id: bytes | None = None
    at = start
    for name, value_start, value_end in fields(buffer, start, end):
        if name == b"id":
            value = buffer[value_start:value_end]
            upstream_id = upstream_id if NUL in value else value
            # A field name may stand alone on its line, which means an empty value.
            colon = b"" if buffer[value_start - 1 : value_start] in (b":", b" ") else b": "
            pieces.append(buffer[at:value_start] + colon)
            at = value_end
    if not pieces:
        return IdFreeFrame((_ID_LINE, _line_break(buffer, start) + buffer[start:end]), None)
    return IdFreeFrame((*pieces, buffer[at:end]), None if upstream_id is None else text(upstream_id))


def _line_break(buffer: bytes, start: int) -> bytes:
    stop = line_end(buffer, start)
    if buffer[stop] == CR:
        return b"\r\n" if buffer.startswith(b"\r\n", stop) else b"\r"
    return b"\n"
