"""Finds values in JSON by pointer or path, compares them as JSON does, and edits them without touching the original.

python-jsonpath reads the pointers and paths; pointers are followed here, to the letter of the standard (the library
adds keys of its own and parses text) and with edits that share what they leave alone. No I/O.
Source: RFC 6901 (JSON Pointer), RFC 6902 section 4 (add and remove), RFC 9535 (JSONPath).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, cast

from jsonpath import JSONPathEnvironment, JSONPathError, JSONPointer

from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import MAX_RULE_PATH_DESCENTS

type Find = Callable[[Json], Iterable[Json]]
"""Gives the values that a pointer (one at most) or a path leads to."""

_PATHS: Final = JSONPathEnvironment(strict=True)
for _name in ("match", "search"):  # they backtrack, and the text they search is a peer's
    del _PATHS.function_extensions[_name]


@lru_cache(maxsize=4096)
def finder(path: str) -> Find:
    """Read a JSON pointer (`/a/0`, or empty for all) or a JSONPath (`$.a[0]`).

    Raises:
        ValueError: it is neither, or cannot be read.
    """
    if path.startswith("$"):
        if path.count("..") > MAX_RULE_PATH_DESCENTS:
            raise ValueError(f"{path!r} has more than {MAX_RULE_PATH_DESCENTS} descents (..)")
        try:
            found = _PATHS.compile(path)
        except (JSONPathError, ValueError, RecursionError) as exc:
            problem = (str(exc).splitlines() or [type(exc).__name__])[0]
            hint = "; use `matches` in the place of match() and search()" if "match" in path or "search" in path else ""
            raise ValueError(f"{path!r} is no JSONPath: {problem}{hint}") from exc
        # Text would be parsed as JSON by the library; a path leads nowhere in it, nor in other scalars.
        return lambda value: cast("list[Json]", found.findall(value)) if isinstance(value, dict | list) else ()
    steps = pointer_steps(path)
    return lambda value: follow(value, steps)


def is_pointer(path: str) -> bool:
    """True for a pointer, whose cost does not depend on the size of what it is followed in."""
    return not path.startswith("$")


@lru_cache(maxsize=4096)
def pointer_steps(pointer: str) -> tuple[str, ...]:
    """Read a JSON pointer.

    Raises:
        ValueError: it is none.
    """
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is neither a JSON pointer nor a JSONPath; write /{pointer} or $.{pointer}")
    return tuple(map(str, JSONPointer(pointer, unicode_escape=False).parts))


def follow(value: Json, steps: Sequence[str]) -> tuple[Json, ...]:
    """Give the value that steps lead to, alone in a tuple; an empty one when there is none."""
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and (index := _index(step)) is not None and index < len(value):
            value = value[index]
        else:
            return ()
    return (value,)


def with_value(root: Json, steps: Sequence[str], value: Json) -> Json:
    """Give `root` with another value at a place: names are added where they are missing, `-` is an array's end.

    Raises:
        ValueError: the way leads through what holds no other values, or past the end of an array.
    """
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(root, dict):
        return {**root, step: with_value(root.get(step, {}), rest, value)}
    if isinstance(root, list):
        index = len(root) if step == "-" else _index(step)
        if index is None or index > len(root):
            raise ValueError(f"no place {step!r} in an array of {len(root)}")
        return [*root[:index], with_value(root[index] if index < len(root) else {}, rest, value), *root[index + 1 :]]
    raise ValueError(f"no place {step!r} in what is neither object nor array")


def without(root: Json, steps: Sequence[str]) -> Json:
    """Give `root` without the value at a place; as it is when there is none there."""
    if not steps or not isinstance(root, dict | list) or not follow(root, steps):
        return root
    step, rest = steps[0], steps[1:]
    if isinstance(root, dict):
        if not rest:
            return {name: value for name, value in root.items() if name != step}
        return {**root, step: without(root[step], rest)}
    index = int(step)
    return [*root[:index], *([without(root[index], rest)] if rest else []), *root[index + 1 :]]


def same(left: Json, right: Json) -> bool:
    """Compare as JSON: 1 is 1.0 and is not true, and the order of names means nothing. As deep as the shallower one."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(value, right[name]) for name, value in left.items())
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    return left == right


def contains(value: Json, part: Json) -> bool:
    """True when a text contains a text, an array an element, or an object a name."""
    if isinstance(value, str):
        return isinstance(part, str) and part in value
    if isinstance(value, list):
        return any(same(element, part) for element in value)
    return isinstance(value, dict) and isinstance(part, str) and part in value


def _index(step: str) -> int | None:
    """Read an array index; leading zeros, signs and the digits of other scripts make none."""
    if not (step.isascii() and step.isdigit()) or (len(step) > 1 and step[0] == "0") or len(step) > 15:
        return None
    return int(step)
