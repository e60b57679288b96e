"""What Shadowcat asks itself is mitmproxy's traffic: its options hold, and addons hear of what is to be seen."""

import asyncio
import contextlib
import json
import logging

import pytest
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.test import taddons, tflow

from shadowcat_addons import own_requests
from shadowcat_addons.own_requests import is_own
from shadowcat_addons.suite import Shadowcat
from shadowcat_core.jsonrpc import parse
from tests.addons.own_world import (
    PONG,
    SHORT_S,
    SHOWN,
    Overheard,
    asking,
    connections_close,
    event,
    mitmproxy_with_own_requests,
    open_files,
    settled,
    until,
)
from tests.e2e.authority import Authority
from tests.e2e.origin import Origin
from tests.e2e.processes import free_port


@pytest.fixture
async def mitm(confdir):
    async with mitmproxy_with_own_requests(confdir) as context:
        yield context


@pytest.fixture
async def origin():
    async with Origin(free_port()).listening() as listening:
        yield listening


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("authority") / "ca")


@pytest.mark.parametrize("hook", ["server_connect", "server_connected", "requestheaders", "responseheaders"])
async def test_nothing_is_left_of_a_request_that_is_given_up_while_an_addon_is_asked(mitm, origin, hook):
    reached, release = asyncio.Event(), asyncio.Event()

    class Slow:
        async def wait(self, _):
            reached.set()
            await release.wait()

    setattr(Slow, hook, Slow.wait)
    mitm.master.addons.add(Slow())
    files = open_files()

    async def answer(exchange):
        with contextlib.suppress(ConnectionError):
            await exchange.answer(PONG)

    async with origin.answering(answer):
        asked = asking(mitm, origin.url)
        await reached.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await connections_close(origin)
        release.set()
        await settled()
        await until(lambda: open_files() <= files)
    assert "response" not in mitm.overheard.hooks


async def test_no_addon_hears_of_a_hidden_request(mitm, origin, caplog):
    caplog.set_level(logging.DEBUG)
    async with origin.answering(lambda exchange: exchange.answer(PONG)):
        await asking(mitm, origin.url, is_shown=False)
    with pytest.raises(ConnectionError):
        await asking(mitm, f"http://127.0.0.1:{free_port()}/mcp", is_shown=False)
    await settled()
    assert mitm.overheard.hooks == []
    assert caplog.records == []


async def test_every_addon_hears_of_a_shown_request(mitm, origin):
    async with origin.answering(lambda exchange: exchange.answer(PONG)):
        await asking(mitm, origin.url)
    heard = [name for name in mitm.overheard.hooks if name != "update"]
    assert heard[:6] == [
        "requestheaders",
        "request",
        "server_connect",
        "server_connected",
        "responseheaders",
        "response",
    ]
    assert all(is_own(flow) and flow.is_replay == "request" for flow in mitm.overheard.flows)
    assert mitm.overheard.flows[-1].response.stream is False
    assert mitm.overheard.bodies == [PONG]


async def test_an_addon_may_answer_or_change_what_is_shown(mitm, origin):
    class Script:
        def request(self, flow):
            if flow.request.path == "/given":
                flow.response = http.Response.make(200, b"given", {"x-by": "addon"})

        def response(self, flow):
            flow.response.content += b" and changed"

    mitm.master.addons.add(Script())
    answer = await asking(mitm, f"{origin.url}/given")
    assert (answer.body, answer.headers.get("X-By")) == (b"given and changed", "addon")
    async with origin.answering(lambda exchange: exchange.answer(b"sent")):
        assert (await asking(mitm, origin.url)).body == b"sent and changed"


@pytest.mark.parametrize("stream", [True, lambda data: data.upper(), lambda data: [data, b"!"]])
async def test_an_addon_may_stream_what_is_shown(mitm, origin, stream):
    class Streaming:
        def responseheaders(self, flow):
            flow.response.stream = stream

    mitm.master.addons.add(Streaming())
    async with origin.answering(lambda exchange: exchange.answer(b"sent", cut=2)):
        assert (await asking(mitm, origin.url)).body == b"sent"
    assert mitm.overheard.bodies == [None]
    assert mitm.overheard.flows[-1].response.stream is stream


async def test_a_request_that_somebody_kills_is_an_error(mitm, origin):
    class Killer:
        def responseheaders(self, flow):
            flow.kill()

    mitm.master.addons.add(Killer())
    async with origin.answering(lambda exchange: exchange.answer(PONG)):
        with pytest.raises(ConnectionError, match="killed"):
            await asking(mitm, origin.url)


