"""Every error the core raises, as one flat tree.

    ShadowcatError
        MessageTooLarge   a peer sent more than a documented limit allows     (.size, .limit)
        InvalidMessage    bytes that should be one JSON-RPC message are not   also ValueError
        TapeError         a file cannot be read or written as a tape          (.path, .line)
        BadVerdict        an interceptor gave what is no verdict, or made a message into what is none
        InterceptorTimedOut   an interceptor did not answer in its time       also TimeoutError
        UnroutableMessage     what is no JSON-RPC message to us may be one to an endpoint

Anything else that escapes the core is a bug to report.
"""

from pathlib import Path


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
