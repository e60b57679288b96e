"""Follow a tape while it is written, as the messages that passed.

Nothing here asks the client or the server: what is heard is what the proxy recorded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from shadowcat_core.content_coding import ContentDecoder, decoder_for
from shadowcat_core.demo.wording import Payload, gist, is_failure, part
from shadowcat_core.errors import ShadowcatError
from shadowcat_core.sse import SseParser
from shadowcat_core.tape.encoding import decode, decode_header
from shadowcat_core.tape.records import Chunk, Direction, End, Gap, Headers, Open, Record, Request, Response

type Kind = Literal["request", "notification", "response", "error"]
type Asked = tuple[str | int, Direction, str | int | None]

FIRST_MODERN_VERSION = "2026-07-28"
TARGETS = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
ANSWERS_TO: dict[Direction, Direction] = {"c2s": "s2c", "s2c": "c2s"}


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it passed. `at_ms` counts from the tape's beginning; `duration_ms` is an answer's, from its
    request; `method` and `target` of an answer are its request's."""

    at_ms: float
    era: str
    direction: Direction
    kind: Kind
    method: str
    id: str | int | None
    target: str
    gist: str
    failed: bool
    duration_ms: float | None
    stream: tuple[str, str] | None
    """Method and target of the request whose event stream carried the message, None when it came otherwise."""


@dataclass(slots=True)
class Exchange:
    """What has to be remembered of one HTTP request while its response comes in."""

    scope: str | int
    """Where its message ids are unique: the session, or the exchange itself when there is none."""
    era: str
    asked: tuple[str, str] = ("", "")
    """Method and target of its request; empty for a stream that was opened without one (GET)."""
    sse: SseParser | None = None
    decoder: ContentDecoder = field(default_factory=lambda: decoder_for(""))
    body: bytearray = field(default_factory=bytearray)

    def expect_body(self, headers: Headers) -> None:
        names = {name.lower(): value for name, value in headers}
        self.decoder = decoder_for(names.get("content-encoding", ""))
        if names.get("content-type", "").startswith("text/event-stream"):
            self.sse = SseParser()

    def take(self, chunk: bytes) -> Sequence[bytes]:
        """Give the JSON documents that are complete with this chunk of the response."""
        plain = self.decoder.decode(chunk)
        if self.sse is None:
            self.body += plain
            return ()
        return [frame.data for frame in self.sse.feed(plain) if frame.dispatches]


@dataclass(frozen=True, slots=True)
class Question:
    at_ns: int
    method: str
    target: str


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


class Listener:
    """Turns records into messages: bodies and event streams decoded, answers matched with their requests."""

    def __init__(self) -> None:
        self.records_missing = 0
        self._exchanges: dict[int, Exchange] = {}
        self._asked: dict[Asked, Question] = {}

    @property
    def unanswered(self) -> list[str]:
        """Methods of the requests that nothing has answered yet; a subscription is open until one side ends it."""
        return [question.method for question in self._asked.values() if question.method != "subscriptions/listen"]

    def hear(self, record: Record, origin_ns: int) -> list[Heard]:
        """Give the messages that this record completes."""
        match record:
            case Open(exchange=number, session=session):
                self._exchanges[number] = Exchange(session or number, era_of(record))
            case Request() | Response() | Chunk() | End():
                exchange = self._exchanges.get(record.exchange)
                try:
                    return [] if exchange is None else self._hear_in(exchange, record, origin_ns)
                except ShadowcatError:  # a body that cannot be decoded: its messages are nobody's to show
                    del self._exchanges[record.exchange]
            case Gap(records=records):
                self.records_missing += records
            case _:
                pass
        return []

    def _hear_in(self, exchange: Exchange, record: Request | Response | Chunk | End, origin_ns: int) -> list[Heard]:
        direction: Direction = "s2c"
        documents: Sequence[bytes] = ()
        match record:
            case Request(data=data):
                direction, documents = "c2s", (data,)
            case Response(headers=headers):
                exchange.expect_body(headers)
            case Chunk(direction="s2c", data=data):
                documents = exchange.take(data)
            case End(exchange=number):
                documents = (bytes(exchange.body),)
                del self._exchanges[number]
            case _:
                pass
        return [
            self._message(exchange, direction, payload, record.at_ns, origin_ns)
            for document in documents
            for payload in payloads(document)
        ]

    def _message(self, exchange: Exchange, direction: Direction, payload: Payload, at_ns: int, origin_ns: int) -> Heard:
        message_id = payload.get("id")
        if not isinstance(message_id, str | int):
            message_id = None
        method, target, duration_ms = payload.get("method"), "", None
        stream = exchange.asked if exchange.sse is not None and direction == "s2c" else None
        kind: Kind
        if isinstance(method, str):
            kind = "notification" if message_id is None else "request"
            target = str(part(payload, "params").get(TARGETS.get(method, ""), ""))
            if message_id is not None:
                self._asked[exchange.scope, direction, message_id] = Question(at_ns, method, target)
            if direction == "c2s":
                exchange.asked = method, target
        else:
            kind = "error" if "error" in payload else "response"
            question = self._asked.pop((exchange.scope, ANSWERS_TO[direction], message_id), None)
            method = ""
            if question is not None:
                method, target, duration_ms = question.method, question.target, (at_ns - question.at_ns) / 1e6
        return Heard(
            at_ms=(at_ns - origin_ns) / 1e6,
            era=exchange.era,
            direction=direction,
            kind=kind,
            method=method,
            id=message_id,
            target=target,
            gist=gist(method, payload),
            failed=is_failure(payload),
            duration_ms=duration_ms,
            stream=stream,
        )


def payloads(document: bytes) -> list[Payload]:
    """The JSON-RPC messages of a body or an event: one, several in an array, or none when it is something else."""
    try:
        value = orjson.loads(document)
    except ValueError:  # a priming event, an empty 202, a page of HTML
        return []
    return [payload for payload in (value if isinstance(value, list) else [value]) if isinstance(payload, dict)]


def era_of(head: Open) -> str:
    """The era of an exchange; versions are dates, and a request without one is the stateful era's first."""
    if head.era is not None:
        return head.era
    version = {name.lower(): value for name, value in head.headers}.get("mcp-protocol-version", "")
    return "modern" if version >= FIRST_MODERN_VERSION else "legacy"
