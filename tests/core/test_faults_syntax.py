"""Toxics as text: what is written is read, and who mistypes is told what there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.errors import BadToxic
from shadowcat_core.interceptors.faults import TOXICS, parse_toxic, toxic_text
from shadowcat_core.interceptors.faults.toxics import Cut, Latency

ALONE = sorted(set(TOXICS) - {"cut", "stall"})


@pytest.mark.parametrize("kind", ALONE)
def test_every_toxic_has_defaults_but_for_where_a_body_breaks(kind):
    assert parse_toxic(kind) == TOXICS[kind]()
    assert toxic_text(parse_toxic(kind)) == kind


def test_the_example_of_the_manual_is_read():
    toxic = parse_toxic("latency:ms=200,jitter_ms=50,probability=0.3,method=tools/call,from=2,times=3,per=exchange")
    counted = {"from": 2, "times": 3, "per": "exchange"}
    assert toxic == Latency(ms=200, jitter_ms=50, probability=0.3, method="tools/call", **counted)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"drop:target=a\,b", "a,b"),
        (r"drop:target=a\\b", "a\\b"),
        ("drop:target=a=b:c", "a=b:c"),
        ("drop: target=file:///x", "file:///x"),
        ("  drop : target=é* ", "é* "),
        ("drop:target=", ""),
    ],
)
def test_values_hold_any_text(text, value):
    assert parse_toxic(text).target == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("latancy:ms=2", ["no toxic 'latancy'", "did you mean latency?", "session_404"]),
        ("", ["no toxic ''", "latency, jitter, drop"]),
        ("latency:mss=2", ["latency has no field 'mss'", "did you mean ms?", "jitter_ms"]),
        ("drop:ms=1", ["drop has no field 'ms'", "method"]),
        ("latency:start=2", ["no field 'start'"]),
        ("latency:ms", ["'ms' is no FIELD=VALUE"]),
        ("latency:ms=1,,", ["'' is no FIELD=VALUE"]),
        ("latency:ms=1,ms=2", ["ms is given twice"]),
        ("latency:ms=-1", ["ms", "greater than or equal to 0", "not '-1'"]),
        ("latency:ms=1e9", ["ms", "3600000"]),
        ("latency:ms=inf", ["ms"]),
        ("latency:ms=nan", ["ms"]),
        ("latency:ms=fast", ["ms", "number", "'fast'"]),
        ("latency:probability=1.5", ["probability", "less than or equal to 1"]),
        ("latency:probability=30%", ["probability", "'30%'"]),
        ("latency:from=0", ["from", "greater than or equal to 1"]),
        ("latency:times=0", ["times"]),
        ("latency:direction=up", ["direction", "'s2c', 'c2s' or 'both'", "'up'"]),
        ("latency:name=a b", ["name", "'a b'"]),
        ("latency:ms=-1,probability=2", ["ms", "probability"]),
        ("cut", ["cut: say where", "after=EVENTS", "after_bytes=BYTES"]),
        ("stall:after=1,after_bytes=2", ["say where"]),
        ("cut:after=-1", ["after"]),
        ("rate_limit:per=exchange", ["per", "'run'"]),
        ("drop_get:http_method=POST", ["http_method", "'GET'"]),
        ("oversize:bytes=100000000", ["bytes", "67108864"]),
        ("split_utf8:ms=0", ["ms", "greater than 0"]),
        ('unauthorized:description=say "please"', ["description"]),
        ("unauthorized:resource_metadata=a\nb", ["resource_metadata"]),
        ("drop:target=a\\", ["backslash"]),
    ],
)
def test_who_mistypes_is_told_what_there_is(text, says):
    with pytest.raises(BadToxic) as caught:
        parse_toxic(text)
    for part in says:
        assert part in str(caught.value)


def test_where_a_body_breaks_may_be_said_in_events_or_bytes():
    assert parse_toxic("cut:after=2") == Cut(after=2)
    assert parse_toxic("cut:after_bytes=0") == Cut(after_bytes=0)


GLOBS = st.text(max_size=12)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9_.-]+", fullmatch=True),
        "probability": st.floats(0, 1),
        "seed": st.integers(-(10**6), 10**12),
        "method": GLOBS,
        "target": GLOBS,
        "from": st.integers(1, 10**6),
        "times": st.integers(1, 10**6),
    },
)


@given(st.sampled_from(ALONE), FIELDS)
def test_a_toxic_written_as_text_reads_back_as_the_same(kind, fields):
    toxic = TOXICS[kind].model_validate(fields)
    assert parse_toxic(toxic_text(toxic)) == toxic


@given(st.text(max_size=60))
def test_any_text_is_a_toxic_or_is_refused_with_the_one_error(text):
    for attempt in (text, f"latency:{text}", f"cut:after={text}"):
        try:
            parse_toxic(attempt)
        except BadToxic:
            continue
