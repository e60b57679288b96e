"""The streams that the parser is tested by: every example of the standard and every trap known.

A row's stream is written in the pieces that a server would send; `sse_checks` feeds it in many other cuts too.
"""

from dataclasses import dataclass
from typing import Any

BOM = b"\xef\xbb\xbf"
MAX_RETRY_MS = 2**53 - 1


@dataclass(frozen=True)
class Row:
    """A stream and what the standard makes of it: events as (type, data, id in force)."""

    id: str
    pieces: tuple[bytes, ...]
    events: tuple[tuple[str, bytes, str], ...] = ()
    last_event_id: str = ""
    retry_ms: int | None = None

    @property
    def stream(self) -> bytes:
        return b"".join(self.pieces)


def row(name: str, *pieces: bytes, events: Any = (), last: str = "", retry: int | None = None) -> Row:
    """Write a row; a bare `bytes` for an event stands for a "message" with that data and no id."""
    full = tuple(("message", event, "") if isinstance(event, bytes) else event for event in events)
    return Row(name, pieces, full, last, retry)


def numbered(layout: bytes, count: int = 4) -> tuple[bytes, ...]:
    return tuple(layout % {b"n": number} for number in range(1, count + 1))


def messages(count: int = 4, event: str = "message") -> list[tuple[str, bytes, str]]:
    return [(event, b"d%d" % number, str(number)) for number in range(1, count + 1)]


STANDARD = [
    row(
        "standard-three-messages",
        b"data: This is the first message.\n\n",
        b"data: This is the second message, it\ndata: has two lines.\n\n",
        b"data: This is the third message.\n\n",
        events=[
            b"This is the first message.",
            b"This is the second message, it\nhas two lines.",
            b"This is the third message.",
        ],
    ),
    row(
        "standard-event-types",
        b"event: add\ndata: 73857293\n\n",
        b"event: remove\ndata: 2153\n\n",
        b"event: add\ndata: 113411\n\n",
        events=[("add", b"73857293", ""), ("remove", b"2153", ""), ("add", b"113411", "")],
    ),
    row("standard-stock", b"data: YHOO\ndata: +2\ndata: 10\n\n", events=[b"YHOO\n+2\n10"]),
    row(
        "standard-four-blocks",
        b": test stream\n\n",
        b"data: first event\nid: 1\n\n",
        b"data:second event\nid\n\n",
        b"data:  third event\n\n",
        events=[("message", b"first event", "1"), b"second event", b" third event"],
    ),
    row("standard-empty-data", b"data\n\n", b"data\ndata\n\n", b"data:", events=[b"", b"\n"]),
    row("standard-space-is-optional", b"data:test\n\n", b"data: test\n\n", events=[b"test", b"test"]),
]

LINE_ENDS = [
    row("lf", *numbered(b"event: message\nid: %(n)d\ndata: d%(n)d\n\n"), events=messages(), last="4"),
    row("crlf", *numbered(b"id: %(n)d\r\nevent: message\r\ndata: d%(n)d\r\n\r\n"), events=messages(), last="4"),
    row("lone-cr", *numbered(b"id: %(n)d\rdata: d%(n)d\r\r"), events=messages(), last="4"),
    row("crlf-then-lf", b"data: 1\r\n\r\n", b"data: 2\r\n\r\n", b"data: 3\n\n", events=[b"1", b"2", b"3"]),
    row("lf-then-cr", b"data: 1\n\n", b"data: 2\n\n", b"data: 3\r\r", b"data: 4\n\n", events=[b"1", b"2", b"3", b"4"]),
    row("all-line-ends-in-one-block", b"data: 1\rdata: 2\r\ndata: 3\n\r\n", events=[b"1\n2\n3"]),
    row(
        "cr-inside-lf-layout",
        b"data: 1\n\n",
        b"data: 2\n\n",
        b"data: 3\rid: 4\n\n",
        events=[b"1", b"2", ("message", b"3", "4")],
        last="4",
    ),
    row(
        "cr-inside-crlf-layout",
        b"data: 1\r\n\r\n",
        b"data: 2\r\n\r\n",
        b"data: 3\rid: 4\r\n\r\n",
        events=[b"1", b"2", ("message", b"3", "4")],
        last="4",
    ),
    row(
        "cr-inside-an-id",
        *numbered(b"id: %(n)d\ndata: d%(n)d\n\n", 2),
        b"id: 3\revent: other\ndata: d3\n\n",
        events=[*messages(2), ("other", b"d3", "3")],
        last="3",
    ),
    row(
        "cr-inside-a-crlf-id",
        *numbered(b"id: %(n)d\r\ndata: d%(n)d\r\n\r\n", 2),
        b"id: 3\revent: other\r\ndata: d3\r\n\r\n",
        events=[*messages(2), ("other", b"d3", "3")],
        last="3",
    ),
    row(
        "cr-inside-crlf-data-behind-an-id",
        *numbered(b"id: %(n)d\r\ndata: d%(n)d\r\n\r\n", 2),
        b"id: 3\r\ndata: d3\revent: other\r\n\r\n",
        events=[*messages(2), ("other", b"d3", "3")],
        last="3",
    ),
    row("cr-ends-a-block-after-lf", b"data: 1\n\r", b"data: 2\n\r", b"\n", events=[b"1", b"2"]),
    row(
        "no-other-line-end",
        "data: a\x0bb\x0cc\x85d\u2028e\u2029f\n\n".encode(),
        events=["a\x0bb\x0cc\x85d\u2028e\u2029f".encode()],
    ),
    row("blank-lines-between", b"\n\r\n\rdata: 1\n\n", b"\n\n\n", b"data: 2\n\n", events=[b"1", b"2"]),
]

