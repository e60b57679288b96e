"""The tests in a rules file run through the real pipeline, take no time, and say what differed."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from shadowcat_core.interceptors.rules import models, parse_rules
from shadowcat_core.interceptors.rules.templates import _ENVIRONMENT, VALUES
from shadowcat_core.interceptors.rules.trial import Outcome, try_rules
from tests.core.rule_parts import CALL, RESULT, file_of

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
(EXAMPLE,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)

RULES = [
    {"name": "no", "when": {"target": "echo"}, "do": {"block": "no"}},
    {"name": "dry", "when": {"method": "audited"}, "do": {"block": "no"}, "mode": "audit"},
    {"name": "late", "when": {"method": "late"}, "do": {"delay": 3600}},
    {"name": "held", "when": {"method": "held"}, "do": {"pause": {"timeout_s": 3600, "on_timeout": {"mock": {}}}}},
    {"name": "yes", "when": {"method": "yes"}, "do": "continue"},
    {"name": "bad", "when": {"method": "bad"}, "do": {"block": "{{ params.none }}"}},
    {"name": "third", "when": {"method": "count", "nth": 3}, "do": {"mock": {"result": {}}}},
    {"name": "seldom", "when": {"method": "chance", "probability": 0.5}, "do": {"mock": {"result": {}}}},
    {"name": "context", "when": {"session": "s", "server": "u", "header": {"h": "v"}, "transport": "stdio"},
     "do": {"inject": {"after": {"method": "after"}}}},
    {"name": "answer", "when": {"kind": "response", "method": "tools/call"},
     "do": {"modify": {"set": {"/result": "{{ target }}"}}}},
]  # fmt: skip
RULES[3]["do"]["pause"]["on_timeout"]["mock"]["result"] = {}


def outcome(case, seed=0, **more):
    (found,) = try_rules(file_of(*RULES, tests=[case], **more), seed)
    return found


def asked(method, **more):
    return {"given": {"id": 1, "method": method}, **more}


@pytest.mark.parametrize(
    "case",
    [
        {"given": CALL, "expect": "block"},
        {"given": CALL, "expect": {"rule": "no", "sent": []}},
        {"given": CALL, "expect": {"replied": {"id": 1, "error": {"code": -31010, "message": "no (rule no)"}}}},
        asked("other", expect={"verdict": "continue", "rule": None, "replied": None}),
        asked("other", expect={"sent": {"id": 1, "method": "other"}}),
        asked("audited", expect={"verdict": "block", "rule": "dry", "sent": {"id": 1, "method": "audited"}}),
        asked("late", expect={"verdict": "delay", "rule": "late", "sent": {"id": 1, "method": "late"}}),
        asked("held", expect={"verdict": "pause", "sent": [], "replied": {"id": 1, "result": {}}}),
        asked("yes", expect={"verdict": "continue", "rule": "yes"}),
        asked("bad", expect={"verdict": "fail", "rule": "bad"}),
        asked("count", times=3, expect="mock"),
        asked("count", times=4, expect="continue"),
        {"given": [{"method": "count"}] * 2, "times": 2, "expect": "continue"},
        {"given": [{"id": 9, "method": "other"}, CALL], "expect": "block"},
        {
            **asked("x", session="s", server="u", headers={"H": "v"}, transport="stdio"),
            "expect": {"verdict": "inject", "sent": [{"id": 1, "method": "x"}, {"method": "after"}]},
        },
        {"given": RESULT, "answers": CALL, "expect": {"verdict": "modify", "sent": {"id": 1, "result": "echo"}}},
        {"given": RESULT, "expect": "continue"},
        {"given": {"id": 1, "result": {}}, "direction": "c2s", "answers": CALL, "expect": "modify"},
    ],
)
def test_a_test_that_is_right_passes(case):
    assert outcome(case).differences == ()


@pytest.mark.parametrize(
    ("case", "differences"),
    [
        ({"given": CALL, "expect": "continue"}, ["verdict: expected continue, got block"]),
        ({"given": CALL, "expect": {"rule": "yes"}}, ["rule: expected yes, got no"]),
        ({"given": CALL, "expect": {"rule": None}}, ["rule: expected none, got no"]),
        (asked("other", expect={"rule": "no"}), ["rule: expected no, got none"]),
        (
            {"given": {"id": 1, "method": "x"}, "expect": {"sent": [], "replied": {"id": 1}}},
            [
                'sent: expected [], got [{"jsonrpc":"2.0","id":1,"method":"x"}]',
                'replied: expected {"jsonrpc":"2.0","id":1}, got null',
            ],
        ),
        (
            asked("bad", expect="block"),
            ["verdict: expected block, got fail (rule bad: there is no 'params' in {{ params.none }})"],
        ),
    ],
)
def test_a_test_that_is_wrong_says_what_differed(case, differences):
    assert list(outcome(case).differences) == differences


def test_an_outcome_has_the_name_of_its_test_and_the_rules_that_decided():
    assert outcome({"given": CALL, "expect": "block"}) == Outcome("test-1", (), frozenset({"no"}))
    assert outcome({"name": "n", "given": CALL, "expect": "block"}).name == "n"
    assert outcome(asked("other", expect="continue")).hits == frozenset()


def test_chance_in_a_test_depends_on_the_seed_alone():
    said = {seed: bool(outcome(asked("chance", expect="mock"), seed).differences) for seed in range(20)}
    assert set(said.values()) == {True, False}
    assert said == {seed: bool(outcome(asked("chance", expect="mock"), seed).differences) for seed in range(20)}


# --- The manual --------------------------------------------------------------------------------------------------


def test_the_example_of_the_manual_passes_its_own_tests():
    outcomes = try_rules(parse_rules(EXAMPLE.encode(), Path("docs/rules.md")))
    assert len(outcomes) == 5
    assert [each for each in outcomes if each.differences] == []


@pytest.mark.parametrize(
    ("model", "heading"),
    [
        (models.RulesFile, "The file"),
        (models.Rule, "The file"),
        (models.When, "When"),
        (models.ValueTest, "Values"),
        (models.TextTest, "Texts"),
        (models.SizeTest, "When"),
        (models.Nth, "Counting and chance"),
        (models.Do, "Do"),
        (models.ModifyAction, "Do"),
        (models.BlockAction, "Do"),
        (models.MockAction, "Do"),
        (models.ErrorContent, "Do"),
        (models.DelayAction, "Do"),
        (models.PauseAction, "Do"),
        (models.InjectAction, "Do"),
        (models.Case, "Tests"),
        (models.Expectation, "Tests"),
    ],
)
def test_every_field_is_explained_in_its_part_of_the_manual(model, heading):
    section = re.search(rf"^##+ {heading}$(.*?)(?=^##+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    for name, field in model.model_fields.items():
        assert re.search(rf"`(expect\.)?{field.alias or name}`", section), name


def test_every_name_and_filter_of_templates_is_in_the_manual():
    section = PAGE.split("### Templates")[1].split("## Failures")[0]
    for name in VALUES:
        assert f"`{name}`" in section, name
    filters = re.search(r"filters `([^`]+)`", section)[1].split()
    assert set(filters) == set(_ENVIRONMENT.filters) - {"d"}


def test_outcomes_are_plain_values():
    assert [field.name for field in fields(Outcome)] == ["name", "differences", "hits"]
