"""Edits of a batch: by position, against a simple list, with everything else byte for byte as it came."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Kind, dump, error_response
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.sse import SseParser
from tests.core.test_messages_batch import CALL, CONTEXT, PING, PROGRESS, RESULT, event, of_body, of_events, of_lines

NEW = b'{"jsonrpc":"2.0","method":"new"}'


def replace(batch):
    batch.replace(1, NEW)


def drop(batch):
    batch.drop(1)


def insert_before(batch):
    batch.insert_before(1, NEW)


def insert_after(batch):
    batch.insert_after(1, NEW)


def drop_all(batch):
    for position, _ in batch.where():
        batch.drop(position)


A, B, C = (
    event(CALL, event_id="a"),
    b"event: x\r\nid: b\r\n: why\r\ndata:" + PING + b"\r\nretry: 9\r\n\r\n",
    event(RESULT),
)
B_NEW = b"event: x\r\nid: b\r\n: why\r\ndata: " + NEW + b"\r\nretry: 9\r\n\r\n"
FRESH = b"data: " + NEW + b"\n\n"
KEEP = b": ping\n\n"
ARRAY = b"[ %s ,\n%s ]\n"

EDITED = [
    pytest.param(of_events, A + KEEP + B + C, replace, A + KEEP + B_NEW + C, id="event-replaced"),
    pytest.param(of_events, A + KEEP + B + C, drop, A + KEEP + C, id="event-dropped"),
    pytest.param(of_events, A + KEEP + B + C, insert_before, A + KEEP + FRESH + B + C, id="event-before"),
    pytest.param(of_events, A + KEEP + B + C, insert_after, A + KEEP + B + FRESH + C, id="event-after"),
    pytest.param(of_events, A + KEEP + B + C, drop_all, KEEP, id="all-events-dropped"),
    pytest.param(
        of_events,
        A + b"data: 1\nid: 5\ndata: 2\n\n",
        replace,
        A + b"data: " + NEW + b"\nid: 5\n\n",
        id="folded-replaced",
    ),
    pytest.param(of_events, A + b"data\rdata:1\r\r", replace, A + b"data: " + NEW + b"\r\r", id="cr-framing-replaced"),
    pytest.param(
        of_events, event(b"[%s, 1,2]" % CALL), replace, event(b"[%s,%s,2]" % (CALL, NEW)), id="element-of-event"
    ),
    pytest.param(of_events, event(b"[1,2]") + KEEP, drop_all, KEEP, id="array-event-dropped"),
    pytest.param(of_lines, b"1\n2\r\n3\n", replace, b"1\n" + NEW + b"\r\n3\n", id="line-replaced"),
    pytest.param(of_lines, b"1\n\n2\n3\n", drop, b"1\n\n3\n", id="line-dropped"),
    pytest.param(of_lines, b"1\n2\n3\n", insert_before, b"1\n" + NEW + b"\n2\n3\n", id="line-before"),
    pytest.param(of_lines, b"1\n2", insert_after, b"1\n2\n" + NEW + b"\n", id="line-after-an-unfinished-one"),
    pytest.param(of_lines, b"1\n2", replace, b"1\n" + NEW + b"\n", id="unfinished-line-replaced"),
    pytest.param(of_lines, b"[1,2]\n", insert_after, b"[1,2," + NEW + b"]\n", id="element-of-line"),
    pytest.param(of_body, ARRAY % (CALL, PING), replace, b"[ %s,%s ]\n" % (CALL, NEW), id="element-replaced"),
    pytest.param(of_body, ARRAY % (CALL, PING), drop, b"[ %s ]\n" % CALL, id="element-dropped"),
    pytest.param(
        of_body, ARRAY % (CALL, PING), insert_before, b"[ %s,%s,%s ]\n" % (CALL, NEW, PING), id="element-before"
    ),
    pytest.param(of_body, ARRAY % (CALL, PING), drop_all, b"", id="all-elements-dropped"),
    pytest.param(of_body, CALL, drop_all, b"", id="body-dropped"),
]


@pytest.mark.parametrize(("make", "chunk", "edit", "expected"), EDITED)
def test_only_what_was_edited_is_different(make, chunk, edit, expected):
    batch = make(chunk)
    edit(batch)
    assert batch.edited
    assert batch.emit() == expected
    assert batch.emit() == expected


def test_content_may_be_a_message_its_bytes_or_its_payload():
    payload = json.loads(NEW)
    for content in (NEW, payload, Message(NEW, CONTEXT), of_body(NEW)[0].with_payload(payload)):
        batch = of_body(CALL)
        batch.replace(0, content)
        assert json.loads(batch.emit()) == payload
        assert batch[0].method == "new"


@pytest.mark.parametrize("content", [b"", b" \n", float("nan"), {"a": float("inf")}])
def test_what_cannot_be_sent_is_refused_and_nothing_is_changed(content):
    for edit in ("replace", "insert_before", "insert_after"):
        batch = of_events(A)
        with pytest.raises(InvalidMessage):
            getattr(batch, edit)(0, content)
        assert not batch.edited
        assert batch.emit() == A


@pytest.mark.parametrize("edit", ["insert_before", "insert_after"])
def test_a_body_of_one_message_has_no_room_for_another(edit):
    batch = of_body(CALL)
    assert not batch.can_insert
    with pytest.raises(ValueError, match="no room"):
        getattr(batch, edit)(0, NEW)
    assert not batch.edited
    assert all(batch.can_insert for batch in (of_body(b"[%s]" % CALL), of_events(A), of_lines(b"1\n")))


def test_line_ends_inside_new_content_do_not_break_the_framing():
    pretty = json.dumps({"jsonrpc": "2.0", "method": "new", "params": {"a": 1}}, indent=1).encode()
    events = of_events(A)
    events.replace(0, pretty)
    events.insert_after(0, pretty.replace(b"\n", b"\r\n"))
    assert [message.method for message in of_events(events.emit())] == ["new", "new"]
    lines = of_lines(b"1\n")
    lines.replace(0, pretty)
    lines.insert_before(0, pretty.replace(b"\n", b"\r\n"))
    assert [message.method for message in of_lines(lines.emit())] == ["new", "new"]


def test_a_dropped_message_is_gone_and_can_come_back():
    batch = of_events(A + C)
    batch.drop(0)
    batch.drop(0)
    assert len(batch) == 1
    assert [position for position, _ in batch.where()] == [1]
    assert not batch.where(methods={"tools/call"})
    with pytest.raises(IndexError):
        batch[0]
    batch.replace(0, CALL)
    assert [message.raw for message in batch] == [CALL, RESULT]
    assert batch.emit() == A + C


def test_later_interceptors_see_what_earlier_ones_made():
    batch = of_events(A)
    batch.replace(0, PING)
    position = batch.insert_after(0, NEW)
    assert position == 1
    assert [at for at, _ in batch.where(methods={"new"})] == [1]
    assert [at for at, _ in batch.where(kinds={Kind.REQUEST})] == [0]
    assert not batch.where(methods={"tools/call"})
    batch.replace(position, {"jsonrpc": "2.0", "method": "newer"})
    batch.drop(0)
    assert [message.method for message in batch] == ["newer"]
    assert batch.emit() == b'data: {"jsonrpc":"2.0","method":"newer"}\n\n'


def test_messages_that_nobody_edited_are_still_routed_by_hints():
    batch = of_events(A + C + event(PROGRESS))
    batch.drop(1)
    assert [at for at, _ in batch.where(methods={"notifications/progress"})] == [2]
    assert [at for at, _ in batch.where(kinds={Kind.REQUEST}, exact=True)] == [0]


def test_a_call_can_be_answered_with_an_error_in_its_place():
    batch = of_events(A)
    for position, message in batch.where(methods={"tools/call"}, exact=True):
        batch.replace(position, error_response(message.id, -31010, "blocked"))
    (answer,) = of_events(batch.emit())
    assert (answer.kind, answer.id, answer.event_id) == (Kind.ERROR, 3, "a")


steps = st.lists(
    st.tuples(st.sampled_from(["replace", "drop", "before", "after"]), st.integers(0, 30), st.integers(0, 99)),
    max_size=12,
)
SHAPES = {
    "events": (lambda raws: b": x\n\n".join(event(raw) for raw in raws), of_events),
    "folded": (lambda raws: b"".join(b"data: {\ndata: " + raw[1:] + b"\n\n" for raw in raws), of_events),
    "array-events": (lambda raws: b"".join(event(b"[" + raw + b"]") for raw in raws), of_events),
    "lines": (lambda raws: b"".join(raw + b"\r\n" for raw in raws), of_lines),
    "array": (lambda raws: b"[" + b" ,".join(raws) + b"]", of_body),
}


@pytest.mark.parametrize("shape", SHAPES)
@given(count=st.integers(1, 5), edits=steps)
def test_edits_by_position_do_what_they_do_to_a_list(shape, count, edits):
    frame, make = SHAPES[shape]
    batch = make(frame([dump({"jsonrpc": "2.0", "method": f"m{number}"}) for number in range(count)]))
    model: list[tuple[int, str | None]] = [(number, f"m{number}") for number in range(count)]
    for verb, choice, name in edits:
        at = choice % len(model)
        position, _ = model[at]
        content = {"jsonrpc": "2.0", "method": f"n{name}"}
        match verb:
            case "drop":
                batch.drop(position)
                model[at] = (position, None)
            case "replace":
                batch.replace(position, content)
                model[at] = (position, f"n{name}")
            case "before":
                model.insert(at, (batch.insert_before(position, content), f"n{name}"))
            case "after":
                model.insert(at + 1, (batch.insert_after(position, content), f"n{name}"))
    left = [(position, method) for position, method in model if method is not None]
    assert len(batch) == len(left)
    assert [(position, message.method) for position, message in batch.where()] == left
    assert [message.method for message in batch] == [method for _, method in left]
    for position, method in left:
        assert position in [at for at, _ in batch.where(methods={method})]
    emitted = batch.emit()
    assert [message.method for message in make(emitted)] == [method for _, method in left]
    if not edits:
        assert emitted is batch.emit()


@given(st.lists(st.sampled_from([A, B, C, KEEP]), min_size=1, max_size=6), st.data())
def test_dropping_an_event_leaves_every_other_byte(parts, data):
    with_data = [index for index, part in enumerate(parts) if part != KEEP]
    gone = data.draw(st.sets(st.sampled_from(with_data))) if with_data else set()
    batch = MessageBatch.of_frames(SseParser().feed(b"".join(parts)), CONTEXT)
    for index in gone:
        batch.drop(with_data.index(index))
    assert batch.emit() == b"".join(part for index, part in enumerate(parts) if index not in gone)
