"""What a file of upstreams may say, as pydantic models: their fields are the format, and nothing else may be there.

`docs/upstreams.md` explains each field. What is written here never changes while the proxy runs; a reload makes others.
"""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from shadowcat_core.limits import (
    MAX_RETRY_ATTEMPTS,
    MAX_RING_WEIGHT,
    MAX_ROUTES,
    MAX_UPSTREAMS,
    SESSION_IDLE_TTL_MS,
    SESSION_LIFETIME_MS,
)
from shadowcat_core.upstreams.endpoint import Endpoint
from shadowcat_core.upstreams.store_address import StoreAddress

SESSION_KEY: Final = "session"
"""What `hash_by` says when a request without a session is not hashed at all."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, section 5.6.2
_VALUE: Final = re.compile(r"[!-~\x80-\xff]([ \t!-~\x80-\xff]*[!-~\x80-\xff])?")
_OURS: Final = frozenset({
    "connection", "content-encoding", "content-length", "expect", "keep-alive", "last-event-id", "mcp-method",
    "mcp-name", "mcp-protocol-version", "mcp-session-id", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]", re.ASCII)


def _url(text: str) -> str:
    Endpoint.parse(text)
    return text


def _store(text: str) -> str:
    StoreAddress.parse(text)
    return text


def _prefix(text: str) -> str:
    if not text.startswith("/") or "?" in text or "#" in text or "//" in text:
        raise ValueError(f"{text!r} is no path: it begins with /, and has no query")
    return text


def _host(text: str) -> str:
    host = text.lower()
    if _HOST.fullmatch(host) is None:
        raise ValueError(f"{text!r} is no host: a name or an address without a port, or *. and a name")
    return host


def _header_name(text: str) -> str:
    if _TOKEN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no name of a header")
    return text


def _added_header(text: str) -> str:
    if _header_name(text).lower() in _OURS:
        raise ValueError(f"the header {text} says what the message or the connection is, and cannot be chosen")
    return text


def _header_value(text: str) -> str:
    if _VALUE.fullmatch(text) is None:
        raise ValueError("a header's value is one line, without blanks at its ends")
    return text


def _hash_key(text: str) -> str:
    return text if text == SESSION_KEY else _header_name(text)


type Seconds = Annotated[float, Field(ge=0.001, le=24 * 3600, allow_inf_nan=False)]
type Interval = Annotated[float, Field(ge=0.1, le=24 * 3600, allow_inf_nan=False)]
type Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
type Url = Annotated[str, AfterValidator(_url)]
type HeaderName = Annotated[str, AfterValidator(_added_header)]
type HeaderValue = Annotated[str, AfterValidator(_header_value)]
type Balance = Literal["round_robin", "least_sessions", "hash"]
type ProbeKind = Literal["tcp", "ping", "discover"]


class Model(BaseModel):
    """A part of the format: no other fields, no value of another type, and no changes afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=False)


class UpstreamConfig(Model):
    """One server."""

    name: Name
    url: Url
    weight: Annotated[int, Field(ge=1, le=1_000)] = 1
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, repr=False)  # they may hold a token

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        return Endpoint.parse(self.url)


class Timeouts(Model):
    """How long an upstream is waited for. `first_byte_s` is null when an answer may take as long as it likes."""

    connect_s: Seconds = 5.0
    first_byte_s: Seconds | None = 300.0


class ActiveHealth(Model):
    """Asking an upstream whether it is there. A kind alone stands for itself with the defaults."""

    kind: ProbeKind
    interval_s: Interval = 10.0
    timeout_s: Seconds = 3.0
    failures: Annotated[int, Field(ge=1, le=100)] = 2

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: object) -> object:
        return {"kind": data} if isinstance(data, str) else data


class PassiveHealth(Model):
    """Learning from requests: so many failures within a window, if they are this share of what happened since."""

    failures: Annotated[int, Field(ge=1, le=100)] = 3
    window_s: Seconds = 30.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.5


class Backoff(Model):
    """How long an upstream is left alone after it failed: doubled each time, and shortened by chance up to `jitter`."""

    base_s: Seconds = 0.5
    max_s: Seconds = 15.0
    jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.5

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.max_s < self.base_s:
            raise PydanticCustomError("order", "max_s cannot be less than base_s")
        return self


class Health(Model):
    """How it is found out which upstreams work."""

    active: ActiveHealth | None = None
    passive: PassiveHealth = Field(default_factory=PassiveHealth)
    backoff: Backoff = Field(default_factory=Backoff)


class Retry(Model):
    """What may be sent again: `methods` and `tools` are safe by the writer's word, hints by the server's."""

    attempts: Annotated[int, Field(ge=1, le=int(MAX_RETRY_ATTEMPTS))] = 3
    patience_s: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 10.0
    methods: list[str] = Field(default_factory=list)
    tools: list[str] = Field(default_factory=list)
    trust_hints: bool = True


class RouteConfig(Model):
    """Requests that one of these upstreams answers."""

    name: Name = ""  # given by the loader when there is none
    path: Annotated[str, AfterValidator(_prefix)] = "/mcp"
    host: Annotated[str, AfterValidator(_host)] | None = None
    upstreams: Annotated[list[UpstreamConfig], Field(min_length=1, max_length=int(MAX_UPSTREAMS))]
    balance: Balance = "round_robin"
    hash_by: Annotated[str, AfterValidator(_hash_key)] = "Mcp-Name"
    sticky: bool = True
    timeouts: Timeouts = Field(default_factory=Timeouts)
    health: Health = Field(default_factory=Health)
    retry: Retry = Field(default_factory=Retry)

    @model_validator(mode="after")
    def _ring(self) -> Self:
        weights = sum(upstream.weight for upstream in self.upstreams)
        if self.balance == "hash" and weights > MAX_RING_WEIGHT:
            text = "the weights of a hashed route add up to {weights}, over the limit of {limit}"
            values = {"weights": f"{weights:,}", "limit": f"{MAX_RING_WEIGHT:,}"}
            raise PydanticCustomError("ring", text, values)
        return self


class SessionsConfig(Model):
    """Where sessions are kept, and for how long."""

    store: Annotated[str, AfterValidator(_store), Field(repr=False)] = "memory"  # a URL may hold a password
    idle_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = int(SESSION_IDLE_TTL_MS) / 1000
    lifetime_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = int(SESSION_LIFETIME_MS) / 1000
    on_outage: Literal["open", "closed"] = "open"
    key_file: str | None = None

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.lifetime_s < self.idle_s:
            raise PydanticCustomError("order", "lifetime_s cannot be less than idle_s")
        return self

    @property
    def address(self) -> StoreAddress:
        """Where the store is."""
        return StoreAddress.parse(self.store)


class UpstreamsFile(Model):
    """A whole file."""

    version: Literal[1] = 1
    sessions: SessionsConfig = Field(default_factory=SessionsConfig)
    routes: Annotated[list[RouteConfig], Field(min_length=1, max_length=int(MAX_ROUTES))]
