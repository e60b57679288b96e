"""Lets interceptors judge what passes: requests, responses, and the messages of streams, each in its direction.

A message that does not go on is answered to who sent it: with the response, on the stream that carries the client's
answers (HTTP+SSE), or, where it was the server's, with a request of our own.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.flow import Error

from shadowcat_core import sse
from shadowcat_core.content_coding import decoded_body
from shadowcat_core.correlation import Call
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.interceptors import (
    Action,
    BatchPolicy,
    Failure,
    Mode,
    Pipeline,
    Running,
    VerdictRecord,
    failure_line,
    failure_traceback,
    on_asyncio,
)
from shadowcat_core.jsonrpc import ErrorCode, Kind, error_response
from shadowcat_core.mcp import METHOD_HEADER, Direction
from shadowcat_core.messages import Act, Message, MessageBatch
from shadowcat_core.mirroring import HeaderMirror
from shadowcat_core.streaming import Judges, is_judged, may_be_message
from shadowcat_core.transcript import DEEDS, deed
from shadowcat_core.waiting import Waiting, is_well_done, until_done

logger = logging.getLogger(__name__)

_C2S, _S2C = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT
type PostToServer = Callable[[http.HTTPFlow, str | None, bytes], None]
"""Posts a message to the server of a flow: with its headers, to an endpoint where there is one."""
type Find = Callable[[str], tuple[Exchange, http.HTTPFlow] | None]
"""Finds the running exchange of a message's `stream_id`, and its flow."""


