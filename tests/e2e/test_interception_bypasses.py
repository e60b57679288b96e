"""Ways past who decides, in a real mitmdump: codings, types, cuts and endpoints that clients and servers forgive."""

import gzip
import json
import zlib

import pytest

from tests.e2e import wire
from tests.e2e.judged import (
    BLOCKED,
    ENDPOINT,
    EVIL,
    EVIL_CALL,
    FAILED,
    FINE,
    JUDGING,
    LEGACY_HEADERS,
    announce,
    calling,
    end,
    judge,
    listening,
    logged,
    messages,
    note,
    numbers,
    refused,
)
from tests.e2e.origin import EVENT_STREAM, JSON, Exchange, Origin
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import connect

GZIP = {"content-encoding": "gzip"}
BARE = {"Accept": wire.ACCEPT, "Content-Type": "application/json"}
EVIL_ANSWER = json.dumps(wire.result(1, text="EVIL")).encode()
# Nothing of it is a sign of MCP but the name of its method.
BARE_CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"EVIL"}}'
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", *JUDGING, judging="both")


@pytest.fixture
async def switched(proxies: Proxies, origin: Origin) -> Proxy:
    """A proxy whose judge is not there yet."""
    proxy = proxies.shadowcat(f"reverse:{origin.url}", *JUDGING)
    await judge(proxy, "")
    return proxy


async def test_a_version_with_a_line_end_makes_no_header_and_no_second_request(origin: Origin, proxy: Proxy):
    smuggled = b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(EVIL_CALL), EVIL_CALL)
    version = f"2026-07-28\r\nx-evil: 1\r\ncontent-length: 0\r\n\r\n{smuggled.decode()}".replace("EVIL", "EV\\u0049L")
    call = wire.request("tools/call", {"name": "echo", "version": version})
    async with connect(proxy.port) as client, origin.answering(lambda exchange: exchange.answer(b"{}")):
        response = await client.request("POST", "/mcp", wire.CALL_HEADERS, call)
        await response.rest()
    (request,) = origin.requests
    assert request.header("x-evil") is None
    assert json.loads(request.body)["params"]["version"] == version


@pytest.mark.parametrize("headers", [wire.CALL_HEADERS, BARE], ids=["with MCP headers", "without"])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", EVIL_CALL),
        ("foo", EVIL_CALL),
        ("gzip", EVIL_CALL),
        ("gzip, foo", gzip.compress(EVIL_CALL)),
        ("gzip", gzip.compress(EVIL_CALL) + b"junk"),
    ],
    ids=["br", "unknown", "gzip", "two", "trailing junk"],
)
async def test_a_request_whose_coding_cannot_be_undone_is_refused(origin: Origin, proxy: Proxy, headers, coding, body):
    async with connect(proxy.port) as client:
        told = await refused(client, origin, body, headers | {"Content-Encoding": coding}, "/coded")
    assert told["error"]["code"] == FAILED


@pytest.mark.parametrize("headers", [wire.CALL_HEADERS, BARE], ids=["with MCP headers", "without"])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(EVIL_CALL)),
        ("x-gzip", gzip.compress(EVIL_CALL)),
        ("GZIP", gzip.compress(EVIL_CALL)),
        ("gzip", gzip.compress(EVIL_CALL)[:-4]),
        ("gzip", gzip.compress(EVIL_CALL[:20]) + gzip.compress(EVIL_CALL[20:])),
        ("deflate", zlib.compress(EVIL_CALL)),
        ("gzip, deflate", zlib.compress(gzip.compress(EVIL_CALL))),
    ],
    ids=["gzip", "x-gzip", "GZIP", "cut short", "two members", "deflate", "twice"],
)
async def test_a_coded_request_is_judged(origin: Origin, proxy: Proxy, headers, coding, body):
    async with connect(proxy.port) as client:
        told = await refused(client, origin, body, headers | {"Content-Encoding": coding}, "/coded")
    assert told["error"]["code"] == BLOCKED


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "application/json, text/plain",
        "application/jsonx",
        "application/json;;x",
        "APPLICATION/JSON",
        "text/json",
    ],
)
@pytest.mark.parametrize("cut", [None, 7], ids=["whole", "in pieces"])
async def test_a_body_that_lenient_clients_read_as_json_is_judged(origin: Origin, proxy: Proxy, content_type, cut):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.answer(EVIL_ANSWER, {"content-type": content_type}, cut=cut)
        told = json.loads(await (await client.response()).rest())
        assert told["error"]["code"] == BLOCKED


