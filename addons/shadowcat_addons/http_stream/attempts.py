"""A stream of mitmproxy's whose request may go to one upstream after the other.

Each attempt after the first has a stream id of its own towards the server, which no client uses. So what still comes
of an attempt that was given up is known, and dropped. Where a request goes is said by a `Passage` of the core; here it
meets mitmproxy's connections.
"""

import asyncio
import itertools
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, cast

from mitmproxy import flow, http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    HttpErrorHook,
    HttpEvent,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

from shadowcat_addons.http_stream.connecting import handler_of
from shadowcat_addons.http_stream.seamed import SeamedHttpStream
from shadowcat_core.relay import Leg, Passage, Reply, Tail
from shadowcat_core.resumption import WayBack
from shadowcat_core.stream import StreamTap
from shadowcat_core.upstreams import FailureKind
from shadowcat_core.waiting import Waiting

logger = logging.getLogger(__name__)

_CONNECTIONS_AT_ONCE = 1_000
"""To one upstream, for one client. With mitmproxy's own five, the sixth call of an HTTP/2 client would wait until one
of the others ends, and look like a server that takes no connections."""
_SWITCHING_PROTOCOLS = 101
_ATTEMPT_IDS = itertools.count(-1, -1)


class FlowRelay(Protocol):
    """Who knows the ways of flows."""

    def passage(self, its_flow: http.HTTPFlow) -> Passage | None:
        """The way of a flow; None when it goes to where its client asked."""
        ...

    def first_step(self, its_flow: http.HTTPFlow) -> Leg | WayBack | None:
        """Where the request goes, or the way back into a stream that its client is to be led first; told once."""
        ...

    def left(self, its_flow: http.HTTPFlow) -> None:
        """The client has left while addons had its flow."""
        ...

    def apply(self, its_flow: http.HTTPFlow, leg: Leg) -> http.Request:
        """Make the request of an attempt, or another one that goes on with the flow's stream."""
        ...

    def connected(self, its_flow: http.HTTPFlow) -> None:
        """The server of the latest attempt is there, and is sent its request."""
        ...

    def lost_answers(self, its_flow: http.HTTPFlow, reason: str) -> bytes:
        """Write an event with an error for each request whose answer will not come on its event stream."""
        ...

    def told_lost(self, its_flow: http.HTTPFlow) -> None:
        """The client is told that answers will not come."""
        ...

    def answered(self, its_flow: http.HTTPFlow, reply: Reply, reason: str) -> http.Response:
        """Make the response for a reply, which is given in the place of a server's."""
        ...

    def stream_again(self, its_flow: http.HTTPFlow, *, is_ours: bool = False) -> StreamTap | None:
        """Make another tap for a stream that goes on from another connection, or (`is_ours`) with what we say."""
        ...

    def read_on(self, its_flow: http.HTTPFlow) -> None:
        """The client has left, and the connection must stay until `read_enough`."""
        ...

    def read_enough(self, its_flow: http.HTTPFlow) -> None:
        """The connection need not stay any more."""
        ...


