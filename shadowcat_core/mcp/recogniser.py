"""Recognises requests and streams one after the other, remembering what HTTP+SSE streams announced. No I/O."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urljoin

from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.limits import MAX_ENDPOINTS, MAX_FIRST_EVENT_BYTES
from shadowcat_core.mcp.headers import HeaderLookup
from shadowcat_core.mcp.recognition import Recognition, recognise_event, recognise_request
from shadowcat_core.sse import SseParser


class Recogniser:
    """Knows a post to an announced endpoint (2024-11-05, HTTP with SSE) by its URL, and which session it is for."""

    def __init__(self) -> None:
        # The streams by their endpoints' absolute URLs, the oldest first.
        self._streams: dict[str, Recognition] = {}

    def request(self, http_method: str, url: Callable[[], str], headers: HeaderLookup, body: bytes) -> Recognition:
        """Tell what a complete request is. `body` is without its content coding; `url` is asked for when needed."""
        stream = self._streams.get(url()) if self._streams else None
        found = recognise_request(http_method, headers, body, posted_to_endpoint=stream is not None)
        return found if stream is None else replace(found, session_id=stream.session_id)

    def learn(self, stream: Recognition, url: str) -> None:
        """Take note of the endpoint that the stream at `url` announced, if it did."""
        if stream.endpoint is None:
            return
        try:
            endpoint = urljoin(url, stream.endpoint)
        except ValueError:  # no URL: its client cannot post there either
            return
        if len(self._streams) >= MAX_ENDPOINTS:
            del self._streams[next(iter(self._streams))]
        self._streams[endpoint] = stream


class FirstEvent:
    """Takes the chunks of a stream that may be MCP until its first event tells, and tells that once."""

    def __init__(self, settled: Callable[[Recognition], None]) -> None:
        self._settled = settled
        self._parser: SseParser | None = SseParser(max_event_bytes=MAX_FIRST_EVENT_BYTES)
        self._seen_bytes = 0

    def __call__(self, _at_ns: int, chunk: bytes) -> None:
        if self._parser is None:
            return
        self._seen_bytes += len(chunk)
        try:
            frames = self._parser.feed(chunk)
        except MessageTooLarge:
            self._parser = None
            return
        first = next((frame for frame in frames if frame.dispatches), None)
        if first is not None:
            self._parser = None
            self._settled(recognise_event(first))
        elif self._seen_bytes > MAX_FIRST_EVENT_BYTES:
            self._parser = None
