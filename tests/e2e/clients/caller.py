"""A session of the official SDK's client that lists and calls as it is told, and prints what came of it as JSON.

Each step is `list`, or `call` with a tool and its arguments: `["call", "add", {"a": 1, "b": 2}]`.
"""

import argparse
import asyncio
import json
from typing import Any

from mcp import Client, MCPError


async def step(client: Client, what: str, *details: Any) -> Any:
    try:
        if what == "list":
            return {tool.name: tool.description for tool in (await client.list_tools()).tools}
        result = await client.call_tool(*details)
        return " ".join(block.text for block in result.content if block.type == "text")
    except MCPError as exc:
        return {"error": exc.error.message, "code": exc.error.code}


async def converse(url: str, mode: str, steps: list[list[Any]]) -> list[Any]:
    async with Client(url, mode=mode) as client:
        return [await step(client, *each) for each in steps]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("mode")
    parser.add_argument("steps", type=json.loads)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(converse(arguments.url, arguments.mode, arguments.steps))))


if __name__ == "__main__":
    main()
