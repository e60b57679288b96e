"""What each verdict does to each kind of message, on every framing and in both directions: one table."""

import json

import pytest

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.interceptors import Block, Continue, Delay, Inject, Mock, Modify, Pause, apply
from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.messages import RpcError
from tests.core.interception import (
    CONTEXTS,
    FRAMINGS,
    TO_CLIENT,
    TO_SERVER,
    Says,
    again,
    events,
    in_virtual_time,
    judged,
    lines,
    payloads,
    pipeline_of,
)

MESSAGES = {
    "request": {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}},
    "notification": {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}},
    "response": {"jsonrpc": "2.0", "id": "7", "result": {"content": []}},
    "error": {"jsonrpc": "2.0", "id": 0, "error": {"code": -32602, "message": "no"}},
    "old request": {"id": 8, "method": "tools/call"},  # INVALID for want of its version, and still acted on by some
    "old response": {"id": 9, "result": {}},
    "nothing": {"hello": "world"},
}
OTHER = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "injected"}}
NEIGHBOUR = {"jsonrpc": "2.0", "method": "notifications/neighbour"}
ITSELF = "itself"


def refused(request_id, reason="not here", code=ErrorCode.BLOCKED):
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": int(code), "message": reason}}


def answered(request_id):
    return {"jsonrpc": "2.0", "id": request_id, "result": {"mocked": True}}


def failed(request_id):
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": -5, "message": "made up", "data": [1]}}


BLOCK = Block("not here")
MOCK = Mock({"mocked": True})
MOCK_ERROR = Mock(error=RpcError(-5, "made up", [1]))
MODIFY = Modify(OTHER)

# verdict, kind of message, what goes on in its place, what its sender gets
TABLE = [
    (BLOCK, "request", [], [refused(7)]),
    (BLOCK, "notification", [], []),
    (BLOCK, "response", [refused("7")], []),
    (BLOCK, "error", [refused(0)], []),
    (BLOCK, "old request", [], [refused(8)]),
    (BLOCK, "old response", [refused(9)], []),
    (MOCK, "request", [], [answered(7)]),
    (MOCK, "notification", [], []),
    (MOCK, "response", [answered("7")], []),
    (MOCK, "error", [answered(0)], []),
    (MOCK, "old request", [], [answered(8)]),
    (MOCK, "old response", [answered(9)], []),
    (MOCK_ERROR, "request", [], [failed(7)]),
    (MOCK_ERROR, "response", [failed("7")], []),
    (MOCK_ERROR, "notification", [], []),
    *((MODIFY, kind, [OTHER], []) for kind in MESSAGES),
    *((Continue(), kind, [ITSELF], []) for kind in MESSAGES),
    *((Delay(3), kind, [ITSELF], []) for kind in MESSAGES),
    *((Inject([NOTE, OTHER], [OTHER, NOTE]), kind, [NOTE, OTHER, ITSELF, OTHER, NOTE], []) for kind in MESSAGES),
    *((Inject(), kind, [ITSELF], []) for kind in MESSAGES),
]


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "between others"])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("direction", CONTEXTS)
@pytest.mark.parametrize(
    ("verdict", "kind", "goes_on", "replies"), TABLE, ids=lambda value: getattr(type(value), "__name__", None)
)
def test_every_verdict_does_the_same_on_every_path(verdict, kind, goes_on, replies, direction, framing, alone):
    injects = isinstance(verdict, Inject) and verdict.before
    if framing == "body" and (injects or not alone):
        alone, framing = True, "array"  # a body of one message has room for one message; see below
    payload = MESSAGES[kind]
    around = [] if alone else [NEIGHBOUR]
    raws = [json.dumps(each).encode() for each in (*around, payload, *around)]
    context = CONTEXTS[direction]

    def answer(message):
        return verdict if message.payload == payload else Continue()

    async def run():
        batch = FRAMINGS[framing](raws, context)
        original = batch.emit()
        emitted = await judged(pipeline_of(Says(answer)), batch)
        expected = [payload if each is ITSELF else each for each in goes_on]
        assert payloads(again(framing, emitted, context)) == [*around, *expected, *around]
        assert payloads(batch.replies) == replies
        assert {reply.direction for reply in batch.replies} <= {context.direction.opposite}
        assert {(reply.context.session_id, reply.at_ns) for reply in batch.replies} <= {("s1", 5)}
        if goes_on == [ITSELF]:
            assert emitted == original
            assert not batch.changes
        if not (around or goes_on):
            assert emitted == b""

    in_virtual_time(run())


