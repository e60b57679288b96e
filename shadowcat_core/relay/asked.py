"""What a client asks, as far as its way depends on it. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from shadowcat_core.jsonrpc import JsonRpcId, Kind
from shadowcat_core.mcp import SESSION_ID_HEADER, Era, HeaderFields, cancelled_id
from shadowcat_core.messages import Message
from shadowcat_core.sessions.lifecycle import Headers

_CANCELLED: Final = "notifications/cancelled"
_INITIALIZE: Final = "initialize"
_NOT_CARRIED: Final = frozenset({
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""What says what this message or this connection is, and not who the caller is."""


@dataclass(frozen=True)
class Asked:
    """One request of a client's, its body included.

    `fields` are its header fields as they came, `messages` what its body says; empty for GET, DELETE and what is no
    MCP. `host` may have a port, `path` a query.
    """

    method: str
    host: str | None
    path: str
    fields: Sequence[tuple[bytes, bytes]]
    era: Era | None = None
    messages: Sequence[Message] = ()

    @cached_property
    def headers(self) -> HeaderFields:
        """The headers, to look them up by name."""
        return HeaderFields(self.fields)

    @property
    def session_id(self) -> str | None:
        """The id of the session that the client believes to be in; None without one, and in the modern era."""
        return None if self.era is Era.MODERN else self.headers.get(SESSION_ID_HEADER)

    @property
    def authorization(self) -> str | None:
        """Who asks."""
        return self.headers.get("authorization")

    @property
    def last_event_id(self) -> str | None:
        """Behind which event a stream is to go on; None when none is resumed."""
        return self.headers.get("last-event-id") if self.method == "GET" else None

    @cached_property
    def requests(self) -> Sequence[Message]:
        """The messages that want an answer."""
        return [message for message in self.messages if message.kind is Kind.REQUEST]

    @property
    def cancelled(self) -> Sequence[JsonRpcId]:
        """The ids of the requests that it cancels."""
        named = [cancelled_id(message.payload) for message in self.messages if message.method == _CANCELLED]
        return [request_id for request_id in named if request_id is not None]

    @cached_property
    def initialize(self) -> Message | None:
        """The request that begins a session; None when there is none."""
        return next((message for message in self.requests if message.method == _INITIALIZE), None)

    @cached_property
    def caller(self) -> Headers:
        """The headers that say who the caller is, for requests of our own on its behalf."""
        texts = ((_text(name), _text(value)) for name, value in self.fields)
        return [(name, value) for name, value in texts if name.lower() not in _NOT_CARRIED and name[:1] != ":"]


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")
