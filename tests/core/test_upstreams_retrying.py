"""What goes again after an upstream failed. The table is the documentation: `docs/upstreams.md` has the same rows."""

import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.limits import MAX_HINTED_TOOLS
from shadowcat_core.mcp import METHODS, Direction, Transport
from shadowcat_core.messages import Message, MessageContext
from shadowcat_core.upstreams import (
    SAFE_METHODS,
    SAFE_NOTIFICATIONS,
    Failures,
    GiveUp,
    HintBook,
    SendAgain,
    ToolHints,
    may_retry,
    may_retry_all,
    unreachable,
)
from shadowcat_core.upstreams.models import Retry as RetryPolicy

MANUAL = Path(__file__).parents[2] / "docs" / "upstreams.md"
CONTEXT = MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP)
READ_ONLY, IDEMPOTENT = ToolHints(read_only=True), ToolHints(idempotent=True)
NOTHING_TRUSTED = RetryPolicy(trust_hints=False)
NAMED = RetryPolicy(methods=["skills/list", "notifications/x"], tools=["search"])


def message(**members) -> Message:
    return Message(orjson.dumps({"jsonrpc": "2.0"} | members), CONTEXT)


def request(method: str, **params) -> Message:
    return message(id=7, method=method, params=params)


def call(tool: str = "search") -> Message:
    return request("tools/call", name=tool, arguments={})


def notification(method: str) -> Message:
    return message(method=method)


ANSWER, ERROR = message(id=1, result={}), message(id=1, error={"code": 1, "message": "no"})
ANYWHERE, ITS_SERVER, NEVER, SILENTLY_NEVER = "again", "again, to its own server", "no, with an error", "no"


def outcome(decision: object) -> str:
    match decision:
        case SendAgain(anywhere=True):
            return ANYWHERE
        case SendAgain():
            return ITS_SERVER
        case GiveUp(error=None):
            return SILENTLY_NEVER
        case _:
            return NEVER


# fmt: off
TABLE = [
    # message, what is known, never sent, sent and not answered, answer begun
    ("a request that reads, such as `tools/list`", request("tools/list"), {}, ANYWHERE, ANYWHERE, NEVER),
    ("`ping`", request("ping"), {}, ANYWHERE, ANYWHERE, NEVER),
    ("a request that sets a value, such as `resources/subscribe`", request("resources/subscribe", uri="a:b"), {},
     ANYWHERE, ANYWHERE, NEVER),
    ("`initialize`", request("initialize"), {}, ANYWHERE, ANYWHERE, NEVER),
    ("`tools/call`", call(), {}, ANYWHERE, NEVER, NEVER),
    ("`tools/call` of a tool with `readOnlyHint`", call(), {"hints": READ_ONLY}, ANYWHERE, ANYWHERE, NEVER),
    ("`tools/call` of a tool with `idempotentHint`", call(), {"hints": IDEMPOTENT}, ANYWHERE, ANYWHERE, NEVER),
    ("the same with `trust_hints: false`", call(), {"hints": READ_ONLY, "policy": NOTHING_TRUSTED},
     ANYWHERE, NEVER, NEVER),
    ("`tools/call` of a tool in `retry.tools`", call(), {"policy": NAMED}, ANYWHERE, ANYWHERE, NEVER),
    ("a request that the protocol does not know", request("skills/list"), {}, ANYWHERE, NEVER, NEVER),
    ("a request in `retry.methods`", request("skills/list"), {"policy": NAMED}, ANYWHERE, ANYWHERE, NEVER),
    ("`notifications/cancelled`, `initialized`, `roots/list_changed`", notification("notifications/cancelled"), {},
     ANYWHERE, ANYWHERE, SILENTLY_NEVER),
    ("`notifications/progress` of a request of the server's", notification("notifications/progress"), {},
     ITS_SERVER, SILENTLY_NEVER, SILENTLY_NEVER),
    ("another notification", notification("notifications/x"), {}, ANYWHERE, SILENTLY_NEVER, SILENTLY_NEVER),
    ("a notification in `retry.methods`", notification("notifications/x"), {"policy": NAMED},
     ANYWHERE, ANYWHERE, SILENTLY_NEVER),
    ("an answer to a request of the server's", ANSWER, {}, ITS_SERVER, ITS_SERVER, SILENTLY_NEVER),
    ("an error that answers one", ERROR, {}, ITS_SERVER, ITS_SERVER, SILENTLY_NEVER),
    ("what is no message and may be waited for", Message(b'{"id":7,"method":"tools/list"}', CONTEXT), {},
     ANYWHERE, NEVER, NEVER),
]
# fmt: on