BYTE_ORDER_MARKS = [
    row("bom-is-dropped", BOM + b"data: 1\n\n", b"data: 2\n\n", events=[b"1", b"2"]),
    row("bom-only-once", BOM + BOM + b"data: 1\n\n", b"data: 2\n\n", events=[b"2"]),
    row("bom-not-later", b"data: 1\n\n", BOM + b"data: 2\n\n", b"data: 3\n\n", events=[b"1", b"3"]),
    row("bom-in-data-stays", b"data: " + BOM + b"1\n\n", events=[BOM + b"1"]),
    row("bom-alone", BOM),
    row("bom-cut-off", BOM[:2] + b"data: 1\n\n", b"data: 2\n\n", events=[b"2"]),
    row("bom-unfinished", BOM[:2]),
    row("bom-before-a-blank-line", BOM + b"\n", b"data: 1\n\n", events=[b"1"]),
    row("bom-before-retry", BOM + b"retry: 7\n", retry=7),
]

FIELDS = [
    row("comments-and-keepalives", b":\n\n", b": ping\n\n", b":ping\ndata: 1\n:data: 2\n\n", events=[b"1"]),
    row("comment-is-not-a-field", b":data: 1\n\n", b" data: 1\n\n"),
    row(
        "unknown-fields", b"foo: 1\nDATA: 1\ndata : 1\ndatax\nbar\n\n", b"Data: 1\nEvent: x\ndata: 2\n\n", events=[b"2"]
    ),
    row("no-colon", b"event\nid\ndata\nretry\n\n", events=[b""]),
    row("no-colon-then-colon", b"data\n\n", b"data: 1\n\n", b"data\n\n", events=[b"", b"1", b""]),
    row(
        "no-colon-then-colon-in-an-id",
        b"id\ndata: 0\n\n",
        *numbered(b"id: %(n)d\ndata: d%(n)d\n\n", 2),
        events=[b"0", *messages(2)],
        last="2",
    ),
    row(
        "another-field-in-a-known-layout",
        *numbered(b"id: %(n)d\ndata: d%(n)d\n\n", 2),
        b"id: 3\nnodata: d3\n\n",
        events=messages(2),
        last="3",
    ),
    row("only-one-space-is-dropped", b"data:  1\nevent:  x\nid:  y\n\n", events=[(" x", b" 1", " y")], last=" y"),
    row("a-tab-is-no-space", b"data:\t1\n\n", events=[b"\t1"]),
    row("no-space", *numbered(b"id:%(n)d\ndata:d%(n)d\n\n"), events=messages(), last="4"),
    row(
        "no-space-then-space",
        b"data:1\n\n",
        b"data:2\n\n",
        b"data: 3\n\n",
        b"data:4\n\n",
        events=[b"1", b"2", b"3", b"4"],
    ),
    row(
        "no-space-then-space-in-an-id",
        *numbered(b"id:%(n)d\ndata: d%(n)d\n\n", 2),
        b"id: 3\ndata: d3\n\n",
        events=messages(3),
        last="3",
    ),
    row("colons-in-values", b"data: a: b\nevent: c:d\n\n", events=[("c:d", b"a: b", "")]),
    row("space-then-second-space", b"data: 1\n\n", b"data: 2\n\n", b"data:  3\n\n", events=[b"1", b"2", b" 3"]),
    row("empty-event-type", b"event:\ndata: 1\n\n", b"event: x\nevent\ndata: 2\n\n", events=[b"1", b"2"]),
    row("last-event-type-wins", b"event: x\ndata: 1\nevent: y\n\n", events=[("y", b"1", "")]),
    row("event-type-without-data-is-dropped", b"event: x\n\n", b"data: 1\n\n", events=[b"1"]),
    row(
        "event-type-does-not-stick",
        b"event: x\ndata: 1\n\n",
        b"data: 2\n\n",
        b"data: 3\n\n",
        events=[("x", b"1", ""), b"2", b"3"],
    ),
    row(
        "types-in-turn",
        *(b"event: %c\ndata: 1\n\n" % c for c in b"abcdefghijklmabc"),
        events=[(c, b"1", "") for c in "abcdefghijklmabc"],
    ),
    row("data-between-other-fields", b"data: 1\nevent: x\ndata: 2\nid: 3\n\n", events=[("x", b"1\n2", "3")], last="3"),
    row("event-after-data", *(b"data: 1\nevent: x\n\n",) * 3, b"data: 1\n\n", events=[("x", b"1", "")] * 3 + [b"1"]),
    row(
        "second-data-line-in-a-known-layout",
        b"data: 1\n\n",
        b"data: 2\n\n",
        b"data: 3\ndata: 4\n\n",
        events=[b"1", b"2", b"3\n4"],
    ),
    row(
        "empty-data-in-a-known-layout",
        b"id: 1\ndata: 1\n\n",
        b"id: 2\ndata: \n\n",
        b"id: 3\ndata: \n\n",
        events=[("message", b"1", "1"), ("message", b"", "2"), ("message", b"", "3")],
        last="3",
    ),
    row(
        "invalid-utf-8",
        b"data: \xff1\nevent: \xc3(\nid: \xe2\x82\n\n",
        events=[("\ufffd(", b"\xff1", "\ufffd")],
        last="\ufffd",
    ),
    row("nul-in-data-and-type", b"event: a\0\ndata: \0\n\n", events=[("a\0", b"\0", "")]),
    row(
        "long-lines",
        b"data: " + b"x" * 6_000 + b"\n\n",
        b"data: " + b"y" * 3_000 + b"\r\n\r\n",
        events=[b"x" * 6_000, b"y" * 3_000],
    ),
]

