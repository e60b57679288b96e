"""Faults through a real mitmdump: what a client gets of a stream that breaks, and what official clients make of it."""

import asyncio
import json
from pathlib import Path

import h11
import pytest

from shadowcat_core.sse import SseParser
from shadowcat_core.tape.exchange import RecordedExchange
from shadowcat_core.tape.reader import Tape
from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, JSON, Origin
from tests.e2e.processes import environment
from tests.e2e.proxies import SCRIPTS, Proxies, Proxy
from tests.e2e.raw_client import Connection, Response, connect
from tests.e2e.sdk import PYTHONS, SERVERS, Line, Servers, output_of

EVENTS = [wire.sse(wire.progress(step), event_id=str(step)) for step in range(1, 5)]
EVENTS += [wire.sse(wire.result(1, text="naïve → 東京 🐈"), event_id="5")]
STREAM = b"".join(EVENTS)
GET_HEADERS = {"Accept": "text/event-stream", "Mcp-Session-Id": "s-1", "MCP-Protocol-Version": wire.LEGACY_VERSION}
PERSISTENT = Path(__file__).parent / "clients" / "persistent.py"
SETTABLE = SCRIPTS / "settable.py"


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", SETTABLE)


async def put_in_force(proxy: Proxy, *toxics: str) -> None:
    """Have these toxics in force, and no others."""
    async with connect(proxy.port) as client:
        body = json.dumps({"shadowcat_faults": toxics}).encode()
        assert (await client.request("PUT", "/-/options", {}, body)).status == 204


async def call(client: Connection, tool: str = "echo") -> None:
    await client.send("POST", "/mcp", wire.headers("tools/call", tool), wire.tool_call(tool))


async def played(client: Connection, origin: Origin) -> Response:
    """The head of the answer to a call whose events the server sends one after the other."""
    await call(client)
    exchange = await origin.exchange()
    await exchange.answer(STREAM, EVENT_STREAM, cut=len(EVENTS[0]))
    return await client.response()


def recorded_on(folder: Path) -> list[RecordedExchange]:
    """The exchanges of the one tape in a folder."""
    [path] = folder.glob("*.tape.jsonl*")
    return list(Tape.open(path).exchanges())


def parsed(data: bytes) -> list[tuple[str | None, bytes]]:
    return [(frame.id, frame.data) for frame in SseParser().feed(data)]


async def test_a_stream_is_cut_behind_its_second_event(origin: Origin, proxy: Proxy):
    await put_in_force(proxy, "cut:after=2")
    async with connect(proxy.port) as client:
        response = await played(client, origin)
        assert await response.receive(len(EVENTS[0] * 2)) == EVENTS[0] + EVENTS[1]
        with pytest.raises(h11.RemoteProtocolError):
            await response.rest()


async def test_a_stream_stalls_and_the_server_learns_when_the_client_has_had_enough(origin: Origin, proxy: Proxy):
    await put_in_force(proxy, "stall:after=2")
    async with connect(proxy.port) as client:
        await call(client)
        exchange = await origin.exchange()
        await exchange.head()
        await exchange.send(STREAM)
        response = await client.response()
        assert await response.receive(len(EVENTS[0] * 2)) == EVENTS[0] + EVENTS[1]
        with pytest.raises(TimeoutError):
            await response.receive(1, within_s=0.3)
        client.leave()
        await exchange.wait_peer_gone()


@pytest.mark.parametrize(
    ("toxic", "order"),
    [
        ("duplicate:from=2,times=1", "122345"),
        ("duplicate:method=tools/call", "123455"),
        ("reorder:times=1,by=2", "23145"),
        ("reorder:from=4,times=1", "12354"),
        ("drop:method=notifications/progress,from=2,times=2", "145"),
    ],
)
async def test_events_come_twice_out_of_order_or_not_at_all(origin: Origin, proxy: Proxy, toxic: str, order: str):
    await put_in_force(proxy, toxic)
    async with connect(proxy.port) as client:
        body = await (await played(client, origin)).rest()
    assert body == b"".join(EVENTS[int(number) - 1] for number in order)


@pytest.mark.parametrize("toxic", ["line_ends:to=cr", "line_ends:to=mixed", "split_utf8", "bandwidth:bytes_per_s=5000"])
async def test_what_the_standard_allows_means_the_same(origin: Origin, proxy: Proxy, toxic: str):
    await put_in_force(proxy, toxic)
    async with connect(proxy.port) as client:
        response = await played(client, origin)
        body = await response.rest()
    assert parsed(body) == parsed(STREAM)
    pieces = [arrival.data for arrival in response.arrivals]
    if toxic == "split_utf8":
        with pytest.raises(UnicodeDecodeError):
            pieces[-1].decode()
    if "bandwidth" in toxic:
        assert max(map(len, pieces)) <= 250
    assert (b"\n" in body) is (toxic != "line_ends:to=cr")


