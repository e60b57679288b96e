"""Reads TOML 1.0 into a document, and finds the lines of its tables and keys.

The standard library's parser keeps no positions, so lines are found beside it: a key at the beginning of a line, and a
table's header, are found exactly; what stands inside an inline table or an array has the line of the key before it.
Dates and times are text. Source: toml.io, version 1.0.0.
"""

import math
import re
import tomllib
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Final

from shadowcat_core.documents.document import Document, Where
from shadowcat_core.errors import DocumentError
from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_VALUES

_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY: Final = rf"[ \t]*(?P<key>{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*)[ \t]*"
_ASSIGNMENT: Final = re.compile(rf"{_KEY}=")
_HEADER: Final = re.compile(rf"[ \t]*(?P<open>\[\[?){_KEY}\]")
_PART: Final = re.compile(_NAME)
_LONG_QUOTE: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*''', re.DOTALL
)
_AT_LINE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def read_toml(text: str, document: Document) -> None:
    """Fill a document from its text.

    Raises:
        DocumentError: no TOML, too many values or too deep, or something that JSON cannot say.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message = str(exc)
        at = _AT_LINE.search(message)
        line = None if at is None else int(at[1] or text.count("\n") + 1)
        raise document.error(line, f"not TOML: {_AT_LINE.sub('', message)}") from exc
    except RecursionError as exc:
        raise document.error(None, "nested too deep") from exc
    document.lines[()] = 1
    for line, way in _places(text, tables):
        document.lines.setdefault(way, line)
    document.data = _Reader(document).value(tables, ())


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.values_left = int(MAX_DOCUMENT_VALUES)

    def value(self, value: Any, where: Where) -> Json:
        self.values_left -= 1
        if self.values_left < 0:
            raise self.error(where, f"more than {MAX_DOCUMENT_VALUES:,} values")
        if len(where) > MAX_DOCUMENT_DEPTH:
            raise self.error(where, f"nested deeper than {MAX_DOCUMENT_DEPTH} levels")
        match value:
            case dict():
                return {name: self.value(child, (*where, name)) for name, child in value.items()}
            case list():
                return [self.value(child, (*where, index)) for index, child in enumerate(value)]
            case datetime() | date() | time():
                return value.isoformat()
            case float() if not math.isfinite(value):
                raise self.error(where, f"{value} is no number of JSON")
            case str() | bool() | int() | float():
                return value
            case _:  # pragma: no cover -- TOML has no others
                raise self.error(where, "no value")

    def error(self, where: Where, what: str) -> DocumentError:
        return self.document.error(self.document.line(where), what)


def _places(text: str, tables: dict[str, Any]) -> Iterator[tuple[int, Where]]:
    """Each key and table of a valid text, with its line."""
    table: Where = ()
    elements: dict[Where, int] = {}  # of each array of tables
    for line, row in enumerate(_without_strings_of_lines(text), 1):
        if header := _HEADER.match(row):
            way: Where = ()
            for name in _names(header["key"]):
                way = (*_within(way, elements), name)
            is_array = header["open"] == "[["
            element = (*way, elements.get(way, 0)) if is_array else _within(way, elements)
            if not _is_table(tables, element):
                continue  # an array within an array
            if is_array:
                yield line, way
                elements[way] = elements.get(way, 0) + 1
            yield line, element
            table = element
        elif key := _ASSIGNMENT.match(row):
            way = table
            for name in _names(key["key"]):
                way = (*way, name)
                yield line, way


def _is_table(tables: dict[str, Any], way: Where) -> bool:
    value: Any = tables
    for step in way:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return False
    return isinstance(value, dict)


def _within(way: Where, elements: dict[Where, int]) -> Where:
    """What a name before another one means: the last element, when it is an array of tables."""
    return (*way, elements[way] - 1) if way in elements else way


def _without_strings_of_lines(text: str) -> list[str]:
    """The lines of a text; what continues a string from the line before is blank, so that it is taken for no key."""

    def blank(found: re.Match[str]) -> str:
        inside = found[0]
        return inside if "\n" not in inside else '""' + "\n" * inside.count("\n")

    return _LONG_QUOTE.sub(blank, text).split("\n")


def _names(key: str) -> Iterator[str]:
    for part in _PART.findall(key):
        if part[0] == "'":
            yield part[1:-1]
        elif part[0] == '"':
            (name,) = tomllib.loads(f"{part} = 0")
            yield name
        else:
            yield part
