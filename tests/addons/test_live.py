"""User interfaces see streams while they run: body, comment and mark, throttled and bounded."""

import asyncio

import pytest
from mitmproxy import exceptions
from mitmproxy.proxy.mode_specs import ProxyMode

from tests.addons.conftest import CALL, request_flow, response_of

EVENT = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
RESULT = b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'


class Updates:
    """An addon that hears mitmproxy's update hook, as mitmweb does."""

    def __init__(self):
        self.flows = asyncio.Queue()

    def forget(self):
        while not self.flows.empty():
            self.flows.get_nowait()

    def update(self, flows):
        self.flows.put_nowait(list(flows))


@pytest.fixture
def updates(proxy):
    updates = Updates()
    proxy.context.master.addons.add(updates)
    return updates


async def begin(proxy, **headers):
    flow = await proxy.ask(request_flow())
    stream = await proxy.begin_response(flow, response_of(content_type="text/event-stream", headers=headers))
    return flow, stream


async def test_a_running_stream_is_shown_while_it_runs(proxy, updates):
    proxy.context.configure(proxy.suite.live, shadowcat_live_ms=10)
    flow, stream = await begin(proxy)
    updates.forget()
    stream(EVENT)
    assert await updates.flows.get() == [flow]
    assert flow.response.content == EVENT
    assert flow.comment.startswith("tools/call echo … · ")
    stream(EVENT)
    await updates.flows.get()
    assert flow.response.content == EVENT * 2
    assert flow.comment.endswith("2 messages")
    stream(RESULT)
    await proxy.end(flow)
    assert flow.response.content == EVENT * 2 + RESULT
    assert flow.comment.startswith("tools/call echo → ok · ")
    assert flow.comment.endswith("3 messages")
    assert [end for end, _ in flow.metadata["shadowcat.times"]] == [len(EVENT), len(EVENT) * 2, len(EVENT) * 2 + 44]


async def test_many_chunks_and_streams_share_one_update(proxy, updates):
    proxy.context.configure(proxy.suite.live, shadowcat_live_ms=10)
    running = [await begin(proxy) for _ in range(3)]
    updates.forget()
    for _ in range(50):
        for _, stream in running:
            stream(EVENT)
    assert await updates.flows.get() == [flow for flow, _ in running]
    assert updates.flows.empty()


async def test_the_kept_body_is_bounded_and_says_so(proxy):
    proxy.context.configure(proxy.suite.live, shadowcat_live_bytes=10_000)
    flow, stream = await begin(proxy)
    for _ in range(1_000):
        stream(EVENT)
    stream(RESULT)
    await proxy.end(flow)
    assert len(flow.response.content) <= 10_000
    assert flow.response.content.startswith(EVENT)
    assert flow.response.content.endswith(RESULT)
    assert b"bytes of this stream are not kept here" in flow.response.content
    assert flow.comment.endswith("1001 messages")


async def test_a_coded_stream_keeps_a_readable_beginning(proxy):
    proxy.context.configure(proxy.suite.live, shadowcat_live_bytes=5_000)
    flow, stream = await begin(proxy, **{"content-encoding": "gzip"})
    for _ in range(100):
        stream(b"\x1f\x8b" + bytes(100))
    await proxy.end(flow)
    assert b"shadowcat" not in flow.response.raw_content
    assert 0 < len(flow.response.raw_content) <= 5_000


async def test_nothing_is_kept_when_the_user_wants_nothing_kept(proxy):
    proxy.context.configure(proxy.suite.live, shadowcat_live_bytes=0)
    flow, stream = await begin(proxy)
    stream(EVENT + RESULT)
    await proxy.end(flow)
    assert "shadowcat.times" not in flow.metadata
    assert flow.comment.startswith("tools/call echo → ok · ")


