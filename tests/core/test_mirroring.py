"""The headers of an edited request say what its body says, whether the tool's definition is known or not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.mcp import MODERN_VERSIONS, encode_header_value, mirrored_headers, param_headers
from shadowcat_core.mirroring import HeaderMirror

SERVER = "http://127.0.0.1:3001/mcp"
VERSION = max(MODERN_VERSIONS)
META = {"io.modelcontextprotocol/protocolVersion": VERSION}
SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "deep": {"type": "object", "properties": {"flag": {"type": "boolean", "x-mcp-header": "Deep-Flag"}}},
        "text": {"type": "string"},
    },
}


def call(name="query", arguments=None, method="tools/call", meta=META):
    params = (
        {"name": name} | ({} if arguments is None else {"arguments": arguments}) | ({"_meta": meta} if meta else {})
    )
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def headers_of(payload, schema=None):
    """What a client that obeys sends with a payload."""
    params = param_headers(payload["params"].get("arguments"), schema) if schema else {}
    return mirrored_headers(payload) | params


def lowered(headers):
    return {name.lower(): value for name, value in headers.items()}


def applied(present, edits):
    kept = {name: value for name, value in present.items() if name not in lowered(edits)}
    return kept | {name.lower(): value for name, value in edits.items() if value is not None}


def mirror_that_knows(schema=SCHEMA, tool="query", **settings):
    mirror = HeaderMirror(**settings)
    mirror.learn(SERVER, {"tools": [{"name": tool, "inputSchema": schema}]})
    return mirror


ROWS = [
    pytest.param({}, call(arguments={"region": "eu"}), call(arguments={"region": "us"}), {}, id="legacy-client"),
    pytest.param(
        headers_of(call()) | {"accept": "*/*"}, call(), call("other"), {"Mcp-Name": "other"}, id="another-tool"
    ),
    pytest.param(headers_of(call()), call(), call(), {}, id="nothing-changed"),
    pytest.param(
        headers_of(call()), call(), call(method="tools/list"), {"Mcp-Method": "tools/list", "Mcp-Name": None},
        id="another-method",
    ),
    pytest.param(
        headers_of(call()), call(), call("Zürich"), {"Mcp-Name": encode_header_value("Zürich")}, id="not-ascii"
    ),
    pytest.param(
        headers_of(call()), None, call("other"), {"Mcp-Name": "other"}, id="nobody-knows-what-it-was"
    ),
    pytest.param(
        headers_of(call()), call(), {"jsonrpc": "2.0", "id": 1, "result": {}}, {"Mcp-Method": None, "Mcp-Name": None},
        id="no-request-any-more",
    ),
    pytest.param(
        headers_of(call()), call(), [call()], {"Mcp-Method": None, "Mcp-Name": None}, id="an-array"
    ),
    pytest.param(
        headers_of(call(), SCHEMA) | {"mcp-param-region": "eu"}, call(arguments={"region": "eu"}),
        call(arguments={"region": "us"}), {"mcp-param-region": "us"}, id="parameter-by-name-and-value",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-geo": "eu"}, call(arguments={"region": "eu", "n": 1}),
        call(arguments={"region": "us", "n": 1}), {"mcp-param-geo": "us"}, id="parameter-by-value",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-b": "x"}, call(arguments={"a": "x", "b": "x"}),
        call(arguments={"a": "x", "b": "y"}), {"mcp-param-b": "y"}, id="of-two-values-the-one-of-its-name",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-user-id": "7"}, call(arguments={"userId": 7}), call(arguments={"userId": 8}),
        {"mcp-param-user-id": "8"}, id="name-spelled-otherwise",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-flag": "true"}, call(arguments={"deep": {"flag": True}}),
        call(arguments={"deep": {"flag": False}}), {"mcp-param-flag": "false"}, id="deep-boolean",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-region": "eu"}, call(arguments={"region": "eu"}), call(arguments={}),
        {"mcp-param-region": None}, id="argument-removed",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-region": "eu"}, call(arguments={"region": "eu"}), call(),
        {"mcp-param-region": None}, id="all-arguments-removed",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-region": "eu"}, call(arguments={"region": "eu"}),
        call(arguments={"region": None}), {"mcp-param-region": None}, id="argument-null",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-region": encode_header_value("Ü")}, call(arguments={"region": "Ü"}),
        call(arguments={"region": "Ä"}), {"mcp-param-region": encode_header_value("Ä")}, id="base64",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-region": "eu"}, call(arguments={"region": "eu"}),
        call("other", arguments={"region": "eu"}), {"mcp-param-region": None, "Mcp-Name": "other"},
        id="parameters-of-another-tool",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-x": "nobody knows"}, call(arguments={"a": 1}), call(arguments={"a": 2}), {},
        id="parameter-of-no-argument",
    ),
    pytest.param(
        headers_of(call()) | {"mcp-param-a": "1"}, call(arguments=[1]), call(arguments=[2]), {},
        id="arguments-that-are-none",
    ),
    pytest.param(headers_of(call()), call(), call(name=7), {"Mcp-Name": None}, id="name-that-is-none"),
    pytest.param(
        headers_of(call()), call(), call(meta=META | {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}),
        {"MCP-Protocol-Version": "2027-01-01"}, id="another-version",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("present", "before", "after", "edits"), ROWS)
def test_headers_follow_a_body_whose_tool_is_not_known(present, before, after, edits):
    assert HeaderMirror().edits(SERVER, lowered(present), before, after) == edits


KNOWN = [
    pytest.param({"region": "eu"}, {"region": "us"}, {"Mcp-Param-Region": "us"}, id="changed"),
    pytest.param({"region": "eu"}, {}, {"mcp-param-region": None}, id="removed"),
    pytest.param({}, {"region": "us"}, {"Mcp-Param-Region": "us"}, id="added"),
    pytest.param({"region": "eu"}, {"region": None, "count": 0}, {"mcp-param-region": None, "Mcp-Param-Count": "0"},
                 id="one-for-another"),
    pytest.param({"region": "eu", "count": 1}, {"region": "us", "count": 2, "deep": {"flag": True}},
                 {"Mcp-Param-Region": "us", "Mcp-Param-Count": "2", "Mcp-Param-Deep-Flag": "true"}, id="several"),
    pytest.param({"region": "eu"}, {"region": "Ü"}, {"Mcp-Param-Region": encode_header_value("Ü")}, id="base64"),
    pytest.param({"region": "eu", "text": "a"}, {"region": "eu", "text": "b"}, {}, id="not-mirrored"),
    pytest.param({"region": "eu"}, [1], {"mcp-param-region": None}, id="arguments-that-are-none"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "edits"), KNOWN)
def test_headers_follow_a_body_as_the_tools_definition_says(before, after, edits):
    present = lowered(headers_of(call(arguments=before), SCHEMA))
    assert mirror_that_knows().edits(SERVER, present, call(arguments=before), call(arguments=after)) == edits


def test_parameters_follow_when_a_call_is_sent_to_another_tool_that_is_known():
    before, after = call("query", {"region": "eu"}), call("other", {"zone": "eu"})
    mirror = mirror_that_knows()
    mirror.learn(
        SERVER,
        {
            "tools": [
                {"name": "other", "inputSchema": {"properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}}}
            ]
        },
    )
    assert mirror.edits(SERVER, lowered(headers_of(before, SCHEMA)), before, after) == {
        "Mcp-Name": "other", "Mcp-Param-Zone": "eu", "mcp-param-region": None,
    }  # fmt: skip


def test_a_definition_counts_for_its_own_server_alone():
    before, after = call(arguments={"region": "eu"}), call(arguments={"region": "eu", "count": 5})
    present = lowered(headers_of(before, SCHEMA))
    assert mirror_that_knows().edits(SERVER, present, before, after) == {"Mcp-Param-Count": "5"}
    assert mirror_that_knows().edits("http://other/", present, before, after) == {}


def test_a_definition_that_changes_replaces_the_one_before_it():
    mirror = mirror_that_knows()
    mirror.learn(SERVER, {"tools": [{"name": "query", "inputSchema": {"properties": {}}}]})
    before, after = call(arguments={"region": "eu"}), call(arguments={"region": "eu", "count": 5})
    assert mirror.edits(SERVER, lowered(headers_of(before, SCHEMA)), before, after) == {}


def test_the_oldest_definition_is_forgotten_first():
    mirror = HeaderMirror(max_tools=2)
    for tool in ("a", "b", "a", "c"):
        mirror.learn(SERVER, {"tools": [{"name": tool, "inputSchema": SCHEMA}]})
    known = {}
    for tool in "abc":
        before, after = call(tool, {}), call(tool, {"count": 5})
        known[tool] = bool(mirror.edits(SERVER, lowered(headers_of(before)), before, after))
    assert known == {"a": True, "b": False, "c": True}


@pytest.mark.parametrize(
    "result",
    [None, [], "x", {}, {"tools": None}, {"tools": {}}, {"tools": [None, 1, {}, {"name": 1}, {"name": "query"}]}],
)
def test_a_list_of_tools_that_makes_no_sense_is_no_harm(result):
    mirror = HeaderMirror()
    mirror.learn(SERVER, result)
    before, after = call(arguments={"a": 1}), call(arguments={"a": 2})
    present = lowered(headers_of(before) | {"mcp-param-a": "1"})
    assert mirror.edits(SERVER, present, before, after) == {"mcp-param-a": "2"}


@pytest.mark.parametrize("schema", ["x-mcp-header", ["x-mcp-header"], {"properties": {"a": {"x-mcp-header": 7}}}])
def test_a_definition_that_mirrors_nothing_takes_the_headers_away(schema):
    before, after = call(arguments={"a": 1}), call(arguments={"a": 2})
    present = lowered(headers_of(before) | {"mcp-param-a": "1"})
    assert mirror_that_knows(schema).edits(SERVER, present, before, after) == {"mcp-param-a": None}


VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.floats(allow_nan=False, width=16)
ARGUMENTS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "region": VALUES,
        "count": VALUES,
        "text": VALUES,
        "deep": VALUES | st.fixed_dictionaries({}, optional={"flag": VALUES}),
    },
)


@settings(max_examples=300)
@given(
    ARGUMENTS, ARGUMENTS, st.sampled_from(["query", "tools/x", "Ü", ""]), st.sampled_from(["tools/call", "prompts/get"])
)
def test_headers_that_held_before_an_edit_hold_after_it(arguments_before, arguments_after, name, method):
    before, after = call(arguments=arguments_before), call(name, arguments_after, method)
    mirror = mirror_that_knows()
    present = lowered(headers_of(before, SCHEMA)) | {"accept": "application/json"}
    edits = mirror.edits(SERVER, present, before, after)
    wanted = headers_of(after, SCHEMA if (name, method) == ("query", "tools/call") else None)
    assert applied(present, edits) == lowered(wanted) | {"accept": "application/json"}
    assert mirror.edits(SERVER, applied(present, edits), after, after) == {}
