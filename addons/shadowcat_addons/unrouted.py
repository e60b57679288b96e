"""Answers requests that were sent to this proxy as to a server and that no route of the upstreams file is about.

A wrong path in a client's URL is the commonest of mistakes. mitmproxy has nowhere to send such a request but to itself,
and would answer with an HTML page about an unknown destination.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from mitmproxy import http

from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.jsonrpc import error_response
from shadowcat_core.transcript import shortened

if TYPE_CHECKING:
    from shadowcat_core.upstreams import Fleet, Pool

logger = logging.getLogger(__name__)

STATUS: Final = 404
_INVALID_REQUEST: Final = -32600  # JSON-RPC's own
_DESTINATION_UNKNOWN: Final = "Request destination unknown"
"""How mitmproxy says that it would have to connect to itself."""
_MAX_SAID: Final = 100
"""How many paths are logged; whoever looks for what there is tries more of them."""
_MAX_ROUTES: Final = 10
"""How many routes are named in an answer."""


class Unrouted:
    """Makes the answers, and says each path once."""

    def __init__(self, registry: ExchangeRegistry, fleet_of: "Callable[[], Fleet | None]") -> None:
        """Answer while `fleet_of` gives a fleet."""
        self._registry = registry
        self._fleet_of = fleet_of
        self._said: set[tuple[str, str]] = set()

    def answer(self, flow: http.HTTPFlow, error: str) -> http.Response | None:
        """Give the response for a request that mitmproxy cannot send (`error`); None when it is not for its path."""
        fleet = self._fleet_of()
        if fleet is None or _DESTINATION_UNKNOWN not in error:
            return None
        path = shortened(flow.request.path.partition("?")[0])
        host = shortened(flow.request.host_header or flow.request.host)
        text = f"No route of the upstreams file is about {path} at {host}; there are {_named(fleet.pools())}"
        if (host, path) not in self._said and len(self._said) < _MAX_SAID:
            self._said.add((host, path))
            logger.warning("shadowcat: %s", text[0].lower() + text[1:])
        exchange = self._registry.get(flow.id)
        ids = [] if exchange is None else [message.id for message in exchange.requests]
        if exchange is not None:
            exchange.answered_by_us = True
        bodies = [error_response(each, _INVALID_REQUEST, text) for each in ids or [None]]
        body = bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"
        return http.Response.make(STATUS, body, {"content-type": "application/json"})


def _named(pools: "Iterable[Pool]") -> str:
    routes = [pool.route for pool in pools]
    places = [route.path if route.host is None else f"{route.path} at {route.host}" for route in routes]
    more = f" and {len(places) - _MAX_ROUTES:,} more" if len(places) > _MAX_ROUTES else ""
    return ", ".join(places[:_MAX_ROUTES]) + more
