"""Globs and regular expressions whose time grows with the text and never explodes.

The texts are a peer's, and may be made to hang what looks at them. Regular expressions are those of Rust's regex crate,
which pydantic brings: linear, without look-around and back-references. No I/O.
"""

import re
from collections.abc import Callable, Collection
from fnmatch import translate
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

from shadowcat_core.limits import MAX_RULE_PATTERN_CHARS

type Matches = Callable[[str], bool]


def is_literal(glob: str) -> bool:
    """True when a glob stands for one text."""
    return not any(mark in glob for mark in "*?[")


@lru_cache(maxsize=4096)
def _glob_expression(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))  # what `translate` makes does not backtrack over more than one star


def globs(patterns: Collection[str]) -> Matches:
    """Tell whether a whole text matches one of some globs: `*` any text, `?` one character, `[a-z]` one of these."""
    literals = frozenset(filter(is_literal, patterns))
    prefixes = tuple(glob[:-1] for glob in patterns if glob.endswith("*") and is_literal(glob[:-1]))
    expressions = [
        _glob_expression(glob) for glob in patterns if glob not in literals and glob.removesuffix("*") not in prefixes
    ]
    if not expressions and not prefixes:
        return literals.__contains__
    if not expressions and not literals:
        return lambda text: text.startswith(prefixes)
    return lambda text: (
        text in literals or text.startswith(prefixes) or any(expression.match(text) for expression in expressions)
    )


@lru_cache(maxsize=4096)
def expression(pattern: str) -> Matches:
    """Tell whether a regular expression is found anywhere in a text. What is no Unicode in it counts as U+FFFD.

    Raises:
        ValueError: it cannot be read, or is too long or too large.
    """
    if len(pattern) > MAX_RULE_PATTERN_CHARS:
        raise ValueError(f"a regular expression of {len(pattern):,} characters; {MAX_RULE_PATTERN_CHARS:,} may be")
    if pattern != _unicode(pattern):
        raise ValueError(f"{pattern!r} is no regular expression: half a character is in it")
    try:
        found = SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python
    except SchemaError as exc:
        raise ValueError(f"{pattern!r} is no regular expression: {str(exc).splitlines()[-1]}") from exc
    return lambda text: found(text if text.isascii() else _unicode(text))


def _unicode(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and which nothing would be found in otherwise."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
