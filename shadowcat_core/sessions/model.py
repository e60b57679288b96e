"""What a session is to a proxy: whom the client's id stands for upstream, how it began, and when it is over. No I/O.

Times are whole milliseconds since the epoch on the wall clock: the only one that several machines and a restart share.

Source: MCP 2025-11-25, Basic / Transports / Session Management (the stateful era; later versions have no sessions).
"""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from shadowcat_core.errors import MessageTooLarge, StoreFull
from shadowcat_core.limits import MAX_HANDSHAKE_BYTES, MAX_SUBSCRIPTION_BYTES, SESSION_IDLE_TTL_MS, SESSION_LIFETIME_MS

type ClockMs = Callable[[], int]

_ID_BYTES: Final = 24
_SESSION_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_UPSTREAM_ID: Final = re.compile(r"[!-~]+", re.ASCII)
_NOBODY: Final = "~"
_SUBSCRIPTION_OVERHEAD_BYTES: Final = 64
"""A bound on the URIs alone would let empty ones grow without limit."""


def new_session_id() -> str:
    """Make an id that nobody guesses: 192 random bits as 32 characters of visible ASCII."""
    return secrets.token_urlsafe(_ID_BYTES)


def askable(session_id: str) -> str:
    """Make of what a client sent an id to ask a store for: any text that is no id of ours becomes one nobody has."""
    return session_id if _SESSION_ID.fullmatch(session_id) else _NOBODY


def subscription_bytes(uri: str) -> int:
    """Count what a subscription takes of `limits.MAX_SUBSCRIPTION_BYTES`."""
    return len(uri.encode()) + _SUBSCRIPTION_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Upstream:
    """One server's session: the server's `name` in our configuration, and the id it gave.

    `session_id` is None for a server that gives none.

    Raises:
        ValueError: the id is not visible ASCII, which the specification requires; the name is not one line.
    """

    name: str
    session_id: str | None = None

    def __post_init__(self) -> None:
        if self.session_id is not None and _UPSTREAM_ID.fullmatch(self.session_id) is None:
            raise ValueError(f"{self.session_id!r} is no session id: visible ASCII characters, at least one")
        if "\n" in self.name:
            raise ValueError(f"the name of an upstream is one line, unlike {self.name!r}")


@dataclass(frozen=True, slots=True)
class Handshake:
    """The `initialize` exchange as it went: bodies of the request and of its result. With it a session begins anew.

    Raises:
        MessageTooLarge: the two are larger than `limits.MAX_HANDSHAKE_BYTES`.
    """

    request: bytes
    result: bytes

    def __post_init__(self) -> None:
        size = len(self.request) + len(self.result)
        if size > MAX_HANDSHAKE_BYTES:
            raise MessageTooLarge(size, MAX_HANDSHAKE_BYTES)


@dataclass(frozen=True, slots=True)
class SessionMapping:
    """What every request of a session needs to find its way.

    `session_id` is the id the client holds: letters, digits, `.`, `_` and `-`, at most 128 of them. `epoch` counts from
    1 and grows by one when the session moves to another upstream session. `credential` is what `CredentialBinder.bind`
    made of the caller's Authorization, never the token.

    Raises:
        ValueError: the session id is none that a proxy gives out; the version or the credential is not one line.
    """

    session_id: str
    upstream: Upstream
    epoch: int
    protocol_version: str
    credential: str

    def __post_init__(self) -> None:
        if _SESSION_ID.fullmatch(self.session_id) is None:
            raise ValueError(f"{self.session_id!r} is no session id of a proxy")
        if "\n" in self.protocol_version or "\n" in self.credential:
            raise ValueError("a protocol version and a credential are one line each")


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """When a session began, when it was last used, and for how long it may be idle and live at all."""

    created_ms: int
    used_ms: int
    idle_ttl_ms: int = SESSION_IDLE_TTL_MS
    lifetime_ms: int = SESSION_LIFETIME_MS

    def __post_init__(self) -> None:
        if self.idle_ttl_ms <= 0 or self.lifetime_ms <= 0:
            raise ValueError(f"a session needs time to live: idle {self.idle_ttl_ms} ms, all {self.lifetime_ms} ms")

    @classmethod
    def starting(
        cls, now_ms: int, *, idle_ttl_ms: int = SESSION_IDLE_TTL_MS, lifetime_ms: int = SESSION_LIFETIME_MS
    ) -> Self:
        """Make the times of a session that begins now."""
        return cls(now_ms, now_ms, int(idle_ttl_ms), int(lifetime_ms))

    @property
    def ends_ms(self) -> int:
        """The moment at which it is over, however busy."""
        return self.created_ms + self.lifetime_ms

    @property
    def expires_ms(self) -> int:
        """The first moment at which it is over, unless it is used before."""
        return min(self.used_ms + self.idle_ttl_ms, self.ends_ms)

    def used_at(self, now_ms: int) -> Self:
        """Note a use. Time never moves back: of two proxies whose clocks differ the later counts."""
        return self if now_ms <= self.used_ms else replace(self, used_ms=now_ms)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """All that is known of a session. `subscriptions` are distinct URIs in the order in which they were asked for.

    Raises:
        ValueError: a URI is there twice.
        StoreFull: the subscriptions are over `limits.MAX_SUBSCRIPTION_BYTES`.
    """

    mapping: SessionMapping
    handshake: Handshake
    times: SessionTimes
    subscriptions: Sequence[str] = ()
    log_level: str | None = None

    def __post_init__(self) -> None:
        if len(set(self.subscriptions)) != len(self.subscriptions):
            raise ValueError("a session is subscribed to each URI once")
        if sum(map(subscription_bytes, self.subscriptions)) > MAX_SUBSCRIPTION_BYTES:
            raise StoreFull("bytes of subscriptions in a session", MAX_SUBSCRIPTION_BYTES)

    @property
    def session_id(self) -> str:
        """The id the client holds."""
        return self.mapping.session_id


def begin_session(
    upstream: Upstream,
    handshake: Handshake,
    protocol_version: str,
    *,
    credential: str,
    times: SessionTimes,
    session_id: str | None = None,
) -> SessionRecord:
    """Make the record of a session that was just initialized, under a new id unless one is given."""
    mapping = SessionMapping(session_id or new_session_id(), upstream, 1, protocol_version, credential)
    return SessionRecord(mapping, handshake, times)
