"""Bytes and one JSON-RPC message: exact reading, exact writing, arrays, errors of our own."""

import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Envelope, ErrorCode, Kind, dump, envelope, error_response, parse, split_array
from shadowcat_core.limits import MAX_JSON_DEPTH

BIG = 123456789012345678901234567890

READ = [
    pytest.param(b"{}", {}, id="empty-object"),
    pytest.param(b" \t\r\n[1] \r\n", [1], id="blanks-around"),
    pytest.param(b"\xef\xbb\xbf{}", {}, id="byte-order-mark"),
    pytest.param(b'{"a":1,"a":2}', {"a": 2}, id="duplicate-keys-last-wins"),
    pytest.param(b'{"a":1,"\\u0061":2}', {"a": 2}, id="escaped-duplicate-key"),
    pytest.param(b'{"a":18446744073709551616}', {"a": 2**64}, id="one-beyond-64-bits"),
    pytest.param(b'{"a":-9223372036854775809}', {"a": -(2**63) - 1}, id="one-below-64-bits"),
    pytest.param(b'{"a":18446744073709551615,"b":-9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}, id="64-bits"),
    pytest.param(b'{"padding":"......","a":%d}' % BIG, {"padding": "......", "a": BIG}, id="30-digits"),
    pytest.param(b'"12345678901234567890123"', "12345678901234567890123", id="digits-in-a-string"),
    pytest.param(b"0.12345678901234567890123", 0.12345678901234567890123, id="digits-of-a-fraction"),
    pytest.param(b'"\\ud800 lone"', "\ud800 lone", id="lone-surrogate"),
    pytest.param(b'"\\ud83d\\ude00"', "\U0001f600", id="surrogate-pair"),
    pytest.param(b'"a\xffb"', "a\ufffdb", id="invalid-utf-8-is-replaced"),
    pytest.param(b"1e400", math.inf, id="too-large-a-float"),
    pytest.param(b"9" * 5000, math.inf, id="5000-digits"),
    pytest.param(b"-" + b"9" * 5000, -math.inf, id="minus-5000-digits"),
    pytest.param(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH, None, id="deepest-allowed"),
    pytest.param(b"[" + b"[]," * 2 * MAX_JSON_DEPTH + b"[]]", [[]] * (2 * MAX_JSON_DEPTH + 1), id="wide-is-not-deep"),
]

REFUSED = [
    pytest.param(b"", id="empty"),
    pytest.param(b" \r\n", id="blanks"),
    pytest.param(b"\xef\xbb\xbf", id="byte-order-mark-alone"),
    pytest.param(b"{", id="cut-off"),
    pytest.param(b"{} {}", id="two-documents"),
    pytest.param(b'{"a":1}x', id="trailing-garbage"),
    pytest.param(b'{"a":1}\x00', id="trailing-nul"),
    pytest.param(b'"a\x00b"', id="nul-in-a-string"),
    pytest.param(b"{'a':1}", id="single-quotes"),
    pytest.param(b"[1,]", id="trailing-comma"),
    pytest.param(b"NaN", id="nan"),
    pytest.param(b'{"a":Infinity}', id="infinity"),
    pytest.param(b'{"a":[-Infinity]}', id="minus-infinity"),
    pytest.param("{}".encode("utf-16"), id="utf-16"),
    pytest.param(b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), id="one-level-too-deep"),
    pytest.param(b'{"a":' * 2000 + b"1" + b"}" * 2000, id="2000-levels"),
    pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100000-levels"),
    pytest.param(b"[" * 100_000, id="100000-levels-unfinished"),
]


def deep(levels: int):
    payload = []
    for _ in range(levels - 1):
        payload = [payload]
    return payload


@pytest.mark.parametrize(("raw", "expected"), READ)
def test_what_an_endpoint_reads_is_read(raw, expected):
    if expected is None:
        expected = deep(MAX_JSON_DEPTH)
    assert parse(raw) == expected


