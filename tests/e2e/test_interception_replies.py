"""Where answers go that Shadowcat gives in a real mitmdump: to the client's stream, or to its own origin alone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from shadowcat_core.limits import MAX_OWN_REQUESTS_AT_ONCE
from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.http_client import through_connect
from tests.e2e.judged import (
    BLOCKED,
    ENDPOINT,
    FINE,
    JUDGING,
    LEGACY_CALL,
    LEGACY_HEADERS,
    announce,
    end,
    listening,
    logged,
    messages,
    note,
    numbers,
    order,
    question,
)
from tests.e2e.origin import WITHIN_S, Exchange, Origin, Request, text_headers
from tests.e2e.origin_h2 import Http2Connection
from tests.e2e.processes import free_port
from tests.e2e.proxies import SCRIPTS, Proxies, Proxy
from tests.e2e.raw_client import connect
from tests.e2e.raw_client_h2 import connect_h2

CREDENTIALS = {"Accept": "text/event-stream", "Authorization": "Bearer secret", "Cookie": "a=b"}
PLAIN = {"Content-Type": "application/json"}
LONG_S = 3600


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", *JUDGING, judging="both")


@pytest.fixture
async def elsewhere() -> AsyncIterator[Origin]:
    """A server that no client of these tests talks to."""
    async with Origin(free_port()).listening() as listening_elsewhere:
        yield listening_elsewhere


def reply_to(message_id: int) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": message_id, "error": {"code": BLOCKED, "message": "evil"}}


async def until_connections_settle(origin: Origin) -> None:
    """Until nobody has connected for a while: whoever still would has had the time."""
    before = -1
    while before != origin.connections:
        before = origin.connections
        await asyncio.sleep(0.3)


@pytest.mark.parametrize(
    "named", ["http://127.0.0.1:{port}/internal", "//127.0.0.1:{port}/", "https://127.0.0.1:{own}"]
)
async def test_nothing_is_posted_to_an_endpoint_on_another_origin(
    origin: Origin, proxy: Proxy, elsewhere: Origin, named
):
    told = "nothing is posted to an endpoint on another origin than its client's"
    before = proxy.process.log.count(told)
    endpoint = f"event: endpoint\ndata: {named.format(port=elsewhere.port, own=origin.port)}\n\n".encode()
    async with listening(proxy, origin, CREDENTIALS) as (exchange, response):
        await announce(exchange, response, endpoint)
        await exchange.send(question(1))
        await logged(proxy, told, before + 1)
        assert await end(exchange, response) == FINE
        await until_connections_settle(elsewhere)
    assert (elsewhere.connections, origin.connections) == (0, 1)


@pytest.mark.parametrize(
    ("named", "target"),
    [
        ("http://127.0.0.1:{server}/messages?a=1", "/messages?a=1"),
        ("http://127.0.0.1:{proxy}/messages?a=1", "/messages?a=1"),
        ("//127.0.0.1:{proxy}/m", "/m"),
        ("/a b/é#there", "/a%20b/%C3%A9"),
        ("../x/./y", "/x/y"),
    ],
)
async def test_what_is_posted_to_an_endpoint_on_the_clients_own_origin_carries_its_headers(
    origin: Origin, proxy: Proxy, named, target
):
    """Servers that build absolute endpoints name the host that their client has named, which is this proxy."""
    endpoint = f"event: endpoint\ndata: {named.format(server=origin.port, proxy=proxy.port)}\n\n"
    async with listening(proxy, origin, CREDENTIALS) as (exchange, response):
        await announce(exchange, response, endpoint.encode())
        await exchange.send(question(1))
        posted = await origin.exchange()
        assert (posted.request.method, posted.request.target) == ("POST", target)
        assert posted.request.header("authorization") == "Bearer secret"
        assert posted.request.header("host") == exchange.request.header("host")
        assert json.loads(posted.request.body) == reply_to(1)
        await posted.answer(b"", {}, status=202)
        assert await end(exchange, response) == FINE


@pytest.mark.parametrize(
    "endpoint",
    [
        b"http://[bad",
        "http://münchen.example/m".encode(),
        b"http://\xff\xfe/",
        b"file:///etc/passwd",
        b"ftp://x/y",
        b"http://127.0.0.1:99999999/",
        b"http://127.0.0.1:x/",
        b"/m\x00\x01 HTTP/1.1",
        b"  /m",
        b"",
    ],
    ids=str,
)
async def test_an_endpoint_that_is_none_loses_no_event_and_breaks_nothing(origin: Origin, proxy: Proxy, endpoint):
    crashes = proxy.process.log.count("Traceback")
    async with listening(proxy, origin) as (exchange, response):
        announcement = b"event: endpoint\ndata: " + endpoint + b"\n\n"
        await exchange.send(announcement)
        await exchange.send(note(1) + note(2, hold_s=0.1) + question(1))
        await exchange.send(note(3))
        await exchange.send(question(2) + note(4))
        taking = asyncio.create_task(take_all(origin))
        body = await end(exchange, response)
        assert body.startswith(announcement)
        assert numbers(body) == [1, 2, 3, 4]
        await until_nothing_is_posted(proxy)
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
    assert proxy.process.log.count("Traceback") == crashes


async def until_nothing_is_posted(proxy: Proxy) -> None:
    async with asyncio.timeout(WITHIN_S):
        while (await order(proxy, "count"))["own"]:
            pass


async def take_all(origin: Origin) -> None:
    while True:
        await (await origin.exchange()).answer(b"", {}, status=202)


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("/messages?session_id=abc", "/messages?session_id=abc"),
        ("/messages/abc", "/messages/abc"),
        ("/m?sessionid=abc", "/m?sessionid=abc"),
        ("/m?s=1&token=x", "/m?s=1&token=x"),
        ("messages", "/messages"),
        ("?x=1", "/sse?x=1"),
        ("/a b/é", "/a%20b/%C3%A9"),
        ("http://127.0.0.1:{proxy}/messages/abc", "/messages/abc"),
    ],
)
async def test_the_reply_to_what_was_posted_to_an_endpoint_comes_on_its_stream(
    origin: Origin, proxy: Proxy, endpoint, target
):
    endpoint = endpoint.format(proxy=proxy.port)
    async with listening(proxy, origin) as (exchange, response), connect(proxy.port) as asking:
        await announce(exchange, response, f"event: endpoint\ndata: {endpoint}\n\n".encode())
        accepted = await asking.request("POST", target, PLAIN, LEGACY_CALL)
        assert (accepted.status, await accepted.rest()) == (202, b"")
        assert messages(await end(exchange, response)) == [reply_to(9), wire.result("fine")]
    assert len(origin.requests) == 1


@pytest.mark.parametrize("judging", ["both", "c2s"])
async def test_a_reply_never_stands_within_an_event_of_the_servers(origin: Origin, proxies: Proxies, judging):
    proxy = proxies.shadowcat(f"reverse:{origin.url}", *JUDGING, judging=judging)
    async with listening(proxy, origin) as (exchange, response), connect(proxy.port) as asking:
        await announce(exchange, response)
        await exchange.send(note(1)[:40])
        if judging == "c2s":  # nobody judges what the server says, so it passes at once
            assert await response.receive(40) == note(1)[:40]
        for _ in range(2):
            accepted = await asking.request("POST", "/messages?session_id=abc", PLAIN, LEGACY_CALL)
            assert (accepted.status, await accepted.rest()) == (202, b"")
        await exchange.send(note(1)[40:] + note(2))
        got = await end(exchange, response)
        if judging == "c2s":
            got = note(1)[:40] + got
        assert sorted(numbers(got)) == [1, 2]
        assert messages(got).count(reply_to(9)) == 2


async def test_a_reply_on_a_stream_within_tls_does_not_wait_for_the_servers_next_event(
    tls_origin: Origin, proxies: Proxies, authority: Authority
):
    ca_file = str(authority.ca_file)
    proxy = proxies.shadowcat("regular", *JUDGING, judging="both", ssl_verify_upstream_trusted_ca=ca_file)
    crashes = proxy.process.log.count("Traceback")

    async def announcing(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(ENDPOINT)
        await exchange.wait_peer_gone()

    async with tls_origin.answering(announcing), through_connect(proxy) as client:
        headers = {"Accept": "text/event-stream"}
        async with asyncio.timeout(WITHIN_S), client.stream("GET", f"{tls_origin.url}/sse", headers=headers) as stream:
            pieces = stream.aiter_raw()
            assert await anext(pieces) == ENDPOINT
            url = f"{tls_origin.url}/messages?session_id=abc"
            accepted = await client.post(url, headers=PLAIN, content=LEGACY_CALL)
            assert accepted.status_code == 202
            assert messages(await anext(pieces)) == [reply_to(9)]
    assert proxy.process.log.count("Traceback") == crashes


@contextlib.asynccontextmanager
async def asked_over_h2(proxies: Proxies, origin: Origin, authority: Authority) -> AsyncIterator[Exchange]:
    """A client of HTTP/2 whose answer streams, and the server's question on it that does not pass."""
    ca_file = str(authority.ca_file)
    proxy = proxies.shadowcat(f"reverse:{origin.url}", *JUDGING, judging="both", ssl_verify_upstream_trusted_ca=ca_file)
    async with connect_h2(proxy.port, proxy.tls_context()) as client:
        stream = await client.post("/mcp", LEGACY_HEADERS, wire.tool_call(era="legacy"))
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(question(5) + note(1))
        assert await client.receive(stream, len(note(1))) == note(1)
        posted = await origin.exchange()
        assert posted.request.header("host") == exchange.request.header("host")
        yield posted


