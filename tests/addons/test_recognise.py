"""MCP exchanges are recognised, labelled for mitmproxy's filters, and nothing else is touched."""

import pytest
from mitmproxy import flowfilter
from mitmproxy.proxy.mode_specs import ProxyMode

from tests.addons.conftest import CALL, request_flow, response_of


async def test_a_call_is_labelled_so_that_filters_find_it(proxy):
    flow = await proxy.ask(request_flow())
    assert flow.metadata["mcp.method"] == "tools/call"
    assert flow.metadata["mcp.target"] == "echo"
    assert flow.metadata["mcp.id"] == "7"
    assert flow.metadata["mcp.session"] == "s-1"
    assert flow.metadata["mcp.era"] == "legacy"
    assert flowfilter.match('~meta "mcp.target: echo"', flow)
    assert flowfilter.match("~comment tools/call", flow)
    assert not flowfilter.match('~meta "mcp.target: add"', flow)


async def test_labels_can_be_written_to_a_flow_file_and_read_back(proxy, tmp_path):
    from mitmproxy import io

    flow = await proxy.ask(request_flow())
    await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    flow.response.stream(b"data: {}\n\n")
    await proxy.end(flow)
    with (tmp_path / "flows").open("wb") as file:
        flow.response.stream = False
        io.FlowWriter(file).add(flow)
    with (tmp_path / "flows").open("rb") as file:
        (read,) = io.FlowReader(file).stream()
    assert read.metadata == flow.metadata
    assert read.comment == flow.comment


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        pytest.param(b"a=1", {"content-type": "application/x-www-form-urlencoded"}, id="form"),
        pytest.param({"hello": 1}, {"content-type": "application/json"}, id="plain-json"),
        pytest.param(
            {"jsonrpc": "2.0", "id": 1, "method": "eth_call"}, {"content-type": "application/json"}, id="ethereum"
        ),
        pytest.param(None, {}, id="nothing"),
    ],
)
async def test_other_traffic_is_left_alone(proxy, payload, headers):
    flow = await proxy.ask(request_flow(payload, headers=headers))
    before = flow.request.copy()
    response = response_of({"large": "x" * 1_000_000})
    await proxy.answer(flow, response)
    assert flow.metadata == {}
    assert flow.comment == ""
    assert not response.stream
    assert flow.request.headers == before.headers
    assert flow.request.content == before.content


async def test_the_session_that_initialize_opens_is_labelled(proxy):
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    flow = await proxy.ask(request_flow(initialize, headers={"content-type": "application/json"}))
    assert "mcp.session" not in flow.metadata
    await proxy.answer(
        flow, response_of({"jsonrpc": "2.0", "id": 0, "result": {}}, headers={"mcp-session-id": "fresh"})
    )
    assert flow.metadata["mcp.session"] == "fresh"
    assert flow.metadata["mcp.id"] == "0"


async def test_an_llm_stream_is_streamed_though_it_is_no_mcp(proxy):
    flow = await proxy.ask(request_flow({"model": "m", "stream": True}, headers={"content-type": "application/json"}))
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream; charset=utf-8"))
    chunk = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
    assert stream(chunk) == [chunk]
    await proxy.end(flow)
    assert "mcp.kind" not in flow.metadata
    assert flow.comment.startswith("event stream")


async def test_http_plus_sse_is_recognised_by_its_endpoint_event_and_its_posts_by_the_endpoint(proxy):
    get = await proxy.ask(
        request_flow(None, method="GET", headers={"accept": "text/event-stream"}, url="http://h:1/sse")
    )
    stream = await proxy.begin_response(get, response_of(content_type="text/event-stream"))
    stream(b"event: endp")
    proxy.suite.live.show_now()
    assert "mcp.kind" not in get.metadata
    stream(b"oint\ndata: /messages?session_id=abc\n\n")
    proxy.suite.live.show_now()
    assert get.metadata["mcp.kind"] == "sse-stream"
    assert get.metadata["mcp.session"] == "abc"

    post = await proxy.ask(
        request_flow(
            {"jsonrpc": "2.0", "id": 3, "method": "ping"}, headers={}, url="http://h:1/messages?session_id=abc"
        )
    )
    assert post.metadata["mcp.session"] == "abc"
    await proxy.answer(post, response_of(b"Accepted", status=202, content_type="text/plain"))
    assert post.comment.startswith("ping → accepted")
    stream(b'data: {"jsonrpc":"2.0","id":3,"result":{}}\n\n')
    await proxy.end(get)
    assert post.comment.startswith("ping → ok")


