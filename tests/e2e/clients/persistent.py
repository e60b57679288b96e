"""A client of the official SDK that tries again: prints how each of its calls went as one JSON object.

Like `official.py` it is run by whichever Python has `mcp` installed, and the same for both of its lines.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import official


async def attempt(session: Any, number: int, patience_s: float) -> str:
    """One call: what came back, or which error it was."""
    try:
        async with asyncio.timeout(patience_s):
            return official.text(await session.call_tool("echo", {"text": f"call {number}"}))
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is what a person would be told
        cause = official.innermost(error)
        return f"{type(cause).__name__}: {cause}"


def to_make(asked: argparse.Namespace, first: int) -> Iterator[int]:
    """The numbers of a connection's calls."""
    yield from range(first, first + asked.calls)
    if asked.until is not None:
        yield from takewhile(lambda _: not asked.until.exists(), count(first + asked.calls))


async def connection(asked: argparse.Namespace, first: int) -> list[str]:
    """One connection with its calls; how it ended stands behind them when that was not as it should."""
    outcomes: list[str] = []
    try:
        async with official.connected(asked.url, "http", asked.mode, official.Heard()) as (session, _):
            outcomes += [await attempt(session, number, asked.patience_s) for number in to_make(asked, first)]
    except Exception as error:  # noqa: BLE001 -- likewise
        cause = official.innermost(error)
        outcomes.append(f"connection {type(cause).__name__}: {cause}")
    return outcomes


async def connections(asked: argparse.Namespace) -> list[list[str]]:
    return [await connection(asked, 1 + index * asked.calls) for index in range(asked.connections)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--mode", default="auto", help="how a 2.x client negotiates: auto, legacy or a version")
    parser.add_argument("--calls", type=int, default=2, help="how many calls each connection makes")
    parser.add_argument("--until", type=Path, help="goes on calling in each connection until there is this file")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--patience-s", type=float, default=45.0, help="how long a call may take")
    json.dump(asyncio.run(connections(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    main()
