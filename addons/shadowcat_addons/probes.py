"""Runs the health probes of upstreams: sends those that are due, and tells what came of them.

What is due, and what an answer means, is `shadowcat_core.upstreams`' business. A probe without a body goes straight to
the upstream; the others are requests like all others, in no list of flows.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from shadowcat_core.limits import MAX_ASKED_AT_ONCE
from shadowcat_core.sessions.lifecycle import Answer
from shadowcat_core.transcript import shortened
from shadowcat_core.upstreams import ClockS, Fleet, Probe, failure_of

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.25
"""Between two looks for probes that are due. One takes a few microseconds when there are none."""


class Ask(Protocol):
    """Sends a request of our own, as `OwnRequests.ask` does."""

    async def __call__(
        self,
        url: str,
        method: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout_s: float,
        is_shown: bool = True,
    ) -> Answer:
        """Do so.

        Raises:
            OSError: there is no answer.
        """
        ...


class Probes:
    """Looks after the upstreams of whatever fleet there is, from `start` to `done`."""

    def __init__(self, ask: Ask, *, clock: ClockS = time.monotonic) -> None:
        """Probe by means of `ask`. `clock` is the fleet's."""
        self._ask = ask
        self._clock = clock
        self._loop: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(int(MAX_ASKED_AT_ONCE))
        self._said = ""

    def start(self, fleet_of: Callable[[], Fleet | None]) -> None:
        """Begin to look for what is due, where it has not begun; `fleet_of` is asked each time, so reloads count."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop().create_task(self._run(fleet_of))

    def done(self) -> None:
        """Stop, and leave the probes that are under way."""
        for task in (self._loop, *self._under_way):
            if task is not None:
                task.cancel()
        self._loop = None

    async def _run(self, fleet_of: Callable[[], Fleet | None]) -> None:
        while True:
            try:
                if (fleet := fleet_of()) is not None:
                    await self._send_due(fleet)
            except Exception as exc:  # noqa: BLE001 - whatever it is, upstreams are not left without probes for it
                self._say(exc)
            await asyncio.sleep(LOOK_S)

    async def _send_due(self, fleet: Fleet) -> None:
        for probe in fleet.prober.due(self._clock()):
            # While many are silent, further probes are late. As nothing is asked for meanwhile, none counts as lost.
            await self._turns.acquire()
            task = asyncio.get_running_loop().create_task(self._report(fleet, probe))
            self._under_way.add(task)
            task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._turns.release()
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._say(exc)

    async def _report(self, fleet: Fleet, probe: Probe) -> None:
        try:
            failure = await self._failure(probe)
        except OSError as exc:
            failure = shortened(str(exc) or type(exc).__name__)
        except Exception as exc:  # noqa: BLE001 - a probe that cannot be sent says nothing good about an upstream
            self._say(exc)
            failure = shortened(f"the probe cannot be sent: {exc!r}")
        fleet.prober.report(probe, self._clock(), failure)

    async def _failure(self, probe: Probe) -> str | None:
        endpoint, route = probe.member.endpoint, probe.pool.route
        if probe.body is None:
            await _connect(endpoint.host, endpoint.port, probe.timeout_s)
            return None
        # Where the route's requests go: an upstream that has no path takes the route's.
        url = f"{endpoint.scheme}://{endpoint.authority}{endpoint.target(route.path, route.path)}"
        headers = list(probe.headers.items())
        answer = await self._ask(url, "POST", headers, probe.body, timeout_s=probe.timeout_s, is_shown=False)
        return failure_of(answer.status)

    def _say(self, exc: BaseException) -> None:
        """Say that something is wrong with us; what goes wrong four times a second is said once."""
        if (said := repr(exc)) != self._said:
            self._said = said
            logger.error("shadowcat: %s while upstreams were probed", said, exc_info=exc)


async def _connect(host: str, port: int, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        raise TimeoutError(f"no connection within {timeout_s:g} s") from None
    writer.close()
