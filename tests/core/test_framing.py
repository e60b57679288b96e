"""Framings turn chunks into messages, in any cut, and give back every byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.dedup import DedupWindow
from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.framing import BodyFraming, LineFraming, SseFraming
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import MessageContext

CONTEXT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP, exchange_id=1)
SSE = (
    b": hello\n\n"
    b"id: 0\ndata:\n\n"
    b'event: message\nid: 1\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    b'id: 2\r\nevent: message\r\ndata: {"jsonrpc":"2.0","id":7,"result":{}}\r\n\r\n'
    b"data: not json\n\n"
)
LINES = b'{"jsonrpc":"2.0","method":"a"}\nstray print\n\n{"jsonrpc":"2.0","id":1,"result":{}}\r\n'


def read_in_steps(framing, data, step):
    batches = [framing.read(data[i : i + step], i) for i in range(0, len(data), step)]
    return [batch for batch in batches if batch is not None]


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_events_become_messages_in_any_cut(step):
    framing = SseFraming(CONTEXT)
    batches = read_in_steps(framing, SSE, step)
    messages = [message for batch in batches for message in batch]
    assert [message.kind for message in messages] == [Kind.NOTIFICATION, Kind.RESPONSE, Kind.INVALID]
    assert [message.event_id for message in messages] == ["1", "2", None]
    assert b"".join(batch.emit() for batch in batches) + framing.close() == SSE
    assert framing.frames >= 5


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_lines_become_messages_in_any_cut(step):
    framing = LineFraming(CONTEXT)
    batches = read_in_steps(framing, LINES + b'{"unfinished"', step)
    messages = [message for batch in batches for message in batch]
    assert [message.kind for message in messages] == [Kind.NOTIFICATION, Kind.INVALID, Kind.RESPONSE]
    assert b"".join(batch.emit() for batch in batches) == LINES
    assert framing.close() == b'{"unfinished"'
    assert framing.close() == b""
    assert framing.frames == 4


@given(st.lists(st.binary(max_size=6)))
def test_line_framing_gives_back_every_byte(chunks):
    framing = LineFraming(CONTEXT)
    batches = [framing.read(chunk, 0) for chunk in chunks]
    out = b"".join(batch.emit() for batch in batches if batch is not None)
    assert out == b"" or out.endswith(b"\n")
    assert out + framing.close() == b"".join(chunks)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 1\ndata: c\n\n", id="lf"),
        pytest.param(b"id: 1\r\ndata: a\r\n\r\nid: 2\r\ndata: b\r\n\r\nid: 1\r\ndata: c\r\n\r\n", id="crlf"),
        pytest.param(b"id:1\ndata: a\n\nid: 2\ndata: b\n\nid:1\ndata: c\n\n", id="without-blank"),
        pytest.param(b"data: a\nid: 1\n\ndata: b\nid: 2\n\ndata: c\nid: 1\n\n", id="after-the-data"),
        pytest.param(b"id: 1\n\nid: 2\n\nid: 1\n\n", id="id-alone"),
        pytest.param(b"id: 9\nid: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 8\nid: 1\ndata: c\n\n", id="the-last-of-two"),
        pytest.param(b"id: 1\ndata: a\ndata: a\n\nid: 1\ndata: b\n\ndata: id: 1\n\n", id="folded"),
        pytest.param(
            b"event: id: 1\nid: 1\ndata: a\n\nid: 1\ndata: b\n\nevent: id: 1\ndata: c\n\n", id="in-other-field"
        ),
        pytest.param(b"id: 1\ndata: a\n\nid: 1\0\ndata: b\n\nid: 1\ndata: c\n\n", id="nul-is-no-id"),
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_a_repeated_event_id_is_counted(stream, step):
    framing = SseFraming(CONTEXT, dedup=DedupWindow())
    read_in_steps(framing, stream, step)
    assert framing.duplicates == 1


def test_events_without_ids_are_no_duplicates():
    framing = SseFraming(CONTEXT, dedup=DedupWindow())
    read_in_steps(framing, b"data: same\n\n" * 10, 10_000)
    assert framing.duplicates == 0


@pytest.mark.parametrize("framing_type", [SseFraming, LineFraming])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_frame_over_the_limit_is_refused_before_anything_is_taken(framing_type, step):
    limit = {"max_event_bytes": 100} if framing_type is SseFraming else {"max_line_bytes": 100}
    framing = framing_type(CONTEXT, **limit)
    stream = b"data: 1\n\n" + b"data: " + b"x" * 200 + b"\n\n"
    passed = b""
    refused_at = None
    for i in range(0, len(stream), step):
        try:
            batch = framing.read(stream[i : i + step], 0)
        except MessageTooLarge as exc:
            refused_at, refusal = i, exc
            break
        passed += batch.emit() if batch is not None else b""
    assert refused_at is not None
    assert refusal.limit == 100 < refusal.size
    assert passed + framing.close() + stream[refused_at:] == stream


def test_many_short_lines_in_one_chunk_may_be_longer_than_the_limit_together():
    framing = LineFraming(CONTEXT, max_line_bytes=20)
    batch = framing.read(b'{"a":1}\n' * 10 + b"rest", 0)
    assert batch is not None
    assert framing.close() == b"rest"


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    "body", [b'{"jsonrpc":"2.0","id":7,"result":{}}', b'[{"jsonrpc":"2.0","id":7,"result":{}}]\n', b" {not json"]
)
def test_a_body_is_one_frame_when_it_is_over(step, body):
    framing = BodyFraming(CONTEXT)
    assert read_in_steps(framing, body, step) == []
    assert framing.held_bytes == len(body)
    assert framing.frames == 0
    batch = framing.finish(5)
    assert batch.emit() == body
    assert batch.at_ns == 5
    assert [message.id for message in batch] == [None if b"not" in body else 7]
    assert framing.frames == 1
    assert framing.close() == b""
    assert framing.held_bytes == 0


def test_a_blank_body_has_no_message_and_keeps_its_bytes():
    framing = BodyFraming(CONTEXT)
    framing.read(b" \n", 0)
    batch = framing.finish(0)
    assert list(batch) == []
    assert batch.emit() == b" \n"


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_body_over_the_limit_is_refused_before_anything_is_taken(step):
    framing = BodyFraming(CONTEXT, max_body_bytes=100)
    body = bytes(range(100))
    taken = 100 // step * step
    assert read_in_steps(framing, body[:taken], step) == []
    with pytest.raises(MessageTooLarge) as refusal:
        framing.read(b"x" * (101 - taken), 0)
    assert refusal.value.limit == 100 < refusal.value.size
    assert framing.close() == body[:taken]


def test_the_end_completes_a_line_but_no_event():
    lines, events = LineFraming(CONTEXT), SseFraming(CONTEXT)
    assert lines.read(b'{"jsonrpc":"2.0","method":"a"}', 0) is None
    assert events.read(b'data: {"jsonrpc":"2.0","method":"a"}', 0) is None
    batch = lines.finish(9)
    assert [(message.method, message.at_ns) for message in batch] == [("a", 9)]
    assert lines.close() == b""
    assert lines.finish(9) is None
    assert events.finish(9) is None
    assert events.close() == b'data: {"jsonrpc":"2.0","method":"a"}'


@pytest.mark.parametrize("make", [LineFraming, SseFraming])
def test_the_end_completes_nothing_when_nothing_is_held(make):
    framing = make(CONTEXT)
    assert framing.finish(0) is None
    assert framing.close() == b""
