"""Faults of a whole body on its way to the client: slow, broken off, or without end."""

from collections.abc import Iterable, Iterator
from typing import Final

from shadowcat_core.interceptors.faults.event_faults import Tell
from shadowcat_core.interceptors.faults.pieces import Item, Piece
from shadowcat_core.interceptors.faults.toxics import Bandwidth, BodyToxic, Cut, DropGet, Stall
from shadowcat_core.outlet import Cut as CutOff
from shadowcat_core.outlet import Send, Step, Wait
from shadowcat_core.outlet import Stall as StallFor

SLICE_S: Final = 0.05
"""A slow body comes in slices of so much time: fine enough to look steady, coarse enough to cost nothing."""


class Break:
    """Ends a body, in its own way, behind so many events or bytes."""

    def __init__(self, toxic: Cut | Stall | DropGet, tell: Tell) -> None:
        self._after = toxic.after
        self._after_bytes = None if isinstance(toxic, DropGet) else toxic.after_bytes
        self._stalls = isinstance(toxic, Stall)
        self._tell = tell
        self._events = 0
        self._bytes = 0
        self.at_head = isinstance(toxic, DropGet) and toxic.after == 0
        """True when the response is not to begin at all. A silent stream brings nothing to end it at."""

    def pass_on(self, piece: Piece) -> Iterable[Item]:
        if self._after_bytes is not None:
            left = self._after_bytes - self._bytes
            self._bytes += len(piece.raw)
            if len(piece.raw) < left:
                return (piece,)
            return Piece(piece.raw[:left], piece.body), self._over(self._after_bytes, "byte")
        if not piece.is_event:
            return (piece,)
        if self._after == 0:
            return (self._over(0, "event"),)
        self._events += 1
        return (piece, self._over(self._events, "event")) if self._events == self._after else (piece,)

    def end(self) -> Iterable[Item]:
        return ()

    def _over(self, count: int, unit: str) -> CutOff | StallFor:
        verb = "stalls" if self._stalls else "is cut off"
        text = f"the body {verb} behind {count:,} {unit}{'' if count == 1 else 's'}"
        self._tell(text)
        return StallFor(text) if self._stalls else CutOff(text)


class Brake:
    """Lets a body pass at so many bytes a second. It comes last, when all else is decided: it works on steps."""

    def __init__(self, toxic: Bandwidth, tell: Tell) -> None:
        self._bytes_per_s = toxic.bytes_per_s
        tell(f"the body comes at {toxic.bytes_per_s:,} bytes a second")

    def slow(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Wait before each slice of what is sent for as long as its bytes take."""
        size = max(1, int(self._bytes_per_s * SLICE_S))
        for step in steps:
            if isinstance(step, Send):
                for start in range(0, len(step.data), size):
                    part = step.data[start : start + size]
                    yield Wait(len(part) / self._bytes_per_s)
                    yield Send(part)
            else:
                yield step


def body_fault_of(toxic: BodyToxic, tell: Tell) -> Break | Brake:
    """Make what carries a toxic out on one body."""
    match toxic:
        case Bandwidth():
            return Brake(toxic, tell)
        case Cut() | Stall() | DropGet():
            return Break(toxic, tell)
        case _:
            raise TypeError(f"{toxic.kind} works on no bodies")
