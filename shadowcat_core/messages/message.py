"""One JSON-RPC message with its circumstances, decoded no further than somebody asks.

No I/O.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from shadowcat_core import mcp, sse
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Envelope, Json, JsonRpcId, Kind, classify, dump, envelope, parse
from shadowcat_core.mcp import Direction, HeaderLookup, Transport

_BLANKS: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class MessageContext:
    """Where messages come from; all messages of a stream share one.

    `session_id` is the legacy era's, `exchange_id` the HTTP request's, `stream_id` the event stream's or pipe's.
    `server` says who serves: a URL without its query, or a command. `headers` are those of the HTTP request.
    `request_of` finds the request that a message answers.
    """

    direction: Direction
    transport: Transport
    session_id: str | None = None
    exchange_id: int | None = None
    stream_id: str | None = None
    server: str | None = None
    headers: HeaderLookup | None = field(default=None, compare=False, repr=False)
    request_of: "Callable[[Message], Message | None] | None" = field(default=None, compare=False, repr=False)


class Message:
    """One JSON-RPC message. It never changes: an edit makes another one.

    `raw` is the JSON text as it came, without framing; `at_ns` when it arrived, on the clock of whoever made it.
    """

    __slots__ = (
        "_envelope",
        "_event_id",
        "_fault",
        "_fields",
        "_hint",
        "_payload",
        "_written",
        "at_ns",
        "context",
        "raw",
    )

    _payload: Json  # like `_fault`, there with the envelope
    _fault: str | None

    def __init__(
        self,
        raw: bytes,
        context: MessageContext,
        at_ns: int = 0,
        event_id: str | None = None,
        fields: bytes | None = None,
        written: bool = False,
    ) -> None:
        """Make a message of its JSON text.

        The id may be left in the `fields`: the rest of the event that had it. What was `written` here, from a payload,
        is known to be JSON that names nothing twice.
        """
        self.raw = raw
        self.context = context
        self.at_ns = at_ns
        self._event_id = event_id
        self._fields = fields
        self._hint: Envelope | None = None
        self._envelope: Envelope | None = None
        self._written = written

    def with_payload(self, payload: Json) -> "Message":
        """The same message saying something else.

        Raises:
            InvalidMessage: the payload cannot be written as JSON.
        """
        return Message(dump(payload), self.context, self.at_ns, self._event_id, self._fields, True)

    def with_raw(self, raw: bytes) -> "Message":
        """The same message with other bytes."""
        return Message(raw, self.context, self.at_ns, self._event_id, self._fields)

    @property
    def envelope(self) -> Envelope:
        """Kind, method and id, exactly: parses the message once."""
        return self._envelope or self._parse()

    @property
    def hint(self) -> Envelope | None:
        """Kind, method and id as a routing hint, without a parse; None when the bytes do not tell."""
        if self._hint is None:
            self._hint = classify(self.raw)
        return self._hint

    @property
    def kind(self) -> Kind:
        """What the message is; `Kind.INVALID` when it is not JSON or not JSON-RPC 2.0."""
        return (self._envelope or self._parse()).kind

    @property
    def method(self) -> str | None:
        """The method of a request or notification."""
        return (self._envelope or self._parse()).method

    @property
    def id(self) -> JsonRpcId | None:
        """The id, a number or a string as it was sent; None when absent or null."""
        return (self._envelope or self._parse()).id

    @property
    def payload(self) -> Json:
        """The parsed message. It is shared by all who ask: copy before changing, and hand the copy to an edit.

        Raises:
            InvalidMessage: the message is not JSON. Its kind says so before.
        """
        if self._envelope is None:
            self._parse()
        if self._fault is not None:
            raise InvalidMessage(self._fault)
        return self._payload

    @property
    def is_json(self) -> bool:
        """False when the message cannot be parsed. A more lenient endpoint may still read something in it."""
        if self._envelope is None:
            self._parse()
        return self._fault is None

    @property
    def is_json_rpc(self) -> bool:
        """False when the kind is INVALID. Takes no parse where the bytes were written here, from a payload."""
        return (self._written and self.hint is not None) or self.kind is not Kind.INVALID

    @property
    def target(self) -> str | None:
        """The tool, prompt, resource or task the message is about."""
        method = self.envelope.method
        if method is None or not isinstance(self._payload, dict):
            return None
        return mcp.target(method, self._payload.get("params"))

    @property
    def request(self) -> "Message | None":
        """The request that this message answers; None when it answers none that is known."""
        find = self.context.request_of
        return None if find is None or self.kind not in (Kind.RESPONSE, Kind.ERROR) else find(self)

    @property
    def event_id(self) -> str | None:
        """The id field of the event that carried the message."""
        if self._fields is not None:
            self._event_id = sse.SseParser().feed(b"\n" + self._fields)[-1].id
            self._fields = None
        return self._event_id

    @property
    def direction(self) -> Direction:
        """Which way the message goes."""
        return self.context.direction

    @property
    def transport(self) -> Transport:
        """What carried it."""
        return self.context.transport

    @property
    def session_id(self) -> str | None:
        """The session of the legacy era."""
        return self.context.session_id

    @property
    def exchange_id(self) -> int | None:
        """The HTTP request it came with."""
        return self.context.exchange_id

    @property
    def stream_id(self) -> str | None:
        """The event stream or pipe it came on."""
        return self.context.stream_id

    def _parse(self) -> Envelope:
        try:
            self._payload = payload = parse(self.raw)
            self._fault = None
        except InvalidMessage as exc:
            self._payload = payload = None
            self._fault = str(exc)
        self._envelope = found = envelope(payload)
        return found

    def __repr__(self) -> str:
        kind, method, request_id = self.envelope
        about = [
            str(self.direction),
            str(kind),
            method,
            self.target,
            None if request_id is None else f"id={request_id!r}",
        ]
        return f"<Message {' '.join(part for part in about if part is not None)}, {len(self.raw):,} bytes>"


type Content = Message | bytes | Json  # a message, its JSON text, or its payload


def message_of(content: Content, context: MessageContext, at_ns: int, before: Message | None = None) -> Message:
    """Make what stands for a message one; in the place of another, it belongs to the same event.

    Raises:
        InvalidMessage: it cannot be written as JSON, or is empty.
    """
    if isinstance(content, Message):
        message = content
    else:
        model = Message(b"", context, at_ns) if before is None else before
        if not isinstance(content, bytes):
            return model.with_payload(content)
        message = model.with_raw(content)
    if not message.raw.strip(_BLANKS):
        raise InvalidMessage("an empty message cannot be sent; drop it instead")
    return message
