"""What an interceptor may declare about itself, and what is said of a value that makes no sense."""

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Final

from shadowcat_core.interceptors.records import Fail, Mode
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction

type _Makes = Callable[[object], bool]
"""Whether a value makes sense."""

_MAX_VALUE_CHARS: Final = 80


def check_declared(declared: Mapping[str, object], prefix: str = "") -> None:
    """Check what is declared under the names of interests and settings; other names are let be.

    `prefix` is what had to be written in front of each name.

    Raises:
        ValueError: a value makes no sense. It says under which name, and what the value may be.
    """
    for name in declared.keys() & _MAY_BE.keys():
        makes_sense, allowed = _MAY_BE[name]
        if not makes_sense(declared[name]):
            value = repr(declared[name])
            shown = value if len(value) <= _MAX_VALUE_CHARS else f"{value[:_MAX_VALUE_CHARS]}…"
            raise ValueError(f"{prefix}{name} is {shown}, and may be {allowed}")


def _is_number_of_seconds(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < float("inf")


def _one_of(values: Collection[str]) -> _Makes:
    return lambda value: value in values


def _all(each_makes_sense: _Makes) -> _Makes:
    # A text is a collection too, of letters.
    return lambda value: (
        isinstance(value, Collection) and not isinstance(value, str) and all(map(each_makes_sense, value))
    )


def _or_none(makes_sense: _Makes) -> _Makes:
    return lambda value: value is None or makes_sense(value)


def _named(values: type[StrEnum]) -> str:
    *most, last = (f'"{value}"' for value in values)
    return f"{', '.join(most)} or {last}"


_MAY_BE: Final[Mapping[str, tuple[_Makes, str]]] = {
    "methods": (_or_none(_all(lambda name: isinstance(name, str))), 'a collection of methods, such as {"tools/call"}'),
    "kinds": (_or_none(_all(_one_of(list(Kind)))), f"a collection of {_named(Kind)}"),
    "direction": (_or_none(_one_of(list(Direction))), f"{_named(Direction)}, or None for both"),
    "priority": (lambda value: isinstance(value, int), "a whole number"),
    "mode": (_one_of(list(Mode)), _named(Mode)),
    "fail": (_one_of(list(Fail)), _named(Fail)),
    "timeout_s": (_or_none(_is_number_of_seconds), "a number of seconds above 0, or None"),
}
"""By name: whether a value makes sense, and which ones do."""
