"""Exchanges the id of one event-stream frame, and leaves every other byte of it alone. No I/O.

Source: WHATWG HTML, 9.2.6; an `id` with a NUL is ignored, an `id` without a data line counts all the same.
"""

from typing import Final, NamedTuple

from shadowcat_core.sse.blocks import CR, LF, NUL, fields, line_end, text

_ID_LINE: Final = b"id: "


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
        """The frame with an id line that is empty, to be cut again elsewhere.

        A CRLF that came in two chunks is whole again: its second half passes by itself only where it came from.
        """
        frame = b"".join(self.pieces)
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
