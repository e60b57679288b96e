"""From records to MCP: what was said, in which order, and what cannot be told any more."""

import zlib

import brotli
import pytest
import zstandard

from shadowcat_core.jsonrpc import Kind
from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.mcp import Direction
from shadowcat_core.tape.encoding import decode
from shadowcat_core.tape.exchange import RecordedExchange, group
from shadowcat_core.tape.meaning import read_messages
from shadowcat_core.tape.records import Chunk, End, Gap, Note, Open, Request, Response, Unknown, Verdict
from shadowcat_core.tape.rows import list_rows
from tests.core.tape_conversations import EVENTS, JSON, SESSION, at, event, pipe, post, reply, rpc, session, tape_of
from tests.core.tape_parts import ORIGIN_NS


def said(messages):
    return [(message.direction.value, message.kind.value, message.method, message.id) for message in messages]


def test_a_session_is_read_in_the_order_in_which_things_were_said():
    messages = list(read_messages(session()))
    assert said(messages) == [
        ("c2s", "request", "initialize", 0),
        ("s2c", "response", None, 0),
        ("c2s", "request", "tools/call", 7),
        ("s2c", "request", "elicitation/create", 1),
        ("s2c", "notification", "notifications/progress", None),
        ("c2s", "response", None, 1),
        ("s2c", "response", None, 7),
        ("s2c", "notification", "notifications/tools/list_changed", None),
        ("c2s", "request", "tools/call", "8"),
        ("s2c", "error", None, "8"),
        ("c2s", "request", "tools/call", 9),
        ("s2c", "response", None, 9),
    ]
    assert [message.at_ns for message in messages] == sorted(message.at_ns for message in messages)


def test_messages_know_where_they_come_from():
    messages = list(read_messages(session()))
    initialize, initialized, _, elicitation, *_ = messages
    assert initialize.session_id is None
    assert initialized.session_id == SESSION
    assert (initialized.exchange_id, initialized.at_ns) == (1, at(10))
    assert (elicitation.session_id, elicitation.exchange_id, elicitation.stream_id) == (SESSION, 3, "f3")
    assert (elicitation.event_id, elicitation.at_ns) == ("1", at(42))
    assert [message.event_id for message in messages if message.id == 7] == [None, "3"]


def test_a_tape_read_from_its_lines_says_the_same():
    lines = tape_of(session()).splitlines()[1:]
    records = [record for line in lines for record in decode(line, ORIGIN_NS)]
    assert said(read_messages(records)) == said(read_messages(session()))


def test_an_exchange_tells_its_own_messages():
    exchanges = {exchange.number: exchange for exchange in group(session())}
    assert said(exchanges[3].messages()) == [
        ("c2s", "request", "tools/call", 7),
        ("s2c", "request", "elicitation/create", 1),
        ("s2c", "notification", "notifications/progress", None),
        ("s2c", "response", None, 7),
    ]
    assert said(exchanges[2].messages()) == [("s2c", "notification", "notifications/tools/list_changed", None)]
    assert [exchange.interpret()[1] for exchange in exchanges.values()] == [None] * 6


def test_a_pipe_is_read_line_by_line_in_both_directions():
    messages = list(read_messages(pipe()))
    assert said(messages) == [
        ("s2c", "invalid", None, None),
        ("c2s", "request", "ping", 1),
        ("s2c", "response", None, 1),
    ]
    assert [message.at_ns for message in messages] == [at(2), at(3), at(5)]
    assert messages[0].raw == b"starting up"


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", lambda data: zlib.compress(data, wbits=31)),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_coded_bodies_are_decoded_however_they_were_cut(coding, encode, size):
    body = event(1, method="notifications/progress", params={}) + event(2, id=7, result={})
    coded = encode(body)
    chunks = [coded[start : start + size] for start in range(0, len(coded), size)]
    records = [*post(1, 0, rpc(id=7, method="ping")), *reply(1, 1, chunks, [*EVENTS, ("content-encoding", coding)])]
    assert said(read_messages(records))[1:] == [
        ("s2c", "notification", "notifications/progress", None),
        ("s2c", "response", None, 7),
    ]


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl; charset=utf-8"])
def test_answers_as_lines_are_read_as_lines(content_type):
    lines = rpc(method="a") + b"\n" + rpc(id=7, result={}) + b"\n"
    records = [
        *post(1, 0, rpc(id=7, method="x")),
        *reply(1, 1, [lines[:9], lines[9:]], [("content-type", content_type)]),
    ]
    assert [message.kind for message in read_messages(records)][1:] == [Kind.NOTIFICATION, Kind.RESPONSE]


def test_a_body_that_streamed_up_is_read_when_it_is_complete():
    opened, request = post(1, 0, rpc(id=1, method="ping"))
    chunks = [Chunk(at(n), 1, "c2s", request.data[n * 9 : n * 9 + 9]) for n in range(9)]
    (message,) = read_messages([opened, *chunks, Response(at(20), 1, 202, "Accepted", []), End(at(21), 1, "eof")])
    assert (message.method, message.at_ns) == ("ping", at(8))


def test_what_is_no_mcp_gives_no_messages():
    page = reply(1, 1, [b"<html>not found</html>"], [("Content-Type", "text/html")], status=404)
    assert said(read_messages([*post(1, 0, rpc(id=1, method="ping")), *page])) == [("c2s", "request", "ping", 1)]


