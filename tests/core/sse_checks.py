"""How a row of the tables is held against an implementation: the real one, or one with a bug planted in it.

Each check raises when the row fails. `failing` runs all tables and names the rows that do.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from shadowcat_core.errors import MessageTooLarge
from tests.core.sse_rows import MAX_RETRY_MS, ROWS, Row

FEW_CUTS_BYTES = 300


@dataclass
class Reading:
    """What a parser told about one stream."""

    events: list[tuple[str, bytes, str]] = field(default_factory=list)
    last_event_id: str = ""
    retry_ms: int | None = None


@dataclass(frozen=True)
class BlockRow:
    """One block and what its frame says."""

    block: bytes
    dispatches: bool
    event: str = "message"
    data: bytes = b""
    id: str | None = None


BLOCKS = {
    "plain": BlockRow(b"event: e\nid: 1\ndata: d\n\n", True, "e", b"d", "1"),
    "data-only": BlockRow(b"data: d\r\n\r\n", True, data=b"d"),
    "folded": BlockRow(b"data: a\ndata\ndata:b\n\n", True, data=b"a\n\nb"),
    "empty-data": BlockRow(b"id: 1\ndata:\n\n", True, id="1"),
    "comment": BlockRow(b": c\n\n", False),
    "id-only": BlockRow(b"id: 1\n\n", False, id="1"),
    "empty-id": BlockRow(b"id\ndata: d\n\n", True, data=b"d", id=""),
    "nul-id": BlockRow(b"id: \0\ndata: d\n\n", True, data=b"d"),
    "typed-without-data": BlockRow(b"event: e\n\n", False, "e"),
    "blank": BlockRow(b"\n", False),
}

# (limit, pieces that are taken, a chunk that is not, the size it is refused with, what close() then returns)
LIMITS = {
    "one-frame-over": (10, [], b"data: 345\n\n", 11, b""),
    "one-frame-over-at-the-end-of-a-chunk": (10, [], b"data: 1\n\ndata: 345\n\n", 11, b""),
    "unfinished-over": (10, [], b"data: 34567", 11, b""),
    "unfinished-over-behind-a-frame": (10, [b"data: 1\n\n"], b"data: 1\n\ndata: 34567", 11, b""),
    "grows-over": (10, [b"data: 1", b"23"], b"45", 11, b"data: 123"),
    "held-ends-just-over": (10, [b"data: 34"], b"5\n\n", 11, b"data: 34"),
    "held-ends-but-the-next-is-over": (10, [b"data: 1\n"], b"\ndata: 345\n\n", 11, b"data: 1\n"),
    "held-ends-with-an-lf-over": (10, [b"data: 1\r\n"], b"\rdata: 34567\n\n", 13, b"data: 1\r\n"),
    "known-layout-over": (10, [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"], b"data: 345\n\n", 11, b""),
}

# (limit, pieces): frames, rests and chunks that are none of them over.
WITHIN_LIMITS = {
    "frame-just-fits": (10, [b"data: 34\n\n"]),
    "held-just-fits": (10, [b"data: 34\n", b"\n"]),
    "many-frames-in-one-chunk": (10, [b"data: 34\n\n" * 5]),
    "held-frame-in-a-long-chunk": (10, [b"data: 3", b"4\n\ndata: 34\n\n"]),
    "unfinished-rest-just-fits": (10, [b"data: 34\n\ndata: 3456"]),
    "known-layout-just-fits": (10, [b"data: 34\n\n"] * 4),
}

ENCODED: dict[str, tuple[dict[str, Any], bytes]] = {
    "data": ({"data": b"d"}, b"data: d\n\n"),
    "all-fields": (
        {"data": b"d", "event": "e", "id": "1", "retry_ms": 5},
        b"event: e\nid: 1\nretry: 5\ndata: d\n\n",
    ),
    "empty-data": ({"data": b"", "id": "1"}, b"id: 1\ndata: \n\n"),
    "empty-id": ({"data": b"d", "id": ""}, b"id: \ndata: d\n\n"),
    "retry-zero": ({"data": b"d", "retry_ms": 0}, b"retry: 0\ndata: d\n\n"),
    "largest-retry": ({"data": b"d", "retry_ms": MAX_RETRY_MS}, b"retry: 9007199254740991\ndata: d\n\n"),
    "lf": ({"data": b"a\nb"}, b"data: a\ndata: b\n\n"),
    "cr": ({"data": b"a\rb"}, b"data: a\ndata: b\n\n"),
    "crlf": ({"data": b"a\r\nb"}, b"data: a\ndata: b\n\n"),
    "lf-cr-is-two": ({"data": b"a\n\rb"}, b"data: a\ndata: \ndata: b\n\n"),
    "trailing-line-end": ({"data": b"a\n"}, b"data: a\ndata: \n\n"),
    "leading-space": ({"data": b" a"}, b"data:  a\n\n"),
    "not-ascii": ({"data": b"\xff", "id": "é"}, b"id: \xc3\xa9\ndata: \xff\n\n"),
    "nul-in-event": ({"data": b"", "event": "\0"}, b"event: \0\ndata: \n\n"),
}

REFUSED: dict[str, dict[str, Any]] = {
    "lf-in-id": {"id": "1\n"},
    "cr-in-id": {"id": "\r1"},
    "nul-in-id": {"id": "1\0"},
    "lf-in-event": {"event": "a\nb"},
    "cr-in-event": {"event": "a\r"},
    "lone-surrogate": {"id": "\ud800"},
    "negative-retry": {"retry_ms": -1},
    "retry-too-large": {"retry_ms": MAX_RETRY_MS + 1},
}


def cuts(row: Row) -> Iterator[list[bytes]]:
    """Yield the stream as the server sent it, whole, byte by byte, and in two at every place; long ones less finely."""
    stream = row.stream
    yield list(row.pieces)
    yield [stream]
    yield [part for piece in row.pieces for part in (piece[:-1], b"", piece[-1:])]
    step = 1 if len(stream) <= FEW_CUTS_BYTES else len(stream) // 29
    yield [stream[at : at + step] for at in range(0, len(stream), step)]
    yield from ([stream[:at], stream[at:]] for at in range(1, len(stream), step))


def read(sse: ModuleType, chunks: Iterable[bytes]) -> Reading:
    """Feed chunks to a parser; check on the way what holds of every batch, and that no byte is lost."""
    parser = sse.SseParser()
    reading = Reading()
    fed = passed = b""
    for chunk in chunks:
        fed += chunk
        batch = parser.feed(chunk)
        passed += b"".join(frame.raw for frame in batch)
        assert passed == fed[: len(passed)]
        assert batch.buffer[: batch.records[-1][1] if batch.records else 0] == b"".join(frame.raw for frame in batch)
        dispatched = [frame for frame in batch if frame.dispatches]
        reading.events += [(frame.event, frame.data, frame.last_event_id) for frame in dispatched]
        types = {frame.event for frame in dispatched}
        assert batch.common_event == (types.pop() if len(types) == 1 else None)
        for start, _, data_start, data_end in batch.records:
            assert data_start in (sse.NO_DATA, sse.FOLDED) or start <= data_start <= data_end
        if len(batch):
            assert batch[-1].last_event_id == parser.last_event_id
    reading.last_event_id, reading.retry_ms = parser.last_event_id, parser.retry_ms
    assert passed + parser.close() == fed
    assert parser.close() == b""
    return reading


def check_row(sse: ModuleType, row: Row) -> None:
    """The stream gives the row's events, in every cut."""
    for chunks in cuts(row):
        reading = read(sse, chunks)
        assert reading == Reading(list(row.events), row.last_event_id, row.retry_ms), chunks


