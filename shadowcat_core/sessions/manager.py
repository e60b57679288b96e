"""Sessions as a client sees them: begun once, used under one id, moved behind its back, ended.

It belongs to one event loop. It decides and remembers; the requests themselves go through whoever calls it.
`docs/sessions.md` says which step of a proxy calls what.

Source: MCP 2025-11-25, Basic / Transports / Session Management.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Final

from shadowcat_core.errors import RevivalTooLate, StoreError
from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import (
    ENDING_TIMEOUT_S,
    EXPIRE_BATCH_SESSIONS,
    MAX_ENDINGS,
    MAX_REVIVALS,
    REVIVAL_TIMEOUT_S,
    SESSION_IDLE_TTL_MS,
    SESSION_LIFETIME_MS,
    VOUCHING_TIMEOUT_S,
)
from shadowcat_core.sessions.credentials import CredentialBinder, Likeness
from shadowcat_core.sessions.lifecycle import Ask, Headers, Refusal, own_headers
from shadowcat_core.sessions.lifecycle_revival import Begun, Reviver
from shadowcat_core.sessions.model import ClockMs, Handshake, SessionMapping, SessionTimes, Upstream, begin_session
from shadowcat_core.sessions.store import SessionStore, wall_clock_ms
from shadowcat_core.sessions.vouching import Verdict, Vouching

_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class Revived:
    """Where a session goes on. `changes` say, for people, what its server now does not do as the one before."""

    mapping: SessionMapping
    changes: tuple[str, ...] = ()


class SessionManager:
    """The life cycle of all sessions of the stateful era.

    Args:
        ask: sends requests of our own: `initialize` to a new server, DELETE to an old one, `ping` about a new token.
        on_unended: hears of each upstream session that could not be ended. Its server ends it when it is idle.
    """

    def __init__(
        self,
        store: SessionStore,
        binder: CredentialBinder,
        ask: Ask,
        *,
        clock_ms: ClockMs = wall_clock_ms,
        idle_ttl_ms: int = SESSION_IDLE_TTL_MS,
        lifetime_ms: int = SESSION_LIFETIME_MS,
        revival_timeout_s: float = REVIVAL_TIMEOUT_S,
        ending_timeout_s: float = ENDING_TIMEOUT_S,
        vouching_timeout_s: float = VOUCHING_TIMEOUT_S,
        on_unended: Callable[[Upstream, str], object] = lambda _upstream, _reason: None,
    ) -> None:
        self._store = store
        self._binder = binder
        self._ask = ask
        self._clock_ms = clock_ms
        self._idle_ttl_ms = idle_ttl_ms
        self._lifetime_ms = lifetime_ms
        self._revival_timeout_s = revival_timeout_s
        self._ending_timeout_s = ending_timeout_s
        self._on_unended = on_unended
        self.on_revived: Callable[[SessionMapping, Revived], object] = lambda _before, _revived: None
        """Hears once of each session that was begun anew here, however many asked for it: where it was, and is."""
        self._vouching = Vouching(ask, clock_ms=clock_ms, timeout_s=vouching_timeout_s)
        self._endings = asyncio.Semaphore(MAX_ENDINGS)
        self._turns = asyncio.Semaphore(MAX_REVIVALS)
        self._revivals: dict[str, asyncio.Task[Revived | Refusal]] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def begin(
        self, upstream: Upstream, handshake: Handshake, protocol_version: str, authorization: str | None
    ) -> SessionMapping:
        """Keep a session that a server has just begun. Its `session_id` is what the client gets to know.

        Raises:
            StoreFull, StoreUnavailable: it cannot be kept. The server has a session that nobody will use.
        """
        times = SessionTimes.starting(self._clock_ms(), idle_ttl_ms=self._idle_ttl_ms, lifetime_ms=self._lifetime_ms)
        credential = self._binder.bind(authorization)
        record = begin_session(upstream, handshake, protocol_version, credential=credential, times=times)
        if not await self._store.create(record):
            raise StoreError("a session id that nobody could have guessed is taken: this is no store of sessions")
        return record.mapping

    async def use(
        self, session_id: str, authorization: str | None, headers: Headers = (), *, voucher: str | None = None
    ) -> SessionMapping | Refusal:
        """Find the way of a request, or why it has none. One step of the store.

        A refreshed token of the session's holder is shown to a server first, with `headers` as to `revive`, and then
        bound. `voucher` is the name of that server; without it the session's own is asked.

        Raises:
            StoreUnavailable: nobody can say whether there is such a session; answer 503, which ends nothing.
        """
        mapping = await self._store.touch(session_id)
        if mapping is None:
            return Refusal.UNKNOWN
        match self._binder.compare(mapping.credential, authorization):
            case Likeness.SAME:
                return mapping
            case Likeness.RENEWED if authorization is not None:
                return await self._renew(mapping, authorization, headers, voucher or mapping.upstream.name)
            case _:
                return Refusal.UNKNOWN

    async def note(self, session_id: str, method: str | None, params: Json) -> bool:
        """Note what a server has agreed to, with a result, of `lifecycle.NOTED_METHODS`. False when nothing was noted.

        Raises:
            StoreFull: too many subscriptions. This one is not repeated at another server.
            StoreUnavailable: it may not be repeated.
        """
        uri, level = (params.get("uri"), params.get("level")) if isinstance(params, dict) else (None, None)
        match method:
            case "resources/subscribe" if isinstance(uri, str):
                return await self._store.add_subscription(session_id, uri)
            case "resources/unsubscribe" if isinstance(uri, str):
                return await self._store.remove_subscription(session_id, uri)
            case "logging/setLevel" if isinstance(level, str):
                return await self._store.set_log_level(session_id, level)
            case _:
                return False

    async def revive(self, mapping: SessionMapping, upstream: str, headers: Headers = ()) -> Revived | Refusal:
        """Begin a session anew at the server of that name, since the one that `mapping` tells is dead.

        Callers that ask for the same session while this goes on wait for the same answer, whatever server they name.
        Who comes late, here or from another proxy, gets what is in force. `headers` are what the server wants to see
        of the caller: its Authorization above all, which is kept nowhere.

        Raises:
            SessionNotRevived: this server will not do (`VersionChanged` says one reason), or not now
                (`RevivalTooLate`). The session is as it was.
            StoreUnavailable: the store does not answer.
        """
        while True:
            running = self._revivals.get(mapping.session_id)
            if running is None or running.done():
                running = asyncio.get_running_loop().create_task(self._revive(mapping, upstream, headers))
                self._revivals[mapping.session_id] = running
                running.add_done_callback(lambda task: self._revived(mapping.session_id, task))
            # A caller that leaves takes nothing from the others.
            revived = await asyncio.shield(running)
            if isinstance(revived, Refusal) or revived.mapping.epoch > mapping.epoch:
                return revived

    async def end(self, session_id: str, headers: Headers = ()) -> SessionMapping | None:
        """End a session here and at its server, which need not be there. Returns None when there was none."""
        mapping = await self._store.end(session_id)
        if mapping is not None:
            await self._end_upstream(mapping.upstream, mapping.protocol_version, headers)
        return mapping

    async def end_deleted(self, mapping: SessionMapping, status: int) -> bool:
        """End a session whose client sent DELETE, which its server answered with `status`.

        Returns False when it goes on: the server lets no client end it (405), wants another token, or failed. A 404
        ends it; the client, who did nothing wrong, is to be told 200.
        """
        if not 200 <= status < 300 and status != _NOT_FOUND:
            return False
        await self._store.end(mapping.session_id)
        return True

    async def sweep(self, limit: int = EXPIRE_BATCH_SESSIONS) -> int:
        """Take away at most `limit` expired sessions. Returns how many; they are ended at their servers meanwhile.

        While too many servers have still to be told of others, fewer are taken. Servers that want a token refuse: it
        is kept nowhere. They end such sessions when those are idle for long.
        """
        room = min(limit, EXPIRE_BATCH_SESSIONS - len(self._background))
        if room <= 0:
            return 0
        expired = await self._store.expire(room)
        for each in expired:
            self._later(self._end_upstream(each.upstream, each.protocol_version))
        return len(expired)

    async def aclose(self) -> None:
        """Give up revivals and questions, and wait for what is being ended, twice the time of one at most."""
        await self._vouching.aclose()
        for task in self._revivals.values():
            task.cancel()
        await asyncio.gather(*self._revivals.values(), return_exceptions=True)
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=2 * self._ending_timeout_s)
            for ending in late:
                ending.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _renew(
        self, mapping: SessionMapping, authorization: str, headers: Headers, voucher: str
    ) -> SessionMapping | Refusal:
        """Bind a session to a refreshed token, if a server says that it is genuine."""
        match await self._vouching.ask(mapping, voucher, authorization, headers):
            case Verdict.REFUSED:
                return Refusal.UNKNOWN
            case Verdict.UNSAID:
                return Refusal.UNVOUCHED
            case Verdict.GENUINE:
                credential = self._binder.bind(authorization)
        while not await self._store.rebind_credential(mapping.session_id, mapping.credential, credential):
            # It has ended meanwhile, or another token of the same holder was quicker.
            bound = await self._store.touch(mapping.session_id)
            if bound is None or self._binder.compare(bound.credential, authorization) is Likeness.OTHER:
                return Refusal.UNKNOWN
            mapping = bound
        return replace(mapping, credential=credential)

    async def _revive(self, mapping: SessionMapping, upstream: str, headers: Headers) -> Revived | Refusal:
        async with self._turns:  # waiting for it takes nothing of the server's time
            return await self._revive_now(mapping, upstream, headers)

    async def _revive_now(self, mapping: SessionMapping, upstream: str, headers: Headers) -> Revived | Refusal:
        record = await self._store.get(mapping.session_id)
        if record is None:
            return Refusal.UNKNOWN
        if record.mapping.epoch > mapping.epoch:
            return Revived(record.mapping)
        reviver = Reviver(self._ask, record, upstream, headers)
        in_force: SessionMapping | None = None
        begun: Begun | None = None
        try:
            async with asyncio.timeout(self._revival_timeout_s):
                begun = await reviver.revive()
            in_force = await self._store.rebind(mapping.session_id, record.mapping.epoch, begun.upstream)
        except TimeoutError as exc:
            raise RevivalTooLate(upstream, f"it was not ready within {self._revival_timeout_s:g} s") from exc
        finally:
            # Nobody uses what was begun in vain: too late, not to the end, or for a session that is over.
            if reviver.begun is not None and (in_force is None or in_force.upstream != reviver.begun.upstream):
                self._later(self._end_upstream(reviver.begun.upstream, mapping.protocol_version, headers))
        if in_force is None:
            return Refusal.UNKNOWN
        if in_force.upstream != begun.upstream:
            return Revived(in_force)
        revived = Revived(in_force, tuple(begun.changes))
        self.on_revived(record.mapping, revived)
        return revived

    def _revived(self, session_id: str, task: asyncio.Task[Revived | Refusal]) -> None:
        if self._revivals.get(session_id) is task:
            del self._revivals[session_id]
        if not task.cancelled():
            task.exception()  # known to whoever still waits; if nobody does, it is no news

    def _later(self, ending: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(ending)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end_upstream(self, upstream: Upstream, version: str, headers: Headers = ()) -> None:
        """Tell a server that its session is over, if it can be told."""
        if upstream.session_id is None:
            return
        async with self._endings:
            try:
                async with asyncio.timeout(self._ending_timeout_s):
                    own = own_headers(version, upstream.session_id, headers)
                    answer = await self._ask(upstream.name, "DELETE", own, b"")
            except OSError as exc:
                self._on_unended(upstream, str(exc) or type(exc).__name__)
                return
        if answer.status >= 400 and answer.status != _NOT_FOUND:
            self._on_unended(upstream, f"status {answer.status}")
