"""Conditions hold for the messages that they describe, and for no others."""

import pytest

from shadowcat_core.interceptors import Action
from shadowcat_core.interceptors.rules.conditions import kinds_of, possible
from shadowcat_core.interceptors.rules.models import Condition
from shadowcat_core.jsonrpc import Kind, dump
from shadowcat_core.limits import MAX_RULE_PATH_BYTES
from shadowcat_core.mcp import Transport
from tests.core.rule_parts import CALL, ERROR, PROGRESS, RESULT, Judge, context, file_of, holds

TO_CLIENT = context("s2c", answers=CALL)


@pytest.mark.parametrize(
    ("when", "message", "where", "expected"),
    [
        ({}, CALL, None, True),
        ({"direction": "c2s"}, CALL, None, True),
        ({"direction": "s2c"}, CALL, None, False),
        ({"kind": "request"}, CALL, None, True),
        ({"kind": ["response", "error"]}, CALL, None, False),
        ({"kind": ["response", "error"]}, ERROR, TO_CLIENT, True),
        ({"kind": "notification"}, PROGRESS, None, True),
        ({"method": "tools/call"}, CALL, None, True),
        ({"method": "tools/*"}, CALL, None, True),
        ({"method": "TOOLS/CALL"}, CALL, None, False),
        ({"method": ["ping", "tools/c?ll"]}, CALL, None, True),
        ({"method": "tools"}, CALL, None, False),
        ({"target": "echo"}, CALL, None, True),
        ({"target": "e*o"}, CALL, None, True),
        ({"target": "*"}, PROGRESS, None, False),
        ({"target": ["a", "b"]}, CALL, None, False),
        ({"session": "s-1"}, CALL, None, True),
        ({"session": {"matches": r"^s-\d$"}}, CALL, None, True),
        ({"session": {"exists": False}}, CALL, None, False),
        ({"session": {"exists": False}}, CALL, context(session_id=None), True),
        ({"session": "*"}, CALL, context(session_id=None), False),
        ({"transport": "http"}, CALL, None, True),
        ({"transport": "stdio"}, CALL, None, False),
        ({"transport": "stdio"}, CALL, context(transport=Transport.STDIO), True),
        ({"server": "http://127.0.0.1:*"}, CALL, None, True),
        ({"server": ["https://*", "wss://*"]}, CALL, None, False),
        ({"header": {"USER-agent": "probe/*"}}, CALL, None, True),
        ({"header": {"x-team": {"glob": "b*", "matches": "e$"}}}, CALL, None, True),
        ({"header": {"x-team": "red"}}, CALL, None, False),
        ({"header": {"x-none": {"exists": False}, "x-team": {"exists": True}}}, CALL, None, True),
        ({"header": {"x-team": "*"}}, CALL, context(headers=None), False),
        ({"size": {"gt": 10, "lte": len(dump(CALL))}}, CALL, None, True),
        ({"size": {"lt": len(dump(CALL))}}, CALL, None, False),
        ({"size": {"gte": len(dump(CALL))}}, CALL, None, True),
        ({"all": [{"method": "tools/*"}, {"target": "echo"}]}, CALL, None, True),
        ({"all": [{"method": "tools/*"}, {"target": "other"}]}, CALL, None, False),
        ({"any": [{"method": "ping"}, {"target": "echo"}]}, CALL, None, True),
        ({"any": [{"method": "ping"}, {"method": "tools/list"}]}, CALL, None, False),
        ({"not": {"target": "echo"}}, CALL, None, False),
        ({"method": "tools/call", "not": {"any": [{"target": "a"}, {"target": "b"}]}}, CALL, None, True),
        ({"method": "tools/call"}, RESULT, TO_CLIENT, False),
        ({"method": "tools/call", "kind": "response"}, RESULT, TO_CLIENT, True),
        ({"target": "echo", "kind": "error"}, ERROR, TO_CLIENT, True),
        ({"target": "echo", "kind": "response"}, RESULT, context("s2c"), False),
        ({"params": {"/arguments/n": 5}, "kind": "response"}, RESULT, TO_CLIENT, True),
        ({"params": {"/arguments/n": 5}, "kind": "response"}, RESULT, context("s2c"), False),
        ({"error": {"/code": -32602}}, ERROR, TO_CLIENT, True),
        ({"error": {"/code": -32602}}, RESULT, TO_CLIENT, False),
        ({"result": {"/content/0/text": "hi"}}, RESULT, TO_CLIENT, True),
        ({"result": {"$.content[*].type": "text"}, "method": "tools/*"}, RESULT, TO_CLIENT, True),
    ],
)
def test_a_condition_holds_for_what_it_describes(when, message, where, expected):
    assert holds(when, message, where) is expected


