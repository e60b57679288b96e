"""A set of rules in a pipeline: who decides, who is asked at all, what is counted, and what a reload keeps."""

import pytest

from shadowcat_core.interceptors import Mode
from shadowcat_core.interceptors.rules import RuleSet
from shadowcat_core.limits import MAX_RULE_COUNTERS
from tests.core.rule_parts import CALL, ERROR, PROGRESS, RESULT, Judge, context, file_of

BLOCK = {"block": {}}


def rule(name, do=None, /, **when):
    return {"name": name, "when": when, "do": do or BLOCK}


def test_the_first_rule_that_holds_decides():
    judge = Judge(rule("no", method="ping"), rule("one", target="e*"), rule("two", method="tools/call"), rule("all"))
    judge.sync(CALL)
    assert judge.hits == {"no": 0, "one": 1, "two": 0, "all": 0}
    assert [record.reason for record in judge.records] == ["rule one"]


def test_order_counts_whatever_finds_a_rule():
    rules = [
        rule("by target", target="echo", params={"/arguments/n": 0}),
        rule("by method", method="tools/call", params={"/arguments/n": {"lt": 2}}),
        rule("by both", method="tools/call", target="echo", params={"/arguments/n": {"lt": 3}}),
        rule("by glob", method="tools/*", params={"/arguments/n": {"lt": 4}}),
        rule("by nothing", kind="request"),
    ]
    for n, name in enumerate(each["name"] for each in rules):
        judge = Judge(*rules)
        judge.sync({**CALL, "params": {"name": "echo", "arguments": {"n": n}}})
        assert [hit for hit, count in judge.hits.items() if count] == [name]


def test_continue_ends_the_search():
    judge = Judge(rule("yes", "continue", target="echo"), rule("no", method="tools/call"))
    assert [message.payload for message in judge.sync(CALL)] == [CALL]
    assert judge.hits == {"yes": 1, "no": 0}
    assert judge.records == []


# --- What is shown to whom ---------------------------------------------------------------------------------------


def interests(*rules):
    return {
        stage.settings.name: (stage.interest.methods, stage.interest.kinds, stage.interest.direction)
        for stage in Judge(*rules).pipeline.stages
    }


ANSWERS = frozenset({"response", "error"})


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], {}),
        ([rule("a", method="a"), rule("b", method=["b", "c"])], {"rules": ({"a", "b", "c"}, None, None)}),
        ([rule("a", method="a", direction="c2s")], {"rules": ({"a"}, None, "c2s")}),
        ([rule("a", method="a", direction="c2s"), rule("b", method="b")], {"rules": ({"a", "b"}, None, None)}),
        ([rule("a", method="a"), rule("b", method="b*")], {"rules": (None, None, None)}),
        ([rule("a", method="a", kind="response")], {"rules answers": (None, ANSWERS, None)}),
        ([rule("a", result={"/a": 1}, direction="s2c")], {"rules answers": (None, ANSWERS, "s2c")}),
        (
            [rule("a", method="a"), rule("b", result={"/a": 1}, direction="s2c")],
            {"rules": ({"a"}, None, None), "rules answers": (None, ANSWERS, "s2c")},
        ),
        ([rule("a", size={"gt": 1})], {"rules": (None, None, None), "rules answers": (None, ANSWERS, None)}),
        ([rule("a", kind="invalid")], {"rules": (None, None, None)}),
    ],
)
def test_a_pipeline_shows_rules_what_they_may_be_about_and_nothing_else(rules, expected):
    assert interests(*rules) == expected


def test_a_message_that_its_bytes_rule_out_is_not_parsed():
    judge = Judge(rule("a", method="tools/*"), rule("b", method="ping"))
    batch = judge.sync(PROGRESS)
    assert batch[0]._envelope is None
    answers = judge.sync(RESULT)
    assert answers[0]._envelope is None


def test_names_that_a_peer_invents_cost_no_memory(monkeypatch):
    monkeypatch.setattr("shadowcat_core.interceptors.rules.index.MAX_RULE_FINDS", 50)
    judge = Judge(rule("a", method="tools/*", target="t*"), rule("b", method="x"))
    (interceptor,) = judge.set.interceptors.values()
    for number in range(100):
        judge.sync({**CALL, "params": {"name": f"t{number}"}})
        judge.sync({**PROGRESS, "method": f"tools/{number}"})
        assert interceptor.index.kept <= 50
        assert sum(len(each.found) for each in interceptor.index._by_method.values()) <= 50
    assert judge.hits == {"a": 100, "b": 0}


