"""Official SDK clients and servers of both lines, and server-everything: a session through the proxy is the session
without it."""

import asyncio
import json
import re
from collections import Counter
from typing import Any

import pytest

from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.origin import JSON, Exchange, Origin
from tests.e2e.processes import free_port
from tests.e2e.proxies import Proxies
from tests.e2e.raw_client import Connection, connect
from tests.e2e.sdk import CLIENTS, SERVERS, Client, Server, Servers

pytestmark = pytest.mark.partner

STREAMABLE = ["sdk1", "sdk2", "sdk1-json", "sdk2-json", "sdk2-stateless", "everything"]
LEGACY_SSE = ["sdk1-sse", "sdk2-sse", "everything-sse"]
PAIRS = [
    *((client, server) for client in ("sdk1", "sdk2-legacy", "sdk2-auto") for server in STREAMABLE),
    *(("sdk2-modern", server) for server in ("sdk2", "sdk2-json", "sdk2-stateless")),
    *((client, server) for client in ("sdk1", "sdk2-legacy") for server in LEGACY_SSE),
]


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    """The client a test names; skips when its SDK is missing."""
    wanted = CLIENTS[request.param]
    if wanted.line == "sdk1":
        request.getfixturevalue("sdk1")
    return wanted


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The server a test names; skips when its package is missing."""
    wanted = SERVERS[request.param]
    if wanted.line != "sdk2":
        request.getfixturevalue(wanted.line)
    return wanted


@pytest.mark.parametrize(("client", "server"), PAIRS, indirect=True)
async def test_a_session_through_a_reverse_proxy_is_the_session_without_it(
    proxies: Proxies, servers: Servers, client: Client, server: Server
):
    url = servers.url(server)
    proxy = proxies.shadowcat(f"reverse:{url}")
    direct, proxied = await asyncio.gather(client.converse(server, url), client.converse(server, proxy.url))
    assert "error" not in direct
    assert proxied == direct
    assert "progress" not in proxied or len(proxied["progress"]) >= 4


@pytest.mark.parametrize(
    ("client", "server"),
    [("sdk1", "sdk2"), ("sdk2-auto", "sdk2"), ("sdk2-auto", "everything"), ("sdk2-legacy", "sdk1-sse")],
    indirect=True,
)
async def test_a_session_through_a_forward_proxy_is_the_session_without_it(
    proxies: Proxies, servers: Servers, client: Client, server: Server
):
    url = servers.url(server)
    proxy = proxies.shadowcat("regular")
    direct = await client.converse(server, url)
    proxied = await client.converse(server, url, HTTP_PROXY=proxy.url)
    assert "error" not in direct
    assert proxied == direct
    assert f"POST {url}{'/mcp' if server.transport == 'http' else '/messages'}" in proxy.process.log


@pytest.mark.parametrize(("client", "server"), [("sdk1", "sdk1"), ("sdk2-auto", "sdk2")], indirect=True)
async def test_a_session_over_tls_through_connect_is_the_session_without_it(
    proxies: Proxies, servers: Servers, authority: Authority, client: Client, server: Server
):
    url = servers.url(server, tls=authority)
    proxy = proxies.shadowcat("regular", ssl_verify_upstream_trusted_ca=str(authority.ca_file))
    direct = await client.converse(server, url, SSL_CERT_FILE=str(authority.ca_file))
    proxied = await client.converse(server, url, HTTPS_PROXY=proxy.url, SSL_CERT_FILE=str(proxy.ca_file))
    assert "error" not in direct
    assert proxied == direct
    assert f"POST {url}/mcp" in proxy.process.log


@pytest.mark.parametrize(("client", "server"), [("sdk2-auto", "sdk2")], indirect=True)
async def test_stock_mitmproxy_cannot_carry_such_a_session(
    proxies: Proxies, servers: Servers, client: Client, server: Server
):
    proxy = proxies.stock(f"reverse:{servers.url(server)}")
    report = await client.converse(server, proxy.url, within_s=8)
    assert report["error"]["type"] == "TimeoutError"


@pytest.mark.parametrize("client", ["sdk1", "sdk2-legacy", "sdk2-auto"], indirect=True)
async def test_a_server_that_is_down_is_a_clear_error_for_the_client(proxies: Proxies, client: Client):
    proxy = proxies.shadowcat(f"reverse:http://127.0.0.1:{free_port()}")
    report = await client.converse(SERVERS["sdk2"], proxy.url)
    assert_clear(client, report, "cannot be reached")


@pytest.mark.parametrize("client", ["sdk1", "sdk2-legacy", "sdk2-auto"], indirect=True)
async def test_a_server_that_dies_in_a_call_is_a_clear_error_for_the_client(
    proxies: Proxies, origin: Origin, client: Client
):
    proxy = proxies.shadowcat(f"reverse:{origin.url}")
    async with origin.answering(die_in_calls):
        report = await client.converse(Server("dying", "sdk2", conversation=("brief",)), proxy.url)
    assert_clear(client, report, "gave no answer")
    calls = [request for request in origin.requests if b'"tools/call"' in request.body]
    assert len(calls) == 1


def assert_clear(client: Client, report: dict[str, Any], words: str) -> None:
    """The client came back with an error that says what happened."""
    error = report["error"]
    assert error["type"] == ("McpError" if client.line == "sdk1" else "MCPError")
    assert words in error["message"]


async def die_in_calls(exchange: Exchange) -> None:
    """A legacy server that answers the handshake and drops dead in the first call."""
    message = json.loads(exchange.request.body or b"{}")
    match message.get("method"):
        case "initialize":
            info = {"name": "dying", "version": "1"}
            answer = {"protocolVersion": wire.LEGACY_VERSION, "capabilities": {"tools": {}}, "serverInfo": info}
            await exchange.answer(json.dumps(wire.result(message["id"], **answer)).encode())
        case "tools/call":
            await exchange.reset()
        case "notifications/initialized":
            await exchange.answer(b"", JSON, status=202)
        case None:
            await exchange.answer(b"", {"allow": "POST"}, status=405)
        case _:
            error = {"code": -32601, "message": "no such method"}
            answer = {"jsonrpc": "2.0", "id": message.get("id"), "error": error}
            await exchange.answer(json.dumps(answer).encode())


def requests_logged(log: str) -> Counter[str]:
    """How often each kind of request stands in uvicorn's access log."""
    return Counter(re.findall(r'"((?:POST|GET|DELETE) \S+) HTTP/1.1" (?!202)', log))