@pytest.mark.parametrize(
    ("answer", "status", "comment", "marked"),
    [
        pytest.param({"result": {}}, 200, "→ ok", False, id="ok"),
        pytest.param({"result": {"isError": True}}, 200, "→ ✗ tool error", True, id="tool-error"),
        pytest.param({"error": {"code": -32601, "message": "no"}}, 200, "→ ✗ error -32601 no", True, id="error"),
        pytest.param(
            {"error": {"code": -32600, "message": "s"}}, 404, "→ ✗ error -32600 s", True, id="error-and-status"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":{oops}}', 200, "→ ✗ unreadable answer", True, id="unreadable"),
        pytest.param(None, 404, "→ ✗ HTTP 404", True, id="status"),
        pytest.param(b'{"error":"invalid_token"}', 401, "→ ✗ HTTP 401", True, id="status-with-a-page"),
        pytest.param(None, 202, "→ accepted", False, id="accepted"),
        pytest.param(None, 200, "→ no answer", False, id="empty"),
    ],
)
async def test_the_comment_says_how_it_went_and_failures_are_marked(proxy, answer, status, comment, marked):
    flow = await proxy.ask(request_flow())
    payload = {"jsonrpc": "2.0", "id": 7, **answer} if isinstance(answer, dict) else answer
    await proxy.answer(flow, response_of(payload, status=status))
    assert flow.comment.startswith(f"tools/call echo {comment} · ")
    assert bool(flow.marked) is marked


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/plain"])
async def test_a_page_that_explains_a_status_is_no_message(proxy, content_type):
    flow = await proxy.ask(request_flow())
    await proxy.answer(flow, response_of(b"<h1>Not Found</h1>", status=404, content_type=content_type))
    assert flow.comment.startswith("tools/call echo → ✗ HTTP 404 · ")
    assert "message" not in flow.comment


async def test_a_comment_and_a_mark_of_the_users_own_stay(proxy):
    flow = await proxy.ask(request_flow())
    flow.comment = "look here"
    flow.marked = ":star:"
    await proxy.answer(flow, response_of({"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "x"}}))
    assert flow.comment == "look here"
    assert flow.marked == ":star:"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Client disconnected.", "client left"),
        ("server closed connection", "✗ server hung up"),
        ("Connection killed.", "✗ killed"),
        ("HTTP/2 protocol error: nonsense", "✗ broke off"),
    ],
)
async def test_a_stream_that_breaks_off_keeps_what_came_and_says_who_left(proxy, error, said):
    flow, stream = await begin(proxy)
    stream(EVENT)
    await proxy.fail(flow, error)
    assert flow.response.content == EVENT
    assert flow.comment.startswith(f"tools/call echo → {said} · ")
    assert bool(flow.marked) is ("✗" in said)
    assert str(flow.metadata["shadowcat.times"]) == "of 1 chunks"


@pytest.mark.parametrize(
    "option", [{"shadowcat_live_bytes": 5}, {"shadowcat_live_bytes": -1}, {"shadowcat_live_ms": 0}]
)
async def test_values_that_make_no_sense_are_refused(proxy, option):
    with pytest.raises(exceptions.OptionsError, match=next(iter(option))):
        proxy.context.configure(proxy.suite.live, **option)


async def test_behind_a_reverse_proxy_other_traffic_is_named_by_its_path(proxy):
    flow = request_flow(
        None, method="GET", headers={}, url="http://127.0.0.1:3001/.well-known/oauth-protected-resource"
    )
    flow.client_conn.proxy_mode = ProxyMode.parse("reverse:http://127.0.0.1:3001")
    await proxy.ask(flow)
    assert flow.comment == "/.well-known/oauth-protected-resource"


async def test_large_bodies_do_not_wait_to_be_shown(proxy, updates):
    flow = request_flow({**CALL, "params": {"name": "echo", "arguments": {"text": "x" * 1_100_000}}})
    proxy.suite.request(flow)
    flow.response = response_of({"jsonrpc": "2.0", "id": 7, "result": {}})
    proxy.suite.responseheaders(flow)
    assert flow.comment == ""
    proxy.suite.response(flow)
    assert flow.comment.startswith("tools/call echo → ok")
    assert not proxy.suite.live._dirty


async def test_an_answer_on_another_stream_is_waited_for_once(proxy):
    url = "http://127.0.0.1:3001/m"
    get = await proxy.ask(request_flow(None, method="GET"))
    stream = await proxy.begin_response(get, response_of(content_type="text/event-stream"))
    post = await proxy.ask(request_flow(url=url))
    await proxy.answer(post, response_of(status=202))
    assert len(proxy.suite.live._accepted) == 1
    stream(RESULT)
    proxy.suite.live.show_now()
    assert post.comment.startswith("tools/call echo → ok")
    assert not proxy.suite.live._accepted


async def test_labels_are_there_at_once_where_mitmproxy_asks_for_them(proxy):
    proxy.context.options.add_option("intercept", str, "", "")
    proxy.context.options.update(intercept="~meta echo")
    flow = request_flow()
    proxy.suite.request(flow)
    assert flow.metadata["mcp.target"] == "echo"
