"""Limits of what passes on the wire, and what is kept of it while it runs."""

from shadowcat_core.limits.limit import KiB, Limit, MiB

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
MAX_WAITING_READINGS = Limit(
    512,
    unit="readings",
    reason="Short exchanges that wait to be read, whatever their size: half a second's worth on a busy proxy. With "
    "more they are read at once.",
)
