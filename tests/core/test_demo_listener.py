"""Messages heard from a tape while it is written."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from shadowcat_core.demo.listener import Heard, Listener, TapeFollower
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageContext
from shadowcat_core.tape.encoding import encode, encode_header
from shadowcat_core.tape.records import Chunk, End, Gap, Header, Headers, Note, Open, Record, Request, Response
from shadowcat_core.transcript import Words, words

MS = 1_000_000
HEADER = Header("2026-11-21T08:00:00+00:00", "shadowcat", "0.1.0", "default", "background", 1000 * MS)
SSE = [("Content-Type", "text/event-stream; charset=utf-8")]
JSON_BODY = [("content-type", "application/json")]


def opened(
    exchange: int = 1,
    *,
    session: str | None = None,
    era: str | None = None,
    headers: Headers = (),
    method: str = "POST",
) -> Open:
    return Open(0, exchange, "flow", method, "http://h/mcp", "HTTP/1.1", headers, session=session, era=era)


def asked(payload: object, exchange: int = 1, at_ms: int = 0) -> Request:
    return Request(at_ms * MS, exchange, json.dumps(payload).encode())


def answered(payload: object, exchange: int = 1, at_ms: int = 5) -> Chunk:
    return Chunk(at_ms * MS, exchange, "s2c", json.dumps(payload).encode())


def event(payload: object, exchange: int = 1, at_ms: int = 5) -> Chunk:
    return Chunk(at_ms * MS, exchange, "s2c", b"data: " + json.dumps(payload).encode() + b"\r\n\r\n")


def hear(*records: Record) -> tuple[Listener, list[Heard]]:
    listener = Listener()
    return listener, [message for record in records for message in listener.hear(record, 0)]


CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
ANSWER = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "hi"}]}}
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1, "progressToken": 7}}


def said(payload: dict[str, Any]) -> Words:
    message = Message(json.dumps(payload).encode(), MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP))
    return words(message, answers="tools/call echo" if "result" in payload else None)


def test_a_json_answer_is_heard_when_its_body_is_whole_and_matched_with_its_request():
    half = len(json.dumps(ANSWER)) // 2
    whole = json.dumps(ANSWER).encode()
    listener, heard = hear(
        opened(),
        asked(CALL),
        Response(1 * MS, 1, 200, "OK", JSON_BODY),
        Chunk(2 * MS, 1, "s2c", whole[:half]),
        Chunk(3 * MS, 1, "s2c", whole[half:]),
        End(5 * MS, 1, "eof"),
    )
    assert heard == [
        Heard(0, "legacy", "c2s", "request", "tools/call", 7, "echo", said(CALL), False, None, None),
        Heard(3, "legacy", "s2c", "response", "tools/call", 7, "echo", said(ANSWER), False, 3, None),
    ]
    assert listener.unanswered == []


def test_an_event_is_heard_when_its_chunk_is_recorded_not_when_the_stream_ends():
    listener, heard = hear(opened(), asked(CALL), Response(1 * MS, 1, 200, "OK", SSE), event(PROGRESS, at_ms=2))
    assert [(message.at_ms, message.method, message.words.gist) for message in heard[1:]] == [
        (2, "notifications/progress", "1")
    ]
    assert heard[1].stream == ("tools/call", "echo")
    assert listener.unanswered == ["tools/call"]


def test_events_cut_by_the_network_are_put_together():
    whole = event(ANSWER).data
    cuts = [Chunk(5 * MS, 1, "s2c", whole[at : at + 1]) for at in range(len(whole))]
    _, heard = hear(opened(), asked(CALL), Response(1 * MS, 1, 200, "OK", SSE), *cuts)
    assert [message.kind for message in heard] == ["request", "response"]


@pytest.mark.parametrize("content_type", [SSE, JSON_BODY])
def test_a_coded_body_is_read_decoded(content_type: Headers):
    body = event(ANSWER).data if content_type is SSE else json.dumps(ANSWER).encode()
    _, heard = hear(
        opened(),
        asked(CALL),
        Response(1 * MS, 1, 200, "OK", [*content_type, ("Content-Encoding", "gzip")]),
        Chunk(2 * MS, 1, "s2c", gzip.compress(body)),
        End(3 * MS, 1, "eof"),
    )
    assert heard[-1].words.gist == "hi"


@pytest.mark.parametrize("coding", ["gzip", "rot13"])
def test_a_body_in_a_broken_or_unknown_coding_is_passed_over_and_the_rest_is_heard(coding: str):
    _, heard = hear(
        opened(1),
        Response(1 * MS, 1, 200, "OK", [*JSON_BODY, ("content-encoding", coding)]),
        Chunk(2 * MS, 1, "s2c", b"not gzip"),
        End(3 * MS, 1, "eof"),
        opened(2),
        asked(CALL, 2),
    )
    assert [message.method for message in heard] == ["tools/call"]


@pytest.mark.parametrize("body", [b"<html>502</html>", b"5", b"null", b'"text"', b"\xff", b'{"a": 1}'])
def test_what_claims_to_be_json_and_is_no_message_is_a_failure(body: bytes):
    listener, heard = hear(
        opened(), Response(1 * MS, 1, 200, "OK", JSON_BODY), Chunk(2 * MS, 1, "s2c", body), End(3 * MS, 1, "eof")
    )
    assert [(message.kind, message.failed) for message in heard] == [("invalid", True)]
    assert listener.unanswered == []


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON_BODY, b""),
        ([("content-type", "text/html")], b"<html>502</html>"),
        (SSE, b": comment\n\nid: 1\n\nid: 2\ndata:\n\n"),
    ],
)
def test_what_does_not_speak_is_not_heard(headers: Headers, body: bytes):
    _, heard = hear(
        opened(), Response(1 * MS, 1, 200, "OK", headers), Chunk(2 * MS, 1, "s2c", body), End(3 * MS, 1, "eof")
    )
    assert heard == []


def test_an_array_is_heard_message_by_message():
    _, heard = hear(opened(), asked([CALL, PROGRESS]))
    assert [message.kind for message in heard] == ["request", "notification"]


def test_an_error_answers_its_request_and_is_a_failure():
    error = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "no"}}
    listener, heard = hear(
        opened(), asked(CALL), Response(1 * MS, 1, 400, "", JSON_BODY), answered(error), End(6 * MS, 1, "eof")
    )
    assert (heard[1].kind, heard[1].method, heard[1].failed) == ("error", "tools/call", True)
    assert listener.unanswered == []


def test_ids_of_two_clients_without_sessions_do_not_mix():
    _, heard = hear(
        opened(1),
        opened(2),
        asked(CALL, 1),
        asked({**CALL, "method": "ping", "params": {}}, 2),
        Response(1 * MS, 1, 200, "", JSON_BODY),
        Response(1 * MS, 2, 200, "", JSON_BODY),
        answered(ANSWER, 2),
        End(6 * MS, 2, "eof"),
        answered(ANSWER, 1),
        End(7 * MS, 1, "eof"),
    )
    assert [message.method for message in heard] == ["tools/call", "ping", "ping", "tools/call"]


def test_a_number_and_a_string_are_different_ids():
    listener, heard = hear(
        opened(), asked(CALL), Response(1 * MS, 1, 200, "", SSE), event({**ANSWER, "id": "7"}, at_ms=2)
    )
    assert heard[1].method == ""
    assert listener.unanswered == ["tools/call"]


def test_a_servers_request_is_answered_in_another_exchange_of_the_session():
    question = {"jsonrpc": "2.0", "id": 0, "method": "roots/list"}
    _, heard = hear(
        opened(1, session="s", method="GET"),
        Response(1 * MS, 1, 200, "", SSE),
        event(question, 1, at_ms=2),
        opened(2, session="s"),
        asked({"jsonrpc": "2.0", "id": 0, "result": {"roots": []}}, 2, at_ms=9),
    )
    assert [(message.direction, message.method, message.duration_ms) for message in heard] == [
        ("s2c", "roots/list", None),
        ("c2s", "roots/list", 7),
    ]


def test_a_request_that_was_cancelled_is_not_waited_for():
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    listener, heard = hear(opened(1, session="s"), asked(CALL, 1), opened(2, session="s"), asked(cancel, 2))
    assert [message.method for message in heard] == ["tools/call", "notifications/cancelled"]
    assert listener.unanswered == []


def test_a_subscription_that_is_left_open_is_not_waited_for():
    listener, _ = hear(opened(), asked({"jsonrpc": "2.0", "id": "listen", "method": "subscriptions/listen"}))
    assert listener.unanswered == []


@pytest.mark.parametrize("strange", [[1], {"a": 1}, True])
def test_an_id_of_a_type_that_the_protocol_does_not_know_makes_no_message(strange: Any):
    listener, heard = hear(opened(1), asked({**CALL, "id": strange}, 1), opened(2), asked({**ANSWER, "id": strange}, 2))
    assert [message.kind for message in heard] == ["invalid", "invalid"]
    assert listener.unanswered == []


def test_records_that_are_missing_from_the_tape_are_counted():
    listener, _ = hear(Gap(0, 3, 900, "queue full"), Gap(0, 4, 900, "queue full"), Note(0, None, "a note"))
    assert listener.records_missing == 7


def test_records_of_an_exchange_that_began_before_the_tape_are_passed_over():
    assert hear(asked(CALL, 9), event(ANSWER, 9), End(0, 9, "eof"))[1] == []


@pytest.mark.parametrize(
    ("head", "era"),
    [
        (opened(era="modern"), "modern"),
        (opened(era="legacy", headers=[("MCP-Protocol-Version", "2026-07-28")]), "legacy"),
        (opened(headers=[("MCP-Protocol-Version", "2026-07-28")]), "modern"),
        (opened(headers=[("mcp-protocol-version", "2025-11-25")]), "legacy"),
        (opened(), "legacy"),
    ],
)
def test_the_era_is_the_tapes_word_else_the_version_headers(head: Open, era: str):
    assert hear(head, asked(CALL))[1][0].era == era


def test_a_growing_tape_is_followed_line_by_line_cut_anywhere(tmp_path: Path):
    records: list[Record] = [opened(), asked(CALL), answered(ANSWER), End(9 * MS, 1, "eof")]
    whole = encode_header(HEADER) + encode(records, 0)
    path = tmp_path / "a.tape.jsonl"
    path.touch()
    follower = TapeFollower(path)
    seen: list[Record] = []
    for at in range(0, len(whole), 7):
        with path.open("ab") as tape:
            tape.write(whole[at : at + 7])
        seen += follower.poll()
    assert [type(record) for record in seen] == [Open, Request, Chunk, End]
    assert list(follower.poll()) == []


def test_a_file_that_is_no_tape_is_refused(tmp_path: Path):
    path = tmp_path / "a.tape.jsonl"
    path.write_text("hello\n")
    with pytest.raises(ValueError, match="JSON"):
        list(TapeFollower(path).poll())
