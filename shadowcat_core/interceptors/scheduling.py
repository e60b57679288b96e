"""Waiting: what a pipeline is handed to be able to wait, and how it finds out whether it must."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Deadline(AbstractAsyncContextManager[object], Protocol):
    """Ends what runs inside it with a TimeoutError when the time is over, as `asyncio.timeout` does."""

    def expired(self) -> bool:
        """True when it did."""
        ...


class Running(Awaitable[None], Protocol):
    """Work that was started and is not done."""

    def done(self) -> bool: ...
    def cancel(self) -> bool: ...
    def result(self) -> None: ...
    def add_done_callback(self, callback: Callable[[Any], object], /) -> None: ...


type Work = Coroutine[Any, Any, None]


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The time and the concurrency of a pipeline, which has none of its own."""

    clock_ns: Callable[[], int]
    """Monotonic."""
    sleep: Callable[[float], Awaitable[None]]
    """Waits for a number of seconds."""
    timeout: Callable[[float], Deadline]
    start: Callable[[Work], Running]
    """Runs work until it is done or waits for the first time. It goes on by itself."""
    is_cancelled: Callable[[], bool]
    """Whether the work that asks is itself being cancelled, and not something that it waits for."""


def on_asyncio(clock_ns: Callable[[], int]) -> Scheduler:
    """Make the scheduler of programs that run on asyncio."""
    return Scheduler(clock_ns, asyncio.sleep, asyncio.timeout, _start, _is_cancelled)


def _start(work: Work) -> asyncio.Task[None]:
    # An eager task, although driving the coroutine by hand would save a fraction of a microsecond a batch: time limits,
    # task groups and most HTTP clients belong to the task they began in, and must be able to end in it.
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        work.close()
        raise
    return asyncio.Task(work, loop=loop, eager_start=True)


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # there is no loop, so nothing to be cancelled
        return False
    return task is not None and task.cancelling() > 0


@dataclass(slots=True)
class Suspended[T]:
    """A coroutine that was driven by hand until it waited for the first time. Await it, or close it."""

    coroutine: Coroutine[Any, Any, T]
    waits_for: object

    def close(self) -> None:
        """End it without going on."""
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine, waits_for = self.coroutine, self.waits_for
        while True:
            try:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as exc:  # noqa: BLE001 -- whatever is thrown in belongs to the coroutine
                    waits_for = coroutine.throw(exc)
                else:
                    waits_for = coroutine.send(sent)
            except StopIteration as done:
                value: T = done.value
                return value


def advance[T](coroutine: Coroutine[Any, Any, T]) -> T | Suspended[T]:
    """Drive a coroutine by hand until it is done or waits: its result tells which. Raises what it raises."""
    try:
        return Suspended(coroutine, coroutine.send(None))
    except StopIteration as done:
        value: T = done.value
        return value