PARAMS = {
    "text": "Grüße, 世界",
    "n": 5,
    "f": 1.0,
    "yes": True,
    "none": None,
    "list": [1, {"a": "b"}],
    "": {"": "empty names"},
    "a/b": {"~": 1},
    "big": 2**70,
    "surrogate": "x\ud800secret",
}


@pytest.mark.parametrize(
    ("path", "test", "expected"),
    [
        ("/n", 5, True),
        ("/n", 5.0, True),
        ("/n", "5", False),
        ("/f", 1, True),
        ("/f", True, False),
        ("/yes", True, True),
        ("/yes", 1, False),
        ("/none", None, True),
        ("/missing", None, False),
        ("/none", {"exists": True}, True),
        ("/missing", {"exists": True}, False),
        ("/missing", {"exists": False}, True),
        ("/none", {"exists": False}, False),
        ("/text", {"matches": "^Gr"}, True),
        ("/text", {"matches": "世界$"}, True),
        ("/text", {"matches": "(?i)GRÜSSE|grüße"}, True),
        ("/n", {"matches": "5"}, False),
        ("/surrogate", {"matches": "secret"}, True),
        ("/surrogate", {"contains": "secret"}, True),
        ("/text", {"contains": "üß"}, True),
        ("/text", {"contains": 1}, False),
        ("/list", {"contains": 1.0}, True),
        ("/list", {"contains": {"a": "b"}}, True),
        ("/list", {"contains": {"a": "c"}}, False),
        ("/list/1", {"contains": "a"}, True),
        ("/n", {"contains": 5}, False),
        ("/list", {"equals": [1, {"a": "b"}]}, True),
        ("/list", {"equals": [1, {"a": "b"}, 2]}, False),
        ("/list", [1], False),
        ("/list/1", {"equals": {"a": "b"}}, True),
        ("/list/1", {"equals": {"a": "b", "c": 1}}, False),
        ("/list/0", 1, True),
        ("/list/00", 1, False),
        ("/list/-", {"exists": True}, False),
        ("/list/2", {"exists": True}, False),
        ("/list/x", {"exists": True}, False),
        ("/list/²", {"exists": True}, False),
        ("/n/deeper", {"exists": True}, False),
        ("/#n", {"exists": True}, False),
        ("//", "empty names", True),
        ("/a~1b/~0", 1, True),
        ("", {"contains": "n"}, True),
        ("/n", {"gt": 4, "lt": 6}, True),
        ("/n", {"gt": 5}, False),
        ("/n", {"gte": 5, "lte": 5}, True),
        ("/yes", {"gt": 0}, False),
        ("/text", {"gt": 0}, False),
        ("/big", {"gt": 2**70 - 1}, True),
        ("/big", {"gt": 2**70}, False),
        ("/big", 2**70, True),
        ("/n", {"one_of": [1, 5]}, True),
        ("/n", {"one_of": []}, False),
        ("$.list[*].a", "b", True),
        ("$..a", {"matches": "b"}, True),
        ("$.list[?@.a == 'b'].a", {"exists": True}, True),
        ("$.list[?@.a == 'c']", {"exists": False}, True),
        ("$.list[*]", {"exists": False}, False),
        ("$.text.length", {"exists": True}, False),
        ("$['a/b']", {"contains": "~"}, True),
    ],
)
def test_a_value_is_found_and_compared_as_json_has_it(path, test, expected):
    raw = dump({"jsonrpc": "2.0", "method": "m", "params": PARAMS})
    assert holds({"params": {path: test}}, raw) is expected


@pytest.mark.parametrize("params", ['"{\\"a\\":1}"', "null", "3", "[]", "{}"])
def test_parameters_of_any_shape_are_looked_into_without_an_error(params):
    raw = b'{"jsonrpc":"2.0","method":"m","params":%s}' % params.encode()
    assert not holds({"params": {"/a": {"exists": True}}}, raw)
    assert not holds({"params": {"$.a": {"exists": True}}}, raw)
    assert holds({"params": {"$..a": {"exists": False}}}, raw)
    assert holds({"params": {"": {"exists": False}}}, {"jsonrpc": "2.0", "method": "m"})


