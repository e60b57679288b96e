"""Something to wait for on the way of a message, which can be given up when nobody is left who waits. No I/O."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from shadowcat_core.interceptors import Running


class Waiting:
    """Awaited by who goes on afterwards, given up by who sees the client leave. Used once."""

    def __init__(self, until: Awaitable[object], on_given_up: Callable[[], object] = lambda: None) -> None:
        self._until = until
        self._on_given_up = on_given_up
        self._given_up = asyncio.Event()

    @classmethod
    def sleeping(cls, seconds: float) -> Self:
        """Wait for so long."""
        return cls(asyncio.sleep(seconds))

    @classmethod
    def forever(cls) -> Self:
        """Wait until it is given up."""
        return cls(asyncio.get_running_loop().create_future())

    def give_up(self) -> None:
        """Nobody waits any more: it is over now."""
        self._given_up.set()
        self._on_given_up()

    async def wait(self) -> None:
        """Wait until it is over, one way or the other."""
        work = asyncio.ensure_future(self._until)
        given_up = asyncio.ensure_future(self._given_up.wait())
        try:
            await asyncio.wait([work, given_up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            given_up.cancel()


async def until_done(running: Running) -> bool:
    """Wait for work that goes on by itself; False when it was cancelled. Raises what it raised."""
    done = asyncio.get_running_loop().create_future()

    def finish(_: object) -> None:
        if not done.done():
            done.set_result(None)

    running.add_done_callback(finish)
    await done
    try:
        running.result()
    except asyncio.CancelledError:
        return False
    return True
