"""Holds messages until a person has decided about them: which are held, and what may become of them.

`docs/holding.md` is the manual. The messages come back to the pipeline as verdicts, so everything is on record with its
original, and whatever ends a hold (a decision, its time, the end of its stream) ends it once.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shadowcat_core.errors import InvalidMessage, NotHeld
from shadowcat_core.filter_words import about_circumstances, parse_message_filter
from shadowcat_core.interceptors.protocols import is_unroutable
from shadowcat_core.interceptors.verdicts import Block, Continue, Mock, Modify, Pause, Verdict
from shadowcat_core.jsonrpc import Json, Kind, parse
from shadowcat_core.limits import MAX_HELD_MESSAGES
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, RpcError
from shadowcat_core.messages.answers import Settlement, settlement_of
from shadowcat_core.transcript import title

_ANSWERS: Final = (Kind.RESPONSE, Kind.ERROR)
_ERROR_MEMBERS: Final = {"jsonrpc", "id", "error"}


@dataclass(frozen=True, slots=True, eq=False)
class HeldMessage:
    """A message that waits for a person. `number` counts from 1 and is never given twice."""

    number: int
    message: Message
    since_ns: int
    timeout_s: float | None
    at_the_end: Verdict
    """What becomes of it when nobody can decide any more."""
    decision: asyncio.Future[Verdict]

    @property
    def name(self) -> str:
        """What it is about, in a few words."""
        message = self.message
        if message.kind in _ANSWERS:
            request = message.request
            return "an answer" if request is None else f"answer to {title(request)}"
        return title(message) or "a message that cannot be read"


type Told = Callable[[HeldMessage], None]


def _nobody(_held: HeldMessage) -> None: ...


class HeldMessages:
    """The messages that are held now, and the decisions about them.

    Every method that decides raises NotHeld when the message is not held any more, and InvalidMessage, with the message
    still held, when what was given in its place cannot stand there.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int],
        *,
        max_held: int = MAX_HELD_MESSAGES,
        on_held: Told = _nobody,
        on_over: Told = _nobody,
        on_full: Told = _nobody,
    ) -> None:
        """Make an empty table.

        Args:
            clock_ns: monotonic.
            max_held: beyond that many, a message meets at once what it would meet when nobody decides.
            on_held: is told of each message that is held.
            on_over: is told of the same, once, when that is over, before the message goes on.
            on_full: is told of a message that could not be held.
        """
        self._clock_ns = clock_ns
        self._max_held = max_held
        self._on_held = on_held
        self._on_over = on_over
        self._on_full = on_full
        self._held: dict[int, HeldMessage] = {}
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[HeldMessage]:
        """Those that are held, the oldest first; they may be decided about meanwhile."""
        return iter([*self._held.values()])

    def __getitem__(self, number: int) -> HeldMessage:
        """Find a held message.

        Raises:
            NotHeld: there is none.
        """
        held = self._held.get(number)
        if held is None or held.decision.done():  # its time is over, or its stream, in this very moment
            raise NotHeld(f"hold {number} is over" if 0 < number <= self._numbers else f"there is no hold {number}")
        return held

    def age_s(self, held: HeldMessage) -> float:
        """How long a message has been held."""
        return (self._clock_ns() - held.since_ns) / 1e9

    def how_it_ended(self, held: HeldMessage) -> str:
        """Say in a few words how a hold ended that has just ended."""
        if not held.decision.cancelled():
            verdict, why = held.decision.result(), ""
        elif held.timeout_s is not None and self.age_s(held) >= held.timeout_s:
            verdict, why = held.at_the_end, f", as nobody decided within {held.timeout_s:g} s"
        else:
            return "nobody waits for it any more"
        return f"released{why}" if isinstance(verdict, Continue) else verdict.reason

    def hold(self, message: Message, timeout_s: float | None, on_timeout: Verdict) -> Pause:
        """Hold a message, for ever if `timeout_s` is None. Takes a running event loop."""
        self._numbers += 1
        decision: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        held = HeldMessage(self._numbers, message, self._clock_ns(), timeout_s, on_timeout, decision)
        if len(self._held) >= self._max_held:
            self._on_full(held)
            return Pause(decision, 0, on_timeout, f"not held, as {len(self._held)} are held already")
        self._held[held.number] = held
        # Called too when the pipeline gives up: after the time limit, or as the stream is gone.
        decision.add_done_callback(lambda _: self._end(held))
        self._on_held(held)
        return Pause(decision, timeout_s, on_timeout, f"hold {held.number}")

    def release(self, number: int) -> HeldMessage:
        """Let a message go on as it is."""
        return self._decide(self[number], Continue())

    def edit(self, number: int, text: bytes) -> HeldMessage:
        """Let another message, JSON text, go on in the place of one: of the same kind, and with the same id."""
        held = self[number]
        return self._decide(held, Modify(_replacement(held.message, text), "edited by hand"))

    def drop(self, number: int) -> HeldMessage:
        """Do not let a message go on. Who waits for it, or for its answer, gets an error."""
        return self._decide(self[number], Block("dropped by hand"))

    def answer(self, number: int, text: bytes) -> HeldMessage:
        """Answer a request in the place of its receiver, or exchange an answer for another one.

        `text` is JSON: a result, an object with nothing but an `error`, or a whole JSON-RPC answer, whose id is not
        looked at.
        """
        held = self[number]
        if settlement_of(held.message) is Settlement.VANISH:
            raise InvalidMessage("nobody waits for an answer to this; it can be released, edited or dropped")
        return self._decide(held, _answer(text))

    def give_up(self, held: HeldMessage, reason: str) -> None:
        """Do not let a message go on, as nobody is there to get it. No harm when it is not held any more."""
        if not held.decision.done():
            self._decide(held, Block(reason))

    def close(self) -> None:
        """Let every message meet what it meets when nobody decides."""
        for held in self:
            if not held.decision.done():
                self._decide(held, held.at_the_end)

    def _decide(self, held: HeldMessage, verdict: Verdict) -> HeldMessage:
        held.decision.set_result(verdict)
        self._end(held)
        return held

    def _end(self, held: HeldMessage) -> None:
        if self._held.pop(held.number, None) is not None:
            self._on_over(held)


