"""Whether a message may be sent again when nobody knows what became of it, and what is said to those who wait.

What never left may always go, to anybody who can read it. What was sent and not answered may have run: it goes again
only when that does no harm. What was answered, if only in part, never does. Pure functions; the table is in
`docs/upstreams.md`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shadowcat_core.jsonrpc import ErrorCode, Json, Kind
from shadowcat_core.messages import Message, RpcError
from shadowcat_core.messages.answers import Settlement, settlement_of
from shadowcat_core.upstreams.models import Retry as RetryPolicy
from shadowcat_core.upstreams.tool_hints import NO_HINTS, HintBook, ToolHints

SAFE_METHODS: Final = frozenset({
    # These read.
    "ping", "server/discover", "completion/complete", "prompts/get", "prompts/list", "resources/list",
    "resources/templates/list", "resources/read", "tools/list", "tasks/get", "tasks/list", "tasks/result",
    # These set something to a value, twice if need be.
    "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen", "tasks/cancel",
    # This makes a session that nobody will use, which its server ends in time.
    "initialize",
})  # fmt: skip
"""Requests of the protocol that may be repeated. `tools/call` is not among them: its tool decides."""

SAFE_NOTIFICATIONS: Final = frozenset({
    "notifications/cancelled", "notifications/initialized", "notifications/roots/list_changed",
})  # fmt: skip
"""Notifications that say the same when they say it twice."""

_SAFE_HTTP_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""What may be repeated of HTTP when nothing is known of a body."""

DEFAULT_POLICY: Final = RetryPolicy()

_ITS_SERVERS: Final = frozenset({"notifications/progress", "notifications/tasks/status"})
"""Notifications about a request of the server's, which no other server knows."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """It may be sent again; not `anywhere` means that only the server's session that it was for can read it."""

    reason: str
    anywhere: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It may not. `error` answers who waits; None when nobody does."""

    reason: str
    error: RpcError | None


type Retry = SendAgain | GiveUp


def may_retry(
    message: Message,
    *,
    sent: bool,
    answered: bool,
    hints: ToolHints = NO_HINTS,
    policy: RetryPolicy = DEFAULT_POLICY,
    upstream: str = "",
) -> Retry:
    """Decide about one message from a client whose upstream failed. The message is read exactly, not by its hints.

    Args:
        message: what was to be sent.
        sent: whether any byte of the request may have left. When that is not known, it has.
        answered: whether any byte of an answer came, its head included.
        hints: what the tool that it calls says of itself.
        policy: the route's.
        upstream: the name of the one that failed, for the error's text.
    """
    kind = message.kind
    bound = kind in (Kind.RESPONSE, Kind.ERROR) or message.method in _ITS_SERVERS
    if not sent:
        return SendAgain("it was not sent", anywhere=not bound)
    if answered:
        return _given_up(message, "its answer began, and broke off", upstream)
    if bound and kind is not Kind.NOTIFICATION:
        # A server takes one answer to a request and has forgotten the request at the second.
        return SendAgain("a server takes the first of two equal answers", anywhere=False)
    reason = _why_safe(message, hints, policy)
    if reason is None:
        return _given_up(message, "nothing says that it may run twice", upstream)
    return SendAgain(reason)


def may_retry_all(
    messages: Iterable[Message],
    *,
    sent: bool,
    answered: bool,
    book: HintBook,
    policy: RetryPolicy = DEFAULT_POLICY,
    upstream: str = "",
    http_method: str = "POST",
) -> Retry:
    """Decide about the messages of one body (an array, in protocol 2025-03-26): it goes again if each of them may.

    Each that waits needs an error of its own, when it does not: ask `may_retry` of each for it. Without any message it
    is no MCP, or a body that nobody here can read: `http_method` decides then.
    """
    again: SendAgain | None = None
    for message in messages:
        hints = book.of(message.target) if message.method == "tools/call" else NO_HINTS
        decision = may_retry(message, sent=sent, answered=answered, hints=hints, policy=policy, upstream=upstream)
        if isinstance(decision, GiveUp):
            return decision
        if again is None or not decision.anywhere:
            again = decision
    if again is not None:
        return again
    if not sent:
        return SendAgain("it was not sent")
    if answered or http_method not in _SAFE_HTTP_METHODS:
        return GiveUp("nobody knows what it does", None)
    return SendAgain(f"{http_method} may be repeated")


class Failures:
    """Who was tried for one request, and why each failed at last. However often that is, it takes no more room."""

    def __init__(self, tried: Iterable[tuple[str, str]] = ()) -> None:
        self.latest = ""
        """The name of the one that was tried last; empty when nobody was."""
        self._reasons: dict[str, str] = {}
        self._times: dict[str, int] = {}
        for name, reason in tried:
            self.add(name, reason)

    def add(self, name: str, reason: str) -> None:
        """Take note of one more attempt that failed."""
        self.latest = name
        self._reasons[name] = reason
        self._times[name] = self._times.get(name, 0) + 1

    @property
    def names(self) -> list[Json]:
        """Who was tried, in the order of the first attempts."""
        return [*self._reasons]

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def __str__(self) -> str:
        times = {name: f", {count} times" if count > 1 else "" for name, count in self._times.items()}
        return ", ".join(f"{name} ({why}{times[name]})" for name, why in self._reasons.items())


def unreachable(tried: Failures, retry_in_s: float | None = None) -> RpcError:
    """Write the error for a request that never left: who was tried, and why each failed; nobody when all are down."""
    text = f"no MCP server can be reached: {tried}" if tried else "no MCP server of this route is available"
    data: dict[str, Json] = {"tried": tried.names, "mayHaveRun": False}
    if retry_in_s is not None:
        data["retryInSeconds"] = round(retry_in_s, 3)
    return RpcError(ErrorCode.UPSTREAM_UNREACHABLE, text, data)


def _why_safe(message: Message, hints: ToolHints, policy: RetryPolicy) -> str | None:
    method = message.method
    match message.kind:
        case Kind.NOTIFICATION if method in SAFE_NOTIFICATIONS:
            return f"{method} may be repeated"
        case Kind.NOTIFICATION | Kind.REQUEST if method in policy.methods:
            return f"the configuration has {method} among its methods"
        case Kind.REQUEST if method in SAFE_METHODS:
            return f"{method} may be repeated"
        case Kind.REQUEST if method == "tools/call":
            return _why_callable(message.target, hints, policy)
        case _:
            return None


def _why_callable(tool: str | None, hints: ToolHints, policy: RetryPolicy) -> str | None:
    if tool in policy.tools:
        return f"the configuration has {tool} among its tools"
    if policy.trust_hints and hints.read_only:
        return f"{tool} has the readOnlyHint"
    if policy.trust_hints and hints.idempotent:
        return f"{tool} has the idempotentHint"
    return None


def _given_up(message: Message, reason: str, upstream: str) -> GiveUp:
    if settlement_of(message) is not Settlement.REPLY:
        return GiveUp(reason, None)
    server = f"MCP server {upstream}" if upstream else "the MCP server"
    text = f"{server} failed while it had this request, which may have run and was not sent again: {reason}"
    return GiveUp(reason, RpcError(ErrorCode.UPSTREAM_CLOSED, text, {"upstream": upstream, "mayHaveRun": True}))
