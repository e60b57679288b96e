"""Content views: one line a message with its payload below, times from the wire, and other events as they are."""

import gzip

import pytest
from mitmproxy import contentviews

from tests.addons.conftest import CALL, request_flow, response_of

STREAM = (
    b": ping\n\n"
    b'event: message\nid: 4\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":'
    b'{"progressToken":1,"progress":1,"total":4,"message":"a quarter"}}\n\n'
    b'data: {"jsonrpc":"2.0","id":7,"result":{"content":[]}}\n\n'
)


def shown(flow, message):
    return contentviews.prettify_message(message, flow)


async def streamed(proxy, *chunks, **headers):
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream", headers=headers))
    for chunk in chunks:
        stream(chunk)
    await proxy.end(flow)
    return flow


async def test_a_request_is_shown_as_a_line_with_its_payload_folded_below(proxy):
    flow = await proxy.ask(request_flow())
    view = shown(flow, flow.request)
    assert view.view_name == "MCP"
    assert view.syntax_highlight == "yaml"
    first, *payload = view.text.splitlines()
    assert first.startswith("→ tools/call #7 echo · ")
    assert first.endswith(" B:")
    assert all(line.startswith("  ") for line in payload)
    assert '"name": "echo"' in view.text


async def test_a_stream_is_shown_with_times_comments_and_ids(proxy):
    flow = await streamed(proxy, STREAM[:30], STREAM[30:])
    flow.metadata["shadowcat.times"] = [[30, 12_000], [len(STREAM), 345_678]]
    view = shown(flow, flow.response)
    assert view.view_name == "MCP stream"
    heads = [line for line in view.text.splitlines() if not line.startswith(" ")]
    assert heads[0] == "+0.012 s # : ping"
    assert heads[1].startswith("+0.346 s ← notifications/progress 1/4 a quarter · ")
    assert heads[2].startswith("+0.346 s ← result #7 tools/call echo · ")
    assert len(heads) == 3


async def test_payloads_of_a_stream_are_shown_to_who_chooses_that_view(proxy):
    flow = await streamed(proxy, STREAM)
    assert '"progressToken"' not in shown(flow, flow.response).text
    unfolded = contentviews.prettify_message(flow.response, flow, "mcp stream, with payloads").text
    assert '  "progressToken": 1,' in unfolded
    assert unfolded.splitlines()[1].endswith(" B:")


async def test_every_message_says_when_it_came(proxy):
    flow = await streamed(proxy, *(STREAM[i : i + 1] for i in range(len(STREAM))))
    heads = [line for line in shown(flow, flow.response).text.splitlines() if not line.startswith(" ")]
    assert len(heads) == 3
    assert all(head.startswith("+0.") for head in heads)


async def test_an_unfinished_event_is_counted(proxy):
    flow = await streamed(proxy, STREAM + b"data: {unf")
    assert shown(flow, flow.response).text.endswith("# 10 B of an unfinished event")


@pytest.mark.parametrize("cut", [None, 60], ids=["whole", "while-it-runs"])
async def test_a_coded_stream_is_shown_decoded_even_while_it_runs(proxy, cut):
    coded = gzip.compress(STREAM * 20)[:cut]
    flow = await streamed(proxy, coded, **{"content-encoding": "gzip"})
    text = shown(flow, flow.response).text
    assert "← notifications/progress 1/4 a quarter" in text or (cut and ": ping" in text)


async def test_an_llm_stream_is_shown_event_by_event(proxy):
    flow = await streamed(proxy, b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n')
    (line,) = shown(flow, flow.response).text.splitlines()
    assert line.endswith('← event content_block_delta · 40 B: {"type":"content_block_delta","index":0}')
    unfolded = contentviews.prettify_message(flow.response, flow, "mcp stream, with payloads").text.splitlines()
    assert unfolded[1:] == ["  {", '    "type": "content_block_delta",', '    "index": 0', "  }"]


async def test_an_endpoint_event_and_plain_text_are_shown_as_they_are(proxy):
    flow = await streamed(proxy, b"event: endpoint\ndata: /messages?s=1\n\n")
    assert shown(flow, flow.response).text.endswith("← event endpoint · 13 B: /messages?s=1")
    unfolded = contentviews.prettify_message(flow.response, flow, "mcp stream, with payloads").text
    assert unfolded.endswith("← event endpoint · 13 B:\n  /messages?s=1")


async def test_an_array_is_shown_message_by_message(proxy):
    flow = await proxy.ask(request_flow([CALL, {**CALL, "id": "x"}]))
    heads = [line for line in shown(flow, flow.request).text.splitlines() if not line.startswith(" ")]
    assert [head.split(" · ")[0] for head in heads] == ["→ tools/call #7 echo", "→ tools/call #x echo"]


@pytest.mark.parametrize(
    "body", [b'{"hello":"world"}', b"", b'"jsonrpc"', b'{"jsonrpc":"1.0","id":1}', b"[" * 100_000, b'{"jsonrpc":"2.0"']
)
async def test_what_is_not_json_rpc_keeps_mitmproxys_own_views(proxy, body):
    flow = await proxy.ask(request_flow(body))
    assert shown(flow, flow.request).view_name != "MCP"


async def test_a_tool_error_says_so(proxy):
    flow = await streamed(proxy, b'data: {"jsonrpc":"2.0","id":7,"result":{"isError":true}}\n\n')
    assert "← tool error #7" in shown(flow, flow.response).text


async def test_an_array_in_an_event_is_shown_whole_and_a_blank_event_takes_nothing_with_it(proxy):
    answers = b",".join(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % number for number in (1, 2))
    flow = await streamed(
        proxy, b"data:  \n\ndata: [" + answers + b']\n\ndata: {"jsonrpc":"2.0","id":3,"result":{}}\n\n'
    )
    lines = [line for line in shown(flow, flow.response).text.splitlines() if "result" in line]
    assert [line.split("result ")[1].split(" ")[0] for line in lines] == ["#1", "#2", "#3"]


@pytest.mark.parametrize("view", ["auto", "mcp stream", "mcp stream, with payloads"])
async def test_a_message_in_the_place_of_a_stream_is_shown_with_its_payload(proxy, view):
    flow = await streamed(proxy, STREAM)
    flow.response.data.content = b'\n{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":3}}'
    first, *payload = contentviews.prettify_message(flow.response, flow, view).text.splitlines()
    assert first.startswith("← notifications/progress 3 · ")
    assert '      "progress": 3' in payload


async def test_what_is_no_message_in_the_place_of_a_stream_is_shown_as_it_is(proxy):
    flow = await streamed(proxy, STREAM)
    flow.response.data.content = b'{"half":'
    assert shown(flow, flow.response).text == '{"half":'
