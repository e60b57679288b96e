"""Puts Shadowcat's rooms together behind one addon, in the order in which they must see things."""

import difflib
import logging
import time
from collections.abc import Awaitable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from mitmproxy import connection, ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.optmanager import OptManager
from mitmproxy.version import VERSION as MITMPROXY_VERSION

from shadowcat_addons import http_stream
from shadowcat_addons.addon_hooks import AddonHooks
from shadowcat_addons.console import Console
from shadowcat_addons.exchanges import Exchanges, FlowWatcher
from shadowcat_addons.faults import Faults
from shadowcat_addons.garbage import Garbage
from shadowcat_addons.guards import Guards
from shadowcat_addons.hold import Hold
from shadowcat_addons.interception import Interception
from shadowcat_addons.live import Live
from shadowcat_addons.mcp_defaults import McpDefaults
from shadowcat_addons.metrics import Metrics
from shadowcat_addons.outages import Outages
from shadowcat_addons.own_requests import OwnRequests, is_own
from shadowcat_addons.probes import Probes
from shadowcat_addons.relays import Relays
from shadowcat_addons.rules import Rules
from shadowcat_addons.tape import Tape
from shadowcat_addons.unrouted import Unrouted
from shadowcat_addons.upstream_errors import UpstreamErrors
from shadowcat_addons.views import Views
from shadowcat_core import __version__
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.interceptors import VerdictRecord
from shadowcat_core.waiting import Waiting

if TYPE_CHECKING:
    from shadowcat_addons.ways import Ways
    from shadowcat_core.metrics import ProxyMetrics
    from shadowcat_core.relay import Relay

logger = logging.getLogger(__name__)


