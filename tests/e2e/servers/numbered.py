"""A server whose tool `numbers` sends progress 1, 2, 3 … on the stream of its POST, each once the test has let it go.

Three kinds: `ids` gives event ids and can be resumed by `Last-Event-ID`, `plain` gives none and cannot, `official` is
the official SDK's server with an event store. `POST /-/release` says how far a call may count, `GET /-/ledger` tells
what happened: sessions begun and ended, ids it was resumed from, tokens that came along; `POST /-/forget` begins both
anew. What is sent is so in the test's hand, and no clock is in it.
"""

import argparse
import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

RELEASED_WITHIN_S = 60.0
RETRY_MS = 50
SSE_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache"}


class Gates:
    """How far each call may count, by the call's name."""

    def __init__(self) -> None:
        self._upto: dict[str, int] = {}
        self._moved = asyncio.Event()

    async def passed(self, call: str, number: int) -> None:
        """Until the call may send this number."""
        upto = self._upto
        async with asyncio.timeout(RELEASED_WITHIN_S):
            while upto.get(call, 0) < number:
                await self._moved.wait()

    async def release(self, request: Request) -> Response:
        """Let a call count up to `to`; its answer goes behind the last number."""
        asked = await request.json()
        self._upto[asked["call"]] = asked["to"]
        self._moved.set()
        self._moved = asyncio.Event()
        return Response(status_code=204)

    def forget(self) -> None:
        """Hold all calls; those that are held now are never let go."""
        self._upto = {}


@dataclass
class Ledger:
    """What happened at this server since it started, or last forgot."""

    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    resumed_from: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    finished: list[str] = field(default_factory=list)

    async def tell(self, request: Request) -> Response:
        return JSONResponse(vars(self) | {"tokens": sorted(self.tokens)})

    def forget(self) -> None:
        for notes in (self.begun, self.ended, self.resumed_from, self.tokens, self.finished):
            notes.clear()


