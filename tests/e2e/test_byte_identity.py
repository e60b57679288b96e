"""Bodies come out of the idle proxy as they went in: scripted streams cut anywhere, odd contents, compressed ones."""

import gzip
import json
import random
import zlib

import brotli
import pytest
import zstandard

from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.http_client import through_connect
from tests.e2e.origin import EVENT_STREAM, JSON, Origin
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import Connection, Response, connect

CODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}")


def anthropic_stream(deltas: int) -> bytes:
    """The stream of one message in the shape Anthropic's API writes it."""
    start = {"type": "message_start", "message": {"id": "msg_01", "type": "message", "role": "assistant"}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " and so it went on"}}
    events = [start, *([delta] * deltas), {"type": "content_block_stop", "index": 0}, {"type": "message_stop"}]
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def random_stream(seed: int, events: int) -> bytes:
    """A stream of many events with random fields, sizes and line ends."""
    dice = random.Random(seed)
    blocks: list[bytes] = []
    for number in range(events):
        end = dice.choice([b"\n", b"\r\n", b"\r"])
        lines = [b": comment"] if dice.random() < 0.1 else []
        lines += [b"id: %d" % number] if dice.random() < 0.4 else []
        lines += [dice.choice([b"event: message", b"event:message", b"event"])] if dice.random() < 0.7 else []
        text = "".join(dice.choices("aä→🐈\u2028\x00 ", k=dice.randrange(0, 400)))
        lines += [b"data: " + json.dumps(wire.progress(number) | {"x": text}, ensure_ascii=False).encode()]
        dice.shuffle(lines)
        blocks.append(end.join(lines) + end + end)
    return b"".join(blocks)


async def send_call(client: Connection) -> None:
    await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)


async def body_through(
    origin: Origin, proxy: Proxy, body: bytes, headers=EVENT_STREAM, *, cut: int | None = None
) -> tuple[Response, bytes]:
    """What the client gets when the origin answers a call with `body`."""
    async with connect(proxy.port) as client:
        await send_call(client)
        exchange = await origin.exchange()
        await exchange.answer(body, headers, cut=cut)
        response = await client.response()
        return response, await response.rest()


async def test_a_stream_cut_in_two_at_any_position_is_the_same_stream(origin: Origin, proxy: Proxy):
    stream = wire.EVERY_SHAPE
    async with connect(proxy.port) as client:
        for cut in range(1, len(stream)):
            await send_call(client)
            exchange = await origin.exchange()
            await exchange.head()
            response = await client.response()
            # The second part is sent when the client holds the first: the proxy cannot have joined them.
            await exchange.send(stream[:cut])
            assert await response.receive(cut) == stream[:cut], f"cut at {cut}"
            await exchange.send(stream[cut:])
            await exchange.end()
            assert await response.rest() == stream[cut:], f"cut at {cut}"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_dripped_stream_is_the_same_stream(origin: Origin, proxy: Proxy, size):
    _, body = await body_through(origin, proxy, wire.EVERY_SHAPE, cut=size)
    assert body == wire.EVERY_SHAPE


@pytest.mark.parametrize("seed", range(8))
async def test_a_long_random_stream_is_the_same_in_random_pieces(origin: Origin, proxy: Proxy, seed):
    stream = random_stream(seed, events=300)
    _, body = await body_through(origin, proxy, stream, cut=random.Random(seed).choice([97, 1_000, 40_000]))
    assert body == stream


@pytest.mark.parametrize("size", [1, 50, 20_000])
async def test_a_stream_from_an_http2_origin_is_the_same_stream(
    tls_origin: Origin, proxies: Proxies, authority: Authority, size
):
    stream = wire.EVERY_SHAPE if size == 1 else random_stream(seed=size, events=300)
    proxy = proxies.shadowcat("regular", ssl_verify_upstream_trusted_ca=str(authority.ca_file))
    async with (
        tls_origin.answering(lambda exchange: exchange.answer(stream, EVENT_STREAM, cut=size)),
        through_connect(proxy, http2=True) as client,
    ):
        response = await client.post(f"{tls_origin.url}/mcp", headers=wire.CALL_HEADERS, content=wire.CALL)
    assert [request.http_version for request in tls_origin.requests] == ["HTTP/2"]
    assert response.content == stream


