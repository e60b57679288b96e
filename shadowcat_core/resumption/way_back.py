"""One client's way back into a stream: what it missed, then whatever comes, each event once.

From where the events come is found out on the way, in this order: memory, if the stream is read here; the log; the
server, from the id that the log knows last; the server, from the id that the client brought along, if the log cannot
go on exactly from there (it is behind the client, has lost events, or forgot the stream).

Source: MCP 2025-11-25, Basic / Transports / Resumability and Redelivery.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import FOLLOW_POLL_MS, FOLLOW_SILENCE_MS
from shadowcat_core.resumption.event_ids import EventPlace, UpstreamMark
from shadowcat_core.resumption.frames import cut_at_id
from shadowcat_core.resumption.keeper import KeptStream, StreamKeeper
from shadowcat_core.resumption.remarks import CAME_BACK, READ_NO_MORE, REMARKS, STILL_READ, TAKEN_OVER
from shadowcat_core.resumption.stream import ResumableStream, StreamPurpose
from shadowcat_core.sessions import Event, LoggedEvent, StreamInfo, event_id, new_stream_id
from shadowcat_core.sse import SseParser

_POLL_S: Final = int(FOLLOW_POLL_MS) / 1000
_MAX_SILENT_POLLS: Final = int(FOLLOW_SILENCE_MS) // int(FOLLOW_POLL_MS)


class GoOn(Enum):
    """How a stream goes on behind the events that there are."""

    NOT = auto()
    """It is complete, or the client has come back for it once more since: the response can end."""
    AT_SERVER = auto()
    """Its server is to be asked for what comes behind `stream.mark`, by `Last-Event-ID`."""
    ANEW = auto()
    """Its server gives no ids that still count: a stream of the server's own is opened anew, without any."""
    LOST = auto()
    """The answers to `stream.unanswered` will not come: its server gave no ids, or lost its session."""


