"""Records and lines: what goes onto a tape comes back from it, byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.tape.encoding import decode, decode_header, encode, encode_header
from shadowcat_core.tape.records import (
    HEADER_BYTES,
    RECORD_OVERHEAD_BYTES,
    Chunk,
    End,
    Gap,
    Header,
    Note,
    Open,
    Request,
    Response,
    Unknown,
    Verdict,
    held_bytes,
    payload_bytes,
)

ORIGIN_NS = 5_000_000_000
HEADER = Header("2026-11-21T07:32:00+00:00", "shadowcat", "0.1.0", "default", "background", ORIGIN_NS)


def at(t_us):
    return ORIGIN_NS + t_us * 1000


def back(lines):
    return [record for line in lines.splitlines(keepends=True) for record in decode(line, ORIGIN_NS)]


RECORDS = [
    pytest.param(Open(at(1), 1, "f", "POST", "http://h/mcp", "HTTP/1.1", [("A", "b"), ("A", "c")]), id="open"),
    pytest.param(
        Open(at(1), 1, "f", "POST", "u", "HTTP/2.0", [], "stdio", "s-1", "legacy", "2025-11-25", "a:1", "b:2"),
        id="open-with-everything",
    ),
    pytest.param(Open(at(1), 1, "f", "GET", "u", "HTTP/1.1", [("X", "caf\udce9")]), id="header-not-utf8"),
    pytest.param(Request(at(2), 1, b'{"jsonrpc":"2.0"}'), id="request"),
    pytest.param(Request(at(2), 1, b""), id="empty-body"),
    pytest.param(Request(at(2), 1, b"\xff\x00\xfe"), id="body-not-utf8"),
    pytest.param(Request(at(2), 1, "née\u2028\n\0".encode()), id="body-with-every-kind-of-line-end"),
    pytest.param(Response(at(3), 1, 200, "OK", [("content-type", "text/event-stream")]), id="response"),
    pytest.param(Chunk(at(4), 1, "s2c", b"data: {}\r\n\r\n"), id="chunk"),
    pytest.param(Chunk(at(4), 1, "c2s", b"\xe2\x82"), id="chunk-cut-inside-a-character"),
    pytest.param(Chunk(at(-4), 1, "c2s", b""), id="chunk-before-the-origin"),
    pytest.param(End(at(5), 1, "reset", "connection reset by peer"), id="end"),
    pytest.param(Verdict(at(6), 1, "rules", "block", "denied", b"\xff", None), id="verdict-without-result"),
    pytest.param(Verdict(at(6), 1, "rules", "modify", "", b"", b"x"), id="verdict-empty-is-not-none"),
    pytest.param(
        Verdict(at(6), 1, "rules", "mock", "no", b"{}", None, b'{"id":1}', "audit", "c2s"), id="verdict-with-everything"
    ),
    pytest.param(Verdict(at(6), 1, "rules", "block", reply=b"\xff"), id="verdict-reply-not-utf8"),
    pytest.param(Note(at(7), None, "started", {"a": [1, None, 1.5]}), id="note"),
    pytest.param(Gap(at(8), 12, 3400, "the queue was full", [1, 2]), id="gap"),
    pytest.param(Unknown(at(9), "weather", {"exchange": 1, "sky": "blue"}), id="unknown-kind"),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_comes_back_as_it_was(record):
    line = encode([record], ORIGIN_NS)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert back(line) == [record]


def test_a_line_is_json_with_kind_and_microseconds_first():
    line = encode([Chunk(at(1500), 3, "s2c", b"hi")], ORIGIN_NS)
    assert line == b'{"kind":"chunk","t":1500,"exchange":3,"dir":"s2c","text":"hi"}\n'


def test_bytes_that_are_not_text_have_their_own_key():
    fields = json.loads(encode([Chunk(at(0), 3, "s2c", b"\xff")], ORIGIN_NS))
    assert fields["base64"] == "/w=="
    assert "text" not in fields


def test_a_number_beyond_64_bits_is_written_to_its_last_digit():
    assert json.loads(encode([Note(at(7), 3, "big", 2**80 + 1)], ORIGIN_NS))["data"] == 2**80 + 1


def test_a_header_comes_back_as_it_was():
    assert decode_header(encode_header(HEADER)) == HEADER


def test_consecutive_chunks_of_one_stream_share_a_line_and_keep_their_boundaries():
    chunks = [Chunk(at(i), 7, "s2c", b"part %d" % i) for i in range(5)]
    lines = encode(chunks, ORIGIN_NS)
    assert lines.count(b"\n") == 1
    assert json.loads(lines)["t"] == [0, 1, 2, 3, 4]
    assert back(lines) == chunks


@pytest.mark.parametrize(
    "breaker",
    [
        pytest.param(Chunk(at(1), 8, "s2c", b"x"), id="another-exchange"),
        pytest.param(Chunk(at(1), 7, "c2s", b"x"), id="another-direction"),
        pytest.param(Chunk(at(1), 7, "s2c", b"\xff"), id="bytes-that-are-not-text"),
        pytest.param(End(at(1), 7, "eof"), id="another-kind"),
    ],
)
def test_a_run_ends_where_order_would_be_lost(breaker):
    a, b = Chunk(at(0), 7, "s2c", b"a"), Chunk(at(2), 7, "s2c", b"b")
    lines = encode([a, a, breaker, b, b], ORIGIN_NS)
    assert lines.count(b"\n") == 3
    assert back(lines) == [a, a, breaker, b, b]


def test_a_run_does_not_grow_beyond_its_limit():
    chunks = [Chunk(at(i), 7, "s2c", b"x" * 20_000) for i in range(12)]
    lines = encode(chunks, ORIGIN_NS)
    assert lines.count(b"\n") == 3
    assert max(map(len, lines.splitlines())) < 100_000
    assert back(lines) == chunks


def test_unknown_fields_are_ignored():
    line = b'{"kind":"end","t":1,"exchange":2,"how":"eof","text":"","mood":"fine"}\n'
    assert back(line) == [End(at(1), 2, "eof")]


def test_a_verdict_of_an_older_tape_was_carried_out_and_has_no_reply():
    line = (
        b'{"kind":"verdict","t":6,"exchange":1,"interceptor":"r","action":"block","reason":"","original_text":"{}"}\n'
    )
    assert back(line) == [Verdict(at(6), 1, "r", "block", "", b"{}", None, None, "enforce", None)]


def test_a_header_may_carry_unknown_fields():
    fields = json.loads(encode_header(HEADER)) | {"mood": "fine"}
    assert decode_header(json.dumps(fields).encode()) == HEADER


VERDICT = b'{"kind":"verdict","t":6,"exchange":1,"interceptor":"r","action":"block","reason":"",%s}'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "`kind`"),
        (b'{"kind":"end"}', "`t`"),
        (b'{"kind":"end","t":1.5}', "`t`"),
        (b'{"kind":"end","t":true}', "`t`"),
        (b'{"kind":"end","t":1,"how":"eof","text":""}', "`exchange`"),
        (b'{"kind":"end","t":1,"exchange":1,"how":7,"text":""}', "`how`"),
        (b'{"kind":"chunk","t":1,"exchange":1,"dir":"up","text":""}', "`dir`"),
        (VERDICT % b'"mode":7', "`mode`"),
        (VERDICT % b'"dir":"up"', "`dir`"),
        (VERDICT % b'"reply_text":1', "one string"),
        (VERDICT % b'"reply_base64":"!"', "not base64"),
        (b'{"kind":"chunk","t":1,"exchange":1,"dir":"s2c"}', "neither"),
        (b'{"kind":"chunk","t":1,"exchange":1,"dir":"s2c","text":"a","base64":"YQ=="}', "one string"),
        (b'{"kind":"chunk","t":1,"exchange":1,"dir":"s2c","text":7}', "one string"),
        (b'{"kind":"chunk","t":1,"exchange":1,"dir":"s2c","base64":"!"}', "not base64"),
        (b'{"kind":"chunk","t":1,"exchange":1,"dir":"s2c","text":"\\ud800"}', "surrogate"),
        (b'{"kind":"chunks","t":[1],"exchange":1,"dir":"s2c","text":[]}', "as many"),
        (b'{"kind":"chunks","t":1,"exchange":1,"dir":"s2c","text":"a"}', "as many"),
        (b'{"kind":"chunks","t":["1"],"exchange":1,"dir":"s2c","text":["a"]}', "whole numbers"),
        (b'{"kind":"response","t":1,"exchange":1,"status":200,"reason":"","headers":{}}', "a list"),
        (b'{"kind":"response","t":1,"exchange":1,"status":200,"reason":"","headers":[["a"]]}', "pairs"),
    ],
)
def test_a_damaged_line_says_what_is_wrong(line, complaint):
    with pytest.raises(ValueError, match=complaint):
        decode(line, ORIGIN_NS)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "end"}, "no tape header"),
        ({"format": "har"}, "no tape header"),
        ({"version": 2}, "upgrade"),
        ({"version": "1"}, "`version`"),
        ({"origin_ns": None}, "`origin_ns`"),
        ({"tool": 1}, "`tool`"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(change, complaint):
    fields = json.loads(encode_header(HEADER)) | change
    with pytest.raises(ValueError, match=complaint):
        decode_header(json.dumps(fields).encode())


def test_a_gap_with_odd_exchanges_is_still_a_gap():
    line = b'{"kind":"gap","t":1,"records":2,"bytes":3,"reason":"r","exchanges":[1,"x",null]}'
    assert back(line) == [Gap(at(1), 2, 3, "r", [1])]
    line = b'{"kind":"gap","t":1,"records":2,"bytes":3,"reason":"r"}'
    assert back(line) == [Gap(at(1), 2, 3, "r", [])]


def test_held_bytes_count_bodies_heads_and_the_record_itself():
    assert held_bytes(End(0, 1, "eof")) == RECORD_OVERHEAD_BYTES
    assert held_bytes(Chunk(0, 1, "s2c", b"1234")) == RECORD_OVERHEAD_BYTES + 4
    assert held_bytes(Response(0, 1, 200, "OK", [("ab", "cde")])) == RECORD_OVERHEAD_BYTES + HEADER_BYTES
    assert payload_bytes(Verdict(0, 1, "r", "modify", "", b"12", b"345")) == 5
    assert payload_bytes(Verdict(0, 1, "r", "block", "", b"12", None, b"345678")) == 8
    assert payload_bytes(Verdict(0, 1, "r", "block")) == 0


exchanges = st.integers(1, 3)
times = st.integers(0, 2**40).map(at)
counts = st.integers(0, 2**63)
texts = st.text(max_size=20)
bodies = st.one_of(st.binary(max_size=40), texts.map(str.encode))
headers = st.lists(st.tuples(texts, texts), max_size=3)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
maybe_text = st.one_of(st.none(), texts)
any_record = st.one_of(
    st.builds(Chunk, times, exchanges, st.sampled_from(["c2s", "s2c"]), bodies),
    st.builds(Request, times, exchanges, bodies),
    st.builds(Response, times, exchanges, st.integers(100, 599), texts, headers),
    st.builds(End, times, exchanges, texts, texts),
    st.builds(
        Verdict,
        times,
        exchanges,
        texts,
        texts,
        texts,
        *[st.none() | bodies] * 3,
        texts,
        st.sampled_from([None, "c2s", "s2c"]),
    ),
    st.builds(Note, times, st.none() | exchanges, texts, values),
    st.builds(Gap, times, counts, counts, texts, st.lists(exchanges)),
    st.builds(Open, times, exchanges, texts, texts, texts, texts, headers, texts, maybe_text, maybe_text, maybe_text),
)


@given(st.lists(any_record, max_size=20))
def test_any_records_come_back_in_order(records):
    assert back(encode(records, ORIGIN_NS)) == records
