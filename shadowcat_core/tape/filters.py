"""Pick messages and records by words such as `method:tools/call status:error duration:>500ms`.

A word is `key:value`; all must hold. In a value `*` stands for anything, and `-` before the word turns it around. A
word without a key is looked for in method and target.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from shadowcat_core.tape.records import Record
from shadowcat_core.tape.rows import Row

type Test[T] = Callable[[T], bool]
type Look[T] = Callable[[T, str], object]

ROW_KEYS = ("method", "target", "status", "kind", "dir", "id", "exchange", "session", "duration")
RECORD_KEYS = ("kind", "dir", "exchange", "session")
_DURATION = re.compile(r"([<>]=?)(\d+(?:\.\d+)?)(us|µs|ms|s)?")
_NS = {"us": 1e3, "µs": 1e3, "ms": 1e6, None: 1e6, "s": 1e9}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": float.__lt__,
    "<=": float.__le__,
    ">": float.__gt__,
    ">=": float.__ge__,
}


def parse_row_filter(words: Sequence[str]) -> Test[Row]:
    """Return the test that `words` describe; none lets everything through.

    Raises: ValueError that names the word and what is possible.
    """
    return _parse(words, ROW_KEYS, _look_at_row)


def parse_record_filter(words: Sequence[str]) -> Test[Record]:
    """Do the same for records, which know less: their kind, direction, exchange and session."""
    return _parse(words, RECORD_KEYS, _look_at_record)


def _parse[T](words: Sequence[str], keys: Sequence[str], look: Look[T]) -> Test[T]:
    tests = [_parse_word(word, keys, look) for word in words]
    return lambda item: all(test(item) for test in tests)


def _parse_word[T](word: str, keys: Sequence[str], look: Look[T]) -> Test[T]:
    if word.startswith("-") and not word.startswith("--"):
        test = _parse_word(word[1:], keys, look)
        return lambda item: not test(item)
    key, colon, value = word.partition(":")
    if not colon and "method" in keys and word and not word.startswith("-"):
        return lambda item: any(word in str(look(item, name) or "") for name in ("method", "target"))
    if key not in keys:
        raise ValueError(f"{word!r} is no filter; there are {', '.join(f'{known}:' for known in keys)}")
    if key == "duration":
        return _parse_duration(word, value, look)

    def test_value(item: T) -> bool:
        found = look(item, key)
        return fnmatchcase("" if found is None else str(found), value)

    return test_value


def _parse_duration[T](word: str, value: str, look: Look[T]) -> Test[T]:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(f"{word!r}: a duration is compared, as in duration:>500ms or duration:<=2s")
    compare, limit_ns = _COMPARE[match[1]], float(match[2]) * _NS[match[3]]

    def test_duration(item: T) -> bool:
        found = look(item, "duration")
        return isinstance(found, int) and compare(float(found), limit_ns)

    return test_duration


def _look_at_row(row: Row, key: str) -> object:
    message = row.message
    match key:
        case "method":
            return row.method
        case "target":
            return row.target
        case "status":
            return row.status
        case "duration":
            return row.duration_ns
        case "kind":
            return message.kind
        case "dir":
            return message.direction
        case "id":
            return message.id
        case "exchange":
            return message.exchange_id
        case _:
            return message.session_id


def _look_at_record(record: Record, key: str) -> object:
    return getattr(record, "direction" if key == "dir" else key, None)
