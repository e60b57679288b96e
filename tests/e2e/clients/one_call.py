"""One call of a tool by the official SDK's client, told as it goes: a line of JSON for each that its caller hears.

Run by whichever Python has `mcp` installed, and the same for both of its lines.
"""

import argparse
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import official
from mcp.client.streamable_http import streamable_http_client

if official.LINE == 2:
    from mcp import Client
    from mcp import MCPError as CallError
else:
    from mcp import ClientSession
    from mcp import McpError as CallError


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


@contextlib.asynccontextmanager
async def connected(url: str, mode: str) -> AsyncIterator[Any]:
    connecting = streamable_http_client(url)
    if official.LINE == 2:
        async with Client(connecting, mode=mode) as client:
            yield client
        return
    async with connecting as streams, ClientSession(*streams[:2]) as session:
        await session.initialize()
        yield session


async def call(url: str, mode: str, tool: str) -> None:
    async def on_progress(step: float, total: float | None, message: str | None) -> None:
        tell(progress=step)

    async with connected(url, mode) as session:
        await session.list_tools()
        try:
            result = await session.call_tool(tool, {"call": "the call"}, progress_callback=on_progress)
            tell(result=official.text(result))
        except CallError as error:
            tell(code=error.error.code, message=error.error.message, data=error.error.data)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("tool")
    parser.add_argument("--mode", default="legacy", help="of the era, for line 2")
    asked = parser.parse_args()
    asyncio.run(call(asked.url, asked.mode, asked.tool))


if __name__ == "__main__":
    main()
