"""Faults of an HTTP request before the server is asked: another header, or an answer in the server's place.

The answers have the statuses, headers and bodies of the official SDKs' servers, so that clients react as to a real one.
Source: MCP 2025-11-25, transports, "Session Management"; MCP 2026-07-28, transports, "Standard headers"; RFC 6750, 3;
RFC 6585, 4; RFC 9110, 15.5.6.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shadowcat_core.interceptors.faults.aim import Aim, Place
from shadowcat_core.interceptors.faults.subjects import subject_of
from shadowcat_core.interceptors.faults.toxics import (
    HttpToxic,
    McpName,
    RateLimit,
    RefuseGet,
    Session404,
    Unauthorized,
)
from shadowcat_core.jsonrpc import ErrorCode, Kind, dump, error_response
from shadowcat_core.limits import MAX_ENDED_SESSIONS
from shadowcat_core.mcp import NAME_HEADER, SESSION_ID_HEADER, HeaderLookup
from shadowcat_core.messages import Message

INVALID_REQUEST: Final = -32600


@dataclass(frozen=True)
class Asked:
    """A request that is about to go to the server."""

    exchange_id: int
    http_method: str
    headers: HeaderLookup
    messages: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response in the server's place, which is not asked."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""
    """What happened, for people."""


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """Another value for a header of the request; None takes it out."""

    name: str
    value: str | None
    text: str = ""


type HttpAct = Answer | HeaderEdit


class HttpFault[T: HttpToxic](ABC):
    """One toxic, for all requests."""

    def __init__(self, toxic: T, aim: Aim) -> None:
        self.toxic = toxic
        self._aim = aim

    def ask(self, asked: Asked, place: Place) -> HttpAct | None:
        """Give what happens to a request; None when nothing does."""
        return self.harm(asked) if self._taken(asked, place) else None

    def fits(self, _asked: Asked) -> bool:
        """True when there is something that the toxic can do to a request."""
        return True

    @abstractmethod
    def harm(self, asked: Asked) -> HttpAct:
        """Give what happens to a request that the toxic takes."""

    def _taken(self, asked: Asked, place: Place) -> bool:
        toxic = self.toxic
        return (
            toxic.takes_http_method(asked.http_method)
            and self.fits(asked)
            and toxic.concerns_any([subject_of(message) for message in asked.messages])
            and self._aim.takes(place) is not None
        )


class _McpName(HttpFault[McpName]):
    def fits(self, asked: Asked) -> bool:
        return asked.headers.get(NAME_HEADER) is not None

    def harm(self, asked: Asked) -> HttpAct:
        if self.toxic.how == "missing":
            return HeaderEdit(NAME_HEADER, None, f"{NAME_HEADER} is missing")
        return HeaderEdit(NAME_HEADER, other := f"not-{asked.headers.get(NAME_HEADER)}", f"{NAME_HEADER}: {other}")


class _Session404(HttpFault[Session404]):
    """Keeps the sessions that it ended, which stay so."""

    def __init__(self, toxic: Session404, aim: Aim) -> None:
        super().__init__(toxic, aim)
        self._ended: OrderedDict[str, None] = OrderedDict()

    def fits(self, asked: Asked) -> bool:
        return asked.headers.get(SESSION_ID_HEADER) is not None

    def ask(self, asked: Asked, place: Place) -> HttpAct | None:
        session_id = asked.headers.get(SESSION_ID_HEADER)
        return self.harm(asked) if session_id in self._ended else super().ask(asked, place)

    def harm(self, asked: Asked) -> HttpAct:
        session_id = asked.headers.get(SESSION_ID_HEADER) or ""
        self._ended[session_id] = None
        if len(self._ended) > MAX_ENDED_SESSIONS:
            self._ended.popitem(last=False)
        body = error_response(None, INVALID_REQUEST, "Session not found")
        return Answer(404, body, text="404: the session is over")


class _Unauthorized(HttpFault[Unauthorized]):
    def harm(self, asked: Asked) -> HttpAct:  # noqa: ARG002 -- it is the same for all
        toxic = self.toxic
        parts = ['error="invalid_token"', f'error_description="{toxic.description}"']
        if toxic.resource_metadata:
            parts.append(f'resource_metadata="{toxic.resource_metadata}"')
        body = dump({"error": "invalid_token", "error_description": toxic.description})
        return Answer(401, body, (("www-authenticate", f"Bearer {', '.join(parts)}"),), "401: unauthorized")


class _RateLimit(HttpFault[RateLimit]):
    def harm(self, asked: Asked) -> HttpAct:
        ids = [message.id for message in asked.messages if message.kind is Kind.REQUEST]
        seconds = self.toxic.retry_after_s
        body = error_response(ids[0] if ids else None, ErrorCode.BLOCKED, "Too Many Requests")
        return Answer(429, body, (("retry-after", str(seconds)),), f"429: to be tried again after {seconds} s")


class _RefuseGet(HttpFault[RefuseGet]):
    def harm(self, asked: Asked) -> HttpAct:  # noqa: ARG002 -- likewise
        body = error_response(None, INVALID_REQUEST, "Method Not Allowed")
        return Answer(405, body, (("allow", "POST, DELETE"),), "405: no stream of the server's own")


type AnyHttpFault = _McpName | _Session404 | _Unauthorized | _RateLimit | _RefuseGet


def http_fault_of(toxic: HttpToxic, aim: Aim) -> AnyHttpFault:
    """Make what carries a toxic out."""
    match toxic:
        case McpName():
            return _McpName(toxic, aim)
        case Session404():
            return _Session404(toxic, aim)
        case Unauthorized():
            return _Unauthorized(toxic, aim)
        case RateLimit():
            return _RateLimit(toxic, aim)
        case RefuseGet():
            return _RefuseGet(toxic, aim)
        case _:
            raise TypeError(f"{toxic.kind} works on no requests")
