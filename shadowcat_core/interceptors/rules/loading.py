"""Loads a rules file: read, validated, and every problem told with its line, its field and what would be allowed."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from shadowcat_core.errors import RulesError, RulesProblem
from shadowcat_core.interceptors.rules.document import Document, Where, read_document
from shadowcat_core.interceptors.rules.models import RulesFile

MAX_PROBLEMS: Final = 50
"""Told of one file; where there are more, it is likely one mistake."""


def load_rules(path: Path) -> RulesFile:
    """Load a file; every rule has a name afterwards.

    Raises:
        RulesError: it cannot be read or used.
    """
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise RulesError(path, [RulesProblem(None, "", exc.strerror or str(exc))]) from exc
    return parse_rules(raw, path)


def parse_rules(raw: bytes, path: Path) -> RulesFile:
    """Read what a file says; `path` is for errors.

    Raises:
        RulesError: it cannot be used.
    """
    document = read_document(raw, path)
    if not isinstance(document.data, dict):
        raise RulesError(path, [RulesProblem(document.line(()), "", "a rules file has `rules:` at its top")])
    try:
        file = RulesFile.model_validate(document.data)
    except ValidationError as exc:
        problems = [_problem(document, error) for error in exc.errors(include_url=False)]
        left = len(problems) - MAX_PROBLEMS
        more = [RulesProblem(None, "", f"and {left:,} more problems")] if left > 0 else []
        raise RulesError(path, [*problems[:MAX_PROBLEMS], *more]) from None
    for number, rule in enumerate(file.rules, 1):
        rule.name = rule.name or f"rule-{number}"
    if problems := list(_contradictions(document, file)):
        raise RulesError(path, problems)
    return file


def _contradictions(document: Document, file: RulesFile) -> Iterator[RulesProblem]:
    """What each part cannot know by itself."""
    names: dict[str | None, int] = {}
    for index, rule in enumerate(file.rules):
        if rule.name in names:
            where: Where = ("rules", index, "name")
            other = f"rules[{names[rule.name]}]"
            yield RulesProblem(document.line(where), _field(where), f"{rule.name!r} is the name of {other} too")
        names.setdefault(rule.name, index)
    for index, case in enumerate(file.tests):
        wanted = case.expect.rule
        if wanted is not None and wanted not in names:
            where = ("tests", index, "expect", "rule")
            near = _nearest(wanted, [name for name in names if name])
            yield RulesProblem(document.line(where), _field(where), f"there is no rule {wanted!r}{near}")


def _problem(document: Document, error: Any) -> RulesProblem:
    where: Where = tuple(error["loc"])
    way = tuple(_steps(document, where))
    message = str(error["msg"])
    kind: str = error["type"]
    match kind:
        case "extra_forbidden":
            allowed = _allowed(where[:-1])
            message = f"unknown field{_nearest(str(where[-1]), allowed)}; allowed: {', '.join(allowed)}"
        case "missing":
            message = f"the field {where[-1]!r} is missing"
        case "literal_error":
            allowed = message.split("'")[1::2]
            message = f"{error['input']!r} is not allowed{_nearest(str(error['input']), allowed)}; allowed: " + (
                ", ".join(allowed) or message.removeprefix("Input should be ")
            )
        case "model_type":
            message = f"fields are expected here: {', '.join(_allowed(where))}"
        case "value_error":
            message = str(error["ctx"]["error"])
        case _:
            pass
    return RulesProblem(document.line(way), _field(way), message[:1].lower() + message[1:])


def _steps(document: Document, where: Where) -> Iterator[str | int]:
    """The part of a way that the document has: pydantic puts remarks of its own into it."""
    value = document.data
    for step in where:
        if isinstance(value, dict) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        yield step


def _field(where: Where) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".")


def _allowed(where: Where) -> list[str]:
    """The names of the fields at a place of the format."""
    models: list[type[BaseModel]] = [RulesFile]
    for step in where:
        inner = [
            found
            for model in models
            for name, field in model.model_fields.items()
            if (field.alias or name) == step
            for found in _models_in(field.annotation)
        ]
        models = inner or models
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _nearest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
