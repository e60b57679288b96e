"""What MCP adds to JSON-RPC: versions, methods, what messages are about, and headers that mirror bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound

from shadowcat_core import mcp
from shadowcat_core.mcp import Direction, Era

ONLY_LEGACY_REQUESTS = {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
META = "io.modelcontextprotocol/"


@pytest.mark.parametrize(
    ("version", "era"),
    [
        (None, Era.LEGACY),
        ("2024-10-07", Era.LEGACY),
        *((version, Era.LEGACY) for version in mcp.LEGACY_VERSIONS),
        *((version, Era.MODERN) for version in mcp.MODERN_VERSIONS),
        ("2099-01-01", Era.MODERN),
        ("DRAFT-2026-v2", Era.MODERN),
        ("٢٠٢٤-١١-٠٥", Era.MODERN),
        ("", Era.MODERN),
    ],
)
def test_the_era_follows_from_the_version(version, era):
    assert mcp.era_of(version) is era


def test_an_answer_goes_the_other_way():
    assert [direction.opposite for direction in Direction] == [Direction.SERVER_TO_CLIENT, Direction.CLIENT_TO_SERVER]


def test_each_version_has_its_methods():
    counts = {
        version: [len(methods.client_requests), len(methods.server_requests)]
        for version, methods in mcp.METHODS.items()
    }
    assert counts == {
        "2024-11-05": [13, 3],
        "2025-03-26": [13, 3],
        "2025-06-18": [13, 4],
        "2025-11-25": [17, 8],
        "2026-07-28": [10, 0],
    }
    assert tuple(mcp.METHODS) == mcp.LEGACY_VERSIONS + mcp.MODERN_VERSIONS


def test_the_modern_era_has_no_handshake_and_its_own_discovery():
    modern = mcp.METHODS["2026-07-28"]
    assert not modern.client_requests & ONLY_LEGACY_REQUESTS
    assert modern.sent(Direction.CLIENT_TO_SERVER) >= {"server/discover", "subscriptions/listen"}
    assert "notifications/subscriptions/acknowledged" in modern.sent(Direction.SERVER_TO_CLIENT)
    assert modern.client_notifications == {"notifications/cancelled"}


def test_each_direction_sends_its_own_methods():
    legacy = mcp.METHODS["2025-11-25"]
    assert "sampling/createMessage" in legacy.sent(Direction.SERVER_TO_CLIENT) - legacy.sent(Direction.CLIENT_TO_SERVER)
    assert "notifications/initialized" in legacy.sent(Direction.CLIENT_TO_SERVER)
    assert "notifications/initialized" not in legacy.sent(Direction.SERVER_TO_CLIENT)


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("tools/call", {"name": "echo", "uri": "x"}, "echo"),
        ("prompts/get", {"name": "greet"}, "greet"),
        ("resources/read", {"uri": "file:///a", "name": "x"}, "file:///a"),
        ("resources/subscribe", {"uri": "file:///a"}, "file:///a"),
        ("notifications/resources/updated", {"uri": "file:///a"}, "file:///a"),
        ("tasks/get", {"taskId": "t1"}, "t1"),
        ("tasks/update", {"taskId": "t1"}, "t1"),
        ("notifications/tasks/status", {"taskId": "t1"}, "t1"),
        ("notifications/tasks", {"taskId": "t1"}, "t1"),
        ("tasks/list", {}, None),
        ("tools/list", {"name": "echo"}, None),
        ("tools/call", {"name": 7}, None),
        ("tools/call", ["echo"], None),
        ("tools/call", None, None),
        (None, {"name": "echo"}, None),
    ],
)
def test_the_target_is_what_a_message_is_about(method, params, expected):
    assert mcp.target(method, params) == expected


@pytest.mark.parametrize(
    ("read", "payload", "expected"),
    [
        (mcp.progress_token, {"params": {"_meta": {"progressToken": 0}}}, 0),
        (mcp.progress_token, {"params": {"progressToken": "t", "progress": 1}}, "t"),
        (mcp.progress_token, {"params": {"_meta": {"progressToken": True}}}, None),
        (mcp.progress_token, {"params": {"_meta": ["progressToken"]}}, None),
        (mcp.progress_token, {"result": {}}, None),
        (mcp.progress_token, [], None),
        (mcp.cancelled_id, {"params": {"requestId": 0}}, 0),
        (mcp.cancelled_id, {"params": {"requestId": [0]}}, None),
        (mcp.request_state, {"result": {"requestState": "s"}}, "s"),
        (mcp.request_state, {"params": {"requestState": "s"}}, "s"),
        (mcp.request_state, {"params": {"requestState": 1}}, None),
        (mcp.request_state, None, None),
        (mcp.is_input_required, {"result": {"resultType": "input_required"}}, True),
        (mcp.is_input_required, {"result": {"resultType": "complete"}}, False),
        (mcp.is_input_required, {"result": []}, False),
        (mcp.subscription_id, {"params": {"_meta": {META + "subscriptionId": 4}}}, 4),
        (mcp.subscription_id, {"result": {"_meta": {META + "subscriptionId": "4"}}}, "4"),
        (mcp.subscription_id, {"params": {"_meta": {META + "subscriptionId": False}}}, None),
        (mcp.subscription_id, {"params": {}}, None),
        (mcp.protocol_version, {"params": {"_meta": {META + "protocolVersion": "2026-07-28"}}}, "2026-07-28"),
        (mcp.protocol_version, {"method": "initialize", "params": {"protocolVersion": "2025-06-18"}}, "2025-06-18"),
        (mcp.protocol_version, {"result": {"protocolVersion": "2025-06-18"}}, "2025-06-18"),
        (mcp.protocol_version, {"method": "other", "params": {"protocolVersion": "2025-06-18"}}, None),
        (mcp.protocol_version, {"method": "initialize", "params": {"protocolVersion": 3}}, None),
        (mcp.protocol_version, "initialize", None),
    ],
)
def test_what_a_message_keeps_is_found_and_nothing_else(read, payload, expected):
    found = read(payload)
    assert found == expected
    assert type(found) is type(expected)


HEADER_VALUES = [
    pytest.param("echo", "echo", id="plain"),
    pytest.param("", "", id="empty"),
    pytest.param("a b", "a b", id="blank-inside"),
    pytest.param(" a", "=?base64?IGE=?=", id="blank-before"),
    pytest.param("a\t", "=?base64?YQk=?=", id="tab-behind"),
    pytest.param("a\tb", "=?base64?YQli?=", id="tab-inside"),
    pytest.param("ä", "=?base64?w6Q=?=", id="beyond-ascii"),
    pytest.param("a\r\nb: c", "=?base64?YQ0KYjogYw==?=", id="header-injection"),
    pytest.param("\x7f", "=?base64?fw==?=", id="delete"),
    pytest.param("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?=", id="looks-like-the-sentinel"),
    pytest.param("=?base64?", "=?base64?", id="half-a-sentinel"),
]


@pytest.mark.parametrize(("text", "value"), HEADER_VALUES)
def test_a_header_value_is_plain_or_base64(text, value):
    assert mcp.encode_header_value(text) == value == inbound.encode_header_value(text)
    assert mcp.decode_header_value(value) == text


@given(st.text())
def test_any_text_survives_as_a_header_value_and_the_official_sdk_reads_it(text):
    value = mcp.encode_header_value(text)
    assert value.isascii()
    assert value.isprintable()
    assert mcp.decode_header_value(value) == text == inbound.decode_header_value(value)


@pytest.mark.parametrize("value", ["=?base64?YR==?=", "=?base64?!?=", "=?base64?/w==?=", "=?base64?YQ?="])
def test_a_damaged_sentinel_is_no_value(value):
    assert mcp.decode_header_value(value) is None
    assert inbound.decode_header_value(value) is None


def test_a_lone_surrogate_does_not_break_a_header():
    assert mcp.decode_header_value(mcp.encode_header_value("\ud800")) == "?"


def request(method, **params):
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(
            request("tools/call", name="echo", _meta={META + "protocolVersion": "2026-07-28"}),
            {"Mcp-Method": "tools/call", "Mcp-Name": "echo", "MCP-Protocol-Version": "2026-07-28"},
            id="tool",
        ),
        pytest.param(
            request("resources/read", uri="file:///ä"),
            {"Mcp-Method": "resources/read", "Mcp-Name": mcp.encode_header_value("file:///ä")},
            id="resource",
        ),
        pytest.param(request("tasks/get", taskId="t"), {"Mcp-Method": "tasks/get", "Mcp-Name": "t"}, id="task"),
        pytest.param(request("tools/list"), {"Mcp-Method": "tools/list"}, id="no-name"),
        pytest.param(
            request("resources/subscribe", uri="file:///a"), {"Mcp-Method": "resources/subscribe"}, id="legacy-uri"
        ),
        pytest.param(request("initialize", protocolVersion="2025-06-18"), {"Mcp-Method": "initialize"}, id="handshake"),
        pytest.param({"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18"}}, {}, id="answer"),
        pytest.param({"method": 7}, {}, id="bad-method"),
        pytest.param([], {}, id="array"),
    ],
)
def test_headers_mirror_the_body(payload, expected):
    assert mcp.mirrored_headers(payload) == expected


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "limit": {"type": "integer", "x-mcp-header": "Limit"},
        "dry": {"type": "boolean", "x-mcp-header": "Dry-Run"},
        "where": {"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}},
        "ratio": {"type": "number", "x-mcp-header": "Ratio"},
        "bad": {"type": "string", "x-mcp-header": "no spaces"},
        "typeless": {"x-mcp-header": "Typeless"},
        "rows": {"type": "array", "items": {"properties": {"a": {"type": "string", "x-mcp-header": "Row"}}}},
        "odd": True,
    },
    "anyOf": [{"properties": {"other": {"type": "string", "x-mcp-header": "Other"}}}],
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            {"region": "eu", "limit": 0, "dry": False}, {"Region": "eu", "Limit": "0", "Dry-Run": "false"}, id="all"
        ),
        pytest.param(
            {"dry": True, "where": {"city": "Köln"}}, {"Dry-Run": "true", "City": "=?base64?S8O2bG4=?="}, id="deep"
        ),
        pytest.param({"region": None, "where": {"city": None}}, {}, id="null-is-absent"),
        pytest.param({"where": "x", "region": ["x"]}, {}, id="not-a-scalar"),
        pytest.param({"ratio": 0.5, "bad": "x", "typeless": "x", "other": "x", "rows": [{"a": "x"}]}, {}, id="never"),
        pytest.param(None, {}, id="no-arguments"),
    ],
)
def test_annotated_parameters_are_mirrored(arguments, expected):
    headers = mcp.param_headers(arguments, SCHEMA)
    assert headers == {"Mcp-Param-" + name: value for name, value in expected.items()}


@pytest.mark.parametrize("schema", [None, [], {}, {"properties": []}, {"properties": {"a": []}}])
def test_a_schema_without_annotations_mirrors_nothing(schema):
    assert mcp.param_headers({"a": "x"}, schema) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("", {})),
        ("", ("", {})),
        ("text/event-stream", ("text/event-stream", {})),
        ("Text/Event-Stream ; Charset=UTF-8", ("text/event-stream", {"charset": "UTF-8"})),
        ('application/json; a="x;y"; b=2', ("application/json", {"a": "x;y", "b": "2"})),
        ("text/plain; title*=utf-8''%C3%A4", ("text/plain", {"title": "ä"})),
        ("text/event-streams", ("text/event-streams", {})),
    ],
)
def test_a_media_type_is_read_as_mime(value, expected):
    assert mcp.media_type(value) == expected


@pytest.mark.parametrize(
    ("value", "stream", "json"),
    [
        ("text/event-stream;charset=utf-8", True, False),
        ("text/html; x=text/event-stream", False, False),
        ("application/json; charset=utf-8", False, True),
        ("application/problem+json", False, True),
        ("application/json-seq", False, False),
        (None, False, False),
    ],
)
def test_event_streams_and_json_are_told_by_the_type_alone(value, stream, json):
    assert (mcp.is_event_stream(value), mcp.is_json(value)) == (stream, json)
