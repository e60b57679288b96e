"""Call a slow tool through one of two proxies; when that one dies, hear the rest of its progress through the other.

Run as:  python examples/two_proxies/client.py http://127.0.0.1:8091/mcp http://127.0.0.1:8092/mcp

All that is special here is `EitherProxy`, the work of a load balancer. That the session is known at the other proxy,
and that the stream goes on where it broke off, is Shadowcat's work and the protocol's: the SDK comes back with the id
of the last event that it has.
"""

import sys
import time
from collections import deque

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

STEPS = 60
READ_TIMEOUT_S = 300.0


class EitherProxy(httpx2.AsyncBaseTransport):
    """Sends requests to one proxy for as long as it takes connections, then to the next."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = deque(httpx2.URL(url) for url in urls)
        self._http = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it to whoever takes it."""
        for _ in range(len(self._urls) - 1):
            try:
                return await self._send(request)
            except httpx2.ConnectError:
                self._urls.rotate(-1)
                print(f"--- on through {self._urls[0]}", flush=True)
        return await self._send(request)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        request.url = self._urls[0]
        request.headers["Host"] = self._urls[0].netloc.decode()
        return await self._http.handle_async_request(request)

    async def aclose(self) -> None:
        await self._http.aclose()


async def main(urls: list[str]) -> None:
    """Count down, and use the same session once more."""
    began = time.monotonic()

    async def say(progress: float, total: float | None, message: str | None) -> None:
        print(f"{time.monotonic() - began:6.3f} s  {progress:g}/{total or 0:g} {message or ''}", flush=True)

    http = httpx2.AsyncClient(transport=EitherProxy(urls), timeout=READ_TIMEOUT_S)
    # The stateful era of the protocol: later versions have neither sessions nor event ids to come back with.
    async with http, Client(streamable_http_client(urls[0], http_client=http), mode="legacy") as client:
        answer = await client.call_tool("countdown", {"start": STEPS}, progress_callback=say)
        print(*(block.text for block in answer.content if block.type == "text"))
        answer = await client.call_tool("echo", {"text": "the same session"})
        print(*(block.text for block in answer.content if block.type == "text"))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:])
