"""Every error the core raises, as one flat tree.

    ShadowcatError
        MessageTooLarge   a peer sent more than a documented limit allows     (.size, .limit)
        InvalidMessage    bytes that should be one JSON-RPC message are not   also ValueError
        TapeError         a file cannot be read or written as a tape          (.path, .line)
        BadVerdict        an interceptor gave what is no verdict, or made a message into what is none
        InterceptorTimedOut   an interceptor did not answer in its time       also TimeoutError
        UnroutableMessage     what is no JSON-RPC message to us may be one to an endpoint
        NotHeld           nothing is held under that number, or not any more   also LookupError
        DocumentError     a file that a person wrote cannot be used           (.path, .problems), also ValueError
            RulesError            one of rules
            UpstreamsError        one of upstreams
        RuleFailed        a rule cannot be applied to a message               (.rule)
        BadToxic          a text describes no fault that there is             also ValueError
        PinsError         bytes that should be a file of pins are not         also ValueError
        StoreError        a session store cannot be used as it is
            StoreUnavailable      it cannot be reached, or did not answer
            StoreFull             it keeps no more of something               (.what, .limit)
        SessionNotRevived a server cannot go on with a session                (.upstream, .reason)
            VersionChanged        it speaks another version than its client was told  (.expected, .offered)

Anything else that escapes the core is a bug to report.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class ShadowcatError(Exception):
    """Base of every error the core raises on purpose."""


class MessageTooLarge(ShadowcatError):
    """A frame, line or body is larger than its limit. Sizes are in bytes.

    `size` is what was seen when the limit was passed: a lower bound of the message's full size.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"message of at least {self.size:,} bytes is over the limit of {self.limit:,} bytes"


class InvalidMessage(ShadowcatError, ValueError):
    """Bytes that should be one JSON-RPC message are not."""


class TapeError(ShadowcatError):
    """A file cannot be read or written as a tape. `line` counts from 1; None when the file as a whole is at fault."""

    def __init__(self, message: str, *, path: Path | None = None, line: int | None = None) -> None:
        super().__init__(message, path, line)
        self.message = message
        self.path = path
        self.line = line

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path}: "
        return place + ("" if self.line is None else f"line {self.line}: ") + self.message


class BadVerdict(ShadowcatError):
    """An interceptor gave what is no verdict, or made a message into what is none."""


class InterceptorTimedOut(ShadowcatError, TimeoutError):
    """An interceptor did not answer in its time."""


class UnroutableMessage(ShadowcatError):
    """What is no JSON-RPC message to us may be one to an endpoint, so it may be what an interceptor decides about."""


class BadToxic(ShadowcatError, ValueError):
    """A text describes no fault that there is; it says what there is instead."""


class DocumentProblem(NamedTuple):
    """One thing that is wrong in a file: the line, from 1, and the field, such as `rules[3].when.method`."""

    line: int | None
    field: str
    message: str


class DocumentError(ShadowcatError, ValueError):
    """A file that a person wrote cannot be used. Its text has a line for each problem."""

    def __init__(self, path: Path, problems: Sequence[DocumentProblem]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(
            f"{self.path}{'' if line is None else f':{line}'}: {field}{': ' if field else ''}{message}"
            for line, field, message in self.problems
        )


class RulesError(DocumentError):
    """A rules file cannot be used."""


class UpstreamsError(DocumentError):
    """A file of upstreams cannot be used."""


class RuleFailed(ShadowcatError):
    """A rule holds for a message and cannot be applied to it, or cannot be told to hold."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.message}"


class StoreError(ShadowcatError):
    """A session store cannot be used as it is: another version's file, a missing package."""


class StoreUnavailable(StoreError):
    """A session store cannot be reached, or did not answer. What was asked of it may have happened or not."""


class StoreFull(StoreError):
    """A session store keeps no more of something; `what` says of what, `limit` how much."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(what, limit)
        self.what = what
        self.limit = limit

    def __str__(self) -> str:
        return f"the store keeps no more {self.what} than {self.limit:,}"


class SessionNotRevived(ShadowcatError):
    """A server cannot go on with a session that it did not begin. Another one may; the session is as it was."""

    def __init__(self, upstream: str, reason: str) -> None:
        super().__init__(upstream, reason)
        self.upstream = upstream
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.upstream} cannot go on with the session: {self.reason}"


class RevivalTooLate(SessionNotRevived):
    """A session was not begun anew in time. What took so long nobody knows: many steps, the proxy, or the server."""


class VersionChanged(SessionNotRevived):
    """A server speaks another version of the protocol than the one that the client was told when it began."""

    def __init__(self, upstream: str, expected: str, offered: str) -> None:
        super().__init__(upstream, f"it speaks {offered}, and its client was told {expected}")
        self.expected = expected
        self.offered = offered


class NotHeld(ShadowcatError, LookupError):
    """Nothing is held under that number, or not any more: somebody else decided, or its time was over."""


class PinsError(ShadowcatError, ValueError):
    """Bytes that should be a file of pins are not."""
