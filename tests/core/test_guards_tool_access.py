"""Tools that are not allowed can neither be called nor seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.interceptors import Block, Continue
from shadowcat_core.interceptors.guards import HideTools, RefuseCalls, ToolPolicy
from shadowcat_core.jsonrpc import ErrorCode
from tests.core.guarding import ASKS, answer, call, context_of, one, raw, through, verdict
from tests.core.interception import FRAMINGS

# allow, deny, allowed names, names that are not
POLICIES = [
    ((), ("delete_*",), ["echo", "undelete_x", "Delete_x"], ["delete_", "delete_all", "delete_a\nb"]),
    (("read_*", "echo"), (), ["echo", "read_x"], ["echo2", "xecho", "write", ""]),
    (("*",), ("rm", "r?"), ["r", "rmm"], ["rm", "rx"]),
    (("[ab]*",), ("a[!1]",), ["a1", "b2"], ["a2", "c"]),
    ((), (), ["anything", ""], []),
]


@pytest.mark.parametrize(("allow", "deny", "allowed", "refused"), POLICIES)
def test_a_policy_goes_by_globs_and_denying_wins(allow, deny, allowed, refused):
    policy = ToolPolicy(allow, deny)
    assert [name for name in [*allowed, *refused] if policy.allows(name)] == allowed


@pytest.mark.parametrize("lists", [([""], ()), ((), ["a", ""])])
def test_an_empty_glob_is_refused(lists):
    with pytest.raises(ValueError, match="empty glob"):
        ToolPolicy(*lists)


NO_RM = ToolPolicy(deny=["rm*"])


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_call_that_is_not_allowed_is_answered_with_an_error_that_names_the_tool(framing):
    passed, replies = through(RefuseCalls(NO_RM), call("rm_all"), ASKS, framing)
    assert passed == []
    assert replies == [
        {"jsonrpc": "2.0", "id": 7, "error": {
            "code": int(ErrorCode.BLOCKED), "message": "the tool rm_all is not allowed here",
            "data": {"tool": "rm_all"}}},
    ]  # fmt: skip
    assert through(RefuseCalls(NO_RM), call("echo"), ASKS, framing) == ([call("echo")], [])


@pytest.mark.parametrize("params", [{}, None, [], {"name": None}, {"name": ["rm"]}, {"Name": "rm"}])
def test_a_call_that_names_no_tool_is_refused(params):
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    assert "names no tool" in verdict(RefuseCalls(NO_RM), message, ASKS).reason


def test_the_last_name_counts_as_it_does_for_servers():
    assert isinstance(verdict(RefuseCalls(NO_RM), raw(call("X")).replace(b'"X"', b'"echo","name":"rm"'), ASKS), Block)
    hidden = raw(call("rm")).replace(b'"method"', b'"method":"ping","\\u006dethod"')
    assert through(RefuseCalls(NO_RM), hidden, ASKS)[0] == []


def test_other_methods_are_left_alone():
    prompt = {"jsonrpc": "2.0", "id": 7, "method": "prompts/get", "params": {"name": "rm"}}
    assert through(RefuseCalls(NO_RM), prompt, ASKS) == ([prompt], [])


def listing(*names, **more):
    return answer({"tools": [{"name": name, "inputSchema": {}} for name in names], **more})


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("method", ["tools/list", None])
def test_tools_that_are_not_allowed_vanish_from_lists_and_everything_else_stays(framing, method):
    page = listing("rm", "echo", "rmdir", "add", nextCursor="c2", ttlMs=5, _meta={"x": 1}, resultType="complete")
    kept = listing("echo", "add", nextCursor="c2", ttlMs=5, _meta={"x": 1}, resultType="complete")
    assert one(HideTools(NO_RM), page, context_of(method), framing) == kept


def test_what_was_hidden_is_the_reason():
    many = listing(*(f"rm{n}" for n in range(7)), "echo")
    assert verdict(HideTools(NO_RM), many, context_of("tools/list")).reason == (
        "not allowed, so not listed: rm0, rm1, rm2, rm3, rm4 and 2 more"
    )


@pytest.mark.parametrize(
    "message",
    [
        answer({"rm": {}}),
        answer({"tools": {"rm": {}}}),
        answer({"content": [{"type": "text", "text": "tools"}]}),
        answer("tools"),
        listing("echo"),
        listing(),
        {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "no tools"}},
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
        b'["tools"]',
        b"tools are ready",
    ],
)
def test_what_lists_no_denied_tool_passes(message):
    assert verdict(HideTools(NO_RM), message, context_of("tools/list")) == Continue()


def test_the_result_of_another_method_may_have_tools_of_its_own():
    assert verdict(HideTools(NO_RM), listing("rm"), context_of("tools/call")) == Continue()


@pytest.mark.parametrize("tool", [None, 5, {}, {"name": 5}, []])
def test_a_listed_tool_without_a_name_vanishes_too(tool):
    assert one(HideTools(NO_RM), answer({"tools": [tool]}), context_of("tools/list")) == answer({"tools": []})


def test_a_list_that_is_spelled_in_escapes_or_cannot_be_read_is_no_way_round():
    escaped = raw(listing("rm")).replace(b'"tools"', b'"\\u0074ools"')
    assert one(HideTools(NO_RM), escaped, context_of("tools/list")) == listing()
    twice = raw(listing("rm")).replace(b'"result"', b'"result":{"tools":[]},"result"')
    assert one(HideTools(NO_RM), twice, context_of("tools/list")) == listing()
    assert through(HideTools(NO_RM), raw(listing("rm"))[:-1], context_of("tools/list")) == ([], [])


@given(st.lists(st.text(max_size=5)), st.lists(st.text(alphabet="ab*?[]!", min_size=1, max_size=4), max_size=3))
def test_what_is_listed_can_be_called_and_nothing_else(names, deny):
    policy = ToolPolicy(deny=deny)
    listed = one(HideTools(policy), listing(*names), context_of("tools/list"))
    assert [tool["name"] for tool in listed["result"]["tools"]] == [
        name for name in names if verdict(RefuseCalls(policy), call(name), ASKS) == Continue()
    ]
