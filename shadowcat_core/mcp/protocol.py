"""Names the parts of MCP: directions, eras, versions, the methods of each version, and where a message keeps what.

Source: schema.ts of each protocol version. Methods that are in no table are legal (extensions add some) and pass.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from shadowcat_core.jsonrpc import Json, JsonRpcId


class Direction(StrEnum):
    """Which way a message goes."""

    CLIENT_TO_SERVER = "c2s"
    SERVER_TO_CLIENT = "s2c"

    @property
    def opposite(self) -> "Direction":
        """The way an answer goes."""
        return Direction.SERVER_TO_CLIENT if self is Direction.CLIENT_TO_SERVER else Direction.CLIENT_TO_SERVER


class Transport(StrEnum):
    """What carries the messages. HTTP+SSE of 2024-11-05 counts as HTTP."""

    HTTP = "http"
    STDIO = "stdio"


class Era(StrEnum):
    """LEGACY: initialize, sessions, resumable streams (to 2025-11-25). MODERN: stateless (from 2026-07-28 on)."""

    LEGACY = "legacy"
    MODERN = "modern"


LEGACY_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS: Final = ("2026-07-28",)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def era_of(version: str | None) -> Era:
    """Tell the era of a protocol version; None is legacy, as the modern era requires a version on every request.

    Versions are dates: what is older than the first modern one is legacy, everything else modern.
    """
    if version is None or (_DATE.fullmatch(version) and version < MODERN_VERSIONS[0]):
        return Era.LEGACY
    return Era.MODERN


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods of one protocol version by who sends them."""

    client_requests: frozenset[str]
    client_notifications: frozenset[str]
    server_requests: frozenset[str]
    server_notifications: frozenset[str]

    def sent(self, direction: Direction) -> frozenset[str]:
        """Everything that may be sent in a direction."""
        if direction is Direction.CLIENT_TO_SERVER:
            return self.client_requests | self.client_notifications
        return self.server_requests | self.server_notifications


_SHARED_REQUESTS = frozenset({
    "completion/complete", "prompts/get", "prompts/list", "resources/list", "resources/templates/list",
    "resources/read", "tools/call", "tools/list",
})  # fmt: skip
_LIST_CHANGES = frozenset({
    "notifications/resources/list_changed", "notifications/resources/updated", "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
})  # fmt: skip
_TASK_REQUESTS = frozenset({"tasks/get", "tasks/result", "tasks/list", "tasks/cancel"})
_BOTH_NOTIFY = frozenset({"notifications/cancelled", "notifications/progress"})

_V2024_11_05 = Methods(
    client_requests=_SHARED_REQUESTS
    | {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"},
    client_notifications=_BOTH_NOTIFY | {"notifications/initialized", "notifications/roots/list_changed"},
    server_requests=frozenset({"ping", "sampling/createMessage", "roots/list"}),
    server_notifications=_BOTH_NOTIFY | _LIST_CHANGES | {"notifications/message"},
)
_V2025_06_18 = replace(_V2024_11_05, server_requests=_V2024_11_05.server_requests | {"elicitation/create"})
_V2025_11_25 = Methods(
    client_requests=_V2025_06_18.client_requests | _TASK_REQUESTS,
    client_notifications=_V2025_06_18.client_notifications | {"notifications/tasks/status"},
    server_requests=_V2025_06_18.server_requests | _TASK_REQUESTS,
    server_notifications=_V2025_06_18.server_notifications
    | {"notifications/elicitation/complete", "notifications/tasks/status"},
)
_V2026_07_28 = Methods(
    client_requests=_SHARED_REQUESTS | {"server/discover", "subscriptions/listen"},
    client_notifications=frozenset({"notifications/cancelled"}),
    server_requests=frozenset(),
    server_notifications=_BOTH_NOTIFY
    | _LIST_CHANGES
    | {"notifications/message", "notifications/subscriptions/acknowledged"},
)
METHODS: Final[Mapping[str, Methods]] = MappingProxyType({
    "2024-11-05": _V2024_11_05,
    "2025-03-26": _V2024_11_05,
    "2025-06-18": _V2025_06_18,
    "2025-11-25": _V2025_11_25,
    "2026-07-28": _V2026_07_28,
})  # fmt: skip

_META: Final = "io.modelcontextprotocol/"
_TARGET_MEMBERS: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
    "notifications/resources/updated": "uri",
}


def target(method: str | None, params: Json) -> str | None:
    """Tell what a message is about: a tool, a prompt, a resource's URI or a task's id; None when it names nothing."""
    if method is None or not isinstance(params, dict):
        return None
    name = params.get("taskId" if _is_about_a_task(method) else _TARGET_MEMBERS.get(method, ""))
    return name if isinstance(name, str) else None


def _is_about_a_task(method: str) -> bool:
    return method.startswith(("tasks/", "notifications/tasks"))


def _member(payload: Json, *path: str) -> Json:
    for name in path:
        if not isinstance(payload, dict):
            return None
        payload = payload.get(name)
    return payload


def _id(value: Json) -> JsonRpcId | None:
    return None if isinstance(value, bool | dict | list) else value


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def progress_token(payload: Json) -> JsonRpcId | None:
    """The token that a request hands out (`params._meta`) or that a progress notification repeats (`params`)."""
    token = _id(_member(payload, "params", "progressToken"))
    return token if token is not None else _id(_member(payload, "params", "_meta", "progressToken"))


def cancelled_id(payload: Json) -> JsonRpcId | None:
    """The id of the request that `notifications/cancelled` gives up."""
    return _id(_member(payload, "params", "requestId"))


def request_state(payload: Json) -> str | None:
    """The opaque state that an `input_required` result hands out and the repeated request returns verbatim."""
    return _text(_member(payload, "params", "requestState")) or _text(_member(payload, "result", "requestState"))


def is_input_required(payload: Json) -> bool:
    """True for a result that asks the client for input: the call goes on in another request (MRTR, SEP-2322)."""
    return _member(payload, "result", "resultType") == "input_required"


def subscription_id(payload: Json) -> JsonRpcId | None:
    """The id of the `subscriptions/listen` request that a message belongs to."""
    for holder in ("params", "result"):
        held = _id(_member(payload, holder, "_meta", _META + "subscriptionId"))
        if held is not None:
            return held
    return None


def protocol_version(payload: Json) -> str | None:
    """The version a message names: modern requests in `_meta`, `initialize` and its answer as `protocolVersion`."""
    return (
        _text(_member(payload, "params", "_meta", _META + "protocolVersion"))
        or (
            _text(_member(payload, "params", "protocolVersion")) if _member(payload, "method") == "initialize" else None
        )
        or _text(_member(payload, "result", "protocolVersion"))
    )
