"""The `shadowcat` group: help, version, and how errors are said."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from shadowcat_core import __version__
from shadowcat_core.cli import main
from shadowcat_core.cli.group import LazyGroup, MissingProgramError
from shadowcat_core.errors import ShadowcatError

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def run(*arguments: str, command: click.Command = main) -> Result:
    return CliRunner().invoke(command, arguments)


def every_command(command: click.Command = main, path: str = "shadowcat") -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            found += every_command(subcommand, f"{path} {name}")
    return found


COMMANDS = every_command()
OPTIONS = [
    (path, option)
    for path, command in COMMANDS
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for option in (*parameter.opts, *parameter.secondary_opts)
]


def test_the_version_is_the_packages():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"shadowcat, version {__version__}\n")


def test_help_lists_every_subcommand_with_examples_and_exit_statuses():
    result = run("--help")
    assert result.exit_code == 0
    for word in ("demo", "dump", "tape", "web", "Examples:", "127"):
        assert word in result.stdout
    assert "..." not in result.stdout.split("Commands:")[1].split("Examples:")[0], "a summary is cut off"


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_explains_itself(path: str, command: click.Command):
    result = run(*path.split()[1:], "--help")
    assert result.exit_code == 0
    assert command.help, f"{path} says nothing about itself"
    assert command.help.splitlines()[0].endswith("."), f"{path}: its help begins with one sentence"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.name} has no help"


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS])
def test_every_command_is_a_heading_of_the_manual(path: str):
    assert re.search(rf"^#+ `{path}`$", DOCS.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("path", "option"), OPTIONS)
def test_every_option_is_in_its_commands_part_of_the_manual(path: str, option: str):
    section = re.search(rf"^#+ `{path}`$(.*?)(?=^#|\Z)", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    assert f"`{option}" in section[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope'"),
        (["--nope"], "No such option"),
        (["dump", "--nope"], "mitmproxy's own options go after --"),
        (["web", "--listen", "here"], "HOST:PORT"),
        (["web", "--upstream", "localhost:3001/mcp"], "http://127.0.0.1:3001/mcp"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_to_do_on_stderr(arguments: list[str], says: str):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr
    assert "--help" in result.stderr
    assert all(line.startswith("shadowcat: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize("arguments", [[], ["tape"]])
def test_a_group_without_a_command_shows_its_help_and_ends_with_2(arguments: list[str]):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: shadowcat")


def ended() -> None:
    """Leave early."""
    click.get_current_context().exit(5)


def answered() -> str:
    """Answer with something that is no status."""
    return "an answer"


def failed() -> None:
    """Fail as the core does."""
    raise ShadowcatError("tapes/a.jsonl: line 7: not JSON")


def missing() -> None:
    """Miss a program."""
    raise MissingProgramError("nothing to run")


def stopped() -> None:
    """Be stopped by the person."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "status", "stderr"),
    [
        ("ended", 5, ""),
        ("answered", 0, ""),
        ("failed", 1, "shadowcat: tapes/a.jsonl: line 7: not JSON\n"),
        ("missing", 127, "shadowcat: nothing to run\n"),
        ("stopped", 130, "\nshadowcat: stopped\n"),
    ],
)
def test_every_way_to_end_has_its_status(name: str, status: int, stderr: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), name, click.command(globals()[name]))
    group = LazyGroup("shadowcat", commands_at={name: f"{__name__}:{name}"})
    result = run(name, command=group)
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", stderr)


def test_a_bug_is_not_hidden_behind_a_message():
    group = LazyGroup("shadowcat", commands_at={"bug": "tests.core.no_such_module:bug"})
    assert isinstance(run("bug", command=group).exception, ModuleNotFoundError)


def test_other_code_can_call_the_group_and_get_its_errors():
    with pytest.raises(click.UsageError):
        main(["nope"], standalone_mode=False)
