"""The pages tell the same story as the code: limits, options, commands, links, and requirements with their proofs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mitmproxy.test import taddons

from shadowcat_addons.suite import Shadowcat
from shadowcat_core import limits
from shadowcat_core.interceptors.faults import parse_toxic

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
LIMITS = {name: value for name, value in vars(limits).items() if isinstance(value, limits.Limit)}


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_documented_with_its_default_and_reason(name):
    limit = LIMITS[name]
    row = f"| `{name}` | {int(limit):,} {limit.unit} | {limit.reason} |"
    assert row in (ROOT / "docs" / "limits.md").read_text(), f"docs/limits.md needs this row:\n{row}"


def mitmdump(flag):
    program = Path(sys.executable).parent / "mitmdump"
    script = ROOT / "addons" / "shadowcat.py"
    return subprocess.run(
        [program, "-s", script, flag], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    ).stdout


def test_every_mitmproxy_option_is_documented_with_its_default():
    page = (ROOT / "docs" / "options.md").read_text()
    options = dict(re.findall(r"^(shadowcat_\w+): (.*)$", mitmdump("--options"), flags=re.MULTILINE))
    assert options
    for name, default in options.items():
        assert f"| `{name}` | `{default}` |" in page, f"docs/options.md needs a row for {name} (default {default})"


def test_every_mitmproxy_command_is_documented():
    page = (ROOT / "docs" / "options.md").read_text()
    with taddons.context(suite := Shadowcat()) as context:
        commands = [name for name in context.master.commands.commands if name.startswith("shadowcat.")]
        suite.done()
    assert commands
    for name in commands:
        assert f"| `{name}` |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def requirement_rows():
    text = (ROOT / "docs" / "requirements.md").read_text()
    return re.findall(r"^\| ([A-E]\d+) \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)


def test_every_requirement_has_a_row():
    wanted = {
        *(f"A{n}" for n in range(1, 14)),
        *(f"C{n}" for n in range(1, 16)),
        *(f"D{n}" for n in range(1, 11)),
        *(f"E{n}" for n in range(1, 12)),
    }
    assert {name for name, _, _ in requirement_rows()} == wanted


@pytest.mark.parametrize(("name", "proof"), [(name, proof) for name, _, proof in requirement_rows()])
def test_a_requirements_proof_exists(name, proof):
    named = re.findall(r"`((?:tests|benches)/[\w/]+\.py)(?:::(\w+))?`", proof)
    assert named or proof.startswith("Open"), f"{name} names no test, no bench, and is not said to be open"
    for file, function in named:
        assert (ROOT / file).exists(), f"{name} names {file}"
        if function:
            defined = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
            assert function in defined, f"{name} names {file}::{function}"


def test_what_the_pages_set_are_options_that_there_are_and_faults_too():
    with taddons.context(suite := Shadowcat()) as context:
        options = set(context.options.keys())
        suite.done()
    for page in PAGES:
        for name, value in re.findall(r"--set\s+'?(shadowcat_\w+)=([^'`\s]*)", page.read_text()):
            assert name in options, f"{page.name} sets {name}"
            if name == "shadowcat_faults":
                assert parse_toxic(value), f"{page.name} sets {value}"
