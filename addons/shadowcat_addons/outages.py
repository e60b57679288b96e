"""Tells the log when upstreams and the store of sessions go away, and when they are back."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shadowcat_core.errors import StoreUnavailable

if TYPE_CHECKING:
    from shadowcat_core.sessions import StoreReport
    from shadowcat_core.upstreams import Member, Pool

logger = logging.getLogger(__name__)


class Outages:
    """What is away, as far as it was told."""

    def __init__(self) -> None:
        self._down: set[Member] = set()
        self.is_store_away = False
        """True from when the store did not answer until it does again; one that is gone on without says so itself."""

    def look(self, pools: "Iterable[Pool]") -> None:
        """Say which upstreams have gone down since the last look, and which are back.

        One that is no longer there is not back, and neither is another one that has its name.
        """
        members = [member for pool in pools for member in pool.members()]
        before, self._down = self._down, {member for member in members if not member.is_usable}
        for member in members:
            if member in self._down and member not in before:
                logger.warning("shadowcat: upstream %s is down: %s", member.name, member.breaker.reason)
            elif member in before and member not in self._down:
                logger.warning("shadowcat: upstream %s is back", member.name)

    def store_is(self, away: StoreUnavailable | None) -> None:
        """Say when the store has gone away, and when it is back (None)."""
        if away is not None and not self.is_store_away:
            logger.warning("shadowcat: the store of sessions is away: %s", away)
        elif away is None and self.is_store_away:
            logger.warning("shadowcat: the store of sessions is back")
        self.is_store_away = away is not None

    def store_says(self, report: "StoreReport") -> None:
        """Say what a store that is gone on without tells of itself."""
        if report.error is None:
            logger.warning("shadowcat: the store of sessions is back after %.1f s", report.away_ms / 1000)
            return
        waiting = f" ({report.waiting:,} of them changed and will be written to it)" if report.waiting else ""
        logger.warning(
            "shadowcat: the store of sessions is away (%s); sessions go on here without it%s", report.error, waiting
        )