async def test_a_body_whose_type_is_said_twice_is_judged(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.answer(EVIL_ANSWER, {"content-type": "application/json", "Content-Type": "application/json"})
        told = json.loads(await (await client.response()).rest())
        assert told["error"]["code"] == BLOCKED


@pytest.mark.parametrize(
    "content_type", ["text/event-stream, x", "text/event-stream-x", "text/event-stream;", "Text/Event-Stream"]
)
async def test_a_stream_that_lenient_clients_read_as_events_is_judged(origin: Origin, proxy: Proxy, content_type):
    async with calling(proxy, origin, {"content-type": content_type}) as (exchange, response):
        await exchange.send(EVIL[:20])
        await exchange.send(EVIL[20:] + EVIL)
        assert b"EVIL" not in await end(exchange, response)


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"event: ready\ndata: {}\n\n",
        b": hello\n\nretry: 1\n\n",
        b"data: " + b"x" * 80_000 + b"\n\n",
        b'data: {"jsonrpc":"2.0","method":"x"}\n\n' * 3,
    ],
    ids=["nothing", "another", "comment", "large", "several"],
)
@pytest.mark.parametrize(
    "asks",
    [{"Accept": "text/event-stream"}, {"Accept": "application/json"}, {"Accept": "*/*"}],
    ids=lambda asks: asks["Accept"],
)
async def test_a_stream_of_http_with_sse_is_judged_however_it_begins(origin: Origin, proxy: Proxy, before, asks):
    async with listening(proxy, origin, asks) as (exchange, response):
        for event in (before, ENDPOINT, EVIL):
            if event:
                await exchange.send(event)
        assert await end(exchange, response) == before + ENDPOINT + FINE


@pytest.mark.parametrize("asks", [{"Accept": "text/event-stream"}, {"Accept": "application/json"}], ids=str)
async def test_a_stream_whose_chunks_end_within_its_events_is_judged(origin: Origin, proxy: Proxy, asks):
    stream = ENDPOINT + EVIL * 20
    async with listening(proxy, origin, asks) as (exchange, response):
        shift = len(ENDPOINT) - 3
        await exchange.send(stream[:shift])
        for at in range(shift, len(stream), len(EVIL)):
            await exchange.send(stream[at : at + len(EVIL)])
        assert await end(exchange, response) == ENDPOINT + FINE


async def test_a_coded_stream_of_http_with_sse_is_judged(origin: Origin, proxy: Proxy):
    coder = zlib.compressobj(wbits=31)
    async with listening(proxy, origin, head=EVENT_STREAM | GZIP) as (exchange, response):
        for event in (ENDPOINT, EVIL, FINE):
            await exchange.send(coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH))
        await exchange.send(coder.flush())
        await exchange.end()
        got = await response.rest()
        if response.header("content-encoding") is not None:
            got = gzip.decompress(got)
        assert got == ENDPOINT + FINE


async def test_a_judge_that_comes_while_a_stream_runs_judges_from_the_next_whole_event_on(
    origin: Origin, switched: Proxy
):
    stream = b"".join(note(number, text="EVIL") for number in range(20))
    async with calling(switched, origin) as (exchange, response):
        await exchange.send(stream[:10])
        assert await response.receive(10) == stream[:10]
        await judge(switched, "both")
        for at in range(10, len(stream), 100):
            await exchange.send(stream[at : at + 100])
        rest = await end(exchange, response)
        assert numbers(stream[:10] + rest) == [0], "the event that had begun passes, and no other"
        assert rest.startswith(note(0, text="EVIL")[10:])


async def test_a_judge_that_comes_after_the_endpoint_was_said_judges_the_next_message(origin: Origin, switched: Proxy):
    async with listening(switched, origin) as (exchange, response):
        await announce(exchange, response)
        await judge(switched, "both")
        await exchange.send(EVIL)
        assert await end(exchange, response) == FINE


async def test_a_coded_stream_that_a_judge_comes_too_late_for_is_told_in_the_log(origin: Origin, switched: Proxy):
    coder = zlib.compressobj(wbits=31)
    async with calling(switched, origin, EVENT_STREAM | GZIP) as (exchange, response):
        await exchange.send(coder.compress(FINE) + coder.flush(zlib.Z_SYNC_FLUSH))
        await response.receive(1)
        await judge(switched, "both")
        for _ in range(2):
            await exchange.send(coder.compress(FINE) + coder.flush(zlib.Z_SYNC_FLUSH))
        await exchange.end()
        await response.rest()
    log = await logged(switched, "a coded stream began before its interceptors")
    assert log.count("a coded stream began before its interceptors") == 1


