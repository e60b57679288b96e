"""One pass over a tape: what is on it, how its calls went, and whether anything is missing."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.tape.meaning import read_messages
from shadowcat_core.tape.reader import Damage, Progress, Tape
from shadowcat_core.tape.records import Chunk, End, Gap, Note, Open, Record, Unknown, Verdict, payload_bytes
from shadowcat_core.tape.rows import Row, list_rows


class State(StrEnum):
    """What a tape is worth, from best to worst."""

    WHOLE = "whole"
    CUT_OFF = "cut off"
    GAPS = "has gaps"
    DAMAGED = "damaged"


@dataclass(slots=True)
class MethodSurvey:
    """What is known of one method: its requests or notifications, their answers, and what streamed in between.

    `events` are the other messages that came with the answers: progress, logs, questions of the server. Durations
    are exact: eight bytes are held for each call.
    """

    method: str
    count: int = 0
    errors: int = 0
    events: int = 0
    size: int = 0
    durations_ns: array[int] = field(default_factory=lambda: array("q"))

    def quantile_ms(self, fraction: float) -> float | None:
        """Return the duration in ms that `fraction` of the answered calls did not exceed, None without any."""
        if not self.durations_ns:
            return None
        ordered = sorted(self.durations_ns)
        return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] / 1e6

    def as_json(self) -> dict[str, Json]:
        """Return the numbers for scripts."""
        return {
            "method": self.method,
            "count": self.count,
            "errors": self.errors,
            "p50_ms": self.quantile_ms(0.5),
            "p95_ms": self.quantile_ms(0.95),
            "max_ms": self.quantile_ms(1.0),
            "events": self.events,
            "bytes": self.size,
        }


@dataclass(slots=True)
class Survey:
    """What one pass over a tape found. `lost_records` and `lost_bytes` are what its gaps count."""

    records: int = 0
    chunks: int = 0
    exchanges: int = 0
    messages: int = 0
    size: int = 0
    duration_ns: int = 0
    gaps: list[Gap] = field(default_factory=list)
    unfinished: list[int] = field(default_factory=list)
    headless: list[int] = field(default_factory=list)
    unknown: int = 0
    damage_count: int = 0
    damages: list[Damage] = field(default_factory=list)
    cut_off: bool = False
    methods: dict[str, MethodSurvey] = field(default_factory=dict)
    verdicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By interceptor, action and mode."""

    @property
    def lost_records(self) -> int:
        """How many records are missing, as far as the tape says."""
        return sum(gap.records for gap in self.gaps)

    @property
    def lost_bytes(self) -> int:
        """How many bytes of bodies and chunks are missing, as far as the tape says."""
        return sum(gap.size for gap in self.gaps)

    @property
    def state(self) -> State:
        """The worst that was found."""
        if self.damage_count:
            return State.DAMAGED
        if self.gaps:
            return State.GAPS
        return State.CUT_OFF if self.cut_off else State.WHOLE


def survey(tape: Tape, *, messages: bool = True, progress: Progress | None = None) -> Survey:
    """Read `tape` once; without `messages` only its records are counted, which is several times faster."""
    found = Survey()
    records = _count(tape.records(progress=progress), tape.header.origin_ns, found)
    if messages:
        asked_on: dict[int | None, str] = {}
        for row in list_rows(read_messages(records)):
            _add(row, found, asked_on)
    else:
        for _ in records:
            pass
    found.cut_off = tape.cut_off
    found.damage_count = tape.damage_count
    found.damages = tape.damages
    return found


def _count(records: Iterable[Record], origin_ns: int, found: Survey) -> Iterator[Record]:
    """Pass `records` on and count them into `found`, the open exchanges at their end."""
    open_numbers: set[int] = set()
    for record in records:
        found.records += 1
        found.size += payload_bytes(record)
        found.duration_ns = max(found.duration_ns, record.at_ns - origin_ns)
        match record:
            case Open(exchange=number):
                found.exchanges += 1
                open_numbers.add(number)
            case End(exchange=number):
                open_numbers.discard(number)
            case Gap():
                found.gaps.append(record)
            case Chunk():
                found.chunks += 1
            case Unknown():
                found.unknown += 1
            case Verdict():
                found.verdicts[record.interceptor, record.action, record.mode] += 1
            case _:
                pass
        # What ends with an exchange, such as a hold, may be told behind its end.
        if not isinstance(record, Open | End | Gap | Unknown | Note | Verdict) and record.exchange not in open_numbers:
            open_numbers.add(record.exchange)
            found.headless.append(record.exchange)
        yield record
    found.unfinished = sorted(open_numbers - set(found.headless))


def _add(row: Row, found: Survey, asked_on: dict[int | None, str]) -> None:
    """Count `row`; `asked_on` remembers what was asked on the exchanges that are not answered yet."""
    found.messages += 1
    message = row.message
    name = row.method or ("(not JSON-RPC)" if message.kind is Kind.INVALID else "(unknown request)")
    about = found.methods.setdefault(name, MethodSurvey(name))
    about.size += len(message.raw)
    if row.status in {"", "invalid"}:
        about.count += 1
    about.errors += row.status == "error"
    if row.duration_ns is not None:
        about.durations_ns.append(row.duration_ns)
    number = message.exchange_id
    if message.direction is Direction.SERVER_TO_CLIENT:
        if row.status in {"ok", "error"}:
            asked_on.pop(number, None)
        elif (asked := asked_on.get(number)) is not None:
            found.methods[asked].events += 1
    elif message.kind is Kind.REQUEST:
        asked_on[number] = name
