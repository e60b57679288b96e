"""`shadowcat tape` about what happened beside the messages: what was done to them, faults, and how exchanges ended."""

import json

import pytest
from click.testing import CliRunner

from shadowcat_core.cli import main
from shadowcat_core.tape.records import Chunk, End, Gap, Note, Open, Response, Verdict
from tests.core.tape_conversations import EVENTS, JSON, SESSION, at, event, post, reply, rpc, tape_of

CALL = rpc(id=1, method="tools/call", params={"name": "echo", "arguments": {"text": "hi"}})
LIST = rpc(id=2, method="tools/list")
TOOLS = rpc(id=2, result={"tools": [{}, {}]})
RESULT = rpc(id=1, result={"content": [{"type": "text", "text": "hi"}]})
PROGRESS = rpc(method="notifications/progress", params={"progress": 1})


def verdict(ms, exchange, by, action, original, *, result=None, reply=None, reason="", mode="enforce", direction="c2s"):
    return Verdict(at(ms), exchange, by, action, reason, original, result, reply, mode, direction)


@pytest.fixture
def show(tmp_path):
    """Write a tape and run a command on it."""
    path = tmp_path / "a.tape.jsonl"

    def shown(records, *arguments, command="show"):
        path.write_bytes(tape_of(records))
        result = CliRunner().invoke(main, ["tape", command, str(path), *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    return shown


def said(lines):
    """What lines say, without their times."""
    return [line.partition(" s ")[2] for line in lines]


def test_show_tells_what_interceptors_did_among_the_messages(show):
    error = rpc(id=1, error={"code": -31010, "message": "no"})
    told = rpc(method="notifications/message", params={})
    tape = [
        *post(1, 0, CALL, session=None),
        verdict(1, 1, "no-echo", "block", CALL, reply=error, reason="not today"),
        verdict(2, 1, "watch", "inject", None, result=told, mode="audit", direction="s2c"),
        *reply(1, 3, [error], JSON),
    ]
    lines = show(tape, "--payload")
    assert lines[2] == '    0.001 s ! → tools/call #1 echo {"text":"hi"} · blocked by no-echo: not today'
    assert lines[3:5] == [f"was: {CALL.decode()}", f"answered: {error.decode()}"]
    assert lines[5] == "    0.002 s ! ← notifications/message · would have been injected by watch"
    assert lines[6] == f"became: {told.decode()}"
    rows = list(map(json.loads, show(tape, "--json")))
    assert [row["kind"] for row in rows] == ["request", "verdict", "verdict", "error"]
    assert (rows[1]["method"], rows[1]["target"], rows[1]["id"]) == ("tools/call", "echo", 1)
    assert [json.loads(line)["kind"] for line in show(tape, "target:echo", "dir:c2s", "--json")] == [
        "request", "verdict",
    ]  # fmt: skip


@pytest.mark.parametrize("session", [None, SESSION])
@pytest.mark.parametrize("told_first", [True, False])
def test_what_was_done_to_an_answer_is_said_with_what_it_answers(show, session, told_first):
    done = verdict(5, 1, "hide", "modify", TOOLS, result=rpc(id=2, result={"tools": [{}]}), direction="s2c")
    stream = reply(1, 2, [b"data: %b\n\n" % TOOLS], EVENTS)
    around = [*stream[:-1], done] if not told_first else [stream[0], done, stream[1]]
    tape = [*post(1, 0, LIST, session=session), *around, stream[-1]]
    line = "! ← result #2 tools/list 2 tools · changed by hide · became 1 tool"
    assert line in said(show(tape, "method:tools/list"))
    assert said(show(tape, "tools", "by:hide")) == [line]


def test_an_answer_that_nobody_asked_for_is_said_without_a_method(show):
    done = verdict(5, 1, "hold", "pause", TOOLS, result=TOOLS, direction="s2c")
    assert said(show([done])) == ["! ← result #2 2 tools · held by hold"]


@pytest.mark.parametrize(
    ("became", "news"),
    [
        (rpc(id=1, method="tools/call", params={"name": "echo", "arguments": {"text": "*"}}), '{"text":"*"}'),
        (rpc(id=1, method="tools/call", params={"name": "safe", "arguments": {"text": "hi"}}), "safe"),
        (rpc(id="7", method="tools/call", params={"name": "echo", "arguments": {"text": "hi"}}), "#7"),
        (rpc(id=1, method="ping"), "ping"),
        (CALL[:9], f"not JSON-RPC: {CALL[:9].decode()}"),
        (CALL + b" " * (1_200 - len(CALL)), "1.2 KB"),
    ],
)
def test_a_change_says_in_short_what_is_new(show, became, news):
    done = verdict(1, 1, "scrub", "modify", CALL, result=became, reason="key")
    assert said(show([done])) == [f'! → tools/call #1 echo {{"text":"hi"}} · changed by scrub: key · became {news}']


def test_a_failure_is_the_interceptors_own(show):
    done = verdict(1, 1, "mine", "fail", CALL, result=CALL, reason="ZeroDivisionError: division by zero")
    assert said(show([done]))[0].endswith("· mine failed: ZeroDivisionError: division by zero")


def test_what_a_verdict_of_a_later_version_did_is_said_by_its_name(show):
    assert said(show([verdict(1, 1, "new", "teleport", CALL)]))[0].endswith("· teleport by new")


def test_notes_stand_among_the_messages_with_what_they_are_about(show):
    tape = [
        *post(1, 0, CALL),
        Note(at(1), 1, "fault rate_limit: 429: later", {"by": "fault:rate_limit"}),
        Note(at(2), None, "the disk is slow"),
        End(at(3), 1, "eof"),
    ]
    notes = ["! tools/call echo · fault rate_limit: 429: later", "! the disk is slow"]
    assert said(show(tape))[1:3] == notes
    assert said(show(tape, "echo"))[1:-1] == notes[:1]
    assert said(show(tape, "by:fault:*")) == notes[:1]
    row = json.loads(show(tape, "by:fault:*", "--json")[0])
    assert (row["kind"], row["text"], row["method"], row["target"]) == (
        "note", "fault rate_limit: 429: later", "tools/call", "echo",
    )  # fmt: skip


TABLE = [
    pytest.param([End(at(40), 1, "killed")], "tools/call echo → ✗ killed · 40 ms", id="killed"),
    pytest.param([End(at(40), 1, "client_closed")], "tools/call echo → client left · 40 ms", id="client-left"),
    pytest.param([End(at(40), 1, "eof")], "tools/call echo → no answer · 40 ms", id="no-answer"),
    pytest.param(
        reply(1, 1, [b"data: %b\n\n" % PROGRESS], EVENTS, how="reset"),
        "tools/call echo → ✗ server hung up · 3.0 ms", id="hung-up",
    ),
    pytest.param(reply(1, 1, [], JSON, status=401), "tools/call echo → ✗ HTTP 401 · 2.0 ms", id="refused"),
    pytest.param(
        reply(1, 1, [b'{"error":"invalid_token"}'], JSON, status=401), "tools/call echo → ✗ HTTP 401 · 3.0 ms",
        id="refused-with-a-page",
    ),
    pytest.param(
        [verdict(1, 1, "hold", "pause", CALL), verdict(2, 1, "hold", "drop", CALL), End(at(40), 1, "client_closed")],
        "tools/call echo → client left · 40 ms · held by hold · dropped by hold", id="deeds",
    ),
    pytest.param(
        [Note(at(1), 1, "fault stall: …", {"by": "fault:stall"}), Note(at(1), 1, "else"), End(at(40), 1, "killed")],
        "tools/call echo → ✗ killed · 40 ms · broken by fault:stall", id="fault",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rest", "line"), TABLE)
def test_an_end_without_an_answer_is_said_in_the_words_of_the_console(show, rest, line):
    tape = [*post(1, 0, CALL), *rest]
    assert said(show(tape))[-1] == f"· {line}"
    assert f"· {line}" in said(
        show(tape, "method:tools/call", "status:error", "exchange:1", f"session:*{SESSION[-9:-1]}*")
    )
    row = json.loads(show(tape, "--json")[-1])
    assert (row["kind"], row["method"], row["target"], row["summary"]) == ("end", "tools/call", "echo", line)


@pytest.mark.parametrize(
    "tape",
    [
        pytest.param([*post(1, 0, CALL), *reply(1, 1, [RESULT], JSON)], id="answered"),
        pytest.param([*post(1, 0, CALL), *reply(1, 1, [event(1, id=1, result={})], EVENTS, how="killed")], id="late"),
        pytest.param([*post(1, 0, CALL), *reply(1, 1, [], [], status=202)], id="accepted"),
        pytest.param([*post(1, 0, PROGRESS), *reply(1, 1, [], [], status=202)], id="nothing-asked"),
        pytest.param([*post(1, 0, CALL), Gap(at(1), 1, 9, "full", [1]), End(at(2), 1, "eof")], id="lost"),
        pytest.param([Chunk(at(0), 1, "s2c", b"x"), End(at(2), 1, "reset")], id="headless"),
        pytest.param(
            [Open(at(0), 1, "f", "GET", "http://h/", "HTTP/1.1", EVENTS), Response(at(1), 1, 404, "", []),
             End(at(2), 1, "eof")],
            id="not-mcp",
        ),
    ],
)  # fmt: skip
def test_an_end_that_goes_without_saying_is_not_said(show, tape):
    assert [line for line in said(show(tape)) if line.startswith("·")] == []


@pytest.mark.parametrize(("method", "name"), [("GET", "server stream"), ("DELETE", "end of session")])
def test_what_asks_nothing_is_named_by_what_it_is(show, method, name):
    opened = Open(at(0), 1, "f", method, "http://h/", "HTTP/1.1", [], session=SESSION, era="legacy")
    assert said(show([opened, *reply(1, 1, [], [], status=405)])) == [f"· {name} → ✗ HTTP 405"]


def test_words_pick_by_verdict_and_by_who_gave_it(show):
    tape = [
        *post(1, 0, CALL),
        verdict(1, 1, "hold", "pause", CALL, result=CALL),
        verdict(2, 1, "no-echo", "block", CALL, reason="no"),
        Note(at(3), 1, "fault cut: …", {"by": "fault:cut"}),
    ]

    def picked(*words):
        return [line.split(" · ")[1] for line in said(show(tape, *words))]

    assert picked("verdict:block") == picked("verdict:blocked") == ["blocked by no-echo: no"]
    assert picked("verdict:*") == ["held by hold", "blocked by no-echo: no"]
    assert picked("by:hold") == ["held by hold"]
    assert picked("-by:hold", "verdict:*") == ["blocked by no-echo: no"]
    assert picked("by:*", "-verdict:*") == ["fault cut: …"]
    assert picked("verdict:drop") == []
    assert len(show(tape, "-verdict:*", "-by:*")) == 1


def test_stats_count_verdicts(show):
    tape = [
        *post(1, 0, CALL),
        verdict(1, 1, "hold", "pause", CALL),
        verdict(2, 1, "scrub", "modify", CALL),
        verdict(3, 1, "scrub", "modify", CALL),
        verdict(4, 1, "watch", "block", CALL, mode="audit"),
        *reply(1, 5, [RESULT], JSON),
    ]
    lines = [line.split() for line in show(tape, command="stats")]
    assert lines[2:6] == [
        ["by", "verdict", "count"],
        ["scrub", "modify", "2"],
        ["hold", "pause", "1"],
        ["watch", "block", "(audit)", "1"],
    ]
    (found,) = map(json.loads, show(tape, "--json", command="stats"))
    assert found["verdicts"][0] == {"by": "scrub", "verdict": "modify", "mode": "enforce", "count": 2}
    assert "verdict" not in " ".join(show(post(1, 0, CALL), command="stats"))


def test_a_verdict_behind_the_end_of_its_exchange_is_no_exchange_of_its_own(show):
    late = verdict(9, 1, "hold", "drop", CALL)
    tape = [*post(1, 0, CALL), *reply(1, 1, [RESULT], JSON), late]
    assert said(show(tape))[-1].endswith("· dropped by hold")
    assert show(tape, command="verify") == ["whole · 1 exchanges, 6 records"]


def test_what_a_verdict_says_does_not_steer_the_terminal(show):
    evil = "\x1b]0;owned\x07\u202e"
    tape = [
        *post(1, 0, CALL),
        verdict(1, 1, evil, evil, CALL, reason=evil),
        Note(at(2), 1, evil, {"by": evil}),
        *reply(1, 3, [event(1, method=evil)], EVENTS, how="killed"),
    ]
    for command in ("show", "stats"):
        assert not set("".join(show(tape, command=command))) & set("\x1b\x07\u202e")
