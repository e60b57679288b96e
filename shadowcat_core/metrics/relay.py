"""Metrics of sessions, streams and upstreams: what a relay has counted, and how each upstream is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import Metric

from shadowcat_core.metrics.families import Told, counters, gauge, gauges
from shadowcat_core.relay import Relay
from shadowcat_core.sessions.resilient_store import ResilientStore
from shadowcat_core.upstreams import State

RELAY: Final[Told] = {
    "requests": "Exchanges that a route was about.",
    "sessions_begun": "Sessions that clients began.",
    "sessions_moved": "Sessions that were begun anew at a server, behind their clients' backs.",
    "sessions_not_moved": "Attempts to begin a session anew at a server that failed.",
    "sessions_ended": "Sessions that their clients ended.",
    "sessions_expired": "Sessions that expired, counted by the proxy that found it out.",
    "refused": "Requests of sessions that are unknown, or somebody else's.",
    "sent_again": "Times that a request was sent again.",
    "waited": "Times that a request waited for a server to come back.",
    "given_up": "Requests that were answered with an error, as they may have run.",
    "unreachable": "Requests that were answered with an error, as no server took them.",
    "undelivered": "Notifications and answers of clients that reached nobody.",
    "streams": "Event streams that clients can come back for.",
    "streams_resumed": "Clients that came back for an event stream.",
    "streams_reconnected": "Times that a stream went on from a server, on its client's open connection.",
    "streams_read_on": "Times that a stream was read on when its client had left.",
    "answers_lost": "Answers that broke off with their streams, told to clients as errors.",
    "events_lost": "Events that nobody had any more when their client came back.",
}
ROUTES: Final[Told] = {
    "picks": "Times that an upstream was found for a request.",
    "refusals": "Times that no upstream could be taken for a request.",
    "strayed": "Times that the upstream of a request's session could not be taken.",
    "trials": "Requests and probes that tried an upstream that was down.",
}
UPSTREAMS: Final[Told] = {
    "picks": "Times that a request was to go to an upstream.",
    "successes": "Attempts that an upstream began to answer.",
    "failures": "Attempts at an upstream that failed; a request that then went to another one is among them.",
    "trips": "Times that an upstream went from working to not.",
    "probes": "Health probes that were sent to an upstream.",
    "probe_failures": "Health probes of an upstream that failed.",
}
_ROUTE: Final = ("route",)
_UPSTREAM: Final = ("route", "upstream")


@dataclass(frozen=True, slots=True)
class RelayState:
    """A relay as it is now.

    `in_flight` counts the exchanges that are at each upstream, by its name. `is_store_away` speaks of a store that
    nobody stands in for.
    """

    relay: Relay
    in_flight: Mapping[str, int]
    is_store_away: bool

    @property
    def store_answers(self) -> bool:
        """True while the store does, and not somebody in its place."""
        store = self.relay.store
        return not (store.is_away if isinstance(store, ResilientStore) else self.is_store_away)


def relay_metrics(state: RelayState) -> Iterator[Metric]:
    """Give the families of a relay."""
    relay = state.relay
    yield from counters("relay", RELAY, [((), relay.counts)])
    yield gauge("relay_streams_kept", "Event streams that are kept in memory for their clients.", len(relay.keeper))
    yield gauge(
        "relay_unlogged_bytes", "Memory of events that wait to be written to the log.", relay.keeper.unlogged_bytes
    )
    yield gauge("sessions", "Sessions in the store, counted every few seconds.", relay.listing.count)
    yield gauge("session_store_up", "1 while the store answers.", state.store_answers)
    yield from _upstreams(state)


def _upstreams(state: RelayState) -> Iterator[Metric]:
    pools = state.relay.fleet.pools()
    for pool in pools:
        pool.wake()
    yield from counters("route", ROUTES, [((pool.route.name,), pool.counts) for pool in pools], _ROUTE)
    members = [((pool.route.name, member.name), member) for pool in pools for member in pool.members()]
    yield from counters("upstream", UPSTREAMS, [(labels, member.counts) for labels, member in members], _UPSTREAM)
    yield gauges(
        "upstream_up",
        "1 while requests go through to an upstream, 0 while it is ejected.",
        _UPSTREAM,
        [(labels, member.is_usable) for labels, member in members],
    )
    yield gauges(
        "upstream_state",
        "1 for the state that an upstream is in, 0 for the others.",
        (*_UPSTREAM, "state"),
        [((*labels, other), member.state is other) for labels, member in members for other in State],
    )
    yield gauges(
        "upstream_sessions",
        "Sessions that are at an upstream, counted every few seconds.",
        _UPSTREAM,
        [(labels, member.sessions) for labels, member in members],
    )
    yield gauges(
        "upstream_in_flight",
        "Exchanges that are at an upstream now, open event streams included.",
        _UPSTREAM,
        [(labels, state.in_flight.get(member.name, 0)) for labels, member in members],
    )
