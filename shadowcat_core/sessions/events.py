"""Ids of logged events, and the values an event log keeps and answers with. No I/O.

An id names its stream and its place there, so finding an event is arithmetic. Stream ids are unguessable, positions
count from 1 without gaps: a missing number is a lost event, and is reported as one.

Source: MCP 2025-11-25, Basic / Transports / Resumability and Redelivery.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shadowcat_core.limits import EVENT_LOG_AGE_MS, EVENT_LOG_BYTES, EVENT_LOG_EVENTS, EVENT_LOG_STREAMS

_ID_BYTES: Final = 16
_EVENT_ID: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([1-9][0-9]{0,14}|0)", re.ASCII)
_STREAM_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def new_stream_id() -> str:
    """Make an id that nobody guesses: 128 random bits as 22 characters."""
    return secrets.token_urlsafe(_ID_BYTES)


def event_id(stream_id: str, position: int) -> str:
    """Write the id of the event at `position`; position 0 is the start of the stream, before all events."""
    return f"{stream_id}.{position}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Read stream id and position. Returns None for what is no id of ours, such as an upstream's or a forged one."""
    found = _EVENT_ID.fullmatch(text)
    return None if found is None else (found[1], int(found[2]))


@dataclass(frozen=True, slots=True)
class Event:
    """One event for the log: `data` is opaque bytes (the frame without its id), `upstream_id` the server's own id."""

    data: bytes
    upstream_id: str = ""

    def __post_init__(self) -> None:
        if "\n" in self.upstream_id or "\0" in self.upstream_id:
            raise ValueError("an event id has no line end and no NUL")

    @property
    def size(self) -> int:
        """Bytes counted against the log's bounds, a share for keeping it included."""
        return len(self.data) + len(self.upstream_id.encode()) + EVENT_OVERHEAD_BYTES


EVENT_OVERHEAD_BYTES: Final = 128
"""A bound on payload alone would let empty events grow without limit."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event in the log, at its position in its stream."""

    position: int
    event: Event


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a session.

    `label` is the opener's own note (which request it answers, for example), `position` that of its latest event,
    `upstream_event_id` the latest id that the server gave, so that the stream can be resumed there.
    """

    stream_id: str
    label: str = ""
    position: int = 0
    closed: bool = False
    upstream_event_id: str = ""

    def __post_init__(self) -> None:
        if _STREAM_ID.fullmatch(self.stream_id) is None:
            raise ValueError(f"{self.stream_id!r} is no stream id: 1 to 64 letters, digits, - and _")
        if "\n" in self.label:
            raise ValueError("a label is one line")


@dataclass(frozen=True, slots=True)
class Missed:
    """What came after an event: `events` in order, and how many before them are `lost` to the log's bounds.

    More may follow when the last of `events` is not at `stream.position`: ask again after it.
    """

    stream: StreamInfo
    events: Sequence[LoggedEvent]
    lost: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How much an event log keeps: events and bytes of one stream, their age, and streams of one session."""

    max_events: int = EVENT_LOG_EVENTS
    max_bytes: int = EVENT_LOG_BYTES
    max_age_ms: int = EVENT_LOG_AGE_MS
    max_streams: int = EVENT_LOG_STREAMS

    def __post_init__(self) -> None:
        if min(self.max_events, self.max_bytes, self.max_age_ms, self.max_streams) < 1:
            raise ValueError("each bound of an event log is at least 1")
