"""How a conversation is summed up and shown."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from shadowcat_core.demo.listener import Heard
from shadowcat_core.demo.screen import JsonLines, Terminal
from shadowcat_core.demo.summary import Subject, Summary, Tally
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.transcript import Words, shortened


def heard(
    method: str = "tools/call",
    target: str = "echo",
    *,
    kind: Kind = Kind.RESPONSE,
    era: str = "legacy",
    gist: str = "hi",
    failed: bool = False,
    duration_ms: float | None = 2.0,
    stream: tuple[str, str] | None = None,
    at_ms: float = 1000.0,
) -> Heard:
    asks = kind is Kind.REQUEST
    direction = Direction.CLIENT_TO_SERVER if asks else Direction.SERVER_TO_CLIENT
    answer = "tool error" if failed else "result"
    words = Words(method, "#7", target, gist) if asks else Words(answer, "#7", f"{method} {target}", gist)
    return Heard(at_ms, era, direction, kind, method, 7, target, words, failed, duration_ms, stream)


def summed(*messages: Heard) -> Summary:
    summary = Summary()
    for message in messages:
        summary.add(message)
    return summary


def printed(*messages: Heard, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    screen = Terminal(console)
    for message in messages:
        screen.show(message)
    return text_of(console).splitlines()


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("durations_ms", "p50", "p95", "most"),
    [
        ([5.0], 5, 5, 5),
        ([1.0, 2.0], 1, 2, 2),
        ([3.0, 1.0, 2.0], 2, 3, 3),
        ([float(n) for n in range(1, 101)], 50, 95, 100),
        ([], 0, 0, 0),
    ],
)
def test_quantiles_are_durations_that_were_measured(durations_ms: list[float], p50: float, p95: float, most: float):
    tally = Tally(durations_ms)
    assert [tally.quantile_ms(fraction) for fraction in (0.5, 0.95, 1)] == [p50, p95, most]


def test_tools_are_counted_one_by_one_and_other_methods_together():
    summary = summed(
        heard("tools/call", "echo"),
        heard("tools/call", "add", failed=True),
        heard("resources/read", "a://1"),
        heard("resources/read", "a://2"),
        heard("resources/read", "a://2", era="modern"),
    )
    assert {subject: (len(tally.durations_ms), tally.failures) for subject, tally in summary.tallies.items()} == {
        Subject("legacy", "tools/call", "echo"): (1, 0),
        Subject("legacy", "tools/call", "add"): (1, 1),
        Subject("legacy", "resources/read"): (2, 0),
        Subject("modern", "resources/read"): (1, 0),
    }
    assert (summary.messages, summary.calls, summary.eras) == (5, 5, {"legacy", "modern"})


def test_events_belong_to_the_request_whose_stream_carried_them():
    progress = heard(
        "notifications/progress", "", kind=Kind.NOTIFICATION, duration_ms=None, stream=("tools/call", "deploy")
    )
    summary = summed(progress, progress, heard("tools/call", "deploy", stream=("tools/call", "deploy")))
    assert summary.tallies[Subject("legacy", "tools/call", "deploy")].events == summary.events == 3


def test_a_line_says_time_arrow_method_id_target_result_and_duration():
    first, second = heard(kind=Kind.REQUEST, duration_ms=None, gist="{}"), heard(at_ms=1002.5, duration_ms=2.5)
    assert [line.split() for line in printed(first, second)[2:]] == [
        ["0.000", "→", "tools/call", "#7", "echo", "{}"],
        ["0.003", "←", "result", "#7", "tools/call", "echo", "hi", "2.5", "ms"],
    ]


def test_each_era_has_a_heading():
    lines = printed(heard(), heard(), heard(era="modern"), heard(era="future"))
    assert [line.split()[0] for line in lines if "──" in line] == ["legacy", "modern", "future"]


def test_a_failure_is_marked_without_the_help_of_colour():
    assert "← tool error #7" in printed(heard(gist="no", failed=True))[-1]


LINE_OF_TEXT = st.text(max_size=300).map(shortened)


@given(method=LINE_OF_TEXT, target=LINE_OF_TEXT, gist=LINE_OF_TEXT, width=st.integers(40, 200))
def test_every_message_is_one_line_that_fits_the_terminal(method: str, target: str, gist: str, width: int):
    lines = printed(heard(method, target, gist=gist), width=width)
    assert len(lines) == 3
    assert cell_len(lines[-1]) <= width
    assert lines[-1].endswith(" 2.0 ms")


@pytest.mark.parametrize("width", [80, 120])
def test_gists_stand_below_each_other(width: int):
    lines = printed(heard(kind=Kind.REQUEST, gist="SAID"), heard("ping", "", gist="SAID"), width=width)[2:]
    assert len({line.index("SAID") for line in lines}) == 1


def test_a_peer_cannot_steer_the_terminal_through_the_summary():
    console = Console(file=io.StringIO(), width=200)
    Terminal(console).conclude(summed(heard("tools/call\x1b[2J", "\x1b]0;x\x07")), Path("a"), 0)
    assert not {"\x1b", "\x07"} & set(text_of(console))


def test_the_summary_ends_with_the_tape_and_what_to_do_with_it():
    console = Console(file=io.StringIO(), width=120)
    Terminal(console).conclude(
        summed(heard(), heard(era="modern", stream=("tools/call", "echo"))), Path("tapes/a.tape.jsonl"), 0
    )
    text = text_of(console)
    assert "2 messages, 2 calls, 1 events on streams" in text
    assert "shadowcat tape show tapes/a.tape.jsonl" in text
    assert "missing" not in text


def test_the_commands_to_try_can_be_pasted_whatever_the_folder_is_called():
    console = Console(file=io.StringIO(), width=120)
    Terminal(console).conclude(summed(heard()), Path("my tapes/a.tape.jsonl"), 0)
    assert "shadowcat tape show 'my tapes/a.tape.jsonl'" in text_of(console)


def test_a_person_is_told_what_runs_where_and_how_to_end_it():
    console = Console(file=io.StringIO(), width=120)
    screen = Terminal(console)
    screen.introduce({"server": "http://127.0.0.1:1/mcp", "proxy": "http://127.0.0.1:2/mcp"})
    screen.invite("http://127.0.0.1:2/mcp")
    introduction, invitation = text_of(console).rstrip().split("\n\n")
    assert [line.split() for line in introduction.splitlines()] == [
        ["server", "http://127.0.0.1:1/mcp"],
        ["proxy", "http://127.0.0.1:2/mcp"],
    ]
    assert "http://127.0.0.1:2/mcp" in invitation
    assert "Ctrl-C" in invitation


def test_missing_records_are_said():
    console = Console(file=io.StringIO(), width=120)
    Terminal(console).conclude(summed(heard()), Path("a"), 3)
    assert "3 records are missing from the tape" in text_of(console)


def test_a_stream_that_no_request_opened_and_no_call_finished_has_a_row_too():
    console = Console(file=io.StringIO(), width=120)
    note = heard("notifications/message", "", kind=Kind.NOTIFICATION, duration_ms=None, stream=("", ""))
    Terminal(console).conclude(summed(note), Path("a"), 0)
    assert ["legacy", "GET", "1"] in [line.split() for line in text_of(console).splitlines()]


def test_json_lines_are_objects_with_a_type():
    console = Console(file=io.StringIO(), width=20)
    screen = JsonLines(console)
    screen.introduce({"proxy": "http://127.0.0.1:1/mcp"})
    screen.show(heard(gist="a long gist that a narrow terminal would cut", stream=("tools/call", "echo")))
    screen.conclude(summed(heard(failed=True)), Path("tapes/a.tape.jsonl"), 1)
    screen.invite("http://127.0.0.1:1/mcp")
    started, message, summary, waiting = map(json.loads, text_of(console).splitlines())
    assert started == {"type": "started", "parts": {"proxy": "http://127.0.0.1:1/mcp"}}
    assert message["type"] == "message"
    assert message["gist"].endswith("would cut")
    assert summary["tape"] == "tapes/a.tape.jsonl"
    assert summary["records_missing"] == 1
    assert summary["methods"] == [
        {
            "era": "legacy",
            "method": "tools/call",
            "tool": "echo",
            "calls": 1,
            "events": 0,
            "failures": 1,
            "p50_ms": 2.0,
            "p95_ms": 2.0,
            "max_ms": 2.0,
        }
    ]
    assert waiting == {"type": "waiting", "url": "http://127.0.0.1:1/mcp"}
