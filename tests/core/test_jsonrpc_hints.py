"""Routing hints from the bytes: None, or exactly what a full parse says."""

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shadowcat_core import jsonrpc
from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import Envelope, Kind, classify, envelope, parse

HINTED = [
    # Python SDK: jsonrpc and id before the nested value.
    (b'{"jsonrpc":"2.0","id":17,"result":{"content":[]}}', (Kind.RESPONSE, None, 17)),
    (b'{"jsonrpc":"2.0","id":"a-1","result":{}}', (Kind.RESPONSE, None, "a-1")),
    (b'{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"x"}}', (Kind.ERROR, None, 0)),
    (b'{"jsonrpc":"2.0","id":-3,"method":"ping","params":{}}', (Kind.REQUEST, "ping", -3)),
    (b'{"jsonrpc":"2.0","method":"notifications/a","params":{"a":{}}}', (Kind.NOTIFICATION, "notifications/a", None)),
    (b'{"jsonrpc":"2.0","method":"tools/call","id":1,"params":{"id":2}}', (Kind.REQUEST, "tools/call", 1)),
    # TypeScript SDK: jsonrpc and id behind it.
    (b'{"method":"tools/call","params":{"name":"x"},"jsonrpc":"2.0","id":1}', (Kind.REQUEST, "tools/call", 1)),
    (b'{"method":"notifications/b","params":{"id":9},"jsonrpc":"2.0"}', (Kind.NOTIFICATION, "notifications/b", None)),
    (b'{"result":{"id":5,"method":"x"},"jsonrpc":"2.0","id":1}', (Kind.RESPONSE, None, 1)),
    (b'{"result":{},"jsonrpc":"2.0","id":"x:y"}', None),
    (b'{"error":{},"jsonrpc":"2.0","id":"abc"}', (Kind.ERROR, None, "abc")),
    # The order of the JSON-RPC specification's examples, and blanks as json.dumps writes them.
    (b'{"jsonrpc":"2.0","method":"subtract","params":{"a":1},"id":3}', (Kind.REQUEST, "subtract", 3)),
    (b'{"jsonrpc": "2.0", "id": 17, "result": {"a": 1}}', (Kind.RESPONSE, None, 17)),
    (b'{"method": "x", "params": {}, "jsonrpc": "2.0", "id": "q"}', (Kind.REQUEST, "x", "q")),
    (b'{"jsonrpc": "2.0", "method": "notifications/c", "params": {}}', (Kind.NOTIFICATION, "notifications/c", None)),
    (b'{"id":1,"jsonrpc":"2.0","method":"x","params":{}}', (Kind.REQUEST, "x", 1)),
    (b'{"id":1,"method":"x","params":{},"jsonrpc":"2.0"}', (Kind.REQUEST, "x", 1)),
]

UNHINTED = [
    pytest.param(b"", id="empty"),
    pytest.param(b"{", id="brace"),
    pytest.param(b"{}", id="empty-object"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', id="nothing-nested"),
    pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"x","params":{}}', id="null-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":1.0,"method":"x","params":{}}', id="float-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":"\\u0061","method":"x","params":{}}', id="escaped-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":"\xc3\xa4","method":"x","params":{}}', id="id-beyond-ascii"),
    pytest.param(b'{"jsonrpc":"2.0","id":"a{b","method":"x","params":{}}', id="brace-in-the-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":"a,b","method":"x","params":{}}', id="comma-in-the-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":{"a":1},"method":"x","params":{}}', id="object-id"),
    pytest.param(b'{"jsonrpc":"2.0","method":"id","params":{},"id":true}', id="method-named-id-true-as-id"),
    pytest.param(b'{"jsonrpc":"2.0","\\u006dethod":"x","id":1,"params":{}}', id="escaped-name"),
    pytest.param(b'{"jsonrpc":"2.0","method":"a\\u0062","id":1,"params":{}}', id="escaped-method"),
    pytest.param(b'{"jsonrpc":"1.0","id":1,"method":"x","params":{}}', id="other-version"),
    pytest.param(b'{"id":1,"method":"x","params":{}}', id="no-version"),
    pytest.param(b'{"method":"notifications/x","params":{"jsonrpc":"2.0"}}', id="version-only-inside"),
    pytest.param(b'{"method":"notifications/x","params":{},"id":1,"jsonrpc":"2.0"}', id="id-before-the-version"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"result":null}', id="null-result"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"result":"a{b"}', id="brace-in-a-string"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"x","params":[{}]}', id="params-in-an-array"),
    pytest.param(b'{"jsonrpc":"2.0","method":"tools/call","params":{}}', id="tools-call-without-id"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{}} ', id="trailing-blank"),
    pytest.param(b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"result":{}}', id="version-twice"),
    pytest.param(b'{"jsonrpc":"2.0","method":"a","method":"b","id":1,"params":{}}', id="method-twice"),
    pytest.param(b'{"jsonrpc":"2.0","method":"a","id":1,"result":{}}', id="method-with-result"),
    pytest.param(b'{"jsonrpc":"2.0","id":1,"params":{"method":"x"},"method":"y"}', id="method-behind"),
    pytest.param(b'{"jsonrpc":"2.0","extra":"method","id":1,"result":{}}', id="unknown-member-first"),
    pytest.param(b'[{"jsonrpc":"2.0","id":1,"result":{}}]', id="array"),
    pytest.param(b'{"type":"content_block_delta","delta":{}}', id="no-json-rpc"),
    pytest.param(b'{"jsonrpc":"2.0","method":"' + b"m" * 400 + b'","id":1,"params":{}}', id="endless-method"),
    pytest.param(b'{"result":{},"jsonrpc":"2.0","id":' + b"9" * 5000 + b"}", id="endless-id"),
    pytest.param(b'{"params":{},"jsonrpc":"2.0","id":1}', id="params-without-method"),
]


