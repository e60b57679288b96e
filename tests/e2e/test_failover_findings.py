"""The judge of the failover tests: it is silent when all went well, and notices each thing that did not."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.e2e.failover_findings import GIVEN_UP, Findings, text_of

type Run = dict[str, Any]


def call(name: str, tool: str, outcome: str = "ok", **more: Any) -> dict[str, Any]:
    progress = [1, 2, 3, 4] if outcome == "ok" else []
    plain = {"code": None, "message": None, "may_have_run": None, "progress": progress, "ms": 200}
    return {"id": name, "tool": tool, "outcome": outcome} | plain | more


def entries(name: str, tool: str, *what: str) -> list[dict[str, Any]]:
    return [{"server": "A", "pid": 1, "session": "s", "call": name, "tool": tool, "what": each} for each in what]


NOT_RUN = {"code": -31001, "message": "not reached", "may_have_run": False}
PERHAPS_RUN = {"code": -31002, "message": "closed", "may_have_run": True}
BEGUN = PERHAPS_RUN | {"message": f"MCP server A broke off; then {GIVEN_UP}: B"}

WELL: Run = {
    "people": {
        "p": {
            "works": True,
            "lost": [],
            "refused": [],
            "news": [["one", 1], ["one", 2], ["two", 1], ["two", 2]],
            "statuses": {"POST 200": 6},
            "calls": [
                call("p-0", "transfer"),
                call("p-1", "look"),
                call("p-2", "transfer", "error", **NOT_RUN),
                call("p-3", "transfer", "error", **PERHAPS_RUN, progress=[1, 2]),
                call("p-4", "transfer", "error", **PERHAPS_RUN),
                call("p-5", "look"),
                call("p-6", "look", "error", **NOT_RUN, ms=30_000),
                call("p-7", "look", "error", **BEGUN, ms=30_000),
            ],
        }
    },
    "entries": [
        *entries("p-0", "transfer", "begin", "end"),
        *entries("p-1", "look", "begin", "begin", "end"),
        *entries("p-3", "transfer", "begin"),
        *entries("p-5", "look", "begin", "end"),
    ],
    "kills": {"A": 1},
    "progress": [1, 2, 3, 4],
    "patience_s": 30.0,
}

WRONG: dict[str, tuple[Callable[[Run], object], str]] = {
    "a lost session": (lambda run: run["people"]["p"]["lost"].append("gone"), "sessions were lost: p: gone"),
    "a refused session": (lambda run: run["people"]["p"]["refused"].append("no"), "sessions did not begin: p: no"),
    "a dead session": (lambda run: run["people"]["p"].update(works=False), "sessions do not work in the end: p"),
    "an unsafe call run twice": (
        lambda run: run["entries"].extend(entries("p-0", "transfer", "begin")),
        "unsafe calls ran twice: p-0",
    ),
    "a run that was denied": (
        lambda run: run["entries"].extend(entries("p-2", "transfer", "begin")),
        "calls ran, and were said not to: p-2",
    ),
    "a success without a run": (
        lambda run: run["entries"].remove(entries("p-5", "look", "end")[0]),
        "calls succeeded and never ran: p-5",
    ),
    "a safe call that was not sent again": (
        lambda run: run["people"]["p"]["calls"][1].update(call("p-1", "look", "error", **PERHAPS_RUN)),
        "safe calls failed, and could have been sent again: p-1: -31002 closed",
    ),
    "a safe call that was not waited with": (
        lambda run: run["people"]["p"]["calls"][6].update(ms=29_999),
        "safe calls failed, and could have been sent again: p-6: -31001 not reached",
    ),
    "a safe call that may have run, and was waited with": (
        lambda run: run["people"]["p"]["calls"][6].update(PERHAPS_RUN),
        "safe calls failed, and could have been sent again: p-6: -31002 closed",
    ),
    "a safe call whose answer had begun, and that was not waited with": (
        lambda run: run["people"]["p"]["calls"][7].update(ms=29_999),
        f"safe calls failed, and could have been sent again: p-7: -31002 {BEGUN['message']}",
    ),
    "a safe call whose answer had begun, and that was not sent again": (
        lambda run: run["people"]["p"]["calls"][7].update(message="MCP server A broke off"),
        "safe calls failed, and could have been sent again: p-7: -31002 MCP server A broke off",
    ),
    "silence": (
        lambda run: run["people"]["p"]["calls"][4].update(outcome="silent"),
        "calls had no answer: p-4",
    ),
    "an error that says nothing": (
        lambda run: run["people"]["p"]["calls"][4].update(may_have_run=None),
        "calls failed without saying whether they ran: p-4: -31002 closed",
    ),
    "somebody else's error": (
        lambda run: run["people"]["p"]["calls"][4].update(code=-32603),
        "calls failed without saying whether they ran: p-4: -32603 closed",
    ),
    "no progress at the end": (
        lambda run: run["people"]["p"]["calls"][0]["progress"].pop(),
        "calls lack progress: p-0: [1, 2, 3]",
    ),
    "a gap in a failed call's progress": (
        lambda run: run["people"]["p"]["calls"][3]["progress"].pop(0),
        "calls lack progress: p-3: [2]",
    ),
    "progress twice": (
        lambda run: run["people"]["p"]["calls"][0]["progress"].append(4),
        "calls heard of progress twice or in disorder: p-0: [1, 2, 3, 4, 4]",
    ),
    "progress in disorder": (
        lambda run: run["people"]["p"]["calls"][0]["progress"].reverse(),
        "calls heard of progress twice or in disorder: p-0: [4, 3, 2, 1]",
    ),
    "a gap in the news": (
        lambda run: run["people"]["p"]["news"].append(["one", 4]),
        "events of the server's own are missing: p: 2 then 4",
    ),
    "news twice": (
        lambda run: run["people"]["p"]["news"].append(["two", 2]),
        "events of the server's own came twice or in disorder: p: 2 then 2",
    ),
}


def test_nothing_is_said_of_a_run_in_which_all_went_well():
    assert Findings(**WELL).problems() == []


@pytest.mark.parametrize("what", WRONG)
def test_each_thing_that_must_not_happen_is_noticed(what: str):
    run = deepcopy(WELL)
    change, said = WRONG[what]
    change(run)
    assert [problem.partition(" ")[2] for problem in Findings(**run).problems()] == [said]


def test_the_safe_calls_that_ran_again_are_counted_apart_from_the_unsafe_ones_that_ran_twice():
    run = deepcopy(WELL)
    run["entries"].extend(entries("p-3", "transfer", "begin"))
    findings = Findings(**run)
    assert (findings.run_again, findings.run_twice) == (["p-1"], ["p-3"])


def test_a_call_that_ended_with_its_session_is_counted_and_the_session_is_the_problem():
    run = deepcopy(WELL)
    run["people"]["p"]["calls"][4].update(outcome="lost", code=None, may_have_run=None)
    run["people"]["p"]["lost"].append("gone")
    findings = Findings(**run)
    assert findings.outcomes["lost with its session"] == 1
    assert findings.problems() == ["1 sessions were lost: p: gone"]


def test_the_safe_calls_that_were_answered_in_spite_of_a_kill_are_counted():
    run = deepcopy(WELL)
    run["entries"].extend(entries("p-7", "look", "begin", "begin"))
    findings = Findings(**run)
    assert (findings.safe_answered, findings.run_again) == (["p-1"], ["p-1", "p-7"])


def test_the_table_shows_runs_side_by_side_and_the_errors_below():
    lines = text_of({"with": Findings(**WELL), "without": Findings(**WELL | {"entries": None})}).splitlines()
    row = next(line for line in lines if "unsafe calls that ran twice" in line)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["0", ""]
    assert "with: 2 × -31002 closed" in lines
