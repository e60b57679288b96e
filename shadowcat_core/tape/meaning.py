"""Records to messages: what a tape means in MCP, derived when it is read and never stored.

Bodies are decoded as their heads say, event streams and lines are framed by the same code that reads the wire, so a
tape read later gives what the proxy saw live. What cannot be interpreted (a damaged coding, a missing head, a body
that is no MCP) gives no messages and says why in `problem`; the records stay as they are.
"""

from collections.abc import Iterable, Iterator

from shadowcat_core.content_coding import ContentDecoder, decoder_for
from shadowcat_core.errors import InvalidMessage, MessageTooLarge
from shadowcat_core.framing import Framing, LineFraming, SseFraming
from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.mcp import Direction, Transport, is_event_stream, is_json, media_type
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.tape.records import (
    Chunk,
    End,
    Gap,
    Headers,
    Note,
    Open,
    Record,
    Request,
    Response,
    Unknown,
    Verdict,
    header_value,
)

# Answers to `subscriptions/listen` may come as lines; the names are those in use, none is registered.
LINE_TYPES = frozenset({"application/jsonl", "application/x-ndjson", "application/ndjson", "application/json-seq"})


class _Body:
    """The bytes of one direction on their way to messages."""

    def __init__(self, decoder: ContentDecoder, framing: Framing | None, context: MessageContext) -> None:
        self._decoder = decoder
        self._framing = framing
        self._context = context
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._last_ns = 0

    def read(self, data: bytes, at_ns: int) -> Iterable[Message]:
        self._last_ns = at_ns
        text = self._decoder.decode(data)
        if self._framing is not None:
            return self._framing.read(text, at_ns) or ()
        self._held_bytes += len(text)
        if self._held_bytes > MAX_EVENT_BYTES:
            raise MessageTooLarge(self._held_bytes, MAX_EVENT_BYTES)
        self._held.append(text)
        return ()

    def close(self) -> Iterable[Message]:
        """Give the message of a body that is one document; it counts as arrived with its last byte."""
        body = b"".join(self._held)
        self._held.clear()
        return MessageBatch.of_body(body, self._context, self._last_ns) if body else ()


class ExchangeReader:
    """Reads the records of one exchange, in order, as messages."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.problem: str | None = None
        self._opened: Open | None = None
        self._session: str | None = None
        # None for a body that is no MCP: nothing is kept of it.
        self._bodies: dict[Direction, _Body | None] = {}

    @property
    def session(self) -> str | None:
        """The session that its messages belong to, as far as it was read."""
        return self._session

    def read(self, record: Record) -> list[Message]:
        """Return the messages that `record` completes."""
        try:
            return list(self._read(record))
        except (InvalidMessage, MessageTooLarge) as exc:
            self.problem = str(exc)
            self._bodies.clear()
            return []

    def _read(self, record: Record) -> Iterable[Message]:
        match record:
            case Open():
                self._opened = record
                self._session = record.session
                if record.transport == Transport.STDIO:
                    for direction in Direction:
                        self._bodies[direction] = self._pipe(direction)
                else:
                    self._bodies[Direction.CLIENT_TO_SERVER] = self._body(Direction.CLIENT_TO_SERVER, record.headers)
                return ()
            case Request(data=data, at_ns=at_ns):
                return self._chunk(Direction.CLIENT_TO_SERVER, data, at_ns, is_last=True)
            case Chunk(direction=direction, data=data, at_ns=at_ns):
                return self._chunk(Direction(direction), data, at_ns)
            case Response(headers=headers):
                asked = self._close(Direction.CLIENT_TO_SERVER)
                # `initialize` is asked without a session and answered with one.
                self._session = self._session or header_value(headers, "mcp-session-id") or None
                if self._opened is not None:
                    self._bodies[Direction.SERVER_TO_CLIENT] = self._body(Direction.SERVER_TO_CLIENT, headers)
                return asked
            case End():
                return [message for direction in Direction for message in self._close(direction)]
            case Gap():
                self.problem = f"{record.records} records are missing: {record.reason}"
                return ()
            case Verdict() | Note() | Unknown():
                return ()

    def _chunk(self, direction: Direction, data: bytes, at_ns: int, *, is_last: bool = False) -> Iterable[Message]:
        if direction not in self._bodies:
            self.problem = self.problem or "the head is not on the tape"
            return ()
        body = self._bodies[direction]
        if body is None:
            return ()
        messages = body.read(data, at_ns)
        return self._close(direction) if is_last else messages

    def _close(self, direction: Direction) -> Iterable[Message]:
        body = self._bodies.pop(direction, None)
        return () if body is None else body.close()

    def _pipe(self, direction: Direction) -> _Body:
        context = self._context(direction, Transport.STDIO)
        return _Body(decoder_for(""), LineFraming(context), context)

    def _body(self, direction: Direction, headers: Headers) -> _Body | None:
        context = self._context(direction, Transport.HTTP)
        decoder = decoder_for(header_value(headers, "content-encoding"))
        content_type = header_value(headers, "content-type")
        if is_event_stream(content_type):
            return _Body(decoder, SseFraming(context), context)
        if media_type(content_type)[0] in LINE_TYPES:
            return _Body(decoder, LineFraming(context), context)
        if is_json(content_type) or not content_type:
            return _Body(decoder, None, context)
        return None

    def _context(self, direction: Direction, transport: Transport) -> MessageContext:
        stream = None if self._opened is None else self._opened.flow
        return MessageContext(direction, transport, self._session, self.number, stream)


class TapeMeaning:
    """Reads the records of a whole tape, in order, as messages; holds the open exchanges."""

    def __init__(self) -> None:
        self._readers: dict[int, ExchangeReader] = {}

    def of(self, number: int) -> ExchangeReader:
        """The reader of an exchange that has not ended."""
        return self._readers.setdefault(number, ExchangeReader(number))

    def read(self, record: Record) -> list[Message]:
        """Return the messages that `record` completes."""
        match record:
            case Gap(exchanges=touched):
                for number in touched:
                    self.of(number).read(record)
                return []
            case Note() | Unknown() | Verdict():
                return []
            case _:
                messages = self.of(record.exchange).read(record)
                if isinstance(record, End):
                    del self._readers[record.exchange]
                return messages


def read_messages(records: Iterable[Record]) -> Iterator[Message]:
    """Yield the messages of a whole tape in the order in which they were complete."""
    read = TapeMeaning().read
    for record in records:
        yield from read(record)
