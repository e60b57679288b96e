"""What mitmproxy does for each exchange and can be had for less, with the same outcome.

At each of an exchange's sixteen events it asks each of its thirty addons for a hook, in a context manager and a
coroutine of its own, and most have none; and it checks the type of each field of each message with exceptions that are
garbage at once. Together that is a third of what an exchange costs.
"""

import inspect
from collections.abc import Callable, Hashable
from dataclasses import fields
from functools import cache
from operator import itemgetter
from typing import Any, Final, cast

from mitmproxy import addonmanager, hooks, http
from mitmproxy.addonmanager import AddonManager
from mitmproxy.exceptions import AddonHalt, OptionsError

from shadowcat_addons.http_stream.replacing import replace

_hook: Final = itemgetter(1)  # of pairs, an addon and its hook


def economise() -> Callable[[], None]:
    """Begin to economise. Returns what undoes this."""
    undone = [replace(AddonManager, "trigger_event", _trigger_event), replace(hooks.Hook, "args", _args)]
    check = getattr(http.MessageData, "__post_init__", None)  # python -O leaves it out
    if check is not None:
        undone.append(replace(http.MessageData, "__post_init__", _checked_once(check)))

    def undo() -> None:
        for each in undone:
            each()

    return undo


# --- Calling addons ---------------------------------------------------------------------------------------------------


async def _trigger_event(self: AddonManager, event: hooks.Hook) -> None:
    args, name = event.args(), event.name
    for addon in self.chain:
        try:
            # Each time, as it may have learned or lost what it has since.
            has_others = hasattr(addon, "addons")
            hook = None if has_others else getattr(addon, name, None)
            if has_others or (hook and not callable(hook)):
                for each in map(_hook, self._iter_hooks(addon, event)):
                    found = each(*args)
                    if found is not None and inspect.isawaitable(found):
                        await found
            elif hook:
                found = hook(*args)
                if found is not None and inspect.isawaitable(found):
                    await found
        except AddonHalt:
            return
        except OptionsError:
            raise
        except Exception as exc:  # noqa: BLE001 -- one addon's failure is said, and is not that of the others
            _say(exc)


def _say(exc: Exception) -> None:
    """Log what an addon has raised, its traceback from the addon on, as mitmproxy does."""
    trace = exc.__traceback__
    its_own = trace if trace is None else trace.tb_next
    addonmanager.logger.error(f"Addon error: {exc}", exc_info=(type(exc), exc, its_own or trace))


@cache
def _names(event: Hashable) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cast(Any, event)))  # a dataclass


def _args(self: hooks.Hook) -> list[Any]:
    return [getattr(self, name) for name in _names(cast(Hashable, type(self)))]


# --- Checking messages ------------------------------------------------------------------------------------------------


def _checked_once(check: Callable[[http.MessageData], None]) -> Callable[[http.MessageData], None]:
    """Check no more fields whose values are of types that were found right: the outcome depends on types alone."""
    right: set[tuple[type, ...]] = set()

    def check_new(self: http.MessageData) -> None:
        types = (type(self), *map(type, vars(self).values()))
        if types not in right:
            check(self)
            right.add(types)

    return check_new