class Interception:
    """The one pipeline, and its way into and out of mitmproxy's flows."""

    def __init__(
        self,
        registry: ExchangeRegistry,
        *,
        find: Find,
        post_to_server: PostToServer,
        on_record: Callable[[VerdictRecord], None],
    ) -> None:
        self.pipeline = Pipeline(on_asyncio(time.monotonic_ns), on_verdict=self._record, on_failure=_report_failure)
        self._registry = registry
        self._find = find
        self._post_to_server = post_to_server
        self._on_record = on_record
        self._mirror = HeaderMirror()
        self._running: dict[str, Running] = {}
        self._left: set[str] = set()
        self._policy: BatchPolicy | None = None
        registry.watchers.append(_SchemaWatcher(self._mirror))

    def load(self, loader: Loader) -> None:
        loader.add_command("shadowcat.interceptors", self.interceptors)
        loader.add_option(
            "shadowcat_batch_delay_ms",
            int,
            0,
            "Collect the messages of a stream for up to so long before interceptors see them; 0: never hold any back.",
        )
        loader.add_option(
            "shadowcat_batch_events",
            int,
            64,
            "Messages that end such a collection early (with shadowcat_batch_delay_ms).",
        )

    def configure(self, _updated: object) -> None:
        delay_ms, events = ctx.options.shadowcat_batch_delay_ms, ctx.options.shadowcat_batch_events
        try:
            policy = BatchPolicy(max_events=events, max_delay_ms=delay_ms)
        except ValueError as exc:
            raise exceptions.OptionsError(f"shadowcat_batch_delay_ms, shadowcat_batch_events: {exc}") from exc
        self._policy = policy if delay_ms else None

    def done(self) -> None:
        for running in list(self._running.values()):
            running.cancel()
        self.pipeline.close()

    def interceptors(self) -> str:
        """List the interceptors in the order in which they are asked, with what they did."""
        lines = []
        for stage in self.pipeline.stages:
            settings, metrics = stage.settings, stage.metrics
            did = ", ".join(f"{DEEDS[action]} {count}" for action, count in metrics.verdicts.items()) or "nothing done"
            lines.append(
                f"{settings.name}: priority {settings.priority}, {settings.mode}, fails {settings.fail}; "
                f"saw {metrics.messages} messages, {did}, {metrics.failures} failures"
            )
        return "\n".join(lines) or "no interceptors"

    def cancel(self, flow: http.HTTPFlow) -> None:
        """The client left: nobody waits for what is held."""
        running = self._running.get(flow.id)
        if running is not None:
            self._left.add(flow.id)
            running.cancel()

    def judges(self, exchange: Exchange, flow: http.HTTPFlow) -> Judges:
        """Who decides about an exchange's response."""
        return Judges(self.pipeline, partial(self._answer_server, exchange, flow), self._policy)

    def holds_whole(self, flow: http.HTTPFlow) -> bool:
        """Say whether the body of a request must be complete before it goes on, so that it can be judged."""
        request = flow.request
        is_post = _C2S in self.pipeline.active and request.method == "POST"
        return is_post and (METHOD_HEADER in request.headers or may_be_message(request.headers.get("content-type")))

    def judge_request(self, exchange: Exchange, flow: http.HTTPFlow, body: bytes | None) -> Awaitable[None] | None:
        """Judge a request before it goes on; what is given is to be awaited, when there is something to wait for.

        `body` is None when its content coding cannot be undone.
        """
        if not self.pipeline.active or not is_judged(exchange):
            return None
        if _S2C in self.pipeline.active:
            # What is coded would have to be decoded and could not be edited while it streams.
            flow.request.headers["accept-encoding"] = "identity"
        if _C2S not in self.pipeline.active or body == b"":
            return None
        if flow.request.stream:
            logger.warning("shadowcat: exchange %d has gone to its server unjudged, as it streams", exchange.number)
            return None
        if body is None:
            if self.pipeline.fails_closed(_C2S):
                self._refuse_request(exchange, flow, "the request's content coding cannot be undone")
            return None
        batch = MessageBatch.of_body(body, exchange.context(_C2S), exchange.started_ns)
        return self._judge(
            flow,
            batch,
            lambda: self._asked(exchange, flow, batch),
            lambda: self._refuse_request(exchange, flow, "the judging of the request broke off"),
        )

    def judge_response(self, exchange: Exchange, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Judge a response in one piece before it goes on; likewise."""
        response = flow.response
        if response is None or not is_judged(exchange) or exchange.answered_by_us:
            return None
        if _S2C not in self.pipeline.active:
            self._join_owed(exchange, response)
            return None
        raw = response.raw_content or b""
        if not raw or not may_be_message(response.headers.get("content-type")):
            self._join_owed(exchange, response)
            return None
        body = decoded_body(raw, response.headers.get("content-encoding") or "")
        if body is None:
            if self.pipeline.fails_closed(_S2C):
                self._refuse_response(exchange, flow, "the response's content coding cannot be undone")
            return None
        batch = MessageBatch.of_body(body, exchange.context(_S2C), self._registry.clock_ns())
        return self._judge(
            flow,
            batch,
            lambda: self._answered(exchange, flow, batch),
            lambda: self._refuse_response(exchange, flow, "the judging of the response broke off"),
        )

    def _judge(
        self, flow: http.HTTPFlow, batch: MessageBatch, then: Callable[[], None], refuse: Callable[[], None]
    ) -> Awaitable[None] | None:
        running = self.pipeline.run(batch)
        if running is None:
            then()
            return None
        refuse = refuse if self.pipeline.fails_closed(batch.context.direction) else _let_go
        return self._wait(flow, running, then, refuse)

    async def _wait(
        self, flow: http.HTTPFlow, running: Running, then: Callable[[], None], refuse: Callable[[], None]
    ) -> None:
        """Wait for a judgement; without one, be it that we are unloaded, what is not to pass unjudged is refused."""
        self._running[flow.id] = running
        try:
            await Waiting(partial(until_done, running), running.cancel, lambda: _is_killed(flow)).wait()
        finally:
            del self._running[flow.id]
            has_left = flow.id in self._left or _is_killed(flow)
            self._left.discard(flow.id)
        if not has_left:
            (then if is_well_done(running) else refuse)()

    def _asked(self, exchange: Exchange, flow: http.HTTPFlow, batch: MessageBatch) -> None:
        if not batch.edited:
            return
        body, replies = batch.emit(), batch.replies
        if not body:
            exchange.answered_by_us = True
            flow.response = self._reply(exchange, replies)
            return
        exchange.owed = replies
        if replies:  # they join the response, which must not be coded for that
            flow.request.headers["accept-encoding"] = "identity"
        before = exchange.asked
        flow.request.content = body
        after = MessageBatch.of_body(body, batch.context)
        if len(before) == len(after) == 1 and before[0].is_json and after[0].is_json:
            present = {name.lower(): value for name, value in flow.request.headers.items()}
            server = batch.context.server
            for name, value in self._mirror.edits(server, present, before[0].payload, after[0].payload).items():
                if value is None:
                    del flow.request.headers[name]
                else:
                    flow.request.headers[name] = value

    def _reply(self, exchange: Exchange, replies: Sequence[Message]) -> http.Response:
        """The response to a request of which nothing goes on."""
        left = [reply for reply in replies if not self._post_to_stream(exchange, reply)]
        if not left:
            return http.Response.make(202)
        return http.Response.make(200, _joined([reply.raw for reply in left]), {"content-type": "application/json"})

    def _post_to_stream(self, exchange: Exchange, reply: Message) -> bool:
        """Answer where a client of HTTP+SSE (2024-11-05) looks for answers; False when it has no such stream."""
        stream = self._registry.stream_of(exchange)
        if stream is None or stream.tap is None or not stream.tap.post(sse.encode(reply.raw, event="message")):
            return False
        batch = MessageBatch.of_body(reply.raw, stream.context(_S2C), self._registry.clock_ns())
        self._registry.later(lambda: self._registry.see_answer(stream, batch), len(reply.raw))
        return True

    def _answered(self, exchange: Exchange, flow: http.HTTPFlow, batch: MessageBatch) -> None:
        response = flow.response
        if response is None:
            return
        if batch.edited:
            body = batch.emit()
            exchange.came = response.raw_content
            self._answer_server(exchange, flow, batch.replies)
            if not body and any(change.act is Act.BLOCK for change in batch.changes):
                body = self._errors(exchange, "the answer was blocked")  # it had no id, but who waits has one
            _set_body(response, body)
            if not body:
                response.status_code = 202
            elif response.status_code >= 400 and all(message.kind is Kind.RESPONSE for message in batch):
                response.status_code = 200  # it was an error, and is none any more
        self._join_owed(exchange, response)

    def _join_owed(self, exchange: Exchange, response: http.Response) -> None:
        """Put the answers that were given here beside those of the server: one array answers an array."""
        owed, exchange.owed = exchange.owed, []
        if not owed:
            return
        there = MessageBatch.of_body(response.get_content(strict=False) or b"", exchange.context(_S2C))
        if not all(message.is_json for message in there):
            return  # a page, say, that explains a status: it stands for the whole request
        exchange.came = exchange.came or response.raw_content
        if response.status_code == 202:
            response.status_code = 200
        response.headers["content-type"] = "application/json"
        _set_body(response, b"[" + b",".join([message.raw for message in (*owed, *there)]) + b"]")

    def _refuse_request(self, exchange: Exchange, flow: http.HTTPFlow, why: str) -> None:
        exchange.answered_by_us = True
        text = f"{why}, so no interceptor has judged it"
        errors = self._errors(exchange, text) or error_response(None, ErrorCode.INTERCEPTOR_FAILED, text)
        status = 200 if exchange.requests else 400
        flow.response = http.Response.make(status, errors, {"content-type": "application/json"})
        logger.warning("shadowcat: exchange %d: %s", exchange.number, text)

    def _refuse_response(self, exchange: Exchange, flow: http.HTTPFlow, why: str) -> None:
        text = f"{why}, so no interceptor has judged it"
        exchange.came = flow.response.raw_content if flow.response is not None else None
        flow.response = http.Response.make(200, self._errors(exchange, text), {"content-type": "application/json"})
        logger.warning("shadowcat: exchange %d: %s", exchange.number, text)

    def _errors(self, exchange: Exchange, text: str) -> bytes:
        return _joined([error_response(asked.id, ErrorCode.INTERCEPTOR_FAILED, text) for asked in exchange.requests])

    def _answer_server(self, exchange: Exchange, flow: http.HTTPFlow, replies: Sequence[Message]) -> None:
        for reply in replies:
            self._post_to_server(flow, exchange.recognition.endpoint, reply.raw)

    def _record(self, record: VerdictRecord) -> None:
        found = self._find(record.context.stream_id or "")
        if found is not None:
            exchange, flow = found
            if record.action is not Action.RELEASE:
                exchange.deeds[deed(record.action, record.interceptor, audited=record.mode is Mode.AUDIT)] += 1
            if _is_killed(flow):  # nothing goes on, and nobody is answered
                record = replace(record, result=None, reply=None)
        self._on_record(record)


def _is_killed(flow: http.HTTPFlow) -> bool:
    return flow.error is not None and flow.error.msg == Error.KILLED_MESSAGE


def _let_go() -> None:
    """Every interceptor fails open."""


class _SchemaWatcher:
    """Notes the tools that servers list, for the headers that mirror their parameters."""

    def __init__(self, mirror: HeaderMirror) -> None:
        self._mirror = mirror

    def saw(self, exchange: Exchange, _batch: MessageBatch, calls: list[Call]) -> None:
        for call in calls:
            answer = call.answer
            if answer is None or b"x-mcp-header" not in answer.raw or call.request.method != "tools/list":
                continue
            if answer.kind is Kind.RESPONSE and isinstance(answer.payload, dict):
                self._mirror.learn(exchange.server, answer.payload.get("result"))

    def closed(self, _exchange: Exchange) -> None:
        pass


def _joined(bodies: Sequence[bytes]) -> bytes:
    """Join messages to one body: alone as it is, several as an array, none as nothing."""
    if not bodies:
        return b""
    return bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"


def _set_body(response: http.Response, body: bytes) -> None:
    try:
        response.content = body
    except ValueError:  # in a coding that cannot be written
        response.headers.pop("content-encoding", None)
        response.content = body


def _report_failure(failure: Failure) -> None:
    trace = failure_traceback(failure) if failure.is_first else ""
    logger.error("shadowcat: %s", "\n".join(filter(None, (failure_line(failure), trace))))
