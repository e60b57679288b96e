"""A kind of file that a person writes: a model of pydantic's, and every mistake told with its line and its field."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from shadowcat_core.documents.document import Document, Where
from shadowcat_core.documents.reading import read_document
from shadowcat_core.errors import DocumentError, DocumentProblem

MAX_PROBLEMS: Final = 50
"""Told of one file; where there are more, it is likely one mistake."""


@dataclass(frozen=True, slots=True)
class Format[M: BaseModel]:
    """Reads files of one kind. `error` is what is raised, `top` what is said of a file that has no fields at all."""

    model: type[M]
    error: type[DocumentError]
    top: str

    def load(self, path: Path) -> tuple[Document, M]:
        """Load a file.

        Raises:
            DocumentError: as `error`: it cannot be read or used.
        """
        try:
            raw = path.read_bytes()
        except OSError as exc:
            raise self.error(path, [DocumentProblem(None, "", exc.strerror or str(exc))]) from exc
        return self.parse(raw, path)

    def parse(self, raw: bytes, path: Path) -> tuple[Document, M]:
        """Read what a file says; `path` is for errors, and its suffix tells the language.

        Raises:
            DocumentError: as `error`: it cannot be used.
        """
        try:
            document = read_document(raw, path)
        except DocumentError as exc:
            raise self.error(path, exc.problems) from exc.__cause__
        if not isinstance(document.data, dict):
            raise self.error(path, [DocumentProblem(document.line(()), "", self.top)])
        try:
            return document, self.model.model_validate(document.data)
        except ValidationError as exc:
            problems = [self._problem(document, error) for error in exc.errors(include_url=False)]
            left = len(problems) - MAX_PROBLEMS
            more = [DocumentProblem(None, "", f"and {left:,} more problems")] if left > 0 else []
            raise self.error(path, [*problems[:MAX_PROBLEMS], *more]) from None

    def _problem(self, document: Document, error: Any) -> DocumentProblem:
        where: Where = tuple(error["loc"])
        message = str(error["msg"])
        kind: str = error["type"]
        match kind:
            case "extra_forbidden":
                allowed = self._allowed(where[:-1])
                message = f"unknown field{nearest(str(where[-1]), allowed)}; allowed: {', '.join(allowed)}"
            case "missing":
                message = f"the field {where[-1]!r} is missing"
            case "literal_error":
                allowed = message.split("'")[1::2]
                message = f"{error['input']!r} is not allowed{nearest(str(error['input']), allowed)}; allowed: " + (
                    ", ".join(allowed) or message.removeprefix("Input should be ")
                )
            case "model_type":
                message = f"fields are expected here: {', '.join(self._allowed(where))}"
            case "value_error":
                message = str(error["ctx"]["error"])
            case _:
                pass
        return document.problem(tuple(_steps(document, where)), message[:1].lower() + message[1:])

    def _allowed(self, where: Where) -> list[str]:
        """The names of the fields at a place of the format."""
        models: list[type[BaseModel]] = [self.model]
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


def nearest(word: str, known: Sequence[str]) -> str:
    """Ask whether one of the known words was meant; empty when none is near."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


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


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
