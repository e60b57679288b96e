"""A message as rules look at it: an answer is about what was asked. No I/O."""

from collections.abc import Set as AbstractSet
from enum import StrEnum

from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.messages import Message

ANSWERS = frozenset({Kind.RESPONSE, Kind.ERROR})


class Part(StrEnum):
    """What conditions look into."""

    PARAMS = "params"
    RESULT = "result"
    ERROR = "error"


class Subject:
    """A message and, when it is an answer, the request that it answers: method, target and params are that one's.

    A message that is no JSON-RPC and has a method counts as a request or notification too, as a lenient endpoint would
    act on it.
    """

    __slots__ = ("asked", "kind", "message", "method", "target")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.kind = message.kind
        self.asked: Message | None = message.request if self.kind in ANSWERS else message
        self.method = None if self.asked is None else self.asked.method
        self.target = None if self.asked is None else self.asked.target

    def is_any_of(self, kinds: AbstractSet[Kind]) -> bool:
        """True when it is, or may be taken for, one of these."""
        if self.kind in kinds:
            return True
        if self.kind is not Kind.INVALID or self.method is None:
            return False
        payload = self.message.payload
        acted_on = Kind.REQUEST if isinstance(payload, dict) and "id" in payload else Kind.NOTIFICATION
        return acted_on in kinds

    def holder(self, part: Part) -> Message | None:
        """The message that has such a part, if any has."""
        return self.asked if part is Part.PARAMS else self.message

    def part(self, part: Part) -> tuple[Json, ...]:
        """Its params, result or error, alone in a tuple; an empty one when it has none."""
        message = self.holder(part)
        if message is None or not message.is_json:
            return ()
        payload = message.payload
        return (payload[part],) if isinstance(payload, dict) and part in payload else ()