@pytest.mark.parametrize(
    ("raw", "expected"), HINTED, ids=lambda value: value.decode() if isinstance(value, bytes) else ""
)
@pytest.mark.parametrize("known", [False, True], ids=["first-seen", "seen-before"])
def test_both_sdks_forms_are_told_from_the_bytes(raw, expected, known):
    jsonrpc._heads.clear()
    if known:
        classify(raw)
    hint = classify(raw)
    assert hint == (None if expected is None else Envelope(*expected))
    assert hint is None or (hint == envelope(parse(raw)) and type(hint.id) is type(expected[2]))


@pytest.mark.parametrize("raw", UNHINTED)
def test_everything_else_takes_a_full_parse(raw):
    assert classify(raw) is None
    assert classify(raw) is None


def test_a_hint_is_of_the_span_and_of_nothing_around_it():
    message = b'{"jsonrpc":"2.0","method":"notifications/x","params":{"a":{}}}'
    buffer = b'data: {"id":7}\n' + message + b'\n{"jsonrpc":"2.0","id":9,"result":{}}'
    start = buffer.index(message)
    for _ in range(2):
        assert classify(buffer, start, start + len(message)) == envelope(parse(message))
    assert classify(buffer, start, start + 40) is None
    assert classify(b"{" + b" " * 10 + b'{"jsonrpc"', 0, 5) is None
    for short in (b"x{", b"{{", b"{", b'{"{', b"{}"):
        assert classify(short) is None


def test_many_messages_of_one_buffer_are_told_like_each_alone():
    raws = [raw for raw, _ in HINTED] * 2 + [b'{"jsonrpc":"2.0"}'] * 2
    spans, at = [], 0
    for raw in raws:
        spans.append((at, at + len(raw), at, at + len(raw)))
        at += len(raw)
    spans += [(0, 0, -1, -1), (0, 0, -2, -2)]
    usual, others = jsonrpc.classify_burst(b"".join(raws), spans)
    assert [others.get(index, usual) for index in range(len(spans))] == [*map(classify, raws), None, None]


def burst_of(*raws):
    buffer, spans = b"".join(raws), []
    for raw in raws:
        start = spans[-1][1] if spans else 0
        spans.append((start, start + len(raw), start, start + len(raw)))
    return jsonrpc.classify_burst(buffer, spans)


def test_a_burst_is_told_by_its_usual_message_and_its_exceptions():
    progress, log, other = (
        b'{"method":"notifications/%s","params":{"a":{}},"jsonrpc":"2.0"}' % name
        for name in (b"progress", b"message", b"x")
    )
    for usual, stranger in ((progress, log), (log, other), (other, progress)):
        burst_of(*[usual] * 3)  # it becomes the usual one
        for mixed in ([usual, stranger, usual, usual], [stranger, usual, usual], [usual, usual, stranger]):
            hint, others = burst_of(*mixed)
            assert hint == classify(usual)
            assert others == {mixed.index(stranger): classify(stranger)}
        assert burst_of(usual, usual) == (classify(usual), {})  # the strangers did not make it one


def test_a_notification_whose_body_does_not_end_takes_a_full_parse():
    for raw in (
        b'{"jsonrpc":"2.0","method":"notifications/x","params":{"a',
        b'{"jsonrpc":"2.0","method":"x","params":{"a',
    ):
        assert classify(raw) is None


