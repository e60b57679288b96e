"""A request that is sent again, as the stream that it was answered with broke off before its answers came.

Only what may run twice is (`docs/upstreams.md`), and only while its client can be told the rest as if nothing had been:
it has been asked nothing, and has none of several answers.
"""

from collections.abc import Callable, Collection
from typing import Final

from shadowcat_core.content_coding import decoded_body
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import JsonRpcId, Kind, envelope, parse
from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.mcp import HeaderLookup
from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.course import Course
from shadowcat_core.relay.legs import request_leg
from shadowcat_core.relay.progress import ProgressFilter
from shadowcat_core.relay.repeats import may_repeat
from shadowcat_core.relay.said import NOT_FOUND, says_lost
from shadowcat_core.relay.steps import GoOn, Leg, Sends
from shadowcat_core.relay.world import World
from shadowcat_core.resumption import ResumableStream
from shadowcat_core.sessions import SessionMapping
from shadowcat_core.sessions.lifecycle import UPSTREAM_FAILS, Refusal
from shadowcat_core.sse import encode
from shadowcat_core.upstreams import Member, SendAgain

_OK: Final = 200


class SecondRun:
    """The runs behind the first one of the request that a stream answers: made when the stream breaks off."""

    def __init__(
        self, world: World, course: Course, asked: Asked, stream: ResumableStream, *, is_wanted: Callable[[], bool]
    ) -> None:
        """Take the runs of what was `asked`, for as long as it `is_wanted`."""
        self.is_awaited = False
        """True from a step that sends the request until its answer has begun."""
        self.why = ""
        """Why the latest attempt came to nothing."""
        self.progress: ProgressFilter | None = None
        """What all that comes goes through, once the request was sent again."""
        self._world = world
        self._course = course
        self._asked = asked
        self._stream = stream
        self._is_wanted = is_wanted
        self._runs = 1 + course.spent

    @property
    def may_be(self) -> bool:
        """True when the request may be sent once more."""
        asked = self._asked
        if not self._is_wanted() or asked.method != "POST" or not asked.requests or not self._stream.is_repeatable:
            return False
        if self._runs >= self._course.pool.route.retry.attempts:
            return False
        again = may_repeat(self._world, self._course, asked, sent=True)
        return isinstance(again, SendAgain) and again.anywhere

    async def begin(self, reason: str) -> Leg | None:
        """Send the request again, to its own server if that is there; None when nobody takes it.

        Raises:
            StoreUnavailable: the store does not say where its session is.
        """
        self.why = reason
        found: SessionMapping | Refusal | None = None
        if self._course.mapping is not None:
            asked = self._asked
            found = await self._world.manager.use(self._stream.session_id, asked.authorization, asked.caller)
        if isinstance(found, Refusal):
            return None
        self._course.anew(found, is_first=True, spent=self._runs)
        return await self.next(reason)

    async def next(self, reason: str) -> Leg | None:
        """Send it to the next server, as the attempt has failed before its answer began; None when nobody takes it.

        Raises:
            StoreUnavailable: its session would have to move, and the store does not answer.
        """
        self.is_awaited = False
        if not self.may_be:
            self.why = reason
            return None
        member = await self._course.go()
        if not isinstance(member, Member):
            self.why = f"{self.why}; then nobody took it again: {self._course.failures}"
            return None
        if not self._is_wanted():  # any more
            self._course.released()
            self.why = reason
            return None
        self.is_awaited = True
        self._world.counts.sent_again += 1
        return request_leg(self._course.pool, self._asked, self._course.mapping, member, Sends.REQUEST_AGAIN)

    def begun(self) -> None:
        """Its answer has begun, and goes on in the client's stream."""
        self.is_awaited = False
        self._runs = 1 + self._course.spent
        mapping, stream = self._course.mapping, self._stream
        if self.progress is None:
            self.progress = ProgressFilter(stream.latest_progress)
        self.progress.begin()
        stream.begin_again(stream.epoch if mapping is None else mapping.epoch)

    async def decide(self, status: int, headers: HeaderLookup, body: bytes) -> GoOn | Leg | None:
        """Say what becomes of an answer that is no event stream; None when it is of no use (`why`).

        Raises:
            StoreUnavailable: its session would have to move, and the store does not answer.
        """
        course, asked = self._course, self._asked
        reason = f"sent again, the server answers with HTTP {status}"
        if status in UPSTREAM_FAILS:
            return await self.next(reason)
        ids = [message.id for message in asked.requests]
        is_lost = course.mapping is not None and says_lost(asked.method, status, headers, body, ids)
        if is_lost and (status == NOT_FOUND or not course.is_just_begun):
            course.lost()
            return await self.next(reason)
        self.is_awaited = False
        text = decoded_body(body, headers.get("content-encoding") or "")
        if status == _OK and text is not None and len(body) < MAX_EVENT_BYTES and _answers(text, ids):
            course.found()
            self.begun()
            return GoOn(encode(text, event="message"))
        self.why = reason
        return None


def _answers(body: bytes, asked: Collection[JsonRpcId | None]) -> bool:
    """Say whether a body in JSON has the answers to all requests with these ids, and nothing else."""
    try:
        document = parse(body)
    except InvalidMessage:
        return False
    told = [envelope(each) for each in (document if isinstance(document, list) else [document])]
    if any(each.kind not in (Kind.RESPONSE, Kind.ERROR) for each in told):
        return False
    return {each.id for each in told} == set(asked)
