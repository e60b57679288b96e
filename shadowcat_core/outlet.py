"""The last step of a stream's bytes to the client: sent on, late, in pieces, or never.

An `Outlet` stands behind everything that judged and edited messages. It is given the bytes that are about to go to the
client, and gives the steps to carry out in their place, in order. It knows time only as a length to wait: whoever
carries the steps out has the clock and the connection.

One outlet serves one response body, from one thread. On an event stream it is given whole SSE frames (one or more at
once), on any other body whatever pieces there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes, as one chunk of their own. Without bytes it is nothing to do."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing on this stream for so long; what comes meanwhile waits behind it, in order."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Break the client's stream off, as a dying server would: no end of the body is sent, and no step follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more and keep the stream open until the client leaves; no step follows."""

    reason: str


type Step = Send | Wait | Cut | Stall


class Outlet(Protocol):
    """Decides how the bytes of one response body go to the client."""

    def send(self, data: bytes) -> Iterable[Step]:
        """Give the steps for bytes that are about to go to the client. What is not sent is kept or gone."""
        ...

    def end(self) -> Iterable[Step]:
        """Give the steps before the body ends in good order: what was kept. After a `Cut` or `Stall` it does not."""
        ...


class Refusal:
    """Lets nothing of a body go to the client."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def send(self, _data: bytes) -> Iterable[Step]:
        return (Cut(self._reason),)

    def end(self) -> Iterable[Step]:
        return ()
