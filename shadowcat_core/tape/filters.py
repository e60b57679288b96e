"""Pick messages and records of a tape by words such as `method:tools/call status:error duration:>500ms`.

`filter_words` says what a word is.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from shadowcat_core.filter_words import Test, parse_words
from shadowcat_core.tape.asides import Aside
from shadowcat_core.tape.records import End, Record
from shadowcat_core.tape.rows import Row

ROW_KEYS = ("method", "target", "status", "kind", "dir", "id", "exchange", "session", "duration", "verdict", "by")
RECORD_KEYS = ("kind", "dir", "exchange", "session")
_DURATION = re.compile(r"([<>]=?)(\d+(?:\.\d+)?)(us|µs|ms|s)?")
_NS = {"us": 1e3, "µs": 1e3, "ms": 1e6, None: 1e6, "s": 1e9}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": float.__lt__,
    "<=": float.__le__,
    ">": float.__gt__,
    ">=": float.__ge__,
}


def parse_row_filter(words: Sequence[str]) -> Test[Row | Aside]:
    """Return the test that `words` describe; none lets everything through.

    What happened beside the messages has the method, target, status and so on of the message that it is about.

    Raises: ValueError that names the word and what is possible.
    """
    special = {"duration": _parse_duration, "verdict": _parse_verdict, "by": _parse_by}
    return parse_words(words, ROW_KEYS, _look_at_entry, special)


def parse_record_filter(words: Sequence[str]) -> Test[Record]:
    """Do the same for records, which know less: their kind, direction, exchange and session."""
    return parse_words(words, RECORD_KEYS, _look_at_record)


def _parse_duration(word: str, value: str) -> Test[Row | Aside]:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(f"{word!r}: a duration is compared, as in duration:>500ms or duration:<=2s")
    compare, limit_ns = _COMPARE[match[1]], float(match[2]) * _NS[match[3]]

    def test_duration(entry: Row | Aside) -> bool:
        row = entry.about if isinstance(entry, Aside) else entry
        found = None if row is None else row.duration_ns
        return found is not None and compare(float(found), limit_ns)

    return test_duration


def _parse_verdict(_word: str, value: str) -> Test[Row | Aside]:
    return lambda entry: isinstance(entry, Aside) and any(fnmatchcase(name, value) for name in entry.verdicts)


def _parse_by(_word: str, value: str) -> Test[Row | Aside]:
    return lambda entry: isinstance(entry, Aside) and any(fnmatchcase(name, value) for name in entry.by)


def _look_at_entry(entry: Row | Aside, key: str) -> object:
    if isinstance(entry, Row):
        return _look_at_row(entry, key)
    match key, entry.record:
        case "exchange", record:
            return record.exchange
        case "status", End():  # only those that went wrong are listed
            return "error"
        case _:
            return None if entry.about is None else _look_at_row(entry.about, key)


def _look_at_row(row: Row, key: str) -> object:
    message = row.message
    match key:
        case "method":
            return row.method
        case "target":
            return row.target
        case "status":
            return row.status
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
