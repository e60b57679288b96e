"""Leads exchanges through sessions and upstreams: the servers' failures stay behind the client's back.

`Relay` has all of a configuration at work, `Passage` is the way of one exchange, and the steps are values for whoever
has the connections to carry them out. `docs/sessions.md` is the manual.
"""

from shadowcat_core.relay.answers import broken_off
from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.carriage import Carriage
from shadowcat_core.relay.composition import relay_of
from shadowcat_core.relay.counts import RelayCounts
from shadowcat_core.relay.passage import Passage
from shadowcat_core.relay.relay import Relay
from shadowcat_core.relay.steps import Decided, Gather, GoOn, Heard, Leg, Pass, Reply, Tail, edited

__all__ = [
    "Asked",
    "Carriage",
    "Decided",
    "Gather",
    "GoOn",
    "Heard",
    "Leg",
    "Pass",
    "Passage",
    "Relay",
    "RelayCounts",
    "Reply",
    "Tail",
    "broken_off",
    "edited",
    "relay_of",
]