@pytest.mark.parametrize("raw", REFUSED)
def test_what_is_not_json_is_refused_with_one_error(raw):
    with pytest.raises(InvalidMessage):
        parse(raw)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"a": [1, 2.5, "x", None, True], "ü": {}}, id="plain"),
        pytest.param({"a": BIG, "b": -BIG}, id="big-integers"),
        pytest.param({"a": "\ud800", "\udfff": 1}, id="lone-surrogates"),
        pytest.param({"a": ["\x00", "\u2028", "\U0001f600", '"\\']}, id="awkward-characters"),
        pytest.param(deep(MAX_JSON_DEPTH), id="deepest-allowed"),
    ],
)
def test_what_was_written_is_read_back(payload):
    raw = dump(payload)
    assert parse(raw) == payload
    assert b"\n" not in raw
    json.loads(raw)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(math.nan, id="nan"),
        pytest.param({"a": [{"b": math.inf}]}, id="nested-infinity"),
        pytest.param({"a": None, "b": (-math.inf,)}, id="minus-infinity-beside-null"),
        pytest.param({"a": math.inf, "b": BIG}, id="infinity-beside-a-big-integer"),
        pytest.param({"a": 10**5000}, id="5000-digits"),
        pytest.param({"a": object()}, id="not-json"),
        pytest.param(deep(100_000), id="100000-levels"),
    ],
)
def test_what_json_has_no_word_for_is_not_written(payload):
    with pytest.raises(InvalidMessage):
        dump(payload)


def test_null_is_written_when_it_was_meant():
    assert dump({"a": None, "b": [1.5, {"c": "null"}]}) == b'{"a":null,"b":[1.5,{"c":"null"}]}'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_value_survives_writing_and_reading(payload):
    assert parse(dump(payload)) == payload


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\ud8001eNaI-. \n', max_size=40).map(str.encode))
def test_reading_any_bytes_gives_json_or_one_error(raw):
    try:
        payload = parse(raw)
    except InvalidMessage:
        return
    assert envelope(payload).kind in Kind


ENVELOPES = [
    pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', (Kind.REQUEST, "ping", 1), id="request"),
    pytest.param(b'{"jsonrpc":"2.0","id":0,"method":"ping"}', (Kind.REQUEST, "ping", 0), id="zero-is-an-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":"","method":"ping"}', (Kind.REQUEST, "ping", ""), id="empty-string-is-an-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":"1","result":{}}', (Kind.RESPONSE, None, "1"), id="string-stays-string"),
    pytest.param(b'{"jsonrpc":"2.0","id":1.5,"result":{}}', (Kind.RESPONSE, None, 1.5), id="float-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % BIG, (Kind.RESPONSE, None, BIG), id="huge-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"x"}', (Kind.REQUEST, "x", None), id="null-id-request"),
    pytest.param(b'{"jsonrpc":"2.0","id":null,"error":{}}', (Kind.ERROR, None, None), id="null-id-error"),
    pytest.param(b'{"jsonrpc":"2.0","error":{}}', (Kind.ERROR, None, None), id="error-without-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"result":null}', (Kind.RESPONSE, None, 1), id="null-result"),
    pytest.param(b'{"jsonrpc":"2.0","method":"x"}', (Kind.NOTIFICATION, "x", None), id="notification"),
    pytest.param(
        b'{"jsonrpc":"2.0","method":"x","id":1,"result":{}}', (Kind.REQUEST, "x", 1), id="method-beats-result"
    ),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', (Kind.ERROR, None, 1), id="error-beats-result"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}', (Kind.RESPONSE, None, 1), id="null-error"),
    pytest.param(b'{"jsonrpc":"2.0","method":"a","method":"b"}', (Kind.NOTIFICATION, "b", None), id="last-key-wins"),
    pytest.param(b'{"jsonrpc":"2.0","\\u006dethod":"x"}', (Kind.NOTIFICATION, "x", None), id="escaped-name"),
    pytest.param(b'{"jsonrpc":"2.0","id":true,"method":"x"}', (Kind.INVALID, "x", None), id="true-is-no-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":[1],"method":"x"}', (Kind.INVALID, "x", None), id="list-is-no-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":1e400,"method":"x"}', (Kind.INVALID, "x", None), id="infinity-is-no-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"method":7}', (Kind.INVALID, None, 1), id="method-is-a-number"),
    pytest.param(
        b'{"jsonrpc":"2.0","id":1,"method":7,"result":{}}', (Kind.INVALID, None, 1), id="bad-method-with-result"
    ),
    pytest.param(b'{"jsonrpc":"2.0","result":{}}', (Kind.INVALID, None, None), id="result-without-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":1}', (Kind.INVALID, None, 1), id="nothing-but-an-id"),
    pytest.param(b'{"jsonrpc":"1.0","id":1,"method":"x"}', (Kind.INVALID, "x", 1), id="other-version"),
    pytest.param(b'{"id":1,"method":"x"}', (Kind.INVALID, "x", 1), id="no-version"),
    pytest.param(b'{"jsonrpc":2.0,"id":1,"method":"x"}', (Kind.INVALID, "x", 1), id="version-is-a-number"),
    pytest.param(b'[{"jsonrpc":"2.0","method":"x"}]', (Kind.INVALID, None, None), id="array"),
    pytest.param(b'"jsonrpc"', (Kind.INVALID, None, None), id="string"),
    pytest.param(b"{}", (Kind.INVALID, None, None), id="empty-object"),
]


