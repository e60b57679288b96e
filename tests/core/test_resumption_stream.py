"""Frames get ids of ours and keep every other byte; positions, repeats, answers and memory are kept account of."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shadowcat_core.resumption import EventPlace, ResumableStream, StreamPurpose, UnloggedRoom, UpstreamMark, frames
from shadowcat_core.resumption.frames import FrameCutter, cut_at_id
from shadowcat_core.sse import SseParser
from tests.core.resumption_world import ids, payloads

TEXTS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
MARKS = st.builds(UpstreamMark, st.integers(0, 10**15 - 1), TEXTS)
PLACES = st.builds(
    EventPlace, st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 10**15 - 1), st.none() | MARKS
)


def stream(**options):
    return ResumableStream("session", EventPlace("s", 0), **{"epoch": 1, **options})


# --- Ids ---------------------------------------------------------------------------------------------------------


@given(PLACES)
def test_an_id_of_ours_reads_back_and_is_fit_for_a_header(place):
    assert EventPlace.read(str(place)) == place
    assert re.fullmatch(r"[A-Za-z0-9._-]+", str(place))


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{1,9}\.[0-9]{1,3}(\.[A-Za-z0-9_=-]{0,12}){0,2}", fullmatch=True))
def test_any_other_text_is_no_id_of_ours_or_one_in_another_spelling(text):
    place = EventPlace.read(text)
    assert place is None or EventPlace.read(str(place)) == place


@pytest.mark.parametrize(
    "text",
    ["", "u7", "s", "s.", ".1", "s.x", "s.-1", "s.1.", "s.1.!", "s.1.é", "s.1.AAAAA", "s.1.eDph", "s.1.MTo", "s.1./w"],
)
def test_a_servers_own_or_forged_id_is_none_of_ours(text):
    assert EventPlace.read(text) is None


@pytest.mark.parametrize("carried", ["1:a\nb", "1:a\rb", "1:a\0b"])
def test_what_is_carried_cannot_break_a_header(carried):
    forged = str(EventPlace("s", 1, UpstreamMark(1, carried[2:])))
    assert EventPlace.read(forged) is None


def test_an_id_that_is_too_long_to_carry_is_left_to_the_log():
    assert str(EventPlace("s", 1, UpstreamMark(1, "x" * 255))) == "s.1"


@pytest.mark.parametrize("text", ["", "1", "1:", ":a", "x:a", "-1:a", "٣:a", "1" * 16 + ":a"])
def test_a_mark_is_an_epoch_and_an_id(text):
    assert UpstreamMark.read(text) is None


# --- Frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "sent", "upstream_id"),
    [
        (b"data: a\n\n", b"id: NEW\ndata: a\n\n", None),
        (b"data: a\r\n\r\n", b"id: NEW\r\ndata: a\r\n\r\n", None),
        (b"data: a\r\r", b"id: NEW\rdata: a\r\r", None),
        (b"event: message\nid: 7\ndata: a\n\n", b"event: message\nid: NEW\ndata: a\n\n", "7"),
        (b"id:7\ndata:a\n\n", b"id:NEW\ndata:a\n\n", "7"),
        (b"id: 7\r\nretry: 500\r\ndata: \r\n\r\n", b"id: NEW\r\nretry: 500\r\ndata: \r\n\r\n", "7"),
        (b"id\ndata: a\n\n", b"id: NEW\ndata: a\n\n", ""),
        (b"id:\ndata: a\n\n", b"id:NEW\ndata: a\n\n", ""),
        (b"id: 1\nid: 2\ndata: a\n\n", b"id: NEW\nid: NEW\ndata: a\n\n", "2"),
        (b"event: e\nid\nid: 2\ndata: a\n\n", b"event: e\nid: NEW\nid: NEW\ndata: a\n\n", "2"),
        (b"id: 1\nid: a\0b\ndata: a\n\n", b"id: NEW\nid: NEW\ndata: a\n\n", "1"),
        (b"id: a\0b\ndata: a\n\n", b"id: NEW\ndata: a\n\n", None),
        (b"id:  two blanks\ndata: a\n\n", b"id: NEW\ndata: a\n\n", " two blanks"),
        (b"idx: 1\nid : 2\n: id: 3\ndata: id: 4\n\n", b"id: NEW\nidx: 1\nid : 2\n: id: 3\ndata: id: 4\n\n", None),
        (b"id: \xff\ndata: a\n\n", b"id: NEW\ndata: a\n\n", "\ufffd"),
    ],
)
def test_the_id_is_exchanged_or_put_in_front_and_nothing_else_changes(frame, sent, upstream_id):
    cut = cut_at_id(b"junk" + frame + b"junk", 4, 4 + len(frame))
    assert cut.upstream_id == upstream_id
    assert cut.with_id("NEW") == sent
    again = cut_at_id(cut.without_id, 0, len(cut.without_id))
    assert again.with_id("NEW") == sent
    assert not again.upstream_id


@pytest.mark.parametrize(
    "frame", [b": ping\n\n", b"retry: 10\n\n", b"\n", b"event: x\n\n", b"id: a\0b\n\n", b": id\n\n"]
)
def test_what_is_no_event_passes_as_it_came_and_takes_no_position(frame):
    kept = stream()
    assert kept.feed(frame) == frame
    assert (kept.position, list(kept.unlogged)) == (0, [])


def test_an_id_without_data_counts_since_clients_come_back_with_it():
    kept = stream()
    sent = kept.feed(b"id: u1\n\n")
    assert sent == f"id: {EventPlace('s', 1, UpstreamMark(1, 'u1'))}\n\n".encode()
    assert kept.mark == UpstreamMark(1, "u1")


@given(st.lists(st.sampled_from([b"id: 1", b"id:  2", b"id: ", b"id", b"id:3", b"id: a\0", b"x: id: 4", b": \xff"])),
       st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1))  # fmt: skip
def test_the_quick_cut_is_the_slow_one_made_quick(lines, ends):
    block = b"".join(line + ends[n % len(ends)] for n, line in enumerate([*lines, b"data: x"])) + ends[0]
    for frame in SseParser().feed(block):  # one, unless a line end makes more
        quick = frames._cut_usual(frame.raw, 0, len(frame.raw))
        assert quick in (None, frames._cut_by_lines(frame.raw, 0, len(frame.raw)))


VALUES = [b"id: 1", b"id:  2", b"id: ", b"id:3", b"id: a\0", b"id: \xff", b"event: e", b"data: x", b"data:y", b"data"]
LAYOUTS = st.lists(st.sampled_from(VALUES), max_size=4)
LF = b"\n"
IN_ORDER = [(0, LF), (1, LF), (2, LF)]
ORDER = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([LF, b"\r\n", b"\r"])), max_size=8)


@example([[b"id: 1", b"data: x"], [b"id: a\0", b"data: x"], [b"id: 1", b"data: x", b"id: 2"]], IN_ORDER)
@example([[b"id: 1", b"data: x"], [b"id: 1\rid: 2", b"data: x"], [b"id: 1", b"data: x", b"data: "]], IN_ORDER)
@example([[b"event: e", b"data: x"], [b"event: e", b"data: x", b"id: 2"], []], IN_ORDER[:2])
@example([[b"event: e", b"data: x"], [b"event: e", b"data: x", b"id: 2", b"data: y"], []], IN_ORDER[:2])
@given(st.lists(LAYOUTS, min_size=3, max_size=3), ORDER)
def test_a_frame_is_cut_the_same_whatever_came_before_it(layouts, order):
    batch = SseParser().feed(b"".join(eol.join(layouts[which]) + eol + eol for which, eol in order))
    cut = FrameCutter().cut
    for frame, record in zip(batch, batch.records, strict=True):
        assert cut(batch.buffer, record) == cut_at_id(frame.raw, 0, len(frame.raw))


@pytest.mark.parametrize(
    "frame", [b"event: e\nid: 7\ndata: a\n\n", b"id: 7\r\nevent: e\r\ndata: a\r\n\r\n", b"event: e\ndata: a\n\n"]
)
def test_a_layout_that_returns_is_cut_without_looking_for_ids(frame, monkeypatch):
    batch, cut = SseParser().feed(frame * 2), FrameCutter().cut
    first = cut(batch.buffer, batch.records[0])
    monkeypatch.setattr(frames, "cut_at_id", None)
    assert cut(batch.buffer, batch.records[1]) == first


EOLS = st.sampled_from([b"\n", b"\r\n"])
LINES = st.sampled_from(
    [b"data: x", b"data: y", b"data:", b"id: u1", b"id: u2", b"id", b"event: e", b": c", b"retry: 9"]
)
BLOCKS = st.lists(LINES, min_size=1, max_size=5)


@given(st.lists(BLOCKS, max_size=6), EOLS, st.data())
def test_clients_read_the_same_events_however_the_bytes_are_cut(blocks, eol, data):
    raw = b"".join(eol.join(block) + eol + eol for block in blocks)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    kept = stream()
    sent = b"".join(kept.feed(raw[a:b]) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)) + kept.end()
    before, after = list(SseParser().feed(raw)), list(SseParser().feed(sent))
    told = [(frame.event, frame.data, frame.dispatches) for frame in before if frame.dispatches]
    assert [(frame.event, frame.data, frame.dispatches) for frame in after if frame.dispatches] == told
    assert [EventPlace.read(each).position for each in ids(sent)] == list(range(1, kept.position + 1))
    assert len(sent.splitlines()) - len(raw.splitlines()) == sum(
        any(line.startswith(b"data") for line in block) and not any(line.startswith(b"id") for line in block)
        for block in blocks
    )
    replayed = [cut_at_id(each.event.data, 0, len(each.event.data)).with_id("X") for each in kept.unlogged]
    events = [frame.raw + b"\n" * frame.raw.endswith(b"\r\n\r") for frame in after if frame.id is not None]
    assert replayed == [cut_at_id(raw, 0, len(raw)).with_id("X") for raw in events]


# --- One stream over several connections -------------------------------------------------------------------------


def test_what_a_resumed_server_repeats_is_dropped_in_the_same_epoch_alone():
    kept = stream()
    kept.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
    assert payloads(kept.feed(b"id: 1\ndata: same id, first connection\n\n")) == [b"same id, first connection"]
    kept.reconnect(1)
    assert payloads(kept.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n")) == [b"c"]
    assert kept.repeats == 2
    kept.reconnect(2)
    assert kept.mark is None
    assert payloads(kept.feed(b"id: 1\ndata: another server\n\n")) == [b"another server"]
    assert kept.mark == UpstreamMark(2, "1")


def test_half_an_event_is_dropped_where_the_server_can_send_it_again():
    kept = stream()
    kept.feed(b"id: 1\ndata: a\n\nid: 2\ndata: half")
    assert kept.end() == b""
    kept.reconnect(1)
    assert payloads(kept.feed(b"id: 2\ndata: whole\n\n")) == [b"whole"]


def test_half_an_event_goes_on_where_nobody_will_send_it_again():
    kept = stream()
    kept.feed(b"data: a\n\ndata: half")
    assert kept.end() == b"data: half"


def test_a_byte_order_mark_opens_a_stream_once():
    kept = stream()
    assert kept.feed(b"\xef\xbb\xbf: hello\n\n") == b"\xef\xbb\xbf: hello\n\n"
    kept.reconnect(1)
    assert kept.feed(b"\xef\xbb\xbf: hello\n\n") == b": hello\n\n"


def test_the_servers_wish_to_be_left_alone_outlives_its_connection():
    kept = stream()
    assert kept.retry_ms is None
    kept.feed(b"id: 1\nretry: 700\ndata: \n\n")
    kept.reconnect(1)
    assert kept.retry_ms == 700
    kept.feed(b"retry: 20\n\n")
    assert kept.retry_ms == 20


def test_a_server_that_takes_its_id_back_cannot_be_resumed():
    kept = stream()
    kept.feed(b"id: 1\ndata: a\n\nid:\ndata: b\n\n")
    assert kept.mark is None
    assert kept.place == EventPlace("s", 2)


def test_a_frame_over_the_limit_and_all_after_it_pass_as_they_came_until_the_next_connection():
    kept = stream(max_event_bytes=40)
    kept.feed(b"id: 1\ndata: a\n\nid: 2\n")
    big = b"data: " + b"x" * 50
    assert kept.feed(big) == b"id: 2\n" + big
    assert kept.feed(b"\n\nid: 3\ndata: b\n\n") == b"\n\nid: 3\ndata: b\n\n"
    assert kept.mark is None
    kept.reconnect(1)
    assert ids(kept.feed(b"id: 4\ndata: c\n\n")) == [str(EventPlace("s", 2, UpstreamMark(1, "4")))]


def test_priming_lets_a_client_come_back_before_the_first_event():
    kept = stream()
    assert kept.prime() == b"id: s.0\ndata: \n\n"
    assert kept.position == 0
    kept.feed(b"id: u\ndata: \n\n")
    assert ids(kept.prime()) == [str(kept.place)]


# --- Answers -----------------------------------------------------------------------------------------------------


def answer_of(request_id, kind="result"):
    return b"data: " + json.dumps({"jsonrpc": "2.0", "id": request_id, kind: {"code": 1}}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("requests", "events", "complete"),
    [
        ((1,), answer_of(1), True),
        ((1,), answer_of(1, "error"), True),
        ((1,), answer_of("1"), False),
        (("a",), answer_of("a"), True),
        ((0,), answer_of(0), True),
        ((1, 2), answer_of(1), False),
        ((1, 2), answer_of(2) + answer_of(1), True),
        ((1,), b'data: {"jsonrpc":"2.0","id":1,"method":"sampling/createMessage"}\n\n', False),
        ((1,), b"data: \n\n", False),
        ((1,), b"data: {not JSON\n\n", False),
        ((1,), b"data: [{not JSON\n\n", False),
        ((1,), b'data: {"jsonrpc":"2.0",\ndata: "id":1,\ndata: "result":{}}\n\n', True),
        ((1, 2), b'data: [{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"result":{}}]\n\n', True),
        ((), answer_of(1), False),
    ],
)
def test_a_stream_is_complete_when_all_it_was_opened_for_is_answered(requests, events, complete):
    kept = stream(purpose=StreamPurpose(requests))
    assert not kept.is_complete
    kept.feed(b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n' + events)
    assert kept.is_complete is complete


def test_an_error_of_our_own_is_an_event_like_others():
    kept = stream(purpose=StreamPurpose((1,)))
    kept.feed(b"data: a\n\n")
    assert kept.unanswered == {1}
    error = b'{"jsonrpc":"2.0","id":1,"error":{"code":-31002,"message":"gone"}}'
    sent = kept.inject(error)
    assert (ids(sent), payloads(sent)) == (["s.2"], [error])
    assert kept.is_complete
    assert len(kept.unlogged) == 2


@pytest.mark.parametrize("requests", [(), (1,), ("a", 0), ("é\n", -1, 2**70), (1.5,)])
def test_a_purpose_reads_back_from_one_line(requests):
    purpose = StreamPurpose(requests)
    assert "\n" not in str(purpose)
    assert StreamPurpose.read(str(purpose)) == purpose


@pytest.mark.parametrize("label", ["", "get", "post", "post {", "post {}", "post [[]]", "other [1]"])
def test_a_label_that_says_nothing_of_requests_is_that_of_a_servers_own_stream(label):
    assert StreamPurpose.read(label) == StreamPurpose()


def test_ids_too_long_for_a_label_are_not_written():
    assert str(StreamPurpose(("x" * 600,))) == "get"


# --- What waits for the log --------------------------------------------------------------------------------------


def test_events_wait_in_bounded_room_and_the_oldest_are_left_out():
    kept = stream(max_unlogged_bytes=1_000)
    for _ in range(20):
        kept.feed(b"data: x\n\n")
    assert sum(each.event.size for each in kept.unlogged) <= 1_000
    assert [each.position for each in kept.unlogged] == list(range(kept.left_out + 1, 21))
    assert kept.left_out == 20 - len(kept.unlogged) > 0
    assert payloads(kept.feed(b"data: " + b"y" * 2_000 + b"\n\n")) == [b"y" * 2_000]
    assert not kept.unlogged


def test_streams_share_their_room_and_give_it_back():
    room = UnloggedRoom(limit=1_000)
    one, two = stream(room=room), stream(room=room)
    for _ in range(5):
        one.feed(b"data: x\n\n")
    for _ in range(5):
        two.feed(b"data: x\n\n")
    assert room.used <= 1_000
    assert (len(one.unlogged), two.left_out > 0) == (5, True)
    one.forget_unlogged(5)
    two.stop_keeping()
    assert room.used == 0
    two.feed(b"data: x\n\n")
    assert (room.used, two.position, two.logged) == (0, 6, 6)


def test_memory_gives_what_it_has_and_says_when_the_log_must_be_asked():
    kept = stream()
    kept.feed(b"data: a\n\ndata: b\n\ndata: c\n\n")
    assert [each.position for each in kept.unlogged_after(1)] == [2, 3]
    assert kept.unlogged_after(3) == []
    kept.forget_unlogged(2)
    assert [each.position for each in kept.unlogged_after(2)] == [3]
    assert kept.unlogged_after(1) is None
    kept.forget_unlogged(3)
    assert kept.unlogged_after(2) is None


def test_who_keeps_the_stream_hears_of_events_once_a_chunk():
    heard = []
    kept = stream(on_change=lambda: heard.append(kept.position))
    kept.feed(b"data: a\n\ndata: b\n\n: ping\n\n")
    kept.feed(b": ping\n\n")
    kept.feed(b"data: half")
    kept.inject(b"{}")
    kept.remark(b": word\n\n")
    assert heard == [2, 3, 4]
