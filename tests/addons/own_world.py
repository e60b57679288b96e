"""Where Shadowcat asks servers itself: a mitmproxy with what connections need, and an addon that hears of all else."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.addons.upstream_auth import UpstreamAuth
from mitmproxy.test import taddons

from shadowcat_addons.own_requests import OwnRequests
from shadowcat_core.jsonrpc import dump

PING = dump({"jsonrpc": "2.0", "id": "own-1", "method": "ping"})
PONG = dump({"jsonrpc": "2.0", "id": "own-1", "result": {}})
POSTED = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
LONG_S = 30.0
SHORT_S = 0.6
SHOWN = pytest.mark.parametrize("is_shown", [True, False], ids=["shown", "hidden"])


class Overheard:
    """Another addon: it keeps the names of the hooks, their flows, and the bodies of the responses."""

    def __init__(self):
        self.hooks = []
        self.flows = []
        self.bodies = []

    def __getattr__(self, name):
        if name.startswith(("request", "response", "error", "server_", "tls_", "http_", "client_", "update")):
            return lambda what: self._hear(name, what)
        raise AttributeError(name)

    def _hear(self, name, what):
        self.hooks.append(name)
        if isinstance(what, http.HTTPFlow):
            self.flows.append(what)
            if name == "response":
                self.bodies.append(what.response.raw_content)


@contextlib.asynccontextmanager
async def mitmproxy_with_own_requests(folder: Path):
    """A test context with `own` and `overheard`."""
    with taddons.context(Proxyserver(), TlsConfig(), UpstreamAuth()) as context:
        context.options.update(confdir=str(folder))
        context.own = OwnRequests()
        context.overheard = Overheard()
        context.master.addons.add(context.overheard)
        yield context
        context.own.done()
        await settled()


def asking(mitm, url, body=PING, *, timeout_s=LONG_S, method="POST", headers=POSTED, is_shown=True):
    """A task that asks."""
    asked = mitm.own.ask(url, method, headers, body, timeout_s=timeout_s, is_shown=is_shown)
    return asyncio.ensure_future(asked)


def event(message):
    return b"data: " + message + b"\n\n"


async def settled():
    """Let what was cancelled come to its end."""
    others = [task for task in asyncio.all_tasks() if "server connection handler" in task.get_name()]
    if others:
        await asyncio.wait(others, timeout=LONG_S)


async def until(is_so):
    async with asyncio.timeout(LONG_S):
        while not is_so():  # noqa: ASYNC110 - what the other end of a socket sees has no event here
            await asyncio.sleep(0.005)


async def connections_close(origin):
    await until(lambda: not origin._open)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))
