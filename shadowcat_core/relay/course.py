"""The upstreams that one exchange is tried at, one after the other, until one takes it or patience ends."""

from collections.abc import Callable
from typing import Final

from shadowcat_core.errors import RevivalTooLate, SessionNotRevived
from shadowcat_core.relay.counts import RelayCounts
from shadowcat_core.relay.world import World
from shadowcat_core.sessions import SessionMapping
from shadowcat_core.sessions.lifecycle import Headers, Refusal
from shadowcat_core.upstreams import FailureKind, Failures, Member, Pool

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
MAX_MOVES: Final = 4
"""Times that one exchange finds its session lost and begins it anew, before it believes the server."""


class Course:
    """Picks upstreams, moves the session where it must, and reports once what became of each attempt.

    `mapping` is the session's, None for what belongs to none; `member` the upstream of the attempt that is on.
    """

    def __init__(self, world: World, pool: Pool, key: str | None, caller: Headers, *, listens: bool = False) -> None:
        """Make a course; `listens` says that it is the way of a server's own stream (GET)."""
        self.pool = pool
        self.mapping: SessionMapping | None = None
        self.member: Member | None = None
        self.failures = Failures()
        """Who was tried, and why it failed."""
        self._world = world
        self._key = key
        self._caller = caller
        self._listens = listens
        self._is_reported = True
        self._lost_epoch = 0  # up to this one the session is known to be lost
        self._moves = 0
        self._begun_epoch = 0  # the session of this one was begun on account of this exchange
        self._attempts = 0
        self._spent = 0  # attempts that reached a server, which no patience gives back
        self._has_waited = False
        self._excluded: set[Member] = set()
        self._refusing: set[Member] = set()
        self._pause_s = _FIRST_PAUSE_S
        self._deadline: float | None = None

    @property
    def counts(self) -> RelayCounts:
        """What happened in the whole proxy."""
        return self._world.counts

    @property
    def upstream(self) -> str:
        """The name of the upstream of the attempt that is on; empty before the first."""
        return "" if self.member is None else self.member.name

    @property
    def spent(self) -> int:
        """How many attempts reached a server and came to nothing."""
        return self._spent

    async def go(self, *, anywhere: bool = True, waits: bool = True) -> Member | Refusal | None:
        """Find the upstream for the next attempt; None when nobody takes it, however long one waits, if one does.

        Not `anywhere` means that only the session's own upstream will do, in the same upstream session; without a
        session, the one that it was sent to.

        Raises:
            StoreUnavailable: the session would have to move, and the store does not answer.
        """
        while True:
            member = self._pick(anywhere)
            if member is None:
                if not waits or not await self._wait():
                    return None
                continue
            self._begin(member)
            mapping = self.mapping
            if mapping is None or not self._must_move(mapping, member):
                return member
            if not anywhere or self._moves >= MAX_MOVES:
                self.released()
                return None
            moved = await self._move(mapping, member)
            if moved is not None:
                return moved

    def succeeded(self) -> None:
        """The head of an answer came."""
        self._report(lambda pool, member: pool.succeeded(member))

    def failed(self, kind: FailureKind, reason: str, *, leaves: bool = True) -> None:
        """The attempt failed; another one may follow. `leaves` means that others are to be tried before it."""
        if self.member is not None:
            self.failures.add(self.member.name, reason or str(kind))
            if leaves:
                self._excluded.add(self.member)
        if kind is not FailureKind.CONNECT:
            self._spent += 1
        self._report(lambda pool, member: pool.failed(member, kind, reason))

    def released(self) -> None:
        """Nothing came of the attempt, neither good nor bad."""
        self._report(lambda pool, member: pool.released(member))

    def lost(self) -> None:
        """The upstream says that it does not know the session."""
        self._lost_epoch = 0 if self.mapping is None else self.mapping.epoch
        self._begin_round()

    def found(self) -> None:
        """The session works where it is now: how often it was lost before counts no more."""
        self._moves = 0

    def anew(self, mapping: SessionMapping | None, *, is_first: bool, spent: int = 0) -> None:
        """Go another time, for a stream that goes on; `mapping` is where its session is by now, if it has one.

        Unless it is the first time since the stream worked, those that failed are not tried before others. So many
        attempts as are `spent` count as made.
        """
        self.mapping = mapping
        self._attempts = self._spent = spent
        if is_first:
            self._refusing.clear()
            self._begin_round()
        self._pause_s, self._deadline = _FIRST_PAUSE_S, None

    @property
    def is_refused(self) -> bool:
        """True when an upstream that works will not have the session."""
        return bool(self._refusing)

    @property
    def may_move(self) -> bool:
        """True while it makes sense to begin the session anew."""
        return self._moves < MAX_MOVES

    @property
    def is_just_begun(self) -> bool:
        """True when the session that is lost was begun anew for this very attempt."""
        return self.mapping is not None and self.mapping.epoch == self._begun_epoch

    def _report(self, tell: Callable[[Pool, Member], object]) -> None:
        if not self._is_reported and self.member is not None:
            self._is_reported = True
            tell(self.pool, self.member)

    def _begin_round(self) -> None:
        """Let all upstreams be tried once more."""
        self._attempts = self._spent
        self._excluded = set(self._refusing)

    def _begin(self, member: Member) -> None:
        self.member = member
        self._is_reported = False
        self._attempts += 1

    def _pick(self, anywhere: bool) -> Member | None:
        if self._attempts >= self.pool.route.retry.attempts:
            return None
        bound = None if self.mapping is None else self.mapping.upstream.name
        if anywhere:
            return self.pool.pick(self._key, bound=bound, exclude=self._excluded)
        if bound is None and self.member is not None:
            bound = self.member.name
        others = [member for member in self.pool.members() if member.name != bound]
        return self.pool.pick(self._key, bound=bound, exclude=[*others, *self._excluded])

    def _must_move(self, mapping: SessionMapping, member: Member) -> bool:
        if mapping.epoch <= self._lost_epoch:
            return True
        return self.pool.route.sticky and member.name != mapping.upstream.name

    async def _move(self, mapping: SessionMapping, member: Member) -> Member | Refusal | None:
        """Begin the session anew at an upstream; None when that upstream will not do."""
        try:
            revived = await self._world.manager.revive(mapping, member.name, self._caller)
        except SessionNotRevived as exc:
            self.counts.sessions_not_moved += 1
            if isinstance(exc.__cause__, OSError) and not isinstance(exc, RevivalTooLate):
                self.failed(FailureKind.CONNECT, str(exc))
                return None
            self.failures.add(member.name, str(exc))
            self._excluded.add(member)
            if not isinstance(exc, RevivalTooLate):  # it works, and will not have the session
                self._refusing.add(member)
            self.released()
            return None
        if isinstance(revived, Refusal):
            self.released()
            return revived
        self._moves += 1
        self._begun_epoch = revived.mapping.epoch
        self.mapping = revived.mapping
        if not self._listens:
            await self._world.listen_again(revived.mapping)
        if revived.mapping.upstream.name == member.name:
            return member
        # Somebody was quicker, with another server.
        self.released()
        found = self.pool.member(revived.mapping.upstream.name)
        if found is not None:
            self._begin(found)
        return found

    async def _wait(self) -> bool:
        """Wait a while for an upstream to come back; False when there is no use in it."""
        now = self._world.clock_s()
        if self._deadline is None:
            self._deadline = now + self.pool.route.retry.patience_s
        if self._spent >= self.pool.route.retry.attempts or now + self._pause_s > self._deadline:
            return False
        if self.pool.retry_in_s() is None or self._refusing.issuperset(self.pool.members()):
            return False
        if not self._has_waited:
            self._has_waited = True
            self.counts.waited += 1
        self.pool.hurry()
        await self._world.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._begin_round()
        return True
