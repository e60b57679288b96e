"""One line for one message: what it says of each kind, and what no peer can make of it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageContext
from shadowcat_core.transcript import (
    COLOURS,
    MAX_DETAIL_CHARS,
    MAX_NAME_CHARS,
    duration_text,
    error_text,
    gist,
    headline,
    is_failure,
    printable,
    shortened,
    size_text,
    title,
    words,
)

C2S, S2C = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
METHODS = [
    "elicitation/create", "initialize", "logging/setLevel", "notifications/cancelled", "notifications/message",
    "notifications/progress", "notifications/resources/updated", "prompts/get", "resources/read", "server/discover",
    "tools/call", "tools/list", "unheard/of",
]  # fmt: skip


def raw(text, direction=C2S):
    return Message(text, MessageContext(direction, Transport.HTTP))


def message(direction=C2S, **members):
    return raw(json.dumps({"jsonrpc": "2.0"} | members).encode(), direction)


def request(method, request_id=7, **params):
    return message(id=request_id, method=method, params=params)


def notification(method, **params):
    return message(S2C, method=method, params=params)


def result(**members):
    return message(S2C, id=7, result=members)


def error(**members):
    return message(S2C, id=7, error=members)


def test_a_request_says_method_id_target_and_arguments():
    assert (
        headline(request("tools/call", name="echo", arguments={"text": "hi"})) == '→ tools/call #7 echo {"text":"hi"}'
    )
    assert headline(request("tools/call", "a-1", name="echo", arguments={})) == "→ tools/call #a-1 echo"
    assert headline(request("ping", 0)) == "→ ping #0"


def test_a_notification_says_what_happened():
    told = notification("notifications/progress", progress=2, total=4, message="halfway there")
    assert headline(told) == "← notifications/progress 2/4 halfway there"


def test_an_answer_says_what_it_answers_when_that_is_known():
    answer = result(content=[{"type": "text", "text": "hi"}])
    assert headline(answer) == "← result #7 hi"
    assert headline(answer, answers="tools/call echo") == "← result #7 tools/call echo hi"


def test_a_failure_says_so_and_why():
    tool = result(isError=True, content=[{"type": "text", "text": "no such file"}])
    assert headline(tool, answers="tools/call read") == "← tool error #7 tools/call read no such file"
    refused = error(code=-32602, message="no such tool")
    assert headline(refused, answers="tools/call x") == "← error #7 tools/call x -32602 no such tool"
    nobody = message(S2C, id=None, error={"code": -32700, "message": "Parse error"})
    assert headline(nobody) == "← error -32700 Parse error"


@pytest.mark.parametrize("text", [b"<html>\x1b[2J", b"[1,", b"\xff", b"5"])
def test_what_is_no_message_is_said_to_be_none(text):
    said = headline(raw(text, S2C))
    assert said.startswith("← not JSON-RPC: ")
    assert said.isprintable()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (request("initialize", clientInfo={"name": "probe", "version": "1"}), "probe 1"),
        (request("initialize", clientInfo=5), ""),
        (request("tools/call", name="echo", arguments={"text": "ü"}), '{"text":"ü"}'),
        (request("tools/call", name="add", arguments={"a": 2**70}), '{"a":1180591620717411303424}'),
        (request("tools/call", name="echo"), ""),
        (request("prompts/get", name="notes", arguments={"of": "web"}), '{"of":"web"}'),
        (request("elicitation/create", message="sure?"), "sure?"),
        (request("logging/setLevel", level="debug"), "debug"),
        (request("tools/list"), ""),
        (message(id=1, method="tools/call", params=[1]), ""),
        (notification("notifications/progress", progress=1.0, total=5.0, message="fetch"), "1/5 fetch"),
        (notification("notifications/progress", progress=0.5), "0.5"),
        (notification("notifications/progress", progress=1234567.0, total=2**53), "1234567/9007199254740992"),
        (notification("notifications/progress"), ""),
        (notification("notifications/message", level="info", data="deployed"), "info: deployed"),
        (notification("notifications/message", level="info", data={"at": 3}), 'info: {"at":3}'),
        (notification("notifications/message", data=True), "true"),
        (notification("notifications/cancelled", requestId=7, reason="too slow"), "#7 too slow"),
        (notification("notifications/cancelled", requestId="a"), "#a"),
        (notification("notifications/resources/updated", uri="a://b"), ""),
        (result(serverInfo={"name": "desk"}), "desk"),
        (result(supportedVersions=["2026-07-28", "2025-11-25"], serverInfo={}), "speaks 2026-07-28, 2025-11-25"),
        (result(supportedVersions=5), ""),
        (result(tools=[{}, {}]), "2 tools"),
        (result(prompts=[{}]), "1 prompt"),
        (result(resources=[]), "0 resources"),
        (result(resourceTemplates=[{}]), "1 template"),
        (result(messages=[{}]), "1 message"),
        (result(roots=[{}, {}]), "2 roots"),
        (result(tools=5), ""),
        (result(resultType="input_required", requestState="s"), "input required"),
        (result(content=[{"text": "a\n b"}, {"type": "image"}, {"text": "c"}, 5, {}]), "a b [image] c"),
        (result(content={"type": "text", "text": "a model's answer"}), "a model's answer"),
        (result(contents=[{"uri": "a://b", "text": "1.0.0"}]), "1.0.0"),
        (result(contents=[{"mimeType": "image/png", "blob": "AA=="}]), "[image/png]"),
        (result(content=[], structuredContent={"sum": 5}), '{"sum":5}'),
        (result(content=[{"type": "text", "text": "5"}], structuredContent={"sum": 5}), "5"),
        (result(action="accept"), "accept"),
        (result(), ""),
        (error(code=-32602, message="no such"), "-32602 no such"),
        (error(message="a\nb\x1b[2Jc"), r"a b\x1b[2Jc"),
        (message(S2C, id=7, error="what"), ""),
    ],
)  # fmt: skip
def test_a_message_is_said_in_a_few_words(told, said):
    assert gist(told) == said


def test_what_json_cannot_say_is_said_all_the_same():
    assert gist(raw(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":[1e999]}}')) == "[inf]"
    assert gist(raw(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1e999}}')) == "inf"
    surrogate = rb'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"\ud800"}}'
    assert gist(raw(surrogate)) == r"\ud800"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (request("tools/call", name="echo"), "tools/call echo"),
        (request("ping"), "ping"),
        (notification("notifications/resources/updated", uri="a://b"), "notifications/resources/updated a://b"),
        (result(), ""),
    ],
)
def test_a_request_is_named_by_method_and_target(told, said):
    assert title(told) == said


@pytest.mark.parametrize(
    ("told", "failed"),
    [
        (error(code=1, message="x"), True),
        (result(isError=True), True),
        (result(isError=False), False),
        (result(isError="true"), False),
        (request("tools/call", isError=True), False),
        (raw(b"<html>"), False),
    ],
)
def test_failures_are_errors_and_what_a_tool_calls_one(told, failed):
    assert is_failure(told) is failed


def test_only_errors_have_an_errors_text():
    assert error_text(result()) == ""


@pytest.mark.parametrize(
    ("duration_ns", "said"),
    [(0, "0.0 ms"), (420_000, "0.4 ms"), (9_940_000, "9.9 ms"), (12_400_000, "12 ms"), (3_210_000_000, "3.2 s")],
)
def test_durations_are_read_at_a_glance(duration_ns, said):
    assert duration_text(duration_ns) == said


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 B"), (999, "999 B"), (1_234, "1.2 KB"), (999_900, "999.9 KB"), (3_400_000, "3.4 MB")]
)
def test_sizes_are_read_at_a_glance(size, said):
    assert size_text(size) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a \t\r\n b", "a b"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
        (" " * 5_000 + "x", "…"),
        ("x" + " " * 5_000, "x…"),
    ],
)
def test_long_and_many_lines_become_one_short_one(text, said):
    assert shortened(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("naïve → 日本 👋", "naïve → 日本 👋"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x9b31m", r"\x9b31m"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_would_steer_a_terminal_is_shown_instead(text, said):
    assert printable(text) == said


def test_names_of_any_length_leave_the_line_short():
    huge = "n" * 1_000_000
    told = words(message(id=huge, method=huge, params={"name": huge, "arguments": {"text": huge}}))
    assert [len(word) for word in told] == [MAX_NAME_CHARS, MAX_NAME_CHARS, 0, 0]
    told = words(request("tools/call", name=huge, arguments={"text": huge}))
    assert (len(told.about), len(told.gist)) == (MAX_NAME_CHARS, MAX_DETAIL_CHARS)
    assert len(words(raw(huge.encode())).gist) == MAX_DETAIL_CHARS


def test_what_an_answer_answers_is_printable_and_short_too():
    about = words(result(), answers="tools/call \x1b[2J" + "n" * 1_000).about
    assert about.startswith(r"tools/call \x1b[2J")
    assert len(about) == 2 * MAX_NAME_CHARS


def test_every_kind_has_a_colour():
    assert set(COLOURS) == set(Kind)


@settings(max_examples=400)
@given(
    method=st.sampled_from(METHODS) | st.text(),
    request_id=st.none() | st.integers() | st.text(),
    payload=st.dictionaries(st.sampled_from(["params", "result", "error"]), JSON)
    | st.fixed_dictionaries(
        {"params": st.dictionaries(st.sampled_from(["progress", "total", "message", "name", "arguments"]), JSON)}
    )
    | st.fixed_dictionaries(
        {"result": st.dictionaries(st.sampled_from(["tools", "content", "contents", "supportedVersions"]), JSON)}
    ),
)
def test_whatever_a_peer_sends_becomes_one_short_line(method, request_id, payload):
    named = {} if {"result", "error"} & payload.keys() else {"method": method}
    said = headline(message(S2C, id=request_id, **named, **payload), answers="tools/call echo")
    assert said.isprintable()
    assert said == " ".join(said.split(" ")).strip()
    assert len(said) < 3 * MAX_NAME_CHARS + MAX_DETAIL_CHARS + 10
