"""Undo HTTP content codings piece by piece, for watchers: what the wire carries stays coded. No I/O.

A decoder holds no more than the library's own window, and one call gives at most `max_output_bytes`: a small chunk
that unpacks to gigabytes ("zip bomb") raises `MessageTooLarge` instead of filling memory.

Source: RFC 9110 section 8.4 (content codings), RFC 8878 (zstd), RFC 7932 (br).
"""

import zlib
from collections.abc import Iterable
from typing import Protocol

import brotli
import zstandard

from shadowcat_core.errors import InvalidMessage, MessageTooLarge
from shadowcat_core.limits import MAX_DECODED_CHUNK_BYTES, MAX_EVENT_BYTES

# One zstd block is at least 4 bytes and unpacks to at most 128 KiB, and the library cannot stop half-way: feeding it
# little by little is what bounds its output.
_ZSTD_SLICE_BYTES = 64


class ContentDecoder(Protocol):
    """Takes coded bytes in any cut and gives the decoded bytes that are complete so far."""

    def decode(self, data: bytes) -> bytes:
        """Decode the next piece.

        Raises:
            InvalidMessage: the bytes are not in this coding. The decoder cannot be used further.
            MessageTooLarge: this piece unpacks to more than the limit. The decoder cannot be used further.
        """
        ...


class _Identity:
    def decode(self, data: bytes) -> bytes:
        return data


class _Zlib:
    """gzip, in any number of members (RFC 1952 section 2.2), and deflate with its zlib wrapper."""

    def __init__(self, wbits: int, max_output_bytes: int) -> None:
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits)
        self._max_output_bytes = max_output_bytes

    def decode(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        room = self._max_output_bytes
        while data:
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(self._wbits)
            try:
                piece = self._inflate.decompress(data, room)
            except zlib.error as exc:
                raise InvalidMessage(f"body is not in its content coding: {exc}") from exc
            pieces.append(piece)
            room -= len(piece)
            if self._inflate.unconsumed_tail or (room <= 0 and self._inflate.unused_data):
                raise MessageTooLarge(self._max_output_bytes + 1, self._max_output_bytes)
            data = self._inflate.unused_data
        return b"".join(pieces)


class _Deflate:
    """deflate as servers send it: with the zlib wrapper, as RFC 9110 wants, or without. Two bytes tell which."""

    def __init__(self, max_output_bytes: int) -> None:
        self._head = b""
        self._inflate: _Zlib | None = None
        self._max_output_bytes = max_output_bytes

    def decode(self, data: bytes) -> bytes:
        if self._inflate is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return b""
            # RFC 1950 section 2.2: method 8, and a header that is a multiple of 31.
            wrapped = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._inflate = _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS, self._max_output_bytes)
        return self._inflate.decode(data)


class _Brotli:
    def __init__(self, max_output_bytes: int) -> None:
        self._decompressor = brotli.Decompressor()
        self._max_output_bytes = max_output_bytes

    def decode(self, data: bytes) -> bytes:
        try:
            output: bytes = self._decompressor.process(data, output_buffer_limit=self._max_output_bytes)
            if not self._decompressor.can_accept_more_data():
                raise MessageTooLarge(len(output) + 1, self._max_output_bytes)
        except brotli.error as exc:
            raise InvalidMessage(f"body is not in its content coding: {exc}") from exc
        return output


class _Zstd:
    def __init__(self, max_output_bytes: int) -> None:
        self._decompressor = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
        self._max_output_bytes = max_output_bytes

    def decode(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            for start in range(0, len(data), _ZSTD_SLICE_BYTES):
                piece = self._decompressor.decompress(data[start : start + _ZSTD_SLICE_BYTES])
                size += len(piece)
                if size > self._max_output_bytes:
                    raise MessageTooLarge(size, self._max_output_bytes)
                pieces.append(piece)
        except zstandard.ZstdError as exc:
            raise InvalidMessage(f"body is not in its content coding: {exc}") from exc
        return b"".join(pieces)


class _Chain:
    def __init__(self, decoders: Iterable[ContentDecoder]) -> None:
        self._decoders = tuple(decoders)

    def decode(self, data: bytes) -> bytes:
        for decoder in self._decoders:
            data = decoder.decode(data)
        return data


def decoder_for(content_encoding: str, *, max_output_bytes: int = MAX_DECODED_CHUNK_BYTES) -> ContentDecoder:
    """Give a decoder for the value of a `Content-Encoding` header; an empty value means identity.

    Raises:
        InvalidMessage: a coding is unknown.
    """
    decoders: list[ContentDecoder] = []
    # Codings are listed in the order in which they were applied, so they are undone from the last to the first.
    for coding in reversed(content_encoding.lower().split(",")):
        match coding.strip():
            case "" | "identity":
                continue
            case "gzip" | "x-gzip":
                decoders.append(_Zlib(zlib.MAX_WBITS | 16, max_output_bytes))
            case "deflate":
                decoders.append(_Deflate(max_output_bytes))
            case "br":
                decoders.append(_Brotli(max_output_bytes))
            case "zstd":
                decoders.append(_Zstd(max_output_bytes))
            case unknown:
                raise InvalidMessage(f"unknown content coding {unknown!r}")
    match decoders:
        case []:
            return _Identity()
        case [only]:
            return only
        case _:
            return _Chain(decoders)


def decoded_body(body: bytes, content_encoding: str) -> bytes | None:
    """Decode a whole body; None when it is not in its coding, or unpacks to more than `MAX_EVENT_BYTES`."""
    if not content_encoding:
        return body
    try:
        return decoder_for(content_encoding, max_output_bytes=MAX_EVENT_BYTES).decode(body)
    except (InvalidMessage, MessageTooLarge):
        return None
