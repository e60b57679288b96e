"""Messages as rows: which call each belongs to, within what ids count, and that nothing grows without a limit."""

import json

import pytest

from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageContext
from shadowcat_core.tape.rows import RowReader, list_rows

C2S, S2C = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT
MS = 1_000_000


def message(direction, exchange, session=None, at_ms=0, **members):
    raw = json.dumps({"jsonrpc": "2.0"} | members).encode()
    return Message(raw, MessageContext(direction, Transport.HTTP, session, exchange), at_ns=at_ms * MS)


def ask(exchange, session=None, request_id=1, direction=C2S, **members):
    return message(direction, exchange, session, id=request_id, **({"method": "ping"} | members))


def answer(exchange, session=None, request_id=1, direction=S2C, at_ms=5, **result):
    return message(direction, exchange, session, at_ms, id=request_id, result=result)


@pytest.mark.parametrize(
    ("asked", "answered", "found"),
    [
        pytest.param(ask(1), answer(1), True, id="same-exchange"),
        pytest.param(ask(1), answer(2), False, id="other-exchange-without-a-session"),
        pytest.param(ask(1, "s"), answer(2, "s"), True, id="other-exchange-of-the-session"),
        pytest.param(ask(1, "s"), answer(2, "t"), False, id="other-session"),
        pytest.param(ask(1), answer(1, "opened"), True, id="the-answer-opens-the-session"),
        pytest.param(ask(1, "s", direction=S2C), answer(2, "s", direction=C2S), True, id="the-server-asks"),
        pytest.param(ask(1, "s"), answer(1, "s", direction=C2S), False, id="same-direction"),
        pytest.param(ask(1, "s"), answer(1, "s", request_id="1"), False, id="a-number-is-no-string"),
    ],
)
def test_an_answer_finds_its_request_within_the_session_or_else_the_exchange(asked, answered, found):
    _, row = list_rows([asked, answered])
    assert (row.method, row.answers, row.duration_ns) == (("ping", "ping", 5 * MS) if found else (None, None, None))
    assert row.status == "ok"


def test_a_request_is_no_answer_even_when_its_call_is_known_to_be_over():
    asked, _ = list_rows([ask(1), answer(1)])
    assert (asked.method, asked.answers, asked.duration_ns, asked.status) == ("ping", None, None, "")


def test_rounds_of_a_call_are_counted():
    asked = {"method": "tools/call", "params": {"name": "order"}}
    again = {"method": "tools/call", "params": {"name": "order", "requestState": "x"}}
    needs_input = answer(1, resultType="input_required", requestState="x")
    rows = list_rows([ask(1, **asked), needs_input, ask(2, request_id=2, **again), answer(2, request_id=2)])
    assert [(row.target, row.round) for row in rows] == [("order", 1), ("order", 1), ("order", 2), ("order", 2)]


def test_progress_and_cancellation_keep_their_own_name():
    asked = ask(1, "s", method="tools/call", params={"name": "deploy", "_meta": {"progressToken": 9}})
    progress = message(S2C, 1, "s", method="notifications/progress", params={"progressToken": 9, "progress": 1})
    cancel = message(C2S, 2, "s", method="notifications/cancelled", params={"requestId": 1})
    first, *others = list_rows([asked, progress, cancel])
    assert [row.method for row in others] == ["notifications/progress", "notifications/cancelled"]
    assert [row.call for row in others] == [None, first.call]
    assert all((row.answers, row.duration_ns) == (None, None) for row in others)


def test_what_is_never_answered_is_forgotten_the_oldest_first():
    reader = RowReader(max_calls=3)
    for exchange in range(1, 6):
        reader.row(ask(exchange))
    # The answers open sessions, so that each is found only as long as its exchange is remembered.
    found = [reader.row(answer(exchange, "opened")).method for exchange in range(1, 6)]
    assert found == [None, None, "ping", "ping", "ping"]