async def test_an_llm_stream_passes_untouched_event_by_event(origin: Origin, proxy: Proxy):
    stream = anthropic_stream(deltas=50)
    events = [event + b"\n\n" for event in stream.split(b"\n\n") if event]
    asked = json.dumps({"model": "claude", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    async with connect(proxy.port) as client:
        await client.send("POST", "/v1/messages", {"Content-Type": "application/json", "X-Api-Key": "k"}, asked)
        exchange = await origin.exchange()
        assert exchange.request.body == asked
        await exchange.head({"content-type": "text/event-stream; charset=utf-8"})
        response = await client.response()
        for event in events:
            await exchange.send(event)
            assert await response.receive(len(event)) == event
        await exchange.end()
        assert await response.rest() == b""


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_stream_stays_compressed_as_it_was(origin: Origin, proxy: Proxy, coding):
    stream = CODINGS[coding](wire.EVERY_SHAPE * 3)
    response, body = await body_through(origin, proxy, stream, EVENT_STREAM | {"content-encoding": coding}, cut=50)
    assert response.header("content-encoding") == coding
    assert body == stream


async def test_a_compressed_stream_arrives_as_it_is_flushed(origin: Origin, proxy: Proxy):
    packer = zlib.compressobj(wbits=31)
    async with connect(proxy.port) as client:
        await send_call(client)
        exchange = await origin.exchange()
        await exchange.head(EVENT_STREAM | {"content-encoding": "gzip"})
        response = await client.response()
        for step in range(5):
            piece = packer.compress(wire.sse(wire.progress(step))) + packer.flush(zlib.Z_SYNC_FLUSH)
            await exchange.send(piece)
            assert await response.receive(len(piece)) == piece


async def test_what_claims_to_be_compressed_and_is_not_passes_as_it_is(origin: Origin, proxy: Proxy):
    stream = wire.sse(wire.result(1))
    _, body = await body_through(origin, proxy, stream, EVENT_STREAM | {"content-encoding": "gzip"}, cut=10)
    assert body == stream


HOSTILE_STREAMS = {
    "a line without end": b"data: " + b"x" * 200_000,
    "invalid UTF-8": b'data: {"jsonrpc":"2.0","id":1,"result":"\xff\xfe\xc3("}\n\n',
    "a NUL in every field": b"id: \x00\nevent: a\x00b\ndata: \x00\x00\n\n",
    "only line ends": b"\n\r\n\r" * 2_000,
    "a hundred thousand brackets": b'data: {"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000 + b"\n\n",
    "a number of a hundred thousand digits": b'data: {"jsonrpc":"2.0","id":' + b"9" * 100_000 + b"}\n\n",
    "a lone surrogate": b'data: {"jsonrpc":"2.0","method":"\\ud800","params":{}}\n\n',
    "one method twice": b'data: {"jsonrpc":"2.0","method":"a","method":"b"}\n\n',
    "an array, as 2025-03-26 has it": b'data: [{"id":1,"result":{}},{"jsonrpc":"2.0","method":"x"}]\n\n',
    "retry of five thousand digits": b"retry: " + b"1" * 5_000 + b"\ndata: {}\n\n",
    "an empty event": b"data:\n\ndata: \n\n",
    "HTML": b"<!doctype html><title>oops</title>",
    "no byte at all": b"",
    "HTTP inside": b"data: x\n\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("kind", HOSTILE_STREAMS)
async def test_a_hostile_stream_passes_as_it_is(origin: Origin, proxy: Proxy, kind):
    stream = HOSTILE_STREAMS[kind]
    _, body = await body_through(origin, proxy, stream, cut=4_096)
    assert body == stream


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"n":12345678901234567890123,"n":2,  "s":"\\u2192"}}',
        b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}}\n',
        b"\xef\xbb\xbf{}",
        b"not JSON at all \xff",
        b"",
    ],
)
async def test_a_json_body_is_the_same_body(origin: Origin, proxy: Proxy, body):
    response, got = await body_through(origin, proxy, body, JSON)
    assert (response.header("content-type"), got) == ("application/json", body)


@pytest.mark.parametrize("content_type", ["text/html", "application/octet-stream", "image/png"])
async def test_content_that_is_not_mcp_is_left_alone(origin: Origin, proxy: Proxy, content_type):
    blob = random.Random(content_type).randbytes(300_000)
    async with connect(proxy.port) as client:
        await client.send("GET", "/logo", {"Accept-Encoding": "gzip, br", "Accept": "*/*"})
        exchange = await origin.exchange()
        assert exchange.request.header("accept-encoding") == "gzip, br"
        await exchange.answer(blob, {"content-type": content_type, "etag": '"a"'}, cut=10_000)
        response = await client.response()
        assert (response.header("etag"), await response.rest()) == ('"a"', blob)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_request_reaches_the_origin_as_it_was_sent(origin: Origin, proxy: Proxy, era: wire.Era):
    # Odd spacing, a number beyond 64 bits and a repeated key: re-encoding would show.
    body = wire.tool_call(era=era, text="→ \x7f").replace(b'"id": 1', b'"id" :12345678901234567890123,"id":1')
    headers = wire.headers("tools/call", "echo", era=era, session="s-1") | {
        "Authorization": "Bearer secret",
        "Mcp-Param-Region": "=?base64?w6Q=?=",
        "X-Odd": "a, b",
    }
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp?a=%20b", headers, body)
        exchange = await origin.exchange()
        await exchange.answer(b"{}")
        await (await client.response()).rest()
    request = exchange.request
    assert (request.method, request.target, request.body) == ("POST", "/mcp?a=%20b", body)
    for name, value in headers.items():
        assert request.header(name.lower()) == value
    assert request.header("host") == f"127.0.0.1:{proxy.port}"
