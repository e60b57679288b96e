"""A held message is laid out for people and back without a token changed."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.interceptors.held_text import MAX_INDENT, MAX_INDENTED_BYTES, compact, indented

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=30
)


@given(document=documents, ascii_only=st.booleans(), blanks=st.sampled_from([None, 0, 1, 3, "\t"]))
def test_it_is_laid_out_as_json_usually_is_and_back(document, ascii_only, blanks):
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=blanks).encode("utf-8", "surrogatepass")
    tight = json.dumps(document, ensure_ascii=ascii_only, separators=(",", ":")).encode("utf-8", "surrogatepass")
    laid_out = json.dumps(document, ensure_ascii=ascii_only, indent=2).encode("utf-8", "surrogatepass")
    assert indented(raw) == laid_out
    assert compact(raw) == compact(laid_out) == tight


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(rb'{"a":1.10,"b":1e3,"c":-0,"d":12345678901234567890}', id="numbers-as-they-were-written"),
        pytest.param(rb'{"method":"a","method":"b"}', id="names-that-are-there-twice"),
        pytest.param(rb'{"\u006dethod":"a\/b\ud800\"\\"}', id="escapes"),
        pytest.param(b'\xef\xbb\xbf{"a":"\xff"}', id="a-byte-order-mark-and-what-is-no-utf-8"),
        pytest.param(b'{"a":"{ [ : , ] }  two  blanks"}', id="texts"),
    ],
)
def test_no_token_is_changed(raw):
    text = indented(raw)
    assert text.count(b"\n") >= 2
    assert compact(text) == raw


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":1 2}', b"{}{}", b"NaN", b'{"a":01}', b'"a\nb"', b"[" * 1_000])
def test_what_is_no_json_is_left_alone(text):
    assert indented(text) is None
    assert compact(text) == text


def test_what_is_too_large_to_be_read_is_not_laid_out():
    large = b'["%s"]' % (b"x" * MAX_INDENTED_BYTES)
    assert indented(large) is None
    assert compact(large + b"\n") == large


def test_indents_do_not_outgrow_the_text():
    deep = b"[" * 400 + b"1," * 100_000 + b"1" + b"]" * 400
    began = time.thread_time_ns()
    text = indented(deep)
    spent_s = (time.thread_time_ns() - began) / 1e9
    assert len(text) < len(deep) * (MAX_INDENT + 2)
    assert max(map(len, text.splitlines())) <= 2 * MAX_INDENT + 2
    assert compact(text) == deep
    assert spent_s < 2
