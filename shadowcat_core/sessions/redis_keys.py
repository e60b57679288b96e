"""Names of the keys of a Redis store, and its answers as values. No I/O.

What must change in one step shares a hash tag, the part in braces, and with it a slot of a cluster: everything of one
session; everything of the index; each name of an upstream's session.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from shadowcat_core.sessions.events import Event, LoggedEvent, StreamInfo
from shadowcat_core.sessions.model import Handshake, SessionMapping, SessionRecord, SessionTimes, Upstream, askable
from shadowcat_core.sessions.redis_link import Value

_PARTS: Final = ("session", "subscriptions", "streams", "events", "ended")
_INDEX_PARTS: Final = ("order", "due", "at", "upstreams")
_CREATED_DIGITS: Final = 16
_NONE: Final = ord("-")


class Keys:
    """The keys under one prefix. Stores with different prefixes share a server and know nothing of each other."""

    __slots__ = ("_prefix", "index")

    def __init__(self, prefix: str) -> None:
        if not prefix or "{" in prefix or "}" in prefix:
            raise ValueError(f"a prefix has no braces and at least one character, unlike {prefix!r}")
        self._prefix = prefix
        self.index = tuple(f"{prefix}:{{index}}:{part}" for part in _INDEX_PARTS)

    def session(self, session_id: str) -> Sequence[str]:
        """The five keys of a session."""
        tagged = f"{self._prefix}:{{{askable(session_id)}}}:"
        return tuple(tagged + part for part in _PARTS)

    def name(self, upstream: Upstream) -> Sequence[str]:
        """The key that says who stands for an upstream's session; both its names may be of any length."""
        digest = blake2b(f"{upstream.name}\0{upstream.session_id}".encode(), digest_size=16).hexdigest()
        return (f"{self._prefix}:{{upstream:{digest}}}",)


def order_member(created_ms: int, session_id: str) -> str:
    """Write a session's member of the index in order of beginning."""
    return f"{created_ms:0{_CREATED_DIGITS}x}{session_id}"


def session_of_member(member: bytes) -> tuple[int, str]:
    """Read beginning and session id from a member."""
    return int(member[:_CREATED_DIGITS], 16), member[_CREATED_DIGITS:].decode()


def fields_of(record: SessionRecord) -> Sequence[Value]:
    """Write the fields of the hash `session`, names and values in turn; what is None has no field."""
    mapping, times = record.mapping, record.times
    fields: dict[str, Value | None] = {
        "upstream": mapping.upstream.name,
        "upstream_session": mapping.upstream.session_id,
        "epoch": mapping.epoch,
        "version": mapping.protocol_version,
        "credential": mapping.credential,
        "created": times.created_ms,
        "used": times.used_ms,
        "idle": times.idle_ttl_ms,
        "ends": times.ends_ms,
        "log_level": record.log_level,
        "request": record.handshake.request,
        "result": record.handshake.result,
    }
    return [part for name, value in fields.items() if value is not None for part in (name, value)]


def mapping_of(session_id: str, answer: bytes | None) -> SessionMapping | None:
    """Read a mapping: upstream, its session id or nothing, epoch, version and credential, one a line."""
    return None if answer is None else _mapping(session_id, answer)


def _mapping(session_id: str, lines: bytes) -> SessionMapping:
    name, upstream_id, epoch, version, credential = lines.decode().split("\n")
    return SessionMapping(session_id, Upstream(name, upstream_id or None), int(epoch), version, credential)


def record_of(session_id: str, answer: bytes | None) -> SessionRecord | None:
    """Read what `redis_scripts.GET` gave."""
    if answer is None:
        return None
    mapping, created, used, idle, ends, log_level, request, result, *uris = _unpack(answer)
    return SessionRecord(
        _mapping(session_id, mapping),
        Handshake(request, result),
        SessionTimes(int(created), int(used), int(idle), int(ends) - int(created)),
        tuple(uri.decode() for uri in uris),
        None if log_level is None else log_level.decode(),
    )


def _unpack(packed: bytes) -> list[Any]:
    """Read values that are each a length, a colon and bytes, or a minus for None."""
    values: list[bytes | None] = []
    at = 0
    while at < len(packed):
        if packed[at] == _NONE:
            values.append(None)
            at += 1
            continue
        colon = packed.index(b":", at)
        end = colon + 1 + int(packed[at:colon])
        values.append(packed[colon + 1 : end])
        at = end
    return values


def stream_of(stream_id: str, answer: bytes | None) -> StreamInfo | None:
    """Read a value of the hash `streams`."""
    if answer is None:
        return None
    numbers, upstream_event_id, label = answer.decode().split("\n", 2)
    _, position, _, _, _, closed = numbers.split(" ")
    return StreamInfo(stream_id, label, int(position), closed == "1", upstream_event_id)


def streams_of(answer: list[bytes] | dict[bytes, bytes] | None) -> Sequence[StreamInfo]:
    """Read all of the hash `streams`, in the order of opening."""
    pairs = dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else answer or {}
    by_place = sorted((int(value.partition(b" ")[0]), stream_of(name.decode(), value)) for name, value in pairs.items())
    return [stream for _, stream in by_place if stream is not None]


def events_of(first: int, answer: Sequence[bytes]) -> Sequence[LoggedEvent]:
    """Read values of the hash `events`, which follow each other from position `first` on."""
    events = []
    for position, value in enumerate(answer, first):
        _, _, upstream_id, data = value.split(b"\n", 3)
        events.append(LoggedEvent(position, Event(data, upstream_id.decode())))
    return events
