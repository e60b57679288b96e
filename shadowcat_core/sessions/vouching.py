"""Asks a server whether a refreshed token is genuine, so that nobody takes a session over with one of his own writing.

The server is sent a `ping` with the token, and before it the same ping with the token's signature spoilt. Only a
server that refuses the one and not the other has looked at the signature, and so vouches for whom the token names.
That a ping is answered says nothing by itself: servers there are that verify nothing, verify tool calls alone, or go
by a cookie or by a header that the proxy puts there.

The spoilt one is first, so that what counts once (a nonce, a ticket) cannot make the difference.

Source: MCP 2025-11-25, Basic / Utilities / Ping, and Authorization / Token Handling (401 for an invalid token).
"""

import asyncio
from collections import deque
from enum import Enum, auto
from typing import Final

from shadowcat_core.errors import InvalidMessage, MessageTooLarge
from shadowcat_core.jsonrpc import Kind, envelope, parse
from shadowcat_core.limits import MAX_FAILED_VOUCHINGS, VOUCHING_TIMEOUT_S
from shadowcat_core.sessions.access_tokens import spoil_signature
from shadowcat_core.sessions.lifecycle import (
    UPSTREAM_FAILS,
    Answer,
    Ask,
    Headers,
    answered_with,
    own_headers,
    own_request,
)
from shadowcat_core.sessions.model import ClockMs, SessionMapping

_PING_ID: Final = "shadowcat-vouching"
_PING: Final = own_request(_PING_ID, "ping", {})
_AUTHORIZATION: Final = "Authorization"
_REFUSALS: Final = frozenset({400, 401, 403})
_AWAY: Final = frozenset({429, *UPSTREAM_FAILS})
_NOT_FOUND: Final = 404
_MINUTE_MS: Final = 60_000


class Verdict(Enum):
    """What a server says of a token. UNSAID: it cannot be asked now, or has been asked too often."""

    GENUINE = auto()
    REFUSED = auto()
    UNSAID = auto()


class Vouching:
    """Puts the questions: one at a time for each session and token, and few that come to nothing."""

    def __init__(self, ask: Ask, *, clock_ms: ClockMs, timeout_s: float = VOUCHING_TIMEOUT_S) -> None:
        self._ask = ask
        self._clock_ms = clock_ms
        self._timeout_s = timeout_s
        self._running: dict[str, dict[tuple[str, str], asyncio.Task[Verdict]]] = {}
        # The latest failures of each session; the session that failed last is last.
        self._failures_ms: dict[str, deque[int]] = {}

    async def ask(self, mapping: SessionMapping, upstream: str, authorization: str, headers: Headers) -> Verdict:
        """Ask the server of that name. Who asks the same while this goes on waits for the same answer.

        `headers` are what it wants to see of the caller. The one Authorization that it sees is `authorization`.
        """
        running = self._running.get(mapping.session_id, {})
        task = running.get((upstream, authorization))
        if task is None:
            if len(running) + self._recent_failures(mapping.session_id) >= MAX_FAILED_VOUCHINGS:
                return Verdict.UNSAID
            task = asyncio.get_running_loop().create_task(self._settle(mapping, upstream, authorization, headers))
            self._running.setdefault(mapping.session_id, running)[upstream, authorization] = task
            task.add_done_callback(lambda _task: self._settled(mapping.session_id, upstream, authorization))
        # A caller that leaves takes nothing from the others.
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Give up what is being asked."""
        tasks = [task for running in self._running.values() for task in running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _settled(self, session_id: str, upstream: str, authorization: str) -> None:
        running = self._running[session_id]
        del running[upstream, authorization]
        if not running:
            del self._running[session_id]

    def _recent_failures(self, session_id: str) -> int:
        now_ms = self._clock_ms()
        return sum(now_ms - failed_ms < _MINUTE_MS for failed_ms in self._failures_ms.get(session_id, ()))

    def _note_failure(self, session_id: str) -> None:
        now_ms = self._clock_ms()
        failures = self._failures_ms.pop(session_id, None) or deque(maxlen=MAX_FAILED_VOUCHINGS)
        failures.append(now_ms)
        self._failures_ms[session_id] = failures
        while now_ms - self._failures_ms[oldest := next(iter(self._failures_ms))][-1] >= _MINUTE_MS:
            del self._failures_ms[oldest]

    async def _settle(self, mapping: SessionMapping, upstream: str, authorization: str, headers: Headers) -> Verdict:
        try:
            async with asyncio.timeout(self._timeout_s):
                verdict = await self._question(mapping, upstream, authorization, headers)
        except TimeoutError:
            verdict = Verdict.UNSAID
        except OSError:
            return Verdict.UNSAID  # nobody was bothered
        if verdict is not Verdict.GENUINE:
            self._note_failure(mapping.session_id)
        return verdict

    async def _question(self, mapping: SessionMapping, upstream: str, authorization: str, headers: Headers) -> Verdict:
        carried = [(name, value) for name, value in headers if name.lower() != _AUTHORIZATION.lower()]

        async def ping(token: str) -> Answer:
            own = own_headers(mapping.protocol_version, mapping.upstream.session_id, carried)
            return await self._ask(upstream, "POST", [(_AUTHORIZATION, token), *own], _PING)

        spoilt = await ping(spoil_signature(authorization))
        if spoilt.status not in _REFUSALS:
            return Verdict.UNSAID if spoilt.status in _AWAY else Verdict.REFUSED
        return _judge(await ping(authorization))


def _judge(answer: Answer) -> Verdict:
    """Judge the answer of a server that refused the spoilt token.

    A server that does not know the session (any more), and says so as MCP servers do, has let the token pass.
    """
    if answer.status in _AWAY:
        return Verdict.UNSAID
    try:
        if 200 <= answer.status < 300:
            message = answered_with(answer, _PING_ID)
            return Verdict.GENUINE if message is not None and "result" in message else Verdict.REFUSED
        if answer.status == _NOT_FOUND and _is_error(answer):
            return Verdict.GENUINE
    except (InvalidMessage, MessageTooLarge):
        pass
    return Verdict.REFUSED


def _is_error(answer: Answer) -> bool:
    return envelope(parse(answer.body)).kind is Kind.ERROR
