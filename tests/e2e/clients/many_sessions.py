"""Many sessions of the official SDK's client that call tools until standard input ends: prints what they saw as JSON.

Like `official.py` it is run by whichever Python has `mcp` installed, and the same for both of its lines. A line `ready`
comes when every session has begun. When standard input ends, each session shows that it still works: it calls once
more, and hears from the server on its event stream. A session that is lost is begun anew, as a person would do it.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

import official
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

if official.LINE == 2:
    from mcp import Client
    from mcp import MCPError as CallError
else:
    from mcp import ClientSession
    from mcp import McpError as CallError

LISTENING_CALLS = 20
"""So many calls at the end may go unheard of on the event stream before it counts as dead."""
HEARD_WITHIN_S = 1.0
BEGIN_AGAIN_S = 0.5
LAST_ATTEMPTS = 6
"""So often a session that was lost at the end is begun anew."""
CONNECTION_CLOSED = -32000
UNKNOWN_SESSION = {400, 404}
"""What servers say of a session that they do not know; the second is right."""


class SessionLostError(Exception):
    """The session is over for its client, who has to begin another one."""


@dataclass
class Call:
    """One call of a tool, and how it went: `ok`, `error`, `silent` (no answer), or `lost` with its session."""

    id: str
    tool: str
    outcome: str = "lost"
    progress: list[int] = field(default_factory=list)
    ms: int = 0
    code: int | None = None
    message: str | None = None
    may_have_run: bool | None = None


class Person:
    """One client: a session, those that follow when it is lost, and what became of all that it asked."""

    def __init__(self, number: int, url: str, asked: argparse.Namespace, over: asyncio.Event):
        self.ready = asyncio.Event()
        self.works = False
        self.calls: list[Call] = []
        self.lost: list[str] = []
        self.refused: list[str] = []
        self.news: list[tuple[str, int]] = []
        self.statuses: Counter[str] = Counter()
        self._number = number
        self._name = f"{asked.name}-{number}"
        self._url = url
        self._everything = asked.everything
        self._patience_s = asked.patience_s
        self._pause_s = asked.pause_s
        self._over = over
        self._heard = asyncio.Event()
        self._unknown = False

    async def live(self) -> None:
        """Call until it is over, and begin anew after each loss."""
        attempts = LAST_ATTEMPTS
        while attempts and not await self._have_session():
            await asyncio.sleep(BEGIN_AGAIN_S)
            if self._over.is_set():
                attempts -= 1

    async def _have_session(self) -> bool:
        """One session, from begin to end. False when it was lost, or did not begin."""
        begun = False
        try:
            async with self._connected() as session:
                await session.list_tools()
                begun = True
                self.ready.set()
                await self._call_until_over(session)
                await self._show_that_it_works(session)
        except Exception as error:  # noqa: BLE001 -- whatever ended the session is what its person would see
            cause = official.innermost(error)
            (self.lost if begun else self.refused).append(f"{type(cause).__name__}: {cause}".partition("\n")[0])
            return False
        return True

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        self._unknown = False
        async with create_mcp_http_client() as http:
            http.event_hooks = {"response": [self._note]}
            connecting = streamable_http_client(self._url, http_client=http)
            if official.LINE == 2:
                async with Client(connecting, mode="legacy", logging_callback=self._log) as client:
                    yield client
                return
            async with connecting as streams, ClientSession(*streams[:2], logging_callback=self._log) as session:
                await session.initialize()
                yield session

    async def _note(self, response: Any) -> None:
        self.statuses[f"{response.request.method} {response.status_code}"] += 1
        self._unknown |= response.status_code in UNKNOWN_SESSION

    async def _log(self, params: Any) -> None:
        self.news.append((params.data["session"], params.data["number"]))
        self._heard.set()

    async def _call_until_over(self, session: Any) -> None:
        while not self._over.is_set():
            await self._call(session)
            await asyncio.sleep(self._pause_s)

    async def _show_that_it_works(self, session: Any) -> None:
        for _ in range(LISTENING_CALLS):
            self._heard.clear()
            outcome = await self._call(session)
            if self._everything:  # says nothing unasked
                self.works = outcome == "ok"
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARD_WITHIN_S):
                        await self._heard.wait()
                self.works = outcome == "ok" and self._heard.is_set()
            if self.works:
                return

    async def _call(self, session: Any) -> str:
        number = len(self.calls)
        call = Call(f"{self._name}-{number}", self._tool(number))
        self.calls.append(call)

        async def on_progress(step: float, total: float | None, message: str | None) -> None:
            call.progress.append(int(step))

        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s):
                result = await session.call_tool(call.tool, self._arguments(call), progress_callback=on_progress)
            call.outcome, call.message = self._judge(call, result)
        except TimeoutError:
            call.outcome = "silent"
        except CallError as error:
            call.code, call.message = error.error.code, error.error.message
            if self._unknown or (call.code == CONNECTION_CLOSED and call.message == "Connection closed"):
                raise SessionLostError(call.message) from error
            call.outcome = "error"
            if isinstance(error.error.data, dict):
                call.may_have_run = error.error.data.get("mayHaveRun")
        finally:
            call.ms = round((time.monotonic() - began) * 1000)
        return call.outcome

    def _tool(self, number: int) -> str:
        if self._everything:
            return "trigger-long-running-operation"
        # They all begin at once: of those whom a kill meets, half are to be at one tool, and half at the other.
        return ("transfer", "look")[(number + self._number) % 2]

    def _arguments(self, call: Call) -> dict[str, Any]:
        return {"duration": 0.16, "steps": 4} if self._everything else {"call": call.id}

    def _judge(self, call: Call, result: Any) -> tuple[str, str | None]:
        """Whether it is this call's result."""
        said = official.text(result)
        if said == call.id or (self._everything and said.startswith("Long running operation completed")):
            return "ok", None
        return "error", f"an answer that is not this call's: {said}"


async def until_input_ends() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def hold(asked: argparse.Namespace) -> dict[str, Any]:
    over = asyncio.Event()
    urls = asked.urls
    people = {
        f"{asked.name}-{number}": Person(number, urls[number % len(urls)], asked, over)
        for number in range(asked.sessions)
    }
    async with asyncio.TaskGroup() as group:
        for person in people.values():
            group.create_task(person.live())
        for person in people.values():
            await person.ready.wait()
        print("ready", flush=True)
        await until_input_ends()
        over.set()
    return {
        name: {
            "works": person.works,
            "lost": person.lost,
            "refused": person.refused,
            "news": person.news,
            "statuses": person.statuses,
            "calls": [asdict(call) for call in person.calls],
        }
        for name, person in people.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("urls", nargs="+", help="the sessions take them in turn")
    parser.add_argument("--name", required=True, help="what the names of calls begin with")
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--everything", action="store_true", help="the server is npm's server-everything")
    parser.add_argument("--patience-s", type=float, default=40.0, help="how long a call may take")
    parser.add_argument("--pause-s", type=float, default=0.3, help="between two calls of a session")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    json.dump(asyncio.run(hold(asked)), sys.stdout)


if __name__ == "__main__":
    main()
