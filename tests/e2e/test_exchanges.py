"""One request in, one request out; who leaves, who breaks off and who is not there is told to the other side."""

import asyncio
import contextlib
import json
import time

import h11
import pytest

from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.http_client import through_connect
from tests.e2e.origin import JSON, Exchange, Origin
from tests.e2e.processes import free_port
from tests.e2e.proxies import IMPATIENT, STREAM_ALL, Proxies, Proxy
from tests.e2e.raw_client import connect

STANDALONE = {"Accept": "text/event-stream", "Mcp-Session-Id": "s-1", "MCP-Protocol-Version": wire.LEGACY_VERSION}
EVENT = wire.sse(wire.progress(1))


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}")


async def answer_by_kind(exchange: Exchange) -> None:
    """What an MCP server does: a call is streamed, other requests get JSON, notifications a 202, GET a stream."""
    message = json.loads(exchange.request.body or b"{}")
    if exchange.request.method == "DELETE":
        await exchange.answer(b"", {}, status=204)
    elif exchange.request.method == "GET" or message.get("method") == "tools/call":
        await exchange.head()
        await exchange.send(EVENT)
        await exchange.end()
    elif "id" in message:
        await exchange.answer(json.dumps(wire.result(message["id"])).encode())
    else:
        await exchange.answer(b"", JSON, status=202)


async def test_every_client_request_is_exactly_one_upstream_request(origin: Origin, proxy: Proxy):
    session = {"Mcp-Session-Id": "s-1"}
    asked = [
        ("POST", wire.headers("initialize", era="legacy"), wire.request("initialize", era="legacy")),
        ("POST", wire.headers("", era="legacy", session="s-1"), wire.notification("notifications/initialized")),
        ("GET", STANDALONE, b""),
        ("POST", wire.headers("", era="legacy", session="s-1"), wire.tool_call(era="legacy")),
        ("POST", wire.headers("server/discover"), wire.request("server/discover")),
        ("POST", wire.headers("tools/list"), wire.request("tools/list")),
        ("POST", wire.CALL_HEADERS, wire.CALL),
        ("POST", wire.headers("subscriptions/listen"), wire.request("subscriptions/listen")),
        ("DELETE", session, b""),
    ]
    async with origin.answering(answer_by_kind), connect(proxy.port) as client:
        for method, headers, body in asked:
            response = await client.request(method, "/mcp", headers, body)
            await response.rest()
    assert [(r.method, r.body) for r in origin.requests] == [(method, body) for method, _, body in asked]


async def test_requests_of_many_clients_reach_the_origin_once_each(origin: Origin, proxy: Proxy):
    clients, each = 10, 10

    async def one(number: int) -> None:
        async with connect(proxy.port) as client:
            for step in range(each):
                body = wire.tool_call(message_id=f"{number}-{step}")
                await (await client.request("POST", "/mcp", wire.CALL_HEADERS, body)).rest()

    async with origin.answering(answer_by_kind):
        await asyncio.gather(*(one(number) for number in range(clients)))
    ids = [json.loads(request.body)["id"] for request in origin.requests]
    assert sorted(ids) == sorted(f"{number}-{step}" for number in range(clients) for step in range(each))


