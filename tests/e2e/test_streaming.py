"""An event reaches the client before the next is sent; stock mitmproxy keeps all of them until the end."""

import asyncio
import json

import pytest

from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.http_client import through_connect
from tests.e2e.origin import EVENT_STREAM, JSON, Origin
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import Connection, connect

EVENTS = [wire.sse(wire.progress(step, total=4)) for step in range(1, 5)] + [wire.sse(wire.result(1))]
LISTEN = wire.request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
LISTEN_HEADERS = wire.headers("subscriptions/listen")
STANDALONE = {"Accept": "text/event-stream", "Mcp-Session-Id": "s-1", "MCP-Protocol-Version": wire.LEGACY_VERSION}

# How long stock mitmproxy is given to show that it does deliver after all.
STOCK_DELIVERS_WITHIN_S = 1.5


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}")


@pytest.fixture
def stock(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.stock(f"reverse:{origin.url}")


async def call(connection: Connection) -> None:
    await connection.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)


@pytest.mark.parametrize("framing", ["chunked", "close", sum(map(len, EVENTS))])
async def test_each_event_of_a_call_arrives_before_the_next_is_sent(origin: Origin, proxy: Proxy, framing):
    async with connect(proxy.port) as client:
        await call(client)
        exchange = await origin.exchange()
        await exchange.head(framing=framing)
        response = await client.response()
        for event in EVENTS:
            await exchange.send(event)
            assert await response.receive(len(event)) == event
        await exchange.end()
        assert await response.rest() == b""


async def test_stock_mitmproxy_delivers_no_event_before_the_stream_has_ended(origin: Origin, stock: Proxy):
    async with connect(stock.port) as client:
        await call(client)
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(EVENTS[0])
        with pytest.raises(TimeoutError):
            await client.response(within_s=STOCK_DELIVERS_WITHIN_S)
        await exchange.end()
        response = await client.response()
        assert await response.rest() == EVENTS[0]


async def test_half_an_event_is_not_waited_for_either(origin: Origin, proxy: Proxy):
    event = EVENTS[0]
    async with connect(proxy.port) as client:
        await call(client)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        for at in range(0, len(event), 16):
            await exchange.send(event[at : at + 16])
            assert await response.receive(len(event[at : at + 16])) == event[at : at + 16]


async def test_the_headers_of_a_silent_stream_arrive_at_once(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("GET", "/mcp", STANDALONE)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        assert response.status == 200
        assert response.header("content-type") == "text/event-stream"
        late = wire.sse({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await exchange.send(late)
        assert await response.receive(len(late)) == late


async def test_stock_mitmproxy_holds_the_headers_of_a_silent_stream_back(origin: Origin, stock: Proxy):
    async with connect(stock.port) as client:
        await client.send("GET", "/mcp", STANDALONE)
        exchange = await origin.exchange()
        await exchange.head()
        with pytest.raises(TimeoutError):
            await client.response(within_s=STOCK_DELIVERS_WITHIN_S)


@pytest.mark.parametrize(
    "content_type",
    ["text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream;charset=UTF-8"],
)
async def test_an_event_stream_is_known_by_its_media_type_however_written(origin: Origin, proxy: Proxy, content_type):
    async with connect(proxy.port) as client:
        await call(client)
        exchange = await origin.exchange()
        await exchange.head({"content-type": content_type})
        response = await client.response()
        assert response.header("content-type") == content_type
        await exchange.send(EVENTS[0])
        assert await response.receive(len(EVENTS[0])) == EVENTS[0]


async def test_a_listen_answered_with_json_lines_streams_too(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", LISTEN_HEADERS, LISTEN)
        exchange = await origin.exchange()
        await exchange.head(JSON)
        response = await client.response()
        for method in ("notifications/subscriptions/acknowledged", "notifications/tools/list_changed"):
            line = json.dumps({"jsonrpc": "2.0", "method": method, "params": {}}).encode() + b"\n"
            await exchange.send(line)
            assert await response.receive(len(line)) == line
        await exchange.end()
        assert await response.rest() == b""


async def test_streams_run_side_by_side(origin: Origin, proxy: Proxy):
    count = 20

    async def one(number: int) -> bytes:
        async with connect(proxy.port) as client:
            body = wire.tool_call(message_id=number)
            response = await client.request("POST", "/mcp", wire.CALL_HEADERS, body)
            return await response.rest()

    waiting = [asyncio.create_task(one(number)) for number in range(count)]
    exchanges = [await origin.exchange() for _ in range(count)]
    for exchange in exchanges:
        await exchange.head()
    for event in EVENTS[:-1]:
        for exchange in exchanges:
            await exchange.send(event)
    for exchange in exchanges:
        await exchange.send(wire.sse(wire.result(json.loads(exchange.request.body)["id"])))
        await exchange.end()
    for number, body in enumerate(await asyncio.gather(*waiting)):
        assert body == b"".join(EVENTS[:-1]) + wire.sse(wire.result(number))


async def test_events_of_an_http2_upstream_arrive_one_by_one(
    tls_origin: Origin, proxies: Proxies, authority: Authority
):
    proxy = proxies.shadowcat("regular", ssl_verify_upstream_trusted_ca=str(authority.ca_file))
    async with through_connect(proxy, http2=True) as client:
        request = client.build_request("POST", f"{tls_origin.url}/mcp", headers=wire.CALL_HEADERS, content=wire.CALL)
        sending = asyncio.create_task(client.send(request, stream=True))
        exchange = await tls_origin.exchange()
        assert exchange.request.http_version == "HTTP/2"
        await exchange.head()
        response = await sending
        assert response.http_version == "HTTP/2"
        assert response.headers["content-type"] == EVENT_STREAM["content-type"]
        pieces = response.aiter_raw()
        for event in EVENTS:
            await exchange.send(event)
            assert await anext(pieces) == event
        await exchange.end()
        assert [piece async for piece in pieces] == []
        await response.aclose()
