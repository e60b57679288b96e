"""`shadowcat rules`: files are checked and their tests run, with a status for everything that can be wrong."""

import json

import pytest
from click.testing import CliRunner

from shadowcat_core.cli import main

GOOD = """
rules:
  - {name: no, when: {target: rm}, do: {block: "no"}}
  - {name: dry, when: {method: ping}, do: block, mode: audit}
tests:
  - {name: rm is blocked, given: {id: 1, method: tools/call, params: {name: rm}}, expect: block}
"""
FAILING = GOOD.replace("expect: block", "expect: delay")
UNTRIED = "rules: [{when: {}, do: block}]"
WRONG = "rules:\n  - {when: {methd: x}, do: block}\n"
CHANCE = """
rules: [{when: {probability: 0.5}, do: block}]
tests: [{given: {method: x}, expect: block}]
"""


@pytest.fixture
def run(tmp_path):
    def invoke(command, *texts, options=()):
        paths = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.yaml"
            path.write_text(text)
            paths.append(str(path))
        return CliRunner().invoke(main, ["rules", command, *paths, *options])

    return invoke


def test_check_says_what_a_file_holds(run, tmp_path):
    result = run("check", GOOD, UNTRIED)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path}/0.yaml: 2 rules, 1 test\n{tmp_path}/1.yaml: 1 rule, 0 tests\n"


def test_check_tells_problems_on_stderr_and_ends_with_3(run, tmp_path):
    result = run("check", WRONG, GOOD)
    assert result.exit_code == 3
    assert result.stdout == f"{tmp_path}/1.yaml: 2 rules, 1 test\n"
    assert result.stderr.startswith(
        f"shadowcat: {tmp_path}/0.yaml:2: rules[0].when.methd: unknown field; did you mean 'method'?"
    )


def test_check_prints_json(run, tmp_path):
    result = run("check", GOOD, WRONG, options=["--json"])
    good, wrong = json.loads(result.stdout)
    assert result.exit_code == 3
    assert good == {
        "path": f"{tmp_path}/0.yaml",
        "mode": "enforce",
        "rules": [{"name": "no", "mode": "enforce"}, {"name": "dry", "mode": "audit"}],
        "tests": 1,
        "problems": [],
    }
    assert wrong["problems"][0]["line"] == 2
    assert wrong["problems"][0]["field"] == "rules[0].when.methd"
    assert wrong["problems"][0]["message"].startswith("unknown field")


def test_test_runs_tests_and_names_rules_that_none_tried(run, tmp_path):
    result = run("test", GOOD)
    assert result.exit_code == 0
    assert result.stdout == f"✓ rm is blocked\n{tmp_path}/0.yaml: 1 test, 0 failed\n"
    assert result.stderr == f"shadowcat: {tmp_path}/0.yaml: no test for dry\n"


def test_a_failed_test_says_what_differed(run, tmp_path):
    result = run("test", FAILING)
    assert result.exit_code == 4
    assert result.stdout == (
        f"✗ rm is blocked\n    verdict: expected delay, got block\n{tmp_path}/0.yaml: 1 test, 1 failed\n"
    )


@pytest.mark.parametrize(
    ("texts", "status"),
    [
        ([GOOD], 0),
        ([WRONG], 3),
        ([FAILING], 4),
        ([UNTRIED], 5),
        ([GOOD, UNTRIED], 5),
        ([UNTRIED, FAILING], 4),
        ([FAILING, WRONG, GOOD], 3),
    ],
)
def test_the_smallest_status_counts(run, texts, status):
    assert run("test", *texts).exit_code == status


def test_test_prints_json(run, tmp_path):
    result = run("test", FAILING, WRONG, options=["--json"])
    failing, wrong = json.loads(result.stdout)
    assert failing["tests"] == [
        {"name": "rm is blocked", "passed": False, "differences": ["verdict: expected delay, got block"]}
    ]
    assert failing["untried"] == ["dry"]
    assert wrong["problems"]


def test_the_seed_decides_about_chance(run):
    statuses = {seed: run("test", CHANCE, options=["--seed", str(seed)]).exit_code for seed in range(10)}
    assert set(statuses.values()) == {0, 4}


def test_control_characters_of_a_file_do_not_reach_the_terminal(run):
    result = run("test", GOOD.replace("rm is blocked", '"a\\e[2Jb"'))
    assert "\x1b" not in result.stdout
    assert "\x1b" not in run("check", 'rules: ["\\e[2J"]').stderr


@pytest.mark.parametrize(
    ("arguments", "says"), [(["check"], "Missing argument"), (["test", "nowhere.yaml"], "does not exist")]
)
def test_a_wrong_command_line_ends_with_2(arguments, says):
    result = CliRunner().invoke(main, ["rules", *arguments])
    assert result.exit_code == 2
    assert says in result.stderr
