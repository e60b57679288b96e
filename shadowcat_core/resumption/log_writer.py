"""Writes one stream's events to the log behind the wire's back: what has gathered, in one step.

Nobody waits for it. A step to a store on the network costs more than the events in it, so they gather for a moment
before they are written; a stream that is over by then is opened, written and closed at once. While the store is away
events gather in the stream, up to its bound, and are written later. The log takes each position once; whoever finds it
taken by another has lost the stream to that proxy and stops.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import STORE_RETRY_MS
from shadowcat_core.resumption.stream import ResumableStream
from shadowcat_core.sessions import EventLog, LoggedEvent, StreamInfo, event_id

_RETRY_S: Final = int(STORE_RETRY_MS) / 1000


class LogWriter:
    """The writer of one stream. `is_opened` says that the log has the stream; what comes within `gather_s` is one step.

    `on_taken` hears that the stream is not ours any more, `on_written` each time that nothing is left to write.
    """

    def __init__(
        self,
        log: EventLog,
        stream: ResumableStream,
        *,
        is_opened: bool,
        gather_s: float,
        sleep: Callable[[float], Awaitable[object]],
        on_outage: Callable[[StoreUnavailable], object],
        on_taken: Callable[[], object],
        on_written: Callable[[], object],
    ) -> None:
        self._log = log
        self._stream = stream
        self._is_opened = is_opened
        self._closes = False
        self._gather_s = gather_s
        self._sleep = sleep
        self._on_outage = on_outage
        self._on_taken = on_taken
        self._on_written = on_written
        self._is_awaited = False
        self._gathering: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.wake()

    def wake(self) -> None:
        """There is something to write."""
        if self._gathering is not None:
            if self._stream.is_pressed_for_room:
                self.hurry()
        elif self._task is None or self._task.done():
            self._gather()

    def hurry(self) -> asyncio.Task[None]:
        """Write what there is: gather no longer. Returns the task that does."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())
        return self._task

    def close(self) -> None:
        """Close the stream in the log behind its last event."""
        self._closes = True
        self.wake()

    async def written(self) -> None:
        """Write all that there is, and wait for it."""
        self._is_awaited = True
        try:
            await asyncio.shield(self.hurry())
        finally:
            self._is_awaited = False

    def cancel(self) -> None:
        """Write no more."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._task is not None:
            self._task.cancel()

    def _gather(self) -> None:
        if self._gather_s:
            self._gathering = asyncio.get_running_loop().call_later(self._gather_s, self.hurry)
        else:
            self.hurry()

    async def _write(self) -> None:
        stream = self._stream
        while not self._is_opened or stream.unlogged or self._closes:
            try:
                if not await self._step():
                    stream.stop_keeping()
                    self._is_opened, self._closes = True, False  # nothing of it is ours to do
                    self._on_taken()
                    return
            except StoreUnavailable as exc:
                self._on_outage(exc)
                await self._sleep(_RETRY_S)
                continue
            if self._gather_s and not self._is_awaited and (stream.unlogged or self._closes):
                self._gather()
                return
        self._on_written()

    async def _step(self) -> bool:
        """Take one step of what is to be done. Returns False when the stream is not ours to write any more."""
        stream, batch = self._stream, list(self._stream.unlogged)
        if batch and batch[0].position != stream.logged + 1:
            return await (self._mend(batch) if self._is_opened else self._open([]))
        if not self._is_opened:
            return await self._open(batch)
        if batch:
            return await self._append(batch)
        await self._log.close_stream(stream.session_id, stream.stream_id)
        self._closes = False
        return True

    async def _open(self, batch: Sequence[LoggedEvent]) -> bool:
        """Open the stream in the log with its first events, and close it behind them when it is that short."""
        stream, closes = self._stream, self._closes and bool(batch)
        events = [each.event for each in batch]
        if await self._log.open_stream(stream.session_id, stream.stream_id, str(stream.purpose), events, closed=closes):
            self._note(batch, closed=closes)
            return True
        return bool(batch) and await self._mend(batch)

    async def _append(self, batch: Sequence[LoggedEvent]) -> bool:
        stream, closes = self._stream, self._closes
        events = [each.event for each in batch]
        if await self._log.append(stream.session_id, stream.stream_id, events, position=stream.logged, closed=closes):
            self._note(batch, closed=closes)
            return True
        return await self._mend(batch)

    async def _mend(self, batch: Sequence[LoggedEvent]) -> bool:
        """The log cannot just go on with a batch: find out why, and let it go on behind the batch."""
        stream, last = self._stream, batch[-1].position
        there = await self._log.stream_of(stream.session_id, event_id(stream.stream_id, 0))
        if there is not None:
            is_complete = self._closes and there.position == last
            if there.position > last or (there.closed and not is_complete):
                return False
            if there.position > stream.logged:
                return await self._find_own(batch, there)
        # Events are left out, or the log has lost some. It needs the server's latest id even if no event that is left
        # has one, or who comes back would get all that the server has sent once more.
        unlogged, last = list(stream.unlogged), stream.position
        told = "" if stream.mark is None else str(stream.mark)
        info = StreamInfo(stream.stream_id, str(stream.purpose), last, upstream_event_id=told)
        if not await self._log.restore_stream(stream.session_id, info, unlogged):
            return False
        stream.forget_unlogged(last)
        return True

    async def _find_own(self, batch: Sequence[LoggedEvent], there: StreamInfo) -> bool:
        """Tell whether what the log has is ours: a step without an answer may have been taken."""
        stream = self._stream
        start = event_id(stream.stream_id, stream.logged)
        missed = await self._log.after(stream.session_id, start, limit=len(batch))
        ours = [each for each in batch if each.position <= there.position]
        if missed is None or list(missed.events) != ours:
            return False
        self._note(ours, closed=there.closed)
        return True

    def _note(self, batch: Sequence[LoggedEvent], *, closed: bool) -> None:
        """The log has taken a batch."""
        self._is_opened = True
        if batch:
            self._stream.forget_unlogged(batch[-1].position)
        if closed:
            self._closes = False
