"""What a message or a request is about, as the filters of toxics see it."""

from collections.abc import Sequence
from typing import NamedTuple

from shadowcat_core.jsonrpc import Kind
from shadowcat_core.messages import Message


class Subject(NamedTuple):
    """A method and its target. What answers is about what was asked; None where nothing is known."""

    method: str | None
    target: str | None


NOTHING = Subject(None, None)


def subject_of(message: Message, asked: Sequence[Message] = ()) -> Subject:
    """Tell what a message is about. `asked` are requests that an answer may belong to, beside those it knows of."""
    if message.kind in (Kind.RESPONSE, Kind.ERROR):
        request = next((one for one in asked if _is_answered(one, message)), None) or message.request
        return NOTHING if request is None else Subject(request.method, request.target)
    return Subject(message.method, message.target)


def _is_answered(request: Message, answer: Message) -> bool:
    """True for the same id in the same type: 1 is not "1"."""
    return request.id is not None and request.id == answer.id and type(request.id) is type(answer.id)
