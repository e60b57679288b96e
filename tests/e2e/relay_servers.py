"""MCP servers played by hand: they begin and end sessions by themselves, and leave everything else to the test."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from tests.e2e import wire
from tests.e2e.origin import JSON, Answer, Exchange, Origin, Request, ServeH2

SESSION = "mcp-session-id"
UNREACHABLE, CLOSED = -31001, -31002
AT_ONCE_S = 10.0
"""Longer than anything takes that waits for nobody, and much shorter than the patience of a relay lane."""


def method_of(request: Request) -> str:
    """What a request asks: JSON-RPC's method, `answer` for what answers the server, else HTTP's method."""
    if request.method != "POST":
        return request.method
    try:
        message = json.loads(request.body)
    except ValueError:
        return "?"
    return str(message.get("method", "answer")) if isinstance(message, dict) else "batch"


async def accept(exchange: Exchange) -> None:
    """Take a notification."""
    await exchange.answer(b"", {}, status=202)


async def say_lost(exchange: Exchange) -> None:
    """Know nothing of the session."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}
    await exchange.answer(json.dumps(body).encode(), status=404)


class Server(Origin):
    """One MCP server. What `own` has an answer for it answers itself; all else waits for the test in `exchange()`."""

    def __init__(self, name: str, port: int, *, tls: ssl.SSLContext | None = None, h2: ServeH2 | None = None):
        super().__init__(port, tls=tls, h2=h2)
        self.name = name
        self.begun: list[str] = []
        """Ids of the sessions that it has given, in all its lives."""
        self.known: set[str] = set()
        """Those that it knows."""
        self.own: dict[str, Answer] = {
            "initialize": self.begin,
            "notifications/initialized": accept,
            "DELETE": self.end,
            "ping": lambda exchange: exchange.answer(json.dumps(wire.result(self.id_of(exchange))).encode()),
        }
        self._life: AsyncExitStack | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> Self:
        """Listen from now on."""
        self._life = AsyncExitStack()
        await self._life.enter_async_context(self.listening())
        return self

    async def die(self) -> None:
        """Break everything off and listen no more; sessions are forgotten."""
        self.forget()
        if self._life is not None:
            life, self._life = self._life, None
            await life.aclose()
        while not self._waiting.empty():
            self._waiting.get_nowait()

    def forget(self) -> None:
        """Know no session any more."""
        self.known.clear()

    def asked(self, what: str) -> list[Request]:
        """The requests of one method, in all its lives."""
        return [request for request in self.requests if method_of(request) == what]

    def received(self, exchange: Exchange) -> None:
        what = method_of(exchange.request)
        answer = self.own.get(what)
        session = exchange.request.header(SESSION)
        if session is not None and session not in self.known and what != "initialize":
            answer = self.own.get("lost", say_lost)
        if answer is None:
            super().received(exchange)
            return
        self.requests.append(exchange.request)
        task = asyncio.create_task(answer(exchange))
        self._answering.add(task)

    async def begin(self, exchange: Exchange) -> None:
        """Begin a session, and say so in JSON."""
        await exchange.answer(json.dumps(self.hello(exchange)).encode(), {**JSON, **self.give_id()})

    def give_id(self) -> dict[str, str]:
        """Make up the id of another session."""
        session = f"{self.name}-{len(self.begun) + 1}"
        self.begun.append(session)
        self.known.add(session)
        return {SESSION: session}

    def hello(self, exchange: Exchange) -> dict[str, Any]:
        """What it answers to `initialize`."""
        version = json.loads(exchange.request.body)["params"]["protocolVersion"]
        info = {"name": self.name, "version": "1"}
        return wire.result(
            self.id_of(exchange), protocolVersion=version, capabilities={"tools": {}, "logging": {}}, serverInfo=info
        )

    async def end(self, exchange: Exchange) -> None:
        """End a session."""
        self.known.discard(exchange.request.header(SESSION) or "")
        await exchange.answer(b"", {}, status=200)

    @staticmethod
    def id_of(exchange: Exchange) -> Any:
        return json.loads(exchange.request.body).get("id")

    async def settled(self) -> None:
        """Wait for what it answers by itself; errors of that which are not the peer's going away are the test's."""
        for task in self._answering:
            with contextlib.suppress(ConnectionError):
                await task


def note(number: int) -> dict[str, Any]:
    """A numbered message of a server's."""
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": number}}


def numbered(number: int, *, event_id: str | None = None) -> bytes:
    """The event of one."""
    return wire.sse(note(number), event_id=event_id)


def numbers(messages: Sequence[Any]) -> list[int]:
    """The numbers in messages, in order."""
    return [message["params"]["data"] for message in messages if message.get("method") == "notifications/message"]


async def say(exchange: Exchange, **content: Any) -> None:
    """Answer a request with a result in JSON."""
    await exchange.answer(json.dumps(wire.result(Server.id_of(exchange), **content)).encode())


async def fall_silent(exchange: Exchange) -> None:
    """Take a request and close the connection without a word."""
    await exchange.reset()
