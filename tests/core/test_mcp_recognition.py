"""MCP on HTTP is recognised by evidence, and what is not MCP is left alone."""

import gzip
import time

import pytest

from shadowcat_core.jsonrpc import dump
from shadowcat_core.limits import MAX_FIRST_EVENT_BYTES
from shadowcat_core.mcp import Era, FirstEvent, Recognition, RecognitionKind, recognise_request


class Headers:
    """A lookup that ignores case, as HTTP stacks have it."""

    def __init__(self, **values):
        self.values = {name.replace("_", "-").lower(): value for name, value in values.items()}

    def get(self, name, /):
        return self.values.get(name.lower())


META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
BOTH = "application/json, text/event-stream"
JSON = "application/json"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
MESSAGES, JSON_RPC, NONE = RecognitionKind.MESSAGES, RecognitionKind.JSON_RPC, RecognitionKind.NONE
LEGACY, MODERN = Era.LEGACY, Era.MODERN


def call(method, **params):
    return dump({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


POSTS = [
    # Headers decide before the body is looked at, broken bodies included.
    (Headers(mcp_session_id="s1"), PING, (MESSAGES, LEGACY, None, "s1")),
    (Headers(mcp_session_id="s1", mcp_protocol_version="2025-06-18"), ANSWER, (MESSAGES, LEGACY, "2025-06-18", "s1")),
    (Headers(mcp_protocol_version="2026-07-28", mcp_method="tools/call"), b"{", (MESSAGES, MODERN, "2026-07-28", None)),
    (Headers(mcp_session_id="s1", mcp_protocol_version="2026-07-28"), PING, (MESSAGES, MODERN, "2026-07-28", None)),
    (Headers(mcp_method="tools/call"), b"", (MESSAGES, MODERN, None, None)),
    # Bodies that name a version or a method of MCP.
    (
        Headers(content_type=JSON),
        call("initialize", protocolVersion="2025-06-18"),
        (MESSAGES, LEGACY, "2025-06-18", None),
    ),
    (Headers(content_type=JSON), call("tools/call", name="x", _meta=META), (MESSAGES, MODERN, "2026-07-28", None)),
    (Headers(content_type=JSON), call("server/discover"), (MESSAGES, MODERN, None, None)),
    (Headers(content_type=JSON + "; charset=utf-8"), call("tools/call", name="x"), (MESSAGES, LEGACY, None, None)),
    (Headers(), call("tools/list"), (MESSAGES, LEGACY, None, None)),
    (Headers(), call("notifications/initialized"), (MESSAGES, LEGACY, None, None)),
    (Headers(), b" [" + call("tools/list") + b"," + PING + b"]", (MESSAGES, LEGACY, None, None)),
    (Headers(), b'{"\\u006asonrpc":"2.0","id":1,"method":"tools/call"}', (MESSAGES, LEGACY, None, None)),
    # A client that accepts both types, as the specification demands of it.
    (Headers(accept=BOTH), PING, (MESSAGES, LEGACY, None, None)),
    (Headers(accept="text/event-stream;q=0.5, application/json"), ANSWER, (MESSAGES, LEGACY, None, None)),
    (Headers(accept=BOTH), call("acme/custom"), (MESSAGES, LEGACY, None, None)),
    # JSON-RPC of others.
    (Headers(content_type=JSON), call("eth_call", to="0x0"), (JSON_RPC, None, None, None)),
    (Headers(content_type=JSON), PING, (JSON_RPC, None, None, None)),
    (Headers(content_type=JSON), ANSWER, (JSON_RPC, None, None, None)),
    (Headers(content_type=JSON), call("initialize", processId=1), (JSON_RPC, None, None, None)),
    (Headers(accept="text/event-stream"), call("tasks/get", id="a2a"), (JSON_RPC, None, None, None)),
    (Headers(accept="application/json, text/plain, */*"), PING, (JSON_RPC, None, None, None)),
    # Everything else.
    (Headers(accept=BOTH), b'{"model":"m","messages":[],"stream":true}', (NONE, None, None, None)),
    (Headers(), b'{"id":1,"method":"tools/call","params":{}}', (NONE, None, None, None)),
    (Headers(), b'{"jsonrpc":"1.0","id":1,"method":"tools/call"}', (NONE, None, None, None)),
    (Headers(), b'{"jsonrpc":"2.0"', (NONE, None, None, None)),
    (Headers(), b'["jsonrpc"]', (NONE, None, None, None)),
    (Headers(), b'[] "jsonrpc"', (NONE, None, None, None)),
    (Headers(), b'"\\u"', (NONE, None, None, None)),
    (Headers(), b"", (NONE, None, None, None)),
    (Headers(content_type="text/plain"), call("tools/call"), (NONE, None, None, None)),
    (Headers(content_type="multipart/form-data; boundary=x"), call("tools/call"), (NONE, None, None, None)),
    (Headers(content_type=";"), call("tools/call"), (NONE, None, None, None)),
]


def told(found: Recognition):
    return found.kind, found.era, found.protocol_version, found.session_id


@pytest.mark.parametrize(("headers", "body", "expected"), POSTS)
def test_a_post_is_recognised_by_its_headers_or_its_body(headers, body, expected):
    found = recognise_request("post", headers, body)
    assert told(found) == expected
    assert found.evidence
    assert found.is_mcp is (expected[1] is not None)


def test_what_is_posted_to_an_announced_endpoint_is_mcp_whatever_it_says():
    found = recognise_request("POST", Headers(), ANSWER, posted_to_endpoint=True)
    assert told(found) == (MESSAGES, LEGACY, "2024-11-05", None)


@pytest.mark.parametrize(
    ("http_method", "headers", "expected"),
    [
        ("GET", Headers(mcp_session_id="s1", accept="text/event-stream"), (RecognitionKind.STREAM, LEGACY, None, "s1")),
        ("GET", Headers(mcp_protocol_version="2025-11-25"), (RecognitionKind.STREAM, LEGACY, "2025-11-25", None)),
        ("GET", Headers(accept="text/event-stream"), (RecognitionKind.MAYBE_STREAM, None, None, None)),
        ("GET", Headers(accept="text/html, */*"), (NONE, None, None, None)),
        ("GET", Headers(), (NONE, None, None, None)),
        ("DELETE", Headers(mcp_session_id="s1"), (RecognitionKind.SESSION_END, LEGACY, None, "s1")),
        ("DELETE", Headers(mcp_protocol_version="2026-07-28"), (NONE, None, None, None)),
        ("OPTIONS", Headers(mcp_session_id="s1"), (NONE, None, None, None)),
    ],
)
def test_other_methods_are_recognised_by_their_headers(http_method, headers, expected):
    found = recognise_request(http_method, headers, b"")
    assert told(found) == expected
    assert found.evidence


MAYBE = recognise_request("GET", Headers(accept="text/event-stream"), b"")


@pytest.mark.parametrize(
    ("first_bytes", "expected", "endpoint"),
    [
        pytest.param(
            b": hello\r\n\r\nevent: endpoint\r\ndata: /messages/?session_id=abc&x=1\r\n\r\n",
            (RecognitionKind.SSE_STREAM, LEGACY, "2024-11-05", "abc"),
            "/messages/?session_id=abc&x=1",
            id="python",
        ),
        pytest.param(
            b"event: endpoint\ndata: http://127.0.0.1:1/m?sessionId=abc\n\n",
            (RecognitionKind.SSE_STREAM, LEGACY, "2024-11-05", "abc"),
            "http://127.0.0.1:1/m?sessionId=abc",
            id="typescript",
        ),
        pytest.param(
            b"event: endpoint\ndata: /m\n\n", (RecognitionKind.SSE_STREAM, LEGACY, "2024-11-05", None), "/m", id="no-id"
        ),
        pytest.param(
            b"event: endpoint\ndata: http://[\n\n",
            (RecognitionKind.SSE_STREAM, LEGACY, "2024-11-05", None),
            "http://[",
            id="no-uri",
        ),
        pytest.param(
            b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n',
            (RecognitionKind.STREAM, LEGACY, None, None),
            None,
            id="stateless-stream",
        ),
        pytest.param(b'data: {"jsonrpc":"2.0","method":"heads"}\n\n', (NONE, None, None, None), None, id="json-rpc"),
        pytest.param(b"event: tick\ndata: 1\n\n", (NONE, None, None, None), None, id="somebody-else"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_the_first_event_tells_what_a_stream_is(first_bytes, expected, endpoint, step):
    settled = []
    sink = FirstEvent(settled.append)
    stream = first_bytes + b"event: endpoint\ndata: /too-late\n\n"
    for i in range(0, len(stream), step):
        sink(0, stream[i : i + step])
    (found,) = settled
    assert told(found) == expected
    assert found.endpoint == endpoint
    assert found.evidence


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"event: endpoi"], id="unfinished"),
        pytest.param([b": ping\n\n"] * 3, id="comments"),
        pytest.param([b"x" * (MAX_FIRST_EVENT_BYTES + 1), b"\n\ndata: {}\n\n"], id="endless"),
        pytest.param([b": ping\n\n"] * 10_000 + [b"event: endpoint\ndata: /m\n\n"], id="after-a-long-silence"),
    ],
)
def test_a_stream_without_a_first_event_stays_unsettled(chunks):
    settled = []
    sink = FirstEvent(settled.append)
    for chunk in chunks:
        sink(0, chunk)
    assert settled == []


def test_looking_for_the_first_event_takes_linear_time():
    def cost_ns(count):
        sink = FirstEvent(lambda found: None)
        started_ns = time.thread_time_ns()
        for _ in range(count):
            sink(0, b":\n\n")
        return time.thread_time_ns() - started_ns

    # Quadratic work would cost sixteen times as much; the best of several is taken, as the machine may be busy.
    assert min(cost_ns(8_000) / cost_ns(2_000) for _ in range(5)) < 8


@pytest.mark.parametrize("is_patient", [False, True])
@pytest.mark.parametrize("step", [1, 10_000])
def test_the_first_event_of_a_coded_stream_tells_too(step, is_patient):
    settled = []
    sink = FirstEvent(settled.append, coding="gzip", is_patient=is_patient)
    stream = gzip.compress(b"event: endpoint\ndata: /messages\n\n")
    for i in range(0, len(stream), step):
        sink(0, stream[i : i + step])
    assert [found.endpoint for found in settled] == ["/messages"]


@pytest.mark.parametrize("coding", ["gzip", "nobody's"])
def test_a_stream_that_cannot_be_decoded_stays_unsettled(coding):
    settled = []
    sink = FirstEvent(settled.append, coding=coding)
    for _ in range(2):
        sink(0, b"event: endpoint\ndata: /messages\n\n")
    assert settled == []


def test_who_decides_is_told_by_a_later_event_too_however_large_the_first_is():
    settled = []
    sink = FirstEvent(settled.append, is_patient=True)
    for chunk in (b"event: ready\ndata: {}\n\n", b"data: " + b"x" * (2 * MAX_FIRST_EVENT_BYTES) + b"\n\n"):
        sink(0, chunk)
    assert settled == []
    sink(0, b"event: endpoint\ndata: /messages\n\n")
    assert [found.endpoint for found in settled] == ["/messages"]
