"""Every limit of the core: a name, a unit, a default and the reason for the number.

A limit is an `int` that knows its unit and reason, so code uses it as a number and `docs/limits.md` is checked
against it. What happens beyond a limit is said in the reason, and is never a silent loss.
"""

from typing import Self

KiB = 1024
MiB = 1024 * KiB


class Limit(int):
    """A whole number with its `unit` and the `reason` for its default."""

    unit: str
    reason: str

    def __new__(cls, value: int, *, unit: str, reason: str) -> Self:
        limit = super().__new__(cls, value)
        limit.unit = unit
        limit.reason = reason
        return limit


MAX_EVENT_BYTES = Limit(
    16 * MiB,
    unit="bytes",
    reason="One SSE frame. Four times the Python SDK's request limit (4 MiB); beyond it the rest of the stream is "
    "forwarded untouched and unparsed, which is said once.",
)
MAX_JSON_DEPTH = Limit(
    512,
    unit="levels",
    reason="Nesting of one JSON document. orjson stops at 1,024, the standard library at the recursion limit; real "
    "payloads stay under 50. A deeper document is a message of kind `invalid`, forwarded as it is.",
)
DEDUP_WINDOW_IDS = Limit(
    1_000,
    unit="event ids",
    reason="Ids a stream remembers to recognise a repeated event. A resumed stream repeats its last few events, not "
    "its last thousand; older ids are forgotten first.",
)
MAX_DECODED_CHUNK_BYTES = Limit(
    1 * MiB,
    unit="bytes",
    reason="What one compressed chunk may unpack to, for watchers: sixteen times a full socket read, where JSON "
    "shrinks five to ten times. Beyond it the stream is forwarded and recorded as before, and is no longer decoded, "
    "which is said once.",
)
MAX_BEHIND_BYTES = Limit(
    64 * KiB,
    unit="bytes",
    reason="How far the watchers of one stream may be behind the wire before the stream's own turn catches them up. "
    "One full socket read, so a burst is parsed together and memory stays small.",
)
TAPE_FLUSH_RECORDS = Limit(
    100,
    unit="records",
    reason="Records waiting for the tape that wake its writer before the interval is over: enough to make one write "
    "cheap, few enough to be on disk within milliseconds under load.",
)
TAPE_FLUSH_MS = Limit(
    100,
    unit="milliseconds",
    reason="Longest wait of a record for its write, so what a kill -9 can cost. A person watching the file cannot "
    "tell it from at once, and ten wake-ups a second cost nothing.",
)
TAPE_FLUSH_BYTES = Limit(
    256 * KiB,
    unit="bytes",
    reason="Captured bytes of one write. A backlog is written in several, so the writer's copies stay in the "
    "processor's cache: records of 20 KB cost two thirds of what they do at 1 MiB (benches/bench_recorder.py).",
)
TAPE_QUEUE_RECORDS = Limit(
    20_000,
    unit="records",
    reason="Records waiting for the tape: two seconds at 10,000 a second, longer than a disk hiccup. Beyond it records "
    "are dropped from the tape, never from the wire, and a gap on the tape counts them.",
)
TAPE_QUEUE_BYTES = Limit(
    16 * MiB,
    unit="bytes",
    reason="Captured bytes waiting for the tape, over all exchanges; the last record taken may pass it. Beyond it as "
    "for records.",
)
TAPE_GAP_EXCHANGES = Limit(
    1_000,
    unit="exchanges",
    reason="Exchanges one gap names. A gap that touched more still counts every record and byte.",
)
TAPE_RUN_BYTES = Limit(
    64 * KiB,
    unit="bytes",
    reason="Consecutive chunks of one stream share a line of the tape up to this size, so a line stays readable.",
)
TAPE_LINE_BYTES = Limit(
    512 * MiB,
    unit="bytes",
    reason="One line of a tape when reading. Larger than any body a proxy holds in memory; beyond it the line is "
    "damage, as a file without line ends would otherwise be read whole.",
)
MAX_KEPT_BODY_BYTES = Limit(
    192 * KiB,
    unit="bytes",
    reason="The copy of one stream's body that user interfaces show (option shadowcat_live_bytes). While it is put "
    "together it may be there three times, and an active exchange may cost 1 MB. The middle of a longer body is not "
    "kept, which the copy says; the tape has all of it.",
)
CHUNK_OVERHEAD_BYTES = Limit(
    120,
    unit="bytes",
    reason="What keeping one chunk costs beside its bytes (object headers, a time, a list slot). Counted against every "
    "limit on kept chunks, so a stream that drips single bytes is bounded too.",
)
MAX_RETRY_MS = Limit(
    2**53 - 1,
    unit="ms",
    reason="Reconnection time of an event stream. The largest whole number that a JavaScript client holds exactly; a "
    "`retry` field may have any number of digits, and one beyond this is taken as this.",
)
MAX_HELD_BODY_BYTES = Limit(
    256 * KiB,
    unit="bytes",
    reason="A response of known length up to this is held whole, as mitmproxy does, so it can be edited by hand; a "
    "larger one, or one of unknown length, streams. Half the room of an active exchange (1 MB, request included).",
)
MAX_ACCEPTED_EXCHANGES = Limit(
    1_000,
    unit="exchanges",
    reason="Ended exchanges (202 Accepted) whose answer may still come on another stream, kept so that their comment "
    "can say how it went. More than any client has open at once; the oldest is forgotten first.",
)
MAX_ENDPOINTS = Limit(
    1_000,
    unit="URIs",
    reason="Endpoints that HTTP+SSE streams announced, one a session. Only recognition is at stake: most posts to a "
    "forgotten one are still recognised by their method.",
)
MAX_FIRST_EVENT_BYTES = Limit(
    64 * KiB,
    unit="bytes",
    reason="How much of an unknown event stream is looked at to tell whether it is MCP. An `endpoint` event has a "
    "hundred bytes; a stream whose first event is longer is somebody else's.",
)
MAX_OPEN_CALLS = Limit(
    10_000,
    unit="calls",
    reason="Requests that wait for their answers, over all sessions, and as many that wait for their next round. Ten "
    "times the concurrent exchanges that are benched; the oldest is forgotten first and counted, so a request that is "
    "never answered costs its own bytes until then.",
)
MAX_WAITING_AUDITS = Limit(
    100,
    unit="batches",
    reason="Audits of one interceptor that wait for something while the traffic goes on. Each keeps its batch; beyond "
    "it batches are not audited, and counted.",
)
FAILURE_REPORT_INTERVAL_S = Limit(
    60,
    unit="s",
    reason="Between two reports of one interceptor's failures. An interceptor that fails on every event would fill a "
    "log by itself; all of its failures are counted, and the next report says how many there were.",
)
MAX_ACCEPTED_BODY_BYTES = Limit(
    16 * KiB,
    unit="bytes",
    reason="Requests larger than this are not kept to await their answer on another stream: their comment stays at "
    "`accepted`. A thousand of them are kept at most.",
)
MAX_OPEN_CALL_BYTES = Limit(
    2 * MiB,
    unit="bytes",
    reason="Requests that wait for their answers, together. The oldest is forgotten first and counted; its answer is "
    "then shown without its name and time.",
)
MAX_WAITING_BYTES = Limit(
    1 * MiB,
    unit="bytes",
    reason="Bodies of short exchanges that wait to be read and shown; with more than that they are read and shown at "
    "once, on the wire's time. A few hundred calls of usual size are half of it.",
)
MAX_FAULT_DELAY_MS = Limit(
    3_600_000,
    unit="ms",
    reason="One delay that a fault makes: an hour, longer than any client waits. A larger one is refused as a slip.",
)
MAX_OVERSIZE_EVENT_BYTES = Limit(
    64 * MiB,
    unit="bytes",
    reason="What the fault `oversize` may make of an event: four times the largest frame that is read here. It is made "
    "in memory; a larger one is refused.",
)
MAX_FAULT_LABELS = Limit(
    10_000,
    unit="labels",
    reason="Requests that faults tell apart by what they ask, each with how often it came, so that a repeated one draws "
    "anew. The oldest is forgotten first and then draws as at its first time.",
)
MAX_ENDED_SESSIONS = Limit(
    1_000,
    unit="sessions",
    reason="Sessions that one fault `session_404` has ended and keeps ended. More than a test opens; the oldest is "
    "forgotten first, and its server answers for it again.",
)
MAX_RULES_FILE_BYTES = Limit(
    4 * MiB,
    unit="bytes",
    reason="One rules file. A thousand rules take 150 KB; a larger file is an error, and a reload keeps the rules that "
    "are there.",
)
MAX_RULES_VALUES = Limit(
    500_000,
    unit="values",
    reason="Values in one rules file, aliases of YAML counted as often as they are used, so a short file cannot unfold "
    "into a large one. Beyond it the file is an error.",
)
MAX_RULES_DEPTH = Limit(
    100,
    unit="levels",
    reason="Nesting of one rules file, conditions and messages of its tests included. Beyond it the file is an error.",
)
MAX_RULES = Limit(
    10_000,
    unit="rules",
    reason="Rules in one file: ten times what is benched. Beyond it the file is an error.",
)
MAX_RULE_PATTERN_CHARS = Limit(
    1_000,
    unit="characters",
    reason="One regular expression of a rule. Matching takes time in proportion to pattern times text, whatever both "
    "are; a longer pattern is an error.",
)
MAX_RULE_PATH_BYTES = Limit(
    1 * MiB,
    unit="bytes",
    reason="The largest message that a JSONPath is looked for in, as a path can visit a value once for every level "
    "around it. A larger one counts as a failure of the rule; JSON pointers have no such limit.",
)
MAX_RULE_PATH_DESCENTS = Limit(
    2,
    unit="descents",
    reason="Segments `..` in one JSONPath. Each multiplies the values to visit by the depth of the message; with more "
    "the path is an error.",
)
MAX_RULE_TEXT_BYTES = Limit(
    4 * MiB,
    unit="characters",
    reason="What one template may make, and the Python SDK's limit for a request. Beyond it the rule fails.",
)
MAX_RULE_COUNTERS = Limit(
    10_000,
    unit="sessions or streams",
    reason="Counters of a rule that counts per session or stream, as many as requests may be open. The oldest is "
    "forgotten first, and counts from the start again.",
)
MAX_RULE_FINDS = Limit(
    500_000,
    unit="rules found",
    reason="What a set of rules keeps in mind of which of them may concern a method and a target, over all of these: a "
    "few MB. A peer that invents names makes it forget and find out again, which costs time and no memory.",
)
MAX_RULE_WAIT_S = Limit(
    3_600,
    unit="s",
    reason="Longest delay or pause of a rule. Clients give up after a minute, and a held stream keeps its connections "
    "open; a longer one is an error.",
)
MAX_SESSIONS = Limit(
    100_000,
    unit="sessions",
    reason="Sessions of one store: ten times what is benched, some 200 MB in memory. Beyond it no new session is kept, "
    "which its client is told; those that are there go on.",
)
MAX_HANDSHAKE_BYTES = Limit(
    64 * KiB,
    unit="bytes",
    reason="The initialize exchange that a session is begun anew with, request and result together. Real ones have 1 to "
    "10 KB; a longer one is refused, so that a session stays under 100 KB.",
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
    reason="Events of all streams that a store in memory keeps; beyond it the stream that was written longest ago loses "
    "its oldest. Two thirds of the 100 MB that the proxy may take under load.",
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
MAX_QUEUED_STREAM_BYTES = Limit(
    256 * KiB,
    unit="bytes",
    reason="What a server may send on a stream that waits for an interceptor before reading from the server pauses. The "
    "socket's buffers come on top. On a shared HTTP/2 connection to the server its other streams pause with it.",
)
MAX_MIRRORED_TOOLS = Limit(
    1_000,
    unit="tools",
    reason="Tools whose parameters a header mirrors (`x-mcp-header`), remembered over all servers so that the headers of "
    "an edited call follow. The oldest is forgotten first; its calls then follow by value alone.",
)
MAX_WAITING_READINGS = Limit(
    512,
    unit="readings",
    reason="Short exchanges that wait to be read, whatever their size: half a second's worth on a busy proxy. With more "
    "they are read at once.",
)
MAX_HELD_MESSAGES = Limit(
    1_000,
    unit="messages",
    reason="Messages that wait for a person at a time. More than anybody gets through, and each keeps a stream waiting; "
    "beyond it a message meets what `shadowcat_hold_on_timeout` says at once, which is on the tape and said once.",
)
OWN_REQUEST_TIMEOUT_S = Limit(
    30,
    unit="s",
    reason="For a server to take a message that was posted in its client's place. It answers 202 at once; one that "
    "does not is left, which is said.",
)
MAX_PINNED_TOOLS = Limit(
    10_000,
    unit="tools",
    reason="Tools in one file of pins, over all servers: fifty servers of two hundred tools, and a file of a few MB, "
    "which is read and written whole. A tool beyond it is reported as not pinned.",
)
MAX_LEARNING_PAGES = Limit(
    1_000,
    unit="pages",
    reason="Pages of the first listing of a server's tools that are waited for. Beyond it the listing counts as over, "
    "so a server cannot add tools to it for ever; what comes later is reported as not pinned.",
)
