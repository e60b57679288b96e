"""An MCP server that keeps a ledger of what it has run, shared with other servers: exactly-once is counted there.

On the official SDK, the same for both of its lines. `transfer` must not run twice for one call, `look` may. An entry is
one line of JSON, appended in one step, so that servers that are killed leave whole lines.
"""

import argparse
import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.types import ToolAnnotations

try:
    from mcp.server.mcpserver import Context, MCPServer

    LINE = 2
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

    LINE = 1

STEPS = 4
STEP_S = 0.04
GATED_STEP = 2
"""Behind it a call waits for the gate, when there is one."""


class Ledger:
    """The file. What was written before a kill stays written: nothing is kept back in this process."""

    def __init__(self, path: Path, server: str):
        self._server = server
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, tool: str, call: str, session: str) -> None:
        entry = {"server": self._server, "pid": os.getpid(), "what": what, "tool": tool, "call": call}
        os.write(self._file, json.dumps(entry | {"session": session}).encode() + b"\n")


class Events(EventStore):
    """What clients can come back for, as long as this process lives."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        last = int(last_event_id)
        if not 0 < last <= len(self._events):
            return None
        stream = self._events[last - 1][0]
        for number, (belongs_to, message) in enumerate(self._events[last:], last + 1):
            if belongs_to == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


class Works:
    """The two tools."""

    def __init__(self, ledger: Ledger, step_s: float, gate: Path | None):
        self._ledger = ledger
        self._step_s = step_s
        self._gate = gate
        self._news: Counter[str] = Counter()

    async def transfer(self, call: str, ctx: Context) -> str:
        """Do what must not be done twice."""
        return await self._run("transfer", call, ctx)

    async def look(self, call: str, ctx: Context) -> str:
        """Do what may be done twice."""
        return await self._run("look", call, ctx)

    async def _run(self, tool: str, call: str, ctx: Context) -> str:
        session = ctx.request_context.request.headers.get("mcp-session-id", "")
        self._ledger.write("begin", tool, call, session)
        for step in range(1, STEPS + 1):
            await asyncio.sleep(self._step_s)
            await ctx.report_progress(step, STEPS, call)
            if step == GATED_STEP:
                await self._let_go()
        self._ledger.write("end", tool, call, session)
        if session:
            await self._tell(session, ctx)
        return call

    async def _let_go(self) -> None:
        """Wait in the middle of a call until the test wants it to go on."""
        while self._gate is not None and not self._gate.exists():  # noqa: ASYNC110 -- a file has no event
            await asyncio.sleep(STEP_S)

    async def _tell(self, session: str, ctx: Context) -> None:
        """Number the session's calls on the stream that belongs to none of them (GET)."""
        self._news[session] += 1
        await ctx.session.send_log_message("info", {"session": session, "number": self._news[session]})


def application(ledger: Ledger, *, json_response: bool, resumable: bool, step_s: float, gate: Path | None) -> Any:
    """The ASGI application, with sessions."""
    streaming = {"json_response": json_response, "event_store": Events() if resumable else None}
    server = MCPServer("ledger", log_level="WARNING", **({"host": "127.0.0.1", **streaming} if LINE == 1 else {}))
    works = Works(ledger, step_s, gate)
    server.tool()(works.transfer)
    server.tool(annotations=ToolAnnotations.model_validate({"readOnlyHint": True}))(works.look)
    return server.streamable_http_app(**({} if LINE == 1 else streaming))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True, help="of this server, in the ledger")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="answer with JSON: no progress, and nothing before the end")
    parser.add_argument("--resumable", action="store_true", help="give events ids, and repeat them when asked")
    parser.add_argument("--step-s", type=float, default=STEP_S, help="how long each of a call's four steps takes")
    parser.add_argument("--gate", type=Path, help="calls stop in their middle until there is this file")
    asked = parser.parse_args()
    ledger = Ledger(asked.ledger, asked.name)
    streaming = {"json_response": asked.json, "resumable": asked.resumable}
    app = application(ledger, **streaming, step_s=asked.step_s, gate=asked.gate)
    uvicorn.run(app, host="127.0.0.1", port=asked.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
