"""Limits of sessions, their stores and event logs."""

from shadowcat_core.limits.limit import KiB, Limit, MiB

MAX_SESSIONS = Limit(
    100_000,
    unit="sessions",
    reason="Sessions of one store: ten times what is benched, some 200 MB in memory. Beyond it no new session is kept, "
    "which its client is told; those that are there go on.",
)
MAX_HANDSHAKE_BYTES = Limit(
    64 * KiB,
    unit="bytes",
    reason="The initialize exchange that a session is begun anew with, request and result together. Real ones have 1 "
    "to 10 KB; a longer one is refused, so that a session stays under 100 KB.",
)
MAX_SUBSCRIPTION_BYTES = Limit(
    16 * KiB,
    unit="bytes",
    reason="Resource URIs that one session is subscribed to, together, each with 64 bytes for keeping it: about a "
    "hundred. Beyond it the server still has the subscription, but a new server would not be told of it.",
)
SESSION_IDLE_TTL_MS = Limit(
    30 * 60 * 1000,
    unit="ms",
    reason="Half an hour without a request ends a session, as in the Python SDK. A client that comes later is told, "
    "and begins a new one.",
)
SESSION_LIFETIME_MS = Limit(
    7 * 24 * 3600 * 1000,
    unit="ms",
    reason="A week ends a session however busy, so that what nobody ends goes away. Also when keys leave Redis if no "
    "proxy is left to take them away.",
)
ENDED_SESSIONS_MS = Limit(
    10 * 60 * 1000,
    unit="ms",
    reason="How long a store knows that a session was ended, so that a proxy which did not hear of it cannot bring it "
    "back. Longer than an outage of a store should last.",
)
EXPIRE_BATCH_SESSIONS = Limit(
    100,
    unit="sessions",
    reason="Expired sessions taken away in one step: a few milliseconds in the slowest store.",
)
SESSION_PAGE = Limit(
    100,
    unit="sessions",
    reason="Sessions on one page of a list when nobody says how many: a screen or two.",
)
EVENT_LOG_EVENTS = Limit(
    1_000,
    unit="events",
    reason="Events of one stream that a client can come back for; the oldest go first, and who missed them is told how "
    "many. A minute at 16 events a second.",
)
EVENT_LOG_BYTES = Limit(
    1 * MiB,
    unit="bytes",
    reason="Events of one stream likewise, 128 bytes for keeping each included. An event larger than this cannot be "
    "replayed, and counts as lost to who missed it.",
)
EVENT_LOG_AGE_MS = Limit(
    5 * 60 * 1000,
    unit="ms",
    reason="How long an event can be come back for. A client reconnects within seconds, a laptop that slept within "
    "minutes; later the answer is stale.",
)
EVENT_LOG_STREAMS = Limit(
    64,
    unit="streams",
    reason="Streams of one session in the log, closed ones go first. Each request that is answered with a stream makes "
    "one; a client has a handful open.",
)
EVENT_LOG_TOTAL_BYTES = Limit(
    64 * MiB,
    unit="bytes",
    reason="Events of all streams that a store in memory keeps; beyond it the stream that was written longest ago "
    "loses its oldest. Two thirds of the 100 MB that the proxy may take under load.",
)
MISSED_EVENTS_PAGE = Limit(
    100,
    unit="events",
    reason="Missed events read from a store in one step, so that a long absence does not fill memory at once.",
)
STORE_TIMEOUT_MS = Limit(
    1_000,
    unit="ms",
    reason="Longest wait for a store on the network. It answers in a fraction of a millisecond; who waits longer than "
    "this is better served by the policy for outages.",
)
STORE_RETRY_MS = Limit(
    1_000,
    unit="ms",
    reason="Between two attempts to reach a store that is away. Nobody waits for them.",
)
STORE_BUSY_MS = Limit(
    2_000,
    unit="ms",
    reason="Longest wait for another process that writes the same SQLite file. Writes take under a millisecond.",
)
STORE_WARNING_INTERVAL_S = Limit(
    60,
    unit="s",
    reason="Between two warnings that a store is away; the first comes at once.",
)
MAX_READ_TOKEN_BYTES = Limit(
    16 * KiB,
    unit="bytes",
    reason="An access token of which it is read whom it names. Real ones have 1 to 5 KB; when a longer one is "
    "refreshed, its client has to begin a new session.",
)
VOUCHING_TIMEOUT_S = Limit(
    5,
    unit="s",
    reason="Asking a server whether a refreshed token is genuine: two pings. The client's request waits meanwhile; "
    "later it gets an error that lets it try again (-31001).",
)
MAX_FAILED_VOUCHINGS = Limit(
    5,
    unit="questions",
    reason="Questions of one session within a minute that did not show a refreshed token to be genuine. Further tokens "
    "get that error unasked, so that who writes tokens himself cannot have a server flooded.",
)
