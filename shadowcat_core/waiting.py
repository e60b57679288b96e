"""Something to wait for on the way of a message, which can be given up when nobody is left who waits. No I/O."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from shadowcat_core.interceptors import Running

LOOK_S = 0.25
"""How often a wait looks whether it has become moot, where nobody tells."""


class Waiting:
    """Awaited by who goes on afterwards, given up by who sees the client leave. Used once."""

    def __init__(
        self,
        until: Callable[[], Awaitable[object]],
        on_given_up: Callable[[], object] = lambda: None,
        is_moot: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make something to wait for.

        Args:
            until: begins the wait.
            on_given_up: told when it was given up.
            is_moot: looked at now and then; when it is true the wait is given up.
        """
        self.is_over = False
        """True once somebody has waited to the end."""
        self._until = until
        self._on_given_up = on_given_up
        self._is_moot = is_moot
        self._given_up = asyncio.Event()
        self._is_broken_off = False

    @classmethod
    def sleeping(cls, seconds: float, is_moot: Callable[[], bool] = lambda: False) -> Self:
        """Wait for so long."""
        return cls(lambda: asyncio.sleep(seconds), is_moot=is_moot)

    @classmethod
    def forever(cls, is_moot: Callable[[], bool] = lambda: False) -> Self:
        """Wait until it is given up."""
        return cls(lambda: asyncio.get_running_loop().create_future(), is_moot=is_moot)

    def give_up(self) -> None:
        """Nobody waits any more: it is over now."""
        self._given_up.set()
        self._on_given_up()

    def break_off(self) -> None:
        """Who waits is to stop without an end (`is_over` stays false): what was waited for will not come."""
        self._is_broken_off = True
        self.give_up()

    async def wait(self) -> None:
        """Wait until it is over, one way or the other."""
        work, given_up = asyncio.ensure_future(self._until()), asyncio.ensure_future(self._given_up.wait())
        try:
            while not self.is_over and not self._is_broken_off:
                done, _ = await asyncio.wait([work, given_up], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                self.is_over = bool(done) and not self._is_broken_off
                if not done and self._is_moot():
                    self.give_up()
        finally:
            work.cancel()
            given_up.cancel()


async def until_done(running: Running) -> None:
    """Wait for work that goes on by itself, however it ends."""
    done = asyncio.get_running_loop().create_future()

    def finish(_: object) -> None:
        if not done.done():
            done.set_result(None)

    running.add_done_callback(finish)
    await done


def is_well_done(running: Running) -> bool:
    """Say whether work has come to its end by itself, and without an error."""
    if not running.done():
        return False
    try:
        running.result()
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - who asks treats all of them alike
        return False
    return True
