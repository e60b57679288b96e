"""All toxics that are in force, by name: added and removed while traffic runs, each brought to where it works.

No I/O. Message toxics become interceptors of a pipeline, stream toxics outlets of bodies, HTTP toxics what happens to a
request. A rack is used from one thread.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from shadowcat_core.errors import BadToxic
from shadowcat_core.interceptors.faults.aim import Aim, Places, Tally, label_of
from shadowcat_core.interceptors.faults.fault_outlet import FaultOutlet, Note, concerns_body, is_stream_toxic
from shadowcat_core.interceptors.faults.http_faults import Answer, AnyHttpFault, Asked, HttpAct, http_fault_of
from shadowcat_core.interceptors.faults.message_faults import interceptor_of
from shadowcat_core.interceptors.faults.pieces import Body
from shadowcat_core.interceptors.faults.syntax import parse_toxic, toxic_text
from shadowcat_core.interceptors.faults.toxics import HttpToxic, MessageToxic, Toxic
from shadowcat_core.interceptors.pipeline import Pipeline
from shadowcat_core.messages import Message

PRIORITY: Final = 1_000_000
"""Faults come last: everybody else judges what really came, and what they made of it breaks."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A toxic in force, as text that makes it again, and what it has done."""

    name: str
    text: str
    tally: Tally


class Rack:
    """The toxics in force."""

    def __init__(self, pipeline: Pipeline, note: Note, *, seed: int = 0) -> None:
        """Make a rack without toxics.

        Args:
            pipeline: message toxics become interceptors of it, called `fault:NAME`.
            note: told of what happens beside the pipeline, which has its own records.
            seed: decides what is left to chance, for toxics that bring no seed of their own.
        """
        self.seed = seed
        self._pipeline = pipeline
        self._note = note
        self._places = Places()
        self._aims: dict[str, Aim] = {}
        self._streams: tuple[Aim, ...] = ()
        self._http: dict[str, AnyHttpFault] = {}

    def __len__(self) -> int:
        return len(self._aims)

    @property
    def listed(self) -> list[Listed]:
        """The toxics in force, in the order they were added."""
        return [Listed(name, toxic_text(aim.toxic), aim.tally) for name, aim in self._aims.items()]

    @property
    def has_http(self) -> bool:
        """True when requests are to be shown to `ask`."""
        return bool(self._http)

    @property
    def has_streams(self) -> bool:
        """True when bodies may need an outlet."""
        return bool(self._streams)

    def add(self, toxic: Toxic | str) -> str:
        """Put a toxic in force; gives its name.

        Raises:
            BadToxic: the text describes none, or the name is taken.
        """
        [named] = _named([parse_toxic(toxic) if isinstance(toxic, str) else toxic], self._aims)
        self._install(named)
        self._follow()
        return named.name

    def swap(self, gone: Iterable[str], toxics: Sequence[Toxic], *, seed: int) -> list[str]:
        """Put some toxics out of force, by name, and others in their place, with another seed; gives their names.

        Raises:
            BadToxic: a name is taken. Nothing has changed then.
        """
        gone = set(gone)
        named = _named(toxics, self._aims.keys() - gone)
        for name in gone:
            self.remove(name)
        self.seed = seed
        for toxic in named:
            self._install(toxic)
        self._follow()
        return [toxic.name for toxic in named]

    def remove(self, name: str) -> None:
        """Put a toxic out of force. What it ended stays ended, and what it held back goes on with the next bytes.

        Raises:
            BadToxic: there is none of that name.
        """
        aim = self._aims.pop(name, None)
        if aim is None:
            near = get_close_matches(name, list(self._aims), 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise BadToxic(f"no toxic is called {name!r}{hint}; there are {', '.join(self._aims) or 'none'}")
        if isinstance(aim.toxic, MessageToxic):
            self._pipeline.remove(_in_pipeline(name))
        self._http.pop(name, None)
        self._follow()

    def clear(self) -> None:
        """Put all toxics out of force."""
        for name in list(self._aims):
            self.remove(name)

    def open(self, exchange_id: int, http_method: str, messages: Sequence[Message]) -> None:
        """Take note of what an exchange asks; chance goes by that. Without it, chance goes by the order of arrival."""
        self._places.open(exchange_id, label_of(http_method, messages))

    def close(self, exchange_id: int) -> None:
        """Forget an exchange that is over."""
        self._places.close(exchange_id)

    def ask(self, asked: Asked) -> list[HttpAct]:
        """Give what happens to a request, in order; behind an `Answer` there is nothing more. It is noted."""
        acts: list[HttpAct] = []
        place = self._places.open(asked.exchange_id)
        for name, fault in self._http.items():
            act = fault.ask(asked, place)
            if act is not None:
                self._note(asked.exchange_id, name, act.text)
                acts.append(act)
            if isinstance(act, Answer):
                break
        return acts

    def outlet(self, body: Body) -> FaultOutlet | None:
        """Make the outlet of a response body; None when no toxic has to do with it."""
        if not any(concerns_body(aim.toxic, body) for aim in self._streams):
            return None
        return FaultOutlet(body, self._places.open(body.exchange_id), lambda: self._streams, self._note)

    def _install(self, toxic: Toxic) -> None:
        if not self._aims:  # so that the same toxics bring the same faults again, without a new process
            self._places.begin_anew()
        aim = Aim(toxic, self.seed)
        if isinstance(toxic, MessageToxic):
            self._pipeline.add(
                interceptor_of(toxic, aim, self._places),
                name=_in_pipeline(toxic.name),
                priority=PRIORITY,
                fail="open",
                allow_invalid=True,
            )
        elif isinstance(toxic, HttpToxic):
            self._http[toxic.name] = http_fault_of(toxic, aim)
        self._aims[toxic.name] = aim

    def _follow(self) -> None:
        self._streams = tuple(aim for aim in self._aims.values() if is_stream_toxic(aim.toxic))


def _named(toxics: Sequence[Toxic], taken: Collection[str]) -> list[Toxic]:
    """Give those without a name that of their kind, and a number when there is one already.

    Raises:
        BadToxic: a name is taken, or given twice.
    """
    names = set(taken)
    for toxic in toxics:
        if toxic.name in names:
            raise BadToxic(f"there is a toxic {toxic.name!r} already; remove it, or say another name=")
        names |= {toxic.name} - {""}
    named: list[Toxic] = []
    for toxic in toxics:
        name, number = toxic.name or toxic.kind, 2
        while not toxic.name and name in names:
            name, number = f"{toxic.kind}-{number}", number + 1
        names.add(name)
        named.append(toxic.model_copy(update={"name": name}))
    return named


def _in_pipeline(name: str) -> str:
    return f"fault:{name}"