@pytest.mark.parametrize(
    ("mode", "endpoint", "said"),
    [
        pytest.param("reverse:http://127.0.0.1:3001", "http://elsewhere:9/messages", True, id="absolute"),
        pytest.param("reverse:http://127.0.0.1:3001", "/messages?s=1", False, id="relative"),
        pytest.param("reverse:http://127.0.0.1:3001", "http://[::1", True, id="no-url"),
        pytest.param("regular", "http://elsewhere:9/messages", False, id="forward-proxies-see-it-anyway"),
    ],
)
async def test_an_endpoint_that_leads_past_the_proxy_is_said(proxy, caplog, mode, endpoint, said):
    get = request_flow(None, method="GET", headers={"accept": "text/event-stream"})
    get.client_conn.proxy_mode = ProxyMode.parse(mode)
    await proxy.ask(get)
    stream = await proxy.begin_response(get, response_of(content_type="text/event-stream"))
    stream(f"event: endpoint\ndata: {endpoint}\n\n".encode())
    assert (f"announces the endpoint {endpoint}" in caplog.text) is said


async def test_an_endpoint_cannot_forge_a_log_line(proxy, caplog):
    get = request_flow(None, method="GET", headers={"accept": "text/event-stream"})
    get.client_conn.proxy_mode = ProxyMode.parse("reverse:http://127.0.0.1:3001")
    await proxy.ask(get)
    stream = await proxy.begin_response(get, response_of(content_type="text/event-stream"))
    stream(b"event: endpoint\ndata: //x/\ndata: [1] shadowcat: a lie \x1b[2J\n\n")
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()


async def test_a_long_first_event_is_not_waited_for(proxy):
    get = await proxy.ask(request_flow(None, method="GET", headers={"accept": "text/event-stream"}))
    stream = await proxy.begin_response(get, response_of(content_type="text/event-stream"))
    for _ in range(100):
        stream(b"x" * 1024)
    stream(b"\n\nevent: endpoint\ndata: /messages\n\n")
    await proxy.end(get)
    assert "mcp.kind" not in get.metadata


async def test_a_batch_of_2025_03_26_is_labelled_with_all_its_methods(proxy):
    second = {**CALL, "id": 8, "params": {"name": "add"}}
    flow = await proxy.ask(request_flow([CALL, second]))
    assert flow.metadata["mcp.target"] == "echo add"
    assert flow.metadata["mcp.id"] == "7 8"
    await proxy.answer(
        flow, response_of([{"jsonrpc": "2.0", "id": 8, "result": {}}, {"jsonrpc": "2.0", "id": 7, "result": {}}])
    )
    assert flow.comment.startswith("tools/call echo +1 → ok")


async def test_a_flow_that_was_read_from_a_file_keeps_what_it_said(proxy):
    flow = request_flow()
    flow.live = False
    flow.comment = "tools/call echo → ok · 12.0 s · 13 messages"
    await proxy.ask(flow)
    await proxy.answer(flow, response_of({"jsonrpc": "2.0", "id": 7, "result": {}}))
    assert flow.comment == "tools/call echo → ok · 12.0 s · 13 messages"
    assert flow.metadata == {}
    assert proxy.suite.registry.opened == 0


async def test_with_upstreams_other_traffic_says_where_it_goes_as_mitmweb_shows_comments_alone(proxy, tmp_path):
    file = tmp_path / "upstreams.json"
    file.write_text('{"routes": [{"path": "/led", "upstreams": [{"name": "a", "url": "http://127.0.0.1:1/mcp"}]}]}')
    proxy.context.options.update(shadowcat_upstreams=str(file))
    flow = await proxy.ask(request_flow(b"a=1", headers={"content-type": "application/x-www-form-urlencoded"}))
    assert flow.comment == flow.request.pretty_url
    proxy.context.options.update(shadowcat_upstreams="")


async def test_the_comment_of_a_request_that_no_client_sent_says_so(proxy):
    flow = request_flow()
    flow.is_replay = "request"
    await proxy.ask(flow)
    assert flow.comment.startswith("↻ tools/call echo …")
