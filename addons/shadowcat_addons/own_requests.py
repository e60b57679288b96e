"""Requests that Shadowcat makes itself, such as the answer to a server's request that a client never saw.

mitmproxy sends them, as it replays a client: TLS, proxy modes and hooks are those of all other traffic, and they show
in its list of flows.
"""

import asyncio
import logging
from urllib.parse import urljoin

from mitmproxy import ctx, http
from mitmproxy.addons.clientplayback import ReplayHandler

from shadowcat_core.limits import OWN_REQUEST_TIMEOUT_S

logger = logging.getLogger(__name__)

OWN_REQUEST = "shadowcat.own"
"""Name in the metadata of the flows made here."""

_NOT_COPIED = (
    "accept-encoding", "connection", "content-encoding", "content-length", "last-event-id", "mcp-method", "mcp-name",
    "transfer-encoding",
)  # fmt: skip


def is_own(flow: http.HTTPFlow) -> bool:
    """Say whether a request is one that was made here."""
    return OWN_REQUEST in flow.metadata


class OwnRequests:
    """Posts messages to the servers of flows, and sees to their ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, flow: http.HTTPFlow, endpoint: str | None, body: bytes) -> None:
        """Post a message to the server of a flow, with its request's headers; `endpoint` says where, if elsewhere."""
        own = http.HTTPFlow(flow.client_conn, flow.server_conn)
        own.request = http.Request.make("POST", urljoin(flow.request.url, endpoint or ""), body, _headers(flow))
        own.request.http_version = "HTTP/1.1"
        own.metadata[OWN_REQUEST] = True
        own.is_replay = "request"
        task = asyncio.get_running_loop().create_task(self._send(own))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def done(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _send(self, own: http.HTTPFlow) -> None:
        url = own.request.pretty_url.partition("?")[0]
        try:
            async with asyncio.timeout(OWN_REQUEST_TIMEOUT_S):
                await ReplayHandler(own, ctx.options).replay()
        except TimeoutError:
            logger.warning("shadowcat: no answer from %s to what was posted for its client", url)
            return
        response = own.response
        if response is None or response.status_code >= 400:
            how = own.error.msg if own.error is not None else "" if response is None else f"HTTP {response.status_code}"
            logger.warning("shadowcat: %s did not take what was posted for its client: %s", url, how)


def _headers(flow: http.HTTPFlow) -> http.Headers:
    headers = flow.request.headers.copy()
    for name in _NOT_COPIED:
        headers.pop(name, None)
    headers["content-type"] = "application/json"
    headers["accept"] = "application/json, text/event-stream"
    return headers
