"""What a file says: plain JSON values, and on which line, counted from 1, each of them stands."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shadowcat_core.errors import DocumentError, DocumentProblem
from shadowcat_core.jsonrpc import Json

type Where = tuple[str | int, ...]
"""The way to a value: names and indices, from the top of the document."""


@dataclass(slots=True)
class Document:
    """What a file says; the line of a value is that of its name where it has one."""

    path: Path
    data: Json = None
    lines: dict[Where, int] = field(default_factory=dict)

    def line(self, where: Sequence[str | int]) -> int | None:
        """The line of a value, or of the nearest one around it."""
        way = tuple(where)
        while way and way not in self.lines:
            way = way[:-1]
        return self.lines.get(way)

    def error(self, line: int | None, what: str) -> DocumentError:
        """Make the error that says what is wrong on a line."""
        return DocumentError(self.path, [DocumentProblem(line, "", what)])

    def problem(self, where: Sequence[str | int], what: str) -> DocumentProblem:
        """Say what is wrong with a value."""
        return DocumentProblem(self.line(where), field_name(where), what)


def field_name(where: Sequence[str | int]) -> str:
    """Write the way to a value as a person would: `rules[3].when.method`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".")
