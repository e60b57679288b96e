"""The records of a tape: what happened on the wire, one value each.

A record is made on the event loop, once for every chunk that passes, so its classes are plain slots classes: 0.13 µs
to make on CPython 3.13, against 0.20 µs for a NamedTuple and 0.45 µs for a frozen dataclass. Treat them as values:
nobody changes a record after handing it to a recorder.

`at_ns` is monotonic time in nanoseconds on the clock of the recording machine; the tape keeps it as `t`, whole
microseconds since `Header.origin_ns`. `exchange` is a small number (1, 2, …) given by whoever records. Bodies and
chunks are the bytes as they were on the wire: coded when the head says `content-encoding`. Headers are pairs in wire
order; bytes that are not UTF-8 travel as lone surrogates (`surrogateescape`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

FORMAT = "shadowcat-tape"
VERSION = 1
# What a record costs beside the bytes it carries; a bound on bytes alone would let empty records grow without limit.
RECORD_OVERHEAD_BYTES = 256
# A header of usual size with its objects; counting each would cost the event loop more than the put itself.
HEADER_BYTES = 160

type Json = dict[str, Json] | list[Json] | str | int | float | bool | None
type Direction = Literal["c2s", "s2c"]
type Headers = Sequence[tuple[str, str]]
type Record = Open | Request | Response | Chunk | End | Verdict | Note | Gap | Unknown


@dataclass(slots=True)
class Header:
    """The first line of a tape.

    `created` is wall-clock time in ISO 8601 with an offset; `mode` is how it was recorded (`background` or
    `standard`), `redaction` the name of the profile that was in force.
    """

    kind: ClassVar[str] = "header"
    created: str
    tool: str
    tool_version: str
    redaction: str
    mode: str
    origin_ns: int
    format: str = FORMAT
    version: int = VERSION


@dataclass(slots=True)
class Open:
    """An exchange begins: the head of its request, or the start of a stdio pipe."""

    kind: ClassVar[str] = "open"
    at_ns: int
    exchange: int
    flow: str
    method: str
    url: str
    http_version: str
    headers: Headers
    transport: str = "http"
    session: str | None = None
    era: str | None = None
    protocol_version: str | None = None
    client: str | None = None
    server: str | None = None


@dataclass(slots=True)
class Request:
    """The whole body of a request. A body that streams is recorded as chunks in direction `c2s` instead."""

    kind: ClassVar[str] = "request"
    at_ns: int
    exchange: int
    data: bytes


@dataclass(slots=True)
class Response:
    """The head of a response."""

    kind: ClassVar[str] = "response"
    at_ns: int
    exchange: int
    status: int
    reason: str
    headers: Headers


@dataclass(slots=True)
class Chunk:
    """Bytes of a body or pipe as the network delivered them."""

    kind: ClassVar[str] = "chunk"
    at_ns: int
    exchange: int
    direction: Direction
    data: bytes


@dataclass(slots=True)
class End:
    """An exchange is over. `how`: `eof`, `reset`, `client_closed`, `killed` or `error`; `text` says more."""

    kind: ClassVar[str] = "end"
    at_ns: int
    exchange: int
    how: str
    text: str = ""


@dataclass(slots=True)
class Verdict:
    """What an interceptor did to one message: the bytes before and after it, None where there are none.

    `reply` is what its sender was answered; `direction` is the original's. In mode `audit` nothing of it was done.
    """

    kind: ClassVar[str] = "verdict"
    at_ns: int
    exchange: int
    interceptor: str
    action: str
    reason: str = ""
    original: bytes | None = None
    result: bytes | None = None
    reply: bytes | None = None
    mode: str = "enforce"
    direction: Direction | None = None


@dataclass(slots=True)
class Note:
    """Anything worth knowing that did not pass on the wire. `exchange` is None when it concerns the whole tape."""

    kind: ClassVar[str] = "note"
    at_ns: int
    exchange: int | None
    text: str
    data: Json = None


@dataclass(slots=True)
class Gap:
    """Records that are not on the tape, counted: `size` bytes of bodies and chunks in `records` records.

    `exchanges` names the exchanges that lost something, at most `limits.TAPE_GAP_EXCHANGES` of them.
    """

    kind: ClassVar[str] = "gap"
    at_ns: int
    records: int
    size: int
    reason: str
    exchanges: Sequence[int] = ()


@dataclass(slots=True)
class Unknown:
    """A record of a later version of the format, kept as it was read: `name` is its kind, `fields` all the rest."""

    kind: ClassVar[str] = "unknown"
    at_ns: int
    name: str
    fields: dict[str, Json] = field(default_factory=dict)


def payload_bytes(record: Record) -> int:
    """Count the wire bytes that `record` carries, heads not included."""
    match record:
        case Chunk(data=data) | Request(data=data):
            return len(data)
        case Verdict(original=original, result=result, reply=reply):
            return len(original or b"") + len(result or b"") + len(reply or b"")
        case _:
            return 0


def held_bytes(record: Record) -> int:
    """Estimate the memory a waiting record holds: its bytes, its head, and its own objects."""
    held = payload_bytes(record) + RECORD_OVERHEAD_BYTES
    if isinstance(record, Open | Response):
        held += len(record.headers) * HEADER_BYTES
    return held


def header_value(headers: Headers, name: str) -> str:
    """Return the value of the header `name` (in any case), several joined by commas, empty when there is none.

    Source: RFC 9110 section 5.3.
    """
    return ", ".join([value for key, value in headers if key.lower() == name])
