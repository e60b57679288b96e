"""Sessions as a person and a script see them: rows, lines and JSON. What peers said comes printable, never as it is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from rich.cells import cell_len

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Json, parse
from shadowcat_core.resumption import StreamPurpose
from shadowcat_core.sessions import SessionRecord, StreamInfo
from shadowcat_core.transcript import printable, shortened

COLUMNS: Final = ("session", "upstream", "epoch", "protocol", "client", "age", "idle", "subscriptions")
_TO_THE_RIGHT: Final = frozenset({"epoch", "age", "idle", "subscriptions"})
_SHORT_ID_CHARS: Final = 12
_MAX_NAME_CHARS: Final = 40
_NONE: Final = "–"
_UNITS: Final = ((1, 60, "s"), (60, 60, "min"), (3600, 48, "h"))


def span_text(ms: int) -> str:
    """How long something took, roughly: `12 s`, `5 min`, `3 h`, `4 d`. Clocks that differ make no negative spans."""
    seconds = max(0, ms) // 1000
    for size, most, unit in _UNITS:
        if seconds < size * most:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def short_ids(ids: Sequence[str]) -> Mapping[str, str]:
    """Cut ids to what tells them apart from each other, by their beginnings; all to the same length."""
    in_order = sorted(ids)
    shared = max((_shared_chars(*pair) for pair in pairwise(in_order)), default=0)
    return {each: each[: max(_SHORT_ID_CHARS, shared + 1)] for each in ids}


def row(record: SessionRecord, short_id: str, now_ms: int) -> Sequence[str]:
    """Make the cells of `COLUMNS`."""
    mapping, times = record.mapping, record.times
    return (
        short_id,
        shortened(mapping.upstream.name, _MAX_NAME_CHARS),
        str(mapping.epoch),
        shortened(mapping.protocol_version, _MAX_NAME_CHARS),
        _who(_client(record)) or _NONE,
        span_text(now_ms - times.created_ms),
        span_text(now_ms - times.used_ms),
        str(len(record.subscriptions)),
    )


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Put rows under `COLUMNS`. By hand: rich takes ten seconds for ten thousand rows, and says nothing meanwhile."""
    widths = [max(map(cell_len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for cells in (COLUMNS, *rows):
        padded = (
            f"{' ' * (width - cell_len(cell))}{cell}"
            if name in _TO_THE_RIGHT
            else f"{cell}{' ' * (width - cell_len(cell))}"
            for name, cell, width in zip(COLUMNS, cells, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def details(record: SessionRecord, streams: Sequence[StreamInfo], now_ms: int) -> Iterator[tuple[str, str]]:
    """Say all about a session, as names and values. A value without a name goes on with the one before."""
    mapping, times = record.mapping, record.times
    server = _part(_message(record.handshake.result), "serverInfo", of="result")
    moves = mapping.epoch - 1
    yield "session", record.session_id
    yield "upstream", printable(mapping.upstream.name)
    yield "its session", printable(mapping.upstream.session_id or "none: this server gives no ids")
    yield "epoch", f"{mapping.epoch}{f', moved {moves} times' if moves > 1 else ', moved once' if moves else ''}"
    yield "protocol", printable(mapping.protocol_version)
    yield "client", _who(_client(record)) or _NONE
    yield "client can", ", ".join(_capabilities(record.handshake.request, "params")) or _NONE
    yield "server", _who(server) or _NONE
    yield "server can", ", ".join(_capabilities(record.handshake.result, "result")) or _NONE
    yield "bound to", "an Authorization header" if mapping.credential else "nobody: whoever knows the id may use it"
    yield "began", f"{_moment(times.created_ms)}, {span_text(now_ms - times.created_ms)} ago"
    yield "last used", f"{_moment(times.used_ms)}, {span_text(now_ms - times.used_ms)} ago"
    yield "ends", f"when idle for {span_text(times.idle_ttl_ms)}, and at {_moment(times.ends_ms)} at the latest"
    yield "log level", printable(record.log_level or _NONE)
    yield from _listed("subscriptions", [printable(uri) for uri in record.subscriptions])
    yield from _listed("streams", [_stream_line(stream) for stream in streams])


def as_json(record: SessionRecord, now_ms: int) -> dict[str, Json]:
    """Make the object of a session in a list. The credential is in none: only whether there is one."""
    mapping, times = record.mapping, record.times
    return {
        "id": record.session_id,
        "upstream": mapping.upstream.name,
        "epoch": mapping.epoch,
        "protocol_version": mapping.protocol_version,
        "client": _name_and_version(_client(record)),
        "created": _moment(times.created_ms),
        "used": _moment(times.used_ms),
        "expires": _moment(times.expires_ms),
        "age_s": max(0, now_ms - times.created_ms) // 1000,
        "idle_s": max(0, now_ms - times.used_ms) // 1000,
        "subscriptions": len(record.subscriptions),
        "log_level": record.log_level,
        "is_bound": bool(mapping.credential),
    }


def all_as_json(record: SessionRecord, streams: Sequence[StreamInfo], now_ms: int) -> dict[str, Json]:
    """Make the object of one session with all that is known of it."""
    server = _part(_message(record.handshake.result), "serverInfo", of="result")
    return {
        **as_json(record, now_ms),
        "upstream_session": record.mapping.upstream.session_id,
        "server": _name_and_version(server),
        "client_capabilities": list(_capabilities(record.handshake.request, "params")),
        "server_capabilities": list(_capabilities(record.handshake.result, "result")),
        "ends": _moment(record.times.ends_ms),
        "idle_ttl_s": record.times.idle_ttl_ms / 1000,
        "subscriptions": list(record.subscriptions),
        "streams": [
            {
                "id": stream.stream_id,
                "requests": list(StreamPurpose.read(stream.label).requests),
                "position": stream.position,
                "is_closed": stream.closed,
                "upstream_event_id": stream.upstream_event_id or None,
            }
            for stream in streams
        ],
    }


def json_line(value: Json) -> str:
    """Write one JSON document in ASCII: what a peer called itself cannot speak to the terminal."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _shared_chars(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _stream_line(stream: StreamInfo) -> str:
    requests = StreamPurpose.read(stream.label).requests
    purpose = f"answers {', '.join(json_line(each) for each in requests)}" if requests else "the server's own"
    last = f", server's id {shortened(stream.upstream_event_id)}" if stream.upstream_event_id else ""
    state = "complete" if stream.closed else "open"
    return f"{stream.stream_id} · {shortened(purpose)} · {state} · at event {stream.position:,}{last}"


def _listed(name: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield name, f"{len(lines):,}" if lines else _NONE
    yield from (("", line) for line in lines)


def _client(record: SessionRecord) -> Mapping[str, Json]:
    return _part(_message(record.handshake.request), "clientInfo", of="params")


def _capabilities(body: bytes, of: str) -> Sequence[str]:
    return [shortened(name, _MAX_NAME_CHARS) for name in _part(_message(body), "capabilities", of=of)]


def _message(body: bytes) -> Json:
    try:
        return parse(body)
    except InvalidMessage:  # whoever wrote it into the store, it is to be listed
        return None


def _part(message: Json, name: str, *, of: str) -> Mapping[str, Json]:
    outer = message.get(of) if isinstance(message, dict) else None
    part = outer.get(name) if isinstance(outer, dict) else None
    return part if isinstance(part, dict) else {}


def _who(info: Mapping[str, Json]) -> str:
    known = [each for each in _name_and_version(info).values() if isinstance(each, str)]
    return shortened(" ".join(known), _MAX_NAME_CHARS)


def _name_and_version(info: Mapping[str, Json]) -> dict[str, Json]:
    name, version = info.get("name"), info.get("version")
    return {"name": name if isinstance(name, str) else None, "version": version if isinstance(version, str) else None}


def _moment(ms: int) -> str:
    """A moment in UTC as RFC 3339 writes it; what is beyond the calendar is said in milliseconds."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"
