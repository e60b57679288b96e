"""What one HTTP exchange means while it runs: who asked what, what came back, and who looks on. No I/O.

`ExchangeRegistry` is what the mitmproxy addons share: one looks up what another has recognised, by mitmproxy's flow id.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Protocol

from shadowcat_core.correlation import Call, Correlator
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.limits import MAX_WAITING_BYTES, MAX_WAITING_READINGS
from shadowcat_core.mcp import Direction, HeaderLookup, Recognition, RecognitionKind, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.outlet import Outlet
from shadowcat_core.stream import BatchSink, ChunkSink, Clock, StreamMetrics, StreamTap

LISTEN_METHOD = "subscriptions/listen"
_LISTEN_LITERALS = (b"subscriptions/listen", b"subscriptions\\/listen")  # as JSON may write it


class Exchange:
    """One HTTP request and its response, from the request's end to the response's."""

    def __init__(
        self, number: int, flow_id: str, recognition: Recognition, body: bytes = b"", started_ns: int = 0
    ) -> None:
        """Make the exchange of a complete request. `body` is the request's, without its content coding."""
        self.number = number
        self.flow_id = flow_id
        self.recognition = recognition
        self.started_ns = started_ns
        self.scope = recognition.session_id or flow_id
        """Within what JSON-RPC ids are unique: the session, or where there is none this exchange alone."""
        self.may_tell = False
        """True of a stream that an event may yet tell to be MCP."""
        self.resumes = False
        """True when the client resumes a stream (`Last-Event-ID`)."""
        self.calls: list[Call] = []
        """The requests that it asked, answered or not, on this exchange or on another."""
        self.messages = 0
        """How many messages the response has brought."""
        self.tap: StreamTap | None = None
        """Set when the response streams."""
        self.chunk_sinks: list[ChunkSink] = []
        """Who sees the response's chunks as they pass; to be added to before the response begins."""
        self.passed_sinks: list[ChunkSink] = []
        """Who sees what passes of the response, after interceptors; likewise."""
        self.batch_sinks: list[BatchSink] = []
        """Who sees the response's messages after they passed; likewise."""
        self.held: str | None = None
        """What of it an interceptor holds just now, in words."""
        self.deeds: Counter[str] = Counter()
        """What interceptors did to its messages, in words, and how often."""
        self.owed: list[Message] = []
        """Answers to some of its requests that were given without the server, to go with the response."""
        self.status: int | None = None
        """The response's HTTP status, once its head is here."""
        self.ended_ns: int | None = None
        self.broke_off: str | None = None
        """How it ended when not as it should, in the words of the tape's `end` record."""
        self.server: str | None = None
        """The URL that was asked, without its query."""
        self.head: HeaderLookup | None = None
        """The request's headers."""
        self.request_of: Callable[[str, Message], Message | None] | None = None
        """Finds the request that a message answers, within a scope."""
        self.came: bytes | None = None
        """The response's body as it came, in its coding, where interceptors put another in its place."""
        self.sinks_first = False
        """Chunk sinks see a chunk before it passes, not after: the tape's standard mode."""
        self.on_tape = False
        self.answered_by_us = False
        self._body = body
        self._outlet: Outlet | None = None

    @property
    def outlet(self) -> Outlet | None:
        """Decides how the response goes to the client; may be set before it begins or while it streams."""
        return self._outlet if self.tap is None else self.tap.outlet

    @outlet.setter
    def outlet(self, outlet: Outlet | None) -> None:
        self._outlet = outlet
        if self.tap is not None:
            self.tap.outlet = outlet

    @cached_property
    def asked(self) -> MessageBatch:
        """The messages of the request's body, read when first asked for."""
        return MessageBatch.of_body(self._body, self.context(Direction.CLIENT_TO_SERVER), self.started_ns)

    def asked_in(self, body: bytes) -> MessageBatch:
        """The messages of what goes to the server: those of the request's body, unless somebody has changed it."""
        if body == self._body:
            return self.asked
        return MessageBatch.of_body(body, self.context(Direction.CLIENT_TO_SERVER), self.started_ns)

    @cached_property
    def requests(self) -> Sequence[Message]:
        """What was asked and wants an answer."""
        return [message for message in self.asked if message.kind is Kind.REQUEST]

    @cached_property
    def listens(self) -> bool:
        """True for a modern client's subscription, whose answer streams whatever its content type."""
        may_listen = any(literal in self._body for literal in _LISTEN_LITERALS)
        return may_listen and any(message.method == LISTEN_METHOD for message in self.requests)

    def settle(self, recognition: Recognition) -> None:
        """Take note of what the response told about the exchange, such as the session that it opened."""
        self.recognition = recognition
        if not self._body and recognition.session_id is not None:
            self.scope = recognition.session_id

    def context(self, direction: Direction) -> MessageContext:
        """What the messages of this exchange in one direction have in common."""
        return MessageContext(
            direction,
            Transport.HTTP,
            session_id=self.recognition.session_id,
            exchange_id=self.number,
            stream_id=self.flow_id,
            server=self.server,
            headers=self.head,
            request_of=None if self.request_of is None else partial(self.request_of, self.scope),
        )


class Watcher(Protocol):
    """Learns of messages and ends of exchanges in order, when the registry catches up."""

    def saw(self, exchange: Exchange, batch: MessageBatch, calls: list[Call]) -> None:
        """Messages passed, in either direction; `calls` are those that they begin, answer, advance or cancel."""
        ...

    def closed(self, exchange: Exchange) -> None:
        """An exchange is over."""
        ...


