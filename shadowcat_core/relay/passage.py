"""One exchange on its way through sessions and upstreams: where it goes, what its answer means, what follows a failure.

Whoever has the connections asks, in this order: `begin` for the first step; `failed` when an attempt has no answer;
`heard` for the head of an answer, and `decide` where that wants more; then the answer's stream is `carriage`'s affair;
`close` at the end, however it comes. `docs/sessions.md` has the order as a table.

Source: MCP 2025-11-25, Basic / Transports; `docs/upstreams.md` for what may be sent again.
"""

from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

from shadowcat_core.errors import MessageTooLarge, StoreError, StoreUnavailable
from shadowcat_core.jsonrpc import dump
from shadowcat_core.limits import MAX_HANDSHAKE_BYTES, MAX_REFUSAL_BYTES
from shadowcat_core.mcp import SESSION_ID_HEADER, Era, HeaderLookup
from shadowcat_core.messages import Message, RpcError
from shadowcat_core.relay import answers
from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.carriage import Carriage
from shadowcat_core.relay.course import Course
from shadowcat_core.relay.legs import request_leg
from shadowcat_core.relay.repeats import may_repeat
from shadowcat_core.relay.said import LOST, NOT_FOUND, answered_in, says_lost
from shadowcat_core.relay.steps import Decided, Gather, GoOn, Heard, Leg, Pass, Reply, Tail
from shadowcat_core.relay.world import World
from shadowcat_core.resumption import WayBack, way_back
from shadowcat_core.sessions import Handshake, SessionMapping, Upstream
from shadowcat_core.sessions.lifecycle import UPSTREAM_FAILS, Refusal, response_edits
from shadowcat_core.upstreams import (
    FailureKind,
    Failures,
    GiveUp,
    Member,
    Pool,
    Retry,
    SendAgain,
    may_retry,
    unreachable,
)

_OK: Final = 200


