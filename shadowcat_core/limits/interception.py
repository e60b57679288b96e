"""Limits of interceptors, faults, holds and guards."""

from shadowcat_core.limits.limit import KiB, Limit, MiB

MAX_WAITING_AUDITS = Limit(
    100,
    unit="batches",
    reason="Audits of one interceptor that wait for something while the traffic goes on. Each keeps its batch; beyond "
    "it batches are not audited, and counted.",
)
FAILURE_REPORT_INTERVAL_S = Limit(
    60,
    unit="s",
    reason="Between two reports of failures of one interceptor that are alike in type and text. One that fails on "
    "every event would fill a log by itself; all are counted, and the next report says how many there were.",
)
MAX_FAILURE_KINDS = Limit(
    10,
    unit="errors",
    reason="Errors of one interceptor that are told apart within that time. An error's text may name what a peer sent "
    "and so be another one each time; those beyond it count as alike.",
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
    reason="Requests that faults tell apart by what they ask, each with how often it came, so that a repeated one "
    "draws anew; and as many exchanges with their counts. The oldest is forgotten first and then begins anew.",
)
MAX_ENDED_SESSIONS = Limit(
    1_000,
    unit="sessions",
    reason="Sessions that one fault `session_404` has ended and keeps ended. More than a test opens; the oldest is "
    "forgotten first, and its server answers for it again.",
)
MAX_QUEUED_STREAM_BYTES = Limit(
    256 * KiB,
    unit="bytes",
    reason="What a server may send on a stream that waits for an interceptor before reading from the server pauses. "
    "The socket's buffers come on top. On a shared HTTP/2 connection to the server its other streams pause with it.",
)
MAX_MIRRORED_TOOLS = Limit(
    1_000,
    unit="tools",
    reason="Tools whose parameters a header mirrors (`x-mcp-header`), remembered over all servers so that the headers "
    "of an edited call follow. The oldest is forgotten first; its calls then follow by value alone.",
)
MAX_HELD_MESSAGES = Limit(
    1_000,
    unit="messages",
    reason="Messages that wait for a person at a time. More than anybody gets through, and each keeps a stream "
    "waiting; beyond it a message meets what `shadowcat_hold_on_timeout` says at once, which is on the tape and "
    "said once.",
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
MAX_OWN_REQUESTS_AT_ONCE = Limit(
    16,
    unit="requests",
    reason="Messages that are being posted to servers in their clients' place at a time; further ones wait.",
)
MAX_OWN_REQUESTS = Limit(
    1_000,
    unit="requests",
    reason="Messages that wait to be posted in their clients' place or are. A server that asks more than it lets be "
    "answered gets no further answers, which is said.",
)
