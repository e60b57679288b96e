"""One exchange in one line: what was asked, how it went, how long it took."""

import json

import pytest

from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.framing import SseFraming
from shadowcat_core.mcp import Direction, Era, Recognition, RecognitionKind
from shadowcat_core.stream import StreamTap
from shadowcat_core.summary import ended_unsaid, exchange_failed, labels, summary

MS = 1_000_000
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}}
OK = {"jsonrpc": "2.0", "id": 7, "result": {}}
TOOL_ERROR = {"jsonrpc": "2.0", "id": 7, "result": {"isError": True}}
ERROR = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "no such tool"}}
NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/initialized"}
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
LISTEN = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen"}
CANCEL = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}


def exchange_of(asked, *answers, status=200, ended=True, kind=RecognitionKind.MESSAGES, era=Era.MODERN, broke_off=None):
    """An exchange that began at 0 ms and ended, if it did, at 42 ms."""
    now_ns = 0
    registry = ExchangeRegistry(lambda: now_ns)
    body = b"" if asked is None else json.dumps(asked).encode()
    exchange = registry.open("flow", Recognition(kind, "", era), body)
    registry.catch_up()
    for answer in answers:
        registry.see_body(exchange, json.dumps(answer).encode())
    exchange.status = status
    exchange.broke_off = broke_off
    if ended:
        exchange.ended_ns = 42 * MS
    return exchange


