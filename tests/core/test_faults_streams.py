"""Faults of streams: what a client gets of the events and bytes of one body."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.interceptors.faults import TOXICS, parse_toxic
from shadowcat_core.interceptors.faults.aim import Aim, Place
from shadowcat_core.interceptors.faults.body_faults import body_fault_of
from shadowcat_core.interceptors.faults.event_faults import event_fault_of
from shadowcat_core.interceptors.faults.toxics import BodyToxic, EventToxic
from shadowcat_core.outlet import Cut, Send, Stall, Wait
from shadowcat_core.sse import SseParser
from tests.core.fault_parts import (
    CALL,
    FIVE,
    Lab,
    ending,
    event,
    parsed,
    payloads,
    progress,
    request,
    result,
    sent,
    waits,
)

STREAM = b"".join(FIVE)
PRIMING = b"id: p\ndata:\n\n"
COMMENT = b": keep-alive\n\n"


def ids(steps):
    return [event_id for _, event_id, _ in parsed(sent(steps))]


@pytest.mark.parametrize("chunks", [FIVE, [STREAM], [STREAM[:100], STREAM[100:]]], ids=["one each", "all", "torn"])
def test_a_duplicate_comes_at_once_byte_for_byte_with_the_same_id(chunks):
    lab = Lab("duplicate:from=2,times=1")
    steps = lab.steps(chunks)
    assert sent(steps) == b"".join([*FIVE[:2], *FIVE[1:]])
    assert ids(steps) == ["1", "2", "2", "3", "4", "5"]
    assert lab.notes == [(1, "duplicate", "an event comes twice")]


def test_an_event_may_come_several_times():
    lab = Lab("duplicate:copies=3,method=tools/call")
    assert ids(lab.steps(FIVE)) == ["1", "2", "3", "4", "5", "5", "5", "5"]
    assert lab.notes == [(1, "duplicate", "an event comes 4 times")]


@pytest.mark.parametrize(
    ("toxic", "order", "text"),
    [
        ("reorder:times=1", "2 1 3 4 5", "an event comes behind the next 1"),
        ("reorder:times=1,by=3", "2 3 4 1 5", "an event comes behind the next 3"),
        ("reorder:times=1,from=4,by=3", "1 2 3 5 4", "an event comes behind the next 1"),
        ("reorder:method=tools/call", "1 2 3 4 5", "no event came to be let past"),
        ("reorder", "2 1 4 3 5", "an event comes behind the next 1"),
    ],
)
def test_a_reordered_event_comes_behind_the_next_ones_and_is_never_lost(toxic, order, text):
    lab = Lab(toxic)
    steps = lab.steps(FIVE)
    assert ids(steps) == order.split()
    assert lab.notes[0] == (1, "reorder", text)


def test_comments_and_priming_events_are_no_events_to_a_toxic():
    chunks = [FIVE[0], PRIMING, COMMENT, FIVE[1]]
    assert sent(Lab("reorder:times=1").steps(chunks)) == b"".join([PRIMING, COMMENT, FIVE[1], FIVE[0]])
    assert sent(Lab("duplicate").steps([PRIMING, COMMENT])) == PRIMING + COMMENT
    assert sent(Lab("cut:after=2").steps([*chunks, FIVE[2]])) == b"".join(chunks)


@pytest.mark.parametrize("seed", range(8))
def test_a_split_character_comes_in_two_chunks_with_a_pause_between(seed):
    wide = event(result(text="naïve – 東京 🐈"))
    lab = Lab(f"split_utf8:ms=30,seed={seed}")
    steps = lab.steps([wide])
    first, pause, second = steps
    assert (sent(steps), pause) == (wide, Wait(0.03))
    for part in (first.data, second.data):
        with pytest.raises(UnicodeDecodeError):
            part.decode()
    assert re.fullmatch(r"an event comes in two chunks, apart at byte \d+", lab.notes[0][2])


def test_the_place_of_a_split_is_left_to_chance():
    wide = event(result(text="naïve – 東京 🐈"))
    assert len({len(Lab(f"split_utf8:seed={seed}").steps([wide])[0].data) for seed in range(40)}) > 5


def test_an_event_of_plain_letters_is_not_split_and_not_counted():
    lab = Lab("split_utf8:times=1")
    assert lab.steps([FIVE[0], event(result(text="é"))])[0] == Send(FIVE[0])
    assert lab.taken == [1]
    assert [one.tally.matched for one in lab.rack.listed] == [1]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("to", "wanted"), [("lf", b"\n"), ("crlf", b"\r\n"), ("cr", b"\r")])
def test_line_ends_become_others_and_the_stream_means_the_same(end, to, wanted):
    stream = event(progress(1), event_id=1, end=end) + event(result(), event_id=2, end=end)
    lab = Lab(f"line_ends:to={to}")
    out = sent(lab.steps([stream]))
    assert parsed(out) == parsed(stream)
    assert set(re.findall(rb"\r\n|\r|\n", out)) == {wanted}
    assert lab.notes[0][2] == f"the lines of an event end otherwise: {to}"


def test_line_ends_are_any_of_the_three_by_chance():
    styles = [b"\r\n", b"\r", b"\n"]
    outs = [sent(Lab(f"line_ends:seed={seed}").steps(FIVE[:1])) for seed in range(30)]
    assert {next(style for style in styles if style in out) for out in outs} == set(styles)
    mixed = [sent(Lab(f"line_ends:to=mixed,seed={seed}").steps([STREAM])) for seed in range(10)]
    assert all(parsed(out) == parsed(STREAM) for out in mixed)
    assert any(len(set(re.findall(rb"\r\n|\r|\n", out))) == 3 for out in mixed)


LINES = st.sampled_from([b"\n", b"\r", b"\r\n"])
FIELDS = st.lists(
    st.tuples(st.sampled_from([b"data: x\xc3\xa9", b"data:", b"id: 7", b": c", b"retry: 5", b"event: e", b""]), LINES),
    max_size=12,
).map(lambda lines: b"".join(line + end for line, end in lines))


@given(
    FIELDS,
    st.lists(st.integers(0, 200), max_size=4),
    st.integers(0, 50),
    st.sampled_from(["line_ends", "line_ends:to=mixed", "line_ends:to=cr", "split_utf8", "bandwidth", "split_utf8"]),
)
def test_splits_line_ends_and_slowness_never_change_what_a_stream_means(stream, cuts, seed, toxic):
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(bounds) if a < b]
    lab = Lab(toxic, seed=seed)
    out = sent(lab.steps(chunks))
    assert parsed(out) == parsed(stream)
    assert "line_ends" in toxic or out == stream


def test_an_oversized_event_means_the_same():
    lab = Lab("oversize:bytes=5000,method=tools/call")
    out = sent(lab.steps(FIVE))
    sizes = [len(frame.raw) for frame in SseParser().feed(out)]
    assert sizes == [*map(len, FIVE[:4]), 5000]
    assert payloads(out) == payloads(STREAM)
    assert lab.notes == [(1, "oversize", f"an event has 5,000 bytes in place of {len(FIVE[4])}")]


def test_an_event_that_is_large_already_stays_as_it_is():
    assert sent(Lab("oversize:bytes=10").steps(FIVE)) == STREAM


@pytest.mark.parametrize("frame", [b"data: {\ndata: }\n\n", event("/messages?session=1"), PRIMING, COMMENT])
def test_what_blanks_would_change_is_not_blown_up(frame):
    lab = Lab("oversize:bytes=5000")
    assert sent(lab.steps([frame])) == frame
    assert lab.taken == [0]


@pytest.mark.parametrize(("kind", "step", "verb"), [("cut", Cut, "is cut off"), ("stall", Stall, "stalls")])
@pytest.mark.parametrize("chunks", [FIVE, [STREAM]], ids=["one each", "all"])
@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_body_ends_behind_so_many_events(kind, step, verb, chunks, after):
    lab = Lab(f"{kind}:after={after}")
    steps = lab.steps(chunks)
    assert sent(steps) == b"".join(FIVE[:after])
    events = "1 event" if after == 1 else f"{after} events"
    assert ending(steps) == step(f"the body {verb} behind {events}")
    assert lab.notes == [(1, kind, f"the body {verb} behind {events}")]


def test_a_body_with_fewer_events_ends_in_good_order():
    lab = Lab("cut:after=6")
    assert ending(lab.steps(FIVE)) is None
    assert lab.notes == []


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("after", [0, 1, 150, len(STREAM) - 1, len(STREAM)])
def test_a_body_ends_behind_so_many_bytes(streams, after):
    steps = Lab(f"cut:after_bytes={after}").steps(FIVE, is_event_stream=streams)
    assert sent(steps) == STREAM[:after]
    assert ending(steps) == Cut(f"the body is cut off behind {after} byte{'' if after == 1 else 's'}")


def test_behind_the_end_nothing_is_sent_or_counted():
    lab = Lab("cut:after=1", "duplicate:from=3")
    outlet = lab.outlet()
    list(outlet.send(STREAM))
    assert (list(outlet.send(STREAM)), list(outlet.end())) == ([], [])


@pytest.mark.parametrize("chunks", [FIVE, [STREAM]])
@pytest.mark.parametrize("bytes_per_s", [1, 100, 1_000, 10**9])
def test_a_body_takes_its_bytes_time(chunks, bytes_per_s):
    lab = Lab(f"bandwidth:bytes_per_s={bytes_per_s}")
    steps = lab.steps(chunks)
    assert sent(steps) == STREAM
    assert sum(waits(steps)) == pytest.approx(len(STREAM) / bytes_per_s)
    assert all(isinstance(pause, Wait) for pause in steps[::2])
    assert all(len(step.data) <= max(1, bytes_per_s * 0.05) for step in steps[1::2])
    assert [note[2] for note in lab.notes] == [f"the body comes at {bytes_per_s:,} bytes a second"]


def test_two_brakes_add_up():
    one, both = Lab("bandwidth:bytes_per_s=1000"), Lab("bandwidth:bytes_per_s=1000", "bandwidth:bytes_per_s=500")
    assert sum(waits(both.steps(FIVE))) == pytest.approx(3 * sum(waits(one.steps(FIVE))))


def test_a_slow_body_is_cut_at_the_same_place():
    steps = Lab("bandwidth:bytes_per_s=100", "cut:after=2").steps(FIVE)
    assert sent(steps) == b"".join(FIVE[:2])
    assert isinstance(ending(steps), Cut)


def test_a_cut_counts_events_as_the_client_does():
    assert sent(Lab("cut:after=3", "duplicate").steps(FIVE)) == FIVE[0] * 2 + FIVE[1]


def test_toxics_work_together_in_their_natural_order():
    wide = event(result(text="é" * 20), event_id=1)
    lab = Lab("bandwidth:bytes_per_s=10000", "split_utf8", "duplicate", "line_ends:to=cr", "oversize:bytes=2000")
    steps = lab.steps([wide])
    assert parsed(sent(steps)) == [("message", "1", data) for _, _, data in parsed(sent(steps))]
    assert payloads(sent(steps)) == [result(text="é" * 20)] * 2
    assert sent(steps).count(b"\n") == 0
    assert waits(steps).count(0.02) == 2
    assert [name for _, name, _ in lab.notes] == [
        "bandwidth", "oversize", "line_ends", "duplicate", "split_utf8", "split_utf8",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("toxic", "of", "hit"),
    [
        ("cut:after=1,method=tools/call,target=echo", {}, True),
        ("cut:after=1,method=tools/list", {}, False),
        ("cut:after=1,target=other", {}, False),
        ("cut:after=1,method=tools/list", {"asked": [CALL, request("tools/list")]}, True),
        ("cut:after=1", {"asked": (), "http_method": "GET"}, True),
        ("cut:after=1,method=tools/*", {"asked": (), "http_method": "GET"}, False),
        ("cut:after=1,http_method=GET", {"asked": (), "http_method": "GET"}, True),
        ("cut:after=1,http_method=GET", {}, False),
        ("cut:after=1", {"is_event_stream": False}, False),
        ("cut:after_bytes=1", {"is_event_stream": False}, True),
        ("bandwidth", {"is_event_stream": False}, True),
        ("duplicate", {"is_event_stream": False}, False),
        ("duplicate:http_method=GET", {}, False),
        ("drop_get", {}, False),
        ("drop_get", {"asked": (), "http_method": "GET", "is_event_stream": False}, False),
        ("drop_get", {"asked": (), "http_method": "GET"}, True),
        ("latency", {}, False),
        ("rate_limit", {}, False),
    ],
)
def test_a_body_gets_an_outlet_only_where_a_toxic_has_to_do_with_it(toxic, of, hit):
    lab = Lab(toxic)
    assert (lab.outlet(**of) is not None) is hit
    assert lab.rack.has_streams is (parse_toxic(toxic).kind not in ("latency", "rate_limit"))


def test_the_servers_own_stream_breaks_off_at_its_head_or_behind_its_events():
    get = {"asked": (), "http_method": "GET"}
    at_head = Lab("drop_get")
    outlet = at_head.outlet(**get)
    assert outlet.begin() == Cut("the stream breaks off at its head")
    assert list(outlet.send(STREAM)) == []
    assert at_head.notes == [(1, "drop_get", "the stream breaks off at its head")]
    later = Lab("drop_get:after=2")
    assert later.outlet(**get).begin() is None
    assert sent(later.steps(FIVE, exchange_id=2, **get)) == b"".join(FIVE[:2])
    running = Lab("drop_get").outlet(**get)
    assert ending(list(running.send(FIVE[0]))) == Cut("the body is cut off behind 0 events")


def test_filters_find_events_in_arrays_by_any_of_their_messages():
    array = event([progress(1), result()])
    assert sent(Lab("duplicate:method=tools/call").steps([array])) == array * 2
    assert sent(Lab("duplicate:method=prompts/*").steps([array])) == array


@given(
    st.sampled_from(sorted(TOXICS)),
    st.lists(st.sampled_from([*FIVE, PRIMING, COMMENT, b"data: {\r\ndata: }\r\n\r\n"]), max_size=8),
    st.integers(1, 60),
)
def test_without_a_matching_toxic_bytes_are_the_same(kind, frames, size):
    stream = b"".join(frames)
    where = {"cut": ",after=1", "stall": ",after_bytes=1"}.get(kind, "")
    lab = Lab(f"{kind}:method=nothing{where}")
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert sent(lab.steps(chunks)) == stream
    assert lab.notes == []


@given(
    st.lists(st.sampled_from(["duplicate", "reorder", "reorder:by=2", "line_ends", "oversize:bytes=300"]), max_size=4),
    st.integers(0, 99),
    st.floats(0, 1),
)
def test_no_event_is_lost_or_changed_in_meaning_where_none_is_to_be(toxics, seed, probability):
    named = [toxic + (",:"[":" not in toxic]) + f"probability={probability}" for toxic in toxics]
    out = sent(Lab(*named, seed=seed).steps(FIVE))
    assert {json.dumps(payload) for payload in payloads(out)} == {json.dumps(one) for one in payloads(STREAM)}


def test_an_unfinished_event_goes_on_as_it_is():
    steps = Lab("duplicate").steps([FIVE[0], FIVE[1][:20]])
    assert sent(steps) == FIVE[0] * 2 + FIVE[1][:20]


def test_a_frame_over_the_limit_goes_on_and_so_does_all_behind_it(monkeypatch):
    monkeypatch.setattr(
        "shadowcat_core.interceptors.faults.fault_outlet.SseParser", lambda: SseParser(max_event_bytes=80)
    )
    large = b"data: " + b"x" * 100 + b"\n\n"
    chunks = [b"data: 1\n\n", large[:50], large[50:], FIVE[0]]
    assert sent(Lab("duplicate").steps(chunks)) == b"data: 1\n\n" * 2 + large + FIVE[0]


def test_toxics_of_other_levels_work_on_no_stream():
    class NoEvent(EventToxic):
        kind = "no_event"

    class NoBody(BodyToxic):
        kind = "no_body"

    with pytest.raises(TypeError, match="no_event works on no events"):
        event_fault_of(NoEvent(), Aim(NoEvent(), 0), Place("x"), print)
    with pytest.raises(TypeError, match="no_body works on no bodies"):
        body_fault_of(NoBody(), print)
