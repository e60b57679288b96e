"""The time in which a store is away: what it must be told, the search for it, and the moment it is back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from shadowcat_core.errors import StoreError, StoreUnavailable
from shadowcat_core.limits import STORE_WARNING_INTERVAL_S
from shadowcat_core.sessions.memory_store import MemoryStore
from shadowcat_core.sessions.model import ClockMs
from shadowcat_core.sessions.resync import Journal, push_all, push_journal
from shadowcat_core.sessions.store import Store

_FEW: Final = 32
"""Sessions whose changes are handed over while everybody waits: a few milliseconds."""
_PASSES: Final = 5


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Something to warn of: the store is away (`error` says why, `away_ms` how long), or back (`error` is None).

    `waiting` counts the sessions of which the store does not know all.
    """

    error: StoreError | None
    away_ms: int
    waiting: int


class Outage:
    """Knows whether a store is away. Looks for it in a task of its own, and hands over what happened meanwhile.

    `on_report` hears of an outage at once, then once a minute, and of its end; one that raises is counted in
    `report_failures`. `sleep` takes seconds.
    """

    def __init__(
        self,
        primary: Store,
        local: MemoryStore,
        *,
        on_report: Callable[[StoreReport], None],
        clock_ms: ClockMs,
        sleep: Callable[[float], Awaitable[object]],
        retry_ms: int,
    ) -> None:
        self.journal = Journal()
        self.report_failures = 0
        self._primary = primary
        self._local = local
        self._on_report = on_report
        self._clock_ms = clock_ms
        self._sleep = sleep
        self._retry_s = retry_ms / 1000
        self._since_ms: int | None = None
        self._warned_ms = 0
        self._search: asyncio.Task[None] | None = None
        # Closed for the moment in which the last changes are handed over.
        self._gate = asyncio.Event()
        self._gate.set()

    @property
    def is_on(self) -> bool:
        """True while the store is away."""
        return self._since_ms is not None

    async def is_over(self) -> bool:
        """True when the store is to be asked; waits while changes are handed over."""
        if not self._gate.is_set():
            await self._gate.wait()
        return self._since_ms is None

    def begin(self, error: StoreError) -> None:
        """Note that the store is away, and look for it from now on."""
        if self._since_ms is None:
            self._since_ms = self._clock_ms()
            self._warn(error)
            self._search = asyncio.create_task(self._look())

    async def aclose(self) -> None:
        """Stop looking; try once more to hand over what the store does not know."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.gather(self._search, return_exceptions=True)
        if self._since_ms is not None:
            try:
                await self._return()
            except StoreError as exc:
                self._warn(exc)

    def _warn(self, error: StoreError) -> None:
        self._warned_ms = self._clock_ms()
        self._report(error)

    def _report(self, error: StoreError | None) -> None:
        since_ms = self._since_ms or 0
        try:
            self._on_report(StoreReport(error, self._clock_ms() - since_ms, len(self.journal)))
        except Exception:  # noqa: BLE001 -- a watcher never breaks what it watches
            self.report_failures += 1

    async def _look(self) -> None:
        while True:
            try:
                await self._return()
            except StoreError as exc:
                if self._clock_ms() - self._warned_ms >= STORE_WARNING_INTERVAL_S * 1000:
                    self._warn(exc)
            else:
                return
            await self._sleep(self._retry_s)

    async def _return(self) -> None:
        """Tell the store what it missed; the last of it while nobody changes anything, then let it be asked again."""
        await self._primary.count()  # it may be that there is nothing to tell
        await push_all(self._local, self._primary)
        for _ in range(_PASSES):
            if len(self.journal) > _FEW:
                await self._hand_over()
        self._gate.clear()
        try:
            # A verb that was under way to the store may fail only now, and be done here.
            while self.journal:
                await self._hand_over()
            self._report(None)
            self._since_ms = None
        finally:
            self._gate.set()

    async def _hand_over(self) -> None:
        journal, self.journal = self.journal, Journal()
        try:
            await push_journal(journal, self._local, self._primary)
        except BaseException:
            self.journal.follow(journal)
            raise


def lost(what: str) -> StoreUnavailable:
    """Make the error of a store that answers, but restarted empty."""
    return StoreUnavailable(f"the store has lost {what}")
