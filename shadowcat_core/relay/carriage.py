"""The event stream that an exchange carries: kept for clients that come back, gone on with when its server breaks off.

Source: MCP 2025-11-25, Basic / Transports / Resumability and Redelivery.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Self

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.jsonrpc import JsonRpcId
from shadowcat_core.limits import MAX_EVENT_BYTES, MAX_READ_ON_STREAMS, MAX_REFUSAL_BYTES, MAX_RETRY_PAUSE_MS
from shadowcat_core.mcp import HeaderLookup, is_event_stream
from shadowcat_core.relay.answers import broken_off
from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.course import Course
from shadowcat_core.relay.legs import resuming_leg
from shadowcat_core.relay.repeats import may_repeat
from shadowcat_core.relay.said import says_lost
from shadowcat_core.relay.second_run import SecondRun
from shadowcat_core.relay.steps import Gather, GoOn, Heard, Leg, Tail
from shadowcat_core.relay.unkept import UnkeptStream, is_answered_once
from shadowcat_core.relay.world import World
from shadowcat_core.resumption import GoOn as WayOn
from shadowcat_core.resumption import ResumableStream, WayBack
from shadowcat_core.sessions.lifecycle import Refusal
from shadowcat_core.upstreams import GiveUp, Member

_PRIMES_SINCE: Final = "2025-11-25"
_MAX_BARREN: Final = 5
"""Reconnections in a row that brought nothing."""
_WORTH_S: Final = 1.0
"""A connection that lasted so long was not barren, though nothing came on it."""
_FIRST_PAUSE_MS: Final = 100
_ENDED_PAUSE_MS: Final = 1_000
"""Between two streams of its own that a server ends at once."""
_MAX_HASTY: Final = 4
"""So many times the pause after a connection that brought something and was soon over is doubled."""
_OK: Final = 200
_NO_STREAM: Final = (400, 401, 403, 405, 406, 410, 415, 501)
"""The server will not have it, however often one asks."""
_TAKEN: Final = "another proxy reads this stream, or its session has ended"


class Carriage:
    """One stream on its way to one client, through any number of connections to servers.

    `stream` is None until the way back has told which one goes on.
    """

    def __init__(self, world: World, course: Course, asked: Asked, *, way: WayBack | None = None) -> None:
        self.stream: ResumableStream | None = None
        self.prelude = b""
        """To be sent before anything else."""
        self.is_reconnecting = False
        """True from a step that goes on with the stream until its answer is there."""
        self.is_over = False
        """True when there is no use in reading it on: another proxy does, or its session has ended."""
        self.on_over: Callable[[], object] = lambda: None
        """Called when that becomes so."""
        self._world = world
        self._course = course
        self._asked = asked
        self._way = way
        self._barren = 0
        self._hasty = 0  # connections in a row that brought something and were soon over
        self._went_on_s: float | None = None
        self._has_left = False
        self._is_released = False
        self._cancelled: set[JsonRpcId] = set()
        self._second: SecondRun | None = None

    @classmethod
    def of_answer(cls, world: World, course: Course, asked: Asked, status: int, headers: HeaderLookup) -> Self | None:
        """Keep the stream of an answer; None when nobody can come back for it, and no other one follow it."""
        mapping = course.mapping
        ids = [message.id for message in asked.requests if message.id is not None]
        is_for_session = asked.method == "GET" or bool(ids)
        if not is_for_session or not _streams(status, headers):
            return None
        if mapping is None:
            return cls._of_unkept(world, course, asked, ids)
        carriage = cls(world, course, asked)
        stream = world.keeper.open(mapping.session_id, epoch=mapping.epoch, requests=ids)
        carriage._keep(stream)
        world.counts.streams += 1
        if mapping.protocol_version >= _PRIMES_SINCE:
            carriage.prelude = stream.prime()
        return carriage

    @classmethod
    def _of_unkept(cls, world: World, course: Course, asked: Asked, ids: Sequence[JsonRpcId]) -> Self | None:
        """Keep an eye on the stream of an answer without a session; None when nothing could follow it."""
        may_follow = ids and is_answered_once(asked.requests)
        if not may_follow or isinstance(may_repeat(world, course, asked, sent=True), GiveUp):
            return None
        carriage = cls(world, course, asked)
        carriage.stream = UnkeptStream(ids)
        return carriage

    @property
    def is_running_again(self) -> bool:
        """True from a step that sends the request again until its answer has begun."""
        return self._second is not None and self._second.is_awaited

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the server's, give those for the client. May be empty."""
        stream = self.stream
        if stream is None:
            return chunk
        if self._second is not None and self._second.progress is not None:
            chunk = self._second.progress.feed(chunk)
        before = stream.position
        data = stream.feed(chunk)
        if stream.position != before:  # a comment is easily said
            self._barren = 0
        return data

    def end(self, *, broken: bool = False) -> bytes:
        """The connection to the server is over, or `broken`: give what is left to send of it."""
        stream = self.stream
        if stream is None:
            return b""
        if self._second is not None and self._second.progress is not None:
            stream.feed(self._second.progress.end())  # no whole frame is left there
        rest = stream.end()
        # Half an event would run into what follows it: an error of ours, or what another connection brings.
        return rest if stream.purpose.requests and not broken else b""

    def leave(self) -> bool:
        """The client has left. True when the server is to be read on, as its answers will be asked for."""
        stream, world = self.stream, self._world
        if stream is None or not stream.purpose.requests or stream.is_complete or self._is_released:
            return False
        if self._course.mapping is None:
            return False  # so calls without a session are cancelled
        if world.left >= MAX_READ_ON_STREAMS:
            return False
        if not self._has_left:
            self._has_left = True
            world.left += 1
            world.counts.streams_read_on += 1
            world.keeper.leave(stream)
        return True

    @property
    def is_followed(self) -> bool:
        """True when the client that left is back, on another connection."""
        stream = self.stream
        kept = None if stream is None else self._world.keeper.find(stream.session_id, stream.stream_id)
        return kept is not None and kept.left_at is None

    def release(self) -> None:
        """No more bytes will come. Harmless when said twice."""
        if self._is_released:
            return
        self._is_released = True
        if self._has_left:
            self._world.left -= 1
        stream = self.stream
        if self._way is not None:
            self._way.leave()
            stream = self._way.stream  # it was found when its client had left
        if stream is not None:
            self._world.carried.pop(stream, None)
            if self._world.listeners.get(stream.session_id) is self:
                del self._world.listeners[stream.session_id]
            self._world.listener_changed(stream.session_id)
            self._world.keeper.release(stream)

    def taken(self) -> None:
        """Another proxy reads the stream now, or its session has ended."""
        self.is_over = True
        if self.stream is not None:
            self._world.listener_changed(self.stream.session_id)
        self.on_over()

    def cancel(self, request_id: JsonRpcId) -> None:
        """The client has cancelled a request: where its answer has not come, it is neither sent for nor missed."""
        if self.stream is not None and request_id in self.stream.unanswered:
            self._cancelled.add(request_id)

    def settled(self, *, broken: str | None) -> Tail | None:
        """Say how the client's stream ends, where no more is to come; None when it is to go on (`go_on`)."""
        if self._way is not None:
            return None
        stream = self.stream
        if stream is None or stream.is_complete:
            return Tail(cut=broken if stream is None else None)
        if self.is_over or stream.passes_unread:
            # Of what passed unread nobody knows whether it ended with an event, or had the answers in it.
            return Tail(cut=broken)
        if stream.purpose.requests and self._cancelled.issuperset(stream.unanswered):
            return Tail()
        cannot_resume = bool(stream.purpose.requests) and stream.mark is None
        if cannot_resume and broken is not None and self._second_run(stream).may_be:
            return None
        if self._has_left:
            return Tail(cut=broken)
        if cannot_resume:
            # A server that ends such a stream in good order has its reasons: the request was cancelled, mostly.
            return Tail() if broken is None else self._without_answers(broken)
        return None

    async def go_on(self, *, broken: str | None, reached: bool = True) -> Leg | Tail:
        """Find out how the client's stream goes on. `reached` is False when the server could not even be connected to.

        Raises:
            StoreUnavailable: the session would have to move, and the store does not answer.
        """
        self.is_reconnecting = False
        if self._way is not None:
            return await self._go_on_behind(self._way)
        stream = self.stream
        if stream is not None and stream.purpose.requests:
            second = self._second_run(stream)
            if second.is_awaited:
                return await self._run_again(second, second.next(f"sent again: {broken}"))
        settled = self.settled(broken=broken)
        if settled is not None:
            return settled
        if stream is not None and stream.purpose.requests and stream.mark is None:
            return await self._answer_otherwise(broken or "")
        if not reached:
            return await self._connect(broken or "", reached=False)
        return await self._again(broken or "the server ended its stream", is_clean=broken is None)

    def heard(self, status: int, headers: HeaderLookup) -> Heard:
        """Say what becomes of the answer to what goes on with the stream."""
        mapping, stream, second = self._course.mapping, self.stream, self._second
        if stream is None or not _streams(status, headers):
            may_answer = second is not None and second.is_awaited and status == _OK
            return Gather(MAX_EVENT_BYTES if may_answer else MAX_REFUSAL_BYTES)
        if second is not None and second.is_awaited:
            second.begun()
        else:
            stream.reconnect(stream.epoch if mapping is None else mapping.epoch)
            if second is not None and second.progress is not None:
                second.progress.begin()
        self._world.listener_changed(stream.session_id)
        self._course.found()
        self.is_reconnecting = False
        self._went_on_s = self._world.clock_s()
        self._world.counts.streams_reconnected += 1
        return GoOn()

    async def decide(self, status: int, headers: HeaderLookup, body: bytes) -> Leg | GoOn | Tail:
        """The server does not go on with the stream by events: say what is done instead.

        Raises:
            StoreUnavailable: the session would have to move, and the store does not answer.
        """
        reason = f"the server answers with HTTP {status}"
        stream, second = self.stream, self._second
        if second is not None and second.is_awaited:
            return await self._run_again(second, second.decide(status, headers, body))
        is_lost = says_lost("POST", status, headers, body)  # it has such streams, or there would be none to go on with
        if status in _NO_STREAM and not is_lost:
            return await self._answer_otherwise(reason)
        if is_lost:
            if stream is not None and stream.purpose.requests:
                return await self._answer_otherwise("its session was lost")
            self._course.lost()
        return await self._again(reason)

    async def _go_on_behind(self, way: WayBack) -> Leg | Tail:
        self._way = None
        self._world.counts.events_lost += way.lost
        if way.go_on in (None, WayOn.NOT) or way.stream is None:
            return Tail()
        self._keep(way.stream)
        if way.go_on is WayOn.LOST:
            return self._without_answers("its server broke off")
        return await self._connect("")

    def is_behind(self, epoch: int) -> bool:
        """True while the stream has not come to this epoch of its session, and may yet."""
        stream = self.stream
        return stream is not None and stream.epoch < epoch and not self.is_over and not self._is_released

    def _keep(self, stream: ResumableStream) -> None:
        self.stream = stream
        self._world.carried[stream] = self
        if not stream.purpose.requests:
            self._world.listeners[stream.session_id] = self
            self._world.listener_changed(stream.session_id)

    async def _again(self, reason: str, *, is_clean: bool = False) -> Leg | Tail:
        """Ask the server once more, in a while; `is_clean` means that it has ended its stream in good order."""
        if self._went_on_s is not None:
            if self._world.clock_s() - self._went_on_s >= _WORTH_S:
                self._barren = self._hasty = 0  # it was quiet, as such streams are
            else:
                self._hasty = min(self._hasty + 1, _MAX_HASTY)
        self._went_on_s = None
        self._barren += 1
        stream = self.stream
        if self._barren > _MAX_BARREN or stream is None:
            return await self._answer_otherwise(reason)
        pause_ms = self._pause_ms(stream, is_clean=is_clean)
        if pause_ms:
            await self._world.sleep(pause_ms / 1000)
        return await self._connect(reason)

    def _pause_ms(self, stream: ResumableStream, *, is_clean: bool) -> int:
        wanted_ms = stream.retry_ms
        pause_ms = _FIRST_PAUSE_MS * ((1 << self._barren) - 2) if wanted_ms is None else max(wanted_ms, _FIRST_PAUSE_MS)
        # A server that says something and ends each stream at once must not be asked without a pause either.
        pause_ms = max(pause_ms, _FIRST_PAUSE_MS * ((1 << self._hasty) // 2))
        if is_clean and self._hasty and not stream.purpose.requests:
            pause_ms = max(pause_ms, _ENDED_PAUSE_MS)
        return min(pause_ms, int(MAX_RETRY_PAUSE_MS))

    async def _connect(self, reason: str, *, reached: bool = True) -> Leg | Tail:
        course, stream = self._course, self.stream
        mapping = course.mapping
        if mapping is None or stream is None or self.is_over or await self._world.keeper.is_taken(stream):
            return Tail(cut=reason or _TAKEN)
        # Others may have moved it meanwhile; and a session whose stream is open is in use.
        found = await self._world.manager.use(mapping.session_id, self._asked.authorization, self._asked.caller)
        answers = bool(stream.purpose.requests)
        if isinstance(found, Refusal):
            # Whoever comes back hears why, and one with a newer token may go on.
            return Tail(cut="its session is not known to the proxy any more" if answers else None)
        if reached:
            course.anew(found, is_first=self._barren <= 1)
        else:
            course.mapping = found
        if answers and found.epoch != stream.epoch:
            return await self._answer_otherwise("its session was lost")
        # What may run again elsewhere need not wait for the one server that could go on with it.
        member = await course.go(anywhere=not answers, waits=not (answers and self._second_run(stream).may_be))
        if not isinstance(member, Member):
            return await self._answer_otherwise(reason or "no server can be reached")
        mapping = course.mapping or found
        mark = stream.mark if mapping.epoch == stream.epoch else None
        self.is_reconnecting = True
        return resuming_leg(course.pool, self._asked, mapping, member, mark)

    def _second_run(self, stream: ResumableStream) -> SecondRun:
        if self._second is None:
            self._second = SecondRun(self._world, self._course, self._asked, stream, is_wanted=self._wants_answers)
        return self._second

    def _wants_answers(self) -> bool:
        """Say whether somebody here waits for all that has not been answered."""
        return not self.is_over and (self.stream is None or self._cancelled.isdisjoint(self.stream.unanswered))

    async def _answer_otherwise(self, reason: str) -> Leg | Tail:
        """Ask for the answers once more, where that may be; they do not come on this stream by themselves."""
        stream = self.stream
        if self.is_over:
            return Tail(cut=_TAKEN)
        if stream is None or not stream.purpose.requests or not self._second_run(stream).may_be:
            return self._without_answers(reason)
        if self._course.mapping is not None and await self._world.keeper.is_taken(stream):
            return Tail(cut=_TAKEN)
        second = self._second_run(stream)
        return await self._run_again(second, second.begin(reason))

    async def _run_again[Step: Leg | GoOn](self, second: SecondRun, finding: Awaitable[Step | None]) -> Step | Tail:
        """Take the next step of a second run; the client is told of its answers when there is none."""
        step = None
        with suppress(StoreUnavailable):
            step = await finding
        self.is_reconnecting = isinstance(step, Leg)
        if step is None and self.is_over:  # while the next one was looked for
            return Tail(cut=_TAKEN)
        return self._without_answers(second.why) if step is None else step

    def _without_answers(self, reason: str) -> Tail:
        """Tell the client of each answer that will not come, and end its stream."""
        stream = self.stream
        if stream is None or not stream.purpose.requests:
            return Tail()
        mapping = self._course.mapping
        upstream = self._course.upstream if mapping is None else mapping.upstream.name
        data = []
        for request_id in sorted({*stream.unanswered} - self._cancelled, key=str):
            data.append(stream.inject(broken_off(request_id, upstream, reason)))
            self._world.counts.answers_lost += 1
        return Tail(b"".join(data))


def _streams(status: int, headers: HeaderLookup) -> bool:
    """Say whether an answer is an event stream that can be read: one in a content coding passes as it comes."""
    coding = (headers.get("content-encoding") or "identity").strip().lower()
    return status == 200 and is_event_stream(headers.get("content-type")) and coding == "identity"
