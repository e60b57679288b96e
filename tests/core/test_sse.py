"""The event stream parser gives what the standard says, for every cut of the stream, and loses no byte."""

from collections.abc import Sequence

import pytest

import shadowcat_core.sse as sse
from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.sse import FOLDED, NO_DATA, Frame, SseParser, encode
from tests.core import sse_checks, sse_oracle
from tests.core.sse_rows import BOM, ROWS, Row


def by_name(table: dict) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", list(table.values()), ids=list(table))


@by_name({row.id: row for row in ROWS})
def test_a_stream_gives_its_events_in_every_cut(row: Row):
    sse_checks.check_row(sse, row)


@by_name({row.id: row for row in ROWS})
def test_the_oracle_agrees_with_the_table(row: Row):
    outcome = sse_oracle.interpret(row.stream)
    expected = [(event, data.decode("utf-8", "replace"), event_id) for event, data, event_id in row.events]
    assert outcome == sse_oracle.Outcome(expected, row.last_event_id, row.retry_ms)


def test_no_two_rows_have_one_name():
    assert len({row.id for row in ROWS}) == len(ROWS)


@by_name(sse_checks.BLOCKS)
def test_a_frame_says_what_its_block_says(row: sse_checks.BlockRow):
    sse_checks.check_block(sse, row)


@by_name(sse_checks.LIMITS)
def test_a_frame_over_the_limit_is_refused_and_nothing_is_lost(row: tuple):
    sse_checks.check_limit(sse, row)


@by_name(sse_checks.WITHIN_LIMITS)
def test_the_limit_is_per_frame_and_counts_every_byte(row: tuple):
    sse_checks.check_within_limit(sse, row)


@by_name(sse_checks.ENCODED)
def test_an_event_is_encoded_line_by_line(row: tuple):
    sse_checks.check_encoded(sse, row)


@by_name(sse_checks.REFUSED)
def test_a_value_that_would_read_back_as_something_else_is_refused(row: dict):
    with pytest.raises(ValueError, match=r"must|surrogates"):
        encode(b"d", **row)
    sse_checks.check_refused(sse, row)


def test_the_limit_defaults_to_the_documented_one():
    parser = SseParser()
    parser.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 6))
    with pytest.raises(MessageTooLarge, match="16,777,217 bytes is over the limit of 16,777,216"):
        parser.feed(b"x")


@pytest.mark.parametrize("max_event_bytes", [0, -1])
def test_a_limit_that_lets_nothing_pass_is_refused(max_event_bytes: int):
    with pytest.raises(ValueError, match="at least 1"):
        SseParser(max_event_bytes=max_event_bytes)


def test_after_a_refusal_the_rest_of_the_stream_can_be_passed_on_untouched():
    stream = b"id: 1\ndata: 1\n\nid: 2\ndata: 234567\n\ndata: 3\n\n"
    for step in range(1, len(stream) + 1):
        parser = SseParser(max_event_bytes=15)
        passed = b""
        for at in range(0, len(stream), step):
            try:
                passed += b"".join(frame.raw for frame in parser.feed(stream[at : at + step]))
            except MessageTooLarge:
                passed += parser.close() + stream[at:]
                break
        assert passed == stream


def test_the_buffer_is_the_chunk_itself_when_nothing_was_held():
    parser = SseParser()
    parser.feed(b"data: 1\n\n")
    for chunk in (b"data: 2\n\n", b"data: 3\n\n", b"data: 4\n\ndata: 5\n\ndat"):
        assert parser.feed(chunk).buffer is chunk
    assert parser.feed(b"a: 6\n\nd").buffer == b"data: 6\n\nd"


def test_a_chunk_that_completes_nothing_gives_an_empty_batch():
    parser = SseParser()
    for chunk in (b"", BOM[:1], b"", b"data: 1", b"", b"\n"):
        batch = parser.feed(chunk)
        assert (len(batch), list(batch), batch.records, batch.common_event) == (0, [], [], None)


def test_records_say_where_a_frame_and_its_data_are():
    chunk = b": c\n\nevent: x\ndata: ab\n\ndata: a\ndata: b\n\ndata\n\n"
    assert SseParser().feed(chunk).records == [
        (0, 5, NO_DATA, NO_DATA),
        (5, 24, 20, 22),
        (24, 41, FOLDED, FOLDED),
        (41, 47, 45, 45),
    ]


def test_the_byte_order_mark_and_the_lf_of_a_split_crlf_are_frames_of_their_own():
    parser = SseParser()
    assert [frame.raw for frame in parser.feed(BOM)] == [BOM]
    assert [frame.raw for frame in parser.feed(b"data: 1\r\n\r")] == [b"data: 1\r\n\r"]
    frames = parser.feed(b"\ndata: 2\r\n\r\n")
    assert [(frame.raw, frame.dispatches) for frame in frames] == [(b"\n", False), (b"data: 2\r\n\r\n", True)]


def test_a_batch_is_a_sequence_of_frames():
    batch = SseParser().feed(b"data: 1\n\n: c\n\ndata: 3\n\n")
    assert isinstance(batch, Sequence)
    assert isinstance(batch[0], Frame)
    assert [frame.raw for frame in batch[1:]] == [b": c\n\n", b"data: 3\n\n"]
    assert [frame.data for frame in reversed(batch)] == [b"3", b"", b"1"]
    assert batch[-1].data == b"3"
    for index in (3, -4):
        with pytest.raises(IndexError):
            batch[index]
    assert repr(batch) == r"FrameBatch([Frame(b'data: 1\n\n'), Frame(b': c\n\n'), Frame(b'data: 3\n\n')])"


def test_a_type_that_all_events_share_is_known_at_once():
    parser = SseParser()
    assert parser.feed(b"event: x\ndata: 1\n\n").common_event == "x"
    assert parser.feed(b": c\n\nevent: y\n\nevent: x\ndata: 1\n\n").common_event == "x"
    assert parser.feed(b"event: x\ndata: 1\n\ndata: 1\n\nevent: x\ndata: 1\n\n").common_event is None
    mixed = parser.feed(b"data: 1\n\nevent: x\ndata: 1\n\nevent: y\n\n")
    assert [mixed.event_type(index) for index in range(3)] == ["message", "x", "y"]


def test_a_frame_without_data_has_its_own_type_beside_a_common_one():
    batch = SseParser().feed(b"event: x\ndata: 1\n\nevent: y\n\n")
    assert batch.common_event == "x"
    assert [frame.event for frame in batch] == ["x", "y"]


def test_frames_of_earlier_batches_keep_their_ids():
    parser = SseParser()
    batches = [
        parser.feed(chunk) for chunk in (b"id: 1\ndata: 1\n\n", b"data: 2\n\n", b"data: 3\n\nid: 4\ndata: 4\n\n")
    ]
    assert [[frame.last_event_id for frame in batch] for batch in batches] == [["1"], ["1"], ["1", "4"]]
    assert [[frame.id for frame in batch] for batch in batches] == [["1"], [None], [None, "4"]]


def test_close_returns_the_rest_once_and_dispatches_nothing():
    parser = SseParser()
    parser.feed(b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n")
    assert (parser.close(), parser.close(), parser.last_event_id) == (b"id: 2\ndata: 2\n", b"", "1")
