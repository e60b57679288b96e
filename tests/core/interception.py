"""What the tests of interceptors share: time that passes only when everybody waits, and batches in all framings."""

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from shadowcat_core.interceptors import Pipeline, Scheduler, on_asyncio
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import MessageBatch, MessageContext
from shadowcat_core.sse import SseParser

TO_SERVER = MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP, "s1", 7, "stream")
TO_CLIENT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP, "s1", 7, "stream")
CONTEXTS = {"c2s": TO_SERVER, "s2c": TO_CLIENT}


class _Selector(selectors.DefaultSelector):
    """Where nothing is ready and somebody waits for a moment, that moment comes at once."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that never comes"
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio itself, with another clock."""

    def __init__(self) -> None:
        self._moments = _Selector()
        super().__init__(self._moments)

    def time(self) -> float:
        return self._moments.now_s


def in_virtual_time[T](work: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine; all its waiting takes no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def scheduler() -> Scheduler:
    """For pipelines made before there is a loop as well: without one, time stands still."""

    def clock_ns() -> int:
        try:
            return int(now_s() * 1e9)
        except RuntimeError:
            return 0

    return on_asyncio(clock_ns)


def pipeline_of(*interceptors: object, **settings: Any) -> Pipeline:
    """A pipeline of interceptors that all have the same settings."""
    pipeline = Pipeline(scheduler())
    for interceptor in interceptors:
        pipeline.add(interceptor, **settings)
    return pipeline


async def judged(pipeline: Pipeline, batch: MessageBatch, release: Callable | None = None) -> bytes:
    """Run a pipeline over a batch to its end and emit what is left."""
    pending = pipeline.run(batch, release)
    if pending is not None:
        await pending
    return batch.emit()


def body(messages: list[bytes], context: MessageContext) -> MessageBatch:
    assert len(messages) == 1
    return MessageBatch.of_body(messages[0], context, 5)


def array(messages: list[bytes], context: MessageContext) -> MessageBatch:
    return MessageBatch.of_body(b"[" + b",".join(messages) + b"]", context, 5)


def events(messages: list[bytes], context: MessageContext) -> MessageBatch:
    chunk = b"".join(b"event: message\nid: %d\ndata: %s\n\n" % at for at in enumerate(messages))
    return MessageBatch.of_frames(SseParser().feed(chunk), context, 5)


def folded(messages: list[bytes], context: MessageContext) -> MessageBatch:
    chunk = b"".join(b"data: {\r\ndata: %s\r\n\r\n" % message.strip()[1:] for message in messages)
    return MessageBatch.of_frames(SseParser().feed(chunk), context, 5)


def lines(messages: list[bytes], context: MessageContext) -> MessageBatch:
    return MessageBatch.of_lines(b"".join(message + b"\n" for message in messages), context, 5)


FRAMINGS: dict[str, Callable[[list[bytes], MessageContext], MessageBatch]] = {
    "body": body,
    "array": array,
    "events": events,
    "folded": folded,
    "lines": lines,
}
"""Each makes a batch of JSON objects."""


def again(framing: str, emitted: bytes, context: MessageContext) -> MessageBatch:
    """Read what a batch of a framing emitted, as the next hop does."""
    if framing == "lines":
        return MessageBatch.of_lines(emitted, context)
    if framing in ("events", "folded"):
        return MessageBatch.of_frames(SseParser().feed(emitted), context)
    return MessageBatch.of_body(emitted, context)


def payloads(batch: MessageBatch) -> list[Any]:
    return [json.loads(message.raw) for message in batch]


class Says:
    """An interceptor of messages that answers as a function does, sync or async, with an interest if one is given."""

    def __init__(self, answer: Callable, **interest: Any) -> None:
        self.answer = answer
        self.shown: list[bytes] = []
        vars(self).update(interest)

    def intercept(self, message: Any) -> Any:
        self.shown.append(message.raw)
        return self.answer(message)


class Does:
    """The same for batches."""

    def __init__(self, action: Callable, **interest: Any) -> None:
        self.action = action
        self.calls = 0
        vars(self).update(interest)

    def intercept_batch(self, batch: MessageBatch) -> Any:
        self.calls += 1
        return self.action(batch)


def note(name: str) -> bytes:
    return b'{"jsonrpc":"2.0","method":"notifications/%s","params":{}}' % name.encode()


def names(batch: MessageBatch) -> list[str]:
    """What `note` named the messages."""
    return [str(message.method).removeprefix("notifications/") for message in batch]


def tagging(tag: str, **interest: Any) -> Does:
    """An interceptor that appends a letter to every method."""

    def tag_all(batch: MessageBatch) -> None:
        for position, message in batch.where():
            batch.replace(position, {**message.payload, "method": message.method + tag})

    return Does(tag_all, **interest)
