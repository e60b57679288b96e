"""What the demo says about a message."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.demo.wording import gist, is_failure

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
METHODS = [
    "initialize",
    "notifications/message",
    "notifications/progress",
    "notifications/resources/updated",
    "prompts/get",
    "resources/read",
    "server/discover",
    "tools/call",
    "tools/list",
    "unheard/of",
]


@pytest.mark.parametrize(
    ("method", "payload", "said"),
    [
        ("initialize", {"params": {"clientInfo": {"name": "probe", "version": "1"}}}, "probe 1"),
        ("initialize", {"result": {"serverInfo": {"name": "desk"}}}, "desk"),
        (
            "server/discover",
            {"result": {"supportedVersions": ["2026-07-28", "2025-11-25"]}},
            "speaks 2026-07-28, 2025-11-25",
        ),
        ("tools/list", {"result": {"tools": [{}, {}]}}, "2 tools"),
        ("prompts/list", {"result": {"prompts": [{}]}}, "1 prompt"),
        ("resources/list", {"result": {}}, "0 resources"),
        ("tools/call", {"params": {"name": "echo", "arguments": {"text": "ü"}}}, '{"text": "ü"}'),
        ("tools/call", {"params": {"name": "echo"}}, "{}"),
        ("tools/call", {"result": {"content": [{"text": "a\n b"}, {"type": "image"}, {"text": "c"}]}}, "a b c"),
        ("resources/read", {"result": {"contents": [{"text": "1.0.0"}]}}, "1.0.0"),
        ("resources/read", {"error": {"code": -32602, "message": "no such"}}, "-32602 no such"),
        ("notifications/progress", {"params": {"progress": 1.0, "total": 5.0, "message": "fetch"}}, "1/5 fetch"),
        ("notifications/progress", {"params": {"progress": 0.5}}, "0.5"),
        ("notifications/message", {"params": {"level": "info", "data": "deployed"}}, "info: deployed"),
        ("notifications/resources/updated", {"params": {"uri": "a://b"}}, "a://b"),
        ("ping", {"result": {}}, ""),
        ("ping", {}, ""),
        ("tools/list", {"result": {"tools": 5}}, "0 tools"),
        ("server/discover", {"result": {"supportedVersions": 5}}, "speaks"),
        ("tools/call", {"error": {"message": "a\nb\x1b[2Jc"}}, "a b\ufffd[2Jc"),
    ],
)
def test_a_message_is_said_in_a_few_words(method: str, payload: dict[str, Any], said: str):
    assert gist(method, payload) == said


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        ({"result": {"isError": True}}, True),
        ({"error": {"code": 1}}, True),
        ({"result": {"isError": False}}, False),
        ({"result": {"isError": "true"}}, False),
        ({"result": None}, False),
        ({"method": "ping"}, False),
    ],
)
def test_a_failure_is_an_error_of_the_protocol_or_of_the_tool(payload: dict[str, Any], failed: bool):
    assert is_failure(payload) is failed


@settings(max_examples=500)
@given(
    method=st.sampled_from(METHODS),
    payload=st.dictionaries(st.sampled_from(["params", "result", "error"]), JSON)
    | st.fixed_dictionaries(
        {
            "params": st.dictionaries(st.sampled_from(["progress", "total", "message", "uri", "clientInfo"]), JSON),
        }
    )
    | st.fixed_dictionaries(
        {
            "result": st.dictionaries(st.sampled_from(["tools", "content", "contents", "supportedVersions"]), JSON),
        }
    ),
)
def test_whatever_a_peer_sends_becomes_one_line(method: str, payload: dict[str, Any]):
    said = gist(method, payload)
    assert said.isprintable()
    assert said == said.strip()
    is_failure(payload)
