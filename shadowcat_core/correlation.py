"""Brings requests and their answers together, in one place for all who need it.

An id is unique only among the open requests of one sender, so a call is known by its scope (a session; where there is
none, the exchange or the connection), the direction of its request and its id: the client's 1, the server's 1 and
"1" are three calls. A cancellation finds its call by the request's id, and the next round of a call
that needed input (MRTR: a new id, the same `requestState`) by method, target and state.

Routes by hints, as it decides nothing. No I/O; times are the messages' own.
Source: MCP, "Cancellation", and 2026-07-28, "Multi round-trip requests" (SEP-2322).
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from shadowcat_core import mcp
from shadowcat_core.jsonrpc import Json, JsonRpcId, Kind
from shadowcat_core.limits import MAX_OPEN_CALL_BYTES, MAX_OPEN_CALLS
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, MessageBatch

_CANCELLED: Final = "notifications/cancelled"
_CALL_KINDS: Final = frozenset({Kind.REQUEST, Kind.RESPONSE, Kind.ERROR})
_NOTIFICATIONS: Final = frozenset({_CANCELLED})

type Key = tuple[Hashable, Direction, JsonRpcId]  # scope, direction of the request, its id


@dataclass(slots=True, eq=False)
class Call:
    """One request and what became of it.

    A call that needs input goes on in another request, which is a call of its own: `round` counts them from 1, and
    `first` is the one that began it. The rounds between are not kept.
    """

    key: Key
    request: Message
    answer: Message | None = None
    cancelled_ns: int | None = None
    """When the sender of the request gave it up."""
    round: int = 1
    earliest: "Call | None" = field(default=None, repr=False)
    """The first round, where this is a later one."""

    @property
    def first(self) -> "Call":
        """The call that began it; itself, mostly, which is not stored: a cycle would outlive it until a collection."""
        return self.earliest or self

    @property
    def duration_ns(self) -> int | None:
        """From the request to its answer; None before."""
        return None if self.answer is None else self.answer.at_ns - self.request.at_ns


class Correlator:
    """Follows calls from request to answer, in any number of scopes. Mutable; for one thread."""

    def __init__(self, *, max_calls: int = MAX_OPEN_CALLS, max_bytes: int = MAX_OPEN_CALL_BYTES) -> None:
        self.forgotten = 0
        """Calls given up before their answer or next round: the oldest beyond the limit, or one whose id came again."""
        self._max_calls = int(max_calls)
        self._max_bytes = int(max_bytes)
        self._bytes = 0  # of the open calls' requests
        self._round_bytes = 0  # of the requests and answers of rounds that may go on
        self._calls: dict[Key, Call] = {}  # the oldest first, like the rounds
        self._scopes: dict[Hashable, dict[Key, Call]] = {}
        self._rounds: dict[tuple[str | None, str | None, str], Call] = {}  # by method, target and state

    def __len__(self) -> int:
        """How many requests wait for their answers."""
        return len(self._calls)

    def see(self, message: Message, scope: Hashable) -> Call | None:
        """Take note of a message and give the call it belongs to; None when it belongs to none that is open.

        `scope` is what ids are unique in. A request and its answer must be shown with the same one.
        """
        kind, method, request_id = message.hint or message.envelope
        match kind:
            case Kind.REQUEST if request_id is not None:
                return self._ask(Call((scope, message.direction, request_id), message))
            case Kind.RESPONSE | Kind.ERROR if request_id is not None:
                return self._answer(message, (scope, message.direction.opposite, request_id))
            case Kind.NOTIFICATION if method == _CANCELLED:
                return self._cancel(message, scope)
            case _:
                return None

    def see_batch(self, batch: MessageBatch, scope: Hashable) -> list[Call]:
        """Take note of a batch's messages, without an object for those that cannot belong to a call."""
        found = dict(batch.where(kinds=_CALL_KINDS))
        found.update(batch.where(methods=_NOTIFICATIONS))
        calls = [self.see(found[position], scope) for position in sorted(found)]
        return [call for call in calls if call is not None]

    def request_of(self, answer: Message, scope: Hashable) -> Message | None:
        """The open request that a message answers, read exactly; None when there is none."""
        call = self.call_of(answer, scope)
        return None if call is None else call.request

    def call_of(self, answer: Message, scope: Hashable) -> Call | None:
        """The open call that a message answers, likewise; it stays open."""
        return None if answer.id is None else self._calls.get((scope, answer.direction.opposite, answer.id))

    def forget(self, scope: Hashable) -> list[Call]:
        """End a scope, such as an exchange or a session that is over, and give the calls left unanswered in it."""
        left = list(self._scopes.get(scope, {}).values())
        for call in left:
            self._close(call)
        return left

    def _ask(self, call: Call) -> Call:
        if call.key in self._calls:
            self._give_up(self._calls[call.key])
        message = call.request
        if message.raw.find(b"requestState") >= 0:
            self._continue(call)
        self._calls[call.key] = self._scopes.setdefault(call.key[0], {})[call.key] = call
        self._bytes += len(message.raw)
        while len(self._calls) > self._max_calls or (self._bytes > self._max_bytes and len(self._calls) > 1):
            self._give_up(next(iter(self._calls.values())))
        return call

    def _continue(self, call: Call) -> None:
        """Link the request to the round before it."""
        state = mcp.request_state(_payload(call.request))
        earlier = self._end_round((call.request.method, call.request.target, state or ""))
        if earlier is not None:
            call.earliest, call.round = earlier.first, earlier.round + 1

    def _answer(self, message: Message, key: Key) -> Call | None:
        call = self._calls.get(key)
        if call is None:
            return None
        self._close(call)
        call.answer = message
        if message.raw.find(b"input_required") >= 0 and mcp.is_input_required(payload := _payload(message)):
            state = mcp.request_state(payload)
            if state is not None:
                self._round_bytes += len(call.request.raw) + len(message.raw)
                self._rounds[call.request.method, call.request.target, state] = call
            while len(self._rounds) > self._max_calls or (
                self._round_bytes > self._max_bytes and len(self._rounds) > 1
            ):
                self._end_round(next(iter(self._rounds)))
                self.forgotten += 1
        return call

    def _end_round(self, key: tuple[str | None, str | None, str]) -> Call | None:
        call = self._rounds.pop(key, None)
        if call is not None:
            self._round_bytes -= len(call.request.raw) + len(call.answer.raw if call.answer is not None else b"")
        return call

    def _cancel(self, message: Message, scope: Hashable) -> Call | None:
        request_id = mcp.cancelled_id(_payload(message))
        call = None if request_id is None else self._calls.get((scope, message.direction, request_id))
        if call is not None:
            self._close(call)
            call.cancelled_ns = message.at_ns
        return call

    def _give_up(self, call: Call) -> None:
        self._close(call)
        self.forgotten += 1

    def _close(self, call: Call) -> None:
        """Take a call out of every table."""
        scope = call.key[0]
        self._bytes -= len(call.request.raw)
        del self._calls[call.key]
        del self._scopes[scope][call.key]
        if not self._scopes[scope]:
            del self._scopes[scope]


def _payload(message: Message) -> Json:
    """The payload, or None where a hint took for a message what is no JSON."""
    return None if message.kind is Kind.INVALID else message.payload
