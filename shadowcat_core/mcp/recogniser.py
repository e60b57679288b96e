"""Recognises requests and streams one after the other, remembering what HTTP+SSE streams announced. No I/O."""

from collections.abc import Callable, Hashable
from dataclasses import replace

from shadowcat_core.content_coding import decoder_for
from shadowcat_core.errors import InvalidMessage, MessageTooLarge
from shadowcat_core.limits import MAX_DECODED_CHUNK_BYTES, MAX_ENDPOINTS, MAX_EVENT_BYTES, MAX_FIRST_EVENT_BYTES
from shadowcat_core.mcp.endpoints import endpoint_url
from shadowcat_core.mcp.headers import HeaderLookup
from shadowcat_core.mcp.protocol import Era
from shadowcat_core.mcp.recognition import Recognition, RecognitionKind, recognise_event, recognise_request
from shadowcat_core.sse import SseParser


class Recogniser:
    """Knows a post by its URL: to an endpoint that a stream announced (2024-11-05), or where MCP was spoken before."""

    def __init__(self) -> None:
        # The streams by their endpoints' absolute URLs, the oldest first.
        self._streams: dict[str, Recognition] = {}
        self._spoken: dict[Hashable, None] = {}

    def request(
        self,
        http_method: str,
        url: Callable[[], str],
        headers: HeaderLookup,
        body: bytes | None,
        place: Hashable = None,
    ) -> Recognition:
        """Tell what a complete request is.

        Args:
            url: asked for when needed.
            body: without its content coding, None when that cannot be undone.
            place: host, port and path, as anything that compares; None to judge the request by itself alone.
        """
        stream = self._streams.get(url()) if self._streams else None
        found = recognise_request(http_method, headers, body, posted_to_endpoint=stream is not None)
        if stream is not None:
            return replace(found, session_id=stream.session_id, endpoint=stream.endpoint)
        return self._by_place(found, place) if http_method == "POST" and place is not None else found

    def learn(self, stream: Recognition, url: str, host: str | None = None) -> None:
        """Take note of the endpoint that the stream at `url` announced, if it did.

        `host` is what its client calls the server.
        """
        if stream.endpoint is None:
            return
        try:
            endpoint = endpoint_url(stream.endpoint, url, host)
        except ValueError:  # no URL: its client cannot post there either
            return
        if len(self._streams) >= MAX_ENDPOINTS:
            del self._streams[next(iter(self._streams))]
        self._streams[endpoint] = stream

    def _by_place(self, found: Recognition, place: Hashable) -> Recognition:
        """Remember where MCP is spoken: what is posted there is for whoever judges MCP, however it is written."""
        if found.is_mcp:
            if place not in self._spoken:
                if len(self._spoken) >= MAX_ENDPOINTS:
                    del self._spoken[next(iter(self._spoken))]
                self._spoken[place] = None
            return found
        if place in self._spoken:
            return Recognition(RecognitionKind.MESSAGES, "posted where MCP was spoken before", Era.LEGACY)
        return found


class FirstEvent:
    """Takes the chunks of a stream that may be MCP until an event tells, and tells that once."""

    def __init__(
        self, settled: Callable[[Recognition], None], *, coding: str | None = None, is_patient: bool = False
    ) -> None:
        """Look at the first event alone, or, when `is_patient`, at every one: nothing must get past who decides.

        `coding` is the stream's content coding. What cannot be decoded tells nothing.
        """
        max_chunk_bytes = MAX_EVENT_BYTES if is_patient else MAX_DECODED_CHUNK_BYTES
        self._settled = settled
        self._is_patient = is_patient
        self._max_bytes = int(MAX_EVENT_BYTES if is_patient else MAX_FIRST_EVENT_BYTES)
        self._parser: SseParser | None = SseParser(max_event_bytes=self._max_bytes)
        self._seen_bytes = 0
        try:
            self._decoder = decoder_for(coding, max_output_bytes=max_chunk_bytes) if coding else None
        except InvalidMessage:
            self._parser = None

    def __call__(self, _at_ns: int, chunk: bytes) -> None:
        if self._parser is None:
            return
        if self._decoder is not None:
            try:
                chunk = self._decoder.decode(chunk)
            except (InvalidMessage, MessageTooLarge):
                self._parser = None
                return
        self._seen_bytes += len(chunk)
        try:
            frames = self._parser.feed(chunk)
        except MessageTooLarge:
            self._parser = SseParser(max_event_bytes=self._max_bytes) if self._is_patient else None
            return
        for frame in frames:
            if not frame.dispatches:
                continue
            found = recognise_event(frame)
            if found.is_mcp or not self._is_patient:
                self._parser = None
                self._settled(found)
                return
        if self._seen_bytes > self._max_bytes and not self._is_patient:
            self._parser = None
