"""What one HTTP exchange means while it runs: who asked what, what came back, and who looks on. No I/O.

`ExchangeRegistry` is what the mitmproxy addons share: one looks up what another has recognised, by mitmproxy's flow id.
"""

from collections.abc import Callable
from typing import Protocol

from shadowcat_core.correlation import Call, Correlator
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction, Recognition, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.stream import BatchSink, ChunkSink, Clock, StreamMetrics, StreamTap

LISTEN_METHOD = "subscriptions/listen"


class Exchange:
    """One HTTP request and its response, from the request's end to the response's."""

    def __init__(
        self, number: int, flow_id: str, connection_id: str, recognition: Recognition, started_ns: int
    ) -> None:
        self.number = number
        self.flow_id = flow_id
        self.connection_id = connection_id
        self.recognition = recognition
        self.started_ns = started_ns
        self.scope = recognition.session_id or flow_id
        """Within what JSON-RPC ids are unique: the session, or where there is none this exchange alone."""
        self.asked: MessageBatch | None = None
        """The messages of the request's body."""
        self.calls: list[Call] = []
        """The requests among them, answered or not, on this exchange or on another."""
        self.messages = 0
        """How many messages the response has brought."""
        self.tap: StreamTap | None = None
        """Set when the response streams."""
        self.chunk_sinks: list[ChunkSink] = []
        """Who sees the response's chunks as they pass; to be added to before the response begins."""
        self.batch_sinks: list[BatchSink] = []
        """Who sees the response's messages after they passed; likewise."""
        self.status: int | None = None
        """The response's HTTP status, once its head is here."""
        self.ended_ns: int | None = None
        self.sinks_first = False
        """Chunk sinks see a chunk before it passes, not after: the tape's standard mode."""
        self.on_tape = False
        self.answered_by_us = False

    def settle(self, recognition: Recognition) -> None:
        """Take note of what the response told about the exchange, such as the session that it opened."""
        self.recognition = recognition
        if self.asked is None and recognition.session_id is not None:
            self.scope = recognition.session_id

    @property
    def requests(self) -> list[Message]:
        """What was asked and wants an answer."""
        return [] if self.asked is None else [message for message in self.asked if message.kind is Kind.REQUEST]

    @property
    def listens(self) -> bool:
        """True for a modern client's subscription, whose answer streams whatever its content type."""
        return any(message.method == LISTEN_METHOD for message in self.requests)

    def context(self, direction: Direction) -> MessageContext:
        """What the messages of this exchange in one direction have in common."""
        return MessageContext(
            direction,
            Transport.HTTP,
            session_id=self.recognition.session_id,
            exchange_id=self.number,
            stream_id=self.flow_id,
        )


class Watcher(Protocol):
    """Learns of exchanges and their messages as the registry does. It is on the wire's path: it must not wait."""

    def opened(self, exchange: Exchange) -> None:
        """An exchange begins; its sinks can be added to."""
        ...

    def saw(self, exchange: Exchange, batch: MessageBatch, calls: list[Call]) -> None:
        """Messages passed, in either direction; `calls` are those that they begin, answer, advance or cancel."""
        ...

    def closed(self, exchange: Exchange) -> None:
        """An exchange is over."""
        ...


class ExchangeRegistry:
    """The exchanges that are running now, and the calls they carry."""

    def __init__(self, clock_ns: Clock) -> None:
        self.clock_ns = clock_ns
        self.metrics = StreamMetrics()
        """All streams that have ended, together."""
        self.opened = 0
        """Exchanges so far; the latest one's number."""
        self.when_answered_elsewhere: Callable[[Call], object] = lambda _call: None
        """Told of each call whose answer came on another exchange than the call itself."""
        self.watchers: list[Watcher] = []
        self._correlator = Correlator()
        self._running: dict[str, Exchange] = {}

    def __len__(self) -> int:
        return len(self._running)

    def get(self, flow_id: str) -> Exchange | None:
        """The running exchange of a flow; None when the flow is not one of ours."""
        return self._running.get(flow_id)

    def open(self, flow_id: str, connection_id: str, recognition: Recognition, body: bytes) -> Exchange:
        """Begin an exchange whose request is complete."""
        self.opened += 1
        exchange = Exchange(self.opened, flow_id, connection_id, recognition, self.clock_ns())
        self._running[flow_id] = exchange
        for watcher in self.watchers:
            watcher.opened(exchange)
        if body:
            context = exchange.context(Direction.CLIENT_TO_SERVER)
            exchange.asked = MessageBatch.of_body(body, context, exchange.started_ns)
            seen = self._see(exchange, exchange.asked)
            # A posted answer belongs to a call of the server's.
            exchange.calls = [call for call in seen if call.request.exchange_id == exchange.number]
        exchange.batch_sinks.append(lambda batch: self.see_answer(exchange, batch))
        return exchange

    def see_answer(self, exchange: Exchange, batch: MessageBatch) -> None:
        """Take note of messages in an exchange's response."""
        exchange.messages += len(batch)
        for call in self._see(exchange, batch):
            if call.answer is not None and call.request.exchange_id != exchange.number:
                self.when_answered_elsewhere(call)

    def see_body(self, exchange: Exchange, body: bytes) -> None:
        """Take note of a response that came in one piece."""
        if body:
            context = exchange.context(Direction.SERVER_TO_CLIENT)
            self.see_answer(exchange, MessageBatch.of_body(body, context, self.clock_ns()))

    def close(self, flow_id: str) -> None:
        """End an exchange; ending it twice is no harm."""
        exchange = self._running.pop(flow_id, None)
        if exchange is None:
            return
        if exchange.tap is not None:
            self.metrics.merge(exchange.tap.metrics)
        if exchange.scope == flow_id:
            self._correlator.forget(flow_id)
        for watcher in self.watchers:
            watcher.closed(exchange)

    def close_connection(self, connection_id: str) -> list[Exchange]:
        """End what a client's connection left behind, and give it."""
        left = [exchange for exchange in self._running.values() if exchange.connection_id == connection_id]
        for exchange in left:
            self.close(exchange.flow_id)
        return left

    def _see(self, exchange: Exchange, batch: MessageBatch) -> list[Call]:
        calls = self._correlator.see_batch(batch, exchange.scope)
        for watcher in self.watchers:
            watcher.saw(exchange, batch, calls)
        return calls
