"""What a fault is told to do, as a person writes it: one model a toxic, validated, with the fields that all share.

A toxic works at one of three levels. On *messages*, in the pipeline: any framing, both directions. On the *stream* that
goes to the client: events and bytes. On the *HTTP* request before the server is asked.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shadowcat_core.interceptors.faults.subjects import NOTHING, Subject
from shadowcat_core.limits import MAX_FAULT_DELAY_MS, MAX_OVERSIZE_EVENT_BYTES, MiB
from shadowcat_core.mcp import Direction

type Milliseconds = Annotated[float, Field(ge=0, le=MAX_FAULT_DELAY_MS)]
type Count = Annotated[int, Field(ge=0)]
type Glob = str


class Toxic(BaseModel):
    """One fault: what it does, to what, how often. Its `kind` is the word that it is asked for with."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)
    kind: ClassVar[str]

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = ""
    """What it is called when it is noted or removed; its kind, with a number when there are several, by default."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: int | None = None
    """Decides what is left to chance; the seed of the rack when None."""
    method: Glob = "*"
    """Of the request, the notification, or the request that is answered."""
    target: Glob = "*"
    """The tool, prompt, resource or task."""
    start: Annotated[int, Field(ge=1, alias="from")] = 1
    """The first one to take of those that match, counted from 1."""
    times: Annotated[int, Field(ge=1)] | None = None
    """How many to take at most."""
    per: Literal["run", "exchange"] = "run"
    """Within what `from` and `times` count."""

    def concerns(self, subject: Subject) -> bool:
        """True when method and target match."""
        return fnmatchcase(subject.method or "", self.method) and fnmatchcase(subject.target or "", self.target)


class MessageToxic(Toxic):
    """Works on single messages."""

    direction: Literal["s2c", "c2s", "both"] = "s2c"

    @property
    def only_direction(self) -> Direction | None:
        """The direction it is restricted to, if it is."""
        return None if self.direction == "both" else Direction(self.direction)


class Latency(MessageToxic):
    """Messages go on later; all behind them on their stream with them."""

    kind = "latency"
    ms: Milliseconds = 1_000
    jitter_ms: Milliseconds = 0
    """Up to so much is added, or taken away."""


class Jitter(MessageToxic):
    """Messages go on later by anything up to `ms`."""

    kind = "jitter"
    ms: Milliseconds = 1_000


class Drop(MessageToxic):
    """Messages are lost, and nobody is told."""

    kind = "drop"


class Corrupt(MessageToxic):
    """Messages become what is no JSON: their end is missing, or they hold a byte that UTF-8 does not have."""

    kind = "corrupt"
    how: Literal["cut", "utf8"] = "cut"


class WrongId(MessageToxic):
    """Answers carry another id than the request: another value, another type, null, or none."""

    kind = "wrong_id"
    how: Literal["other", "type", "null", "missing"] = "other"


class ExchangeToxic(Toxic):
    """Works on one HTTP exchange."""

    http_method: Glob = "*"

    def takes_http_method(self, http_method: str) -> bool:
        """True when the HTTP method matches."""
        return fnmatchcase(http_method, self.http_method)

    def concerns_any(self, subjects: Sequence[Subject]) -> bool:
        """True when anything that was asked matches; what asked nothing, such as a GET, is about nothing."""
        return any(self.concerns(subject) for subject in subjects or (NOTHING,))


class EventToxic(ExchangeToxic):
    """Works on single events of the streams that go to clients."""


class Duplicate(EventToxic):
    """Events come again at once, byte for byte, with the same id."""

    kind = "duplicate"
    copies: Annotated[int, Field(ge=1, le=1_000)] = 1


class Reorder(EventToxic):
    """Events come behind the next `by` ones."""

    kind = "reorder"
    by: Annotated[int, Field(ge=1, le=1_000)] = 1


class SplitUtf8(EventToxic):
    """A character of several bytes comes in two chunks, `ms` apart; an event without one is left alone."""

    kind = "split_utf8"
    ms: Annotated[float, Field(gt=0, le=MAX_FAULT_DELAY_MS)] = 20


class LineEnds(EventToxic):
    """Lines of an event end otherwise, which the standard allows. `random`: one of the three; `mixed`: line by line."""

    kind = "line_ends"
    to: Literal["lf", "crlf", "cr", "random", "mixed"] = "random"


class Oversize(EventToxic):
    """An event's data grow to `bytes` by blanks behind the JSON text, which means the same."""

    kind = "oversize"
    bytes: Annotated[int, Field(ge=1, le=MAX_OVERSIZE_EVENT_BYTES)] = 2 * MiB


class BodyToxic(ExchangeToxic):
    """Works on a whole response body; `from` and `times` count bodies."""

    per: Literal["run"] = "run"


class Bandwidth(BodyToxic):
    """The body goes to the client at so many bytes a second."""

    kind = "bandwidth"
    bytes_per_s: Annotated[int, Field(ge=1)] = 1_024


class _Break(BodyToxic):
    """Where a body breaks: behind so many events, or so many bytes."""

    after: Count | None = None
    after_bytes: Count | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.after is None) == (self.after_bytes is None):
            raise ValueError("say where: either after=EVENTS or after_bytes=BYTES")
        return self


class Cut(_Break):
    """The body breaks off, as from a dying server."""

    kind = "cut"


class Stall(_Break):
    """Nothing more comes, and the stream stays open."""

    kind = "stall"


class DropGet(BodyToxic):
    """The stream that a client opened with GET breaks off: at its head, or behind so many events."""

    kind = "drop_get"
    http_method: Literal["GET"] = "GET"
    after: Count = 0


class HttpToxic(ExchangeToxic):
    """Works on a request before the server is asked; `from` and `times` count requests."""

    per: Literal["run"] = "run"


class McpName(HttpToxic):
    """The header `Mcp-Name` of a modern request is missing, or names something else than the body."""

    kind = "mcp_name"
    how: Literal["wrong", "missing"] = "wrong"


class Session404(HttpToxic):
    """A session is over: this request and all later ones of it get 404, as from a server that has ended it."""

    kind = "session_404"


class Unauthorized(HttpToxic):
    """401, as from a server that wants another token."""

    kind = "unauthorized"
    description: Annotated[str, Field(pattern=r'^[^"\\\r\n]*$')] = "Authentication required"
    resource_metadata: Annotated[str, Field(pattern=r'^[^"\\\s]*$')] = ""
    """The URL of the protected resource's metadata (RFC 9728), for the header; none when empty."""


class RateLimit(HttpToxic):
    """429, with the time after which the client may try again."""

    kind = "rate_limit"
    retry_after_s: Count = 1


class RefuseGet(HttpToxic):
    """405 for a GET, as from a server that has no stream of its own to offer."""

    kind = "refuse_get"
    http_method: Literal["GET"] = "GET"


TOXICS: Final[dict[str, type[Toxic]]] = {
    toxic.kind: toxic
    for toxic in (
        Latency, Jitter, Drop, Corrupt, WrongId,
        Duplicate, Reorder, SplitUtf8, LineEnds, Oversize, Bandwidth, Cut, Stall, DropGet,
        McpName, Session404, Unauthorized, RateLimit, RefuseGet,
    )
}  # fmt: skip
"""Every toxic there is, by the word that it is asked for with."""