@pytest.mark.parametrize("keep", ["false", "true"])
async def test_a_large_call_is_judged_although_large_bodies_are_to_stream(origin: Origin, proxies: Proxies, keep):
    proxy = proxies.shadowcat(
        f"reverse:{origin.url}", *JUDGING, judging="both", stream_large_bodies="1k", store_streamed_bodies=keep
    )
    large = wire.tool_call("echo", text="EVIL" + "x" * 100_000)
    async with connect(proxy.port) as client:
        for headers in (wire.CALL_HEADERS, BARE):
            told = await refused(client, origin, large, headers, "/large")
            assert told["error"]["code"] == BLOCKED


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (BARE_CALL.replace(b'"EVIL"', b'"EVIL","n":NaN'), "application/json"),
        (BARE_CALL.decode().encode("utf-16"), "application/json"),
        (BARE_CALL.decode().encode("utf-16-be"), "application/json"),
        (BARE_CALL, "text/plain"),
        (BARE_CALL, "application/json, x"),
        (BARE_CALL, None),
        (b"[" + BARE_CALL.replace(b"1,", b"2,") + b"," + BARE_CALL + b"]", "application/json"),
        (PING + b"\n" + BARE_CALL, "application/json"),
        (b"\xef\xbb\xbf" + BARE_CALL, "application/json"),
        (BARE_CALL.replace(b'"2.0"', b'"1.0"'), "application/json"),
        (BARE_CALL.replace(b'"jsonrpc":"2.0",', b""), "application/json"),
    ],
    ids=["NaN", "UTF-16", "UTF-16 BE", "text", "two types", "no type", "array", "two", "mark", "old", "unversioned"],
)
async def test_what_is_posted_where_mcp_was_spoken_is_judged_however_it_is_written(
    origin: Origin, proxy: Proxy, body, content_type
):
    headers = {"Accept": "*/*"} | ({"Content-Type": content_type} if content_type else {})
    async with connect(proxy.port) as client:
        await refused(client, origin, EVIL_CALL, wire.CALL_HEADERS, "/spoken")
        response = await client.request("POST", "/spoken?again=1", headers, body)
        assert b"evil" in await response.rest()
    assert origin.requests == []


async def test_an_array_is_judged_where_mcp_was_spoken_though_it_begins_with_a_ping(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await refused(client, origin, EVIL_CALL, wire.CALL_HEADERS, "/spoken")
        await client.send(
            "POST", "/spoken", {"Content-Type": "application/json"}, b"[" + PING + b"," + BARE_CALL + b"]"
        )
        exchange = await origin.exchange()
        assert json.loads(exchange.request.body) == [json.loads(PING)]
        await exchange.answer(b"")
        await (await client.response()).rest()


@pytest.mark.parametrize("judged", ["both", "c2s"])
@pytest.mark.parametrize("head", ["length", "gzip"])
async def test_what_is_left_of_an_array_is_answered_on_a_stream_that_joins_ours(
    origin: Origin, proxies: Proxies, judged, head
):
    proxy = proxies.shadowcat(f"reverse:{origin.url}", *JUDGING, judging=judged)
    calls = [
        json.loads(wire.tool_call("echo", message_id="bad", era="legacy", text="EVIL")),
        json.loads(wire.tool_call("echo", message_id="fine", era="legacy")),
    ]
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", LEGACY_HEADERS | {"Accept-Encoding": "gzip"}, json.dumps(calls).encode())
        exchange: Exchange = await origin.exchange()
        assert [call["id"] for call in json.loads(exchange.request.body)] == ["fine"]
        if head == "length":
            await exchange.answer(FINE, EVENT_STREAM)
        else:
            await exchange.answer(gzip.compress(FINE), EVENT_STREAM | GZIP, cut=20)
        response = await client.response()
        got = await response.rest()
        if response.header("content-encoding") is not None:
            got = gzip.decompress(got)
        assert sorted(message["id"] for message in messages(got)) == ["bad", "fine"]


async def test_a_body_that_says_it_is_coded_and_is_not_is_refused(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        for coding in ("br", "gzip", "unknown"):
            await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
            exchange = await origin.exchange()
            await exchange.answer(EVIL_ANSWER, JSON | {"content-encoding": coding})
            told = json.loads(await (await client.response()).rest())
            assert told["error"]["code"] == FAILED
