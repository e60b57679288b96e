"""Writes one event as the bytes that a parser reads back as the same."""

from shadowcat_core.limits import MAX_RETRY_MS


def encode(
    data: bytes,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002 - the name of the field
    retry_ms: int | None = None,
) -> bytes:
    """Encode one event, with LF line ends; the id stands before the data, as MCP servers write it.

    A line end in `data`, be it CR, LF or CRLF, separates two data lines: the standard has no other way to carry one,
    and what is read back has LF in its place. An empty `event` reads back as "message".

    Raises:
        ValueError: `event` holds a line end, `id` a line end or a NUL (which readers would ignore), a text has a
            lone surrogate, or `retry_ms` is not between 0 and `MAX_RETRY_MS`.
    """
    lines = []
    if event is not None:
        lines.append(b"event: " + _one_line("event", event))
    if id is not None:
        if "\0" in id:
            raise ValueError(f"id must not hold a NUL: {id!r}")
        lines.append(b"id: " + _one_line("id", id))
    if retry_ms is not None:
        if not 0 <= retry_ms <= MAX_RETRY_MS:
            raise ValueError(f"retry_ms must be between 0 and {int(MAX_RETRY_MS)}, not {retry_ms}")
        lines.append(b"retry: %d" % retry_ms)
    lines.extend(b"data: " + line for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return b"\n".join(lines) + b"\n\n"


def _one_line(name: str, value: str) -> bytes:
    if "\n" in value or "\r" in value:
        raise ValueError(f"{name} must not hold a line end: {value!r}")
    return value.encode()
