"""The event ids that clients hold: ours, with the server's own inside. No I/O.

An id of ours names stream and position, which is enough for the log. It also carries the server's id that was in force,
since the log may be behind the client: a proxy dies between sending an event and logging it. Then the client's own id
says from where the server has to go on, and nothing is lost or sent twice.

Source: MCP 2025-11-25, Basic / Transports / Resumability and Redelivery.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from shadowcat_core.limits import MAX_CARRIED_ID_BYTES
from shadowcat_core.sessions import event_id, parse_event_id

_EPOCH_DIGITS: Final = 15
_MAX_CARRIED_BYTES: Final = int(MAX_CARRIED_ID_BYTES)
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class UpstreamMark(NamedTuple):
    """An event id of a server's, and the epoch of the session in which it means something."""

    epoch: int
    event_id: str

    def __str__(self) -> str:
        return f"{self.epoch}:{self.event_id}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read back what `str` wrote. Returns None for anything else."""
        epoch, colon, upstream_id = text.partition(":")
        if not colon or not upstream_id or not epoch.isascii() or not epoch.isdigit() or len(epoch) > _EPOCH_DIGITS:
            return None
        return cls(int(epoch), upstream_id)


@dataclass(frozen=True, slots=True)
class EventPlace:
    """A place in a stream: behind the event at `position`; `mark` is the latest id that the server gave until there."""

    stream_id: str
    position: int
    mark: UpstreamMark | None = None

    def __str__(self) -> str:
        """Write the id to give to the client: visible ASCII, without commas."""
        ours = event_id(self.stream_id, self.position)
        return ours if self.mark is None else ours + carry(str(self.mark)).decode()

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read a `Last-Event-ID`. Returns None for what is no id of ours, such as a server's own."""
        stream_id, _, rest = text.partition(".")
        position, dot, carried = rest.partition(".")
        place = parse_event_id(f"{stream_id}.{position}")
        if place is None:
            return None
        mark = _read_carried(carried) if dot else None
        return None if dot and mark is None else cls(*place, mark)


def carry(mark: str) -> bytes:
    """Write what of an id stands behind the position: a mark, from the dot on. Empty for one too long to be carried."""
    carried = mark.encode()
    if len(carried) > _MAX_CARRIED_BYTES:
        return b""
    # What `urlsafe_b64encode` does, in two passes where that takes four: each event has an id.
    return b"." + binascii.b2a_base64(carried, newline=False).translate(_URL_SAFE, b"=")


def _read_carried(carried: str) -> UpstreamMark | None:
    try:
        padded = carried.encode("ascii") + b"=" * (-len(carried) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        return None
    # It goes into a header: what no event stream can say as an id has no business there.
    return None if any(mark in text for mark in "\r\n\0") else UpstreamMark.read(text)
