"""What the demo says about a message."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.demo.wording import gist
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageContext

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


CONTEXT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP)


def message(method: str, payload: dict[str, Any]) -> Message:
    """A message with this payload: a request's or notification's when it has no answer in it."""
    answers = {"result", "error"} & payload.keys()
    asks = {} if answers else {"method": method}
    numbered = {} if method.startswith("notifications/") and not answers else {"id": 1}
    return Message(json.dumps({"jsonrpc": "2.0"} | asks | numbered | payload).encode(), CONTEXT)


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
        ("tools/call", {"params": {"name": "echo", "arguments": {"text": "ü"}}}, '{"text":"ü"}'),
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
    assert gist(method, message(method, payload)) == said


@pytest.mark.parametrize("raw", [b"<html>\x1b[2J", b"[1,", b"\xff", b""])
def test_what_is_no_message_is_said_to_be_none(raw: bytes):
    said = gist("", Message(raw, CONTEXT))
    assert said.startswith("not JSON-RPC")
    assert said.isprintable()


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
    said = gist(method, message(method, payload))
    assert said.isprintable()
    assert said == said.strip()