def test_an_array_is_its_messages():
    body = b"[" + rpc(id=1, method="ping") + b"," + rpc(method="notifications/x") + b"]"
    assert [message.method for message in read_messages([*post(1, 0, body), End(at(1), 1, "eof")])] == [
        "ping",
        "notifications/x",
    ]


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        pytest.param(
            [*post(1, 0, b"x"), *reply(1, 1, [b"not gzip at all"], [*JSON, ("Content-Encoding", "gzip")])],
            "not in its content coding",
            id="damaged-coding",
        ),
        pytest.param(
            [*post(1, 0, b"x"), *reply(1, 1, [b"x"], [*JSON, ("Content-Encoding", "rot13")])],
            "unknown content coding",
            id="unknown-coding",
        ),
        pytest.param(
            [Chunk(at(0), 1, "s2c", b"{}"), End(at(1), 1, "eof")], "the head is not on the tape", id="no-head"
        ),
        pytest.param(
            [Response(at(0), 1, 200, "OK", JSON), Chunk(at(1), 1, "s2c", b"{}")],
            "the head is not on the tape",
            id="no-open",
        ),
        pytest.param(
            [*post(1, 0, b"x"), Gap(at(1), 3, 9, "the queue was full", [1])], "3 records are missing", id="gap"
        ),
        pytest.param(
            [*post(1, 0, b"x"), *reply(1, 1, [b" " * (MAX_EVENT_BYTES + 1)], JSON)], "over the limit", id="too-large"
        ),
    ],
)
def test_what_cannot_be_interpreted_says_why_and_loses_nothing_else(records, problem):
    (exchange,) = group(records)
    messages, found = exchange.interpret()
    assert problem in found
    assert all(message.direction is Direction.CLIENT_TO_SERVER for message in messages)
    assert list(read_messages(records)) is not None


def test_after_an_event_over_the_limit_the_rest_of_its_stream_is_not_guessed_at():
    chunks = [b"data: ", b"x" * MAX_EVENT_BYTES, b"\n\n" + event(1, method="notifications/a")]
    (exchange,) = group([*post(1, 0, rpc(id=1, method="ping")), *reply(1, 1, chunks, EVENTS)])
    messages, problem = exchange.interpret()
    assert [message.method for message in messages] == ["ping"]
    assert "over the limit" in problem


def test_an_exchange_of_nothing_says_nothing():
    assert RecordedExchange(1).interpret() == ([], None)


def test_records_without_messages_are_passed_over():
    records = [
        Note(at(0), None, "hello"),
        Note(at(0), 1, "hello"),
        Unknown(at(0), "weather"),
        Verdict(at(0), 1, "rules", "block", "", b"{}"),
        End(at(1), 9, "eof"),
    ]
    assert list(read_messages(records)) == []
    assert [exchange.messages() for exchange in group(records)] == [[], []]


def test_answers_stand_beside_their_requests():
    rows = [(row.method, row.target, row.status, row.duration_ns) for row in list_rows(read_messages(session()))]
    ms = 1_000_000
    assert rows == [
        ("initialize", None, "", None),
        ("initialize", None, "ok", 10 * ms),
        ("tools/call", "echo", "", None),
        ("elicitation/create", None, "", None),
        ("notifications/progress", None, "", None),
        ("elicitation/create", None, "ok", 3 * ms),
        ("tools/call", "echo", "ok", 17 * ms),
        ("notifications/tools/list_changed", None, "", None),
        ("tools/call", "missing", "", None),
        ("tools/call", "missing", "error", 2 * ms),
        ("tools/call", "echo", "", None),
        ("tools/call", "echo", "error", 2 * ms),
    ]


def test_equal_ids_of_two_clients_are_not_mixed_up():
    ask = {number: post(number, number, rpc(id=1, method=f"m{number}"), session=None) for number in (1, 2)}
    answer = {number: reply(number, 10 * number, [rpc(id=1, result={})], JSON) for number in (1, 2)}
    rows = list(list_rows(read_messages([*ask[1], *ask[2], *answer[2], *answer[1]])))
    assert [row.method for row in rows] == ["m1", "m2", "m2", "m1"]


@pytest.mark.parametrize("answered", [1, "1", 1.5])
def test_a_number_is_not_a_string(answered):
    records = [*post(1, 0, rpc(id=answered, method="ping")), *reply(1, 1, [rpc(id="1", result={})], JSON)]
    rows = list(list_rows(read_messages(records)))
    assert rows[1].method == ("ping" if answered == "1" else None)


def test_an_answer_without_its_request_or_its_id_is_listed_all_the_same():
    records = [*post(1, 0, rpc(id=5, result={})), *post(2, 0, rpc(id=None, error={"code": 1, "message": "no"}))]
    rows = list(list_rows(read_messages(records)))
    assert [(row.method, row.status, row.duration_ns) for row in rows] == [(None, "ok", None), (None, "error", None)]


def test_an_unfinished_exchange_gives_what_was_complete():
    opened = Open(at(0), 1, "f", "GET", "u", "HTTP/1.1", [])
    whole = event(1, method="notifications/a")
    records = [
        opened,
        Request(at(0), 1, b""),
        Response(at(1), 1, 200, "OK", EVENTS),
        Chunk(at(2), 1, "s2c", whole + b"da"),
    ]
    assert [message.method for message in read_messages(records)] == ["notifications/a"]
    (exchange,) = group(records)
    assert [message.method for message in exchange.messages()] == ["notifications/a"]