async def test_a_client_that_leaves_mid_stream_is_gone_upstream_too(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(EVENT)
        assert await (await client.response()).receive(len(EVENT)) == EVENT
        client.leave()
        await exchange.wait_peer_gone()


async def test_a_client_that_leaves_a_silent_stream_is_gone_upstream_too(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("GET", "/mcp", STANDALONE)
        exchange = await origin.exchange()
        await exchange.head()
        await client.response()
        client.leave()
        await exchange.wait_peer_gone()


async def test_a_client_that_leaves_before_the_answer_is_gone_upstream_too(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        client.leave()
        await exchange.wait_peer_gone()


async def test_a_client_that_leaves_over_http2_is_gone_upstream_too(
    tls_origin: Origin, proxies: Proxies, authority: Authority
):
    proxy = proxies.shadowcat("regular", ssl_verify_upstream_trusted_ca=str(authority.ca_file))
    async with through_connect(proxy, http2=True) as client:
        request = client.build_request("POST", f"{tls_origin.url}/mcp", headers=wire.CALL_HEADERS, content=wire.CALL)
        sending = asyncio.create_task(client.send(request, stream=True))
        exchange = await tls_origin.exchange()
        await exchange.head()
        response = await sending
        await exchange.send(EVENT)
        assert await anext(response.aiter_raw()) == EVENT
        await response.aclose()
    await exchange.wait_peer_gone()


@pytest.mark.parametrize("framing", ["chunked", 10_000])
async def test_a_server_that_resets_mid_event_leaves_a_body_that_does_not_end_well(
    origin: Origin, proxy: Proxy, framing
):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head(framing=framing)
        response = await client.response()
        await exchange.send(EVENT + EVENT[:20])
        assert await response.receive(len(EVENT) + 20) == EVENT + EVENT[:20]
        await exchange.reset()
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            await response.rest()


async def test_a_stream_that_breaks_does_not_disturb_another(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as broken, connect(proxy.port) as whole:
        exchanges = []
        for client in (broken, whole):
            await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
            exchange = await origin.exchange()
            await exchange.head()
            await exchange.send(EVENT)
            exchanges.append(exchange)
        await exchanges[0].reset()
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            await (await broken.response()).rest()
        response = await whole.response()
        assert await response.receive(len(EVENT)) == EVENT
        await exchanges[1].send(EVENT)
        await exchanges[1].end()
        assert await response.rest() == EVENT


@pytest.mark.parametrize("message_id", [1, 0, "a-1", 2**60])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_an_upstream_that_is_down_is_a_json_rpc_error_with_the_requests_id(
    proxies: Proxies, era: wire.Era, message_id
):
    proxy = proxies.shadowcat(f"reverse:http://127.0.0.1:{free_port()}")
    body = wire.tool_call(era=era, message_id=message_id)
    async with connect(proxy.port) as client:
        response = await client.request("POST", "/mcp", wire.headers("tools/call", "echo", era=era), body)
        answer = json.loads(await response.rest())
    assert response.header("content-type") == "application/json"
    assert response.status == (502 if era == "modern" else 200)
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", message_id)
    assert not -32768 <= answer["error"]["code"] <= -32000
    assert answer["error"]["message"]


async def test_an_upstream_that_hangs_up_before_the_head_is_a_json_rpc_error_too(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await (await origin.exchange()).reset()
        response = await client.response()
        answer = json.loads(await response.rest())
    assert len(origin.requests) == 1
    assert answer["id"] == 1
    assert not -32768 <= answer["error"]["code"] <= -32000


async def test_what_is_not_mcp_gets_mitmproxys_own_answer_when_the_upstream_is_down(proxies: Proxies):
    proxy = proxies.shadowcat(f"reverse:http://127.0.0.1:{free_port()}")
    async with connect(proxy.port) as client:
        response = await client.request("GET", "/index.html", {"Accept": "text/html"})
        assert response.status == 502
        assert "text/html" in (response.header("content-type") or "")


async def wait_until_given_up(origin: Origin, proxy: Proxy) -> None:
    """Open a silent stream through `proxy` and wait until mitmproxy's patience with it is over."""
    async with connect(proxy.port) as client:
        await client.send("GET", "/mcp", STANDALONE)
        exchange = await origin.exchange()
        with contextlib.suppress(ConnectionError):  # it is over already
            await exchange.head()
        await exchange.wait_peer_gone()


async def test_a_silent_stream_outlives_mitmproxys_default_patience(origin: Origin, proxies: Proxies):
    ours = proxies.shadowcat(f"reverse:{origin.url}", IMPATIENT)
    other = proxies.stock(f"reverse:{origin.url}", IMPATIENT, STREAM_ALL)
    async with connect(ours.port) as client:
        await client.send("GET", "/mcp", STANDALONE)
        silent = await origin.exchange()
        await silent.head()
        response = await client.response()
        # The other proxy is the clock: it gives up twice, one stream after the other, while ours is silent.
        await wait_until_given_up(origin, other)
        await wait_until_given_up(origin, other)
        await silent.send(EVENT)
        assert await response.receive(len(EVENT)) == EVENT


async def test_a_patience_the_user_chose_is_kept(origin: Origin, proxies: Proxies):
    await wait_until_given_up(origin, proxies.shadowcat(f"reverse:{origin.url}", tcp_timeout="1"))


async def test_memory_stays_bounded_while_one_event_never_ends(origin: Origin, proxy: Proxy):
    piece, pieces = b"x" * 1_000_000, 64
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(b"data: ")
        assert await response.receive(6) == b"data: "
        before = proxy.process.resident_bytes()
        for _ in range(pieces):
            await exchange.send(piece)
            assert await response.receive(len(piece)) == piece
        assert proxy.process.resident_bytes() - before < pieces * len(piece) // 2
        response.arrivals.clear()


async def test_a_stream_beside_a_flood_is_not_starved(origin: Origin, proxy: Proxy):
    flooding = asyncio.Event()

    async def flood(exchange: Exchange) -> None:
        await exchange.head()
        while not flooding.is_set():
            await exchange.send(EVENT * 200)
        await exchange.end()

    async with connect(proxy.port) as noisy, connect(proxy.port) as quiet:
        await noisy.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        flooder = asyncio.create_task(flood(await origin.exchange()))
        drinker = asyncio.create_task((await noisy.response()).rest())
        await quiet.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await quiet.response()
        longest_s = 0.0
        for _ in range(50):
            sent = time.monotonic()
            await exchange.send(EVENT)
            assert await response.receive(len(EVENT)) == EVENT
            longest_s = max(longest_s, time.monotonic() - sent)
        flooding.set()
        await flooder
        flooded = await drinker
    assert flooded == EVENT * (len(flooded) // len(EVENT))
    assert longest_s < 15
