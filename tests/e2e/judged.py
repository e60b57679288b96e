"""Traffic before a judge that lets no EVIL pass: what is said to it, and orders to the proxy that it sits in."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, WITHIN_S, Exchange, Origin
from tests.e2e.proxies import SCRIPTS, Proxy
from tests.e2e.raw_client import Connection, Response, connect

JUDGING = (SCRIPTS / "settable.py", SCRIPTS / "ordered.py", SCRIPTS / "judging.py")
BLOCKED, FAILED = -31010, -31011

# Nobody waits for it, so nothing comes in its place.
EVIL = wire.sse({"jsonrpc": "2.0", "method": "notifications/message", "params": {"text": "EVIL"}})
FINE = wire.sse(wire.result("fine"))
ENDPOINT = b"event: endpoint\ndata: /messages?session_id=abc\n\n"
EVIL_CALL = wire.tool_call("echo", text="EVIL")
LEGACY_CALL = wire.tool_call("echo", message_id=9, era="legacy", text="EVIL")
LEGACY_HEADERS = wire.headers("tools/call", era="legacy", session="s-1")


def note(number: int, **params: Any) -> bytes:
    """A numbered event of the server's."""
    return wire.sse({"jsonrpc": "2.0", "method": "notifications/message", "params": {"number": number, **params}})


def question(number: int) -> bytes:
    """A request of the server's that does not pass."""
    params = {"text": "EVIL"}
    return wire.sse({"jsonrpc": "2.0", "id": number, "method": "sampling/createMessage", "params": params})


def messages(body: bytes) -> list[Any]:
    """The messages of an event stream, in order."""
    lines = (line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: "))
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def numbers(body: bytes) -> list[int]:
    """The numbers of the notes in an event stream."""
    return [message["params"]["number"] for message in messages(body) if "params" in message]


async def put(proxy: Proxy, target: str, body: Any = None) -> Response:
    async with connect(proxy.port) as client:
        response = await client.request("PUT", target, (), json.dumps(body).encode())
        await response.rest()
        return response


async def judge(proxy: Proxy, directions: str) -> None:
    """Let the judge decide from now on, in these directions."""
    assert (await put(proxy, "/-/options", {"judging": directions})).status == 204


async def order(proxy: Proxy, what: str) -> Any:
    """What `ordered.py` does, and says to it."""
    async with connect(proxy.port) as client:
        response = await client.request("PUT", f"/-/{what}")
        assert response.status == 200
        return json.loads(await response.rest())


async def logged(proxy: Proxy, text: str, times: int = 1) -> str:
    """Wait until the proxy has logged a text so often; gives its whole log."""
    async with asyncio.timeout(WITHIN_S):
        while proxy.process.log.count(text) < times:  # noqa: ASYNC110 -- a file of another process has no events
            await asyncio.sleep(0.02)
    return proxy.process.log


async def refused(client: Connection, origin: Origin, body: bytes, headers: Mapping[str, str], target: str) -> Any:
    """What a client is told whose request does not reach the server."""
    async with origin.answering(lambda exchange: exchange.answer(b'"the server was asked"')):
        response = await client.request("POST", target, headers, body)
        told = json.loads(await response.rest())
    assert origin.requests == []
    return told


@contextlib.asynccontextmanager
async def calling(
    proxy: Proxy, origin: Origin, head: Mapping[str, str] = EVENT_STREAM
) -> AsyncIterator[tuple[Exchange, Response]]:
    """A call whose answer begins to stream."""
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head(head)
        yield exchange, await client.response()


@contextlib.asynccontextmanager
async def listening(
    proxy: Proxy, origin: Origin, asks: Mapping[str, str] | None = None, head: Mapping[str, str] = EVENT_STREAM
) -> AsyncIterator[tuple[Exchange, Response]]:
    """The stream of a client of HTTP+SSE (2024-11-05), on which nothing was said yet."""
    async with connect(proxy.port) as client:
        await client.send("GET", "/sse", asks or {"Accept": "text/event-stream"})
        exchange = await origin.exchange()
        await exchange.head(head)
        yield exchange, await client.response()


async def announce(exchange: Exchange, response: Response, endpoint: bytes = ENDPOINT) -> None:
    """Let the server say where to post, and the client hear it."""
    await exchange.send(endpoint)
    assert await response.receive(len(endpoint)) == endpoint


async def end(exchange: Exchange, response: Response) -> bytes:
    """What still arrives when the server says a fine message and ends the stream."""
    await exchange.send(FINE)
    await exchange.end()
    body = await response.rest()
    assert body.endswith(FINE)
    return body
