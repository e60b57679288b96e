"""The official Python SDK's server, with its own checks of tokens and sessions, vouches for a refreshed token."""

import base64
import json
from contextlib import asynccontextmanager

import httpx
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer

from shadowcat_core.jsonrpc import dump
from shadowcat_core.mcp import HeaderFields
from shadowcat_core.sessions import CredentialBinder, Handshake, MemoryStore, SessionMapping, Upstream
from shadowcat_core.sessions.lifecycle import Answer, Refusal, answered_with, own_headers
from shadowcat_core.sessions.manager import Revived, SessionManager
from tests.core.token_parts import forged, is_genuine, token_of

URL = "http://127.0.0.1:8000/mcp"
VERSION = "2025-11-25"
INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
    }
).encode()


class Verifier:
    async def verify_token(self, token):
        if not is_genuine(f"Bearer {token}"):
            return None
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return AccessToken(
            token=token, client_id=claims["client_id"], scopes=[], subject=claims["sub"], claims=claims, resource=URL
        )


@asynccontextmanager
async def server():
    """One server that is asked in this process, through its whole HTTP application."""
    auth = AuthSettings(issuer_url="https://as.example", resource_server_url=URL, validate_token_resource=True)
    app = MCPServer("guarded", token_verifier=Verifier(), auth=auth).streamable_http_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client,
    ):
        yield client


class Net:
    """Servers by name; those that are not there cannot be reached."""

    def __init__(self, **clients):
        self.clients = clients
        self.statuses = []

    async def __call__(self, upstream, method, headers, body):
        if upstream not in self.clients:
            raise ConnectionRefusedError(upstream)
        response = await self.clients[upstream].request(method, URL, headers=list(headers), content=body)
        self.statuses.append(response.status_code)
        return Answer(response.status_code, HeaderFields(response.headers.raw), response.content)


async def begin(net, manager, authorization):
    carried = [("Authorization", authorization)]
    first = await net("a", "POST", own_headers(None, None, carried), INITIALIZE)
    upstream = Upstream("a", first.headers.get("mcp-session-id"))
    initialized = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    await net("a", "POST", own_headers(VERSION, upstream.session_id, carried), initialized)
    assert net.statuses == [200, 202]
    net.statuses.clear()
    handshake = Handshake(INITIALIZE, dump(answered_with(first, 0)))
    return await manager.begin(upstream, handshake, VERSION, authorization)


@asynccontextmanager
async def two_servers():
    async with server() as a, server() as b:
        net = Net(a=a, b=b)
        manager = SessionManager(MemoryStore(), CredentialBinder(b"k" * 32), net)
        yield net, manager
        await manager.aclose()


async def test_the_session_goes_on_with_its_holders_new_token_and_with_nobody_elses():
    async with two_servers() as (net, manager):
        began = await begin(net, manager, token_of(n=1))
        for thief in (forged(n=2), token_of("bob"), token_of(client_id="other"), None):
            assert await manager.use(began.session_id, thief) is Refusal.UNKNOWN
        assert net.statuses == [401, 401]
        net.statuses.clear()
        renewed = await manager.use(began.session_id, token_of(n=2))
        assert isinstance(renewed, SessionMapping)
        assert net.statuses == [401, 200]


async def test_a_server_that_has_lost_the_session_vouches_and_it_is_begun_anew():
    async with two_servers() as (net, manager):
        began = await begin(net, manager, token_of(n=1))
        net.clients["a"] = net.clients["b"]
        new = token_of(n=2)
        mapping = await manager.use(began.session_id, new)
        assert net.statuses == [401, 404]
        assert isinstance(await manager.revive(mapping, "a", [("Authorization", new)]), Revived)


async def test_another_server_vouches_for_one_that_is_away():
    async with two_servers() as (net, manager):
        began = await begin(net, manager, token_of(n=1))
        del net.clients["a"]
        new = token_of(n=2)
        assert await manager.use(began.session_id, new) is Refusal.UNVOUCHED
        assert await manager.use(began.session_id, forged(n=2), voucher="b") is Refusal.UNKNOWN
        mapping = await manager.use(began.session_id, new, voucher="b")
        assert mapping.upstream == began.upstream
        assert isinstance(await manager.revive(mapping, "b", [("Authorization", new)]), Revived)