@dataclass
class CallStream:
    """The events of one call, whoever reads them: a disconnected client cancels nothing."""

    number: int
    gives_ids: bool
    events: list[bytes] = field(default_factory=list)
    is_complete: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, message: object | None, *, last: bool = False) -> None:
        """Put an event behind the others; None is one without data, which only tells its id."""
        lines = [f"id: {self.number}_{len(self.events)}"] if self.gives_ids else []
        lines += [f"retry: {RETRY_MS}", "data: "] if message is None else [f"data: {json.dumps(message)}"]
        self.events.append("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.is_complete = last
        self.grown.set()
        self.grown = asyncio.Event()

    async def follow(self, start: int) -> AsyncIterator[bytes]:
        """Everything from an index on, until the call is over."""
        while True:
            waiting, some = self.grown, self.events[start:]
            if some:
                start += len(some)
                yield b"".join(some)
            elif self.is_complete:
                return
            else:
                await waiting.wait()


@dataclass
class Session:
    """One session: the streams of its calls by their numbers."""

    streams: dict[int, CallStream] = field(default_factory=dict)


class NumberedServer:
    """The server by hand, so that every byte and every status is known."""

    def __init__(self, gates: Gates, ledger: Ledger, *, gives_ids: bool) -> None:
        self._gates = gates
        self._ledger = ledger
        self._gives_ids = gives_ids
        self._sessions: dict[str, Session] = {}
        self._numbers: Iterator[int] = count(1)
        self._calls: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request) -> Response:
        """Everything that comes to the endpoint."""
        if token := request.headers.get("authorization"):
            self._ledger.tokens.add(token)
        body = await request.json() if request.method == "POST" else {}
        if body.get("method") == "initialize":
            return self._begin(body)
        session_id = request.headers.get("mcp-session-id")
        if session_id is None:
            return JSONResponse(_error(body.get("id"), "a session id is missing"), 400)
        session = self._sessions.get(session_id)
        if session is None:
            return JSONResponse(_error(body.get("id"), "no such session"), 404)
        match request.method:
            case "DELETE":
                del self._sessions[session_id]
                self._ledger.ended.append(session_id)
                return Response(status_code=200)
            case "GET":
                return self._listen(session, request.headers.get("last-event-id"))
            case _:
                return self._take(session, body)

    def _begin(self, body: dict[str, Any]) -> Response:
        session_id = secrets.token_hex(16)
        self._sessions[session_id] = Session()
        self._ledger.begun.append(session_id)
        result = {
            "protocolVersion": body["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "numbered", "version": "1"},
        }
        return JSONResponse(_result(body["id"], result), headers={"mcp-session-id": session_id})

    def _listen(self, session: Session, last_event_id: str | None) -> Response:
        if not self._gives_ids:
            return JSONResponse(_error(None, "this server has no stream of its own"), 405)
        if last_event_id is None:
            return StreamingResponse(CallStream(next(self._numbers), gives_ids=True).follow(0), headers=SSE_HEADERS)
        self._ledger.resumed_from.append(last_event_id)
        number, _, index = last_event_id.partition("_")
        stream = session.streams.get(int(number))
        if stream is None:
            return JSONResponse(_error(None, f"nothing is known of event {last_event_id}"), 400)
        return StreamingResponse(stream.follow(int(index) + 1), headers=SSE_HEADERS)

    def _take(self, session: Session, body: dict[str, Any]) -> Response:
        match body:
            case {"id": message_id, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": text}}}:
                return JSONResponse(_result(message_id, _text(text)))
            case {"id": _, "method": "tools/call", "params": {"name": "numbers"}}:
                stream = CallStream(next(self._numbers), self._gives_ids)
                session.streams[stream.number] = stream
                task = asyncio.create_task(self._count(stream, body))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                return StreamingResponse(stream.follow(0), headers=SSE_HEADERS)
            case {"id": message_id, "method": "ping"}:
                return JSONResponse(_result(message_id, {}))
            case {"id": message_id, "method": str(method)}:
                return JSONResponse(_error(message_id, f"{method} is not known here", code=-32601))
            case _:
                return Response(status_code=202)

    async def _count(self, stream: CallStream, body: dict[str, Any]) -> None:
        arguments, token = body["params"]["arguments"], body["params"]["_meta"]["progressToken"]
        call, total = arguments["call"], arguments["count"]
        if self._gives_ids:
            stream.add(None)
        for number in range(1, total + 1):
            await self._gates.passed(call, number)
            params = {"progressToken": token, "progress": number, "total": total}
            stream.add({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        await self._gates.passed(call, total)
        stream.add(_result(body["id"], _text(f"{total} numbers")), last=True)
        self._ledger.finished.append(call)


def _text(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def _result(message_id: object, result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "result": result}


def _error(message_id: object, message: str, *, code: int = -32600) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "error": {"code": code, "message": message}}


class Events(EventStore):
    """All events in one list. The SDK names a stream by its request's id alone: good for one session at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._events: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        self._ledger.resumed_from.append(last_event_id)
        stream_id, _ = self._events[int(last_event_id) - 1]
        index = int(last_event_id)
        # Read as it grows: what comes while earlier events are being sent belongs to them.
        while index < len(self._events):
            other, message = self._events[index]
            index += 1
            if other == stream_id and message is not None:
                await send_callback(EventMessage(message, str(index)))
        return stream_id


def official(gates: Gates, ledger: Ledger) -> Starlette:
    """The same tools on the official SDK's server."""
    server = MCPServer("numbered")

    @server.tool()
    async def echo(text: str) -> str:
        """Say it again."""
        return text

    @server.tool()
    async def numbers(call: str, count: int, ctx: Context) -> str:
        """Count, as far as the test lets it."""
        for number in range(1, count + 1):
            await gates.passed(call, number)
            await ctx.report_progress(number, count)
        ledger.finished.append(call)
        return f"{count} numbers"

    return server.streamable_http_app(event_store=Events(ledger), retry_interval=RETRY_MS)


def application(kind: str) -> Starlette:
    """The server of a kind, with the test's own three routes."""
    gates, ledger = Gates(), Ledger()

    async def forget(_: Request) -> Response:
        gates.forget()
        ledger.forget()
        return Response(status_code=204)

    if kind == "official":
        app = official(gates, ledger)
    else:
        endpoint = NumberedServer(gates, ledger, gives_ids=kind == "ids").answer
        app = Starlette(routes=[Route("/mcp", endpoint, methods=["GET", "POST", "DELETE"])])
    app.router.routes.append(Route("/-/release", gates.release, methods=["POST"]))
    app.router.routes.append(Route("/-/ledger", ledger.tell))
    app.router.routes.append(Route("/-/forget", forget, methods=["POST"]))
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=["ids", "plain", "official"], default="ids")
    asked = parser.parse_args()
    uvicorn.run(
        application(asked.kind), host="127.0.0.1", port=asked.port, log_level="warning", timeout_graceful_shutdown=1
    )


if __name__ == "__main__":
    main()
