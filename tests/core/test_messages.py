"""One message: decoded once, when asked, and never changed."""

import pytest

from shadowcat_core import messages
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Envelope, Kind, dump
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageContext

CONTEXT = MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP, "s1", 7, "stream")
CALL = b'{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"echo"}}'


@pytest.fixture
def parses(monkeypatch):
    counted = []
    original = messages.message.parse
    monkeypatch.setattr(messages.message, "parse", lambda raw: counted.append(raw) or original(raw))
    return counted


def test_a_message_tells_what_it_is_and_where_it_comes_from():
    message = Message(CALL, CONTEXT, event_id="e1", at_ns=5)
    assert (message.kind, message.method, message.id, message.target) == (Kind.REQUEST, "tools/call", "1", "echo")
    assert message.payload == {"jsonrpc": "2.0", "id": "1", "method": "tools/call", "params": {"name": "echo"}}
    assert (message.direction, message.transport) == (Direction.CLIENT_TO_SERVER, Transport.HTTP)
    assert (message.session_id, message.exchange_id, message.stream_id) == ("s1", 7, "stream")
    assert (message.raw, message.event_id, message.at_ns) == (CALL, "e1", 5)


def test_what_nobody_asks_for_is_not_parsed(parses):
    message = Message(CALL, CONTEXT)
    assert message.hint == Envelope(Kind.REQUEST, "tools/call", "1")
    assert message.hint is message.hint
    assert message.direction is Direction.CLIENT_TO_SERVER
    assert parses == []


@pytest.mark.parametrize("raw", [CALL, b"nonsense", b"null", b"[]"])
def test_a_message_is_parsed_once_whatever_it_is(parses, raw):
    message = Message(raw, CONTEXT)
    for _ in range(3):
        assert message.kind in Kind
        assert (message.method, message.target) in [("tools/call", "echo"), (None, None)]
    assert parses == [raw]


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[" * 100_000, b'{"jsonrpc":"2.0","id":NaN}'])
def test_what_is_not_json_is_a_message_of_kind_invalid(raw):
    message = Message(raw, CONTEXT)
    assert (message.kind, message.method, message.id, message.target) == (Kind.INVALID, None, None, None)
    for _ in range(2):
        with pytest.raises(InvalidMessage):
            _ = message.payload


def test_json_that_is_no_json_rpc_keeps_its_payload():
    message = Message(b'{"method":"tools/call"}', CONTEXT)
    assert (message.kind, message.method, message.payload) == (Kind.INVALID, "tools/call", {"method": "tools/call"})


def test_a_deceived_hint_does_not_touch_the_exact_answer():
    message = Message(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"method":"tools/call"}', CONTEXT)
    assert message.hint == Envelope(Kind.REQUEST, "ping", 1)
    assert message.method == "tools/call"


def test_an_edit_makes_another_message_in_the_same_circumstances():
    message = Message(CALL, CONTEXT, event_id="e1", at_ns=5)
    payload = {**message.payload, "id": 2}
    edited = message.with_payload(payload)
    assert (edited.raw, edited.id) == (dump(payload), 2)
    assert (edited.context, edited.event_id, edited.at_ns) == (CONTEXT, "e1", 5)
    assert (message.raw, message.id) == (CALL, "1")
    with pytest.raises(InvalidMessage):
        message.with_payload(float("nan"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"event: message\nid: 7\ndata: \n\n", "7"),
        (b"id: 7\r\ndata: \r\nretry: 5\r\n\r\n", "7"),
        (b"data:\n\n", None),
        (b"data:\rid\r\r", ""),
        (b"\xef\xbb\xbfid: 7\ndata: \n\n", None),
    ],
)
def test_the_event_id_is_read_when_asked_for(fields, expected):
    message = Message(CALL, CONTEXT, at_ns=5, fields=fields)
    assert message.with_raw(b"{}").event_id == expected
    assert [message.event_id, message.event_id] == [expected, expected]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (CALL, "<Message c2s request tools/call echo id='1', 73 bytes>"),
        (b'{"jsonrpc":"2.0","id":0,"result":{}}', "<Message c2s response id=0, 36 bytes>"),
        (b"?", "<Message c2s invalid, 1 bytes>"),
    ],
)
def test_a_message_shows_what_it_is(raw, expected):
    assert repr(Message(raw, CONTEXT)) == expected
