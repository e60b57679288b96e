"""A held message on its flow: intercepted, marked, and in the body that people edit.

JSON is laid out for them, of a stream without the event around it, and goes on without that layout when they edited it.
What they did not edit goes on byte for byte as it came.
"""

from typing import Literal

from mitmproxy import http

from shadowcat_core import sse
from shadowcat_core.exchange import Exchange
from shadowcat_core.interceptors.held_text import compact, indented
from shadowcat_core.interceptors.holding import HeldMessage
from shadowcat_core.kept_body import TIMES_KEY
from shadowcat_core.mcp import Direction, is_event_stream

MARK = ":raised_hand:"


class HeldFlow:
    """A held message, and the flow that shows it."""

    def __init__(self, held: HeldMessage, exchange: Exchange, its_flow: http.HTTPFlow) -> None:
        """Show the message: from now on the flow is intercepted."""
        self.held = held
        self.exchange = exchange
        self.flow = its_flow
        self._side: Literal["request", "response"] = (
            "request" if held.message.direction is Direction.CLIENT_TO_SERVER else "response"
        )
        self._was_intercepted = its_flow.intercepted
        its_flow.intercept()
        self._marked = its_flow.marked
        its_flow.marked = MARK
        self._times = its_flow.metadata.pop(TIMES_KEY, None)  # of chunks that are not shown for now
        part = self._part()
        self._head = None if part is None else part.headers.copy()
        self._body = None if part is None else part.raw_content
        self._indented = indented(held.message.raw) if held.message.raw.startswith(b"{") else None
        if part is not None and (self._content() or b"").strip() != (text := self._text(part)).strip():
            part.content = text
        self._as_shown = self._content()
        self._say("")

    def edited(self) -> bytes | None:
        """The message that somebody put in the place of the held one; None when nobody did."""
        content = self._content()
        if content is None or content == self._as_shown:
            return None
        content = _in_utf8(content)
        events = [frame for frame in sse.SseParser().feed(content + b"\n\n") if frame.dispatches]
        bare = content.lstrip().startswith(b"{")
        text = content if bare or len(events) != 1 else events[0].data
        return text if self._indented is None else compact(text)

    def refuse(self, why: str) -> None:
        """Keep the message after somebody resumed its flow with an edit that cannot be sent."""
        self.flow.intercept()
        self._say(f": {why}")

    def close(self) -> None:
        """Let the flow be as it was: the message goes on by itself."""
        self.exchange.held = None
        part = self._part()
        if part is not None:
            part.data.content = self._body
            self._restore_head(part)
        if self._times is not None:
            self.flow.metadata[TIMES_KEY] = self._times
        if self.flow.marked == MARK:
            self.flow.marked = self._marked
        if not self._was_intercepted:
            self.flow.resume()

    def _restore_head(self, part: http.Message) -> None:
        """Take back what mitmproxy does to a head when a body is written; what people wrote themselves stays."""
        if self._head is None:
            return
        for name in ("content-length", "content-type"):
            if name in self._head:
                part.headers[name] = self._head[name]
            else:
                part.headers.pop(name, None)

    def _say(self, more: str) -> None:
        self.exchange.held = f"{self.held.name} (hold {self.held.number}){more}"

    def _part(self) -> http.Message | None:
        # Looked up each time: a person who reverts a flow gives it other objects.
        return self.flow.request if self._side == "request" else self.flow.response

    def _content(self) -> bytes | None:
        part = self._part()
        return None if part is None else part.get_content(strict=False)

    def _text(self, part: http.Message) -> bytes:
        raw = self.held.message.raw
        if self._indented is not None:
            return self._indented
        if self._side == "response" and is_event_stream(part.headers.get("content-type")):
            return sse.encode(raw)  # so that the views of streams show it
        return raw


def _in_utf8(content: bytes) -> bytes:
    """Undo that mitmproxy writes edited text in Latin-1 where a head names no charset, as that of a stream."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1").encode()
    return content
