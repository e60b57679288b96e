"""What must not wait streams through a tap; what is short is held; when a response ends, so does its exchange."""

import gc

import brotli
import pytest

from shadowcat_core.exchange import Exchange
from shadowcat_core.limits import MAX_HELD_BODY_BYTES
from shadowcat_core.stream import StreamTap
from tests.addons.conftest import CALL, request_flow, response_of

LISTEN = {"jsonrpc": "2.0", "id": "l", "method": "subscriptions/listen", "params": {}}
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {}}


@pytest.mark.parametrize(
    ("payload", "content_type", "length", "streams"),
    [
        pytest.param(CALL, "text/event-stream", None, True, id="event-stream"),
        pytest.param(CALL, "Text/Event-Stream;charset=UTF-8", None, True, id="event-stream-in-other-case"),
        pytest.param(CALL, "application/json", "40", False, id="short-json"),
        pytest.param(CALL, "application/json", str(MAX_HELD_BODY_BYTES), False, id="json-at-the-limit"),
        pytest.param(CALL, "application/json", str(MAX_HELD_BODY_BYTES + 1), True, id="json-over-the-limit"),
        pytest.param(CALL, "application/json", None, True, id="json-of-unknown-length"),
        pytest.param(CALL, "application/json", "nonsense", True, id="json-of-nonsense-length"),
        pytest.param(LISTEN, "application/json", "40", True, id="listen-answered-as-json"),
    ],
)
async def test_what_must_not_wait_streams(proxy, payload, content_type, length, streams):
    flow = await proxy.ask(request_flow(payload))
    response = response_of(content_type=content_type)
    response.headers.pop("content-length", None)
    if length is not None:
        response.headers["content-length"] = length
    stream = await proxy.begin_response(flow, response)
    assert isinstance(stream, StreamTap) is streams


async def test_a_stream_that_another_addon_handles_is_left_to_it(proxy):
    flow = await proxy.ask(request_flow())
    response = response_of(content_type="text/event-stream")
    response.stream = others = bytes.upper
    assert await proxy.begin_response(flow, response) is others


async def test_a_body_that_mitmproxy_streams_for_its_size_is_watched_too(proxy):
    flow = await proxy.ask(request_flow())
    response = response_of(RESULT)
    response.stream = True
    assert isinstance(await proxy.begin_response(flow, response), StreamTap)


async def test_a_response_that_an_addon_made_is_sent_whole_by_mitmproxy(proxy):
    flow = await proxy.ask(request_flow())
    flow.response = response_of(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n', content_type="text/event-stream")
    proxy.suite.responseheaders(flow)
    assert not flow.response.stream


async def test_what_mitmproxy_is_to_store_goes_through_its_hands(proxy):
    proxy.context.options.store_streamed_bodies = True
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    assert stream.keeps_body


async def test_lines_of_a_listen_stream_are_messages(proxy):
    flow = await proxy.ask(request_flow(LISTEN))
    stream = await proxy.begin_response(flow, response_of())
    stream(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n')
    stream(b'{"jsonrpc":"2.0","id":"l","result":{}}\n')
    await proxy.end(flow)
    assert flow.comment.startswith("subscriptions/listen → ok")
    assert flow.comment.endswith("2 messages")


async def answered_in_pieces(proxy, text_bytes):
    flow = await proxy.ask(request_flow())
    response = response_of({**RESULT, "result": {"isError": True, "text": "x" * text_bytes}})
    body = response.content
    del response.headers["content-length"]
    stream = await proxy.begin_response(flow, response)
    for i in range(0, len(body), 10_000):
        stream(body[i : i + 10_000])
    await proxy.end(flow)
    return flow, body


async def test_an_answer_of_unknown_length_is_read_when_it_is_whole(proxy):
    flow, body = await answered_in_pieces(proxy, 150_000)
    assert flow.comment.startswith("tools/call echo → ✗ tool error")
    assert flow.response.content == body


async def test_an_answer_that_is_too_large_to_keep_is_not_read_and_says_so(proxy):
    flow, body = await answered_in_pieces(proxy, 600_000)
    assert flow.comment.startswith("tools/call echo → 600.1 KB that were not read")
    assert len(flow.response.content) < len(body)


async def test_a_coded_stream_is_understood(proxy):
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(
        flow, response_of(content_type="text/event-stream", headers={"content-encoding": "br"})
    )
    coded = brotli.compress(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n')
    assert stream(coded[:9]) == [coded[:9]]
    assert stream(coded[9:]) == [coded[9:]]
    await proxy.end(flow)
    assert flow.comment.startswith("tools/call echo → ok")


async def test_a_coding_that_nobody_knows_passes_and_is_said(proxy, caplog):
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(
        flow, response_of(content_type="text/event-stream", headers={"content-encoding": "rot13"})
    )
    assert stream(b"qngn: {}\n\n") == [b"qngn: {}\n\n"]
    await proxy.end(flow)
    assert "unknown content coding 'rot13'" in caplog.text


async def test_a_frame_over_the_limit_is_said_with_its_exchange(proxy, caplog):
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    piece = b"data: " + b"x" * 1_000_000
    for _ in range(20):
        assert stream(piece) == [piece]
    await proxy.end(flow)
    assert caplog.text.count("over the limit of 16,777,216 bytes") == 1
    assert "exchange 1" in caplog.text


@pytest.mark.parametrize("how", ["ends", "fails", "client leaves"])
async def test_every_exchange_ends(proxy, how):
    registry = proxy.suite.registry
    flow = await proxy.ask(request_flow())
    await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
    assert len(registry) == 1
    match how:
        case "ends":
            await proxy.end(flow)
        case "fails":
            await proxy.fail(flow, "Server disconnected.")
        case "client leaves":
            await proxy._call("client_disconnected", flow.client_conn)
    assert len(registry) == 0


async def test_metrics_of_ended_streams_add_up(proxy):
    for _ in range(2):
        flow = await proxy.ask(request_flow())
        stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream"))
        stream(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n')
        await proxy.end(flow)
    metrics = proxy.suite.registry.metrics
    assert (metrics.chunks, metrics.messages) == (2, 2)
    said = proxy.context.master.commands.execute("shadowcat.streams")
    assert said.startswith("0 exchanges running; ended streams: 2 messages in 88 bytes and 2 chunks")


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_an_exchange_that_is_over_is_freed_without_a_collection(proxy, content_type):
    gc.collect()
    gc.disable()
    try:
        before = {id(known) for known in gc.get_objects() if isinstance(known, Exchange)}
        flow = await proxy.ask(request_flow())
        stream = await proxy.begin_response(flow, response_of(RESULT, content_type=content_type))
        if stream:
            stream(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n')
        await proxy.end(flow)
        assert flow.comment.startswith("tools/call echo → ok")
        del flow, stream
        after = {id(known) for known in gc.get_objects() if isinstance(known, Exchange)}
        assert after <= before
    finally:
        gc.enable()