class Shadowcat:
    """Makes mitmproxy understand MCP.

    mitmproxy asks every addon for a handler of every hook, eight times an exchange. So its rooms are plain objects,
    and the addon's handlers of the flow hooks are those of the one room that follows exchanges.
    """

    def __init__(self) -> None:
        self.registry = ExchangeRegistry(time.monotonic_ns, on_failure=report)
        self.defaults = McpDefaults()
        self.tape = Tape()
        self.live = Live(self.registry, on_failure=report)
        self.console = Console(self.registry)
        self.upstream_errors = UpstreamErrors(self.registry)
        self.own_requests = OwnRequests()
        self.interception = Interception(
            self.registry,
            find=self._find,
            post_to_server=self.own_requests.post,
            on_record=self._judged,
        )
        pipeline = self.interception.pipeline
        self.addon_hooks = AddonHooks(pipeline)
        self.guards = Guards(pipeline)
        self.faults = Faults(pipeline, self._faulted)
        self.relays = Relays(self.registry, self.own_requests, Probes(self.own_requests.ask), Outages(), self._lead)
        self.unrouted = Unrouted(self.registry, self.relays.fleet)
        # The tape first: what happens is recorded before anybody acts on it. The hold gives a body back before it is
        # shown for the last time.
        watchers: list[FlowWatcher] = [self.tape]
        self.exchanges = Exchanges(self.registry, watchers, self.interception, [self.faults], self.relays, is_own)
        self.own_requests.on_given_up = self.exchanges.error
        self.own_requests.sent = self.relays.sent
        self.hold = Hold(pipeline, self.exchanges.find, self.live.show)
        self.rules = Rules(pipeline, hold=self.hold.hold)
        self.metrics = Metrics(self._collect)
        self.garbage = Garbage()
        watchers += [self.hold, self.live, self.console, self.faults]
        # The defaults last: what they set makes mitmproxy configure everybody once more, and an error of the tape's is
        # better told before that.
        self._optional = (
            self.tape, self.live, self.console, self.interception, self.guards, self.rules, self.faults, self.hold,
            self.relays, self.metrics, self.defaults,
        )  # fmt: skip
        self._is_running = False
        self._said: set[str] = set()
        self._seam: http_stream.Seam | None = None
        self.request = self.exchanges.request
        self.responseheaders = self.exchanges.responseheaders
        self.response = self.exchanges.response
        self.error = self.exchanges.error
        self.shadowcat_wait = wait

    def load(self, loader: Loader) -> None:
        for room in (*self._optional, self.exchanges, Views()):
            room.load(loader)
        try:
            self._seam = http_stream.Seam(self._answer, self.interception.cancel, self._holds_whole)
        except http_stream.UnexpectedInternalsError as exc:
            logger.warning(
                "shadowcat: this mitmproxy is not as expected (%s): what interceptors hold of a stream is dropped, an "
                "upstream that is down is answered with HTML, and watching a stream adds a few microseconds a chunk",
                exc,
            )

    def configure(self, updated: AbstractSet[str]) -> None:
        for room in (*self._optional, self.addon_hooks):
            try:
                room.configure(updated)
            except exceptions.OptionsError as exc:
                if self._is_running:
                    raise
                # While a script is loaded mitmproxy would tell it as the script's own error, with its tracebacks. It
                # ends by itself when an error was logged before it runs.
                if str(exc) not in self._said:  # it configures more than once
                    self._said.add(str(exc))
                    logger.error("%s", exc)

    def running(self) -> None:
        self._is_running = True
        self.garbage.running()
        self.relays.running()
        for name in unknown_options(ctx.options):
            near = difflib.get_close_matches(name, list(ctx.options.keys()), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            logger.error("there is no option %s%s", name, hint)
        self.addon_hooks.look()

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self.addon_hooks.look()
        self.defaults.requestheaders(flow)

    def client_disconnected(self, client: connection.Client) -> Awaitable[None] | None:
        waiting = self.relays.disconnected(client)
        if waiting is not None:
            return self._disconnect_after(waiting, client)
        self.exchanges.client_disconnected(client)
        return None

    async def _disconnect_after(self, waiting: Awaitable[object], client: connection.Client) -> None:
        await waiting
        self.exchanges.client_disconnected(client)

    def _answer(self, flow: http.HTTPFlow, error: str) -> http.Response | None:
        if is_own(flow):
            return None
        return self.unrouted.answer(flow, error) or self.upstream_errors.answer(flow, error)

    def _holds_whole(self, flow: http.HTTPFlow) -> bool:
        return self.interception.holds_whole(flow) or self.relays.is_routed(flow)

    def _lead(self, relay: "Relay") -> "Ways":
        from shadowcat_addons.ways import Ways  # here, as what it needs takes a while to import

        ways = Ways(
            relay,
            self.registry,
            find=self._find,
            stream_again=self.exchanges.stream_again,
            on_note=lambda exchange, text: self._faulted(exchange, "shadowcat", text),
        )
        if self._seam is None:
            raise exceptions.OptionsError("shadowcat_upstreams: this mitmproxy's internals are not as expected")
        self._seam.lead(ways)
        return ways

    def _collect(self) -> "ProxyMetrics":
        from shadowcat_core.metrics import ProxyMetrics, RelayState  # here, as most proxies serve none

        def relay() -> RelayState | None:
            found = self.relays.relay
            return None if found is None else RelayState(found, self.relays.in_flight(), self.relays.is_store_away)

        return ProxyMetrics(
            self.registry,
            self.interception.pipeline,
            versions={"version": __version__, "mitmproxy": MITMPROXY_VERSION},
            held=lambda: self.hold.count,
            recorder=lambda: self.tape.recorder,
            relay=relay,
        )

    def _find(self, flow_id: str) -> tuple[Exchange, http.HTTPFlow] | None:
        return self.exchanges.find(flow_id)

    def _judged(self, record: VerdictRecord) -> None:
        self.tape.judged(record)
        self.console.judged(record)

    def _faulted(self, exchange: Exchange, by: str, text: str) -> None:
        self.tape.faulted(exchange, by, text)
        self.console.faulted(exchange, text)

    def done(self) -> None:
        self.garbage.done()
        # Who holds messages first, the tape after all that it might still be told of.
        rooms = (
            self.metrics, self.hold, self.faults, self.rules, self.guards, self.addon_hooks, self.interception,
            self.relays, self.own_requests,
            self.live, self.console, self.tape, self.defaults,
        )  # fmt: skip
        restore = [] if self._seam is None else [self._seam.restore]
        for undo in (*(room.done for room in rooms), *restore):
            try:
                undo()
            except Exception as exc:  # noqa: BLE001 - each room is left, whatever happens in another
                report(exc)


def unknown_options(options: OptManager) -> list[str]:
    """The options that somebody set and nobody has, of those whose names are ours.

    mitmproxy keeps what was set until an addon comes that has it, and says nothing when none does.
    """
    return sorted(name for name in options.deferred if name.startswith("shadowcat_"))


async def wait(waiting: Waiting) -> None:
    """Wait within a stream: the handler of the seam's own hook."""
    await waiting.wait()


def report(exc: Exception) -> None:
    """Say that something beside the traffic went wrong, such as the line that an exchange is shown with."""
    logger.error("shadowcat: %r (the traffic is not concerned)", exc, exc_info=exc)