class NamingHosts(Http2Connection):
    """A server that takes `:authority` for the host, as servers do."""

    def _request(self, stream_id: int) -> Request:
        fields = dict(text_headers(self._heads[stream_id].headers))
        request = super()._request(stream_id)
        return replace(request, headers=(*request.headers, ("host", fields[":authority"])))


async def serve(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await NamingHosts(origin, reader, writer).serve()


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
async def test_what_is_posted_for_a_client_of_http2_names_the_host(proxies: Proxies, authority: Authority, version):
    alpn = ["h2", "http/1.1"] if version == "HTTP/2" else ["http/1.1"]
    origin = Origin(free_port(), tls=authority.server_context(*alpn), h2=serve)
    async with origin.listening(), asked_over_h2(proxies, origin, authority) as posted:
        assert posted.request.http_version == version
        assert (posted.request.header("host") or "").startswith("127.0.0.1")
        assert json.loads(posted.request.body) == reply_to(5)
        await posted.answer(b"", {}, status=202)


async def test_a_server_that_asks_much_and_takes_no_answers_is_asked_by_few_at_a_time_and_leaves_nothing_behind(
    origin: Origin, proxies: Proxies
):
    proxy = proxies.shadowcat(f"reverse:{origin.url}", SCRIPTS / "hasty.py", *JUDGING, judging="both")
    asked = 3 * int(MAX_OWN_REQUESTS_AT_ONCE)
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", LEGACY_HEADERS, wire.tool_call(era="legacy"))
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        before = await order(proxy, "count")
        await exchange.send(b"".join(question(number) for number in range(asked)))
        posted = [await origin.exchange() for _ in range(int(MAX_OWN_REQUESTS_AT_ONCE))]
        during = await order(proxy, "count")
        assert during["own"] == asked
        assert during["files"] <= before["files"] + MAX_OWN_REQUESTS_AT_ONCE
        posted += [await origin.exchange() for _ in range(asked - len(posted))]
        for own in posted:
            await own.wait_peer_gone()
        await logged(proxy, "no answer from", asked)
        assert await end(exchange, response) == FINE
    assert sorted(json.loads(own.request.body)["id"] for own in posted) == list(range(asked))
    left = {"exchanges": 0, "own": 0, "files": before["files"] - 2}
    async with asyncio.timeout(WITHIN_S):
        while await order(proxy, "count") != left:
            pass
