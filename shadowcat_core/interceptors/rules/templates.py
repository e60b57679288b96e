"""Texts and JSON with `{{ expressions }}` in them, filled in from a message.

Jinja's sandbox, with only expressions left of it: no statements, no calls, no attributes but members of JSON, a few
filters. So a template takes time and room in proportion to what it is given, whoever sent that. No I/O.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.exceptions import UndefinedError
from jinja2.filters import FILTERS
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shadowcat_core.jsonrpc import Json, dump
from shadowcat_core.limits import MAX_RULE_TEXT_BYTES
from shadowcat_core.transcript import shortened

type Values = Mapping[str, object]
type Render = Callable[[Values], Json]

_OPENS: Final = ("{{", "{%", "{#")
_STATEMENTS: Final = "only {{ expressions }} are possible"
_KNOWN_FILTERS: Final = (
    "abs", "d", "default", "first", "float", "int", "last", "length", "lower", "round", "title", "trim", "truncate",
    "upper", "urlencode",
)  # fmt: skip
_EXPRESSIONS: Final = (
    nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.List, nodes.Dict, nodes.Pair, nodes.Getattr,
    nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Keyword, nodes.Compare, nodes.Operand, nodes.CondExpr,
    nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub, nodes.Div, nodes.FloorDiv, nodes.Neg, nodes.Pos,
)  # fmt: skip
VALUES: Final = (
    "direction", "error", "exchange", "headers", "id", "kind", "message", "method", "occurrence", "params", "result",
    "rule", "server", "session", "stream", "target", "transport",
)  # fmt: skip
"""What a template may name."""


class _Missing(StrictUndefined):
    """What is not there, and says so in words of JSON."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        return self._undefined_hint or f"there is no {self._undefined_name!r}"


class _Expressions(ImmutableSandboxedEnvironment):
    """Names members of JSON values and nothing else: `params.items` is a member, never a method.

    A member of what is not there is not there either, so that `default` works at any depth.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj
        try:
            return obj[argument]
        except (TypeError, LookupError):
            return self.undefined(obj=obj, name=argument)


def _replace(text: object, old: object, new: object) -> str:
    found, wanted, written = str(text), str(old), str(new)
    times = found.count(wanted)
    if len(found) + times * len(written) > MAX_RULE_TEXT_BYTES:
        raise UndefinedError(f"replace would make more than {MAX_RULE_TEXT_BYTES:,} characters")
    return found.replace(wanted, written)


def _environment() -> _Expressions:
    environment = _Expressions(undefined=_Missing, autoescape=False, keep_trailing_newline=True)
    environment.globals.clear()
    environment.filters = {name: FILTERS[name] for name in _KNOWN_FILTERS}
    environment.filters |= {"replace": _replace, "tojson": lambda value: dump(value).decode("utf-8")}
    return environment


_ENVIRONMENT: Final = _environment()


def text_template(text: str) -> Callable[[Values], str]:
    """Read a text that stays one.

    Raises:
        ValueError: it cannot be read, or says more than expressions may.
    """
    if _is_plain(text):
        return lambda _: text
    _check(text)
    template = _ENVIRONMENT.from_string(text)
    return _saying_where(text, lambda values: _within_limits(template.render(values)))


@lru_cache(maxsize=4096)
def value_template(text: str) -> Render:
    """Read a text that is what its expression is, if it is nothing but one expression: a number, an object, null …

    Raises:
        ValueError: as above.
    """
    if _is_plain(text) or not _check(text):
        return text_template(text)
    source = text.removeprefix("{{").removesuffix("}}")
    expression = _ENVIRONMENT.compile_expression(source.removeprefix("-").removesuffix("-"), undefined_to_none=False)

    def value(values: Values) -> Json:
        found: Json = expression(**values)
        if isinstance(found, Undefined):
            str(found)  # says what is missing
        return _within_limits(found) if isinstance(found, str) else found

    return _saying_where(text, value)


def content_template(content: Json) -> Render:
    """Read JSON whose texts may be templates; names of members are not.

    Raises:
        ValueError: as above.
    """
    if isinstance(content, str):
        return value_template(content)
    if isinstance(content, list):
        elements = [content_template(element) for element in content]
        return lambda values: [element(values) for element in elements]
    if isinstance(content, dict):
        members = {name: content_template(member) for name, member in content.items()}
        return lambda values: {name: member(values) for name, member in members.items()}
    return lambda _: content


def _saying_where[Made](text: str, render: Callable[[Values], Made]) -> Callable[[Values], Made]:
    """Make what is missing be told with the template that names it."""

    def rendered(values: Values) -> Made:
        try:
            return render(values)
        except UndefinedError as exc:
            raise UndefinedError(f"{exc.message} in {shortened(text)}") from exc

    return rendered


def _is_plain(text: str) -> bool:
    return not any(mark in text for mark in _OPENS)


def _check(text: str) -> bool:
    """Refuse all but expressions; True when the text is one expression."""
    try:
        tree = _ENVIRONMENT.parse(text)
        outputs = [child for node in tree.body for child in getattr(node, "nodes", [node])]
        for node in tree.find_all(nodes.Node):
            _check_node(node)
        _ENVIRONMENT.compile(text)
    except (TemplateError, RecursionError) as exc:
        raise ValueError(f"no template: {str(exc) or 'nested too deep'}") from exc
    return len(outputs) == 1 and not isinstance(outputs[0], nodes.TemplateData)


def _check_node(node: nodes.Node) -> None:
    if isinstance(node, nodes.Name) and node.name not in VALUES:
        raise ValueError(f"no template: there is no {node.name!r}; there are {', '.join(VALUES)}")
    if isinstance(node, nodes.Filter) and node.name not in _ENVIRONMENT.filters:
        raise ValueError(f"no template: no filter {node.name!r}; there are {', '.join(sorted(_ENVIRONMENT.filters))}")
    if isinstance(node, nodes.Call):
        raise ValueError("no template: nothing can be called in it")
    if not isinstance(node, (*_EXPRESSIONS, nodes.Template)):
        raise ValueError(f"no template: {type(node).__name__} is not possible; {_STATEMENTS}")


def _within_limits(text: str) -> str:
    if len(text) > MAX_RULE_TEXT_BYTES:
        raise UndefinedError(f"a template made more than {MAX_RULE_TEXT_BYTES:,} characters")
    return text
