"""What all exchanges of a proxy share on their ways: sessions, streams, time, and what is counted."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from shadowcat_core.jsonrpc import JsonRpcId
from shadowcat_core.limits import REOPENING_MS
from shadowcat_core.relay.counts import RelayCounts
from shadowcat_core.resumption import ResumableStream, StreamKeeper
from shadowcat_core.sessions import SessionMapping
from shadowcat_core.sessions.manager import Revived, SessionManager
from shadowcat_core.upstreams import HintBook


class Carried(Protocol):
    """Whoever carries a stream to its client."""

    def taken(self) -> None:
        """Another proxy reads the stream now, or its session has ended."""
        ...

    def cancel(self, request_id: JsonRpcId) -> None:
        """The client does not want the answer to a request any more; it may be one of another stream's."""
        ...

    def is_behind(self, epoch: int) -> bool:
        """True while the stream has not come to this epoch of its session, and may yet."""
        ...


@dataclass(slots=True)
class World:
    """The surroundings of each exchange. `clock_s` is monotonic.

    `catch_up` makes sure that what passed has been read, such as the list of tools whose hints tell what may be called
    again. `on_moved` hears of each session that was begun anew here: where it was, and where it is.
    """

    manager: SessionManager
    keeper: StreamKeeper
    clock_s: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    catch_up: Callable[[], object] = lambda: None
    on_moved: Callable[[SessionMapping, Revived], object] = lambda _before, _revived: None
    is_routed: Callable[[str], bool] = lambda _upstream: False
    """Whether a route has an upstream of that name."""
    counts: RelayCounts = field(default_factory=RelayCounts)
    books: defaultdict[str, HintBook] = field(default_factory=lambda: defaultdict(HintBook))
    """What servers say of their tools, by route."""
    carried: dict[ResumableStream, Carried] = field(default_factory=dict)
    """Streams that are read from their servers now, and who carries them."""
    listeners: dict[str, Carried] = field(default_factory=dict)
    """Who carries a server's own stream (GET), by session."""
    _reopenings: dict[str, asyncio.Event] = field(default_factory=dict)
    in_use: Counter[str] = field(default_factory=Counter)
    """How many exchanges are on their way, by session: each keeps its session from being idle."""
    left: int = 0
    """Streams that are read without their clients just now."""

    def moved(self, before: SessionMapping, revived: Revived) -> None:
        """A session goes on elsewhere."""
        self.counts.sessions_moved += 1
        self.on_moved(before, revived)

    def opened(self, session_id: str) -> None:
        """An exchange of this session has begun."""
        self.in_use[session_id] += 1

    def closed(self, session_id: str) -> None:
        """An exchange of this session is over."""
        self.in_use[session_id] -= 1
        if not self.in_use[session_id]:
            del self.in_use[session_id]

    def cancelled(self, session_id: str, request_id: JsonRpcId) -> None:
        """A client has cancelled a request of this session, wherever its answer comes."""
        for stream, carried in self.carried.items():
            if stream.session_id == session_id:
                carried.cancel(request_id)

    async def listen_again(self, mapping: SessionMapping) -> None:
        """Wait a little for the stream of a session that was begun anew, so that nothing is sent before it is there.

        What a server says unasked on account of a request would else reach nobody.
        """
        if not self._is_behind(mapping):
            return
        waits = [
            asyncio.ensure_future(self.sleep(int(REOPENING_MS) / 1000)),
            asyncio.ensure_future(self._reopening(mapping)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def listener_changed(self, session_id: str) -> None:
        """A server's own stream goes on, is over, or is somebody else's: who waits for it looks again."""
        waited_for = self._reopenings.pop(session_id, None)
        if waited_for is not None:
            waited_for.set()

    async def _reopening(self, mapping: SessionMapping) -> None:
        while self._is_behind(mapping):
            await self._reopenings.setdefault(mapping.session_id, asyncio.Event()).wait()

    def _is_behind(self, mapping: SessionMapping) -> bool:
        listener = self.listeners.get(mapping.session_id)
        return listener is not None and listener.is_behind(mapping.epoch)
