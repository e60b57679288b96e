"""The records of one exchange together: its heads, bodies, chunks, end, and what was done to it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shadowcat_core.messages import Message
from shadowcat_core.tape.meaning import ExchangeReader
from shadowcat_core.tape.records import (
    Chunk,
    Direction,
    End,
    Gap,
    Note,
    Open,
    Record,
    Request,
    Response,
    Unknown,
    Verdict,
)


@dataclass(slots=True)
class RecordedExchange:
    """One HTTP request and its response, or one stdio pipe, as far as the tape has it.

    `opened`, `request`, `response` and `end` are None when they are not on the tape; `gaps` are those that name this
    exchange.
    """

    number: int
    opened: Open | None = None
    request: Request | None = None
    response: Response | None = None
    chunks: list[Chunk] = field(default_factory=list)
    end: End | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """True when it has a beginning and an end and lost nothing in between."""
        return self.opened is not None and self.end is not None and not self.gaps

    @property
    def request_body(self) -> bytes:
        """What the client sent, as it was on the wire."""
        return self.request.data if self.request is not None else self.body("c2s")

    @property
    def response_body(self) -> bytes:
        """What the server sent, as it was on the wire: coded when the head says so."""
        return self.body("s2c")

    def body(self, direction: Direction) -> bytes:
        """Return the chunks of one direction, joined."""
        return b"".join([chunk.data for chunk in self.chunks if chunk.direction == direction])

    def messages(self) -> list[Message]:
        """Return what it says in MCP, in order of arrival."""
        return self.interpret()[0]

    def interpret(self) -> tuple[list[Message], str | None]:
        """Return the messages, and what could not be interpreted, None when everything could."""
        heads = [record for record in (self.opened, self.request, self.response) if record is not None]
        records: list[Record] = [*heads, *self.chunks, *self.gaps]
        records.sort(key=lambda record: record.at_ns)
        records.append(self.end or End(records[-1].at_ns if records else 0, self.number, "killed"))
        reader = ExchangeReader(self.number)
        return [message for record in records for message in reader.read(record)], reader.problem

    def add(self, record: Open | Request | Response | Chunk | End | Verdict | Note | Gap) -> None:
        """Put a record where it belongs."""
        match record:
            case Chunk():
                self.chunks.append(record)
            case Open():
                self.opened = record
            case Request():
                self.request = record
            case Response():
                self.response = record
            case End():
                self.end = record
            case Verdict():
                self.verdicts.append(record)
            case Note():
                self.notes.append(record)
            case Gap():
                self.gaps.append(record)


def group(records: Iterable[Record]) -> Iterator[RecordedExchange]:
    """Yield each exchange when its `end` comes, then those without one in the order in which they began.

    A record that comes after the end of its exchange makes one more exchange of the same number.
    """
    unfinished: dict[int, RecordedExchange] = {}

    def of(number: int) -> RecordedExchange:
        found = unfinished.get(number)
        if found is None:
            found = unfinished[number] = RecordedExchange(number)
        return found

    for record in records:
        match record:
            case Gap(exchanges=touched):
                for number in touched:
                    of(number).add(record)
            case End(exchange=number):
                of(number).add(record)
                yield unfinished.pop(number)
            case Note(exchange=about):
                if about is not None:
                    of(about).add(record)
            case Open() | Request() | Response() | Chunk() | Verdict():
                of(record.exchange).add(record)
            case Unknown():
                pass  # a later version of the format knows what it belongs to
    yield from unfinished.values()
