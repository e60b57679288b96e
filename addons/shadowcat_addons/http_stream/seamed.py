"""A stream of mitmproxy's that waits, throttles, cuts, and says things of our own, where its response is ours."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast
from weakref import WeakSet

from mitmproxy import ctx, flow, http
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpErrorHook,
    HttpStream,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)
from mitmproxy.utils import human

from shadowcat_core.limits import CHUNK_OVERHEAD_BYTES, MAX_EVENT_BYTES, MAX_QUEUED_STREAM_BYTES
from shadowcat_core.outlet import Cut, Send, Stall, Step, Wait
from shadowcat_core.stream import Passed, StreamTap
from shadowcat_core.waiting import Waiting

type Answer = Callable[[http.HTTPFlow, str], http.Response | None]
"""Gives the response for an exchange whose upstream failed before answering (flow, error text); None leaves it."""

type Left = Callable[[http.HTTPFlow], None]
"""Told that the client of an exchange left while an addon's hook for it was running."""

type HoldsWhole = Callable[[http.HTTPFlow], bool]
"""Says of a request whose head is here that its body must not stream, as somebody decides about it."""


@dataclass
class ShadowcatWaitHook(commands.StartHook):
    """Lets mitmproxy wait, with this stream alone; the suite's handler `shadowcat_wait` awaits what is in it."""

    waiting: Waiting