async def test_a_request_that_an_addon_holds_waits_for_it(mitm, origin):
    held = asyncio.Event()

    class Holder:
        def request(self, flow):
            flow.intercept()
            self.flow = flow
            held.set()

    mitm.master.addons.add(holder := Holder())
    async with origin.answering(lambda exchange: exchange.answer(PONG)):
        answer = asking(mitm, origin.url)
        await held.wait()
        assert origin.requests == []
        holder.flow.resume()
        assert (await answer).body == PONG
    with pytest.raises(TimeoutError):
        await asking(mitm, origin.url, timeout_s=SHORT_S)
    assert not holder.flow.intercepted


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
@SHOWN
async def test_tls_is_as_mitmproxys_options_have_it(mitm, authority, name, is_shown):
    tls = Origin(free_port(), tls=authority.server_context("h2", "http/1.1"))
    url = f"https://{name}:{tls.port}/mcp"
    async with tls.listening(), tls.answering(lambda exchange: exchange.answer(PONG)):
        with pytest.raises(ConnectionError, match=r"[Cc]ertificate"):
            await asking(mitm, url, is_shown=is_shown)
        mitm.options.update(ssl_insecure=True)
        assert (await asking(mitm, url, is_shown=is_shown)).body == PONG
        mitm.options.update(ssl_insecure=False, ssl_verify_upstream_trusted_ca=str(authority.ca_file))
        assert (await asking(mitm, url, is_shown=is_shown)).body == PONG
        assert {request.http_version for request in tls.requests} == {"HTTP/1.1"}


@SHOWN
async def test_a_parent_proxy_is_asked_where_mitmproxy_has_one(mitm, origin, is_shown):
    mitm.options.update(mode=[f"upstream:{origin.url}"], upstream_auth="user:password")
    async with origin.answering(lambda exchange: exchange.answer(PONG)):
        answer = await asking(mitm, "http://server.test/mcp", is_shown=is_shown)
    assert answer.body == PONG
    (request,) = origin.requests
    assert request.target == "http://server.test/mcp"
    assert request.header("proxy-authorization") is not None


@SHOWN
async def test_mitmproxy_is_not_asked_itself(mitm, is_shown):
    class Listening:
        listen_addrs = (("127.0.0.1", 8080),)
        mode = type("Mode", (), {"transport_protocol": "tcp"})

    mitm.master.addons.get("proxyserver").servers = [Listening()]
    with pytest.raises(ConnectionError, match="Request destination unknown"):
        await asking(mitm, "http://127.0.0.1:8080/mcp", is_shown=is_shown)


async def test_an_error_in_an_addon_that_a_hidden_request_needs_is_said(mitm, authority, caplog):
    mitm.options.update(ssl_verify_upstream_trusted_ca="/nowhere/at/all.pem")
    tls = Origin(free_port(), tls=authority.server_context("http/1.1"))
    async with tls.listening():
        with pytest.raises(OSError, match=r"."):
            await asking(mitm, f"https://localhost:{tls.port}/", timeout_s=SHORT_S, is_shown=False)
    assert "Addon error" in caplog.text


async def test_the_suite_shows_what_is_asked_as_an_exchange_of_its_own(confdir, origin):
    with taddons.context(Proxyserver(), TlsConfig()) as context:
        context.options.update(confdir=str(confdir))
        context.master.addons.add(suite := Shadowcat(), overheard := Overheard())
        context.own = suite.own_requests
        suite.running()
        answer = asking(context, f"{origin.url}/mcp")
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(event(PONG))
        assert parse((await answer).body.removeprefix(b"data: ")) == json.loads(PONG)
        await exchange.wait_peer_gone()
        late = asking(context, f"{origin.url}/mcp", timeout_s=SHORT_S)
        with pytest.raises(TimeoutError):
            await late
        with pytest.raises(ConnectionError, match="Connect call failed"):
            await asking(context, f"http://127.0.0.1:{free_port()}/mcp")
        await settled()
        assert len(suite.registry) == 0
        shown = {flow.id: flow for flow in overheard.flows}.values()
        assert len(shown) == 3
        assert [flow.error.msg if flow.error else None for flow in shown][:2] == [None, "no answer in time"]
        suite.done()


async def test_what_is_posted_and_not_taken_is_said(mitm, origin, caplog, monkeypatch):
    monkeypatch.setattr(own_requests, "OWN_REQUEST_TIMEOUT_S", SHORT_S)
    its_flow = http.HTTPFlow(tflow.tclient_conn(), tflow.tserver_conn())
    its_flow.request = http.Request.make("POST", f"{origin.url}/mcp", b"{}", {"mcp-session-id": "s-1"})

    async def answer(exchange):
        match exchange.request.body:
            case b"refused":
                await exchange.answer(b"", status=400)
            case b"broken":
                await exchange.reset()
            case b"taken":
                await exchange.answer(b"", status=202)

    async with origin.answering(answer):
        for body in (b"taken", b"refused", b"broken", b"silent"):
            mitm.own.post(its_flow, None, body)
            await asyncio.gather(*mitm.own._tasks)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["HTTP 400" in said[0], "did not take" in said[1], "no answer from" in said[2]] == [True] * 3
    assert len(said) == 3
    assert {request.header("mcp-session-id") for request in origin.requests} == {"s-1"}