@pytest.mark.parametrize(
    ("name", "sent", "known", "unsent", "unanswered", "answered"), TABLE, ids=lambda value: str(value)[:40]
)
def test_what_goes_again(name, sent, known, unsent, unanswered, answered):
    found = [
        outcome(may_retry(sent, sent=was_sent, answered=was_answered, **known))
        for was_sent, was_answered in ((False, False), (True, False), (True, True))
    ]
    assert found == [unsent, unanswered, answered]


def test_the_manual_has_this_table():
    rows = [f"| {name} | {unsent} | {unanswered} | {answered} |" for name, _, _, unsent, unanswered, answered in TABLE]
    text = MANUAL.read_text()
    start = text.index("| message | never sent |")
    found = text[start:].split("\n\n")[0].splitlines()[2:]
    assert found == rows


def test_the_manual_names_all_that_is_safe():
    text = MANUAL.read_text()
    paragraph = re.search(r"Safe by the protocol: (.*?)\n\n", text, re.DOTALL)
    assert paragraph is not None
    assert set(re.findall(r"`([^`]+)`", paragraph[1])) == SAFE_METHODS | SAFE_NOTIFICATIONS


def test_what_is_safe_is_in_the_protocol():
    known = [methods.client_requests | methods.client_notifications for methods in METHODS.values()]
    assert frozenset().union(*known) >= SAFE_METHODS | SAFE_NOTIFICATIONS
    assert "tools/call" not in SAFE_METHODS


@pytest.mark.parametrize("sent", [True, False])
@given(method=st.text(max_size=20) | st.sampled_from(sorted(SAFE_METHODS)), answered=st.booleans())
def test_a_request_is_never_left_without_an_answer(sent, method, answered):
    match may_retry(request(method), sent=sent, answered=sent and answered, upstream="a"):
        case SendAgain(anywhere=anywhere):
            assert anywhere
            assert not (sent and answered)
        case GiveUp(error=error):
            assert error is not None
            assert error.code == ErrorCode.UPSTREAM_CLOSED


def test_the_error_says_which_server_and_that_it_may_have_run():
    decision = may_retry(call(), sent=True, answered=False, upstream="tools-1")
    assert isinstance(decision, GiveUp)
    assert decision.error is not None
    assert decision.error.message == (
        "MCP server tools-1 failed while it had this request, which may have run and was not sent again: nothing says "
        "that it may run twice"
    )
    assert decision.error.data == {"upstream": "tools-1", "mayHaveRun": True}
    broken = may_retry(request("tools/list"), sent=True, answered=True)
    assert isinstance(broken, GiveUp)
    assert broken.error is not None
    assert broken.error.message.startswith("the MCP server failed while it had this request")
    assert "its answer began, and broke off" in broken.error.message


def test_why_it_may_go_again_is_said():
    reasons = [
        may_retry(call(), sent=True, answered=False, hints=READ_ONLY).reason,
        may_retry(call(), sent=True, answered=False, hints=IDEMPOTENT).reason,
        may_retry(call(), sent=True, answered=False, policy=NAMED).reason,
        may_retry(request("ping"), sent=True, answered=False).reason,
        may_retry(request("ping"), sent=False, answered=False).reason,
    ]
    assert reasons == [
        "search has the readOnlyHint",
        "search has the idempotentHint",
        "the configuration has search among its tools",
        "ping may be repeated",
        "it was not sent",
    ]


def test_a_request_is_read_as_its_server_reads_it():
    twice = Message(b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"pay"}}', CONTEXT)
    assert outcome(may_retry(twice, sent=True, answered=False)) == NEVER


@pytest.mark.parametrize(
    ("messages", "sent", "expected"),
    [
        ([request("ping"), request("tools/list")], True, ANYWHERE),
        ([request("ping"), call("read"), call("pay")], True, NEVER),
        ([request("ping"), call("read")], True, ANYWHERE),
        ([request("ping"), ANSWER, request("ping")], True, ITS_SERVER),
        ([call("pay")], False, ANYWHERE),
        ([call("pay"), ANSWER], False, ITS_SERVER),
        ([request("ping"), notification("notifications/x")], True, SILENTLY_NEVER),
        ([], True, SILENTLY_NEVER),
        ([], False, ANYWHERE),
    ],
)
def test_a_body_goes_again_when_all_of_it_may(messages, sent, expected):
    book = HintBook()
    book.learn({"tools": [{"name": "read", "annotations": {"readOnlyHint": True}}]})
    assert outcome(may_retry_all(messages, sent=sent, answered=False, book=book)) == expected


