"""Shared by the addon tests: flows as mitmproxy makes them, and hooks in the order in which it calls them."""

import json

import pytest
from mitmproxy import http
from mitmproxy.test import taddons, tflow

from shadowcat_addons.suite import Shadowcat

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
MCP_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
    "mcp-session-id": "s-1",
}


def request_flow(payload=CALL, *, method="POST", headers=None, url="http://127.0.0.1:3001/mcp"):
    """A flow whose request is complete."""
    body = b"" if payload is None else payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    flow = tflow.tflow()
    flow.live = True
    flow.request = http.Request.make(method, url, body, MCP_HEADERS if headers is None else headers)
    return flow


def response_of(payload=None, *, status=200, headers=None, content_type="application/json"):
    """A response in one piece, or the head of a stream."""
    body = b"" if payload is None else payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    response = http.Response.make(status, body, {"content-type": content_type})
    response.headers.update(headers or {})
    if content_type == "text/event-stream":
        del response.headers["content-length"]
    return response


class Proxy:
    """Drives the suite's hooks as mitmproxy does, without a network."""

    def __init__(self, context, suite):
        self.context = context
        self.suite = suite

    async def ask(self, flow):
        for hook in ("requestheaders", "request"):
            await self._call(hook, flow)
        return flow

    async def begin_response(self, flow, response):
        # As mitmproxy has it: when a server's head comes, its body is not there yet.
        flow.response, body = response, response.raw_content
        response.data.content = None
        await self._call("responseheaders", flow)
        if not response.stream:
            response.data.content = body
        return response.stream

    async def end(self, flow):
        if callable(flow.response.stream):
            assert flow.response.stream(b"") == []
        flow.response.timestamp_end = 1.0
        await self._call("response", flow)

    async def answer(self, flow, response):
        await self.begin_response(flow, response)
        response.timestamp_end = 1.0
        await self._call("response", flow)

    async def fail(self, flow, message):
        from mitmproxy.flow import Error

        flow.error = Error(message)
        await self._call("error", flow)

    async def _call(self, hook, *arguments):
        waiting = getattr(self.suite, hook)(*arguments)
        if waiting is not None:
            await waiting
        self.suite.live.show_now()


@pytest.fixture(scope="session")
def confdir(tmp_path_factory):
    """One folder of mitmproxy's for all tests: making its authority takes longer than most of them."""
    return tmp_path_factory.mktemp("confdir")


@pytest.fixture
async def proxy():
    suite = Shadowcat()
    with taddons.context() as context:
        # Proxyserver's option, which the test context does not load.
        context.options.add_option("store_streamed_bodies", bool, False, "")
        context.master.addons.add(suite)
        suite.running()
        yield Proxy(context, suite)
        suite.done()
