"""Requests that Shadowcat makes itself, such as the answer to a server's request that a client never saw.

mitmproxy sends them, as it replays a client: TLS, proxy modes and hooks are those of all other traffic, and they show
in its list of flows. They carry the client's credentials, so they go to the origin that the client talks to and to no
other, whatever a server announces.
"""

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from mitmproxy import ctx, flow, http
from mitmproxy.addons.clientplayback import ReplayHandler

from shadowcat_core.limits import MAX_OWN_REQUESTS, MAX_OWN_REQUESTS_AT_ONCE, OWN_REQUEST_TIMEOUT_S
from shadowcat_core.mcp import endpoint_url, is_same_origin

logger = logging.getLogger(__name__)

OWN_REQUEST = "shadowcat.own"
"""Name in the metadata of the flows made here."""

_NOT_COPIED = (
    "accept-encoding", "connection", "content-encoding", "content-length", "last-event-id", "mcp-method", "mcp-name",
    "transfer-encoding",
)  # fmt: skip


def is_own(its_flow: http.HTTPFlow) -> bool:
    """Say whether a request is one that was made here."""
    return OWN_REQUEST in its_flow.metadata


class OwnRequests:
    """Posts messages to the servers of flows, and sees to their ends."""

    def __init__(self) -> None:
        self.on_given_up: Callable[[http.HTTPFlow], object] = lambda _flow: None
        """Told of flows that mitmproxy will not end."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(int(MAX_OWN_REQUESTS_AT_ONCE))

    def post(self, its_flow: http.HTTPFlow, endpoint: str | None, body: bytes) -> None:
        """Post a message to the server of a flow, with its request's headers; `endpoint` says where, if elsewhere."""
        try:
            its_url = its_flow.request.url
            url = its_url if endpoint is None else endpoint_url(endpoint, its_url, its_flow.request.host_header)
            is_its_origin = is_same_origin(url, its_url)
        except ValueError:
            url, is_its_origin = "", False
        if not is_its_origin:
            logger.warning("shadowcat: nothing is posted to an endpoint on another origin than its client's")
        elif len(self._tasks) >= MAX_OWN_REQUESTS:
            logger.warning("shadowcat: %d messages wait to be posted already; one more is not", len(self._tasks))
        else:
            task = asyncio.get_running_loop().create_task(self._send(_request(its_flow, url, body)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def done(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _send(self, own: http.HTTPFlow) -> None:
        url = own.request.pretty_url.partition("?")[0]
        async with self._at_once:
            handler = ReplayHandler(own, ctx.options)
            try:
                async with asyncio.timeout(OWN_REQUEST_TIMEOUT_S):
                    await handler.replay()
            except (TimeoutError, asyncio.CancelledError) as exc:
                for io in handler.transports.values():
                    if io.handler is not None:
                        io.handler.cancel()
                own.error = own.error or flow.Error("no answer in time")
                self.on_given_up(own)
                if isinstance(exc, asyncio.CancelledError):
                    raise
                logger.warning("shadowcat: no answer from %s to what was posted for its client", url)
                return
        response = own.response
        if response is None or response.status_code >= 400:
            how = own.error.msg if own.error is not None else "" if response is None else f"HTTP {response.status_code}"
            logger.warning("shadowcat: %s did not take what was posted for its client: %s", url, how)


def _request(its_flow: http.HTTPFlow, url: str, body: bytes) -> http.HTTPFlow:
    own = http.HTTPFlow(its_flow.client_conn, its_flow.server_conn)
    headers = its_flow.request.headers.copy()
    for name in _NOT_COPIED:
        headers.pop(name, None)
    headers["content-type"] = "application/json"
    headers["accept"] = "application/json, text/event-stream"
    own.request = http.Request.make("POST", url, body, headers)
    own.request.http_version = "HTTP/1.1"
    # A client of HTTP/2 names the host in its pseudo-header alone; what other name it used stays.
    own.request.headers["host"] = its_flow.request.host_header or urlsplit(url).netloc
    own.metadata[OWN_REQUEST] = True
    own.is_replay = "request"
    return own