def test_a_peer_that_invents_methods_does_not_grow_the_table():
    for number in range(3 * jsonrpc._MAX_HEADS):
        classify(b'{"jsonrpc":"2.0","id":1,"method":"m%d","params":{}}' % number)
    assert len(jsonrpc._heads) <= jsonrpc._MAX_HEADS


decoys = st.sampled_from(["tools/call", '},"id":7}', '},"jsonrpc":"2.0","id":1}', "\\", '"', "{", "ü"])
nested_names = st.sampled_from(["id", "method", "jsonrpc", "result", "error", "a", '"id":1}', "{"])
inside = st.dictionaries(
    nested_names,
    st.recursive(
        st.none() | st.integers() | decoys,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nested_names, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
ids = (
    st.integers()
    | st.integers(0, 20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["a-1", "id", '"id":1', "x:y", "a,b", "{", "}", "},", ' "', "\\"])
    | st.none()
)
methods = st.sampled_from(
    ["tools/call", "notifications/progress", "notifications/x", "ping", "id", "result", "", "a}}", "ü", '"', "{"]
)


@st.composite
def messages(draw):
    """A message of any kind, its members in any order, with any blanks, no name twice and nothing in contradiction."""
    body = draw(st.sampled_from(["params", "result", "error", None]))
    members = {}
    if draw(st.integers(0, 9)):
        members["jsonrpc"] = draw(st.sampled_from(["2.0", "2.0", "2.0", "1.0", 2.0]))
    if body in ("params", None):
        members["method"] = draw(methods)
    if body is not None:
        members[body] = draw(inside | inside | inside | st.lists(inside, max_size=2) | st.none() | st.text(max_size=5))
    if draw(st.booleans()):
        members["id"] = draw(ids)
    names = draw(st.permutations(sorted(members)))
    style = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", " :\t")]))
    text = json.dumps({name: members[name] for name in names}, ensure_ascii=draw(st.booleans()), separators=style)
    return draw(st.sampled_from(["", "", "", "\n"])) + text + draw(st.sampled_from(["", "", "", " "]))


@given(messages(), st.booleans())
@example('{"method":"notifications/x","id":5,"params":{},"jsonrpc":"2.0"}', True)
@example('{"jsonrpc":"2.0","id":5,"method":"notifications/x","params":{}}', True)
def test_a_hint_is_none_or_what_the_full_parse_says(text, forget):
    if forget:
        jsonrpc._heads.clear()
    raw = text.encode("utf-8", "surrogatepass")
    exact = envelope(parse(raw))
    for _ in range(2):
        hint = classify(raw)
        assert hint is None or (hint == exact and type(hint.id) is type(exact.id))


def test_every_order_of_the_members_is_told_right():
    values = {"jsonrpc": '"2.0"', "id": "7", "method": '"tools/call"', "params": '{"id":1,"method":"x"}'}
    for names in itertools.permutations(values):
        raw = ("{" + ",".join(f'"{name}":{values[name]}' for name in names) + "}").encode()
        assert classify(raw) in (None, Envelope(Kind.REQUEST, "tools/call", 7)), raw


@given(st.binary(max_size=80), st.integers(0, 80), st.integers(0, 80))
def test_a_hint_never_raises(raw, start, end):
    for buffer in (raw, b'{"jsonrpc":"2.0","id":' + raw, b'{"result":{' + raw + b'},"jsonrpc":"2.0","id":1}'):
        classify(buffer)
        classify(buffer, min(start, len(buffer)), min(end, len(buffer)))


@pytest.mark.parametrize(
    ("raw", "hint", "exact"),
    [
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"method":"tools/call"}',
            Envelope(Kind.REQUEST, "ping", 1),
            Envelope(Kind.REQUEST, "tools/call", 1),
            id="duplicate-name",
        ),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"\\u006dethod":"tools/call"}',
            Envelope(Kind.REQUEST, "ping", 1),
            Envelope(Kind.REQUEST, "tools/call", 1),
            id="escaped-name",
        ),
    ],
)
def test_a_hint_can_be_deceived_which_is_why_deciding_takes_a_parse(raw, hint, exact):
    assert classify(raw) == hint
    assert envelope(parse(raw)) == exact


def test_a_hint_does_not_prove_that_the_message_is_json():
    raw = b'{"jsonrpc":"2.0","id":1,"result":{nonsense}}'
    assert classify(raw) == Envelope(Kind.RESPONSE, None, 1)
    with pytest.raises(InvalidMessage):
        parse(raw)
