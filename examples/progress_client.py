"""Print when each progress notification of a slow tool arrives: at once when the proxy streams, all at the end if not.

Run as:  python examples/progress_client.py http://127.0.0.1:8080/mcp
"""

import sys
import time

import anyio
from mcp import Client


async def main(url: str) -> None:
    began = time.monotonic()

    async def say(progress: float, total: float | None, message: str | None) -> None:
        print(f"{time.monotonic() - began:6.3f} s  {progress:g}/{total or 0:g} {message or ''}", flush=True)

    async with Client(url) as client:
        began = time.monotonic()
        result = await client.call_tool("deploy", {"service": "web", "version": "2.0.0"}, progress_callback=say)
        answer = " ".join(block.text for block in result.content if block.type == "text")
        print(f"{time.monotonic() - began:6.3f} s  {answer}")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