TABLE = [
    pytest.param(exchange_of(CALL, OK), "tools/call echo → ok · 42 ms", False, False, id="ok"),
    pytest.param(
        exchange_of(CALL, PROGRESS, OK), "tools/call echo → ok · 42 ms · 2 messages", False, False, id="stream"
    ),
    pytest.param(exchange_of(CALL, TOOL_ERROR), "tools/call echo → ✗ tool error · 42 ms", True, False, id="tool-error"),
    pytest.param(
        exchange_of(CALL, ERROR), "tools/call echo → ✗ error -32602 no such tool · 42 ms", True, False, id="error"
    ),
    pytest.param(
        exchange_of(CALL, ERROR, status=400), "tools/call echo → ✗ error -32602 no such tool · 42 ms", True, False,
        id="error-and-status",
    ),
    pytest.param(exchange_of(CALL, status=401), "tools/call echo → ✗ HTTP 401 · 42 ms", True, True, id="status"),
    pytest.param(exchange_of(CALL, status=202), "tools/call echo → accepted · 42 ms", False, False, id="accepted"),
    pytest.param(exchange_of(CALL), "tools/call echo → no answer · 42 ms", False, True, id="no-answer"),
    pytest.param(
        exchange_of(CALL, PROGRESS), "tools/call echo → no answer · 42 ms", False, True, id="broke-off",
    ),
    pytest.param(
        exchange_of(CALL, {"id": 7, "neither": 1}), "tools/call echo → no answer · 42 ms", False, True,
        id="no-answer-to-it",
    ),
    pytest.param(
        exchange_of(CALL, broke_off="client_closed", status=None), "tools/call echo → client left · 42 ms", False, True,
        id="client-left",
    ),
    pytest.param(
        exchange_of(CALL, broke_off="reset", status=None), "tools/call echo → ✗ server hung up · 42 ms", True, True,
        id="hung-up",
    ),
    pytest.param(exchange_of([CALL, CANCEL]), "tools/call echo +1 → no answer · 42 ms", False, False, id="cancelled"),
    pytest.param(exchange_of(CALL, ended=False), "tools/call echo … · 50 ms", False, True, id="running"),
    pytest.param(
        exchange_of([CALL, {**CALL, "id": 8}], OK), "tools/call echo +1 → no answer · 42 ms", False, True, id="array",
    ),
    pytest.param(
        exchange_of(NOTIFICATION, status=202), "notifications/initialized → accepted", False, False, id="notification"
    ),
    pytest.param(exchange_of(OK, status=202), "answer #7 → accepted", False, False, id="posted-answer"),
    pytest.param(exchange_of({"x": 1}, status=400), "not JSON-RPC → ✗ HTTP 400", True, True, id="invalid"),
    pytest.param(exchange_of(LISTEN), "subscriptions/listen → closed · 42 ms", False, False, id="listen"),
    pytest.param(
        exchange_of(None, PROGRESS, kind=RecognitionKind.STREAM), "server stream → closed · 42 ms · 1 message", False,
        False, id="server-stream",
    ),
    pytest.param(
        exchange_of(None, kind=RecognitionKind.STREAM, status=405), "server stream → ✗ HTTP 405", True, True,
        id="no-server-stream",
    ),
    pytest.param(
        exchange_of(None, kind=RecognitionKind.SSE_STREAM, ended=False), "HTTP+SSE stream …", False, False, id="sse"
    ),
    pytest.param(
        exchange_of(None, kind=RecognitionKind.SESSION_END, status=None), "end of session → closed", False, False,
        id="session-end",
    ),
    pytest.param(
        exchange_of(None, kind=RecognitionKind.MAYBE_STREAM, era=None), "event stream → closed", False, False,
        id="other",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("exchange", "said", "failed", "unsaid"), TABLE)
def test_a_line_says_what_was_asked_and_how_it_went(exchange, said, failed, unsaid):
    assert summary(exchange, now_ns=50 * MS) == said
    assert exchange_failed(exchange) is failed
    assert ended_unsaid(exchange) is unsaid


def test_what_peers_write_does_not_steer_who_reads_the_line():
    asked = {**CALL, "params": {"name": "\x1b[2J" + "n" * 1_000}}
    said = summary(exchange_of(asked), now_ns=50 * MS)
    assert said.isprintable()
    assert len(said) < 120


@pytest.mark.parametrize("framed", [False, True], ids=["one-large-body", "event-over-the-limit"])
def test_an_answer_that_was_too_large_to_read_is_not_called_missing(framed):
    exchange = exchange_of(CALL)
    framing = SseFraming(exchange.context(Direction.SERVER_TO_CLIENT), max_event_bytes=10) if framed else None
    exchange.tap = StreamTap(framing, clock_ns=lambda: 0, on_failure=lambda _exc: None)
    exchange.tap(b"data: " + b"x" * 1_994)
    exchange.tap(b"")
    assert summary(exchange, now_ns=50 * MS) == "tools/call echo → 2.0 KB that were not read · 42 ms"
    assert not ended_unsaid(exchange)


def test_labels_hold_nothing_that_cannot_be_shown_or_stored():
    raw = b'{"jsonrpc":"2.0","id":"\\ud800","method":"tools/call","params":{"name":"a\\u001b[2J"}}'
    exchange = ExchangeRegistry(lambda: 0).open("f", Recognition(RecognitionKind.MESSAGES, "", Era.MODERN), raw)
    shown = labels(exchange)
    assert shown["mcp.method"] == "tools/call"
    assert all(text.isprintable() and text.encode() for text in shown.values())


def test_a_line_says_what_interceptors_did_and_how_often():
    exchange = exchange_of(CALL, ERROR)
    exchange.deeds = {"blocked by no-deletes": 1, "audit: changed by scrub": 3}
    assert summary(exchange, now_ns=50 * MS) == (
        "tools/call echo → ✗ error -32602 no such tool · 42 ms · blocked by no-deletes · audit: changed by scrub ×3"
    )


@pytest.mark.parametrize(
    ("held", "line"),
    [
        ("tools/call echo (hold 1)", "⏸ held: tools/call echo (hold 1) · 50 ms"),
        ("answer to tools/call echo (hold 1)", "⏸ held: answer to tools/call echo (hold 1) · 50 ms"),
        ("notifications/progress (hold 1)", "⏸ held: notifications/progress (hold 1) · tools/call echo … · 50 ms"),
    ],
)
def test_a_line_begins_with_what_is_held_and_says_nothing_twice(held, line):
    exchange = exchange_of(CALL, ended=False)
    exchange.held = held
    assert summary(exchange, now_ns=50 * MS) == line
    exchange.held = None
    assert "held" not in summary(exchange, now_ns=50 * MS)


def test_what_interceptors_are_called_does_not_steer_who_reads_the_line():
    exchange = exchange_of(CALL, OK)
    exchange.deeds = {"blocked by \x1b[2J": 1}
    exchange.held = "tools/call \r\n"
    assert summary(exchange, now_ns=50 * MS).isprintable()