@pytest.mark.parametrize(("client", "server"), [("sdk1", "sdk1"), ("sdk2-auto", "sdk2")], indirect=True)
async def test_a_server_sees_as_many_requests_through_the_proxy_as_without_it(
    tmp_path, proxies: Proxies, client: Client, server: Server
):
    quiet = Server(server.name, server.line, conversation=("official",))
    with Servers(tmp_path) as own:
        url = own.url(quiet)
        log = own.start(quiet)
        await client.converse(quiet, url)
        direct = requests_logged(log.log)
        await client.converse(quiet, proxies.shadowcat(f"reverse:{url}").url)
        both = requests_logged(log.log)
    assert direct["POST /mcp"] > 5
    assert both - direct == direct


# Deterministic requests: an answer's bytes must be the same, not only its meaning.
PLAIN_REQUESTS = [
    ("tools/list", None, {}),
    ("tools/call", "echo", {"name": "echo", "arguments": {"text": "→ ä 🐈"}}),
    ("tools/call", "fail", {"name": "fail", "arguments": {"reason": "r"}}),
    ("resources/read", "text://leaflet", {"uri": "text://leaflet"}),
    ("prompts/get", "greeting", {"name": "greeting", "arguments": {"name": "Ann"}}),
    ("no/such/method", None, {}),
]
KEPT_HEADERS = ("content-type", "content-length", "transfer-encoding", "cache-control", "allow", "x-accel-buffering")


async def answer(client: Connection, method: str, name: str | None, params: dict[str, Any]) -> tuple[object, ...]:
    """Status, the headers that must not change, and the body."""
    response = await client.request("POST", "/mcp", wire.headers(method, name), wire.request(method, params))
    kept = tuple((name, response.header(name)) for name in KEPT_HEADERS)
    return response.status, kept, await response.rest()