async def test_a_stream_with_a_length_may_grow(origin: Origin, proxy: Proxy):
    await put_in_force(proxy, "oversize:bytes=100000")
    async with connect(proxy.port) as client:
        await call(client)
        await (await origin.exchange()).answer(STREAM, EVENT_STREAM)
        body = await (await client.response()).rest()
    assert [len(frame.raw) for frame in SseParser().feed(body)] == [100_000] * 5
    assert [json.loads(data) for _, data in parsed(body)] == [json.loads(data) for _, data in parsed(STREAM)]


async def test_a_slow_tool_waits_and_another_does_not(origin: Origin, proxy: Proxy):
    await put_in_force(proxy, "latency:ms=3000,target=slow")
    async with connect(proxy.port) as slow, connect(proxy.port) as quick:
        await call(slow, "slow")
        await (await origin.exchange()).answer(EVENTS[4], EVENT_STREAM, cut=4096)
        slow_body = asyncio.ensure_future((await slow.response()).rest())
        await call(quick, "quick")
        await (await origin.exchange()).answer(EVENTS[4], EVENT_STREAM, cut=4096)
        assert await (await quick.response()).rest() == EVENTS[4]
        assert not slow_body.done()
        assert await slow_body == EVENTS[4]


@pytest.mark.parametrize(("framing", "type_"), [("stream", EVENT_STREAM), ("body", JSON)])
@pytest.mark.parametrize("toxic", ["corrupt", "wrong_id"])
async def test_an_answer_is_broken_however_it_comes(
    origin: Origin, proxy: Proxy, toxic: str, framing: str, type_: dict[str, str]
):
    answer = json.dumps(wire.result(1)).encode()
    await put_in_force(proxy, toxic)
    async with connect(proxy.port) as client:
        await call(client)
        await (await origin.exchange()).answer(wire.sse(wire.result(1)) if framing == "stream" else answer, type_)
        body = await (await client.response()).rest()
    data = parsed(body)[0][1] if framing == "stream" else body
    if toxic == "corrupt":
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|char"):
            json.loads(data)
    else:
        assert json.loads(data) == {**wire.result(1), "id": 1_000_001}


async def test_a_body_in_one_piece_is_cut_too(origin: Origin, proxy: Proxy):
    await put_in_force(proxy, "cut:after_bytes=10")
    async with connect(proxy.port) as client:
        await call(client)
        await (await origin.exchange()).answer(json.dumps(wire.result(1)).encode())
        response = await client.response()
        assert await response.receive(10) == json.dumps(wire.result(1)).encode()[:10]
        with pytest.raises(h11.RemoteProtocolError):
            await response.rest()


@pytest.mark.parametrize(("toxic", "sent"), [("mcp_name", "not-echo"), ("mcp_name:how=missing", None)])
async def test_the_server_gets_another_name_in_the_header(origin: Origin, proxy: Proxy, toxic: str, sent: str | None):
    await put_in_force(proxy, toxic)
    async with connect(proxy.port) as client:
        await call(client)
        exchange = await origin.exchange()
        assert (exchange.request.header("mcp-name"), exchange.request.body) == (sent, wire.tool_call("echo"))
        await exchange.answer(b"{}", status=400)
        assert (await client.response()).status == 400


@pytest.mark.parametrize(
    ("toxic", "status", "header", "value"),
    [
        ("rate_limit:retry_after_s=7", 429, "retry-after", "7"),
        (
            "unauthorized", 401, "www-authenticate",
            'Bearer error="invalid_token", error_description="Authentication required"',
        ),
        ("session_404", 404, "content-type", "application/json"),
    ],
)  # fmt: skip
async def test_a_server_that_says_no_is_not_even_asked(
    origin: Origin, proxy: Proxy, toxic: str, status: int, header: str, value: str
):
    asked = len(origin.requests)
    await put_in_force(proxy, toxic)
    async with connect(proxy.port) as client:
        headers = wire.headers("tools/call", era="legacy", session="s-1")
        response = await client.request("POST", "/mcp", headers, wire.tool_call(era="legacy"))
        assert (response.status, response.header(header)) == (status, value)
        assert json.loads(await response.rest())
    assert len(origin.requests) == asked


async def test_the_servers_own_stream_is_refused_or_breaks_off(origin: Origin, proxy: Proxy):
    await put_in_force(proxy, "refuse_get")
    async with connect(proxy.port) as client:
        assert (await client.request("GET", "/mcp", GET_HEADERS)).status == 405
    await put_in_force(proxy, "drop_get")
    async with connect(proxy.port) as client:
        await client.send("GET", "/mcp", GET_HEADERS)
        await (await origin.exchange()).head()
        with pytest.raises(h11.RemoteProtocolError):
            await client.response()
    await put_in_force(proxy, "drop_get:after=1")
    async with connect(proxy.port) as client:
        await client.send("GET", "/mcp", GET_HEADERS)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(EVENTS[0])
        assert await response.receive(len(EVENTS[0])) == EVENTS[0]
        with pytest.raises(h11.RemoteProtocolError):
            await response.rest()


