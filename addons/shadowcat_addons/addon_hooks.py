"""Calls the MCP hooks and interceptors of other people's scripts, in the pipeline and not by mitmproxy's dispatch.

    mitmdump -s addons/shadowcat.py -s mine.py

Whatever addon defines `mcp_request`, `mcp_response`, `mcp_notification`, `mcp_message` or `mcp_batch` is called, and so
is an interceptor in the `addons` list of a script; `docs/interceptors.md` is the manual. Where nobody defines any,
nothing is in the pipeline, and all that is left is one look at mitmproxy's table of addons for each exchange.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import isroutine
from operator import is_
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from mitmproxy import ctx

from shadowcat_core.interceptors import Continue, Fail, Mode, Pipeline, Stage, check_declared
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.messages import Message, MessageBatch

logger = logging.getLogger(__name__)

HOOKS: Final[Mapping[str, tuple[Kind, ...] | None]] = {
    "mcp_batch": None,
    "mcp_message": None,
    "mcp_request": (Kind.REQUEST,),
    "mcp_response": (Kind.RESPONSE, Kind.ERROR),
    "mcp_notification": (Kind.NOTIFICATION,),
}
"""The kinds of message that each is shown; None is all. Those of one addon are called in this order."""
DECLARATIONS: Final = (
    "mcp_methods", "mcp_direction", "mcp_exact", "mcp_priority", "mcp_mode", "mcp_fail", "mcp_timeout_s",
)  # fmt: skip
"""What hooks declare."""
INTERCEPTORS: Final = ("intercept_batch", "intercept")
_CONTINUE: Final = Continue()


@dataclass(frozen=True, slots=True)
class Wish:
    """That a method of an addon be called, with what the addon declares about it."""

    addon: str
    """As mitmproxy knows it: no two addons have the same."""
    method: str
    label: str
    interest: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def called(self) -> str:
        """What people call the method: its addon's name and its own."""
        return self.label if self.method in HOOKS else f"{self.label}.{self.method}"

    @classmethod
    def of(cls, addon: object, name: str, method: str) -> "Wish":
        """Read what an addon declares: as interceptors do, or for hooks with `mcp_` in front of each name."""
        is_hook = method in HOOKS
        prefix = _prefix(method)
        defaults = {
            "priority": 0,
            "mode": Mode.ENFORCE,
            # Like mitmproxy's own hooks, which let the flow pass; who writes an interceptor means to decide.
            "fail": Fail.OPEN if is_hook else Fail.CLOSED,
            "timeout_s": None,
        }
        interest = {key: getattr(addon, prefix + key, None) for key in ("methods", "direction")}
        interest["kinds"] = HOOKS[method] if is_hook else getattr(addon, "kinds", None)
        interest["exact"] = getattr(addon, prefix + "exact", True)
        settings = {key: getattr(addon, prefix + key, default) for key, default in defaults.items()}
        label = f"{_label(addon)}.{method}" if is_hook else _label(addon)
        return cls(name, method, label, interest, settings)


class Guest:
    """Somebody else's method at its place in our pipeline.

    It is found by its addon's name at each call: after a script was loaded again, or removed, nothing of the old one
    is called, not even on streams that run or for messages that were held meanwhile.
    """

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.stage: Stage | None = None
        """None when the wish made no sense."""
        self.is_renewed = False
        """Whether it was loaded again, which nobody has been told."""
        vars(self).update(wish.interest)
        self._addon = ctx.master.addons.lookup.get(wish.addon)
        self._method = _method(self._addon, wish.method)

    def find(self) -> Callable[[Any], Any] | None:
        """Find what is to be called now; None when it is gone."""
        addon = ctx.master.addons.lookup.get(self.wish.addon)
        if addon is not self._addon:
            self._addon, self._method = addon, _method(addon, self.wish.method)
            if self.stage is not None:
                self.is_renewed = self._method is not None
                self.stage.forget_failures()
        return self._method


class MessageHook(Guest):
    """A hook of single messages: where it says nothing, the message goes on."""

    def intercept(self, message: Message) -> Any:
        method = self.find()
        verdict = None if method is None else method(message)
        if verdict is None:
            return _CONTINUE
        return _or_continue(verdict) if isinstance(verdict, Awaitable) else verdict


class MessageInterceptor(Guest):
    """An interceptor of single messages."""

    def intercept(self, message: Message) -> Any:
        method = self.find()
        return _CONTINUE if method is None else method(message)


class BatchInterceptor(Guest):
    """A hook of batches, or an interceptor of them: the same."""

    def intercept_batch(self, batch: MessageBatch) -> Any:
        method = self.find()
        return None if method is None else method(batch)


