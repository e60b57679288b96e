"""Progress that is told anew by the second run of a request, kept from a client that has heard of it. Sans-I/O.

Source: MCP 2025-11-25, Basic / Utilities / Progress: a token's progress only grows.
"""

from typing import Final

from shadowcat_core.errors import InvalidMessage, MessageTooLarge
from shadowcat_core.jsonrpc import Json, parse
from shadowcat_core.limits import MAX_PROGRESS_TOKENS
from shadowcat_core.sse import NO_DATA, SseParser

_METHOD: Final = "notifications/progress"
_HINT: Final = b"progress"
_MAX_TOKEN_CHARS: Final = 256

type _Told = tuple[tuple[str, Json], float]  # the token with its type, as 1 and "1" are two; how far it is


class ProgressFilter:
    """Lets the frames of a stream pass but for progress that is not greater than what its client heard last."""

    def __init__(self, latest: bytes) -> None:
        """Begin behind the `latest` notification of progress that the client has; empty when it has none."""
        self._heard: dict[tuple[str, Json], float] = {}
        self._parser = SseParser()
        self._passes_unread = False
        if latest:
            self._passes(latest)

    def begin(self) -> None:
        """Take the next bytes from another connection."""
        self._parser = SseParser()
        self._passes_unread = False

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the server's, give those of them that are news: whole frames. May be empty."""
        if self._passes_unread:
            return chunk
        try:
            frames = self._parser.feed(chunk)
        except MessageTooLarge:
            self._passes_unread = True
            return self._parser.close() + chunk
        return b"".join(
            [
                frames.buffer[start:end]
                for index, (start, end, data_start, _) in enumerate(frames.records)
                if data_start == NO_DATA or self._passes(frames.data(index))
            ]
        )

    def end(self) -> bytes:
        """The connection is over: give what was left of it."""
        return self._parser.close()

    def _passes(self, data: bytes) -> bool:
        told = _progress_in(data) if _HINT in data else None
        if told is None:
            return True
        token, progress = told
        if progress <= self._heard.get(token, float("-inf")):
            return False
        if token in self._heard or (len(self._heard) < MAX_PROGRESS_TOKENS and len(str(token[1])) <= _MAX_TOKEN_CHARS):
            self._heard[token] = progress
        return True


def _progress_in(data: bytes) -> _Told | None:
    """Read a notification of progress; None for what is none, or says nothing of how far it is."""
    try:
        message = parse(data)
    except InvalidMessage:
        return None
    if not isinstance(message, dict) or message.get("method") != _METHOD:
        return None
    params = message.get("params")
    if not isinstance(params, dict):
        return None
    token, progress = params.get("progressToken"), params.get("progress")
    if not isinstance(token, str | int) or not isinstance(progress, int | float):
        return None
    return (type(token).__name__, token), progress
