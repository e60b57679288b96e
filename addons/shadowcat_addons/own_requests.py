"""Requests that Shadowcat makes itself, such as the answer to a server's request that a client never saw.

mitmproxy sends them, as it replays a client: TLS and proxy modes are those of all other traffic, and what people may
want to see shows in its list of flows. What is posted in a client's place carries its credentials, so it goes to the
origin that the client talks to and to no other, whatever a server announces.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from mitmproxy import ctx, flow, hooks, http
from mitmproxy.addonmanager import safecall
from mitmproxy.addons.clientplayback import ReplayHandler
from mitmproxy.connection import Client, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.mode_specs import ProxyMode

from shadowcat_core.content_coding import decoder_for
from shadowcat_core.errors import InvalidMessage, MessageTooLarge
from shadowcat_core.jsonrpc import JsonRpcId, Kind, envelope, parse
from shadowcat_core.limits import (
    MAX_ASKED_AT_ONCE,
    MAX_OWN_ANSWER_BYTES,
    MAX_OWN_REQUESTS,
    MAX_OWN_REQUESTS_AT_ONCE,
    OWN_REQUEST_TIMEOUT_S,
)
from shadowcat_core.mcp import HeaderFields, endpoint_url, is_event_stream, is_same_origin
from shadowcat_core.sessions.lifecycle import Answer, answered_with
from shadowcat_core.sse import SseParser

logger = logging.getLogger(__name__)

OWN_REQUEST = "shadowcat.own"
"""Name in the metadata of the flows made here."""

_NOT_COPIED = (
    "accept-encoding", "connection", "content-encoding", "content-length", "last-event-id", "mcp-method", "mcp-name",
    "transfer-encoding",
)  # fmt: skip
_OF_THE_CONNECTION = frozenset({
    "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_NO_CODING = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})

_ENDS = frozenset({"response", "error"})
_NETWORKING = ("proxyserver", "tlsconfig", "upstreamauth")
"""mitmproxy's own addons without which no connection comes about: local address, TLS, the parent proxy's password."""
_LOOPBACK = ("127.0.0.1", 0)
_NO_HEADERS = HeaderFields(())


def is_own(its_flow: http.HTTPFlow) -> bool:
    """Say whether a request is one that was made here."""
    return OWN_REQUEST in its_flow.metadata


class OwnRequests:
    """Asks servers, and posts messages to the servers of flows, and sees to the ends of both."""

    def __init__(self) -> None:
        self.on_given_up: Callable[[http.HTTPFlow], object] = lambda _flow: None
        """Told of flows that mitmproxy will not end."""
        self.sent: Callable[[http.HTTPFlow], http.Request] = lambda its_flow: its_flow.request
        """Knows what the server of a flow was sent, where that is not what its client sent."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(int(MAX_OWN_REQUESTS_AT_ONCE))
        # Whoever begins a session anew waits neither for what is posted nor for probes, and these not for each other.
        self._asking = {is_shown: asyncio.Semaphore(int(MAX_ASKED_AT_ONCE)) for is_shown in (True, False)}

    def post(self, its_flow: http.HTTPFlow, endpoint: str | None, body: bytes) -> None:
        """Post a message to the server of a flow, with its request's headers; `endpoint` says where, if elsewhere."""
        sent = self.sent(its_flow)
        try:
            its_url = sent.url
            url = its_url if endpoint is None else endpoint_url(endpoint, its_url, sent.host_header)
            is_its_origin = is_same_origin(url, its_url)
        except ValueError:
            url, is_its_origin = "", False
        if not is_its_origin:
            logger.warning("shadowcat: nothing is posted to an endpoint on another origin than its client's")
        elif len(self._tasks) >= MAX_OWN_REQUESTS:
            logger.warning("shadowcat: %d messages wait to be posted already; one more is not", len(self._tasks))
        else:
            task = asyncio.get_running_loop().create_task(self._send(_request(its_flow, sent, url, body)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def ask(
        self,
        url: str,
        method: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout_s: float,
        is_shown: bool = True,
    ) -> Answer:
        """Send a request over a connection of its own, and wait for the answer; what its headers say of coding is gone.

        An event stream is left as soon as it has the answer to what `body` asked. A request that is not shown is in no
        list of flows and on no tape, and no addon hears of it. Waiting for a turn is part of the time.

        Raises:
            TimeoutError: there was no whole answer in time.
            ConnectionError: the server cannot be reached, broke off, or sent what cannot be read or is too long.
            ValueError: that is no URL.
        """
        own = _question(url, method, headers, body)
        try:
            async with asyncio.timeout(timeout_s), self._asking[is_shown]:
                return await self._exchange(own, _id_asked(body), is_shown=is_shown)
        except TimeoutError:
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None

    def done(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _send(self, own: http.HTTPFlow) -> None:
        url = own.request.pretty_url.partition("?")[0]
        async with self._at_once:
            try:
                async with asyncio.timeout(OWN_REQUEST_TIMEOUT_S):
                    answer = await self._exchange(own, None, is_shown=True)
            except TimeoutError:
                logger.warning("shadowcat: no answer from %s to what was posted for its client", url)
                return
            except OSError as exc:
                how = str(exc)
            else:
                how = f"HTTP {answer.status}" if answer.status >= 400 else ""
        if how:
            logger.warning("shadowcat: %s did not take what was posted for its client: %s", url, how)

    async def _exchange(self, own: http.HTTPFlow, asked: JsonRpcId | None, *, is_shown: bool) -> Answer:
        handler = _Handler(own, asked, is_shown=is_shown)
        try:
            return await handler.ask()
        finally:
            handler.hang_up()
            if not handler.has_ended:
                handler.has_ended = True
                own.error = own.error or flow.Error(handler.failure or "no answer in time")
                if is_shown:
                    self.on_given_up(own)
                    ctx.master.addons.trigger(hooks.UpdateHook([own]))


class _Handler(ReplayHandler):
    """One request under way. It has its own connections, which `hang_up` closes, whatever they are doing.

    mitmproxy would keep the whole answer, however long, and wait for the end of any event stream. So the body is taken
    as it comes, as if the response were to stream; addons that did not want it to stream find it in the flow at the
    end, as they expect it.
    """

    def __init__(self, own: http.HTTPFlow, asked: JsonRpcId | None, *, is_shown: bool) -> None:
        super().__init__(own, ctx.options)
        self.has_ended = False
        """True once addons were told how it ended."""
        self.failure: str | None = None
        """Why the answer is of no use."""
        self._asked = asked
        self._is_shown = is_shown
        self._is_closed = False
        self._body: _Body | None = None
        # What other addons made of `response.stream`.
        self._theirs: bool | Callable[[bytes], Iterable[bytes] | bytes] = False

    async def ask(self) -> Answer:
        """Send the request, and give the answer.

        Raises:
            ConnectionError: there is none.
        """
        await self.replay()
        self.hang_up()
        if self.flow.error is not None:
            raise ConnectionError(self.flow.error.msg)
        response = self.flow.response
        if self.failure is None and response is not None:
            if not self.has_ended:
                await self._end_here(response)
            body = self._body
            if body is None or response.raw_content is not None:  # addons may have made the response, or changed it
                body = _Body(response, None)
                body.take(response.raw_content or b"")
            self.failure = body.failure
            if body.failure is None:
                fields = (field for field in response.headers.fields if field[0].lower() not in _NO_CODING)
                return Answer(response.status_code, HeaderFields(fields), b"".join(body.decoded))
        raise ConnectionError(self.failure)

    def hang_up(self) -> None:
        """Close all connections; what is under way comes to nothing.

        Cancelling mitmproxy's tasks is not enough: one that waits for an addon would leave its socket open.
        """
        self._is_closed = True
        for io in list(self.transports.values()):
            if io.handler is not None:
                io.handler.cancel()
            if isinstance(io.writer, asyncio.StreamWriter):
                io.writer.transport.abort()
        for timer in self.wakeup_timer:
            timer.cancel()
        self._let_body_go(is_whole=False)
        self.flow.live = False
        self.flow.resume()  # nobody needs to decide about it any more

    async def server_event(self, event: events.Event) -> None:
        if not self._is_closed:
            await super().server_event(event)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        if hook.name in _ENDS:
            if self.has_ended:
                return
            self.has_ended = True
            self._let_body_go(is_whole=hook.name == "response")
        await self._tell(hook)
        if hook.name == "responseheaders":
            self._take_body()
        elif hook.name in _ENDS:
            self.done.set()

    def log(self, message: str, level: int = logging.INFO, exc_info: object = None) -> None:
        if self._is_shown or level >= logging.ERROR:
            logger.log(level, "[shadowcat] %s", message, exc_info=exc_info)  # type: ignore[arg-type]  # as mitmproxy's

    async def _tell(self, hook: hooks.Hook) -> None:
        addons = ctx.master.addons
        if self._is_shown:
            await addons.handle_lifecycle(hook)
            if hook.args()[0] is self.flow:
                await self.flow.wait_for_resume()
            return
        for addon in filter(None, map(addons.get, _NETWORKING)):
            with safecall():
                await addons.invoke_addon(addon, hook)

    def _take_body(self) -> None:
        response = self.flow.response
        if response is None or response.raw_content is not None:  # an addon answers in the server's place
            return
        self._theirs = response.stream
        self._body = _Body(response, self._asked)
        response.stream = self._pass

    def _pass(self, data: bytes) -> Iterable[bytes] | bytes:
        passed = self._theirs(data) if callable(self._theirs) else data
        body = self._body
        if body is not None and data and not self.done.is_set():
            body.take(data)
            self.failure = body.failure
            if body.failure is not None or body.has_answer:
                self.done.set()
        return passed

    def _let_body_go(self, *, is_whole: bool) -> None:
        """Leave the response as addons would have it without us. Its flow may be kept for long, and we are not."""
        response, body = self.flow.response, self._body
        if response is None or body is None:
            return
        if response.stream == self._pass:
            response.stream = self._theirs
        if is_whole and not self._theirs:
            response.raw_content = b"".join(body.raw)

    async def _end_here(self, response: http.Response) -> None:
        """End the flow of a stream that goes on without us."""
        self.has_ended = True
        if callable(self._theirs):
            self._theirs(b"")  # as mitmproxy tells of the end
        response.timestamp_end = time.time()  # noqa: TID251 - mitmproxy's times are the wall clock's
        self._let_body_go(is_whole=True)
        await self._tell(hooks.all_hooks["response"](self.flow))


class _Body:
    """A body that comes in pieces. `failure` says why it is of no use: no piece is kept from then on."""

    def __init__(self, head: http.Response, asked: JsonRpcId | None) -> None:
        self.raw: list[bytes] = []
        self.decoded: list[bytes] = []
        self.has_answer = False
        """True when the answer to what was asked is there, and there may be more to come."""
        self.failure: str | None = None
        self._room_bytes = int(MAX_OWN_ANSWER_BYTES)
        self._asked = asked
        is_stream = asked is not None and is_event_stream(head.headers.get("content-type"))
        self._parser = SseParser() if is_stream else None
        try:
            self._decoder = decoder_for(head.headers.get("content-encoding", ""), max_output_bytes=self._room_bytes)
        except InvalidMessage as exc:
            self.failure = str(exc)

    def take(self, data: bytes) -> None:
        """Take the next bytes as they came."""
        if self.failure is not None:
            return
        try:
            decoded = self._decoder.decode(data)
        except (InvalidMessage, MessageTooLarge) as exc:
            self.failure = str(exc)
            return
        self._room_bytes -= max(len(data), len(decoded))
        if self._room_bytes < 0:
            self.failure = str(MessageTooLarge(MAX_OWN_ANSWER_BYTES - self._room_bytes, MAX_OWN_ANSWER_BYTES))
            return
        self.raw.append(data)
        self.decoded.append(decoded)
        if self._parser is not None:
            self.has_answer = any(self._is_answer(frame.data) for frame in self._parser.feed(decoded))

    def _is_answer(self, data: bytes) -> bool:
        try:
            return bool(data) and answered_with(Answer(200, _NO_HEADERS, data), self._asked) is not None
        except InvalidMessage:
            return False


def _id_asked(body: bytes) -> JsonRpcId | None:
    """The id of the request in a body; None when it has none that is answered."""
    try:
        found = envelope(parse(body))
    except InvalidMessage:
        return None
    return found.id if found.kind is Kind.REQUEST else None


def _question(url: str, method: str, headers: Sequence[tuple[str, str]], body: bytes) -> http.HTTPFlow:
    # mitmproxy looks for the parent proxy in the connection's mode, and offers servers what the client would take.
    mode = ProxyMode.parse(ctx.options.mode[0] if _has_parent_proxy() else "regular")
    client = Client(peername=_LOOPBACK, sockname=_LOOPBACK, proxy_mode=mode, alpn_offers=(b"http/1.1",))
    fields = [
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in headers
        if name.lower() not in _OF_THE_CONNECTION
    ]
    request = http.Request.make(method, url, body, [(b"Host", urlsplit(url).netloc.encode()), *fields])
    if not body and method not in ("POST", "PUT", "PATCH"):
        request.headers.pop("content-length", None)
    return _own_flow(http.HTTPFlow(client, Server(address=(request.host, request.port))), request)


def _request(its_flow: http.HTTPFlow, sent: http.Request, url: str, body: bytes) -> http.HTTPFlow:
    headers = sent.headers.copy()
    for name in _NOT_COPIED:
        headers.pop(name, None)
    headers["content-type"] = "application/json"
    headers["accept"] = "application/json, text/event-stream"
    request = http.Request.make("POST", url, body, headers)
    # A client of HTTP/2 names the host in its pseudo-header alone; what other name it used stays.
    request.headers["host"] = sent.host_header or urlsplit(url).netloc
    return _own_flow(http.HTTPFlow(its_flow.client_conn, its_flow.server_conn), request)


def _own_flow(own: http.HTTPFlow, request: http.Request) -> http.HTTPFlow:
    if request.scheme == "http" and _has_parent_proxy():
        request.authority = urlsplit(request.url).netloc  # a parent proxy is told the whole URL: RFC 9112, 3.2.2
    own.request = request
    own.metadata[OWN_REQUEST] = True
    own.is_replay = "request"
    return own


def _has_parent_proxy() -> bool:
    return bool(ctx.options.mode) and ctx.options.mode[0].startswith("upstream:")
