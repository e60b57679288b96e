"""Actions give the verdicts that they name, with templates filled in from the message, and fail where they must."""

import pytest

from shadowcat_core.interceptors import Block, Continue, Pause
from shadowcat_core.interceptors.rules.templates import content_template, text_template
from shadowcat_core.limits import MAX_RULE_TEXT_BYTES
from tests.core.interception import in_virtual_time, now_s
from tests.core.rule_parts import CALL, PROGRESS, RESULT, Judge, context, file_of


def done(do, message=CALL, where=None, **rule):
    judge = Judge({"name": "it", "when": {}, "do": do, **rule})
    return judge, judge.sync(message, where)


def sent(do, message=CALL, where=None):
    judge, batch = done(do, message, where)
    assert "fail" not in judge.said, judge.failures
    return [each.payload for each in batch]


def edited(change, **more):
    return [{**CALL, "params": {**CALL["params"], **change}, **more}]


@pytest.mark.parametrize(
    ("modify", "expected"),
    [
        ({"set": {"/params/arguments/n": 6}}, edited({"arguments": {"n": 6}})),
        ({"set": {"/params/arguments/m/deep/er": 1}}, edited({"arguments": {"n": 5, "m": {"deep": {"er": 1}}}})),
        ({"set": {"/params/name": "{{ target | upper }}"}}, edited({"name": "ECHO"})),
        ({"set": {"/params/arguments": "{{ params.arguments }}"}}, [CALL]),
        ({"set": {"/params/arguments": {"was": "{{ params.arguments }}", "n": ["{{ id }}"]}}},
         edited({"arguments": {"was": {"n": 5}, "n": [1]}})),
        ({"remove": "/params/arguments"}, [{**CALL, "params": {"name": "echo"}}]),
        ({"remove": ["/params/arguments/n", "/params/none", "/nothing/there"]}, edited({"arguments": {}})),
        ({"remove": "/params/arguments/n", "set": {"/params/arguments/m": "{{ params.arguments.n }}"}},
         edited({"arguments": {"m": 5}})),
        ({"content": {"id": 1, "method": "ping"}}, [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]),
        ({"content": "{{ message }}"}, [CALL]),
    ],
)  # fmt: skip
def test_modify_sends_another_message(modify, expected):
    assert sent({"modify": modify}) == expected


@pytest.mark.parametrize(
    ("modify", "expected"),
    [
        ({"set": {"/result/content/0/text": "{{ result.content[0].text }}!"}}, [{"type": "text", "text": "hi!"}]),
        ({"set": {"/result/content/-": {"type": "text"}}}, [{"type": "text", "text": "hi"}, {"type": "text"}]),
        ({"set": {"/result/content/1/type": "x"}}, [{"type": "text", "text": "hi"}, {"type": "x"}]),
        ({"remove": "/result/content/0/text"}, [{"type": "text"}]),
        ({"remove": "/result/content/0"}, []),
        ({"remove": "/result/content/0/text/deeper"}, [{"type": "text", "text": "hi"}]),
    ],
)
def test_modify_reaches_into_arrays(modify, expected):
    (message,) = sent({"modify": modify}, RESULT, context("s2c"))
    assert message["result"]["content"] == expected


def test_a_modification_that_changes_nothing_leaves_the_bytes_as_they_came():
    raw = b'{"jsonrpc": "2.0",  "id":1, "method":"ping", "params":{"a":1}}'
    judge, batch = done({"modify": {"set": {"/params/a": 1}, "remove": "/params/b"}}, raw)
    assert batch.emit() == raw + b"\n"
    assert judge.said == []
    assert judge.hits == {"it": 1}


def test_an_edit_does_not_touch_the_message_that_others_have_seen():
    judge, batch = done({"modify": {"set": {"/params/arguments/n": 6}, "remove": "/params/name"}})
    assert batch.changes[0].before.payload == CALL
    assert judge.records[0].reason == "rule it"


@pytest.mark.parametrize("modify", [
    {"set": {"/params/name/x": 1}},
    {"set": {"/result/content/5": 1}},
    {"set": {"/result/content/x": 1}},
    {"set": {"/result/content/0/text": "{{ result.nope }}"}},
    {"set": {"/result/content/0/text": "{{ result.nope.deeper[0] }} and more"}},
    {"set": {"/result/content/0/text": "{{ result.content + 1 }}"}},
    {"set": {"/result/content/0/text": "{{ 1 / 0 }}"}},
    {"set": {"/id": "{{ headers }}"}},
    {"set": {"/jsonrpc": 1}},
    {"content": 3},
    {"content": "{{ params }}"},
])  # fmt: skip
def test_an_edit_that_does_not_fit_is_a_failure_of_the_rule(modify):
    where = context("s2c", answers=CALL)
    message = {**RESULT, "params": {"name": "x"}} if "/params/name/x" in str(modify) else RESULT
    judge, batch = done({"modify": modify}, message, where)
    assert judge.said[0] == "fail"
    assert b"interceptor rules answers failed" in batch.emit()