class SeamedHttpStream(HttpStream):
    """What the seam adds to a stream whose flow goes to one server, as the client asked."""

    answer_for: Answer
    client_left: Left
    holds_whole: HoldsWhole
    waits: ClassVar[WeakSet[Waiting]]
    _waiting: Waiting | None = None
    _alarm: commands.RequestWakeup | None = None
    _has_left = False
    _has_too_much = False
    _queued_bytes = 0
    _throttled: asyncio.ReadTransport | None = None
    _nudges: ClassVar[set[asyncio.Task[None]]] = set()

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._paused is not None:
            self._see_queued(event)
        return super().handle_event(event)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._queued_bytes and isinstance(event, ResponseData):
            self._see_unqueued(event)
        if isinstance(event, events.Wakeup):
            return self._flush(event)
        return cast(layer.CommandGenerator[None], super()._handle_event(event))

    def start_response_stream(self) -> layer.CommandGenerator[None]:
        tap = self._tap()
        for command in super().start_response_stream():
            if tap is None or not isinstance(command, commands.Log):  # it would say of each tool call that it streams
                yield command
        if tap is not None:
            # What is posted may come from anywhere, also from within this layer: it is sent on a turn of its own.
            tap.on_post = self._nudge
            yield from self._pass_on(tap, tap.flush())

    def state_stream_response_body(self, event: Any) -> layer.CommandGenerator[None]:
        tap = self._tap()
        if tap is None:
            yield from super().state_stream_response_body(event)
        elif isinstance(event, ResponseData):
            if tap.passes_first():
                yield from self._deliver(tap, event.data)  # it has no outlet, which might cut it
                tap.watch(event.data)
            elif not (yield from self._pass_on(tap, [tap.take(event.data)])):
                return
            if tap.has_posted:
                yield from self._pass_on(tap, tap.flush())
        elif isinstance(event, ResponseEndOfMessage):
            if (yield from self._pass_on(tap, tap.end())):
                yield from self._finish(tap)
        else:
            yield from super().state_stream_response_body(event)

    def _finish(self, tap: StreamTap | None) -> layer.CommandGenerator[None]:
        """End the response in good order, behind all that its outlet kept."""
        if tap is None or tap.outlet is None or (yield from self._go(tap.outlet.end())):
            yield from super().state_stream_response_body(ResponseEndOfMessage(self.stream_id))

    def _tap(self) -> StreamTap | None:
        tap = None if self.flow.response is None else self.flow.response.stream
        return tap if isinstance(tap, StreamTap) else None

    def _pass_on(self, tap: StreamTap, passing: Iterable[Passed]) -> layer.CommandGenerator[bool]:
        """Send what passes, waiting where it must; False when the stream was cut."""
        for passed in passing:
            match passed:
                case bytes():
                    if not (yield from self._deliver(tap, passed)):
                        return False
                case Cut():
                    yield from self._cut(passed.reason)
                    return False
                case _:
                    while not passed.done:
                        if not (yield from self._wait(Waiting(passed.more, passed.cancel, self._is_killed))):
                            passed.cancel()
                            return False
                        if not (yield from self._deliver(tap, passed.take())):
                            return False
        if tap.due_ns is not None and self._alarm is None:
            self._alarm = commands.RequestWakeup(max(0.0, (tap.due_ns - time.monotonic_ns()) / 1e9))
            yield self._alarm
        return True

    def _deliver(self, tap: StreamTap, data: bytes) -> layer.CommandGenerator[bool]:
        if not data:
            return True
        if tap.outlet is not None:
            return (yield from self._go(tap.outlet.send(data)))
        yield from self._send_data(data)
        return True

    def _go(self, steps: Iterable[Step]) -> layer.CommandGenerator[bool]:
        for step in steps:
            if self._has_left:
                return False
            match step:
                case Send(data):
                    yield from self._send_data(data)
                case Wait(seconds):
                    if not (yield from self._wait(Waiting.sleeping(seconds, self._is_killed))):
                        return False
                case Stall():
                    yield from self._wait(Waiting.forever(self._is_killed))
                    return False
                case Cut(reason):
                    yield from self._cut(reason)
                    return False
        return True

    def _send_data(self, data: bytes) -> layer.CommandGenerator[None]:
        if not data:
            return
        yield SendHttp(ResponseData(self.stream_id, data), self.context.client)
        tap = self._tap()
        if tap is not None and tap.keeps_body:
            self.response_body_buf += data

    def _wait(self, waiting: Waiting) -> layer.CommandGenerator[bool]:
        """Wait with this stream alone; False when the flow was killed meanwhile, and so the stream cut."""
        self._waiting = waiting
        self.waits.add(waiting)
        if self._has_left:  # that was told once, during another wait
            waiting.give_up()
        yield ShadowcatWaitHook(waiting)
        self.waits.discard(waiting)
        self._waiting = None
        if self._is_killed():
            yield from self._cut(flow.Error.KILLED_MESSAGE)
        elif self._has_too_much:
            yield from self._cut("the server sent too much while a message was held")
        elif not waiting.is_over:
            yield from self._cut("Shadowcat was unloaded while a message was held")
        else:
            return True
        return False

    def _is_killed(self) -> bool:
        return self.flow.error is not None and self.flow.error.msg == flow.Error.KILLED_MESSAGE

    def _cut(self, reason: str) -> layer.CommandGenerator[None]:
        """Break off both ways, as a server that dies would."""
        self.flow.error = flow.Error(reason)
        yield HttpErrorHook(self.flow)
        transport = self._server_transport()
        yield SendHttp(http_layer.RequestProtocolError(self.stream_id, reason, ErrorCode.CANCEL), self.context.server)
        if transport is not None and self.flow.server_conn.state is ConnectionState.CLOSED:
            # mitmproxy forgets to, when what reads from the server is just waiting for its turn.
            transport.close()
        yield SendHttp(ResponseProtocolError(self.stream_id, reason, ErrorCode.KILL), self.context.client)
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        yield http_layer.DropStream(self.stream_id)

    def _see_queued(self, event: events.Event) -> None:
        """An event queues up while a hook runs: see to it that the queue is bounded, and that nobody waits in vain."""
        if isinstance(event, RequestProtocolError):
            self._has_left = True
            if self._waiting is not None:
                self._waiting.give_up()
            elif hasattr(self, "flow"):
                self.client_left(self.flow)
        elif isinstance(event, ResponseData):
            self._queued_bytes += len(event.data) + CHUNK_OVERHEAD_BYTES
            if self._queued_bytes > MAX_QUEUED_STREAM_BYTES and self._waiting is not None:
                # Again at each event: asyncio resumes by itself when its own buffer empties.
                self._throttled = self._server_transport()
                if self._throttled is not None:
                    self._throttled.pause_reading()
                elif self._queued_bytes > MAX_EVENT_BYTES:  # a flow that mitmproxy replays, whose server none can slow
                    self._has_too_much = True
                    self._waiting.give_up()

    def _see_unqueued(self, event: ResponseData) -> None:
        """An event of the queue gets its turn."""
        self._queued_bytes -= len(event.data) + CHUNK_OVERHEAD_BYTES
        if self._throttled is not None and self._queued_bytes < MAX_QUEUED_STREAM_BYTES // 2:
            self._throttled.resume_reading()
            self._throttled = None

    def _server_transport(self) -> asyncio.ReadTransport | None:
        handler = self._connection_handler()
        io = None if handler is None else handler.transports.get(self.flow.server_conn)
        transport = getattr(getattr(io, "writer", None), "transport", None)
        return transport if isinstance(transport, asyncio.ReadTransport) and not transport.is_closing() else None

    def _connection_handler(self) -> Any:
        return ctx.master.addons.get("proxyserver").connections.get(self.context.client.id)

    def _nudge(self) -> None:
        """Let this layer have a turn soon."""
        handler = self._connection_handler()
        if handler is None:
            return
        # As if a wake-up that this layer had asked for were due.
        alarm = commands.RequestWakeup(0)
        # Behind a CONNECT there is one HTTP layer within another, and each hands on what its own stream asked for.
        for outer, inner in pairwise(self.context.layers):
            if isinstance(outer, http_layer.HttpLayer):
                outer.command_sources[alarm] = inner
        task = asyncio.get_running_loop().create_task(handler.server_event(events.Wakeup(alarm)))
        self._nudges.add(task)
        task.add_done_callback(self._nudges.discard)

    def _flush(self, event: events.Wakeup) -> layer.CommandGenerator[None]:
        if event.command is self._alarm:
            self._alarm = None
        tap = self._tap()
        if tap is not None and self.server_state == self.state_stream_response_body:
            yield from self._pass_on(tap, tap.flush())

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        steps = super().handle_protocol_error(event)
        unanswered = self.server_state in (self.state_wait_for_response_headers, self.state_consume_response_body)
        if isinstance(event, ResponseProtocolError) and self.client_state == self.state_done and unanswered:
            steps = self._answering(steps)
        return (yield from steps)

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        steps = super().check_invalid(request)
        return (yield from (steps if request else self._answering(steps)))

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        options = self.context.options
        if request and options.stream_large_bodies and self.holds_whole(self.flow):
            limit = human.parse_size(options.body_size_limit)
            if limit is None or len(self.request_body_buf) <= limit:
                return False  # mitmproxy would let a large one stream
        steps = super().check_body_size(request)
        return (yield from (steps if request else self._answering(steps)))

    def _answering[T](self, steps: layer.CommandGenerator[T]) -> layer.CommandGenerator[T]:
        """Go mitmproxy's steps for a response that cannot be had, with our answer where its page would be sent."""
        response: http.Response | None = None
        reply = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration as stop:
                return cast(T, stop.value)
            reply = None
            if isinstance(command, HttpErrorHook) and self.flow.error is not None:
                # Before the hook runs, so that every addon sees error and answer together.
                response = self.answer_for(self.flow, self.flow.error.msg)
                if response is not None:
                    self.flow.response = response
            if (
                response is not None
                and isinstance(command, SendHttp)
                and isinstance(command.event, ResponseProtocolError)
                and command.event.code is not ErrorCode.KILL
            ):
                yield from self._send(response)
            else:
                reply = yield command

    def _send(self, response: http.Response) -> layer.CommandGenerator[None]:
        client = self.context.client
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), client)
        yield SendHttp(ResponseData(self.stream_id, response.raw_content or b""), client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), client)
