"""Follow a tape while it is written, as the messages that passed.

Nothing here asks the client or the server: what is heard is what the proxy recorded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shadowcat_core.correlation import Call
from shadowcat_core.jsonrpc import JsonRpcId, Kind
from shadowcat_core.mcp import Direction, era_of, is_event_stream
from shadowcat_core.tape.encoding import decode, decode_header
from shadowcat_core.tape.meaning import ExchangeReader
from shadowcat_core.tape.records import Chunk, End, Gap, Open, Record, Request, Response, header_value
from shadowcat_core.tape.rows import Row, RowReader
from shadowcat_core.transcript import Words, words

type Asked = tuple[str, str]
"""Method and target."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it passed.

    `at_ms` counts from the tape's beginning. `method` and `target` of an answer are its request's, and `duration_ms`
    counts from there. `stream` is the request whose event stream carried the message, None when it came otherwise.
    """

    at_ms: float
    era: str
    direction: Direction
    kind: Kind
    method: str
    id: JsonRpcId | None
    target: str
    words: Words
    failed: bool
    duration_ms: float | None
    stream: Asked | None


class TapeFollower:
    """Gives the records of a growing tape, once each. A half-written line waits for its other half."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin_ns: int | None = None
        self._position = 0
        self._unfinished = b""

    def poll(self) -> Iterator[Record]:
        """Give what was written since the last call. Raises ValueError when the file is no tape."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        *lines, self._unfinished = (self._unfinished + new).split(b"\n")
        for line in lines:
            if self.origin_ns is None:
                self.origin_ns = decode_header(line).origin_ns
            else:
                yield from decode(line, self.origin_ns)


@dataclass(slots=True)
class Exchange:
    """What has to be remembered of one HTTP request while its response comes in."""

    reader: ExchangeReader
    era: str
    asked: Asked = ("", "")
    """Empty for a stream that was opened without a request (GET)."""
    is_stream: bool = False


class Listener:
    """Turns records into messages, each answer beside its request."""

    def __init__(self) -> None:
        self.records_missing = 0
        self._rows = RowReader()
        self._open: dict[Call, None] = {}  # in the order in which they were asked
        self._exchanges: dict[int, Exchange] = {}

    @property
    def unanswered(self) -> list[str]:
        """Methods of the requests that nothing has answered yet; a subscription is open until one side ends it."""
        asked = [call.request.method or "" for call in self._open]
        return [method for method in asked if method != "subscriptions/listen"]

    def hear(self, record: Record, origin_ns: int) -> list[Heard]:
        """Give the messages that this record completes."""
        match record:
            case Open(exchange=number):
                self._exchanges[number] = Exchange(ExchangeReader(number), era_of_exchange(record))
            case Response(headers=headers):
                if (exchange := self._exchanges.get(record.exchange)) is not None:
                    exchange.is_stream = is_event_stream(header_value(headers, "content-type"))
            case Gap(records=records):
                self.records_missing += records
                return []
            case Request() | Chunk() | End():
                pass
            case _:
                return []
        exchange = self._exchanges.get(record.exchange)
        if isinstance(record, End):
            self._exchanges.pop(record.exchange, None)
        if exchange is None:  # it began before this tape did
            return []
        return [self._heard(self._rows.row(message), exchange, origin_ns) for message in exchange.reader.read(record)]

    def _heard(self, row: Row, exchange: Exchange, origin_ns: int) -> Heard:
        message = row.message
        asked = (row.method or "", row.target or "")
        if message.kind is Kind.REQUEST and message.direction is Direction.CLIENT_TO_SERVER:
            exchange.asked = asked
        if (call := row.call) is not None:
            self._open[call] = None
            if call.answer is not None or call.cancelled_ns is not None:
                del self._open[call]
        from_stream = exchange.is_stream and message.direction is Direction.SERVER_TO_CLIENT
        return Heard(
            at_ms=(message.at_ns - origin_ns) / 1e6,
            era=exchange.era,
            direction=message.direction,
            kind=message.kind,
            method=asked[0],
            id=message.id,
            target=asked[1],
            words=words(message, answers=row.answers),
            failed=row.status in {"error", "invalid"},
            duration_ms=None if row.duration_ns is None else row.duration_ns / 1e6,
            stream=exchange.asked if from_stream else None,
        )


def era_of_exchange(head: Open) -> str:
    """The era as the proxy recorded it, else as the version header tells."""
    return head.era or era_of(header_value(head.headers, "mcp-protocol-version") or None)