def check_block(sse: ModuleType, row: BlockRow) -> None:
    """The block's frame says what the row says, alone and behind an event of another type."""
    for before in (b"", b"event: other\nid: 0\ndata: d\n\n"):
        frame = sse.SseParser().feed(before + row.block)[-1]
        assert frame.raw == row.block
        assert (frame.dispatches, frame.event, frame.data, frame.id) == (row.dispatches, row.event, row.data, row.id)


def check_limit(sse: ModuleType, row: tuple[int, list[bytes], bytes, int, bytes]) -> None:
    """The chunk is refused as a whole, and the parser still holds what it held."""
    limit, taken, refused, size, rest = row
    parser = sse.SseParser(max_event_bytes=limit)
    for chunk in taken:
        parser.feed(chunk)
    state = parser.last_event_id, parser.retry_ms
    refusal = None
    try:
        parser.feed(refused)
    except MessageTooLarge as error:
        refusal = error.size, error.limit
    assert refusal == (size, limit)
    assert (parser.last_event_id, parser.retry_ms) == state
    assert parser.close() == rest


def check_within_limit(sse: ModuleType, row: tuple[int, list[bytes]]) -> None:
    """Nothing is refused."""
    parser = sse.SseParser(max_event_bytes=row[0])
    raws = [frame.raw for chunk in row[1] for frame in parser.feed(chunk)]
    assert b"".join(raws) + parser.close() == b"".join(row[1])


def check_encoded(sse: ModuleType, row: tuple[dict[str, Any], bytes]) -> None:
    """The event is encoded as the row says."""
    assert sse.encode(**row[0]) == row[1]


def check_refused(sse: ModuleType, row: dict[str, Any]) -> None:
    """The event is not encoded."""
    try:
        encoded = sse.encode(b"d", **row)
    except ValueError:
        return
    raise AssertionError(f"encoded as {encoded!r}")


TABLES: list[tuple[Any, dict[str, Any]]] = [
    (check_block, BLOCKS),
    (check_encoded, ENCODED),
    (check_refused, REFUSED),
    (check_limit, LIMITS),
    (check_within_limit, WITHIN_LIMITS),
    (check_row, {row.id: row for row in ROWS}),
]


def failing(sse: ModuleType) -> Iterator[str]:
    """Yield the id of each row that fails, by a wrong answer or by an error."""
    for check, table in TABLES:
        for name, case in table.items():
            try:
                check(sse, case)
            except Exception:  # noqa: BLE001 - whatever a planted bug does instead of the right thing is a failure
                yield name
