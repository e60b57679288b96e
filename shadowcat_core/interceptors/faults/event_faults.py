"""Faults of single events on their way to the client: repeated, out of order, torn, ended otherwise, too large."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

from shadowcat_core.interceptors.faults.aim import Aim, Place
from shadowcat_core.interceptors.faults.pieces import Item, Piece
from shadowcat_core.interceptors.faults.toxics import (
    Duplicate,
    EventToxic,
    LineEnds,
    Oversize,
    Reorder,
    SplitUtf8,
)
from shadowcat_core.outlet import Wait

type Tell = Callable[[str], None]
"""Notes what a fault did."""

_WIDE: Final = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_ENDS: Final = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
_NAMES: Final = tuple(_ENDS)


class EventFault[T: EventToxic](ABC):
    """One toxic on one stream."""

    def __init__(self, toxic: T, aim: Aim, place: Place, tell: Tell) -> None:
        self.toxic = toxic
        self.tell = tell
        self._aim = aim
        self._place = place

    def pass_on(self, piece: Piece) -> Iterable[Item]:
        """Give what goes on in the place of a piece."""
        dice = self._taken(piece) if piece.is_event and self.fits(piece) else None
        return (piece,) if dice is None else self.harm(piece, dice)

    def end(self) -> Iterable[Item]:
        """Give what goes on before the body ends."""
        return ()

    def fits(self, _piece: Piece) -> bool:
        """True when there is something that the toxic can do to an event."""
        return True

    @abstractmethod
    def harm(self, piece: Piece, dice: Random) -> Iterable[Item]:
        """Give what goes on in the place of an event that the toxic takes."""

    def _taken(self, piece: Piece) -> Random | None:
        toxic = self.toxic
        unfiltered = toxic.method == toxic.target == "*"
        if not unfiltered and not any(toxic.concerns(subject) for subject in piece.subjects):
            return None
        return self._aim.takes(self._place)


class _Duplicate(EventFault[Duplicate]):
    def harm(self, piece: Piece, dice: Random) -> Iterable[Item]:  # noqa: ARG002 -- nothing is left to chance
        copies = self.toxic.copies
        self.tell("an event comes twice" if copies == 1 else f"an event comes {copies + 1} times")
        return (piece,) * (copies + 1)


class _Reorder(EventFault[Reorder]):
    """Holds one event at a time; those that come meanwhile pass it, and are not considered themselves."""

    held: Piece | None = None
    passed = 0

    def pass_on(self, piece: Piece) -> Iterable[Item]:
        if self.held is None:
            return super().pass_on(piece)
        if not piece.is_event:
            return (piece,)
        self.passed += 1
        return (piece, *self._let_go()) if self.passed == self.toxic.by else (piece,)

    def harm(self, piece: Piece, dice: Random) -> Iterable[Item]:  # noqa: ARG002 -- likewise
        self.held, self.passed = piece, 0
        return ()

    def end(self) -> Iterable[Item]:
        return self._let_go()

    def _let_go(self) -> Iterable[Item]:
        held, self.held = self.held, None
        if held is None:
            return ()
        self.tell(f"an event comes behind the next {self.passed}" if self.passed else "no event came to be let past")
        return (held,)


class _SplitUtf8(EventFault[SplitUtf8]):
    def fits(self, piece: Piece) -> bool:
        return _WIDE.search(piece.raw) is not None

    def harm(self, piece: Piece, dice: Random) -> Iterable[Item]:
        characters = [match.span() for match in _WIDE.finditer(piece.raw)]
        start, end = _any_of(characters, dice)
        at = start + 1 + int(dice.random() * (end - start - 1))
        self.tell(f"an event comes in two chunks, apart at byte {at}")
        return Piece(piece.raw[:at], piece.body), Wait(self.toxic.ms / 1_000), Piece(piece.raw[at:], piece.body)


class _LineEnds(EventFault[LineEnds]):
    def harm(self, piece: Piece, dice: Random) -> Iterable[Item]:
        to = self.toxic.to if self.toxic.to != "random" else _any_of(_NAMES, dice)
        *lines, rest = _LINE_END.split(piece.raw)
        raw = bytearray()
        for line in lines:
            end = _ENDS[_any_of(_NAMES, dice) if to == "mixed" else to]
            # A CR and the LF of an empty line behind it would be one end, not two.
            raw += line + (b"\r\n" if end == b"\n" and not line and raw.endswith(b"\r") else end)
        raw += rest
        self.tell(f"the lines of an event end otherwise: {to}")
        return (Piece(bytes(raw), piece.body, piece.data),)


class _Oversize(EventFault[Oversize]):
    def fits(self, piece: Piece) -> bool:
        """Blanks behind what is no JSON, such as an endpoint's URL, would change it."""
        return piece.data_end is not None and piece.data.startswith((b"{", b"["))

    def harm(self, piece: Piece, dice: Random) -> Iterable[Item]:  # noqa: ARG002 -- likewise
        blanks = b" " * max(0, self.toxic.bytes - len(piece.raw))
        raw = piece.raw[: piece.data_end] + blanks + piece.raw[piece.data_end :]
        self.tell(f"an event has {len(raw):,} bytes in place of {len(piece.raw):,}")
        return (Piece(raw, piece.body, piece.data),)


def _any_of[T](choices: Sequence[T], dice: Random) -> T:
    # `random()` alone is the same in every version of Python.
    return choices[int(dice.random() * len(choices))]


type AnyEventFault = _Duplicate | _Reorder | _SplitUtf8 | _LineEnds | _Oversize


def event_fault_of(toxic: EventToxic, aim: Aim, place: Place, tell: Tell) -> AnyEventFault:
    """Make what carries a toxic out on one stream."""
    match toxic:
        case Duplicate():
            return _Duplicate(toxic, aim, place, tell)
        case Reorder():
            return _Reorder(toxic, aim, place, tell)
        case SplitUtf8():
            return _SplitUtf8(toxic, aim, place, tell)
        case LineEnds():
            return _LineEnds(toxic, aim, place, tell)
        case Oversize():
            return _Oversize(toxic, aim, place, tell)
        case _:
            raise TypeError(f"{toxic.kind} works on no events")