class WayBack:
    """Leads one client on from its `Last-Event-ID`. Iterate `frames()` to its end, then look at `go_on`.

    `epoch` is that of the session now: a server's ids from before mean nothing to the server of today.
    """

    def __init__(self, keeper: StreamKeeper, session_id: str, place: EventPlace, *, epoch: int) -> None:
        self.go_on: GoOn | None = None
        """None until the frames have come to an end."""
        self.stream: ResumableStream | None = None
        """What is to be fed from now on; None when nothing is (`GoOn.NOT`)."""
        self.lost = 0
        """Events that nobody has any more."""
        self._keeper = keeper
        self._session_id = session_id
        self._place = place
        self._epoch = epoch
        self._position = place.position
        self._mark = place.mark
        self._info: StreamInfo | None = None  # as the log last had it
        self._is_checked = place.position == 0 or place.mark is None
        self._is_read_elsewhere = False
        self._is_announced = False
        self._silent_polls = 0

    @property
    def is_read_here(self) -> bool:
        """True when the stream is being read by this proxy, so that the frames go on and on."""
        kept = self._here()
        return kept is not None and kept.is_read

    def leave(self) -> None:
        """The client has left. When it had not come to the end, what is read here goes on without it."""
        here = self._here()
        if self.go_on is None and here is not None and here.is_read:
            self._keeper.leave(here.stream)

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield what the client misses, some whole frames at a time, for as long as the stream is read somewhere.

        Raises:
            StoreUnavailable: the log cannot be asked, and the client's id alone does not say how to go on.
        """
        while self.go_on is None:
            try:
                events = await self._read()
                if not events and self.go_on is None:
                    await self._decide()
            except StoreUnavailable:
                if not self._can_resume(self._mark):
                    raise
                self._begin_anew(GoOn.AT_SERVER)
                return
            frames = b"".join([self._pass(each) for each in events])
            if frames:
                yield frames

    def _here(self) -> KeptStream | None:
        return self._keeper.find(self._session_id, self._place.stream_id)

    def _can_resume(self, mark: UpstreamMark | None) -> bool:
        return mark is not None and mark.epoch == self._epoch

    def _pass(self, logged: LoggedEvent) -> bytes:
        """Step over an event; give its frame as it was sent before, or would have been."""
        self._position = logged.position
        self._silent_polls = 0
        data = logged.event.data
        if data in REMARKS:
            if data != CAME_BACK:
                self._is_read_elsewhere = data == STILL_READ
            self._silent_polls = _MAX_SILENT_POLLS if data == READ_NO_MORE else 0
            return b""
        if logged.event.upstream_id:
            self._mark = UpstreamMark.read(logged.event.upstream_id)
        place = EventPlace(self._place.stream_id, self._position, self._mark)
        return cut_at_id(data, 0, len(data)).with_id(str(place))

    async def _read(self) -> Sequence[LoggedEvent]:
        """Read the next events; none when there are none at the moment."""
        here = self._here()
        logged = None if here is None else here.stream.logged
        remembered = None if here is None else here.stream.unlogged_after(self._position)
        if remembered is not None:
            return remembered
        # The event before tells whether the log is of one mind with the client.
        start = self._position if self._is_checked else self._position - 1
        missed = await self._keeper.log.after(self._session_id, event_id(self._place.stream_id, start))
        self._info = None if missed is None else missed.stream
        lost = 0 if missed is None else missed.lost
        found = () if missed is None else missed.events
        if not self._is_checked:
            lost = max(0, lost - 1)
            self._is_checked = True
            if self._contradicts(found):
                await self._close_and_begin_anew(GoOn.AT_SERVER)
                return []
        events: Sequence[LoggedEvent] = [each for each in found if each.position > self._position]
        if not events and here is not None and here is self._here() and here.stream.logged == logged:
            # Nothing was written since, so what is neither in the log nor in memory is nowhere.
            lost, events = _gap_before_memory(here.stream, self._position)
        if lost and self._can_resume(self._mark):
            await self._close_and_begin_anew(GoOn.AT_SERVER)
            return []
        self.lost += lost
        self._position += 0 if events else lost
        return events

    def _contradicts(self, events: Sequence[LoggedEvent]) -> bool:
        """Two proxies wrote the stream for a moment, and the client has the other one's event at this position."""
        first = events[0] if events else None
        told = first.event.upstream_id if first is not None and first.position == self._position else ""
        return bool(told) and told != str(self._mark) and self._can_resume(self._mark)

    async def _decide(self) -> None:
        """Nothing is to be read now: wait for more, or find out how to go on."""
        here = self._here()
        if here is not None:
            if here.stream.unlogged_after(self._position) != []:
                return  # it was begun or written while the log was asked
            if here.is_read:
                await self._follow(here)
            else:
                self._take_up(here)
            return
        if self._info is None or (self._info.closed and not _is_for_answers(self._info)):
            # A server's own stream is never complete: it was closed since a client had gone on in another one.
            self._begin_anew(GoOn.AT_SERVER if self._can_resume(self._mark) else GoOn.ANEW)
        else:
            await self._decide_by_log(self._info)

    async def _follow(self, here: KeptStream) -> None:
        """Wait for more from a stream that is read here."""
        self._keeper.come_back(here.stream)
        if not self._is_announced:
            # Its server may have handed it to another proxy without a word; the log would know.
            self._is_announced = True
            here.tell(CAME_BACK)
            return
        await here.changed.wait()
        if here.is_given_up:
            self.go_on = GoOn.NOT

    async def _decide_by_log(self, info: StreamInfo) -> None:
        mark = UpstreamMark.read(info.upstream_event_id)
        is_behind = info.position < self._position
        if info.closed and not is_behind:
            self.go_on = GoOn.NOT
        elif self._is_read_elsewhere and self._silent_polls < _MAX_SILENT_POLLS:
            await self._wait()
        elif is_behind and self._can_resume(self._mark):
            await self._close_and_begin_anew(GoOn.AT_SERVER)
        elif not is_behind and self._can_resume(mark):
            await self._take_over(info, mark, GoOn.AT_SERVER)
        elif not _is_for_answers(info):
            await (self._close_and_begin_anew(GoOn.ANEW) if is_behind else self._take_over(info, None, GoOn.ANEW))
        elif mark is None and not info.closed and self._silent_polls < _MAX_SILENT_POLLS:
            await self._wait()  # whoever reads it may not have noticed that the client left
        else:
            await (self._close_and_begin_anew(GoOn.LOST) if is_behind else self._take_over(info, None, GoOn.LOST))

    async def _wait(self) -> None:
        self._silent_polls += 1
        await self._keeper.sleep(_POLL_S)

    def _take_up(self, here: KeptStream) -> None:
        """Go on with a stream that was read here until a moment ago and is not all in the log yet."""
        stream = here.stream
        if stream.is_complete:
            self.go_on = GoOn.NOT
            return
        self.go_on = (
            (GoOn.LOST if stream.purpose.requests else GoOn.ANEW)
            if stream.mark is None or stream.epoch != self._epoch
            else GoOn.AT_SERVER
        )
        here.is_read = True
        stream.reconnect(self._epoch)
        self.stream = stream

    async def _take_over(self, info: StreamInfo, mark: UpstreamMark | None, go_on: GoOn) -> None:
        """Make the stream ours at the position where the log is. Whoever is quicker gets it."""
        log = self._keeper.log
        claim = [Event(TAKEN_OVER)]
        if not await log.append(self._session_id, info.stream_id, claim, position=info.position):
            return
        history = await self._history(info.stream_id)
        known = [self._mark, mark, *(UpstreamMark.read(event.upstream_id) for event in history)]
        stream = self._keeper.keep(
            self._session_id,
            EventPlace(info.stream_id, info.position + 1, mark),
            epoch=self._epoch,
            purpose=StreamPurpose.read(info.label),
            is_opened=True,
            seen=[each for each in known if each is not None],
        )
        for event in history if stream.unanswered else ():
            for frame in SseParser().feed(event.data):
                stream.note_answers(frame.data)
        if stream.is_complete:
            self._keeper.release(stream)
            self.go_on = GoOn.NOT
            return
        stream.reconnect(self._epoch)
        self.stream, self.go_on = stream, go_on

    async def _history(self, stream_id: str) -> Sequence[Event]:
        """Read all that the log has of a stream: what its server sent before, it may repeat."""
        events: list[Event] = []
        position = 0
        while True:
            missed = await self._keeper.log.after(self._session_id, event_id(stream_id, position))
            if missed is None or not missed.events:
                return events
            events += [each.event for each in missed.events]
            position = missed.events[-1].position

    async def _close_and_begin_anew(self, go_on: GoOn) -> None:
        """Lead the client on in a new stream: the log of the old one is of no use to it, which whoever writes it hears.

        What is read here is given up without that: its log may be good for a client that comes back for it once more.
        """
        info = self._info
        if self._here() is None and info is not None and not info.closed:
            with suppress(StoreUnavailable):  # then its writer goes on, and who comes back for it is led here again
                await self._keeper.log.close_stream(self._session_id, info.stream_id)
        self._begin_anew(go_on)

    def _begin_anew(self, go_on: GoOn) -> None:
        """Lead the client on in a new stream, from what it has."""
        info, here = self._info, self._here()
        purpose = StreamPurpose() if info is None else StreamPurpose.read(info.label)
        if here is not None:
            purpose = here.stream.purpose
            self._keeper.give_up(here.stream)
        mark = self._mark if go_on is GoOn.AT_SERVER else None
        stream = self._keeper.keep(
            self._session_id,
            EventPlace(new_stream_id(), 0, mark),
            epoch=self._epoch,
            purpose=purpose,
            seen=[] if mark is None else [mark],
        )
        stream.reconnect(self._epoch)
        self.stream, self.go_on = stream, go_on


def _gap_before_memory(stream: ResumableStream, position: int) -> tuple[int, Sequence[LoggedEvent]]:
    """Tell how many events behind a position are not in memory, and give those after them."""
    return stream.position - len(stream.unlogged) - position, list(stream.unlogged)


def _is_for_answers(info: StreamInfo) -> bool:
    return bool(StreamPurpose.read(info.label).requests)


def way_back(keeper: StreamKeeper, session_id: str, last_event_id: str, *, epoch: int) -> WayBack | None:
    """Find the way back for a client that sent `Last-Event-ID`. Returns None when the id is none of ours.

    Such an id is the server's own business: it passes as it came.
    """
    place = EventPlace.read(last_event_id)
    return None if place is None else WayBack(keeper, session_id, place, epoch=epoch)