class AddonHooks:
    """Keeps the pipeline in step with the addons that mitmproxy has loaded."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._guests: list[Guest] = []
        self._seen: tuple[object, ...] = ()
        self._is_stale = True
        self._strange: frozenset[str] = frozenset()

    def configure(self, _updated: AbstractSet[str]) -> None:
        # Addons may declare what their options say, and be configured after us: the next look will find it.
        self._is_stale = True

    def done(self) -> None:
        self._take_in([], 0)

    def look(self) -> None:
        """Follow addons that came, went or were loaded again since the last look. Quick when none did."""
        lookup, seen = ctx.master.addons.lookup, self._seen
        if self._is_stale or len(lookup) != len(seen) or not all(map(is_, lookup.values(), seen)):
            self._is_stale = False
            self._seen = tuple(lookup.values())
            self._follow(list(_wishes(ctx.master.addons.chain, lookup)))
            self._wonder_at(frozenset(_strange_names(ctx.master.addons.chain)))

    def _follow(self, wishes: Sequence[Wish]) -> None:
        # Those before the first difference stay, with their counters. The others are added anew, as the order of
        # adding is the order of calling.
        same = 0
        for guest, wish in zip(self._guests, wishes, strict=False):
            if guest.wish != wish:
                break
            guest.find()  # an old script is not kept until its next message
            same += 1
        renewed = [guest.wish.called for guest in self._guests[:same] if guest.is_renewed]
        for guest in self._guests[:same]:
            guest.is_renewed = False
        if renewed:
            logger.info("shadowcat: loaded anew: %s", ", ".join(renewed))
        if same < max(len(self._guests), len(wishes)):
            self._take_in(wishes[same:], same)
            names = [guest.stage.settings.name for guest in self._guests if guest.stage is not None]
            logger.info("shadowcat: hooks and interceptors of other addons: %s", ", ".join(names) or "none")

    def _wonder_at(self, strange: frozenset[str]) -> None:
        """Tell of names that seem to be slips, of each once while it is there."""
        for name in sorted(strange - self._strange):
            logger.warning("shadowcat: %s", name)
        self._strange = strange

    def _take_in(self, wishes: Iterable[Wish], start: int) -> None:
        """Make these the guests from an index on."""
        for guest in self._guests[start:]:
            if guest.stage is not None:
                self._pipeline.remove(guest.stage)
        self._guests[start:] = map(self._guest, wishes)

    def _guest(self, wish: Wish) -> Guest:
        guest: BatchInterceptor | MessageInterceptor | MessageHook
        if wish.method.endswith("batch"):
            guest = BatchInterceptor(wish)
        else:
            guest = MessageHook(wish) if wish.method in HOOKS else MessageInterceptor(wish)
        try:
            addon = ctx.master.addons.get(wish.addon)
            if isinstance(addon, type):
                raise ValueError(f"{addon.__name__} is a class, and `addons` takes objects: write `{addon.__name__}()`")
            check_declared({**wish.interest, **wish.settings}, _prefix(wish.method))
            guest.stage = self._pipeline.add(guest, name=self._free_name(wish.label), **wish.settings)
        except ValueError as exc:
            logger.error("shadowcat: %s is not called: %s", wish.called, exc)
        return guest

    def _free_name(self, label: str) -> str:
        taken = {stage.settings.name for stage in self._pipeline.stages}
        name, number = label, 2
        while name in taken:
            name, number = f"{label}-{number}", number + 1
        return name


def _prefix(method: str) -> str:
    """What stands in front of the names that a method's addon declares."""
    return "mcp_" if method in HOOKS else ""


async def _or_continue(verdict: Awaitable[Any]) -> Any:
    answer = await verdict
    return _CONTINUE if answer is None else answer


def _wishes(chain: Iterable[object], lookup: Mapping[str, object]) -> Iterator[Wish]:
    """Find what the addons of a chain define, in their order."""
    names = {id(addon): name for name, addon in lookup.items()}
    for addon, of_script in _traverse(chain):
        name = names.get(id(addon))
        if name is None:
            continue
        for hook in HOOKS:
            if _method(addon, hook) is not None:
                yield Wish.of(addon, name, hook)
        # Elsewhere the word has other meanings: an addon of mitmweb's own has a method `intercept`.
        shape = next((each for each in INTERCEPTORS if of_script and _method(addon, each) is not None), None)
        if shape is not None:
            yield Wish.of(addon, name, shape)


def _strange_names(chain: Iterable[object]) -> Iterator[str]:
    """Find what scripts define that looks like a hook or a declaration and is none, and say what may be meant."""
    known = (*HOOKS, *DECLARATIONS)
    for addon, of_script in _traverse(chain):
        if not (of_script or isinstance(addon, ModuleType)):
            continue
        for name in dir(addon):
            if not name.startswith("mcp_") or name in known:
                continue
            found = getattr(addon, name, None)
            # Scripts have values of their own: only one that is called almost like a declaration may be a slip.
            names, likeness = (tuple(HOOKS), 0.0) if isroutine(found) else (DECLARATIONS, 0.8)
            nearest = get_close_matches(name, names, n=1, cutoff=likeness)
            if nearest:
                yield f"{_label(addon)}.{name} means nothing here; is it meant to be {nearest[0]}?"


def _traverse(chain: Iterable[object], *, of_script: bool = False) -> Iterator[tuple[object, bool]]:
    """Give each addon, and whether it stands in the `addons` list of a script."""
    for addon in chain:
        yield addon, of_script
        yield from _traverse(getattr(addon, "addons", ()), of_script=of_script or isinstance(addon, ModuleType))


def _method(addon: object, name: str) -> Callable[[Any], Any] | None:
    found = getattr(addon, name, None)
    return found if callable(found) else None


def _label(addon: object) -> str:
    if isinstance(addon, ModuleType):
        return Path(str(getattr(addon, "name", addon.__name__))).stem  # mitmproxy names scripts by their paths
    name = getattr(addon, "name", None)
    if isinstance(name, str):
        return name
    return addon.__name__ if isinstance(addon, type) else type(addon).__name__
