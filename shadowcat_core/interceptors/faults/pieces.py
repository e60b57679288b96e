"""What goes through the faults of a stream: its frames, or the bytes of any other body."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from shadowcat_core.interceptors.faults.subjects import Subject, subject_of
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.outlet import Cut, Stall, Wait

_BLANKS: Final = b" \t\r\n"


@dataclass(frozen=True)
class Body:
    """The response body that faults work on: what was asked for it, and whether it is an event stream."""

    exchange_id: int
    http_method: str
    is_event_stream: bool
    context: MessageContext
    """Of the messages that it brings."""
    asked: Sequence[Message] = ()

    @cached_property
    def subjects(self) -> list[Subject]:
        """What was asked is about."""
        return [subject_of(message) for message in self.asked]


@dataclass(frozen=True)
class Piece:
    """Some bytes of a body; one frame of an event stream."""

    raw: bytes
    body: Body
    data: bytes = b""
    """What the frame carries; empty when it is no event: a comment, an id alone, or a part of one."""
    data_end: int | None = None
    """Where the data end in `raw`, when they stand on one line."""

    @cached_property
    def is_event(self) -> bool:
        """True for an event that carries something. The empty one that only sets an id for resuming does not."""
        return bool(self.data.strip(_BLANKS))

    @cached_property
    def subjects(self) -> list[Subject]:
        """What its messages are about."""
        batch = MessageBatch.of_body(self.data, self.body.context)
        return [subject_of(message, self.body.asked) for message in batch]


type Item = Piece | Wait | Cut | Stall
