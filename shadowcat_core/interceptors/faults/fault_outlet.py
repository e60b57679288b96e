"""The outlet of one response body that passes through the stream toxics of a rack, in their natural order.

What an event is comes first, then which events come and when, then where the body ends, then how its bytes are cut and
paced; so a cut counts events as the client does. Toxics that are added or removed take effect with the next bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.interceptors.faults.aim import Aim, Place
from shadowcat_core.interceptors.faults.body_faults import Brake, Break, body_fault_of
from shadowcat_core.interceptors.faults.event_faults import AnyEventFault, event_fault_of
from shadowcat_core.interceptors.faults.pieces import Body, Item, Piece
from shadowcat_core.interceptors.faults.toxics import (
    Bandwidth,
    BodyToxic,
    Cut,
    DropGet,
    Duplicate,
    EventToxic,
    ExchangeToxic,
    LineEnds,
    Oversize,
    Reorder,
    SplitUtf8,
    Stall,
    Toxic,
)
from shadowcat_core.outlet import Cut as CutOff
from shadowcat_core.outlet import Send, Step
from shadowcat_core.outlet import Stall as StallFor
from shadowcat_core.sse import SseParser

type Fault = AnyEventFault | Break | Brake
type Note = Callable[[int, str, str], None]
"""Takes the number of an exchange, the name of a toxic, and what it did there."""

_ORDER: Final[tuple[type[Toxic], ...]] = (
    Oversize, LineEnds, Duplicate, Reorder, Cut, Stall, DropGet, SplitUtf8, Bandwidth,
)  # fmt: skip
_LAST: Final = (CutOff, StallFor)


def concerns_body(toxic: Toxic, body: Body) -> bool:
    """True when a toxic may have something to do on a body, whatever chance decides."""
    if not isinstance(toxic, EventToxic | BodyToxic) or not toxic.takes_http_method(body.http_method):
        return False
    if isinstance(toxic, EventToxic):
        return body.is_event_stream
    if isinstance(toxic, DropGet) or (isinstance(toxic, Cut | Stall) and toxic.after is not None):
        return body.is_event_stream and toxic.concerns_any(body.subjects)
    return toxic.concerns_any(body.subjects)


class FaultOutlet:
    """An `Outlet`. Without a toxic that has something to do here, bytes pass as they are given."""

    def __init__(self, body: Body, place: Place, aims: Callable[[], Sequence[Aim]], note: Note) -> None:
        """Make the outlet of one body. `aims` gives the rack's stream toxics; another sequence when they changed."""
        self._body = body
        self._place = place
        self._aims = aims
        self._note = note
        self._parser = SseParser() if body.is_event_stream else None
        self._followed: Sequence[Aim] = ()
        self._faults: dict[Aim, Fault | None] = {}  # None: chance, or a count, decided against it
        self._over = False
        self._follow()

    def begin(self) -> CutOff | None:
        """Say whether the response is not to begin at all, before anything is sent."""
        at_head = (aim for aim, fault in self._faults.items() if isinstance(fault, Break) and fault.at_head)
        aim = next(at_head, None)
        if aim is None:
            return None
        self._over = True
        cut = CutOff("the stream breaks off at its head")
        self._note(self._body.exchange_id, aim.toxic.name, cut.reason)
        return cut

    def send(self, data: bytes) -> Iterable[Step]:
        """Give the steps for some bytes. Nothing is read behind a step that ends the body."""
        if self._over:
            return ()
        left = self._follow()
        if not self._faults and not left and not self._holds:
            return (Send(data),)
        return self._steps([*left, *self._passed(self._pieces(data))])

    def end(self) -> Iterable[Step]:
        """Give the steps for what was held back."""
        if self._over:
            return ()
        rest = self._parser.close() if self._parser is not None else b""
        left = self._follow()
        items: list[Item] = [Piece(rest, self._body)] if rest else []
        return self._steps([*left, *self._passed(items, ending=self._faults)])

    @property
    def _holds(self) -> bool:
        return self._parser is not None and self._parser.held_bytes > 0

    def _follow(self) -> list[Item]:
        """Take notice of toxics that came or went; gives what those that went had held back."""
        aims = self._aims()
        if aims is self._followed:
            return []
        gone = {aim for aim in self._faults if aim not in aims}
        left = self._passed([], ending=gone)
        self._followed = aims
        ours = sorted(
            (aim for aim in aims if concerns_body(aim.toxic, self._body)),
            key=lambda aim: _ORDER.index(type(aim.toxic)),
        )
        self._faults = {aim: self._faults[aim] if aim in self._faults else self._fault_of(aim) for aim in ours}
        return left

    def _fault_of(self, aim: Aim) -> Fault | None:
        toxic, body, place = aim.toxic, self._body, self._place
        tell = partial(self._note, body.exchange_id, toxic.name)
        if isinstance(toxic, EventToxic):
            return event_fault_of(toxic, aim, place, tell)
        if isinstance(toxic, BodyToxic) and aim.takes(place) is not None:
            return body_fault_of(toxic, tell)
        return None

    def _pieces(self, data: bytes) -> list[Item]:
        """Cut what is to be sent into its frames; where that cannot be, it is one piece."""
        body, parser = self._body, self._parser
        if parser is None:
            return [Piece(data, body)]
        try:
            frames = parser.feed(data)
        except MessageTooLarge:
            self._parser = None
            return [Piece(parser.close() + data, body)]
        return [
            Piece(frames.buffer[start:end], body, frames.data(index), data_end - start if data_end > 0 else None)
            for index, (start, end, _, data_end) in enumerate(frames.records)
        ]

    def _passed(self, items: Iterable[Item], ending: Iterable[Aim] = ()) -> list[Item]:
        """Let items pass all faults, and let those go that end."""
        done = set(ending)
        passed = list(items)
        for aim, fault in self._faults.items():
            if fault is None or isinstance(fault, Brake):
                continue
            came, passed = passed, []
            for item in came:
                passed += fault.pass_on(item) if isinstance(item, Piece) else (item,)
                if isinstance(passed[-1] if passed else None, _LAST):
                    break
            else:
                if aim in done:
                    passed += fault.end()
        self._over = self._over or any(isinstance(item, _LAST) for item in passed)
        return passed

    def _steps(self, items: Iterable[Item]) -> Iterable[Step]:
        steps: list[Step] = []
        together: list[bytes] = []
        for item in items:
            if isinstance(item, Piece):
                together.append(item.raw)
                continue
            steps += _sent(together)
            together = []
            steps.append(item)
        steps += _sent(together)
        slowed: Iterable[Step] = steps
        for fault in self._faults.values():
            if isinstance(fault, Brake):
                slowed = fault.slow(slowed)
        return slowed


def _sent(pieces: list[bytes]) -> list[Step]:
    data = b"".join(pieces)
    return [Send(data)] if data else []


def is_stream_toxic(toxic: Toxic) -> bool:
    """True for toxics that an outlet carries out."""
    return isinstance(toxic, ExchangeToxic) and type(toxic) in _ORDER