@pytest.mark.parametrize(
    ("http_method", "expected"),
    [
        ("GET", ANYWHERE), ("HEAD", ANYWHERE), ("OPTIONS", ANYWHERE),
        ("POST", SILENTLY_NEVER), ("PUT", SILENTLY_NEVER), ("PATCH", SILENTLY_NEVER), ("DELETE", SILENTLY_NEVER),
        ("TRACE", SILENTLY_NEVER), ("get", SILENTLY_NEVER),
    ],
)  # fmt: skip
def test_of_what_has_no_message_the_method_of_http_decides(http_method, expected):
    def decide(*, sent, answered):
        return outcome(may_retry_all([], sent=sent, answered=answered, book=HintBook(), http_method=http_method))

    assert decide(sent=True, answered=False) == expected
    assert decide(sent=True, answered=True) == SILENTLY_NEVER
    assert decide(sent=False, answered=False) == ANYWHERE


def test_when_nobody_can_be_reached_it_is_said_who_was_tried():
    error = unreachable(Failures([("a", "connection refused"), ("b", "no route")]))
    assert error.code == ErrorCode.UPSTREAM_UNREACHABLE
    assert error.message == "no MCP server can be reached: a (connection refused), b (no route)"
    assert error.data == {"tried": ["a", "b"], "mayHaveRun": False}
    alone = unreachable(Failures(), retry_in_s=1.23456)
    assert alone.message == "no MCP server of this route is available"
    assert alone.data == {"tried": [], "mayHaveRun": False, "retryInSeconds": 1.235}


def test_of_many_failures_the_latest_of_each_server_is_kept_with_how_often():
    tried = Failures()
    assert (bool(tried), str(tried), tried.names, tried.latest) == (False, "", [], "")
    for number in range(1_000):
        tried.add("b", f"refused {number}")
        tried.add("a", "no route")
    tried.add("c", "reset")
    assert str(tried) == "b (refused 999, 1000 times), a (no route, 1000 times), c (reset)"
    assert (tried.names, tried.latest) == (["b", "a", "c"], "c")


# --- Hints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "hints"),
    [
        ({"name": "a", "annotations": {"readOnlyHint": True}}, READ_ONLY),
        ({"name": "a", "annotations": {"idempotentHint": True, "destructiveHint": True}}, IDEMPOTENT),
        ({"name": "a", "annotations": {"readOnlyHint": True, "idempotentHint": True}}, ToolHints(True, True)),
        ({"name": "a", "annotations": {"readOnlyHint": "true", "idempotentHint": 1}}, ToolHints()),
        ({"name": "a", "annotations": {}}, ToolHints()),
        ({"name": "a", "annotations": None}, ToolHints()),
        ({"name": "a", "annotations": [True]}, ToolHints()),
        ({"name": "a"}, ToolHints()),
        ("a", ToolHints()),
        (None, ToolHints()),
    ],
)
def test_only_what_is_said_plainly_is_a_hint(tool, hints):
    assert ToolHints.of(tool) == hints


def test_hints_are_those_of_the_last_listing():
    book = HintBook()
    assert book.of("a") == ToolHints()
    book.learn({"tools": [{"name": "a", "annotations": {"readOnlyHint": True}}, {"name": "b"}]})
    assert (book.of("a"), book.of("b"), book.of(None)) == (READ_ONLY, ToolHints(), ToolHints())
    book.learn({"tools": [{"name": "c", "annotations": {"idempotentHint": True}}]})
    assert (book.of("a"), book.of("c")) == (READ_ONLY, IDEMPOTENT)
    book.learn({"tools": [{"name": "a"}]})
    assert book.of("a") == ToolHints()
    assert len(book) == 1


@pytest.mark.parametrize(
    "result", [None, [], {}, {"tools": None}, {"tools": {}}, {"tools": [None, 1, {"name": 3}, {}]}]
)
def test_what_is_no_listing_teaches_nothing(result):
    book = HintBook()
    book.learn(result)
    assert len(book) == 0


def test_a_book_of_hints_is_bounded_and_the_oldest_goes_first():
    book = HintBook(max_tools=2)
    for name in ("a", "b", "a", "c"):
        book.learn({"tools": [{"name": name, "annotations": {"readOnlyHint": True}}]})
    assert [book.of(name) for name in "abc"] == [READ_ONLY, ToolHints(), READ_ONLY]
    assert HintBook()._max_tools == MAX_HINTED_TOOLS
