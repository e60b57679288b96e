"""A stream that waits: what may be sent meanwhile, and what when the wait is over. No I/O."""

import asyncio
from collections.abc import Callable

from shadowcat_core.interceptors import Running


class Held:
    """What an interceptor holds of a stream. Await `more`, send what `take` gives, until it is `done`.

    One reader. Cancelling gives up what is held; `take` gives nothing more then.
    """

    def __init__(self, running: Running, ahead: list[bytes], finish: Callable[[], bytes]) -> None:
        """Wait for `running`. `ahead` is filled with what may go before it is over, `finish` gives the rest."""
        self._running = running
        self._ahead = ahead
        self._finish: Callable[[], bytes] | None = finish
        self._waiter: asyncio.Future[None] | None = None
        self._cancelled = False
        running.add_done_callback(lambda _: self.nudge())

    @property
    def done(self) -> bool:
        """True when `take` has given all there was."""
        return self._finish is None

    async def more(self) -> None:
        """Wait until `take` has something to give, or the wait is over."""
        while not self._ahead and not self._running.done():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def nudge(self) -> None:
        """Something may be sent."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take(self) -> bytes:
        """Give what may be sent now, which may be nothing."""
        ahead = b"" if self._cancelled else b"".join(self._ahead)
        self._ahead.clear()
        if self._finish is None or not self._running.done():
            return ahead
        finish, self._finish = self._finish, None
        return b"" if self._cancelled else ahead + finish()

    def then(self, rest: Callable[[], bytes]) -> None:
        """Let something follow directly behind what is held."""
        finish = self._finish
        if finish is not None:
            self._finish = lambda: finish() + rest()

    def cancel(self) -> None:
        """Nobody is left to send to."""
        self._cancelled = True
        self._running.cancel()
