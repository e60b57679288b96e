"""Writes one stream's events to the log behind the wire's back: what has gathered since the last write, in one step.

Nobody waits for it. While the store is away events gather in the stream, up to its bound, and are written later. The
log takes each position once; whoever finds it taken by another has lost the stream to that proxy and stops.
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
    """The writer of one stream. `is_opened` says that the log has the stream.

    `on_taken` hears that the stream is not ours any more, `on_written` each time that nothing is left to write.
    """

    def __init__(
        self,
        log: EventLog,
        stream: ResumableStream,
        *,
        is_opened: bool,
        sleep: Callable[[float], Awaitable[object]],
        on_outage: Callable[[StoreUnavailable], object],
        on_taken: Callable[[], object],
        on_written: Callable[[], object],
    ) -> None:
        self._log = log
        self._stream = stream
        self._is_opened = is_opened
        self._closes = False
        self._sleep = sleep
        self._on_outage = on_outage
        self._on_taken = on_taken
        self._on_written = on_written
        self._task = asyncio.get_running_loop().create_task(self._write())

    def wake(self) -> None:
        """There is something to write."""
        if self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write())

    def close(self) -> None:
        """Close the stream in the log behind its last event."""
        self._closes = True
        self.wake()

    async def written(self) -> None:
        """Wait until all is written that there is."""
        await asyncio.shield(self._task)

    def cancel(self) -> None:
        """Write no more."""
        self._task.cancel()

    async def _write(self) -> None:
        stream = self._stream
        while not self._is_opened or stream.unlogged or self._closes:
            try:
                if not await self._step():
                    stream.stop_keeping()
                    self._on_taken()
                    return
            except StoreUnavailable as exc:
                self._on_outage(exc)
                await self._sleep(_RETRY_S)
        self._on_written()

    async def _step(self) -> bool:
        """Take one step of what is to be done. Returns False when the stream is not ours to write any more."""
        stream = self._stream
        if not self._is_opened:
            self._is_opened = await self._log.open_stream(stream.session_id, stream.stream_id, str(stream.purpose))
            return self._is_opened
        if stream.unlogged:
            return await self._append(list(stream.unlogged))
        await self._log.close_stream(stream.session_id, stream.stream_id)
        self._closes = False
        return True

    async def _append(self, batch: Sequence[LoggedEvent]) -> bool:
        stream = self._stream
        last = batch[-1].position
        if batch[0].position == stream.logged + 1:
            events = [each.event for each in batch]
            if await self._log.append(stream.session_id, stream.stream_id, events, position=stream.logged):
                stream.forget_unlogged(last)
                return True
        there = await self._log.stream_of(stream.session_id, event_id(stream.stream_id, 0))
        if there is not None and (there.closed or there.position > last):
            return False
        if there is not None and there.position > stream.logged:
            return await self._find_own(batch, there.position)
        # Events are left out, or the log has lost some: it cannot just go on. It needs the server's latest id even if
        # no event that is left has one, or who comes back would get all that the server has sent once more.
        unlogged, last = list(stream.unlogged), stream.position
        told = "" if stream.mark is None else str(stream.mark)
        info = StreamInfo(stream.stream_id, str(stream.purpose), last, upstream_event_id=told)
        if not await self._log.restore_stream(stream.session_id, info, unlogged):
            return False
        stream.forget_unlogged(last)
        return True

    async def _find_own(self, batch: Sequence[LoggedEvent], position: int) -> bool:
        """Tell whether what the log has up to `position` is ours: a step without an answer may have been taken."""
        stream = self._stream
        start = event_id(stream.stream_id, stream.logged)
        missed = await self._log.after(stream.session_id, start, limit=len(batch))
        ours = missed is not None and list(missed.events) == [each for each in batch if each.position <= position]
        if ours:
            stream.forget_unlogged(position)
        return ours
