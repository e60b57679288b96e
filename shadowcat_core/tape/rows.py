"""Messages as a person lists them: each answer beside what was asked, and how long it took."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from shadowcat_core.correlation import Call, Correlator
from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.limits import MAX_OPEN_CALLS
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageContext
from shadowcat_core.tape.records import Verdict
from shadowcat_core.transcript import is_failure, title

_ANSWERS = frozenset({Kind.RESPONSE, Kind.ERROR})


@dataclass(frozen=True, slots=True)
class Row:
    """One message in a list, and the call that it begins, answers, advances or cancels, as far as that is known."""

    message: Message
    call: Call | None = None

    @property
    def method(self) -> str | None:
        """The method; of an answer that of the request it answers, None when that is not on the tape."""
        return self._asking.method

    @property
    def target(self) -> str | None:
        """The tool, prompt or resource, likewise."""
        return self._asking.target

    @property
    def answers(self) -> str | None:
        """What an answer answers, for its headline."""
        return None if self._asking is self.message else title(self._asking)

    @property
    def status(self) -> str:
        """`ok` or `error` for an answer (a tool's own failure is an error too), `invalid`, else empty."""
        if self.message.kind in _ANSWERS:
            return "error" if is_failure(self.message) else "ok"
        return "invalid" if self.message.kind is Kind.INVALID else ""

    @property
    def duration_ns(self) -> int | None:
        """How long an answer took from its request; None for all else and when the request is not on the tape."""
        return None if self.call is None or self._asking is self.message else self.call.duration_ns

    @property
    def round(self) -> int:
        """Which request of its call a request or answer belongs to: beyond 1 when the server asked for input (MRTR)."""
        return 1 if self.call is None else self.call.round

    @property
    def _asking(self) -> Message:
        """The request that an answer answers; any other message itself."""
        call = self.call
        return self.message if call is None or self.message.kind not in _ANSWERS else call.request

    def as_json(self, origin_ns: int, *, payload: bool) -> dict[str, Json]:
        """Return the row for scripts: times in µs, sizes in bytes; with its payload, or its text when not JSON."""
        message = self.message
        fields: dict[str, Json] = {
            "t": (message.at_ns - origin_ns) // 1000,
            "exchange": message.exchange_id,
            "dir": str(message.direction),
            "kind": str(message.kind),
            "method": self.method,
            "id": message.id,
            "target": self.target,
            "status": self.status or None,
            "bytes": len(message.raw),
            "round": self.round,
            "duration_us": None if self.duration_ns is None else self.duration_ns // 1000,
            "session": message.session_id,
            "event_id": message.event_id,
        }
        if payload:
            if message.kind is Kind.INVALID:
                fields["text"] = message.raw.decode("utf-8", "replace")
            else:
                fields["payload"] = message.payload
        return fields


class RowReader:
    """Follows the calls of a tape through its messages, given in order; holds the unanswered requests."""

    def __init__(self, *, max_calls: int = MAX_OPEN_CALLS) -> None:
        self._max_calls = int(max_calls)
        self._calls = Correlator(max_calls=max_calls)
        # What is told of an answer may come behind it: this one is shown no answers, so its requests stay.
        self._asked = Correlator(max_calls=max_calls)
        # Exchanges whose request knew no session. Their answers may name one, which the request opened.
        self._sessionless: dict[int | None, None] = {}

    def row(self, message: Message) -> Row:
        """Give the row of the next message."""
        scope = self._scope(message)
        if message.kind is Kind.REQUEST:
            self._asked.see(message, scope)
        return Row(message, self._calls.see(message, scope))

    def concerned(self, verdict: Verdict, session_id: str | None) -> Row:
        """Give the message that a verdict concerns as a row; of an injected one what it became."""
        direction = Direction(verdict.direction or Direction.CLIENT_TO_SERVER)
        context = MessageContext(direction, Transport.HTTP, session_id, verdict.exchange)
        message = Message(verdict.original or verdict.result or b"", context, at_ns=verdict.at_ns)
        is_answer = message.kind in _ANSWERS
        return Row(message, self._asked.call_of(message, self._scope(message)) if is_answer else None)

    def _scope(self, message: Message) -> Hashable:
        """Within what the message's id is unique: the session, else the exchange (as `Exchange.scope`)."""
        number = message.exchange_id
        if message.session_id is not None and number not in self._sessionless:
            return message.session_id
        if message.direction is Direction.CLIENT_TO_SERVER:
            self._sessionless[number] = None
            if len(self._sessionless) > self._max_calls:
                del self._sessionless[next(iter(self._sessionless))]
        return number


def list_rows(messages: Iterable[Message]) -> Iterator[Row]:
    """Give the rows of a whole tape's messages."""
    return map(RowReader().row, messages)