UNREADABLE = [b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":NaN}}', b'{"id":1', b"[1"]


@pytest.mark.parametrize("raw", UNREADABLE)
@pytest.mark.parametrize(
    "when", [{"method": "tools/call"}, {"method": "tools/*"}, {"target": "x"}, {"result": {"/a": 1}}]
)
def test_what_cannot_be_read_meets_the_policy_of_the_file(raw, when):
    for fail, goes_on in (("open", raw), ("closed", None)):
        judge = Judge(file=file_of(rule("it", **when), fail=fail))
        batch = judge.sync(raw)
        assert judge.said[0] == "fail"
        assert (batch.emit().rstrip() or None) == goes_on


def test_what_cannot_be_read_is_judged_by_what_there_is_to_see():
    unreadable = UNREADABLE[0]
    for when in ({"size": {"gt": 10}}, {"kind": "invalid"}, {"session": "s-*"}, {}):
        judge = Judge(rule("it", **when))
        judge.sync(unreadable)
        assert (judge.said, judge.hits) == (["block"], {"it": 1})
    elsewhere = Judge(rule("it", method="tools/*", session="other"), rule("that", target="x", direction="s2c"))
    assert elsewhere.sync(unreadable).emit() == unreadable + b"\n"
    assert elsewhere.said == []
    before = Judge(rule("first", size={"gt": 10}), rule("second", method="tools/*"))
    before.sync(unreadable)
    assert before.said == ["block"]
    behind = Judge(rule("first", method="tools/*"), rule("second", size={"gt": 10}))
    behind.sync(unreadable)
    assert behind.said[0] == "fail"
    assert "rule first may be about it" in behind.records[0].reason


def test_text_that_is_nobodys_json_is_left_alone_by_rules_about_messages():
    judge = Judge(rule("it", method="tools/*"), rule("that", result={"/a": 1}))
    assert judge.sync(b"/messages?session=1").emit() == b"/messages?session=1\n"
    assert judge.said == []


# --- Audit -------------------------------------------------------------------------------------------------------


def test_an_audited_rule_is_recorded_and_not_carried_out():
    judge = Judge({**rule("dry", method="tools/call"), "mode": "audit"}, rule("wet", method="ping"))
    assert [message.payload for message in judge.sync(CALL)] == [CALL]
    (record,) = judge.records
    assert (record.mode, record.action, record.reason) == (Mode.AUDIT, "block", "rule dry")
    judge.sync({**CALL, "method": "ping"})
    assert [(each.mode, each.reason) for each in judge.records[1:]] == [(Mode.ENFORCE, "rule wet")]
    assert judge.hits == {"dry": 1, "wet": 1}


def test_an_audited_rule_says_what_it_would_do_in_its_place_among_the_others():
    rules = [rule("yes", "continue", target="echo"), {**rule("dry", method="tools/call"), "mode": "audit"}]
    judge = Judge(*rules)
    judge.sync(CALL)
    assert judge.records == []
    judge.sync({**CALL, "params": {"name": "other"}})
    assert [record.reason for record in judge.records] == ["rule dry"]
    assert judge.hits == {"yes": 1, "dry": 1}


def test_a_file_in_mode_audit_does_nothing():
    rules = rule("a", method="tools/call"), rule("b", {"mock": {"result": {}}}, result={"/content": {"exists": True}})
    judge = Judge(file=file_of(*rules, mode="audit"))
    assert [message.payload for message in judge.sync(CALL)] == [CALL]
    judge.sync(RESULT, context("s2c", answers=CALL))
    assert judge.said == ["block", "mock"]
    assert {stage.settings.mode for stage in judge.pipeline.stages} == {Mode.AUDIT}


def test_a_rehearsal_keeps_its_own_count():
    rules = [rule("second", nth=2, method="tools/call"), {**rule("dry", size={"gt": 1}), "mode": "audit"}]
    judge = Judge(*rules)
    for _ in range(4):
        judge.sync(CALL)
    assert [(record.mode, record.reason) for record in judge.records] == [
        (Mode.AUDIT, "rule dry"),
        (Mode.ENFORCE, "rule second"),
        (Mode.AUDIT, "rule dry"),
        (Mode.AUDIT, "rule dry"),
    ]


def test_a_rehearsal_counts_what_audited_rules_are_not_about():
    rules = [rule("second", nth=2), {**rule("dry", error={"/code": {"exists": True}}), "mode": "audit"}]
    judge = Judge(*rules)
    judge.sync(CALL)
    judge.sync(ERROR, context("s2c"))
    assert [(record.mode, record.reason) for record in judge.records] == [(Mode.ENFORCE, "rule second")]


# --- Counting and chance -----------------------------------------------------------------------------------------


def acted(when, messages, **more):
    """The numbers, from 1, of the messages that a rule acts on."""
    judge = Judge(file=file_of(rule("it", **when), **more))
    numbers = []
    for number, (message, where) in enumerate(messages, 1):
        before = judge.hits["it"]
        judge.sync(message, where)
        if judge.hits["it"] > before:
            numbers.append(number)
    return numbers


@pytest.mark.parametrize(
    ("nth", "expected"),
    [
        (2, [2]),
        ([1, 3], [1, 3]),
        ({"at": 4}, [4]),
        ({"every": 2}, [2, 4, 6]),
        ({"first": 2}, [1, 2]),
        ({"after": 4}, [5, 6]),
        ({"after": 0}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_nth_counts_what_a_rule_holds_for(nth, expected):
    assert acted({"nth": nth, "method": "tools/call"}, [(CALL, None)] * 6) == expected


def test_what_a_rule_does_not_hold_for_is_not_counted():
    other = {**CALL, "params": {"name": "other"}}
    assert acted({"nth": 2, "target": "echo"}, [(CALL, None), (other, None), (other, None), (CALL, None)]) == [4]


def test_sessions_and_streams_are_counted_apart():
    a, b = context(session_id="a", stream_id="1"), context(session_id="b", stream_id="2")
    c = context(session_id="b", stream_id="3")
    came = [(CALL, a), (CALL, b), (CALL, a), (CALL, c), (CALL, c)]
    assert acted({"nth": {"at": 2, "per": "session"}}, came) == [3, 4]
    assert acted({"nth": {"at": 2, "per": "stream"}}, came) == [3, 5]


def test_counters_of_sessions_are_bounded_and_the_oldest_is_forgotten():
    judge = Judge(rule("it", "continue", nth={"at": 2, "per": "session"}))
    for number in range(MAX_RULE_COUNTERS + 1):
        judge.sync(CALL, context(session_id=str(number)))
    assert len(judge.set.rules[0].occurrences._counts) == MAX_RULE_COUNTERS
    judge.sync(CALL, context(session_id="1"))
    assert judge.hits == {"it": 1}
    judge.sync(CALL, context(session_id="0"))  # forgotten, so this is its first again
    assert judge.hits == {"it": 1}


def test_chance_is_the_same_for_the_same_seed_and_depends_on_no_other_rule():
    came = [(CALL, None)] * 200
    when = {"probability": 0.25, "method": "tools/call"}
    first = acted(when, came)
    assert 20 < len(first) < 80
    assert acted(when, came) == first
    assert acted(when, came, seed=1) != first
    assert acted({**when, "probability": 0}, came) == []
    assert acted({**when, "probability": 1}, came) == [*range(1, 201)]
    assert acted({**when, "nth": {"every": 2}}, came) != first


def test_the_seed_of_the_file_goes_before_the_one_given():
    file, other = file_of(rule("it", probability=0.5), seed=3), file_of(rule("it", probability=0.5))
    assert (RuleSet(file, seed=9).seed, RuleSet(other, seed=9).seed, RuleSet(other).seed) == (3, 9, 0)


# --- Reload ------------------------------------------------------------------------------------------------------


def reloaded(judge, *rules, **more):
    new = RuleSet(file_of(*rules, **more), previous=judge.set)
    new.succeed(judge.set, judge.pipeline, "rules")
    judge.set = new


def test_a_reload_exchanges_the_rules_and_keeps_the_count_of_those_that_are_the_same():
    judge = Judge(rule("same", nth={"every": 3}, target="echo"), rule("other", nth=1, method="tools/call"))
    judge.sync(CALL)
    reloaded(
        judge,
        rule("new", method="ping"),
        rule("same", nth={"every": 3}, target="echo"),
        rule("other", nth=1, target="x"),
    )
    judge.sync(CALL)
    judge.sync(CALL)
    assert judge.hits == {"new": 0, "same": 1, "other": 0}
    assert len(judge.pipeline.stages) == 1


def test_a_reload_may_change_what_the_set_is_about_its_mode_and_its_policy():
    judge = Judge(rule("a", method="tools/call"))
    reloaded(judge, rule("a", result={"/content": {"exists": True}}))
    judge.sync(CALL)
    assert judge.records == []
    judge.sync(RESULT, context("s2c"))
    assert judge.said == ["block"]
    reloaded(judge, {**rule("a", method="tools/call"), "mode": "audit"}, fail="open")
    judge.sync(CALL)
    assert judge.records[-1].mode is Mode.AUDIT
    (stage,) = judge.pipeline.stages
    assert (stage.settings.name, stage.settings.fail) == ("rules (audit)", "open")
    reloaded(judge)
    assert judge.pipeline.stages == ()


def test_another_seed_begins_chance_anew():
    judge = Judge(rule("it", probability=0.5))
    judge.sync(CALL)
    reloaded(judge, rule("it", probability=0.5), seed=5)
    assert judge.set.rules[0].occurrences.count == 0
