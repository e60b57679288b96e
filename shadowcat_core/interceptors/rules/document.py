"""Reads a rules file, YAML or JSON, into plain JSON values, and remembers on which line each of them stands.

Bounded by its size, its depth and the number of its values, aliases counted as often as they are used. What YAML knows
and JSON does not (dates, sets, tags) is text or an error, never a surprise. No I/O. Source: YAML 1.2.2; RFC 8259.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from shadowcat_core.errors import RulesError, RulesProblem
from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import MAX_RULES_DEPTH, MAX_RULES_FILE_BYTES, MAX_RULES_VALUES

type Where = tuple[str | int, ...]
"""The way to a value: names and indices, from the top of the document."""

_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final[Mapping[str, Json]] = {"null": None, "true": True, "false": False}


@dataclass(slots=True)
class Document:
    """What a file says, and the line, counted from 1, of everything in it: of a name where there is one."""

    path: Path
    data: Json = None
    lines: dict[Where, int] = field(default_factory=dict)

    def line(self, where: Sequence[str | int]) -> int | None:
        """The line of a value, or of the nearest one around it."""
        way = tuple(where)
        while way and way not in self.lines:
            way = way[:-1]
        return self.lines.get(way)


def read_document(raw: bytes, path: Path) -> Document:
    """Read a file's bytes; `path` is for errors, and its suffix `.json` says that tabs are blanks.

    Raises:
        RulesError: it is too large, no UTF-8, no YAML, or says what JSON cannot.
    """
    if len(raw) > MAX_RULES_FILE_BYTES:
        raise _error(path, None, f"{len(raw):,} bytes are over the limit of {MAX_RULES_FILE_BYTES:,}")
    if path.suffix == ".json":
        raw = raw.replace(b"\t", b" ")  # YAML has no tabs there, and JSON has none inside its strings
    try:
        text = raw.decode("utf-8-sig")
        node = YAML(typ="safe", pure=True).compose(text)
    except UnicodeDecodeError as exc:
        raise _error(path, raw.count(b"\n", 0, exc.start) + 1, "not UTF-8") from exc
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise _error(path, None if mark is None else mark.line + 1, f"not YAML: {exc.problem or exc.context}") from exc
    except RecursionError as exc:
        raise _error(path, None, "nested too deep") from exc
    except (YAMLError, ValueError) as exc:
        raise _error(path, None, f"not YAML: {str(exc).splitlines()[0]}") from exc
    document = Document(path)
    if node is not None:
        document.lines[()] = node.start_mark.line + 1
        document.data = _Reader(document).value(node, ())
    return document


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.values_left = int(MAX_RULES_VALUES)

    def value(self, node: Node, where: Where) -> Json:
        self.values_left -= 1
        if self.values_left < 0:
            raise self.error(node, f"more than {MAX_RULES_VALUES:,} values, aliases counted each time")
        if len(where) > MAX_RULES_DEPTH:
            raise self.error(node, f"nested deeper than {MAX_RULES_DEPTH} levels")
        match node:
            case MappingNode():
                return self.mapping(node, where)
            case SequenceNode():
                found: list[Json] = []
                for index, child in enumerate(node.value):
                    way = (*where, index)
                    self.document.lines[way] = child.start_mark.line + 1
                    found.append(self.value(child, way))
                return found
            case ScalarNode():
                return self.scalar(node)
            case _:  # pragma: no cover -- there are three
                raise self.error(node, "no value")

    def mapping(self, node: MappingNode, where: Where) -> Json:
        if node.tag != f"{_TAG}map":
            raise self.error(node, f"the tag {node.tag} means nothing here")
        found: dict[str, Json] = {}
        for key, child in node.value:
            if not isinstance(key, ScalarNode):
                raise self.error(key, "a name is one word")
            name = _joined(str(key.value))
            if name in found:
                raise self.error(key, f"{name!r} is there twice")
            way = (*where, name)
            self.document.lines[way] = key.start_mark.line + 1
            found[name] = self.value(child, way)
        return found

    def scalar(self, node: ScalarNode) -> Json:
        kind, text = str(node.tag).removeprefix(_TAG), str(node.value)
        if kind in ("null", "bool"):
            return _WORDS.get(text.lower())
        if kind in ("int", "float"):
            return self.number(node, kind, text.replace("_", ""))
        if kind in ("str", "timestamp", "merge", "value"):  # 2026-07-28 is a version of MCP
            return _joined(text)
        raise self.error(node, f"the tag {node.tag} means nothing here")

    def number(self, node: ScalarNode, kind: str, text: str) -> int | float:
        try:
            number = int(text, 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
        except ValueError:
            try:
                number = float(text)  # type: ignore[assignment] # a number of either type
            except ValueError:
                number = math.nan  # type: ignore[assignment] # likewise: .nan and .inf are words to YAML only
        if not math.isfinite(number):
            raise self.error(node, f"{node.value} is no {'number' if kind == 'float' else 'whole number'} of JSON")
        return number

    def error(self, node: Node, what: str) -> RulesError:
        return _error(self.document.path, node.start_mark.line + 1, what)


def _joined(text: str) -> str:
    """Make one character of two surrogates: JSON spells it so, and YAML takes each for itself."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _error(path: Path, line: int | None, what: str) -> RulesError:
    return RulesError(path, [RulesProblem(line, "", what)])
