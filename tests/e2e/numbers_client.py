"""A client of the stateful era that may go to either of two proxies, and keeps what it has heard.

So it can leave a stream in the middle, come back elsewhere, and be held to the list of all events.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import httpx

from shadowcat_core.sse import SseParser
from tests.e2e import wire
from tests.e2e.origin import WITHIN_S
from tests.e2e.shared_sessions import Program


@dataclass
class Heard:
    """What a client has of one call: its messages in order, and the id to come back with."""

    message_id: int
    messages: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """Of the messages."""
    last_event_id: str | None = None

    @property
    def numbers(self) -> list[int]:
        """The progress so far."""
        return [each["params"]["progress"] for each in self.messages if "method" in each]

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [each for each in self.messages if "method" not in each]

    def check_whole(self, total: int) -> None:
        """Every number once, in order, and the answer behind them."""
        assert self.numbers == list(range(1, total + 1))
        [answer] = self.answers
        assert answer is self.messages[-1]
        assert answer["id"] == self.message_id
        assert answer["result"]["content"] == [{"type": "text", "text": f"{total} numbers"}]
        assert len(self.ids) == len(set(self.ids)) == len(self.messages)


class Stream:
    """One response whose events are read when the test asks for them."""

    def __init__(self, response: httpx.Response, heard: Heard):
        self.response = response
        self.heard = heard
        self._parser = SseParser()
        self._chunks = response.aiter_bytes()

    async def until(self, number: int) -> None:
        """Read until this much progress is heard."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.heard.numbers) < number:
                await self._more()

    async def primed(self) -> None:
        """Read until there is an event id."""
        async with asyncio.timeout(WITHIN_S):
            while self.heard.last_event_id is None:
                await self._more()

    async def answered(self) -> None:
        """Read until the answer is there."""
        async with asyncio.timeout(WITHIN_S):
            while not self.heard.answers:
                await self._more()

    async def broken(self) -> None:
        """Read on until the stream breaks off, and keep what still came."""
        async with asyncio.timeout(WITHIN_S):
            try:
                while True:
                    await self._more()
            except httpx.TransportError:
                return

    async def _more(self) -> None:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise AssertionError(f"the stream has ended after {self.heard.messages[-1:]}") from None
        for frame in self._parser.feed(chunk):
            self.heard.last_event_id = frame.id or self.heard.last_event_id
            if frame.data:
                self.heard.messages.append(json.loads(frame.data))
                self.heard.ids += [frame.id] if frame.id else []


class LegacyClient:
    """A client of the stateful era. `at` is the proxy it goes to, and may be changed at any time."""

    def __init__(self, at: Program, authorization: str | None = None):
        self.at = at
        self.session_id: str | None = None
        self.authorization = authorization
        self._ids = count(1)
        self._http = httpx.AsyncClient(timeout=WITHIN_S, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def headers(self, **more: str) -> dict[str, str]:
        token = {"Authorization": self.authorization} if self.authorization else {}
        return wire.headers("", era="legacy", session=self.session_id) | token | more

    async def begin(self) -> Self:
        """Make the handshake."""
        params = {
            "protocolVersion": wire.LEGACY_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "numbers", "version": "1"},
        }
        answer = await self.post("initialize", params)
        assert answer.status_code == 200, answer.text
        self.session_id = answer.headers["mcp-session-id"]
        body = wire.notification("notifications/initialized")
        noted = await self._http.post(f"{self.at.url}/mcp", headers=self.headers(), content=body)
        assert noted.status_code == 202, noted.text
        return self

    async def post(self, method: str, params: dict[str, Any] | None = None) -> httpx.Response:
        """Send a request, and read its whole answer."""
        body = wire.request(method, params, message_id=next(self._ids), era="legacy")
        return await self._http.post(f"{self.at.url}/mcp", headers=self.headers(), content=body)

    async def echo(self, text: str) -> httpx.Response:
        return await self.post("tools/call", {"name": "echo", "arguments": {"text": text}})

    async def check_echo(self, text: str) -> None:
        """Call a tool; the answer must be the one to this very call."""
        check_echoed(await self.echo(text), text)

    async def delete(self) -> int:
        """End the session; the status says how that went."""
        return (await self._http.delete(f"{self.at.url}/mcp", headers=self.headers())).status_code

    @asynccontextmanager
    async def numbers(self, call: str, total: int) -> AsyncIterator[Stream]:
        """Call the tool that counts, for as long as the block runs."""
        heard = Heard(next(self._ids))
        body = wire.tool_call("numbers", message_id=heard.message_id, era="legacy", call=call, count=total)
        async with self._http.stream("POST", f"{self.at.url}/mcp", headers=self.headers(), content=body) as response:
            assert response.status_code == 200, f"{response.status_code} {await response.aread()!r}"
            yield Stream(response, heard)

    @asynccontextmanager
    async def back(self, heard: Heard) -> AsyncIterator[Stream]:
        """Come back to a call by the last event id, for as long as the block runs."""
        async with self._back(heard) as response:
            assert response.status_code == 200, f"{response.status_code} {await response.aread()!r}"
            yield Stream(response, heard)

    async def back_status(self, heard: Heard) -> int:
        """Try to come back to a call; which status that has."""
        async with self._back(heard) as response:
            return response.status_code

    def _back(self, heard: Heard) -> AbstractAsyncContextManager[httpx.Response]:
        assert heard.last_event_id is not None
        headers = self.headers(**{"Accept": "text/event-stream", "Last-Event-ID": heard.last_event_id})
        return self._http.stream("GET", f"{self.at.url}/mcp", headers=headers)


def check_echoed(answer: httpx.Response, text: str) -> None:
    """The answer must be the one to the call of `echo` with this text, from whichever kind of server."""
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    if answer.headers["content-type"].startswith("text/event-stream"):
        [message] = [json.loads(frame.data) for frame in SseParser().feed(answer.content) if frame.data]
    else:
        message = answer.json()
    assert message["result"]["content"] == [{"type": "text", "text": text}]
