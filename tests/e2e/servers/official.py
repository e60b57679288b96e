"""An MCP server on the official SDK, the same for both of its lines: run by whichever Python has `mcp` installed.

`steps` waits after each progress notification until the client has called `seen` for it: when notifications do not
arrive while the call runs, the call cannot finish. What is live is so proved by order, without a clock.
"""

import argparse
import asyncio
import contextlib
from typing import Annotated, Any

import uvicorn
from pydantic import BaseModel

try:
    from mcp.server.elicitation import ElicitationResult
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.resolve import Elicit, Resolve

    LINE = 2
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer

    LINE = 1

SEEN_WITHIN_S = 45.0

_seen: dict[tuple[str, int], asyncio.Event] = {}


class Colour(BaseModel):
    """What `favourite` asks the user for."""

    colour: str


def _gate(call: str, step: int) -> asyncio.Event:
    return _seen.setdefault((call, step), asyncio.Event())


async def echo(text: str) -> str:
    """Say it again."""
    return text


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def fail(reason: str) -> str:
    """Fail, for the reason given."""
    raise ValueError(reason)


async def steps(call: str, count: int, ctx: Context) -> str:
    """Report progress `count` times, each one only after `seen` was called for the one before."""
    for step in range(1, count + 1):
        await ctx.report_progress(step, count, f"step {step}")
        async with asyncio.timeout(SEEN_WITHIN_S):
            await _gate(call, step).wait()
    return f"{count} steps"


async def seen(call: str, step: int) -> str:
    """Tell `steps` that a progress notification has arrived."""
    _gate(call, step).set()
    return "ok"


async def chatter(count: int, ctx: Context) -> str:
    """Write `count` log messages."""
    for number in range(count):
        await ctx.info(f"message {number}")
    return "said"


if LINE == 1:

    async def favourite(ctx: Context) -> str:
        """Ask the user for a colour: a request from server to client, inside the call."""
        answer = await ctx.elicit("Which colour?", Colour)
        return f"{answer.action}: {answer.data.colour}"

else:

    def ask_colour() -> Elicit[Colour]:
        return Elicit("Which colour?", Colour)

    async def favourite(answer: Annotated[ElicitationResult[Colour], Resolve(ask_colour)]) -> str:
        """Ask the user for a colour: as in 1.x, or in the modern era by a result that wants input and a retry."""
        return f"{answer.action}: {answer.data.colour}"


async def grow(ctx: Context) -> str:
    """Tell whoever listens that the list of tools has changed."""
    with contextlib.suppress(Exception):  # one of the two ways exists in each era
        await ctx.session.send_tool_list_changed()
    if LINE == 2:
        await ctx.notify_tools_changed()
    return "grown"


def greeting(name: str) -> str:
    """Greet somebody."""
    return f"Say hello to {name}."


def leaflet() -> str:
    return "What this server does: it is tested with."


def page(number: str) -> str:
    return f"This is page {number}. → ä 🐈"


def build(settings: dict[str, Any]) -> MCPServer:
    """The server with its tools, resources and prompts. `settings` go to the constructor (1.x keeps them there)."""
    server = MCPServer("official", instructions="A server to test with.", **settings)
    for tool in (echo, add, fail, steps, seen, chatter, favourite, grow):
        server.tool()(tool)
    server.prompt()(greeting)
    server.resource("text://leaflet", mime_type="text/plain")(leaflet)
    server.resource("text://page/{number}", mime_type="text/plain")(page)
    return server


def application(transport: str, *, json_response: bool, stateless: bool) -> Any:
    """The ASGI application, with the SDK's own protection against DNS rebinding on."""
    streaming = {"json_response": json_response, "stateless_http": stateless}
    if LINE == 1:
        server = build({"host": "127.0.0.1", **streaming})
        return server.sse_app() if transport == "sse" else server.streamable_http_app()
    server = build({})
    return server.sse_app() if transport == "sse" else server.streamable_http_app(**streaming)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--transport", choices=["http", "sse"], default="http")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stateless", action="store_true")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    asked = parser.parse_args()
    app = application(asked.transport, json_response=asked.json, stateless=asked.stateless)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=asked.port,
        ssl_certfile=asked.certificate,
        ssl_keyfile=asked.key,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
