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
from operator import is_
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from mitmproxy import ctx

from shadowcat_core.interceptors import Continue, Fail, Mode, Pipeline, Stage
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

    @classmethod
    def of(cls, addon: object, name: str, method: str) -> "Wish":
        """Read what an addon declares: as interceptors do, or for hooks with `mcp_` in front of each name."""
        is_hook = method in HOOKS
        prefix = "mcp_" if is_hook else ""
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
        vars(self).update(wish.interest)
        self._addon: object = None
        self._method: Callable[[Any], Any] | None = None

    def find(self) -> Callable[[Any], Any] | None:
        """Find what is to be called now; None when it is gone."""
        addon = ctx.master.addons.lookup.get(self.wish.addon)
        if addon is not self._addon:
            self._addon, self._method = addon, _method(addon, self.wish.method)
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

    def _follow(self, wishes: Sequence[Wish]) -> None:
        # Those before the first difference stay, with their counters. The others are added anew, as the order of
        # adding is the order of calling.
        same = 0
        for guest, wish in zip(self._guests, wishes, strict=False):
            if guest.wish != wish:
                break
            guest.find()  # an old script is not kept until its next message
            same += 1
        if same < max(len(self._guests), len(wishes)):
            self._take_in(wishes[same:], same)
            names = [guest.stage.settings.name for guest in self._guests if guest.stage is not None]
            logger.info("shadowcat: hooks and interceptors of other addons: %s", ", ".join(names) or "none")

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
            if isinstance(ctx.master.addons.get(wish.addon), type):
                raise TypeError("it belongs to a class, and `addons` takes objects: write `()` behind the class's name")
            guest.stage = self._pipeline.add(guest, name=self._free_name(wish.label), **wish.settings)
        except (TypeError, ValueError) as exc:
            logger.error(
                "shadowcat: %s.%s is not called: %s", wish.label.removesuffix(f".{wish.method}"), wish.method, exc
            )
        return guest

    def _free_name(self, label: str) -> str:
        taken = {stage.settings.name for stage in self._pipeline.stages}
        name, number = label, 2
        while name in taken:
            name, number = f"{label}-{number}", number + 1
        return name


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
    return name if isinstance(name, str) else type(addon).__name__