class AttemptingHttpStream(SeamedHttpStream):
    """What the seam adds to a request whose flow has a passage."""

    relay: FlowRelay
    _attempt: int | None = None
    _request: http.Request
    """That of the attempt."""
    _patience: asyncio.TimerHandle | None = None
    _is_overdue = False
    _is_read_on = False
    _read_on_until: asyncio.TimerHandle | None = None
    _awaits = False

    # --- Which events are of the attempt that counts ------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._attempt is None:
            return super()._handle_event(event)
        return self._in_attempt(self._attempt, event, super()._handle_event)

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        """What was upgraded to another protocol goes on where it was."""
        if self._attempt is None:
            yield from super().passthrough(event)
        elif not isinstance(event, events.Wakeup):  # one of ours, which the other protocol would not know
            yield from self._in_attempt(self._attempt, event, super().passthrough)

    def _in_attempt(
        self, attempt: int, event: events.Event, handle: Callable[[Any], layer.CommandGenerator[None]]
    ) -> layer.CommandGenerator[None]:
        """Let what goes to the server go under the attempt's id."""
        if isinstance(event, HttpEvent) and _is_of_server(event):
            if event.stream_id != attempt:
                return
            event.stream_id = self.stream_id
        steps = handle(event)
        reply = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration:
                return
            if isinstance(command, SendHttp) and self._is_for_server(command.event) and self._attempt is not None:
                command.event.stream_id = self._attempt
            reply = yield command

    def _is_for_server(self, event: HttpEvent) -> bool:
        return event.stream_id == self.stream_id and not _is_of_server(event)

    def _new_attempt(self) -> int:
        self._forget_attempt()
        self._attempt = next(_ATTEMPT_IDS)
        self._http_layer().streams[self._attempt] = self
        return self._attempt

    def _forget_attempt(self) -> None:
        if self._attempt is not None:
            self._http_layer().streams.pop(self._attempt, None)

    def _connection_handler(self) -> Any:
        return handler_of(self.context.client)

    def _http_layer(self) -> http_layer.HttpLayer:
        return cast(http_layer.HttpLayer, self.context.layers[self.context.layers.index(self) - 1])

    # --- The request --------------------------------------------------------------------------------------------------

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        passage = self.relay.passage(self.flow)
        if passage is None:
            return (yield from super().make_server_connection())
        step = self.relay.first_step(self.flow)
        if isinstance(step, WayBack):
            yield from self.lead_back(passage, step)
        elif step is not None:
            self._request = self.relay.apply(self.flow, step)
            if (yield from self._connect(passage)):
                yield from self._send_request(passage, self.stream_id)
        return False  # mitmproxy would send the client's own request

    @abstractmethod
    def lead_back(self, passage: Passage, way: WayBack) -> layer.CommandGenerator[None]:
        """Send the client what it misses, and go on with the stream behind that."""

    @abstractmethod
    def end_stream(self, tail: Tail | None) -> layer.CommandGenerator[None]:
        """End the client's stream; None when nobody is left to send to."""

    def _connect(self, passage: Passage, *, goes_on: bool = False) -> layer.CommandGenerator[bool]:
        """Connect to the upstream that the request is made out for, or to the next that will do."""
        while True:
            connection, error = yield from self._get_connection(passage)
            if connection is not None:
                self.context.server = self.flow.server_conn = connection
                if self._has_left:
                    yield from self._abandon()
                else:
                    self.relay.connected(self.flow)
                return not self._has_left
            step: Leg | Tail | Reply | None
            if goes_on:
                step = yield from self._await(partial(passage.reconnection_failed, FailureKind.CONNECT, error))
            else:
                step = yield from self._await(partial(passage.failed, FailureKind.CONNECT, error, sent=False))
            if isinstance(step, Leg):
                self._request = self.relay.apply(self.flow, step)
                continue
            if goes_on:
                yield from self.end_stream(step if isinstance(step, Tail) else None)
            else:
                yield from self._reply_or_abandon(step, error)
            return False

    def _get_connection(self, passage: Passage) -> layer.CommandGenerator[tuple[Server | None, str]]:
        address = (self._request.host, self._request.port)
        self._forget_closed_connections()
        handler = self._connection_handler()
        if handler is not None:
            handler.max_conns.setdefault(address, asyncio.Semaphore(_CONNECTIONS_AT_ONCE))
        wanted = GetHttpConnection(
            address,
            self._request.scheme == "https",
            self.flow.server_conn.via,
            self.flow.server_conn.transport_protocol,
        )
        connect_s = passage.pool.route.timeouts.connect_s
        alarm = asyncio.get_running_loop().call_later(connect_s, self._give_up_connecting, wanted)
        connection, error = yield wanted
        alarm.cancel()
        return (None, error) if error else (connection, "")

    def _forget_closed_connections(self) -> None:
        """Let go of connections that are over.

        mitmproxy keeps them, and gives the error of one that failed to whoever asks for that address again.
        """
        inner, handler = self._http_layer(), self._connection_handler()
        for known in list(inner.connections):
            if isinstance(known, Server) and not known.connected:
                known.error = None
                if handler is not None and not {known} & (handler.transports.keys() | inner.waiting_for_establishment):
                    del inner.connections[known]

    def _give_up_connecting(self, wanted: GetHttpConnection) -> None:
        handler = self._connection_handler()
        if handler is None:
            return
        # Also for TLS, when the connection as such is there.
        for connection, waiting in self._http_layer().waiting_for_establishment.items():
            io = handler.transports.get(connection)
            if io is not None and io.handler is not None and any(command is wanted for command in waiting):
                io.handler.cancel("no connection in time")

    def _begin_patience(self, passage: Passage) -> None:
        """Wait for the head of the answer no longer than the route says."""
        first_byte_s = passage.pool.route.timeouts.first_byte_s
        self._end_patience()
        if first_byte_s is not None:
            self._patience = asyncio.get_running_loop().call_later(first_byte_s, self._lose_patience)

    def _end_patience(self) -> None:
        self._is_overdue = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._is_overdue = True
        self._nudge()

    def _send_again(self, passage: Passage, leg: Leg) -> layer.CommandGenerator[None]:
        """Send the request another time: where `leg` says, or where that leads."""
        self._request = self.relay.apply(self.flow, leg)
        if not (yield from self._connect(passage, goes_on=leg.goes_on)):
            return
        yield from self._send_request(passage, self._new_attempt())

    def _send_request(self, passage: Passage, stream_id: int) -> layer.CommandGenerator[None]:
        request, server = self._request, self.context.server
        content, trailers = request.raw_content, request.trailers
        yield SendHttp(RequestHeaders(stream_id, request, not (content or trailers)), server)
        if content:
            yield SendHttp(http_layer.RequestData(stream_id, content), server)
        if trailers:
            yield SendHttp(http_layer.RequestTrailers(stream_id, trailers), server)
        yield SendHttp(RequestEndOfMessage(stream_id), server)
        self.server_state = self.state_wait_for_response_headers
        self._begin_patience(passage)

    def _give_up_attempt(self) -> layer.CommandGenerator[None]:
        """Let the server know that nobody waits for its answer, and listen to it no more."""
        stream_id = self.stream_id if self._attempt is None else self._attempt
        server = self.context.server
        transport = self._server_transport()
        self._new_attempt()
        if server in self._http_layer().connections:
            yield SendHttp(RequestProtocolError(stream_id, "given up", ErrorCode.CANCEL), server)
        if transport is not None and server.state is ConnectionState.CLOSED:
            transport.close()  # mitmproxy forgets to, when its own task is cancelled a second time

    # --- Ends ---------------------------------------------------------------------------------------------------------

    def _reply_or_abandon(self, reply: object, reason: str) -> layer.CommandGenerator[None]:
        """Answer in the place of a server; without a reply there is nobody to answer."""
        if not isinstance(reply, Reply):
            yield from self._abandon()
            return
        self.flow.response = response = self.relay.answered(self.flow, reply, reason)
        self.flow.error = flow.Error(reason)
        yield HttpErrorHook(self.flow)
        yield from self._send(response)
        yield from self._be_over()

    def _abandon(self) -> layer.CommandGenerator[None]:
        """End the flow without an answer: its client has left, or there is none that could be given."""
        if not self.flow.live:
            return
        has_left = self._has_left or self._is_read_on
        self.flow.error = self.flow.error or flow.Error("Client disconnected." if has_left else "no way to go on")
        yield HttpErrorHook(self.flow)
        if not has_left:
            error = ResponseProtocolError(self.stream_id, "no way to go on", ErrorCode.KILL)
            yield SendHttp(error, self.context.client)
        yield from self._be_over()

    def _cut(self, reason: str) -> layer.CommandGenerator[None]:
        if self.context.server in self._http_layer().connections:
            yield from super()._cut(reason)
            self._end_patience()
            self._forget_attempt()
            return
        # It waits for a connection, or is led back into a stream: there is no server to be told.
        self.flow.error = flow.Error(reason)
        yield HttpErrorHook(self.flow)
        yield SendHttp(ResponseProtocolError(self.stream_id, reason, ErrorCode.KILL), self.context.client)
        yield from self._be_over()

    def flow_done(self) -> layer.CommandGenerator[None]:
        if self.flow.response is None or self.flow.response.status_code != _SWITCHING_PROTOCOLS:
            self._forget_attempt()
        yield from super().flow_done()

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        yield from super().handle_protocol_error(event)
        if hasattr(self, "flow") and not self.flow.live:
            self._forget_attempt()

    def _be_over(self) -> layer.CommandGenerator[None]:
        self._end_patience()
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        self._forget_attempt()
        if self._read_on_until is not None:
            self._read_on_until.cancel()
            self.relay.read_enough(self.flow)
        yield http_layer.DropStream(self.stream_id)

    def _await[T](self, begin: Callable[[], Awaitable[T]]) -> layer.CommandGenerator[T | None]:
        """Await something with this stream alone; None when the client left meanwhile, or the stream was cut."""
        outcome: list[T] = []

        async def run() -> None:
            try:
                outcome.append(await begin())
            except Exception as exc:
                logger.error("shadowcat: %r", exc, exc_info=exc)

        self._awaits = True
        is_over = yield from self._wait(Waiting(run, is_moot=self._is_killed))
        self._awaits = False
        return outcome[0] if outcome and is_over and not self._has_left else None


def _is_of_server(event: HttpEvent) -> bool:
    return isinstance(
        event,
        ResponseHeaders | ResponseData | http_layer.ResponseTrailers | ResponseEndOfMessage | ResponseProtocolError,
    )