@pytest.mark.parametrize(
    ("when", "kinds"),
    [
        ({}, set(Kind)),
        ({"size": {"gt": 1}}, set(Kind)),
        ({"method": "x"}, {Kind.REQUEST, Kind.NOTIFICATION}),
        ({"any": [{"target": "x"}]}, {Kind.REQUEST, Kind.NOTIFICATION}),
        ({"not": {"params": {"/a": 1}}}, {Kind.REQUEST, Kind.NOTIFICATION}),
        ({"method": "x", "result": {"/a": 1}}, {Kind.RESPONSE, Kind.ERROR}),
        ({"any": [{"error": {"/code": 1}}, {"method": "x"}]}, {Kind.RESPONSE, Kind.ERROR}),
        ({"method": "x", "kind": "response"}, {Kind.RESPONSE}),
        ({"any": [{"kind": "response"}, {"kind": "request"}], "method": "x"}, {Kind.RESPONSE, Kind.REQUEST}),
        ({"not": {"kind": "request"}, "method": "x"}, set(Kind)),
        ({"all": [{"kind": ["error", "request"]}, {"kind": "error"}]}, {Kind.ERROR}),
    ],
)
def test_which_kinds_a_rule_is_about_can_be_told_beforehand(when, kinds):
    assert kinds_of(Condition.model_validate(when)) == kinds


@pytest.mark.parametrize(
    ("when", "methods"),
    [
        ({}, None),
        ({"method": ["a", "b"]}, {"a", "b"}),
        ({"method": ["a", "b*"]}, None),
        ({"all": [{"method": ["a", "b"]}, {"method": ["b", "c"]}]}, {"b"}),
        ({"any": [{"method": "a"}, {"method": "b"}]}, {"a", "b"}),
        ({"any": [{"method": "a"}, {"target": "b"}]}, None),
        ({"method": "a", "any": [{"method": "b"}, {"target": "b"}]}, {"a"}),
        ({"not": {"method": "a"}}, None),
        ({"method": "a", "all": [{"method": "b"}]}, set()),
    ],
)
def test_which_methods_a_condition_leaves_possible_can_be_told_beforehand(when, methods):
    assert possible(Condition.model_validate(when), "method") == methods


def test_a_path_is_not_looked_for_in_a_message_over_the_limit_and_a_pointer_is():
    text = "x" * (MAX_RULE_PATH_BYTES + 1)
    large = {**PROGRESS, "params": {"text": text}}
    assert holds({"params": {"/text": {"matches": "x$"}}}, large)
    judge = Judge({"name": "it", "when": {"params": {"$.text": {"exists": True}}}, "do": {"modify": {"remove": "/id"}}})
    judge.sync(large)
    assert judge.said[0] == Action.FAIL
    assert "rule it: $.text is not looked for in a message of 1,048," in judge.records[0].reason


def test_a_path_that_meets_too_much_depth_is_a_failure_of_its_rule():
    nested = b'{"a":' * 200 + b"1" + b"}" * 200
    judge = Judge({"name": "it", "when": {"params": {"$..b": {"exists": True}}}, "do": {"block": {}}})
    judge.sync(b'{"jsonrpc":"2.0","method":"m","params":%s}' % nested)
    assert "rule it: $..b: recursion limit exceeded" in judge.records[0].reason


def test_no_expression_hangs_on_a_text_made_to_hang_it():
    text = "a" * 200_000 + "!"
    for pattern in ("(a+)+$", "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*b"):
        assert not holds({"params": {"/text": {"matches": pattern}}}, {**PROGRESS, "params": {"text": text}})
    assert not holds({"method": "a" + "*a" * 30 + "*b"}, {**PROGRESS, "method": "a" * 5_000})


def test_a_name_that_is_there_twice_counts_as_endpoints_read_it():
    raw = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"name":"ok","name":"rm"},"method":"tools/call"}'
    assert holds({"method": "tools/call", "target": "rm"}, raw)
    assert holds({"method": "tools/c*", "target": "rm"}, raw)
    assert holds({"method": "tools/call", "params": {"/name": "rm"}}, raw)
    assert not holds({"method": "ping"}, raw)
    escaped = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"\\u006dethod":"tools/call"}'
    assert holds({"method": "tools/*"}, escaped)


def test_a_request_that_is_no_json_rpc_is_judged_as_a_lenient_endpoint_would_read_it():
    for body, kind in ((b'"id":1,', "request"), (b"", "notification")):
        raw = b'{"jsonrpc":"1.0",%s"method":"tools/call","params":{"name":"rm"}}' % body
        assert holds({"method": "tools/call", "target": "rm"}, raw)
        assert holds({"method": "tools/*"}, raw)
        assert holds({"kind": kind}, raw)
        assert holds({"kind": "invalid"}, raw)
        assert not holds({"kind": {"request": "notification"}.get(kind, "request")}, raw)


def test_rules_can_be_given_as_one_json_document():
    assert file_of({"when": {}, "do": "continue"}).rules[0].name == "rule-1"
