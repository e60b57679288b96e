"""What is to be done next for an exchange: values, for whoever has the connections to carry them out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from shadowcat_core.sessions.lifecycle import HeaderEdit
from shadowcat_core.upstreams import Endpoint


class Sends(Enum):
    """What goes to a server, and what the client gets of the answer."""

    REQUEST = auto()
    """Its request, for the whole answer."""
    REQUEST_AGAIN = auto()
    """Its request, when the stream that it was answered with broke off: the body alone, behind what the client has."""
    RESUMPTION = auto()
    """A GET without a body in the place of its request, which goes on with such a stream: likewise."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Send to `endpoint`, with `path` (and its query) as the target and `edits` made to the request's headers."""

    endpoint: Endpoint
    path: str
    edits: Sequence[HeaderEdit] = ()
    sends: Sends = Sends.REQUEST

    @property
    def resumes(self) -> bool:
        """True when it goes as a GET without a body, whatever the client's request was."""
        return self.sends is Sends.RESUMPTION

    @property
    def goes_on(self) -> bool:
        """True when the client's response has begun, and goes on with the body of the answer."""
        return self.sends is not Sends.REQUEST


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the client without a server: `body` is JSON, or empty."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Pass:
    """Let the answer go to the client, with `edits` made to its headers, and another status where it is given."""

    edits: Sequence[HeaderEdit] = ()
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Gather:
    """Wait for the body before anything goes to the client, and decide then.

    There is enough of it when it ends, when `is_enough` says so of what there is, or at `max_bytes`.
    """

    max_bytes: int
    is_enough: Callable[[bytes], bool] | None = None


@dataclass(frozen=True, slots=True)
class GoOn:
    """The server goes on with the stream: its bytes follow those that the client has.

    When it was asked again and has not answered with events, `data` is its whole answer as one.
    """

    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Tail:
    """The stream is over: send these bytes, which may be none, and end the client's response.

    `cut` is the reason to break it off instead, as its server did.
    """

    data: bytes = b""
    cut: str | None = None


type Heard = Pass | Gather | GoOn
"""What becomes of the head of an answer."""

type Decided = Pass | Leg | Reply | GoOn | Tail
"""What becomes of an answer that had to be looked at."""


def edited(fields: Iterable[tuple[bytes, bytes]], edits: Iterable[HeaderEdit]) -> tuple[tuple[bytes, bytes], ...]:
    """Write header fields with edits made: each in the place of the first that it replaces, else at the end."""
    pending = {name.lower().encode(): (name, value) for name, value in edits}
    names = frozenset(pending)
    written = []
    for field in fields:
        name = field[0].lower()
        if name not in names:
            written.append(field)
        elif (edit := pending.pop(name, None)) is not None and edit[1] is not None:
            written.append(_field(edit[0], edit[1]))
    written += [_field(name, value) for name, value in pending.values() if value is not None]
    return tuple(written)


def _field(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode(), value.encode("utf-8", "surrogateescape")
