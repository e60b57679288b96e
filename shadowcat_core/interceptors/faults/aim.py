"""Which ones a toxic takes: filters have matched, and now counts and seeded chance decide.

The dice of every decision are made of the seed, the toxic's name, the exchange's label and how many of that exchange
the toxic has seen: nothing that other exchanges do at the same time changes them. Only `from` and `times` that count
over the whole run go by arrival.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from shadowcat_core.interceptors.faults.toxics import Toxic
from shadowcat_core.limits import MAX_FAULT_LABELS
from shadowcat_core.messages import Message

_CHANGING = {"_meta", "requestState"}
"""Members of params that differ from run to run: traces, progress tokens, what only its server can read."""


@dataclass(slots=True)
class Tally:
    """How many a toxic has been shown, and how many of them it took."""

    matched: int = 0
    taken: int = 0


@dataclass(slots=True)
class Place:
    """One exchange, or one pipe: its label, and each toxic's tally there."""

    label: str
    tallies: dict["Aim", Tally] = field(default_factory=dict)


class Places:
    """The exchanges that run, labelled by what they ask and how often that was asked before."""

    def __init__(self, *, max_labels: int = MAX_FAULT_LABELS) -> None:
        self._places: OrderedDict[int | None, Place] = OrderedDict()
        self._asked: OrderedDict[str, int] = OrderedDict()
        self._max_labels = int(max_labels)

    def __len__(self) -> int:
        return len(self._places)

    def open(self, exchange_id: int | None, what: str = "") -> Place:
        """Give the place of an exchange that asks `what`; a new one when it is not known."""
        place = self._places.get(exchange_id)
        if place is None:
            nth = self._asked.pop(what, 0) + 1
            self._asked[what] = nth
            place = self._places[exchange_id] = Place(f"{what}#{nth}")
            # What is judged after its exchange was closed, as its client left, would otherwise stay for ever.
            if len(self._asked) > self._max_labels:
                self._asked.popitem(last=False)
            if len(self._places) > self._max_labels:
                self._places.popitem(last=False)
        return place

    def begin_anew(self) -> None:
        """Forget what was asked before; exchanges that run keep their labels."""
        self._asked.clear()

    def close(self, exchange_id: int | None) -> None:
        """Forget an exchange that is over."""
        self._places.pop(exchange_id, None)


class Aim:
    """Decides for one toxic."""

    def __init__(self, toxic: Toxic, seed: int) -> None:
        self.toxic = toxic
        self.tally = Tally()
        self._seed = seed if toxic.seed is None else toxic.seed

    def takes(self, place: Place) -> Random | None:
        """Count one more that matches; gives the dice for what is left to chance when it is to be taken."""
        toxic = self.toxic
        here = place.tallies.setdefault(self, Tally())
        here.matched += 1
        self.tally.matched += 1
        counted = here if toxic.per == "exchange" else self.tally
        if counted.matched < toxic.start or (toxic.times is not None and counted.taken >= toxic.times):
            return None
        # No secret depends on it, and it must give the same again.
        dice = Random(f"{self._seed}/{toxic.name}/{place.label}/{here.matched}")  # noqa: S311
        if toxic.probability < 1 and dice.random() >= toxic.probability:
            return None
        here.taken += 1
        self.tally.taken += 1
        return dice


def label_of(http_method: str, asked: Iterable[Message]) -> str:
    """Say what an exchange asks, in a way that is the same in the next run."""
    digest = blake2b(digest_size=8)
    for message in asked:
        payload = message.payload if message.is_json else None
        params = payload.get("params") if isinstance(payload, dict) else None
        if isinstance(params, dict):
            params = {key: value for key, value in params.items() if key not in _CHANGING}
        digest.update(repr((message.method, message.id, params)).encode("utf-8", "backslashreplace"))
    return f"{http_method} {digest.hexdigest()}"
