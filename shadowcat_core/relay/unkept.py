"""The stream of an answer that belongs to no session: its bytes pass as they come. Sans-I/O.

Nobody can come back for it, and no server goes on with it. It is looked at since its request may run again, for which
it must be known what its client has been told.

Source: MCP 2026-07-28, Basic / Transports: a stream that broke off is not resumed.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.jsonrpc import JsonRpcId
from shadowcat_core.messages import Message
from shadowcat_core.resumption import EventPlace, ResumableStream, StreamPurpose
from shadowcat_core.sse import NO_DATA, SseParser, encode

_NOWHERE: Final = EventPlace("", 0)
_LASTING: Final = "subscriptions/listen"


class UnkeptStream(ResumableStream):
    """One stream, of whole frames, without ids of ours. It has no session and no place in a log."""

    def __init__(self, requests: Iterable[JsonRpcId]) -> None:
        super().__init__("", _NOWHERE, epoch=0, purpose=StreamPurpose((*requests,)))
        self._frames = SseParser()
        self._is_too_large = False

    @property
    def passes_unread(self) -> bool:
        """True when a frame over the limit has come on this connection."""
        return self._is_too_large

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the server's and give those to send on: whole frames, as they are. May be empty."""
        if self._is_too_large:
            return chunk
        try:
            frames = self._frames.feed(chunk)
        except MessageTooLarge:
            self._is_too_large = True
            return self._frames.close() + chunk
        if not frames.records:
            return b""
        if self._waiting:
            for index, record in enumerate(frames.records):
                if record[2] != NO_DATA:
                    self.note_answers(frames.data(index))
        return frames.buffer[: frames.records[-1][1]]

    def end(self) -> bytes:
        """The connection to the server is over: give what is left of it."""
        return self._frames.close()

    def reconnect(self, epoch: int) -> None:
        """Take the next bytes from another connection."""
        super().reconnect(epoch)
        self._frames = SseParser()
        self._is_too_large = False

    def inject(self, message: bytes) -> bytes:
        """Give an event of our own that carries a message."""
        self.note_answers(message)
        return encode(message, event="message")


def is_answered_once(messages: Sequence[Message]) -> bool:
    """Say whether requests are answered and then over: the stream of a subscription is itself what was asked for."""
    return all(message.method != _LASTING for message in messages)
