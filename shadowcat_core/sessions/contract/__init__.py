"""The contract of session stores as checks, to run on any store of your own. Needs no test framework.

@asynccontextmanager
async def make(settings: Settings) -> AsyncIterator[Store]:
    store = MyStore(clock_ms=settings.clock_ms, retention=settings.retention, max_sessions=settings.max_sessions)
    yield store
    await store.aclose()

await check_store(make)                                         # all of it, or
@pytest.mark.parametrize("check", CONTRACT, ids=check_name)     # one test for each sentence:
async def test_my_store(check): await run_check(check, make)
"""

from collections.abc import Awaitable, Callable
from inspect import getmembers, iscoroutinefunction
from types import ModuleType
from typing import Final

from shadowcat_core.sessions.contract import events, sessions
from shadowcat_core.sessions.contract.given import ContractBroken, Given, MakeStore, SetClock, Settings

__all__ = [
    "CONTRACT",
    "Check",
    "ContractBroken",
    "Given",
    "MakeStore",
    "SetClock",
    "Settings",
    "check_name",
    "check_store",
    "run_check",
]

type Check = Callable[[Given], Awaitable[None]]


def _checks(module: ModuleType) -> list[Check]:
    return [check for _, check in getmembers(module, iscoroutinefunction) if check.__module__ == module.__name__]


CONTRACT: Final[tuple[Check, ...]] = (*_checks(sessions), *_checks(events))
"""Every sentence of the contract."""


def check_name(check: Check) -> str:
    """The sentence that a check is about."""
    return getattr(check, "__name__", repr(check))


async def run_check(check: Check, make: MakeStore) -> None:
    """Run one check on a new store.

    Raises:
        ContractBroken: with the sentence that does not hold, and what was found instead.
    """
    clock = SetClock()
    settings = Settings(clock)
    async with make(settings) as store:
        await check(Given(store, settings, clock))


async def check_store(make: MakeStore) -> None:
    """Run all checks, each on a new store.

    Raises:
        ContractBroken: for the first that does not hold.
    """
    for check in CONTRACT:
        await run_check(check, make)
