"""No result beyond the cap passes, and who gets less is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.interceptors import Block, Continue, Modify
from shadowcat_core.interceptors.guards import CapResults, Excess
from shadowcat_core.jsonrpc import dump
from tests.core.guarding import answer, context_of, one, raw, text, through, verdict
from tests.core.interception import FRAMINGS

CALL = context_of("tools/call")
CUT = CapResults(400, Excess.TRUNCATE)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_result_that_is_too_large_becomes_an_error_with_its_id(framing):
    large = answer(text("x" * 1000), "a")
    error = one(CapResults(400), large, CALL, framing)
    assert error["id"] == "a"
    assert error["error"]["code"] == -31010
    assert error["error"]["message"].endswith("bytes; no more than 400 are let through")
    assert error["error"]["data"]["maxBytes"] == 400


def test_a_result_at_the_limit_passes():
    limit = len(raw(answer(text("x" * 100))))
    for excess in Excess:
        assert verdict(CapResults(limit, excess), answer(text("x" * 100)), CALL) == Continue()
        assert verdict(CapResults(limit - 1, excess), answer(text("x" * 100)), CALL) != Continue()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_tools_text_is_cut_with_a_note(framing):
    passed = one(CUT, answer({**text("a", "b" * 1000, "c"), "isError": False}), CALL, framing)
    first, cut, note = passed["result"]["content"]
    assert first == {"type": "text", "text": "a"}
    assert set(cut["text"]) == {"b"}
    assert note["text"].startswith("[truncated by shadowcat: 1,")
    assert passed["result"]["isError"] is False
    assert 380 <= len(dump(passed)) <= 400


def test_content_that_does_not_fit_is_left_out_and_what_fits_is_kept():
    image = {"type": "image", "data": "x" * 1000, "mimeType": "image/png"}
    result = {"content": [image, {"type": "text", "text": "short"}, 5]}
    kept = one(CUT, answer(result), CALL)["result"]["content"]
    assert kept[:2] == [{"type": "text", "text": "short"}, 5]
    assert len(kept) == 3


def test_long_texts_of_structured_content_are_cut_and_say_so():
    structured = {"result": "y" * 1000, "n": [1, None, "short"]}
    result = one(CUT, answer({**text("x" * 1000), "structuredContent": structured}), CALL)["result"]
    assert result["structuredContent"]["n"] == structured["n"]
    assert result["structuredContent"]["result"].strip("y") == "…[truncated]"
    first, note = result["content"]
    assert set(first["text"]) == {"x"}
    assert "truncated" in note["text"]
    short = one(CUT, answer({**text("short"), "structuredContent": structured}), CALL)["result"]
    assert short["content"][0] == {"type": "text", "text": "short"}
    assert "truncated" in short["content"][1]["text"]
    small = one(CUT, answer({**text("x" * 1000), "structuredContent": {"n": 1}}), CALL)["result"]
    assert small["structuredContent"] == {"n": 1}


def test_a_result_that_is_only_written_wastefully_is_rewritten_without_a_note():
    wasteful = raw(answer(text("x"))).replace(b"{", b"{" + b" " * 500, 1)
    assert one(CUT, wasteful, CALL) == answer(text("x"))


@pytest.mark.parametrize(
    "result",
    [
        {**text("a"), "structuredContent": {"rows": [1] * 1000}},
        {**text("a"), "_meta": {"rows": "x" * 1000}},
        {"content": "x" * 1000},
        {"contents": [{"uri": "file:///a", "text": "x" * 1000}]},
        ["x" * 1000],
    ],
)
def test_where_text_cannot_be_cut_an_error_takes_its_place(result):
    assert isinstance(verdict(CUT, answer(result), CALL), Block)


def test_an_error_that_is_too_large_is_capped_too():
    error = {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "x" * 1000}}
    assert isinstance(verdict(CUT, error, CALL), Block)


@pytest.mark.parametrize(
    ("context", "result", "every", "capped"),
    [
        (context_of("tools/list"), {"tools": ["x" * 1000]}, False, False),
        (context_of("tools/list"), {"tools": ["x" * 1000]}, True, True),
        (context_of(None), text("x" * 1000), False, True),
        (context_of(None), {"contents": ["x" * 1000]}, False, False),
        (context_of(None), ["x" * 1000], False, False),
        (context_of(None), ["x" * 1000], True, True),
    ],
)
def test_the_results_of_tools_are_capped_or_those_of_all_methods(context, result, every, capped):
    judged = verdict(CapResults(400, every=every), answer(result), context)
    assert isinstance(judged, Block) is capped


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 1000}},
        {"jsonrpc": "2.0", "id": 3, "method": "sampling/createMessage", "params": {"x": "x" * 1000}},
        b"[" + b"1," * 500 + b"1]",
        b"x" * 1000,
    ],
)
def test_what_is_no_answer_is_not_capped(message):
    assert verdict(CapResults(400, every=True), message, CALL) == Continue()


def test_a_large_message_that_cannot_be_read_does_not_pass():
    assert through(CUT, raw(answer(text("x" * 1000)))[:-1], CALL) == ([], [])


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_cap_that_nothing_could_keep_is_refused(max_bytes):
    with pytest.raises(ValueError, match="no result has less"):
        CapResults(max_bytes)


ITEMS = st.lists(
    st.text(max_size=300).map(lambda each: {"type": "text", "text": each})
    | st.text(max_size=50).map(lambda each: {"type": "image", "data": each}),
    max_size=6,
)


@given(ITEMS, st.integers(200, 2_000))
def test_what_passes_is_never_over_the_cap_and_always_a_beginning(content, cap):
    judged = verdict(CapResults(cap, Excess.TRUNCATE), answer({"content": content}), CALL)
    if not isinstance(judged, Modify):
        return
    assert len(dump(judged.content)) <= cap
    kept = judged.content["result"]["content"]
    texts = [item["text"] for item in content if "text" in item]
    shown = [item["text"] for item in kept if "text" in item]
    if kept != content:
        assert shown.pop().startswith("[truncated by shadowcat")
    for whole, beginning in zip(texts, shown, strict=False):
        assert whole.startswith(beginning)
