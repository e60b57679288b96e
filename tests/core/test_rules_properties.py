"""Indexed, routed and split as they are, rules decide what a literal reading of their page would decide."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.interceptors import Block, Continue
from shadowcat_core.interceptors.rules.rule import CompiledRule
from shadowcat_core.interceptors.rules.rule_set import until_timeout
from shadowcat_core.interceptors.rules.subject import Subject
from shadowcat_core.jsonrpc import dump
from shadowcat_core.messages import Message
from tests.core.rule_parts import CALL, ERROR, RESULT, Judge, context, file_of

BLOCK = {"block": {}}
METHODS = ["tools/call", "tools/list", "ping", "notifications/progress", "x"]
NAMES = ["echo", "delete_all", "delete_", "*"]
VALUE_TESTS = st.sampled_from([1, "a", {"gt": 0}, {"exists": False}, {"matches": "^a"}, {"contains": "a"}])
PATHS = st.sampled_from(["/name", "/n", "", "/list/0", "$..n", "$.list[*]"])
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.lists(st.sampled_from(["request", "notification", "response", "error", "invalid"]), min_size=1),
        "method": st.lists(st.sampled_from([*METHODS, "tools/*", "*", "no*"]), min_size=1, max_size=2),
        "target": st.lists(st.sampled_from([*NAMES, "delete_*"]), min_size=1, max_size=2),
        "direction": st.sampled_from(["c2s", "s2c"]),
        "size": st.fixed_dictionaries({"gt": st.sampled_from([10, 80, 100])}),
        "session": st.sampled_from(["s-*", "other"]),
        "params": st.dictionaries(PATHS, VALUE_TESTS, max_size=1),
        "result": st.dictionaries(PATHS, VALUE_TESTS, max_size=1),
    },
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "all": st.lists(inner, min_size=1, max_size=2),
            "any": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "method": st.sampled_from(METHODS),
        },
    ),
    max_leaves=4,
)
RULES = st.lists(
    st.builds(
        lambda when, nth, mode: {"when": {**when, **({"nth": nth} if nth else {})}, "do": BLOCK, "mode": mode},
        CONDITIONS,
        st.sampled_from([None, None, 2, {"every": 2}]),
        st.sampled_from(["enforce", "enforce", "audit"]),
    ),
    max_size=6,
)
PARAMS = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(NAMES), "n": st.sampled_from([0, 1, "a"]), "list": st.just([1, "ab"])}
)
CALLS = st.builds(
    lambda method, params, extra: {"jsonrpc": "2.0", "method": method, "params": params, **extra},
    st.sampled_from(METHODS),
    PARAMS,
    st.sampled_from([{}, {"id": 1}, {"jsonrpc": "1.0", "id": 1}]),
)
MESSAGES = st.one_of(
    CALLS,
    st.builds(lambda result: {**RESULT, "result": result}, PARAMS),
    st.just(ERROR),
    st.sampled_from([{"id": 1}, [], b'{"method":"ping","params":{"a":NaN}}', b"talk"]),
)


class Literally:
    """The page's words: each rule in order, each asked about everything."""

    def __init__(self, file):
        audited = [each.mode == "audit" for each in file.rules]
        self.enforced = [self.compiled(each) for each, dry in zip(file.rules, audited, strict=True) if not dry]
        self.rehearsed = [self.compiled(each) for each in file.rules] if any(audited) else []
        self.audited = {each.name for each, dry in zip(file.rules, audited, strict=True) if dry}

    @staticmethod
    def compiled(each):
        return CompiledRule(each, seed=0, hold=until_timeout)

    def judge(self, message):
        said = []
        dry = self.first(self.rehearsed, message)
        if dry in self.audited or dry == "fail":
            said.append(("audit", dry))
        wet = self.first(self.enforced, message)
        return [*said, ("enforce", wet)] if wet else said

    @staticmethod
    def first(rules, message):
        subject = Subject(message)
        for each in rules:
            verdict = each.judge(subject)
            if isinstance(verdict, Block):
                return each.name
            assert verdict is None or isinstance(verdict, Continue)
        return None


READABLE = MESSAGES.filter(
    lambda message: isinstance(message, dict) and ("method" in message or message.get("jsonrpc"))
)


@settings(max_examples=400)
@given(RULES, st.lists(st.tuples(READABLE, st.booleans(), st.booleans()), max_size=6))
def test_the_index_and_the_pipeline_find_what_asking_every_rule_would_find(rules, messages):
    file = file_of(*rules)
    judge, literally = Judge(file=file), Literally(file)
    for message, to_client, known in messages:
        where = context("s2c" if to_client else "c2s", answers=CALL if known else None)
        judge.records.clear()
        judge.sync(message, where)
        said = [(str(each.mode), each.reason.removeprefix("rule ")) for each in judge.records]
        assert said == literally.judge(Message(dump(message), where))


@settings(max_examples=200)
@given(RULES, st.lists(MESSAGES, max_size=4))
def test_no_message_makes_rules_fail_but_one_that_cannot_be_read(rules, messages):
    judge = Judge(file=file_of(*rules))
    for message in messages:
        judge.sync(message)
    reasons = [record.reason for record in judge.records if record.action == "fail"]
    assert all(reason.startswith("UnroutableMessage") for reason in reasons)
    assert judge.pipeline.sink_failures == 0
