"""What the tests of judged streams share: a tap on a real pipeline, and who carries out what it gives."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shadowcat_core.framing import Framing, SseFraming
from shadowcat_core.interceptors import Block, Continue, Pause, Pipeline, Verdict
from shadowcat_core.messages import Message
from shadowcat_core.outlet import Cut
from shadowcat_core.sse import SseParser
from shadowcat_core.stream import Passed, StreamTap
from tests.core.interception import TO_CLIENT, now_s


def clock_ns() -> int:
    return int(now_s() * 1e9)


def event(name: object, **params: Any) -> bytes:
    """One notification as servers write it."""
    message = {"jsonrpc": "2.0", "method": f"notifications/{name}", "params": params}
    return b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n"


def question(message_id: int, method: str = "sampling/createMessage") -> bytes:
    """A request of the server's."""
    message = {"jsonrpc": "2.0", "id": message_id, "method": method, "params": {}}
    return b"data: " + json.dumps(message).encode() + b"\n\n"


def said(stream: bytes) -> list[str]:
    """What `event` named the events of a stream, in order."""
    return [json.loads(frame.data)["method"].removeprefix("notifications/") for frame in SseParser().feed(stream)]


def steered(message: Message) -> Verdict:
    """Do what the message says."""
    params = message.payload.get("params", {})
    if "hold_s" in params:
        return Pause(asyncio.sleep(params["hold_s"]))
    return Block("no") if "block" in params else Continue()


async def steered_later(message: Message) -> Verdict:
    """Do it within a coroutine."""
    await asyncio.sleep(message.payload.get("params", {}).get("hold_s", 0))
    return Block("no") if "block" in message.payload.get("params", {}) else Continue()


@dataclass
class Wire:
    """A tap, all it was given to tell, and who sends: as the proxy does, one thing after the other."""

    tap: StreamTap
    failures: list[Exception]
    replies: list[Message]
    came: list[bytes] = field(default_factory=list)
    """What the chunk sinks saw."""
    passed: list[bytes] = field(default_factory=list)
    """What the sinks of passed bytes saw."""
    shown: list[str | None] = field(default_factory=list)
    """The methods of the messages that the batch sinks saw."""
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    """What went to the client, each with the seconds since the test began."""
    cut: str | None = None
    began_s: float = field(default_factory=now_s)

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.sent)

    async def take(self, *chunks: bytes) -> None:
        for chunk in chunks:
            if self.cut is None:
                await self._carry_out([self.tap.take(chunk)])

    async def until(self, at_s: float) -> None:
        """Let time pass while the stream is quiet; what was collected is flushed when it is due."""
        while (due_ns := self.tap.due_ns) is not None and due_ns <= (self.began_s + at_s) * 1e9:
            await asyncio.sleep(max(0.0, due_ns / 1e9 - now_s()) + 1e-6)
            await self._carry_out(self.tap.flush())
        await asyncio.sleep(max(0.0, self.began_s + at_s - now_s()))

    async def flush(self) -> None:
        await self._carry_out(self.tap.flush())

    async def end(self) -> None:
        if self.cut is None:
            await self._carry_out(self.tap.end())

    async def _carry_out(self, passing: Iterable[Passed]) -> None:
        for passed in passing:
            match passed:
                case bytes():
                    self._send(passed)
                case Cut(reason):
                    self.cut = reason
                    return
                case held:
                    while not held.done:
                        await held.more()
                        self._send(held.take())

    def _send(self, data: bytes) -> None:
        if data:
            self.sent.append((round(now_s() - self.began_s, 3), data))


def wire(pipeline: Pipeline | None = None, *, framing: Framing | str | None = "sse", **arguments: Any) -> Wire:
    """Make a tap on a stream to the client and see all that it does."""
    max_event_bytes = arguments.pop("max_event_bytes", 100_000)
    failures: list[Exception] = []
    replies: list[Message] = []
    made = Wire(
        StreamTap(
            SseFraming(TO_CLIENT, max_event_bytes=max_event_bytes) if framing == "sse" else framing,
            clock_ns=clock_ns,
            on_failure=failures.append,
            pipeline=pipeline,
            on_replies=arguments.pop("on_replies", replies.extend),
            chunk_sinks=[lambda _at_ns, chunk: made.came.append(chunk)],
            passed_sinks=[lambda _at_ns, data: made.passed.append(data)],
            batch_sinks=[lambda batch: made.shown.extend(message.method for message in batch)],
            **arguments,
        ),
        failures,
        replies,
    )
    return made
