"""Begins a session anew at a server that does not know it: its handshake, then what the client had asked for since.

The client is not asked and does not learn of it. So the server has to agree to the same protocol version; what else
differs from the server before is reported. Source: MCP 2025-11-25, Basic / Lifecycle / Initialization.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from shadowcat_core.errors import InvalidMessage, SessionNotRevived, VersionChanged
from shadowcat_core.jsonrpc import Json, JsonRpcId, dump, envelope, parse
from shadowcat_core.mcp import SESSION_ID_HEADER
from shadowcat_core.sessions.lifecycle import (
    UPSTREAM_FAILS,
    Answer,
    Ask,
    Headers,
    answered_with,
    own_headers,
    own_request,
)
from shadowcat_core.sessions.model import SessionRecord, Upstream

_INITIALIZED: Final = dump({"jsonrpc": "2.0", "method": "notifications/initialized"})
_COMPARED: Final = ("capabilities", "serverInfo", "instructions")
_ID_PREFIX: Final = "shadowcat-revival-"


@dataclass(frozen=True, slots=True)
class Begun:
    """A session that was begun at a server, and what is not as it was: a line each, for people."""

    upstream: Upstream
    changes: Sequence[str] = ()


class Reviver:
    """Leads one server through a recorded session. `begun` is set as soon as there is a session to be ended."""

    def __init__(self, ask: Ask, record: SessionRecord, upstream: str, headers: Headers) -> None:
        self.begun: Begun | None = None
        self._ask = ask
        self._record = record
        self._version = record.mapping.protocol_version
        self._upstream = upstream
        self._headers = headers

    async def revive(self) -> Begun:
        """Begin the session and bring it to where it was.

        Raises:
            VersionChanged: the server speaks another version than the client was told.
            SessionNotRevived: the server cannot be reached, or does not answer as a server does.
        """
        begun = await self._initialize()
        self._demand(await self._post(_INITIALIZED, begun), "notifications/initialized")
        refused = [
            await self._repeat(number, method, params, begun)
            for number, (method, params) in enumerate(self._asked_since())
        ]
        return replace(begun, changes=(*begun.changes, *filter(None, refused)))

    async def _initialize(self) -> Begun:
        request = parse(self._record.handshake.request)
        answer = await self._post(self._request_of_now(request), None)
        self._demand(answer, "initialize")
        try:
            upstream = Upstream(self._upstream, answer.headers.get(SESSION_ID_HEADER))
        except ValueError as exc:
            raise SessionNotRevived(self._upstream, str(exc)) from exc
        # From here on there is something to end, whatever else the answer says.
        self.begun = Begun(upstream)
        result = self._result_of(answer, envelope(request).id)
        version = result.get("protocolVersion")
        if version != self._version:
            raise VersionChanged(self._upstream, self._version, str(version))
        before = _result(parse(self._record.handshake.result))
        changes = [f"{name} differs" for name in _COMPARED if before.get(name) != result.get(name)]
        self.begun = Begun(upstream, changes)
        return self.begun

    def _request_of_now(self, request: Json) -> bytes:
        """The recorded request, asking for the version that was agreed on then: the server may know newer ones now."""
        params = request.get("params") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not isinstance(params, dict):
            raise SessionNotRevived(self._upstream, "the recorded handshake is no initialize request")
        if params.get("protocolVersion") == self._version:
            return self._record.handshake.request
        return dump({**request, "params": {**params, "protocolVersion": self._version}})

    def _asked_since(self) -> Sequence[tuple[str, dict[str, Json]]]:
        asked: list[tuple[str, dict[str, Json]]] = [
            ("resources/subscribe", {"uri": uri}) for uri in self._record.subscriptions
        ]
        if self._record.log_level is not None:
            asked.append(("logging/setLevel", {"level": self._record.log_level}))
        return asked

    async def _repeat(self, number: int, method: str, params: dict[str, Json], begun: Begun) -> str | None:
        """Ask for something again. Returns what is to be reported when the server refuses it."""
        request_id = f"{_ID_PREFIX}{number}"
        answer = await self._post(own_request(request_id, method, params), begun)
        if answer.status == 404:
            raise SessionNotRevived(self._upstream, f"the session was lost again at {method}")
        try:
            message = answered_with(answer, request_id)
        except InvalidMessage:
            message = None
        if message is not None and "result" in message:
            return None
        return f"{method} {' '.join(map(str, params.values()))} refused"

    async def _post(self, body: bytes, begun: Begun | None) -> Answer:
        version = None if begun is None else self._version
        session_id = None if begun is None else begun.upstream.session_id
        try:
            return await self._ask(self._upstream, "POST", own_headers(version, session_id, self._headers), body)
        except OSError as exc:
            raise SessionNotRevived(self._upstream, f"it cannot be reached: {str(exc) or type(exc).__name__}") from exc

    def _demand(self, answer: Answer, method: str) -> None:
        if not 200 <= answer.status < 300:
            why = f"it answers {method} with status {answer.status}"
            # Who is warming up, or has nobody behind it, has not refused.
            raise SessionNotRevived(self._upstream, why) from (
                ConnectionError(why) if answer.status in UPSTREAM_FAILS else None
            )

    def _result_of(self, answer: Answer, request_id: JsonRpcId | None) -> dict[str, Json]:
        try:
            message = answered_with(answer, request_id)
        except InvalidMessage as exc:
            raise SessionNotRevived(self._upstream, f"its answer to initialize cannot be read: {exc}") from exc
        if message is None or not isinstance(message.get("result"), dict):
            raise SessionNotRevived(self._upstream, "it does not answer initialize with a result")
        return _result(message)


def _result(message: Json) -> dict[str, Json]:
    """The result in an answer; the recorded body may also be the result alone."""
    result = message.get("result", message) if isinstance(message, dict) else None
    return result if isinstance(result, dict) else {}