def test_a_failure_names_its_rule_and_lets_the_message_pass_where_the_file_says_so():
    rule = {"name": "it", "when": {}, "do": {"block": "{{ params.who }}"}}
    judge = Judge(file=file_of(rule, fail="open"))
    assert [each.payload for each in judge.sync(CALL)] == [CALL]
    assert "rule it: there is no 'who' in {{ params.who }}" in judge.records[0].reason


def test_block_answers_the_asker_with_reason_code_and_data():
    do = {"block": {"reason": "no {{ target }}", "code": -5, "data": {"was": "{{ params.arguments }}"}}}
    judge, batch = done(do)
    assert batch.emit() == b""
    error = {"code": -5, "message": "no echo (rule it)", "data": {"was": {"n": 5}}}
    assert batch.replies[0].payload == {"jsonrpc": "2.0", "id": 1, "error": error}
    assert judge.records[0].reason == "no echo (rule it)"


@pytest.mark.parametrize("do", ["block", {"block": None}, {"block": {}}])
def test_an_action_without_fields_may_be_its_name_alone(do):
    _, batch = done(do)
    assert batch.replies[0].payload["error"] == {"code": -31010, "message": "rule it"}


def test_mock_answers_with_a_result_or_an_error():
    _, batch = done({"mock": {"result": {"n": "{{ params.arguments.n + 1 }}"}}})
    assert batch.replies[0].payload == {"jsonrpc": "2.0", "id": 1, "result": {"n": 6}}
    _, batch = done({"mock": {"error": {"code": -7, "message": "{{ rule }} {{ occurrence }}", "data": [1]}}})
    assert batch.replies[0].payload["error"] == {"code": -7, "message": "it 1", "data": [1]}


def test_inject_sends_messages_around_it():
    note = {"method": "notifications/message", "params": {"data": "{{ method }}"}}
    found = sent({"inject": {"before": note, "after": [note, {**note, "params": {}}]}})
    assert [each.get("params", {}).get("data") for each in found] == ["tools/call", None, "tools/call", None]
    assert found[1] == CALL
    assert {each["jsonrpc"] for each in found} == {"2.0"}


def test_delay_waits_for_its_seconds():
    async def main():
        began = now_s()
        judge = Judge({"name": "it", "when": {}, "do": {"delay": 1.5}})
        await judge.later(CALL)
        assert judge.said == ["delay"]
        return now_s() - began

    assert in_virtual_time(main()) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("on_timeout", "said", "goes_on"),
    [
        (None, ["pause", "release"], [CALL]),
        ("continue", ["pause", "release"], [CALL]),
        ({"block": "too late for {{ target }}"}, ["pause", "block"], []),
        ({"mock": {"result": {}}}, ["pause", "mock"], []),
        ({"modify": {"set": {"/params/name": "x"}}}, ["pause", "modify"], edited({"name": "x"})),
    ],
)
def test_pause_ends_with_its_time_when_nobody_decides(on_timeout, said, goes_on):
    async def main():
        began = now_s()
        pause = {"timeout_s": 30, "reason": "look at {{ target }}"}
        judge = Judge(
            {"name": "it", "when": {}, "do": {"pause": pause | ({"on_timeout": on_timeout} if on_timeout else {})}}
        )
        batch = await judge.later(CALL)
        assert judge.said == said
        assert judge.records[0].reason == "look at echo (rule it)"
        assert [each.payload for each in batch] == goes_on
        return now_s() - began

    assert in_virtual_time(main()) == pytest.approx(30)


def test_somebody_may_decide_about_what_is_paused():
    seen = []

    async def decided():
        return Block("a person said no")

    def hold(message, timeout_s, on_timeout):
        seen.append((message.target, timeout_s, on_timeout))
        return Pause(decided(), timeout_s, on_timeout, "hold 1")

    async def main():
        judge = Judge({"name": "it", "when": {}, "do": {"pause": {"timeout_s": 30}}}, hold=hold)
        await judge.later(CALL)
        assert judge.said == ["pause", "block"]
        assert judge.records[0].reason == "hold 1: rule it"

    in_virtual_time(main())
    assert seen == [("echo", 30, Continue())]


def test_what_cannot_be_made_of_a_pause_fails_before_anybody_is_asked():
    def hold(*_):
        raise AssertionError("nobody is to be asked")

    do = {"pause": {"timeout_s": 30, "on_timeout": {"block": "{{ params.who }}"}}}
    judge = Judge({"name": "it", "when": {}, "do": do}, hold=hold)
    judge.sync(CALL)
    assert judge.said[0] == "fail"
    assert "rule it: there is no 'who' in {{ params.who }}" in judge.records[0].reason


# --- Templates ---------------------------------------------------------------------------------------------------