class Hold:
    """An interceptor that holds the messages that words describe (`filter_words`).

    What cannot be read cannot be ruled out: a message that some endpoint may read more leniently than we do is held
    too, unless its direction or session says that it is not meant.
    """

    def __init__(
        self, held: HeldMessages, words: Sequence[str], *, timeout_s: float | None = None, on_timeout: Verdict
    ) -> None:
        """Make the interceptor.

        Args:
            held: where the messages are kept.
            words: which messages are held.
            timeout_s: how long; None for ever.
            on_timeout: what becomes of them then.

        Raises:
            ValueError: a word makes no sense; it says which, and what is possible.
        """
        self._held = held
        self._is_meant = parse_message_filter(words)
        self._may_be_meant = parse_message_filter(about_circumstances(words))
        self._timeout_s = timeout_s
        self._on_timeout = on_timeout
        self.direction = next((one for one in Direction if f"dir:{one}" in words), None)
        self.heir: Hold | None = None
        """Who judges in its place from now on: a batch ends with the interceptors that it began with, and while one of
        its messages is held somebody may wish the next ones to be treated otherwise."""

    def intercept(self, message: Message) -> Verdict:
        """Hold the message if it is meant."""
        if self.heir is not None:
            return self.heir.intercept(message)
        if message.kind is Kind.INVALID and message.method is None:
            meant = is_unroutable(message) and self._may_be_meant(message)
        else:
            meant = self._is_meant(message)
        return self._held.hold(message, self._timeout_s, self._on_timeout) if meant else Continue()


def _replacement(original: Message, text: bytes) -> Message:
    edited = original.with_raw(text.strip())
    parse(edited.raw)  # says what is wrong with what is no JSON
    if edited.kind is Kind.INVALID:
        raise InvalidMessage("that is no JSON-RPC 2.0 message")
    if original.kind is not Kind.INVALID:
        if edited.kind is not original.kind and not (edited.kind in _ANSWERS and original.kind in _ANSWERS):
            raise InvalidMessage(f"a {original.kind} is held, and that is a {edited.kind}")
        if (type(edited.id), edited.id) != (type(original.id), original.id):
            raise InvalidMessage(f"the id must stay {original.id!r}, and that has {edited.id!r}")
    return edited


def _answer(text: bytes) -> Mock:
    answer = parse(text)
    if not isinstance(answer, dict):
        raise InvalidMessage("a result in MCP is an object")
    if "error" in answer and answer.keys() <= _ERROR_MEMBERS:
        return Mock(error=_error(answer["error"]), reason="answered by hand")
    if "jsonrpc" not in answer:
        return Mock(answer, reason="answered by hand")
    result = answer.get("result")
    if not isinstance(result, dict) or "error" in answer:
        raise InvalidMessage("that is no JSON-RPC 2.0 answer of MCP: it has a result, an object, or an error")
    return Mock(result, reason="answered by hand")


def _error(error: Json) -> RpcError:
    if isinstance(error, dict) and error.keys() <= {"code", "message", "data"}:
        code, message = error.get("code"), error.get("message")
        if isinstance(code, int) and not isinstance(code, bool) and isinstance(message, str):
            return RpcError(code, message, error.get("data"))
    raise InvalidMessage('an error is {"code": a whole number, "message": text, "data": anything, or none}')
