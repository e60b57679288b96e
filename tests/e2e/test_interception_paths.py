"""Interceptors in a real mitmdump on the less trodden paths: codings, large bodies, HTTP/2, and what comes and goes."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import h11
import pytest

from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.http_client import through_connect
from tests.e2e.origin import EVENT_STREAM, JSON, Exchange, Origin
from tests.e2e.proxies import SCRIPTS, Proxies, Proxy
from tests.e2e.raw_client import Connection, connect
from tests.e2e.raw_client_h2 import Http2Client, connect_h2

STEERED, SWITCHED = SCRIPTS / "steered.py", SCRIPTS / "switched.py"
LONG_S = 3600
BLOCKED = -31010
GZIP = {"content-encoding": "gzip"}


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", STEERED)


@pytest.fixture
def switched(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", SWITCHED)


def event(step: int, **params: object) -> bytes:
    message = wire.progress(step)
    message["params"] |= params
    return wire.sse(message)


def steps(body: bytes) -> list[int]:
    lines = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]
    return [message["params"]["progress"] for message in lines if "params" in message]


async def asked(client: Connection, origin: Origin, body: bytes = wire.CALL, headers=wire.CALL_HEADERS) -> Exchange:
    await client.send("POST", "/mcp", headers, body)
    return await origin.exchange()


async def switch(proxy: Proxy, to: str) -> None:
    async with connect(proxy.port) as client:
        response = await client.request("POST", "/mcp", wire.headers("tools/call", to), wire.tool_call(to))
        assert json.loads(await response.rest())["result"]["on"] == (to == "on")


@pytest.fixture
async def http2(tls_origin: Origin, proxies: Proxies, authority: Authority, request) -> AsyncIterator[Http2Client]:
    """A client whose requests share one connection, all the way to the server."""
    options = {"shadowcat_faults": request.param} if getattr(request, "param", None) else {}
    ca_file = str(authority.ca_file)
    proxy = proxies.shadowcat(f"reverse:{tls_origin.url}", STEERED, ssl_verify_upstream_trusted_ca=ca_file, **options)
    async with connect_h2(proxy.port, proxy.tls_context()) as client:
        yield client
    assert tls_origin.connections == 1
    assert {request.http_version for request in tls_origin.requests} == {"HTTP/2"}


async def begin(client: Http2Client, origin: Origin) -> tuple[int, Exchange]:
    """A call whose answer begins to stream."""
    stream = await client.post("/mcp", wire.CALL_HEADERS, wire.CALL)
    exchange = await origin.exchange()
    await exchange.head()
    return stream, exchange


QUESTION = {"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {}}


@pytest.mark.parametrize("cut", [7, 1_000])
async def test_events_that_are_coded_although_they_were_not_to_be_are_judged(origin: Origin, proxy: Proxy, cut):
    stream = event(1) + wire.sse(QUESTION) + event(2, hold_s=0.1) + wire.sse(wire.result(1))
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin, headers=wire.CALL_HEADERS | {"Accept-Encoding": "gzip, br"})
        assert exchange.request.header("accept-encoding") == "identity"
        await exchange.answer(gzip.compress(stream), {**EVENT_STREAM, **GZIP}, cut=cut)
        response = await client.response()
        assert response.header("content-encoding") is None
        assert await response.rest() == event(1) + event(2, hold_s=0.1) + wire.sse(wire.result(1))
        posted = await origin.exchange()
        assert json.loads(posted.request.body)["error"]["code"] == BLOCKED
        await posted.answer(b"", {}, status=202)


@pytest.mark.parametrize("cut", [None, 7])
async def test_a_body_that_is_coded_although_it_was_not_to_be_is_judged(origin: Origin, proxy: Proxy, cut):
    body = json.dumps(wire.result(1, hold_s=0.1)).encode()
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin)
        await exchange.answer(gzip.compress(body), JSON | GZIP, cut=cut)
        response = await client.response()
        got = await response.rest()
        assert (gzip.decompress(got) if response.header("content-encoding") else got) == body


async def test_a_coded_page_that_explains_a_status_arrives_as_it_was_sent(origin: Origin, proxy: Proxy):
    page = gzip.compress(b"<html>no</html>")
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin)
        await exchange.answer(page, {"content-type": "text/html", **GZIP}, status=404, cut=5)
        response = await client.response()
        assert (response.status, response.header("content-encoding"), await response.rest()) == (404, "gzip", page)


async def test_a_coded_stream_of_somebody_elses_arrives_as_it_was_sent(origin: Origin, proxy: Proxy):
    stream = gzip.compress(b'data: {"choices":[]}\n\n' * 3)
    async with connect(proxy.port) as client:
        await client.send("POST", "/v1/chat", {"Accept-Encoding": "gzip"}, b'{"model":"x","stream":true}')
        exchange = await origin.exchange()
        assert exchange.request.header("accept-encoding") == "gzip"
        await exchange.answer(stream, {**EVENT_STREAM, **GZIP}, cut=9)
        response = await client.response()
        assert (response.header("content-encoding"), await response.rest()) == ("gzip", stream)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_large_body_is_judged_whole_however_it_is_framed(origin: Origin, proxy: Proxy, framing):
    body = json.dumps(wire.result(1, hold_s=0.05, text="x" * 400_000)).encode()
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin)
        await exchange.head(JSON, framing=len(body) if framing == "length" else framing)
        await exchange.send(body)
        await exchange.end()
        assert await (await client.response()).rest() == body


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_answers_given_here_join_an_array_that_comes_in_pieces(origin: Origin, proxy: Proxy, framing):
    calls = [json.loads(wire.tool_call(tool, message_id=tool, era="legacy")) for tool in ("refuse", "echo")]
    headers = wire.headers("tools/call", era="legacy", session="s-1")
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin, json.dumps(calls).encode(), headers)
        await exchange.head(JSON, framing=framing)
        await exchange.send(json.dumps([wire.result("echo")]).encode())
        await exchange.end()
        response = await client.response()
        assert {reply["id"] for reply in json.loads(await response.rest())} == {"refuse", "echo"}


@pytest.mark.parametrize("page", [b"<html>broken</html>", b"[error] broken", b""])
async def test_answers_given_here_join_no_page_that_explains_a_status(origin: Origin, proxy: Proxy, page):
    calls = [json.loads(wire.tool_call(tool, message_id=tool, era="legacy")) for tool in ("refuse", "echo")]
    headers = wire.headers("tools/call", era="legacy", session="s-1")
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin, json.dumps(calls).encode(), headers)
        await exchange.answer(page, {"content-type": "text/html"}, status=500)
        response = await client.response()
        body = await response.rest()
        assert response.status == 500
        if page:
            assert (response.header("content-type"), body) == ("text/html", page)
        else:
            assert [reply["id"] for reply in json.loads(body)] == ["refuse"]


async def test_what_waits_on_its_way_to_the_client_keeps_its_order(origin: Origin, proxies: Proxies):
    faults = "bandwidth:bytes_per_s=20000"
    proxy = proxies.shadowcat(f"reverse:{origin.url}", STEERED, shadowcat_faults=faults)
    events = [event(step, **({"hold_s": 0.05} if step % 4 == 0 else {})) for step in range(20)]
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin)
        await exchange.head()
        for piece in events:
            await exchange.send(piece)
        await exchange.end()
        response = await client.response()
        assert await response.rest() == b"".join(events)


async def test_an_interceptor_that_is_added_in_the_middle_of_an_event_lets_its_rest_pass(
    origin: Origin, switched: Proxy
):
    async with connect(switched.port) as client:
        exchange = await asked(client, origin)
        await exchange.head()
        response = await client.response()
        await exchange.send(event(1)[:30])
        assert await response.receive(30) == event(1)[:30]
        await switch(switched, "on")
        await exchange.send(event(1)[30:] + event(2)[:10])
        await exchange.send(event(2)[10:])
        await exchange.end()
        got = await response.rest()
        await switch(switched, "off")
    assert got.startswith(event(1)[30:])
    assert steps(event(1)[:30] + got) == [1, 2]
    assert got.count(b"notifications/seen") == 1


async def test_an_interceptor_that_is_added_while_a_stream_runs_judges_its_next_event(origin: Origin, switched: Proxy):
    seen = wire.sse({"jsonrpc": "2.0", "method": "notifications/seen", "params": wire.progress(2)["params"]})
    async with connect(switched.port) as client:
        await client.send("GET", "/mcp", {"Accept": "text/event-stream", "Mcp-Session-Id": "s-1"})
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(event(1))
        assert await response.receive(len(event(1))) == event(1)
        await switch(switched, "on")
        await exchange.send(event(2))
        got = await response.receive(len(seen))
        assert b"notifications/seen" in got
        await switch(switched, "off")
        await exchange.send(event(3))
        await exchange.end()
        assert event(3) == (await response.rest())[-len(event(3)) :]


async def test_an_interceptor_that_goes_before_the_first_event_leaves_a_coded_stream_readable(
    origin: Origin, switched: Proxy
):
    await switch(switched, "on")
    async with connect(switched.port) as client:
        exchange = await asked(client, origin)
        await exchange.head({**EVENT_STREAM, **GZIP})
        response = await client.response()
        await switch(switched, "off")
        await exchange.send(gzip.compress(event(1)))
        await exchange.end()
        got = await response.rest()
        assert (gzip.decompress(got) if response.header("content-encoding") else got) == event(1)


async def test_one_stream_of_an_http2_connection_waits_while_another_goes_on(tls_origin: Origin, http2: Http2Client):
    (held, waiting), (free, going) = await begin(http2, tls_origin), await begin(http2, tls_origin)
    await waiting.send(event(1) + event(2, hold_s=0.5))
    assert await http2.receive(held, len(event(1))) == event(1)
    for step in range(20):
        await going.send(event(step))
        assert await http2.receive(free, len(event(step))) == event(step)
    await waiting.end()
    assert await http2.rest(held) == event(2, hold_s=0.5)
    assert free not in http2.over


async def test_an_event_is_held_within_tls_too(tls_origin: Origin, proxies: Proxies, authority: Authority):
    proxy = proxies.shadowcat("regular", STEERED, ssl_verify_upstream_trusted_ca=str(authority.ca_file))
    stream = event(1) + event(2, hold_s=0.3) + wire.sse(wire.result(1))
    async with (
        tls_origin.answering(lambda exchange: exchange.answer(stream, EVENT_STREAM, cut=50)),
        through_connect(proxy) as client,
    ):
        response = await client.post(f"{tls_origin.url}/mcp", headers=wire.CALL_HEADERS, content=wire.CALL)
    assert response.content == stream


async def test_what_is_collected_is_sent_when_its_time_is_over(origin: Origin, proxies: Proxies):
    proxy = proxies.shadowcat(f"reverse:{origin.url}", STEERED, shadowcat_batch_delay_ms="1000")
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin)
        await exchange.head()
        response = await client.response()
        for step in range(3):
            await exchange.send(event(step))
        together = event(0) + event(1) + event(2)
        assert await response.receive(len(together)) == together
        assert len(response.arrivals) == 1
        for step in range(3):
            await exchange.send(event(step))
        await exchange.end()
        assert await response.rest() == together


async def test_a_collection_that_is_full_is_sent_at_once(origin: Origin, proxies: Proxies):
    proxy = proxies.shadowcat(
        f"reverse:{origin.url}", STEERED, shadowcat_batch_delay_ms="60000", shadowcat_batch_events="3"
    )
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin)
        await exchange.head()
        response = await client.response()
        for step in range(4):
            await exchange.send(event(step))
        await response.receive(len(event(0) * 3))
        await exchange.end()
        assert await response.rest() == event(3)


@pytest.mark.parametrize("http2", ["", "stall:after=0", "bandwidth:bytes_per_s=1"], indirect=True)
async def test_who_takes_a_request_back_ends_every_wait_that_is_still_to_come(tls_origin: Origin, http2: Http2Client):
    (taken_back, leaving), _ = await begin(http2, tls_origin), await begin(http2, tls_origin)
    await leaving.send(event(1, hold_s=LONG_S))
    await asyncio.sleep(0.1)  # until it is held; what comes now waits behind it
    await leaving.send(event(2))
    await leaving.send(event(3, hold_s=LONG_S))
    await asyncio.sleep(0.1)
    await http2.take_back(taken_back)
    await leaving.wait_peer_gone()


async def test_a_request_whose_client_leaves_while_it_is_held_never_reaches_the_server(origin: Origin, proxy: Proxy):
    held = json.loads(wire.tool_call("echo"))
    held["params"]["hold_s"] = 1.5
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, json.dumps(held).encode())
        await asyncio.sleep(0.1)  # until it is held, or not yet: neither goes on
        await client.be_gone()
    async with connect(proxy.port) as client:
        later = json.loads(wire.tool_call("echo"))
        later["params"]["hold_s"] = 1.7
        exchange = await asked(client, origin, json.dumps(later).encode())
        await exchange.answer(json.dumps(wire.result(1)).encode())
        await (await client.response()).rest()
    assert len(origin.requests) == 1


async def test_a_request_that_is_held_when_the_proxy_ends_never_reaches_the_server(origin: Origin, tmp_path):
    held = json.loads(wire.tool_call("echo"))
    held["params"]["hold_s"] = LONG_S
    with Proxies(tmp_path) as proxies:
        proxy = proxies.shadowcat(f"reverse:{origin.url}", STEERED)
        async with connect(proxy.port) as client:
            await client.send("POST", "/mcp", wire.CALL_HEADERS, json.dumps(held).encode())
            await asyncio.sleep(0.3)
            await asyncio.to_thread(proxy.process.stop)
    assert origin.requests == []


async def test_an_upstream_that_is_down_is_answered_by_us_with_interceptors_too(proxies: Proxies, origin_port: int):
    proxy = proxies.shadowcat(f"reverse:http://127.0.0.1:{origin_port}", STEERED)
    async with connect(proxy.port) as client:
        response = await client.request("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        assert response.status == 502
        assert json.loads(await response.rest())["id"] == 1


async def test_nothing_of_a_body_that_breaks_off_before_it_was_judged_arrives(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        exchange = await asked(client, origin)
        await exchange.head(JSON)
        response = await client.response()
        await exchange.send(b'{"jsonrpc":')
        await exchange.reset()
        with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
            await response.rest()
        assert response.arrivals == []