class ExchangeRegistry:
    """The exchanges that are running now, and the calls they carry.

    What is not needed before the bytes pass is put off, in order, until somebody wants to know (`catch_up`): reading
    bodies, matching answers with their requests, telling the watchers.
    """

    def __init__(self, clock_ns: Clock, on_failure: Callable[[Exception], object] = lambda _exc: None) -> None:
        """Make an empty registry. `on_failure` is told of each reading that fails; the others are done."""
        self.clock_ns = clock_ns
        self._on_failure = on_failure
        self.metrics = StreamMetrics()
        """All streams that have ended, together."""
        self.opened = 0
        """Exchanges so far; the latest one's number."""
        self.when_answered_elsewhere: Callable[[Call], object] = lambda _call: None
        """Told of each call whose answer came on another exchange than the call itself."""
        self.watchers: list[Watcher] = []
        self._correlator = Correlator()
        self._running: dict[str, Exchange] = {}
        self._waiting: deque[Callable[[], object]] = deque()
        self._waiting_bytes = 0
        self._catching_up = False

    def __len__(self) -> int:
        return len(self._running)

    def get(self, flow_id: str) -> Exchange | None:
        """The running exchange of a flow; None when the flow is not one of ours."""
        return self._running.get(flow_id)

    def taps(self) -> list[StreamTap]:
        """The taps of the streams that run; what they have counted is not in `metrics` yet."""
        return [exchange.tap for exchange in self._running.values() if exchange.tap is not None]

    def stream_of(self, exchange: Exchange) -> Exchange | None:
        """The running stream of HTTP+SSE (2024-11-05) on which an exchange's client looks for its answers."""
        asked = exchange.recognition
        if asked.endpoint is None:
            return None
        for other in reversed(self._running.values()):
            stream = other.recognition
            same = (stream.endpoint, stream.session_id) == (asked.endpoint, asked.session_id)
            if stream.kind is RecognitionKind.SSE_STREAM and same:
                return other
        return None

    def open(self, flow_id: str, recognition: Recognition, body: bytes) -> Exchange:
        """Begin an exchange whose request is complete; `body` is the request's, without its content coding."""
        self.opened += 1
        exchange = Exchange(self.opened, flow_id, recognition, body, self.clock_ns())
        self._running[flow_id] = exchange
        exchange.request_of = self._request_of
        if body:
            self.later(lambda: self._see_request(exchange), len(body))
        exchange.batch_sinks.append(lambda batch: self.see_answer(exchange, batch))
        return exchange

    def later(self, reading: Callable[[], object], size: int = 0) -> None:
        """Put something off until the next `catch_up`, after all that was put off before it.

        `size` is how many bytes it keeps in memory until then.
        """
        self._waiting.append(reading)
        self._waiting_bytes += size
        if len(self._waiting) > MAX_WAITING_READINGS or self._waiting_bytes > MAX_WAITING_BYTES:
            self.catch_up()

    def catch_up(self, until_ns: int | None = None) -> bool:
        """Do what was put off; with `until_ns`, only up to that time. True when nothing is left."""
        if self._catching_up:  # one that is done wants to know: all before it are done already
            return False
        self._catching_up = True
        try:
            while self._waiting:
                try:
                    self._waiting.popleft()()
                except Exception as exc:  # noqa: BLE001 - one exchange's fault must not hide all others
                    self._on_failure(exc)
                if until_ns is not None and self.clock_ns() >= until_ns:
                    break
        finally:
            self._catching_up = False
        if self._waiting:
            return False
        self._waiting_bytes = 0
        return True

    def see_answer(self, exchange: Exchange, batch: MessageBatch) -> None:
        """Take note of messages in an exchange's response."""
        self.catch_up()  # what was asked before comes before its answer
        exchange.messages += len(batch)
        for call in self._see(exchange, batch):
            if call.answer is not None and call.request.exchange_id != exchange.number:
                self.when_answered_elsewhere(call)

    def see_body(self, exchange: Exchange, body: bytes) -> None:
        """Take note of a response that came in one piece."""
        if not body:
            return
        at_ns = exchange.ended_ns or self.clock_ns()
        batch = MessageBatch.of_body(body, exchange.context(Direction.SERVER_TO_CLIENT), at_ns)
        refused = exchange.status is not None and exchange.status >= 400
        if refused and all(message.kind is Kind.INVALID for message in batch):
            return  # a page that explains the status
        self.see_answer(exchange, batch)

    def close(self, flow_id: str) -> None:
        """End an exchange; ending it twice is no harm."""
        exchange = self._running.pop(flow_id, None)
        if exchange is not None:
            exchange.chunk_sinks.clear()
            exchange.passed_sinks.clear()
            exchange.batch_sinks.clear()
            if exchange.tap is not None:
                self.metrics.merge(exchange.tap.metrics)
                exchange.tap.release()
            self.later(lambda: self._forget(exchange))

    def _request_of(self, scope: str, answer: Message) -> Message | None:
        self.catch_up()
        return self._correlator.request_of(answer, scope)

    def _see_request(self, exchange: Exchange) -> None:
        seen = self._see(exchange, exchange.asked)
        # A posted answer belongs to a call of the server's.
        exchange.calls = [call for call in seen if call.request.exchange_id == exchange.number]

    def _forget(self, exchange: Exchange) -> None:
        if exchange.scope == exchange.flow_id:
            self._correlator.forget(exchange.flow_id)
        for watcher in self.watchers:
            watcher.closed(exchange)

    def _see(self, exchange: Exchange, batch: MessageBatch) -> list[Call]:
        calls = self._correlator.see_batch(batch, exchange.scope)
        for watcher in self.watchers:
            watcher.saw(exchange, batch, calls)
        return calls