class Passage:
    """The way of one exchange. `carriage` is its event stream, once there is one that a client can come back for."""

    def __init__(self, world: World, pool: Pool, asked: Asked) -> None:
        self.pool = pool
        self.asked = asked
        self.carriage: Carriage | None = None
        self._world = world
        self._course = Course(
            world, pool, pool.key(asked.session_id, asked.headers), asked.caller, listens=asked.method == "GET"
        )
        self._counted_at: str | None = None
        self._used: str | None = None  # the session that this exchange keeps from being idle
        self._may_have_run = False
        world.counts.requests += 1

    @property
    def mapping(self) -> SessionMapping | None:
        """The session that it belongs to; None when it belongs to none."""
        return self._course.mapping

    @property
    def upstream(self) -> str:
        """The name of the server that has it now; empty before."""
        return self._course.upstream

    async def begin(self) -> Leg | Reply | WayBack:
        """Find out where the request goes, or that it goes nowhere, or that its client is led back into a stream."""
        asked = self.asked
        if asked.session_id is not None and asked.initialize is None:
            try:
                found = await self._use(asked.session_id)
            except StoreUnavailable as exc:
                return answers.store_away(asked, str(exc))
            if isinstance(found, Refusal):
                return self._refuse(found)
            its = found.upstream.name
            if self.pool.member(its) is None and self._world.is_routed(its):
                # Who is let to one route has not been let to the servers of another.
                return self._refuse(Refusal.UNKNOWN)
            self._course.mapping = found
            self._used = found.session_id
            self._world.opened(self._used)
            for request_id in asked.cancelled:
                self._world.cancelled(self._used, request_id)
            if asked.method == "DELETE" and not self._is_there(found.upstream.name):
                return await self._end_unheard(found)
            if asked.last_event_id is not None:
                way = way_back(self._world.keeper, found.session_id, asked.last_event_id, epoch=found.epoch)
                if way is not None:
                    self._world.counts.streams_resumed += 1
                    self.carriage = Carriage(self._world, self._course, asked, way=way)
                    return way
        return await self._go()

    async def failed(self, kind: FailureKind, reason: str, *, sent: bool) -> Leg | Reply:
        """An attempt has failed before the head of an answer came: find the next one, or what to say.

        `sent` tells whether any byte of the request may have left.
        """
        self._course.failed(kind, reason)
        if self.asked.method == "DELETE" and self.mapping is not None:
            return await self._end_unheard(self.mapping)
        self._may_have_run |= sent
        decision = self._may_repeat(sent=sent)
        if isinstance(decision, GiveUp):
            return self._give_up()
        return await self._go(again=True, anywhere=decision.anywhere)

    def heard(self, status: int, headers: HeaderLookup) -> Heard:
        """Say what becomes of an answer whose head is here."""
        asked, mapping = self.asked, self.mapping
        carriage = self.carriage
        if carriage is not None and carriage.is_reconnecting:
            if status not in UPSTREAM_FAILS:
                self._course.succeeded()
            return carriage.heard(status, headers)
        if status in UPSTREAM_FAILS:
            return Gather(MAX_REFUSAL_BYTES)
        self._course.succeeded()
        if mapping is None:
            initialize = asked.initialize
            if initialize is not None and status == _OK and asked.era is not Era.MODERN:
                return Gather(
                    MAX_HANDSHAKE_BYTES, lambda body: answered_in(initialize, status, headers, body) is not None
                )
            return self._let_pass(status, headers)
        if asked.method == "DELETE" or (status in LOST and self._course.may_move):
            return Gather(MAX_REFUSAL_BYTES)
        return self._let_pass(status, headers)

    async def decide(self, status: int, headers: HeaderLookup, body: bytes) -> Decided:
        """Say what becomes of an answer, with as much of its body as `heard` asked for."""
        asked, mapping = self.asked, self.mapping
        carriage = self.carriage
        if carriage is not None and carriage.is_reconnecting:
            return await self._decide_about_reconnection(carriage, status, headers, body)
        if status in UPSTREAM_FAILS:
            return await self._decide_about_failure(status, headers)
        if mapping is None:
            return await self._begin_session(status, headers, body)
        if asked.method == "DELETE":
            its = NOT_FOUND if self._says_lost(status, headers, body) else status
            return await self._decide_about_deletion(mapping, its, headers)
        # Who does not know what he has just begun has said no to what was asked; 404 is for sessions alone.
        if self._says_lost(status, headers, body) and (status == NOT_FOUND or not self._course.is_just_begun):
            return await self._find_again(status, headers)
        return self._let_pass(status, headers)

    async def go_on(self, *, broken: str | None, reached: bool = True) -> Leg | Tail:
        """The server's stream is over, or the way back has come to its end: how the client's goes on.

        `broken` says why it broke off; None when it ended in good order. `reached` is False when it could not even be
        connected to.
        """
        if self.carriage is None:
            return Tail(cut=broken)
        return await self._followed(self.carriage, self.carriage.go_on(broken=broken, reached=reached))

    async def reconnection_failed(self, kind: FailureKind, reason: str) -> Leg | Tail:
        """An attempt to go on with a stream has failed before it was answered."""
        self._course.failed(kind, reason)
        return await self.go_on(broken=reason, reached=kind is not FailureKind.CONNECT)

    def leave(self) -> bool:
        """The client has left. True when the server is to be read on for it."""
        return self.carriage is not None and self.carriage.leave()

    def close(self) -> None:
        """The exchange is over, however that came."""
        self._course.released()
        if self._used is not None:
            self._world.closed(self._used)
            self._used = None
        if self.carriage is not None:
            self.carriage.release()
        if self._counted_at is not None and self.mapping is None:
            self.pool.session_ended(self._counted_at)

    # --- Requests ------------------------------------------------------------------------------------------------

    async def _go(self, *, again: bool = False, anywhere: bool = True) -> Leg | Reply:
        try:
            found = await self._next(again=again, anywhere=anywhere)
        except StoreUnavailable as exc:
            return self._store_away(exc)
        if isinstance(found, Refusal):
            return self._refuse(found)
        return self._unreachable() if found is None else found

    async def _next(self, *, again: bool = False, anywhere: bool = True) -> Leg | Refusal | None:
        found = await self._course.go(anywhere=anywhere)
        if not isinstance(found, Member):
            return found
        if again:
            self._world.counts.sent_again += 1
        if self.asked.initialize is not None:
            self._count_session(found)
        return request_leg(self.pool, self.asked, self.mapping, found)

    def _store_away(self, why: Exception) -> Reply:
        return answers.store_away(self.asked, str(why), may_have_run=self._may_have_run)

    async def _use(self, session_id: str) -> SessionMapping | Refusal:
        """Find the session. When its server is gone, another one can vouch for a token that was refreshed meanwhile."""
        asked, manager = self.asked, self._world.manager
        found = await manager.use(session_id, asked.authorization, asked.caller)
        if found is not Refusal.UNVOUCHED:
            return found
        for member in self.pool.candidates():
            try:
                found = await manager.use(session_id, asked.authorization, asked.caller, voucher=member.name)
            finally:
                self.pool.released(member)
            if found is not Refusal.UNVOUCHED:
                return found
        return found

    def _refuse(self, refusal: Refusal) -> Reply:
        if refusal is Refusal.UNVOUCHED:
            return self._unreachable()  # the session lives, and its client is not to give it up
        self._world.counts.refused += 1
        return answers.refused(self.asked, refusal)

    def _count_session(self, member: Member) -> None:
        """Count the session that begins where it is tried, so that a burst of new ones spreads."""
        if self._counted_at != member.name:
            if self._counted_at is not None:
                self.pool.session_ended(self._counted_at)
            self._counted_at = member.name
            self.pool.session_began(member.name)

    def _may_repeat(self, *, sent: bool) -> Retry:
        return may_repeat(self._world, self._course, self.asked, sent=sent)

    def _give_up(self) -> Reply:
        if not self.asked.requests and self.asked.messages:
            self._world.counts.undelivered += 1
        else:
            self._world.counts.given_up += 1
        book, policy = self._world.books[self.pool.route.name], self.pool.route.retry

        def error_for(message: Message) -> RpcError:
            found = may_retry(
                message, sent=True, answered=False, hints=book.of(message.target), policy=policy, upstream=self.upstream
            )
            # Of an array, one that must not be repeated keeps the others from it.
            error = found.error if isinstance(found, GiveUp) else None
            return error or answers.sent_in_vain(self._course.failures)

        return answers.failed(self.asked, error_for)

    def _unreachable(self) -> Reply:
        failures = self._course.failures
        if not self.asked.requests and self.asked.messages:
            self._world.counts.undelivered += 1
        elif self._may_have_run:
            self._world.counts.given_up += 1
        else:
            self._world.counts.unreachable += 1
        error = answers.sent_in_vain(failures) if self._may_have_run else unreachable(failures, self.pool.retry_in_s())
        return answers.failed(self.asked, lambda _message: error)

    # --- Answers -------------------------------------------------------------------------------------------------

    def _let_pass(self, status: int, headers: HeaderLookup, *, begins: bool = False) -> Pass:
        mapping = self.mapping
        edits = [] if mapping is None else response_edits(mapping, headers.get(SESSION_ID_HEADER), begins=begins)
        if not begins:
            self.carriage = Carriage.of_answer(self._world, self._course, self.asked, status, headers)
        return Pass(edits)

    async def _begin_session(self, status: int, headers: HeaderLookup, body: bytes) -> Pass | Reply:
        asked, initialize = self.asked, self.asked.initialize
        answer = answered_in(initialize, status, headers, body)
        result = None if answer is None else answer.get("result")
        version = result.get("protocolVersion") if isinstance(result, dict) else None
        if answer is None and len(body) >= MAX_HANDSHAKE_BYTES:
            # Its session would be unknown at the next request.
            return answers.not_kept(asked, str(MessageTooLarge(len(body), MAX_HANDSHAKE_BYTES)))
        if initialize is None or answer is None or not isinstance(version, str):
            return Pass()  # it refuses, or what it says is no business of ours
        try:
            self._course.mapping = await self._world.manager.begin(
                Upstream(self.upstream, headers.get(SESSION_ID_HEADER)),
                Handshake(initialize.raw, dump(answer)),
                version,
                asked.authorization,
            )
        except (StoreError, MessageTooLarge, ValueError) as exc:
            return answers.not_kept(asked, str(exc))
        self._world.counts.sessions_begun += 1
        return self._let_pass(status, headers, begins=True)

    async def _decide_about_failure(self, status: int, headers: HeaderLookup) -> Pass | Leg | Reply:
        """The server says that it, or what stands behind it, does not work."""
        self._course.failed(FailureKind.STATUS, f"HTTP {status}")
        self._may_have_run = True
        decision = self._may_repeat(sent=True)
        if not isinstance(decision, GiveUp) and self.asked.method != "DELETE":
            with suppress(StoreUnavailable):
                step = await self._next(again=True, anywhere=decision.anywhere)
                if isinstance(step, Leg):
                    return step
        return self._let_pass(status, headers)

    async def _decide_about_deletion(self, mapping: SessionMapping, status: int, headers: HeaderLookup) -> Decided:
        try:
            is_over = await self._end(mapping, status)
        except StoreUnavailable as exc:
            return self._store_away(exc)
        return Pass(self._let_pass(status, headers).edits, _OK if is_over and status == NOT_FOUND else None)

    async def _end_unheard(self, mapping: SessionMapping) -> Reply:
        """End a session here, when its server cannot hear of it: that forgets it in time, if it has not yet."""
        try:
            await self._end(mapping, NOT_FOUND)
        except StoreUnavailable as exc:
            return self._store_away(exc)
        return Reply(_OK)

    def _says_lost(self, status: int, headers: HeaderLookup, body: bytes) -> bool:
        ids = [message.id for message in self.asked.requests]
        return says_lost(self.asked.method, status, headers, body, ids)

    def _is_there(self, name: str) -> bool:
        member = self.pool.member(name)
        return member is not None and member.is_usable

    async def _end(self, mapping: SessionMapping, status: int) -> bool:
        is_over = await self._world.manager.end_deleted(mapping, status)
        if is_over:
            self._world.counts.sessions_ended += 1
            self.pool.session_ended(mapping.upstream.name)
        return is_over

    async def _find_again(self, status: int, headers: HeaderLookup) -> Decided:
        """The server does not know the session, so it has not done what was asked: begin anew, and send it there."""
        self._course.lost()
        decision = self._may_repeat(sent=False)
        if isinstance(decision, SendAgain) and not decision.anywhere:
            # It is about a request of the server's, which is gone with the session.
            self._world.counts.undelivered += 1
            return answers.failed(self.asked, lambda _message: unreachable(Failures()))
        try:
            step = await self._next(again=True)
        except StoreUnavailable as exc:
            return self._store_away(exc)
        if isinstance(step, Refusal):
            return self._refuse(step)
        if step is None and not self._course.is_refused and self._course.may_move:
            return self._unreachable()
        # When those that work will not have the session, its server has said all there is to say.
        return step or self._let_pass(status, headers)

    async def _decide_about_reconnection(
        self, carriage: Carriage, status: int, headers: HeaderLookup, body: bytes
    ) -> Leg | GoOn | Tail:
        if status in UPSTREAM_FAILS:
            self._course.failed(FailureKind.STATUS, f"HTTP {status}", leaves=carriage.is_running_again)
        return await self._followed(carriage, carriage.decide(status, headers, body))

    async def _followed[Step: Leg | GoOn | Tail](self, carriage: Carriage, finding: Awaitable[Step]) -> Step | Tail:
        step: Step | Tail
        try:
            step = await finding
        except StoreUnavailable as exc:
            step = Tail(cut=str(exc))
        if isinstance(step, Tail):
            carriage.release()
        return step
