r"""Toxics as text: `latency:ms=200,jitter_ms=50,method=tools/call`, and back.

A kind, a colon, and fields with their values, separated by commas. A comma or backslash in a value has a backslash in
front. Whoever mistypes is told what there is, the nearest first.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError

from shadowcat_core.errors import BadToxic
from shadowcat_core.interceptors.faults.toxics import TOXICS, Toxic

_PART: Final = re.compile(r"((?:[^,\\]|\\.)*)(?:,|$)", re.DOTALL)


def parse_toxic(text: str) -> Toxic:
    """Read a toxic.

    Raises:
        BadToxic: there is no such kind or field, or a value makes no sense.
    """
    kind, _, rest = text.partition(":")
    kind = kind.strip()
    model = TOXICS.get(kind)
    if model is None:
        raise BadToxic(f"there is no toxic {kind!r}{_nearest(kind, TOXICS)}; there are {', '.join(TOXICS)}")
    allowed = fields_of(model)
    values: dict[str, str] = {}
    for part in _parts(rest):
        field, equals, value = part.partition("=")
        field = field.strip()
        if not equals:
            raise BadToxic(f"{kind}: {part!r} is no FIELD=VALUE")
        if field not in allowed:
            raise BadToxic(
                f"{kind} has no field {field!r}{_nearest(field, allowed)}; it has {', '.join(sorted(allowed))}"
            )
        if field in values:
            raise BadToxic(f"{kind}: {field} is given twice")
        values[field] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise BadToxic("; ".join(_fault(kind, error["loc"], error["msg"], values) for error in exc.errors())) from None


def toxic_text(toxic: Toxic) -> str:
    """Write a toxic so that it reads back as the same."""
    said = toxic.model_dump(exclude_defaults=True)
    fields = ",".join(f"{name}={re.sub(r'([,\\])', r'\\\1', _plain(value))}" for name, value in said.items())
    return f"{toxic.kind}:{fields}" if fields else toxic.kind


def fields_of(model: type[Toxic]) -> list[str]:
    """The names of a toxic's fields, as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _parts(text: str) -> Iterable[str]:
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:  # nothing but a lone backslash at the end does not match
            raise BadToxic(f"{text!r} ends in a backslash with nothing behind it")
        yield match[1]
        at = match.end()


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e6 else str(value)


def _fault(kind: str, place: tuple[int | str, ...], what: str, values: dict[str, str]) -> str:
    if not place:
        return f"{kind}: {what.removeprefix('Value error, ')}"
    field = str(place[0])
    return f"{kind}: {field}: {what[:1].lower()}{what[1:]}, not {values.get(field, '')!r}"


def _nearest(word: str, words: Iterable[str]) -> str:
    near = get_close_matches(word, list(words), 1)
    return f" (did you mean {near[0]}?)" if near else ""
