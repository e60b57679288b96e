"""Limits of beginning sessions anew, and of streams that clients come back for."""

from shadowcat_core.limits.limit import KiB, Limit, MiB

REVIVAL_TIMEOUT_S = Limit(
    10,
    unit="s",
    reason="Beginning a session anew at a server, subscriptions included. The client's request waits meanwhile; later "
    "it is answered with an error.",
)
MAX_REVIVALS = Limit(
    32,
    unit="sessions",
    reason="Sessions that are begun anew at the same time. When a server with a thousand of them dies, the others wait "
    "for their turn, and that is not held against the server that they go to.",
)
ENDING_TIMEOUT_S = Limit(
    2,
    unit="s",
    reason="Telling a server that one of its sessions is over. Nobody waits for it, and a server that is not told "
    "ends the session when it has been idle for long.",
)
MAX_ENDINGS = Limit(
    8,
    unit="requests",
    reason="Servers' sessions that a sweep ends at the same time, so that a hundred expired ones are no burst.",
)
UNLOGGED_BYTES = Limit(
    256 * KiB,
    unit="bytes",
    reason="Events of one stream that wait for the log, 128 bytes for keeping each included. Beyond it, while the "
    "store is away or slow, the oldest are left out of the log and count as lost to who missed them; the wire goes on.",
)
UNLOGGED_TOTAL_BYTES = Limit(
    16 * MiB,
    unit="bytes",
    reason="Likewise of all streams together; beyond it the stream that goes on leaves out its oldest.",
)
MAX_CARRIED_ID_BYTES = Limit(
    256,
    unit="bytes",
    reason="A server's event id that is carried inside ours, so that a stream can be resumed there whatever the log "
    "has. Real ones have up to 80; a longer one is known to the log alone.",
)
GATHERING_MS = Limit(
    5,
    unit="ms",
    reason="How long events gather before they are written to a log in SQLite or Redis, each step of which costs more "
    "than they do: an answer that is streamed at once takes one. What a proxy that is killed had not written its "
    "server has to send again.",
)
READING_BEAT_S = Limit(
    5,
    unit="s",
    reason="Between two notes in the log that a stream, whose client has left, is still read from its server.",
)
FOLLOW_POLL_MS = Limit(
    250,
    unit="ms",
    reason="Between two looks for new events of a stream that another proxy reads: what a client on a detour waits "
    "longer, at four look-ups a second.",
)
FOLLOW_SILENCE_MS = Limit(
    12_000,
    unit="ms",
    reason="A stream that another proxy reads counts as left alone after this silence: two beats and some.",
)
MAX_REFUSAL_BYTES = Limit(
    64 * KiB,
    unit="bytes",
    reason="Of a server's answer that refuses a request, to see why, and to have it whole before the request goes "
    "again. A longer one is judged by so much.",
)
MAX_READ_ON_STREAMS = Limit(
    1_000,
    unit="streams",
    reason="Streams that are read on when their clients have left, so that those find the answers when they come back. "
    "Each keeps a connection; beyond it a server is hung up on as its client was.",
)
READ_ON_S = Limit(
    300,
    unit="s",
    reason="How long such a stream is read without its client: as long as its events could be come back for.",
)
MAX_PROGRESS_TOKENS = Limit(
    64,
    unit="tokens",
    reason="Progress tokens of one stream whose request runs again, for which it is known how far their progress has "
    "come, so that none is told anew. A call has one; progress of others than the first ones, and of tokens with more "
    "than 256 characters, passes as it comes.",
)
MAX_RETRY_PAUSE_MS = Limit(
    30_000,
    unit="ms",
    reason="How long a server's `retry` lets a broken stream wait before it is asked for again; a longer one counts as "
    "this. The client's connection is silent meanwhile.",
)
REOPENING_MS = Limit(
    1_000,
    unit="ms",
    reason="How long a request whose session was begun anew waits for the client's GET stream to be opened there too, "
    "so that nothing of what its server says unasked is missed. That takes some milliseconds; later it goes all the "
    "same.",
)
