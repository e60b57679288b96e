"""Limits of upstreams and the routes to them."""

from shadowcat_core.limits.limit import Limit, MiB

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
MAX_ASKED_AT_ONCE = Limit(
    64,
    unit="requests",
    reason="Requests of our own that wait for servers' answers at a time, such as those that begin a session anew, and "
    "as many probes beside them. Each has a connection; further ones wait for their turn.",
)
MAX_OWN_ANSWER_BYTES = Limit(
    1 * MiB,
    unit="bytes",
    reason="A server's answer to a request of our own, without its content coding. It is there whole; real ones are "
    "handshakes of 1 to 10 KB. A longer one is hung up on, and counts as none.",
)
