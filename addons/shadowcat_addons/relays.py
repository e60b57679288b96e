"""Upstreams and sessions as a person meets them: the option that names their file, the commands, and what is due now
and then.

The ways of flows are `ways`; what is behind them is imported when there is a file.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

from mitmproxy import connection, ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.utils.asyncio_utils import create_task

from shadowcat_core.correlation import Call
from shadowcat_core.errors import StoreError, StoreUnavailable, UpstreamsError
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.file_stamp import Stamp, stamp_of
from shadowcat_core.limits import READING_BEAT_S
from shadowcat_core.messages import MessageBatch

if TYPE_CHECKING:
    from shadowcat_core.relay import Relay
    from shadowcat_core.sessions import SessionMapping, StoreReport
    from shadowcat_core.sessions.lifecycle import Answer, Headers
    from shadowcat_core.sessions.manager import Revived
    from shadowcat_core.upstreams import Fleet, Pool, RouteConfig, SessionsConfig, UpstreamsFile

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the file is looked at; also the grain of what is done now and then."""
BEAT_LOOKS = int(READING_BEAT_S / LOOK_S)
ASK_S = 60.0
"""How long a request of our own may take where the file lets those of clients take as long as they like."""
CLOSE_S = 1.0
"""How long the log is written to when the proxy ends."""
KEY_FILE = "shadowcat-session-key"
"""In mitmproxy's folder: the key of the credentials that sessions are bound to, where the file names none."""


class Leading(Protocol):
    """Leads flows on their ways."""

    def asking(self, exchange: Exchange | None, its_flow: http.HTTPFlow) -> Awaitable[None] | None: ...
    def is_routed(self, its_flow: http.HTTPFlow) -> bool: ...
    def endpoint(self, route: "RouteConfig") -> str: ...
    def sent(self, its_flow: http.HTTPFlow) -> http.Request: ...
    def look(self) -> None: ...
    def over(self, its_flow: http.HTTPFlow) -> None: ...
    def in_flight(self) -> Counter[str]: ...
    def disconnected(self, client: connection.Client) -> Awaitable[object] | None: ...
    def saw(self, exchange: Exchange, batch: MessageBatch, calls: list[Call]) -> None: ...
    def closed(self, exchange: Exchange) -> None: ...
    def done(self) -> None: ...


class Askable(Protocol):
    """Sends requests of our own."""

    async def ask(
        self, url: str, method: str, headers: "Headers", body: bytes, *, timeout_s: float, is_shown: bool = True
    ) -> "Answer":
        """Send one and wait for its answer."""
        ...


class Probing(Protocol):
    """Runs the health probes of a fleet."""

    def start(self, fleet_of: "Callable[[], Fleet | None]") -> None: ...
    def done(self) -> None: ...


class Outages(Protocol):
    """Tells somebody what goes away, and what is back."""

    is_store_away: bool

    def look(self, pools: "Iterable[Pool]") -> None: ...
    def store_is(self, away: StoreUnavailable | None) -> None: ...
    def store_says(self, report: "StoreReport") -> None: ...


