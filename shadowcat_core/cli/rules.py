"""`shadowcat rules`: check rules files, and run the tests that they carry."""

from collections.abc import Sequence
from pathlib import Path

import click

from shadowcat_core.cli.group import complain
from shadowcat_core.errors import RulesError
from shadowcat_core.interceptors.rules import RuleSet, RulesFile, load_rules
from shadowcat_core.interceptors.rules.trial import Outcome, try_rules
from shadowcat_core.jsonrpc import Json, dump
from shadowcat_core.transcript import printable

INVALID, FAILED, UNTRIED = 3, 4, 5

files = click.argument(
    "paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


@click.group()
def rules() -> None:
    """Check rules files, and run the tests that they carry."""


@rules.command()
@files
@as_json
def check(*, paths: Sequence[Path], as_json: bool) -> None:
    """Check that rules files can be used.

    Exit status: 0 all of them can; 3 at least one cannot, and stderr names the lines and what would be allowed there.
    """
    objects: list[Json] = []
    for path in paths:
        file = _loaded(path, objects)
        if file is not None:
            objects.append(_about(path, file))
            if not as_json:
                click.echo(f"{path}: {_counted(len(file.rules), 'rule')}, {_counted(len(file.tests), 'test')}")
    if as_json:
        click.echo(dump(objects))
    if any(isinstance(each, dict) and each.get("problems") for each in objects):
        click.get_current_context().exit(INVALID)


@rules.command()
@files
@click.option(
    "--seed", type=int, default=0, show_default=True, help="For rules with a probability, where a file has none."
)
@as_json
def test(*, paths: Sequence[Path], seed: int, as_json: bool) -> None:
    """Run the tests in rules files, through the pipeline that the proxy runs.

    Exit status: 0 all passed; 3 a file cannot be used; 4 a test failed; 5 a file has no tests. The smallest counts.
    """
    objects: list[Json] = []
    statuses: list[int] = []
    for path in paths:
        file = _loaded(path, objects)
        if file is None:
            statuses.append(INVALID)
            continue
        outcomes = try_rules(file, seed)
        untried = _untried(file, outcomes)
        failed = [outcome for outcome in outcomes if outcome.differences]
        statuses += [FAILED] if failed else [] if outcomes else [UNTRIED]
        about = _about(path, file)
        about["tests"] = [
            {"name": outcome.name, "passed": not outcome.differences, "differences": list(outcome.differences)}
            for outcome in outcomes
        ]
        about["untried"] = list(untried)
        objects.append(about)
        if not as_json:
            _print(path, outcomes, untried)
    if as_json:
        click.echo(dump(objects))
    if statuses:
        click.get_current_context().exit(min(statuses))


def _loaded(path: Path, objects: list[Json]) -> RulesFile | None:
    """Load a file and compile its rules; None, after saying why, when it cannot be used."""
    try:
        file = load_rules(path)
    except RulesError as error:
        for line in str(error).splitlines():
            complain(printable(line))
        problems: list[Json] = [{"line": at, "field": field, "message": text} for at, field, text in error.problems]
        objects.append({"path": str(path), "problems": problems})
        return None
    RuleSet(file)
    return file


def _about(path: Path, file: RulesFile) -> dict[str, Json]:
    rules: list[Json] = [{"name": rule.name, "mode": rule.mode} for rule in file.rules]
    return {"path": str(path), "mode": file.mode, "rules": rules, "tests": len(file.tests), "problems": []}


def _untried(file: RulesFile, outcomes: Sequence[Outcome]) -> list[str]:
    """The rules that no test made decide."""
    tried = frozenset[str]().union(*(outcome.hits for outcome in outcomes))
    return [rule.name for rule in file.rules if rule.name is not None and rule.name not in tried]


def _print(path: Path, outcomes: Sequence[Outcome], untried: Sequence[str]) -> None:
    for outcome in outcomes:
        mark = click.style("✗", fg="red") if outcome.differences else click.style("✓", fg="green")
        click.echo(f"{mark} {printable(outcome.name)}")
        for difference in outcome.differences:
            click.echo(f"    {printable(difference)}")
    failed = sum(bool(outcome.differences) for outcome in outcomes)
    click.echo(f"{path}: {_counted(len(outcomes), 'test')}, {failed} failed")
    if untried:
        complain(f"{path}: no test for {', '.join(map(printable, untried))}")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