IDS_AND_RETRY = [
    row(
        "id-sticks",
        b"id: 1\ndata: 1\n\n",
        b"data: 2\n\n",
        b"data: 3\n\n",
        events=[("message", b"%d" % n, "1") for n in (1, 2, 3)],
        last="1",
    ),
    row(
        "id-alone-dispatches-nothing-and-counts",
        b"id: 1\n\n",
        b"data: 1\n\n",
        b"id: 2\n\n",
        events=[("message", b"1", "1")],
        last="2",
    ),
    row(
        "id-alone-in-a-known-layout",
        *numbered(b"id: %(n)d\ndata: d%(n)d\n\n", 2),
        b"id: 3\n\n",
        events=messages(2),
        last="3",
    ),
    row(
        "empty-id-resets",
        *numbered(b"id: %(n)d\ndata: d%(n)d\n\n", 2),
        b"id: \ndata: 3\n\n",
        b"data: 4\n\n",
        events=[*messages(2), b"3", b"4"],
    ),
    row(
        "empty-id-without-colon-resets",
        b"id: 1\ndata: 1\n\n",
        b"id\ndata: 2\n\n",
        events=[("message", b"1", "1"), b"2"],
    ),
    row(
        "last-id-wins",
        b"id: 1\nid: 2\ndata: 1\n\n",
        b"id: 3\nid: 4\ndata: 2\n\n",
        events=[("message", b"1", "2"), ("message", b"2", "4")],
        last="4",
    ),
    row(
        "id-after-data",
        b"data: 1\nid: 1\n\n",
        b"data: 2\nid: 2\n\n",
        events=[("message", b"1", "1"), ("message", b"2", "2")],
        last="2",
    ),
    row(
        "nul-id-is-ignored",
        b"id: 1\ndata: 1\n\n",
        b"id: \0\ndata: 2\n\n",
        events=[("message", b"1", "1"), ("message", b"2", "1")],
        last="1",
    ),
    row(
        "nul-id-is-ignored-in-a-known-layout",
        *numbered(b"id: %(n)d\ndata: d%(n)d\n\n", 3),
        b"id: 4\0\ndata: d4\n\n",
        b"id: \0\ndata: d5\n\n",
        events=[*messages(3), ("message", b"d4", "3"), ("message", b"d5", "3")],
        last="3",
    ),
    row("nul-id-before-a-good-one", b"id: \0\nid: 1\nid: \0\ndata: 1\n\n", events=[("message", b"1", "1")], last="1"),
    row(
        "nul-ids-of-another-layout",
        b"id: 1\ndata: 1\n\n",
        b"event: x\nid: 0\ndata: 2\n\n",
        b"id: 3\ndata: 3\n\n",
        *(b"event: x\nid: \0\ndata: 4\n\n",) * 2,
        events=[("message", b"1", "1"), ("x", b"2", "0"), ("message", b"3", "3"), ("x", b"4", "3"), ("x", b"4", "3")],
        last="3",
    ),
    row(
        "priming",
        b"id: p_1\ndata: \n\n",
        b"id: p_2\ndata:\n\n",
        events=[("message", b"", "p_1"), ("message", b"", "p_2")],
        last="p_2",
    ),
    row(
        "priming-with-retry",
        b"id: p\nretry: 2000\ndata: \n\n",
        b"id: q\nretry: 3000\ndata: \n\n",
        events=[("message", b"", "p"), ("message", b"", "q")],
        last="q",
        retry=3000,
    ),
    row("retry-alone", b"retry: 10\n\n", b"data: 1\n\n", events=[b"1"], retry=10),
    row(
        "retry-is-digits-only",
        b"retry: 10\n\n",
        b"retry: +5\nretry: -5\nretry: 1_0\nretry: 5s\nretry:  5\nretry: 1.5\n\n",
        retry=10,
    ),
    row("retry-is-ascii-digits-only", "retry: \u0665\n\n".encode()),
    row("retry-empty-is-ignored", b"retry: 10\nretry\nretry:\n\n", retry=10),
    row("retry-with-leading-zeros", b"retry: 0010\n\n", retry=10),
    row("retry-zero", b"retry: 10\n\n", b"retry: 0\n\n", retry=0),
    row("retry-of-5000-digits", b"retry: " + b"9" * 5_000 + b"\n\n", retry=MAX_RETRY_MS),
    row("retry-of-5000-zeros", b"retry: " + b"0" * 5_000 + b"7\n\n", retry=7),
    row("retry-just-at-the-largest", b"retry: 9007199254740991\n\n", retry=MAX_RETRY_MS),
    row("retry-just-over-the-largest", b"retry: 9007199254740992\n\n", retry=MAX_RETRY_MS),
    row("last-retry-wins", b"retry: 1\nretry: 2\nretry: x\n\n", b"data: 1\n\n", events=[b"1"], retry=2),
    row(
        "retry-repeats-in-a-layout",
        b"retry: 1\ndata: 1\n\n",
        b"retry: 2\ndata: 2\n\n",
        b"retry: 1\ndata: 3\n\n",
        events=[b"1", b"2", b"3"],
        retry=1,
    ),
    row("retry-does-not-wait-for-the-blank-line", b"data: 1\nretry: 5\ndata: 2", retry=5),
    row("retry-waits-for-its-line", b"retry: 5\nretry: 60", retry=5),
]

ENDS = [
    row("empty"),
    row("unterminated-block-is-dropped", b"data: 1\n\n", b"id: 2\ndata: 2\n", events=[b"1"]),
    row("unterminated-line-is-dropped", b"data: 1\n\n", b"data: 2\n\ndata: 3", events=[b"1", b"2"]),
    row("unterminated-crlf-block-is-dropped", b"data: 1\r\n", b""),
    row("cr-at-the-end-completes", b"data: 1\r\n\r", events=[b"1"]),
    row("unterminated-id-does-not-count", b"id: 1\n\n", b"id: 2\n", last="1"),
]

ROWS = [*STANDARD, *LINE_ENDS, *BYTE_ORDER_MARKS, *FIELDS, *IDS_AND_RETRY, *ENDS]