@pytest.mark.parametrize(("raw", "expected"), ENVELOPES)
def test_the_envelope_of_a_parsed_message_is_exact(raw, expected):
    found = envelope(parse(raw))
    assert found == Envelope(*expected)
    assert type(found.id) is type(expected[2])


def test_our_error_codes_lie_outside_every_reserved_range():
    assert ErrorCode
    assert not any(-32768 <= code <= -32000 for code in ErrorCode)


@pytest.mark.parametrize("request_id", [7, "7", 0, None, BIG])
def test_an_error_answers_with_the_id_of_the_request(request_id):
    payload = parse(error_response(request_id, ErrorCode.BLOCKED, "blocked by a rule"))
    assert payload == {"jsonrpc": "2.0", "id": request_id, "error": {"code": -31010, "message": "blocked by a rule"}}
    assert envelope(payload) == Envelope(Kind.ERROR, None, request_id)


def test_an_error_carries_its_data():
    raw = error_response(1, ErrorCode.TIMED_OUT, "late", {"after_ms": 5})
    assert orjson.loads(raw)["error"]["data"] == {"after_ms": 5}


ARRAYS = [
    pytest.param(b"[]", [], id="empty"),
    pytest.param(b" [ \n ] ", [], id="empty-with-blanks"),
    pytest.param(b'[{"a":1}]', [b'{"a":1}'], id="one"),
    pytest.param(b'\xef\xbb\xbf [ {"a":[1,2]} ,\r\n"x,y" , [ ] ]\n', [b'{"a":[1,2]}', b'"x,y"', b"[ ]"], id="blanks"),
    pytest.param(b'["]",{"[":"\\"]\\\\"}]', [b'"]"', b'{"[":"\\"]\\\\"}'], id="brackets-in-strings"),
    pytest.param(b"[1,nonsense]", [b"1", b"nonsense"], id="elements-are-not-parsed"),
]


@pytest.mark.parametrize(("raw", "expected"), ARRAYS)
def test_the_elements_of_an_array_are_found_exactly(raw, expected):
    assert [raw[start:end] for start, end in split_array(raw)] == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[",
        b"[1",
        b"[1,]",
        b"[,1]",
        b"[1,,2]",
        b"[]]",
        b"[1]x",
        b'["a]',
        b'["\\',
        b"[{]",
        b"[1][2]",
        b"x[1]",
    ],
)
def test_what_is_no_array_is_refused(raw):
    with pytest.raises(InvalidMessage):
        split_array(raw)


@given(st.lists(json_values, max_size=6), st.sampled_from([None, 1]))
def test_the_elements_of_any_array_are_its_elements(payload, indent):
    raw = json.dumps(payload, indent=indent).encode()
    assert [parse(raw[start:end]) for start, end in split_array(raw)] == payload


@pytest.mark.parametrize("raw", [b'["' + b'\\"' * 500_000, b"[" * 1_000_000, b'"[' * 500_000], ids=len)
def test_hostile_arrays_take_one_pass(raw):
    with pytest.raises(InvalidMessage):
        split_array(raw)
