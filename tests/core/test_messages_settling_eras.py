"""A result that is given in a server's place has what the era of its request requires, and otherwise stays as it is."""

import json
from dataclasses import replace

import pytest

from shadowcat_core.interceptors import Mock, apply
from shadowcat_core.mcp import PROTOCOL_VERSION_HEADER as VERSION
from shadowcat_core.messages import Message, MessageBatch, RpcError
from tests.core.interception import TO_CLIENT, TO_SERVER

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
OLD_META = {"io.modelcontextprotocol/protocolVersion": "2025-11-25"}
RESULT = {"content": [{"type": "text", "text": "hi"}]}
COMPLETE = {"resultType": "complete"}
FRESH = {"ttlMs": 0, "cacheScope": "private"}


def request(method, params):
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()


CALL = request("tools/call", {"name": "echo", "_meta": META})
OLD_CALL = request("tools/call", {"name": "echo"})
ANSWER = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'


def answered(raw, result, context=TO_SERVER):
    """What the one who waits gets."""
    batch = MessageBatch.of_body(raw, context)
    apply(Mock(result), batch, 0)
    (message,) = batch.replies or batch
    return message.payload["result"]


@pytest.mark.parametrize(
    ("method", "params", "given", "gets"),
    [
        pytest.param("tools/call", {"_meta": META}, RESULT, COMPLETE | RESULT, id="modern"),
        pytest.param("tools/call", {"_meta": META}, {}, COMPLETE, id="modern-empty"),
        pytest.param("tools/call", {"_meta": META}, COMPLETE | RESULT, COMPLETE | RESULT, id="already-there"),
        pytest.param("tools/call", {"_meta": META}, {"resultType": "task"}, {"resultType": "task"}, id="another-type"),
        pytest.param("tools/call", {"_meta": META}, {"resultType": None}, {"resultType": None}, id="broken-on-purpose"),
        pytest.param("tools/call", {"_meta": META}, ["no object"], ["no object"], id="no-object"),
        pytest.param("tools/list", {"_meta": META}, {"tools": []}, COMPLETE | FRESH | {"tools": []}, id="cacheable"),
        pytest.param("server/discover", {"_meta": META}, {"ttlMs": 5}, COMPLETE | FRESH | {"ttlMs": 5}, id="cached"),
        pytest.param(
            "resources/read", {"_meta": META}, {"resultType": "input_required"}, {"resultType": "input_required"},
            id="cacheable-when-complete",
        ),
        pytest.param("tools/list", {}, {"tools": []}, {"tools": []}, id="legacy"),
        pytest.param("tools/call", {"_meta": OLD_META}, RESULT, RESULT, id="legacy-by-name"),
        pytest.param("tools/call", {"_meta": 5}, RESULT, RESULT, id="legacy-with-odd-meta"),
        pytest.param("ping", [META], {}, {}, id="legacy-with-odd-params"),
        pytest.param("initialize", {"protocolVersion": "2025-11-25"}, RESULT, RESULT, id="legacy-initialize"),
    ],
)  # fmt: skip
def test_a_result_for_a_request_has_what_its_era_requires(method, params, given, gets):
    assert answered(request(method, params), given) == gets


@pytest.mark.parametrize(("asked", "gets"), [(CALL, COMPLETE | RESULT), (OLD_CALL, RESULT)])
def test_a_result_in_the_place_of_an_answer_has_what_the_era_of_its_request_requires(asked, gets):
    context = replace(TO_CLIENT, request_of=lambda _answer: Message(asked, TO_SERVER))
    assert answered(ANSWER, RESULT, context) == gets


@pytest.mark.parametrize(
    ("headers", "gets"),
    [({VERSION: "2026-07-28"}, COMPLETE | RESULT), ({VERSION: "2025-11-25"}, RESULT),
     ({}, RESULT), (None, RESULT)],
)  # fmt: skip
def test_where_the_request_is_not_known_the_headers_tell_the_era(headers, gets):
    assert answered(ANSWER, RESULT, replace(TO_CLIENT, headers=headers)) == gets


def test_what_cannot_be_read_is_answered_as_it_is_said():
    assert answered(b'{"jsonrpc":"2.0","method":NaN}', RESULT) == RESULT


def test_an_error_is_the_same_in_both_eras():
    for raw in (CALL, OLD_CALL):
        batch = MessageBatch.of_body(raw, TO_SERVER)
        batch.answer(0, RpcError(1, "no"))
        assert batch.replies[0].payload == {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "no"}}


def test_the_result_that_was_given_is_not_changed_itself():
    given = {"tools": []}
    answered(request("tools/list", {"_meta": META}), given)
    assert given == {"tools": []}
