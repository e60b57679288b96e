"""Several servers behind one address: routes, balancing, health, draining, and whether a request may go again.

Sans-I/O: the clock and chance are handed in, probes are values to send, and a configuration is bytes to read.
`docs/upstreams.md` is the manual.
"""

from shadowcat_core.upstreams.changes import Change, Changes, compare
from shadowcat_core.upstreams.endpoint import Endpoint
from shadowcat_core.upstreams.fleet import Fleet
from shadowcat_core.upstreams.health import Circuit, FailureKind, State
from shadowcat_core.upstreams.loading import load_upstreams, parse_upstreams
from shadowcat_core.upstreams.member import Member, MemberRow
from shadowcat_core.upstreams.models import RouteConfig, SessionsConfig, UpstreamConfig, UpstreamsFile
from shadowcat_core.upstreams.pool import ClockS, Pool
from shadowcat_core.upstreams.probing import Probe, Prober, failure_of
from shadowcat_core.upstreams.retrying import (
    SAFE_METHODS,
    SAFE_NOTIFICATIONS,
    Failures,
    GiveUp,
    Retry,
    SendAgain,
    may_retry,
    may_retry_all,
    unreachable,
)
from shadowcat_core.upstreams.store_address import StoreAddress, StoreKind
from shadowcat_core.upstreams.tool_hints import HintBook, ToolHints

__all__ = [
    "SAFE_METHODS",
    "SAFE_NOTIFICATIONS",
    "Change",
    "Changes",
    "Circuit",
    "ClockS",
    "Endpoint",
    "FailureKind",
    "Failures",
    "Fleet",
    "GiveUp",
    "HintBook",
    "Member",
    "MemberRow",
    "Pool",
    "Probe",
    "Prober",
    "Retry",
    "RouteConfig",
    "SendAgain",
    "SessionsConfig",
    "State",
    "StoreAddress",
    "StoreKind",
    "ToolHints",
    "UpstreamConfig",
    "UpstreamsFile",
    "compare",
    "failure_of",
    "load_upstreams",
    "may_retry",
    "may_retry_all",
    "parse_upstreams",
    "unreachable",
]