async def test_what_was_broken_is_on_the_tape(origin: Origin, proxies: Proxies, tmp_path: Path):
    toxic = {"shadowcat_faults": "cut:after=2", "shadowcat_tape": str(tmp_path)}
    proxy = proxies.shadowcat(f"reverse:{origin.url}", **toxic)
    async with connect(proxy.port) as client:
        with pytest.raises(h11.RemoteProtocolError):
            await (await played(client, origin)).rest()
    await asyncio.to_thread(proxy.process.stop)
    [recorded] = await asyncio.to_thread(recorded_on, tmp_path)
    assert [note.text for note in recorded.notes] == ["fault cut: the body is cut off behind 2 events"]


async def test_toxics_come_and_go_while_a_stream_runs(origin: Origin, proxy: Proxy):
    await put_in_force(proxy)
    async with connect(proxy.port) as client:
        await call(client)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        for toxic, arrives in (((), 1), (("duplicate",), 2), ((), 1), (("cut:after=1",), 1)):
            await put_in_force(proxy, *toxic)
            await exchange.send(EVENTS[0])
            assert await response.receive(len(EVENTS[0]) * arrives) == EVENTS[0] * arrives
        with pytest.raises(h11.RemoteProtocolError):
            await response.rest()


# Official clients

OUTCOMES = {
    "rate_limit:method=tools/call,times=1": {
        "sdk1": "connection HTTPStatusError: Client error '429",
        "sdk2": "MCPError: Too Many Requests",
    },
    "unauthorized:method=tools/call,times=1": {
        "sdk1": "connection HTTPStatusError: Client error '401",
        "sdk2": "MCPError: Server returned an error response",
    },
    "session_404:method=tools/call,times=1": {
        "sdk1": "McpError: Session terminated",
        "sdk2": "MCPError: Session not found",
    },
    "cut:method=tools/call,after=0,times=1": {
        "sdk2": "MCPError: SSE stream ended without a response",
    },
    "corrupt:method=tools/call,times=1": {
        "sdk2": "MCPError: Failed to parse SSE message",
    },
    "latency:method=tools/call,ms=300": {"sdk1": "call 1", "sdk2": "call 1"},
    "bandwidth:bytes_per_s=4000": {"sdk1": "call 1", "sdk2": "call 1"},
    "line_ends:to=mixed": {"sdk1": "call 1", "sdk2": "call 1"},
    "duplicate": {"sdk1": "call 1", "sdk2": "call 1"},
    "drop_get": {"sdk1": "call 1", "sdk2": "call 1"},
    "refuse_get": {"sdk1": "call 1", "sdk2": "call 1"},
}
CASES = [(toxic, line, said) for toxic, outcomes in OUTCOMES.items() for line, said in outcomes.items()]


@pytest.fixture
def official(proxies: Proxies, servers: Servers) -> Proxy:
    """A proxy in front of the official SDK's server."""
    return proxies.shadowcat(f"reverse:{servers.url(SERVERS['sdk2'])}", SETTABLE)


async def attempts(proxy: Proxy, line: Line, mode: str) -> list[list[str]]:
    """How two calls went in each of two connections of an official client."""
    argv = [PYTHONS[line], PERSISTENT, f"{proxy.url}/mcp", "--mode", mode, "--connections", "2"]
    return [list(one) for one in json.loads(await output_of(*argv, env=environment()))]


@pytest.mark.partner
@pytest.mark.parametrize(("toxic", "line", "said"), CASES)
async def test_an_official_client_of_the_legacy_era_says_what_happened_and_goes_on(
    request: pytest.FixtureRequest, official: Proxy, toxic: str, line: Line, said: str
):
    if line == "sdk1":
        request.getfixturevalue("sdk1")
    await put_in_force(official, toxic)
    first, second = await attempts(official, line, "legacy")
    assert first[0].startswith(said)
    assert first[1:] == ([first[0]] if "session_404" in toxic else [] if "connection" in said else ["call 2"])
    assert second == ["call 3", "call 4"]


@pytest.mark.partner
@pytest.mark.parametrize(
    ("toxic", "said"),
    [
        ("mcp_name:from=1,times=1", "call 1"),  # the client lists the tools anew, and calls again
        ("mcp_name:how=missing,method=tools/call", "MCPError: "),
        ("rate_limit:method=tools/call,times=1", "MCPError: Too Many Requests"),
        ("corrupt:method=tools/call,times=1", "MCPError: Failed to parse JSON response"),
        ("drop:method=tools/call,times=1", "MCPError: server answered a request with 202 Accepted"),
        ("session_404", "call 1"),  # there are no sessions
    ],
)
async def test_an_official_client_of_the_modern_era_says_what_happened(official: Proxy, toxic: str, said: str):
    await put_in_force(official, toxic)
    [first, *_], second = await attempts(official, "sdk2", wire.MODERN_VERSION)
    assert first.startswith(said)
    assert second[0].startswith("MCPError: " if "missing" in toxic else "call 3")
