"""Coded bodies become readable for watchers, whatever the cut, and no chunk can fill memory."""

import gzip
import zlib

import brotli
import pytest
import zstandard

from shadowcat_core.content_coding import decoded_body, decoder_for
from shadowcat_core.errors import InvalidMessage, MessageTooLarge

TEXT = b"".join(b'event: message\ndata: {"jsonrpc":"2.0","id":%d}\n\n' % i for i in range(50))


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


CODINGS = [
    pytest.param("", lambda b: b, id="none"),
    pytest.param("identity", lambda b: b, id="identity"),
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("X-GZIP", gzip.compress, id="x-gzip"),
    pytest.param("deflate", zlib.compress, id="deflate"),
    pytest.param("deflate", raw_deflate, id="deflate-without-zlib-wrapper"),
    pytest.param("br", brotli.compress, id="br"),
    pytest.param("zstd", zstandard.compress, id="zstd"),
    pytest.param("gzip", lambda b: gzip.compress(b[:100]) + gzip.compress(b[100:]), id="gzip-in-two-members"),
    pytest.param("zstd", lambda b: zstandard.compress(b[:100]) + zstandard.compress(b[100:]), id="zstd-in-two-frames"),
    pytest.param("gzip, br", lambda b: brotli.compress(gzip.compress(b)), id="two-codings"),
]


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(("coding", "encode"), CODINGS)
def test_a_coded_body_decodes_in_any_cut(coding, encode, step):
    coded = encode(TEXT)
    decoder = decoder_for(coding)
    decoded = [decoder.decode(coded[i : i + step]) for i in range(0, len(coded), step)]
    assert b"".join(decoded) == TEXT
    assert decoder.decode(b"") == b""


def test_a_flushed_event_is_readable_before_the_stream_ends():
    deflate = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    decoder = decoder_for("gzip")
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        assert decoder.decode(deflate.compress(event) + deflate.flush(zlib.Z_SYNC_FLUSH)) == event


@pytest.mark.parametrize(
    ("coding", "encode"),
    [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress), ("deflate", zlib.compress)],
)
def test_a_small_chunk_that_unpacks_to_much_is_refused(coding, encode):
    bomb = encode(bytes(40_000_000))
    decoder = decoder_for(coding, max_output_bytes=1_000_000)
    with pytest.raises(MessageTooLarge) as caught:
        decoder.decode(bomb)
    assert caught.value.limit == 1_000_000
    assert caught.value.size > 1_000_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_bytes_that_are_not_in_their_coding_are_said_to_be_so(coding):
    with pytest.raises(InvalidMessage, match="not in its content coding"):
        decoder_for(coding).decode(b"\xff plain text, honestly" * 10)


def test_an_unknown_coding_is_named():
    with pytest.raises(InvalidMessage, match="'rot13'"):
        decoder_for("gzip, rot13")


@pytest.mark.parametrize(
    ("body", "coding", "decoded"),
    [
        pytest.param(TEXT, "", TEXT, id="plain"),
        pytest.param(gzip.compress(TEXT), "gzip", TEXT, id="gzip"),
        pytest.param(TEXT, "gzip", None, id="not-in-its-coding"),
        pytest.param(TEXT, "rot13", None, id="unknown-coding"),
        pytest.param(gzip.compress(bytes(5_000_000)), "gzip", bytes(5_000_000), id="larger-than-a-chunk-may-be"),
        pytest.param(zstandard.compress(bytes(40_000_000)), "zstd", None, id="bomb"),
    ],
)
def test_a_whole_body_is_decoded_or_nothing(body, coding, decoded):
    assert decoded_body(body, coding) == decoded