EVERYTHING = {
    "method": "{{ method }}", "target": "{{ target }}", "id": "{{ id }}", "kind": "{{ kind }}",
    "direction": "{{ direction }}", "session": "{{ session }}", "transport": "{{ transport }}",
    "server": "{{ server }}", "stream": "{{ stream }}", "exchange": "{{ exchange }}", "rule": "{{ rule }}",
    "occurrence": "{{ occurrence }}", "agent": "{{ headers['user-agent'] }}", "none": "{{ headers['x'] | d(none) }}",
    "whole": "{{ message.id }}",
}  # fmt: skip


def test_a_template_knows_the_message_and_where_it_comes_from():
    _, batch = done({"mock": {"result": EVERYTHING}})
    assert batch.replies[0].payload["result"] == {
        "method": "tools/call", "target": "echo", "id": 1, "kind": "request", "direction": "c2s", "session": "s-1",
        "transport": "http", "server": "http://127.0.0.1:3001/mcp", "stream": "flow", "exchange": 7, "rule": "it",
        "occurrence": 1, "agent": "probe/1.0", "none": None, "whole": 1,
    }  # fmt: skip


def test_of_an_answer_a_template_knows_the_request_and_the_result():
    do = {"modify": {"set": {"/result": ["{{ method }}", "{{ params.arguments.n }}", "{{ result.content[0].text }}"]}}}
    (message,) = sent(do, RESULT, context("s2c", answers=CALL))
    assert message["result"] == ["tools/call", 5, "hi"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ params }}", {"items": [1, 2], "keys": {"get": 3}, "text": "<&>"}),
        ("{{ params.items }}", [1, 2]),
        ("{{ params['items'][1] }}", 2),
        ("{{ params.keys.get }}", 3),
        ("{{- params.keys.get -}}", 3),
        ("{{ -params.keys.get }}", -3),
        (" {{ params.keys.get }}", " 3"),
        ("{{ params.keys.get }}{{ id }}", "31"),
        ("{{ params.pop | default(none) }}", None),
        ("{{ params.a.b['c'] | default('none there') }}", "none there"),
        ("{{ 'yes' if params.a is defined else 'no' }}", "no"),
        ("{{ params.text }}!", "<&>!"),
        ("{{ params.text | tojson }}", '"<&>"'),
        ("{{ params.text | replace('&', 'and') | upper | lower | trim }}", "<and>"),
        ("{{ params.items | length + 1 }}", 3),
        ("{{ params.items | first ~ params.items | last }}", "12"),
        ("{{ id > 0 and not id >= 2 or none }}", True),
        ("{{ [id, {'a': id // 2}] }}", [1, {"a": 0}]),
        ("{{ '{{' }} {{ id }}", "{{ 1"),
        ("no template", "no template"),
        ("100 % { sure }", "100 % { sure }"),
        (["{{ id }}", {"{{ id }}": "{{ id }}"}, 5, None], [1, {"{{ id }}": 1}, 5, None]),
    ],
)
def test_a_template_is_filled_in(template, expected):
    params = {"items": [1, 2], "keys": {"get": 3}, "text": "<&>"}
    assert content_template(template)({"params": params, "id": 1}) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ params.__class__ }}",
        "{{ params.items.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ params.items.append }}",
        "{{ 'x'.join }}",
        "{{ params['__init__'] }}",
    ],
)
def test_a_template_reaches_no_attributes_of_python(template):
    with pytest.raises(Exception, match=r"there is no '\w+' in {{"):
        content_template(template)({"params": {"items": [1]}})


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for x in params %}{% endfor %}", "For is not possible"),
        ("{% set x = 1 %}", "Assign is not possible"),
        ("{{ range }}", "there is no 'range'"),
        ("{{ params.items() }}", "nothing can be called"),
        ("{{ 'a' * 1000000000 }}", "Mul is not possible"),
        ("{{ 9 ** 9999999 }}", "Pow is not possible"),
        ("{{ '%1000000000d' % 1 }}", "Mod is not possible"),
        ("{{ 'x' | center(1000000000) }}", "no filter 'center'"),
        ("{{ parms }}", "there is no 'parms'; there are direction, error,"),
        ("{{ params", "unexpected end of template"),
        ("{{ }}", "Expected an expression"),
        ("{# a remark", "Missing end of comment"),
        ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "no template"),
    ],
)
def test_what_is_more_than_an_expression_is_refused(template, says):
    for read in (content_template, text_template):
        with pytest.raises(ValueError, match="no template") as caught:
            read(template)
        assert says in str(caught.value)


def test_what_a_template_makes_is_bounded():
    text = "a" * int(MAX_RULE_TEXT_BYTES)
    for template in ("{{ params }}{{ params }}", "{{ params ~ params }}", "{{ params | replace('a', 'bb') }}"):
        with pytest.raises(Exception, match=r"more than 4,194,304 characters"):
            content_template(template)({"params": text})


def test_a_notification_has_no_id_to_name():
    judge, _ = done({"block": "{{ id }}"}, PROGRESS)
    assert "rule it: there is no 'id' in {{ id }}" in judge.records[0].reason
