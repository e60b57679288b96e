"""Loads a rules file: read, validated, and every problem told with its line, its field and what would be allowed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shadowcat_core.documents import Document, Format, nearest
from shadowcat_core.errors import DocumentProblem, RulesError
from shadowcat_core.interceptors.rules.models import RulesFile

_FORMAT: Final = Format(RulesFile, RulesError, "a rules file has `rules:` at its top")


def load_rules(path: Path) -> RulesFile:
    """Load a file; every rule has a name afterwards.

    Raises:
        RulesError: it cannot be read or used.
    """
    return _checked(*_FORMAT.load(path))


def parse_rules(raw: bytes, path: Path) -> RulesFile:
    """Read what a file says; `path` is for errors.

    Raises:
        RulesError: it cannot be used.
    """
    return _checked(*_FORMAT.parse(raw, path))


def _checked(document: Document, file: RulesFile) -> RulesFile:
    for number, rule in enumerate(file.rules, 1):
        rule.name = rule.name or f"rule-{number}"
    if problems := list(_contradictions(document, file)):
        raise RulesError(document.path, problems)
    return file


def _contradictions(document: Document, file: RulesFile) -> Iterator[DocumentProblem]:
    """What each part cannot know by itself."""
    names: dict[str | None, int] = {}
    for index, rule in enumerate(file.rules):
        if rule.name in names:
            yield document.problem(
                ("rules", index, "name"), f"{rule.name!r} is the name of rules[{names[rule.name]}] too"
            )
        names.setdefault(rule.name, index)
    for index, case in enumerate(file.tests):
        wanted = case.expect.rule
        if wanted is not None and wanted not in names:
            near = nearest(wanted, [name for name in names if name])
            yield document.problem(("tests", index, "expect", "rule"), f"there is no rule {wanted!r}{near}")
