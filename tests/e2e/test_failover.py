"""Servers that are killed every few seconds under many sessions of the official SDK: no client notices more than an
error that says what may have run."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.failover import Course, Setting, run, together
from tests.e2e.failover_findings import Findings, text_of

pytestmark = pytest.mark.partner

SMALL = Course(seconds=0.0, turns=(("A",), ("B", "A")), down_s=0.3, up_s=(0.4, 0.6))
"""As long as its kills take."""
VARIANTS = {
    setting.name: setting
    for setting in (
        Setting("answers in JSON", flags=("--json",), sessions=30),
        Setting("resumable streams", flags=("--resumable",), sessions=10),
        Setting("server-everything", servers=("npm", "npm"), sessions=10),
    )
}


def hold_against(folder: Path, setting: Setting, course: Course) -> Findings:
    """Run it through the proxy; whatever must not happen did not."""
    findings = run(folder, setting, "shadowcat", course)
    said = text_of({setting.name: findings})
    print(said)
    assert set(findings.kills) == {together(turn) for turn in course.turns}, said
    assert findings.outcomes["ok"] > len(findings.people), said
    problems = findings.problems()
    assert not problems, "\n".join([said, *problems])
    return findings


def test_fifty_sessions_of_both_sdks_outlive_servers_that_are_killed(tmp_path: Path, sdk1: None):
    hold_against(tmp_path, Setting("two SDK servers"), Course(seconds=20.0))


@pytest.mark.parametrize("name", VARIANTS)
def test_sessions_outlive_servers_of_every_kind_that_are_killed(tmp_path: Path, sdk1: None, npm: None, name: str):
    findings = hold_against(tmp_path, VARIANTS[name], SMALL)
    if not VARIANTS[name].progress:  # no answer begins before its end: what was killed while it ran is sent again
        assert findings.run_again


def test_without_the_proxy_sessions_are_lost(tmp_path: Path, sdk1: None):
    findings = run(tmp_path, Setting("two SDK servers", sessions=10), "direct", replace(SMALL, turns=(("A",), ("B",))))
    assert len(findings.lost) >= 5, text_of({"direct": findings})
