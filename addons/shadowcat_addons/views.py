"""Content views: MCP bodies and event streams as people read them.

A body is shown with its payload, a stream with one line a message; the view "MCP stream, with payloads" unfolds it. The
text is YAML in shape, so that mitmproxy colours it, and mitmweb's editor folds each payload under its line.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from mitmproxy import contentviews, http

from shadowcat_core.content_coding import decoder_for
from shadowcat_core.errors import ShadowcatError
from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.kept_body import TIMES_KEY
from shadowcat_core.mcp import Direction, Transport, is_event_stream, is_json
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.sse import Frame, SseParser
from shadowcat_core.transcript import headline, shortened, size_text

AHEAD_OF_JSON: Final = 2.0
"""mitmproxy's JSON view says 1 for JSON; an MCP body is JSON too, and is better read as what it means."""


class McpBody(contentviews.Contentview):
    """One JSON-RPC message, or an array of them."""

    name = "MCP"
    syntax_highlight = "yaml"

    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        batch = MessageBatch.of_body(data, _context(metadata), 0)
        return "\n".join(_entry(message, metadata, None) for message in batch)

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        if not (is_json(metadata.content_type) or _is_bare(data, metadata)) or b'"jsonrpc"' not in data:
            return -1
        batch = MessageBatch.of_body(data, _context(metadata), 0)
        return AHEAD_OF_JSON if any(message.kind is not Kind.INVALID for message in batch) else -1


class McpStream(contentviews.Contentview):
    """An event stream, one line a message with its time offset; other events as they are."""

    name = "MCP stream"
    syntax_highlight = "yaml"
    with_payloads = False

    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        if _is_bare(data, metadata):
            return VIEWS[0].prettify(data, metadata)
        return "\n".join(_stream_entries(data, metadata, with_payloads=self.with_payloads))

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        is_stream = data and is_event_stream(metadata.content_type) and not _is_bare(data, metadata)
        return AHEAD_OF_JSON if is_stream else -1


class McpStreamWithPayloads(McpStream):
    """The same, each message with its payload below it."""

    name = "MCP stream, with payloads"
    with_payloads = True

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        return super().render_priority(data, metadata) / 2  # by choice, not by itself


VIEWS: Final = (McpBody(), McpStream(), McpStreamWithPayloads())


class Views:
    """Registers the content views; they stay registered, as mitmproxy's own do."""

    def load(self, _loader: object) -> None:
        for view in VIEWS:
            contentviews.add(view)


def _is_bare(data: bytes, metadata: contentviews.Metadata) -> bool:
    """Say whether a message stands in the place of a stream: one that is held is shown without the event around it."""
    return is_event_stream(metadata.content_type) and data[:64].lstrip().startswith(b"{")


def _context(metadata: contentviews.Metadata) -> MessageContext:
    is_request = isinstance(metadata.http_message, http.Request)
    direction = Direction.CLIENT_TO_SERVER if is_request else Direction.SERVER_TO_CLIENT
    return MessageContext(direction, Transport.HTTP)


def _entry(message: Message, metadata: contentviews.Metadata, at: str | None, *, with_payload: bool = True) -> str:
    head = f"{headline(message, answers=_answered(message, metadata))} · {size_text(len(message.raw))}"
    if message.kind is Kind.INVALID or not with_payload:
        return _line(at, head)
    return _line(at, head + ":") + "\n" + _indented(_pretty(message.payload))


def _answered(message: Message, metadata: contentviews.Metadata) -> str | None:
    """Name the request that a message answers, if it is the one of the same flow."""
    if message.kind not in (Kind.RESPONSE, Kind.ERROR) or metadata.flow is None:
        return None
    labels = metadata.flow.metadata
    if labels.get("mcp.id") != str(message.id):
        return None
    return " ".join(labels[name] for name in ("mcp.method", "mcp.target") if name in labels)


def _pretty(payload: Json) -> str:
    """JSON with line ends; lone surrogates stay escaped, for no interface could show or store them."""
    return json.dumps(payload, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())


def _line(at: str | None, text: str) -> str:
    return text if at is None else f"{at} {text}"


def _stream_entries(data: bytes, metadata: contentviews.Metadata, *, with_payloads: bool) -> Iterator[str]:
    data, times = _decoded(data, metadata)
    parser = SseParser()
    frames = parser.feed(data)
    rest = parser.close()
    context = _context(metadata)
    chunk_ends = [end for end, _ in times]
    end = 0
    for frame in frames:
        end += len(frame.raw)
        chunk = bisect_left(chunk_ends, end)
        at = f"+{times[chunk][1] / 1e6:.3f} s" if chunk < len(times) else None
        messages = [one for one in MessageBatch.of_body(frame.data, context, 0) if one.kind is not Kind.INVALID]
        if messages:
            for message in messages:
                yield _entry(message, metadata, at, with_payload=with_payloads)
        elif frame.data:
            yield _other_event(frame, at, with_payload=with_payloads)
        elif text := frame.raw.decode("utf-8", "replace").strip():
            yield _line(at, "# " + " · ".join(text.splitlines()))
    if rest.strip():
        yield f"# {size_text(len(rest))} of an unfinished event"


def _other_event(frame: Frame, at: str | None, *, with_payload: bool) -> str:
    text = frame.data.decode("utf-8", "replace")
    head = f"← event {shortened(frame.event)} · {size_text(len(frame.data))}:"
    if not with_payload:
        return _line(at, f"{head} {shortened(text)}")
    with suppress(ValueError, RecursionError):
        text = _pretty(json.loads(text))
    return _line(at, head) + "\n" + _indented(text)


def _decoded(data: bytes, metadata: contentviews.Metadata) -> tuple[bytes, list[list[int]]]:
    """The readable bytes of a stream that may be coded and cut off, with the times' offsets moved along."""
    times: list[list[int]] = metadata.flow.metadata.get(TIMES_KEY, []) if metadata.flow else []
    response = metadata.http_message
    coding = response.headers.get("content-encoding", "") if response else ""
    # mitmproxy decodes a body that is whole; one that still grows comes here as it is on the wire.
    if not coding or response is None or data != response.raw_content:
        return data, times if not coding else []
    decoder = decoder_for(coding)
    decoded = b""
    moved: list[list[int]] = []
    start = 0
    with suppress(ShadowcatError):  # what can be read until there is shown
        for end, at_us in times or [[len(data), 0]]:
            decoded += decoder.decode(data[start:end])
            moved.append([len(decoded), at_us])
            start = end
    return decoded, moved if times else []