class Relays:
    """The room of upstreams and sessions."""

    def __init__(
        self,
        registry: ExchangeRegistry,
        own_requests: Askable,
        probes: Probing,
        outages: Outages,
        lead: "Callable[[Relay], Leading]",
    ) -> None:
        """Make a room without upstreams. `lead` begins to lead flows."""
        self._registry = registry
        self._own_requests = own_requests
        self._probes = probes
        self._outages = outages
        self._lead = lead
        self._relay: Relay | None = None
        self._ways: Leading | None = None
        self._path: Path | None = None
        self._stamp: Stamp = None
        self._watch: asyncio.Task[None] | None = None
        self._is_running = False
        self._sessions: SessionsConfig | None = None
        registry.watchers.append(self)

    @property
    def relay(self) -> "Relay | None":
        """What leads requests; None without a file."""
        return self._relay

    def fleet(self) -> "Fleet | None":
        """The upstreams of the file."""
        return None if self._relay is None else self._relay.fleet

    @property
    def is_store_away(self) -> bool:
        """True from when the store of sessions did not answer until it does again."""
        return self._outages.is_store_away

    def in_flight(self) -> Counter[str]:
        """Count the flows that are at each upstream now, by its name."""
        return Counter() if self._ways is None else self._ways.in_flight()

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_upstreams",
            str,
            "",
            "Lead requests to the upstreams that this file names, in sessions that survive them (docs/upstreams.md).",
        )
        for name in ("sessions", "sessions.end", "upstreams", "drain", "undrain"):
            loader.add_command(f"shadowcat.{name}", getattr(self, name.replace(".", "_")))

    def configure(self, updated: AbstractSet[str]) -> None:
        if "shadowcat_upstreams" not in updated:
            return
        path = Path(ctx.options.shadowcat_upstreams).expanduser() if ctx.options.shadowcat_upstreams else None
        if path == self._path:
            return
        if path is None:
            self._stop()
            return
        from shadowcat_core.upstreams import load_upstreams  # here, as most proxies have no file

        stamp = stamp_of(path)
        try:
            file = load_upstreams(path)
            if self._relay is None:
                self._start(file)
            else:
                self._apply(self._relay, file)
        except (UpstreamsError, StoreError) as exc:
            raise exceptions.OptionsError(f"shadowcat_upstreams: {exc}") from exc
        self._path, self._stamp = path, stamp

    def running(self) -> None:
        """Begin to probe: before it runs, mitmproxy cannot send requests."""
        self._is_running = True
        if self._relay is not None:
            self._probe()

    def done(self) -> None:
        self._stop()

    # --- Flows --------------------------------------------------------------------------------------------------------

    def asking(self, exchange: Exchange | None, its_flow: http.HTTPFlow) -> Awaitable[None] | None:
        """A request is about to go to its server: find out where that is."""
        return None if self._ways is None or its_flow.response is not None else self._ways.asking(exchange, its_flow)

    def is_routed(self, its_flow: http.HTTPFlow) -> bool:
        """Say whether a request, whose head is here, goes to an upstream: then its body must be whole."""
        return self._ways is not None and self._ways.is_routed(its_flow)

    def sent(self, its_flow: http.HTTPFlow) -> http.Request:
        """What the server of a flow was sent: its own request, when it goes to where its client asked."""
        return its_flow.request if self._ways is None else self._ways.sent(its_flow)

    def over(self, its_flow: http.HTTPFlow) -> None:
        """A flow has come to its end, MCP or not."""
        if self._ways is not None:
            self._ways.over(its_flow)

    def disconnected(self, client: connection.Client) -> Awaitable[object] | None:
        """Keep what a client's connection carries for as long as streams are read on for it."""
        return None if self._ways is None else self._ways.disconnected(client)

    def saw(self, exchange: Exchange, batch: MessageBatch, calls: list[Call]) -> None:
        """Learn from what has passed."""
        if self._ways is not None:
            self._ways.saw(exchange, batch, calls)

    def closed(self, exchange: Exchange) -> None:
        """An exchange is over."""
        if self._ways is not None:
            self._ways.closed(exchange)

    # --- Commands -----------------------------------------------------------------------------------------------------

    def upstreams(self) -> Sequence[str]:
        """List the upstreams: how each is, why, and what it has."""
        relay = self._relay
        if relay is None:
            return ["no upstreams (set shadowcat_upstreams to a file)"]
        return [str(row) for row in relay.fleet.table(self.in_flight())] + [str(relay.counts)]

    def sessions(self) -> Sequence[str]:
        """List the sessions in the order in which they began, a hundred at most, and count them all."""
        relay = self._relay
        if relay is None:
            return ["no sessions (set shadowcat_upstreams to a file)"]
        listing = relay.listing
        lines = [
            f"{record.session_id} at {record.mapping.upstream.name}, epoch {record.mapping.epoch}, "
            f"{record.mapping.protocol_version}, {_counted(len(record.subscriptions), 'subscription')}"
            for record in listing.records
        ]
        count = _counted(listing.count, "session")
        return [*lines, f"{count} {time.monotonic() - listing.at_s:.0f} s ago; {relay.counts}"]

    def sessions_end(self, session_id: str) -> str:
        """End a session, here and at its server. Its client begins a new one."""
        relay = self._relay
        if relay is None:
            raise exceptions.CommandError("no sessions (set shadowcat_upstreams to a file)")
        create_task(self._end(relay, session_id), name="shadowcat: end a session", keep_ref=True)
        return f"ending {session_id}"

    async def _end(self, relay: "Relay", session_id: str) -> None:
        try:
            ended = await relay.manager.end(session_id)
        except StoreUnavailable as exc:
            logger.error("shadowcat: session %s has not ended: %s", session_id, exc)
            return
        if ended is None:
            logger.warning("shadowcat: there is no session %s", session_id)
        else:
            logger.info("shadowcat: session %s has ended by command, at %s too", session_id, ended.upstream.name)

    def drain(self, name: str) -> str:
        """Let an upstream have no new sessions; those that it has stay."""
        if self._relay is None or not self._relay.fleet.drain(name):
            raise exceptions.CommandError(f"there is no upstream {name}")
        logger.info("shadowcat: upstream %s drains, by command: it gets no new sessions", name)
        return f"{name} gets no new sessions"

    def undrain(self, name: str) -> str:
        """Let an upstream have new sessions again."""
        if self._relay is None or not self._relay.fleet.undrain(name):
            raise exceptions.CommandError(f"there is no upstream {name}, or the file has it no more")
        logger.info("shadowcat: upstream %s gets new sessions again, by command", name)
        return f"{name} gets new sessions again"

    # --- Beginning and end --------------------------------------------------------------------------------------------

    def _start(self, file: "UpstreamsFile") -> None:
        from shadowcat_core.relay import relay_of
        from shadowcat_core.upstreams import Fleet

        fleet = Fleet(file, clock=time.monotonic, random=Random())  # noqa: S311 - chance, no secret
        self._relay = relay = relay_of(
            file,
            fleet,
            key_file=Path(ctx.options.confdir).expanduser() / KEY_FILE,
            ask=self._ask,
            clock_s=time.monotonic,
            catch_up=self._registry.catch_up,
            on_report=self._outages.store_says,
            on_moved=self._say_moved,
        )
        self._ways = self._lead(relay)
        self._sessions = file.sessions
        self._watch = create_task(self._look_on(), name="shadowcat: tend sessions", keep_ref=True)
        if self._is_running:
            self._probe()

    def _probe(self) -> None:
        self._probes.start(self.fleet)

    def _stop(self) -> None:
        self._probes.done()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._ways is not None:
            self._ways.done()
            self._ways = None
        relay, self._relay, self._path = self._relay, None, None
        if relay is not None:
            create_task(_give_up(relay), name="shadowcat: give up the store", keep_ref=True)

    def _apply(self, relay: "Relay", file: "UpstreamsFile") -> None:
        changes = relay.apply(file)
        logger.info("shadowcat: upstreams: %s", changes)
        if file.sessions != self._sessions:
            logger.warning("shadowcat: what changed about sessions counts from the next start on")

    async def _ask(self, upstream: str, method: str, headers: "Headers", body: bytes) -> "Answer":
        found = None if self._relay is None else self._relay.fleet.find(upstream)
        if found is None:
            raise ConnectionError(f"there is no upstream {upstream}")
        pool, member = found
        url = f"{member.endpoint.scheme}://{member.endpoint.authority}"
        url += member.endpoint.target(
            pool.route.path, pool.route.path if self._ways is None else self._ways.endpoint(pool.route)
        )
        timeouts = pool.route.timeouts
        its_own = {name.lower() for name in member.config.headers}
        return await self._own_requests.ask(
            url,
            method,
            [
                *((name, value) for name, value in headers if name.lower() not in its_own),
                *member.config.headers.items(),
            ],
            body,
            timeout_s=timeouts.connect_s + (timeouts.first_byte_s or ASK_S),
        )

    def _say_moved(self, before: "SessionMapping", revived: "Revived") -> None:
        changes = "".join(f"; {change}" for change in revived.changes)
        logger.info(
            "shadowcat: session %s… goes on at %s (was at %s)%s",
            before.session_id[:8], revived.mapping.upstream.name, before.upstream.name, changes,
        )  # fmt: skip

    async def _look_on(self) -> None:
        beat = 0
        while self._relay is not None:
            await asyncio.sleep(LOOK_S)
            relay = self._relay
            if relay is None:
                return
            try:
                self._registry.catch_up()
                if self._ways is not None:
                    self._ways.look()
                self._outages.look(relay.fleet.pools())
                await self._look(relay)
                if beat % BEAT_LOOKS == 0:
                    relay.beat()
                    await relay.tend()
                    self._outages.store_is(None)
            except StoreUnavailable as exc:
                self._outages.store_is(exc)
            except Exception as exc:
                logger.error("shadowcat: %r", exc, exc_info=exc)
            beat += 1

    async def _look(self, relay: "Relay") -> None:
        """Load the file when it has changed."""
        path = self._path
        stamp = None if path is None else stamp_of(path)
        if path is None or stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is None:
            logger.warning("shadowcat: %s is gone; the upstreams stay as they were", path)
            return
        from shadowcat_core.upstreams import load_upstreams

        try:
            file = await asyncio.to_thread(load_upstreams, path)
        except UpstreamsError as exc:
            logger.error("shadowcat: %s\nThe upstreams stay as they were.", exc)
            return
        self._apply(relay, file)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


async def _give_up(relay: "Relay") -> None:
    try:
        await relay.aclose(CLOSE_S)
    except asyncio.CancelledError:
        # mitmproxy ends, and all that runs is cancelled. What is left to write is written all the same.
        await asyncio.sleep(0)
        await relay.aclose(CLOSE_S)