@pytest.mark.parametrize("server", ["sdk2", "sdk2-json", "sdk2-stateless"], indirect=True)
async def test_an_answer_of_the_official_server_is_the_same_to_the_byte(
    proxies: Proxies, servers: Servers, server: Server
):
    url = servers.url(server)
    proxy = proxies.shadowcat(f"reverse:{url}")
    async with connect(servers.start(server).port) as direct, connect(proxy.port) as proxied:
        for asked in PLAIN_REQUESTS:
            assert await answer(proxied, *asked) == await answer(direct, *asked)


INITIALIZE = wire.request(
    "initialize",
    {"protocolVersion": wire.LEGACY_VERSION, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
    era="legacy",
)
EVENT_ID = re.compile(rb"^id: .*$", re.MULTILINE)


async def legacy_bodies(port: int) -> list[tuple[int, str | None, bytes]]:
    """Answers of a legacy session, from initialize to DELETE, without the event ids the server draws."""
    bodies = []
    async with connect(port) as client:
        response = await client.request("POST", "/mcp", wire.headers("", era="legacy"), INITIALIZE)
        session = response.header("mcp-session-id")
        assert session
        headers = wire.headers("", era="legacy", session=session)
        steps = [
            wire.notification("notifications/initialized"),
            wire.request("tools/list", era="legacy"),
            wire.tool_call(era="legacy", text="→", message="→"),
            wire.request("no/such/method", era="legacy"),
        ]
        bodies.append((response.status, response.header("content-type"), await response.rest()))
        for body in steps:
            response = await client.request("POST", "/mcp", headers, body)
            bodies.append((response.status, response.header("content-type"), await response.rest()))
        response = await client.request("DELETE", "/mcp", headers)
        bodies.append((response.status, response.header("content-type"), await response.rest()))
    return [(status, kind, EVENT_ID.sub(b"id: *", body)) for status, kind, body in bodies]


@pytest.mark.parametrize("server", ["sdk1", "sdk2", "sdk1-json", "everything"], indirect=True)
async def test_the_answers_of_a_legacy_session_are_the_same_to_the_byte(
    proxies: Proxies, servers: Servers, server: Server
):
    url = servers.url(server)
    direct = await legacy_bodies(servers.start(server).port)
    assert await legacy_bodies(proxies.shadowcat(f"reverse:{url}").port) == direct
    assert [status for status, _, _ in direct][:3] == [200, 202, 200]


@pytest.mark.parametrize("server", ["sdk1", "sdk2"], indirect=True)
async def test_the_servers_check_against_dns_rebinding_works_behind_a_reverse_proxy(
    proxies: Proxies, servers: Servers, server: Server
):
    url = servers.url(server)
    proxy = proxies.shadowcat(f"reverse:{url}")
    for port in (servers.start(server).port, proxy.port):
        for host, expected in (("evil.example", 421), (f"127.0.0.1:{port}", 200)):
            async with connect(port) as client:
                headers = wire.headers("", era="legacy") | {"Host": host}
                response = await client.request("POST", "/mcp", headers, INITIALIZE)
                assert response.status == expected


@pytest.mark.parametrize("server", ["sdk2"], indirect=True)
async def test_a_listen_stream_acknowledges_and_reports_while_it_is_open(
    proxies: Proxies, servers: Servers, server: Server
):
    proxy = proxies.shadowcat(f"reverse:{servers.url(server)}")
    listen = wire.request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, message_id="sub-1")
    async with connect(proxy.port) as listener, connect(proxy.port) as caller:
        stream = await listener.request("POST", "/mcp", wire.headers("subscriptions/listen"), listen)
        first = b""
        while not first.endswith(b"\r\n\r\n"):
            first += await stream.receive(1)
        assert b"notifications/subscriptions/acknowledged" in first
        called = await caller.request("POST", "/mcp", wire.headers("tools/call", "grow"), wire.tool_call("grow"))
        await called.rest()
        second = b""
        while not second.endswith(b"\r\n\r\n"):
            second += await stream.receive(1)
        message = json.loads(second.partition(b"data: ")[2])
        assert message["method"] == "notifications/tools/list_changed"
