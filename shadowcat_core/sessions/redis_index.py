"""The index of a Redis store: which sessions there are, in order, when they may be over, and who stands for whom.

It is in other slots than the sessions, so it follows them a moment later: what was begun and is not there yet, or is
gone and still there, is noticed when it is read.
"""

from collections.abc import Sequence
from typing import Final

from shadowcat_core.sessions import redis_scripts as scripts
from shadowcat_core.sessions.model import SessionMapping, SessionTimes, Upstream
from shadowcat_core.sessions.redis_keys import Keys, order_member, session_of_member
from shadowcat_core.sessions.redis_link import Call, RedisLink


class RedisIndex:
    """Makes the calls that keep the index; the store sends them together with its own."""

    NEW: Final = 2
    """What `enlist` answers for a session that was not there; 1 for one that was, 0 when there is no room."""

    __slots__ = ("_keys", "_link", "_max_sessions")

    def __init__(self, link: RedisLink, keys: Keys, max_sessions: int) -> None:
        self._link = link
        self._keys = keys
        self._max_sessions = int(max_sessions)

    def enlist(self, mapping: SessionMapping, times: SessionTimes, *, merge: bool) -> Call:
        """Add a session; with `merge`, note what is later of one that is there: its epoch, upstream and time."""
        session = (mapping.session_id, f"{times.created_ms:016x}", times.expires_ms)
        place = (mapping.epoch, mapping.upstream.name)
        return Call(scripts.ENLIST, self._keys.index, (*session, *place, self._max_sessions, int(merge)))

    def delist(self, session_id: str, *due_ms: int) -> Call:
        """Remove a session; with a moment, unless it is due later."""
        return Call(scripts.DELIST, self._keys.index, (session_id, *due_ms))

    def name(self, upstream: Upstream, session_id: str, ttl_ms: int) -> Sequence[Call]:
        """Say who stands for an upstream's session."""
        if upstream.session_id is None:
            return []
        return [Call(scripts.NAME, self._keys.name(upstream), (session_id, ttl_ms))]

    def unname(self, upstream: Upstream, session_id: str) -> Sequence[Call]:
        """Take that back, unless another stands for it now."""
        if upstream.session_id is None:
            return []
        return [Call(scripts.UNNAME, self._keys.name(upstream), (session_id,))]

    def gone(self, mapping: SessionMapping, *due_ms: int) -> Sequence[Call]:
        """Forget a session that was ended, or is over since a moment."""
        return [self.delist(mapping.session_id, *due_ms), *self.unname(mapping.upstream, mapping.session_id)]

    def postpone(self, session_id: str, due_ms: int) -> Call:
        """Note that a session cannot be over before a later moment."""
        return Call(scripts.POSTPONE, self._keys.index, (session_id, due_ms))

    async def named(self, upstream: Upstream) -> str | None:
        """Ask who stands for an upstream's session: an answer to check, the session may have moved."""
        if upstream.session_id is None:
            return None
        answer = await self._link.run(Call(scripts.NAMED, self._keys.name(upstream)))
        return None if answer is None else str(answer, "ascii")

    async def due(self, now_ms: int, limit: int) -> Sequence[str]:
        """Ask which sessions may be over."""
        answer = await self._link.run(Call(scripts.DUE, self._keys.index, (now_ms, limit)))
        return [str(session_id, "ascii") for session_id in answer]

    async def page(self, start: tuple[int, str] | None, limit: int) -> Sequence[tuple[int, str]]:
        """Read beginnings and ids of sessions in order, behind `start`."""
        lowest = "-" if start is None else "(" + order_member(*start)
        answer = await self._link.run(Call(scripts.PAGE, self._keys.index, (lowest, limit)))
        return [session_of_member(member) for member in answer]

    async def count(self, upstream: str | None) -> int:
        """Count all, or those of one server."""
        answer = await self._link.run(Call(scripts.COUNT, self._keys.index, () if upstream is None else (upstream,)))
        return int(answer)
