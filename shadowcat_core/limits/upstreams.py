"""Limits of upstreams and the routes to them."""

from shadowcat_core.limits.limit import Limit

MAX_ROUTES = Limit(
    1_000,
    unit="routes",
    reason="Routes in one file. Which one a request takes costs the same however many there are; beyond it the file is "
    "an error.",
)
MAX_UPSTREAMS = Limit(
    1_000,
    unit="upstreams",
    reason="Upstreams of one route: ten times what is benched. Beyond it the file is an error.",
)
MAX_RING_WEIGHT = Limit(
    1_000,
    unit="weights",
    reason="Weights of one hashed route, added up. Each has 128 points on a ring that is made anew when an upstream "
    "fails or comes back, which takes 20 ms for this many. Beyond it the file is an error; 1 and 3 say the same as 100 "
    "and 300.",
)
MAX_RETRY_ATTEMPTS = Limit(
    10,
    unit="attempts",
    reason="Upstreams that one request is tried at, the first one included. Each may take the time-out for connecting; "
    "a larger number in a file is an error.",
)
MAX_HINTED_TOOLS = Limit(
    10_000,
    unit="tools",
    reason="Tools of one route of which it is remembered whether a call may be repeated: as many as may be pinned. The "
    "oldest is forgotten first; a call of it is then not repeated.",
)
