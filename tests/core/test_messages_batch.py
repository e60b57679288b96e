"""The messages of one chunk: found, routed, and emitted byte for byte when nobody edits."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core import messages
from shadowcat_core.jsonrpc import Envelope, Kind
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import MessageBatch, MessageContext, sole_hint
from shadowcat_core.sse import SseParser

CONTEXT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP, "s1", 7, "stream")
PROGRESS = b'{"method":"notifications/progress","params":{"progressToken":1,"progress":2},"jsonrpc":"2.0"}'
RESULT = b'{"result":{"content":[]},"jsonrpc":"2.0","id":1}'
ERROR = b'{"jsonrpc":"2.0","id":2,"error":{"code":-31010,"message":"blocked"}}'
CALL = b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"echo"}}'
PING = b'{"jsonrpc":"2.0","id":4,"method":"ping"}'


def event(data: bytes, *, event_id: str = "7", eol: bytes = b"\n") -> bytes:
    return b"event: message" + eol + b"id: " + event_id.encode() + eol + b"data: " + data + eol + eol


def of_events(chunk: bytes) -> MessageBatch:
    return MessageBatch.of_frames(SseParser().feed(chunk), CONTEXT, 5)


def of_body(chunk: bytes) -> MessageBatch:
    return MessageBatch.of_body(chunk, CONTEXT, 5)


def of_lines(chunk: bytes) -> MessageBatch:
    return MessageBatch.of_lines(chunk, CONTEXT, 5)


CHUNKS = [
    pytest.param(of_events, event(PROGRESS), [PROGRESS], id="one-event"),
    pytest.param(of_events, event(PROGRESS) + event(RESULT, eol=b"\r\n"), [PROGRESS, RESULT], id="two-events"),
    pytest.param(of_events, b": ping\n\n" + event(CALL) + b"retry: 5\n\n", [CALL], id="comment-and-retry"),
    pytest.param(of_events, b"id: 1\ndata:\n\n" + event(CALL), [CALL], id="priming-event"),
    pytest.param(of_events, b"data:  \n\n" + event(CALL), [CALL], id="blank-data"),
    pytest.param(of_events, b"data: {\ndata: }\n\n" + event(CALL), [b"{\n}", CALL], id="folded"),
    pytest.param(of_events, b"event: endpoint\ndata: /m\n\n", [b"/m"], id="not-json"),
    pytest.param(of_events, b"\xef\xbb\xbf" + event(CALL), [CALL], id="byte-order-mark"),
    pytest.param(of_events, event(b"[%s, %s]" % (CALL, PING)) + event(RESULT), [CALL, PING, RESULT], id="array"),
    pytest.param(of_events, b"data: [\ndata: " + CALL + b",\ndata: {}]\n\n", [CALL, b"{}"], id="folded-array"),
    pytest.param(of_events, event(b"[]"), [b"[]"], id="empty-array"),
    pytest.param(of_events, event(b"[1,"), [b"[1,"], id="broken-array"),
    pytest.param(of_events, b": ping\n\n", [], id="only-a-comment"),
    pytest.param(of_events, b"", [], id="no-events"),
    pytest.param(of_body, CALL, [CALL], id="body"),
    pytest.param(of_body, b" \n" + PING + b"\n", [b" \n" + PING + b"\n"], id="body-with-blanks"),
    pytest.param(of_body, b"[\n  " + CALL + b",\n  " + PING + b"\n]\n", [CALL, PING], id="body-array"),
    pytest.param(of_body, b"", [], id="empty-body"),
    pytest.param(of_body, b" \r\n", [], id="blank-body"),
    pytest.param(of_body, b"<html>", [b"<html>"], id="html-body"),
    pytest.param(of_lines, CALL + b"\n" + PING + b"\r\n", [CALL, PING + b"\r"], id="lines"),
    pytest.param(of_lines, b"\n" + CALL + b"\n\r\n", [CALL], id="blank-lines"),
    pytest.param(of_lines, CALL + b"\n" + PING, [CALL, PING], id="last-line-unfinished"),
    pytest.param(of_lines, b"log: started\n" + CALL + b"\n", [b"log: started", CALL], id="talk-on-stdout"),
    pytest.param(of_lines, b"[" + CALL + b"," + PING + b"]\n", [CALL, PING], id="array-line"),
    pytest.param(of_lines, b"", [], id="no-lines"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "chunk", "expected"), CHUNKS)
def test_the_messages_of_a_chunk_are_found_and_the_chunk_is_emitted_as_it_is(make, chunk, expected):
    batch = make(chunk)
    assert [message.raw for message in batch] == expected
    assert len(batch) == len(expected)
    assert [batch[position].raw for position in range(len(batch))] == expected
    assert [message.at_ns for message in batch] == [5] * len(expected)
    assert batch.edited is False
    assert batch.emit() == chunk


@pytest.mark.parametrize("make", [of_events, of_body, of_lines])
def test_an_untouched_chunk_is_emitted_without_a_copy(make):
    chunk = event(CALL)
    assert make(chunk).emit() is chunk


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (event(PROGRESS), Envelope(Kind.NOTIFICATION, "notifications/progress", None)),
        (event(CALL, eol=b"\r\n") + b"data: unfinished", Envelope(Kind.REQUEST, "tools/call", 3)),
        (event(PING), None),
        (event(b"[1]"), None),
        (b": ping\n\n", None),
        (b"data: {\ndata: }\n\n", None),
        (event(CALL) + event(CALL), None),
        (b"", None),
    ],
)
def test_the_hint_of_a_chunks_only_message_takes_no_batch(chunk, expected):
    assert sole_hint(SseParser().feed(chunk)) == expected


def test_bytes_of_an_unfinished_event_are_not_emitted():
    batch = of_events(event(CALL) + b"data: {")
    assert batch.emit() == event(CALL)
    batch.drop(0)
    assert batch.emit() == b""


MIXED = b"".join(map(event, [PROGRESS, RESULT, ERROR, CALL, PING, b"nonsense", PROGRESS]))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"methods": {"tools/call"}}, [3]),
        ({"methods": {"ping", "notifications/progress"}}, [0, 4, 6]),
        ({"methods": set()}, []),
        ({"kinds": {Kind.ERROR}}, [2]),
        ({"kinds": {Kind.INVALID}}, [5]),
        ({"kinds": {Kind.REQUEST, Kind.RESPONSE}}, [1, 3, 4]),
        ({"kinds": set()}, []),
        ({"methods": {"tools/call"}, "kinds": {Kind.REQUEST}}, [3]),
        ({"methods": {"tools/call"}, "kinds": {Kind.NOTIFICATION}}, []),
    ],
)
def test_messages_are_found_by_method_and_kind(wanted, expected, exact):
    batch = of_events(MIXED)
    found = batch.where(**wanted, exact=exact)
    assert [position for position, _ in found] == expected
    assert all(batch[position] is message for position, message in found)
    for position, message in of_events(MIXED).where():
        single = of_events(event(message.raw))
        assert [p for p, _ in single.where(**wanted, exact=exact)] == [0] * (position in expected)


def test_no_message_is_made_for_what_nobody_wants(monkeypatch):
    made = []
    original = messages.Message.__init__
    monkeypatch.setattr(
        messages.Message, "__init__", lambda message, *args: made.append(args) or original(message, *args)
    )
    batch = of_events(event(PROGRESS) + event(RESULT) + event(CALL))
    assert not batch.where(methods={"ping"})
    assert not batch.where(kinds={Kind.ERROR})
    assert made == []
    assert len(batch.where(methods={"tools/call"})) == len(batch.where({"tools/call"})) == len(made) == 1


def test_what_decides_is_not_deceived():
    chunk = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"method":"tools/call"}'
    for batch in (of_body(chunk), of_events(event(chunk) + event(PROGRESS))):
        assert [p for p, _ in batch.where(methods={"tools/call"}, exact=True)] == [0]
        assert not batch.where(methods={"tools/call"})
        assert [p for p, _ in batch.where(methods={"ping"})] == [0]


def test_every_message_of_an_event_stream_knows_its_event_id():
    batch = of_events(
        event(CALL, event_id="a") + b"data: {}\n\n" + event(b"[1,2]", event_id="b") + b"id: c\ndata: 1\ndata: 2\n\n"
    )
    assert [message.event_id for message in batch] == ["a", None, "b", "b", "c"]


@pytest.mark.parametrize("position", [-1, 1, 99])
def test_there_is_nothing_at_a_position_beyond_the_messages(position):
    batch = of_body(CALL)
    for use in (
        batch.__getitem__,
        batch.drop,
        lambda at: batch.replace(at, b"{}"),
        lambda at: batch.insert_after(at, b"{}"),
    ):
        with pytest.raises(IndexError):
            use(position)
    assert not batch.edited


blocks = st.lists(
    st.sampled_from(
        [
            event(PROGRESS),
            event(RESULT, eol=b"\r\n"),
            event(CALL, eol=b"\r"),
            event(b"[" + CALL + b", 7]"),
            b"data: {\ndata: }\n\n",
            b"id: 9\ndata:\n\n",
            b": ping\r\n\r\n",
            b"retry: 10\n\n",
            b"\n",
            b"\r",
            b"data: \xff\n\n",
        ]
    ),
    max_size=8,
)


@given(blocks, st.lists(st.integers(0, 600), max_size=8), st.booleans())
def test_every_cut_of_a_stream_is_emitted_byte_for_byte(parts, cuts, ask):
    stream = b"".join(parts)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parser = SseParser()
    emitted, seen = b"", []
    for start, end in itertools.pairwise(edges):
        batch = MessageBatch(parser.feed(stream[start:end]), CONTEXT)
        if ask:
            seen += [message.raw for _, message in batch.where()]
            batch.where(methods={"tools/call"})
        emitted += batch.emit()
    assert emitted + parser.close() == stream
    if ask:
        whole = SseParser()
        assert seen == [message.raw for message in MessageBatch(whole.feed(stream), CONTEXT)]


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([CALL, b"[1]", b"\n", b"\r\n", b" "]), max_size=6).map(b"".join)
)
def test_any_body_and_any_lines_are_emitted_byte_for_byte(chunk):
    for make in (of_body, of_lines):
        batch = make(chunk)
        batch.where(kinds={Kind.REQUEST}, exact=True)
        assert batch.emit() == chunk


@given(st.lists(st.sampled_from([PROGRESS, RESULT, ERROR, CALL, PING, b"7", b'{"a":1}']), max_size=6))
def test_routing_by_hints_is_routing_by_a_full_parse(raws):
    for chunk in (b"".join(map(event, raws)), b"data: [" + b",".join(raws) + b"]\n\n"):
        batch = of_events(chunk)
        for kind in Kind:
            assert [at for at, _ in batch.where(kinds={kind})] == [at for at, _ in batch.where(None, {kind}, True)]
        assert all(json.loads(message.raw) == message.payload for message in batch)


LOG = b'{"method":"notifications/message","params":{"level":"info"},"jsonrpc":"2.0"}'
LIAR = b'{"method":"notifications/message","params":{},"method":"tools/call","jsonrpc":"2.0"}'


@given(st.lists(st.sampled_from([PROGRESS] * 4 + [LOG, LIAR, RESULT, CALL, b"7"]), max_size=24))
def test_a_burst_is_routed_like_each_of_its_messages_alone(raws):
    burst, singles = of_events(b"".join(map(event, raws))), [of_events(event(raw)) for raw in raws]
    for methods, kinds, exact in itertools.product(
        (None, frozenset({"notifications/progress"}), frozenset({"notifications/message"}), frozenset({"tools/call"})),
        (None, {Kind.NOTIFICATION}, {Kind.REQUEST, Kind.INVALID}),
        (False, True),
    ):
        expected = [at for at, single in enumerate(singles) if single.where(methods, kinds, exact)]
        assert [at for at, _ in burst.where(methods, kinds, exact)] == expected
        if methods is not None:
            suspects = {at for at, single in enumerate(singles) if single.candidates(methods)}
            assert {at for at, _ in burst.candidates(methods)} >= suspects
            assert not burst.lacks(methods, set()) or not suspects


def test_what_was_asked_before_an_edit_is_not_answered_after_it():
    batch = of_events(b"".join(map(event, [PROGRESS, LOG, PROGRESS])))
    logs = frozenset({"notifications/message"})
    assert [at for at, _ in batch.candidates(logs)] == [1]
    assert [at for at, _ in batch.where()] == [0, 1, 2]
    batch.replace(0, LOG)
    assert [at for at, _ in batch.where(logs, exact=True)] == [0, 1]
    batch.drop(1)
    assert [at for at, _ in batch.where()] == [0, 2]
    batch.undo(0)
    assert [at for at, _ in batch.candidates(logs)] == [1]
    assert [at for at, _ in batch.where()] == [0, 1, 2]


def test_who_wants_no_method_is_shown_nothing_even_after_somebody_who_wants_all():
    batch = of_events(event(PROGRESS) + event(LOG))
    assert len(batch.where()) == 2
    assert not batch.where(methods=frozenset(), exact=True)