@pytest.mark.parametrize("verdict", [BLOCK, MOCK], ids=["block", "mock"])
@pytest.mark.parametrize(
    ("raw", "context", "replies"),
    [
        (b'{"hello":1}', TO_SERVER, 1),
        (b"nonsense", TO_SERVER, 1),
        (b'{"id":true,"method":"tools/call"}', TO_SERVER, 0),
        (b'{"hello":1}', TO_CLIENT, 0),
        (b"/messages?session=1", TO_CLIENT, 0),
    ],
)
def test_what_cannot_be_read_is_dropped_and_a_client_is_told_with_the_id_null(verdict, raw, context, replies):
    batch = lines([raw], context)
    apply(verdict, batch, 0)
    assert batch.emit() == b""
    assert [reply.payload["id"] for reply in batch.replies] == [None] * replies


def test_a_request_with_the_id_null_is_answered_with_it():
    batch = lines([b'{"jsonrpc":"2.0","id":null,"method":"ping"}'], TO_SERVER)
    apply(BLOCK, batch, 0)
    assert payloads(batch.replies) == [refused(None)]


@pytest.mark.parametrize("verdict", [Inject(before=[NOTE]), Inject(after=[NOTE])], ids=["before", "after"])
def test_nothing_is_injected_beside_the_only_message_of_a_body(verdict):
    pipeline = pipeline_of(Says(lambda message: verdict), fail="open")
    batch = FRAMINGS["body"]([json.dumps(MESSAGES["request"]).encode()], TO_SERVER)
    assert pipeline.run(batch) is None
    assert payloads(batch) == [MESSAGES["request"]]
    assert pipeline.stages[0].metrics.failures == 1


@pytest.mark.parametrize("content", [b' {"jsonrpc": "2.0", "id": 7, "method": "ping"}', OTHER, "message"])
def test_modify_takes_bytes_a_payload_or_a_message_and_keeps_the_event_around_it(content):
    batch = events([json.dumps(MESSAGES["request"]).encode()], TO_CLIENT)
    made = batch[0].with_payload(OTHER) if content == "message" else content
    apply(Modify(made, "because"), batch, 0)
    assert payloads(batch) == [OTHER]
    assert batch[0].event_id == "0"
    assert batch.emit().startswith(b"event: message\nid: 0\ndata: ")
    (change,) = batch.changes
    assert (change.act, change.reason, change.before.id, change.after.method) == ("modify", "because", 7, "ping")


@pytest.mark.parametrize(
    "verdict", [Modify({"a": float("nan")}), Modify(b" "), Mock({"a": float("inf")}), Inject([b""])], ids=repr
)
def test_what_cannot_be_written_is_refused_and_nothing_is_changed(verdict):
    batch = lines([json.dumps(MESSAGES["request"]).encode()], TO_SERVER)
    with pytest.raises(InvalidMessage):
        apply(verdict, batch, 0)
    assert not batch.changes


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mock({"a": 1}, RpcError(1, "x")),
        lambda: Delay(-1),
        lambda: Delay(float("inf")),
        lambda: Delay(float("nan")),
        lambda: Pause(until=None, timeout_s=-1),
        lambda: Pause(until=None, timeout_s=float("nan")),
    ],
)
def test_a_verdict_that_makes_no_sense_cannot_be_made(make):
    with pytest.raises(ValueError, match=r"not both|cannot be"):
        make()


def test_block_speaks_with_its_own_code_and_data():
    batch = lines([json.dumps(MESSAGES["request"]).encode()], TO_SERVER)
    apply(Block(code=-40, data={"rule": 3}), batch, 0)
    assert payloads(batch.replies) == [
        {"jsonrpc": "2.0", "id": 7, "error": {"code": -40, "message": "blocked", "data": {"rule": 3}}}
    ]


def test_a_mock_without_a_result_is_an_empty_one():
    batch = lines([json.dumps(MESSAGES["request"]).encode()], TO_SERVER)
    apply(Mock(), batch, 0)
    assert payloads(batch.replies) == [{"jsonrpc": "2.0", "id": 7, "result": {}}]
