"""Reads YAML 1.2, and JSON as the part of it that JSON is, into a document: values that JSON has, and their lines.

What YAML knows and JSON does not (dates, sets, tags) is text or an error, never a surprise. Source: YAML 1.2.2;
RFC 8259.
"""

import math
from collections.abc import Mapping
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from shadowcat_core.documents.document import Document, Where
from shadowcat_core.errors import DocumentError
from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_VALUES

_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final[Mapping[str, Json]] = {"null": None, "true": True, "false": False}


def read_yaml(text: str, document: Document) -> None:
    """Fill a document from its text.

    Raises:
        DocumentError: no YAML, too many values or too deep, or something that JSON cannot say.
    """
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = None if mark is None else mark.line + 1
        raise document.error(line, f"not YAML: {exc.problem or exc.context}") from exc
    except RecursionError as exc:
        raise document.error(None, "nested too deep") from exc
    except (YAMLError, ValueError) as exc:
        raise document.error(None, f"not YAML: {str(exc).splitlines()[0]}") from exc
    if node is not None:
        document.lines[()] = node.start_mark.line + 1
        document.data = _Reader(document).value(node, ())


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.values_left = int(MAX_DOCUMENT_VALUES)

    def value(self, node: Node, where: Where) -> Json:
        self.values_left -= 1
        if self.values_left < 0:
            raise self.error(node, f"more than {MAX_DOCUMENT_VALUES:,} values, aliases counted each time")
        if len(where) > MAX_DOCUMENT_DEPTH:
            raise self.error(node, f"nested deeper than {MAX_DOCUMENT_DEPTH} levels")
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

    def error(self, node: Node, what: str) -> DocumentError:
        return self.document.error(node.start_mark.line + 1, what)


def _joined(text: str) -> str:
    """Make one character of two surrogates: JSON spells it so, and YAML takes each for itself."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
