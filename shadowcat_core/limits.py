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
    16 * MiB,
    unit="bytes",
    reason="What one compressed chunk may unpack to, for watchers. As large as the largest frame; beyond it the stream "
    "is forwarded and recorded as before, and is no longer decoded, which is said once.",
)
