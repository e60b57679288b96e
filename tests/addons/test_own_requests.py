"""What Shadowcat asks servers itself, over real connections: answers, failures, and bounds."""

import asyncio
import contextlib
import gzip
import zlib

import pytest

from shadowcat_addons.own_requests import is_own
from shadowcat_core.jsonrpc import dump
from shadowcat_core.limits import MAX_ASKED_AT_ONCE, MAX_OWN_ANSWER_BYTES
from tests.addons.own_world import (
    PING,
    PONG,
    POSTED,
    SHORT_S,
    SHOWN,
    asking,
    connections_close,
    event,
    mitmproxy_with_own_requests,
    open_files,
    settled,
)
from tests.e2e.origin import EVENT_STREAM, JSON, Origin
from tests.e2e.processes import free_port


@pytest.fixture
async def mitm(confdir):
    async with mitmproxy_with_own_requests(confdir) as context:
        yield context


@pytest.fixture
async def origin():
    async with Origin(free_port()).listening() as listening:
        yield listening


@SHOWN
async def test_an_answer_is_whole_and_the_connection_is_closed_after_it(mitm, origin, is_shown):
    answer = asking(mitm, f"{origin.url}/mcp?a=b", headers=[*POSTED, ("Authorization", "Bearer t")], is_shown=is_shown)
    exchange = await origin.exchange()
    await exchange.answer(PONG, {**JSON, "Mcp-Session-Id": "s-9"}, cut=5)
    answer = await answer
    assert (answer.status, answer.body) == (200, PONG)
    assert answer.headers.get("mcp-session-id") == "s-9"
    request = exchange.request
    assert (request.method, request.target, request.body, request.http_version) == (
        "POST", "/mcp?a=b", PING, "HTTP/1.1",
    )  # fmt: skip
    assert request.header("host") == f"127.0.0.1:{origin.port}"
    assert request.header("authorization") == "Bearer t"
    assert request.header("content-length") == str(len(PING))
    await connections_close(origin)


async def test_what_belongs_to_another_connection_is_not_sent_on(mitm, origin):
    carried = {
        "Host": "elsewhere", "Connection": "upgrade", "Content-Length": "3", "Transfer-Encoding": "chunked",
        "Accept-Encoding": "br", "Expect": "100-continue", "Upgrade": "h2c",
    }  # fmt: skip
    answer = asking(mitm, origin.url, headers=[*POSTED, *carried.items()])
    exchange = await origin.exchange()
    sent = {name for name, _ in exchange.request.headers}
    assert sent == {"host", "content-type", "accept", "content-length"}
    assert exchange.request.header("host") == f"127.0.0.1:{origin.port}"
    assert exchange.request.body == PING
    await exchange.answer(PONG)
    await answer


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_request_without_a_body_has_no_length(mitm, origin, method):
    answer = asking(mitm, origin.url, b"", method=method, headers=[])
    exchange = await origin.exchange()
    assert exchange.request.method == method
    assert exchange.request.header("content-length") is None
    await exchange.head({}, status=204, framing=0)
    await exchange.end()
    answer = await answer
    assert (answer.status, answer.body) == (204, b"")


@SHOWN
@pytest.mark.parametrize("status", [202, 400, 404, 503])
async def test_any_status_is_an_answer(mitm, origin, status, is_shown):
    async with origin.answering(lambda exchange: exchange.answer(b"", status=status)):
        assert (await asking(mitm, origin.url, is_shown=is_shown)).status == status


@SHOWN
async def test_the_coding_of_an_answer_is_undone(mitm, origin, is_shown):
    coded = gzip.compress(PONG * 100)
    headers = {**JSON, "content-encoding": "gzip"}
    async with origin.answering(lambda exchange: exchange.answer(coded, headers, cut=7)):
        answer = await asking(mitm, origin.url, is_shown=is_shown)
    assert answer.body == PONG * 100
    assert answer.headers.get("content-encoding") is None
    assert mitm.overheard.bodies == ([coded] if is_shown else [])


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b"no gzip", {"content-encoding": "gzip"}, "not in its content coding"),
        (PONG, {"content-encoding": "rot13"}, "unknown content coding"),
        (gzip.compress(bytes(MAX_OWN_ANSWER_BYTES + 1)), {"content-encoding": "gzip"}, "over the limit"),
        (bytes(MAX_OWN_ANSWER_BYTES + 1), {}, "over the limit"),
    ],
    ids=["not gzip", "unknown", "bomb", "long"],
)
@SHOWN
async def test_an_answer_that_cannot_be_read_or_is_too_long_is_none(mitm, origin, body, headers, why, is_shown):
    given_up = []
    mitm.own.on_given_up = given_up.append

    async def answer(exchange):
        with contextlib.suppress(ConnectionError):
            await exchange.answer(body, {**JSON, **headers}, cut=60_000)

    async with origin.answering(answer):
        with pytest.raises(ConnectionError, match=why):
            await asking(mitm, origin.url, is_shown=is_shown)
        await connections_close(origin)
    assert [flow.error.msg for flow in given_up] == [flow.error.msg for flow in mitm.overheard.flows[-1:]]
    assert not given_up or why in given_up[0].error.msg


async def test_an_answer_of_the_greatest_length_is_taken(mitm, origin):
    body = b" " * (MAX_OWN_ANSWER_BYTES - len(PONG)) + PONG
    async with origin.answering(lambda exchange: exchange.answer(body)):
        assert (await asking(mitm, origin.url)).body == body


@SHOWN
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_an_event_stream_is_left_as_soon_as_the_answer_is_there(mitm, origin, coding, is_shown):
    note = dump({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}})
    other = dump({"jsonrpc": "2.0", "id": "own-2", "result": {}})
    stream = event(note) + b": beat\n\n" + event(b"no json") + event(other) + event(PONG)
    if coding == "gzip":
        coder = zlib.compressobj(wbits=31)
        coded = coder.compress(stream) + coder.flush(zlib.Z_SYNC_FLUSH)
    else:
        coded = stream
    answer = asking(mitm, origin.url, is_shown=is_shown)
    exchange = await origin.exchange()
    await exchange.head({**EVENT_STREAM, "content-encoding": coding})
    for at in range(0, len(coded), 40):
        await exchange.send(coded[at : at + 40])
    answer = await answer
    assert answer.body == stream
    await exchange.wait_peer_gone()
    hooks = mitm.overheard.hooks
    assert (hooks.count("response"), hooks.count("error")) == (int(is_shown), 0)
    if is_shown:
        flow = mitm.overheard.flows[-1]
        assert flow.response.timestamp_end is not None
        assert not flow.live
        assert mitm.overheard.bodies == [coded]


@pytest.mark.parametrize("body", [b"", b"no json", dump({"jsonrpc": "2.0", "method": "notifications/initialized"})])
async def test_an_event_stream_that_owes_no_answer_is_read_to_its_end(mitm, origin, body):
    answer = asking(mitm, origin.url, body)
    exchange = await origin.exchange()
    await exchange.head()
    await exchange.send(event(PONG))
    await exchange.send(event(PONG))
    await exchange.end()
    assert (await answer).body == event(PONG) * 2


@SHOWN
async def test_who_cannot_be_reached_is_an_error_that_says_why(mitm, is_shown):
    with pytest.raises(ConnectionError, match="Connect call failed"):
        await asking(mitm, f"http://127.0.0.1:{free_port()}/mcp", is_shown=is_shown)
    assert mitm.overheard.hooks.count("error") == int(is_shown)


@SHOWN
@pytest.mark.parametrize("when", ["before the head", "within the body"])
async def test_an_answer_that_breaks_off_is_an_error(mitm, origin, when, is_shown):
    answer = asking(mitm, origin.url, is_shown=is_shown)
    exchange = await origin.exchange()
    if when == "within the body":
        await exchange.head(JSON, framing=len(PONG))
        await exchange.send(PONG[:10])
    await exchange.reset()
    with pytest.raises(ConnectionError):
        await answer
    assert mitm.overheard.hooks.count("error") == int(is_shown)
    assert mitm.overheard.hooks.count("response") == 0


@SHOWN
@pytest.mark.parametrize("sent", ["nothing", "a head", "a part"])
async def test_a_server_that_falls_silent_is_given_up_after_the_time(mitm, origin, sent, is_shown):
    given_up = []
    mitm.own.on_given_up = given_up.append
    answer = asking(mitm, origin.url, timeout_s=SHORT_S, is_shown=is_shown)
    exchange = await origin.exchange()
    if sent != "nothing":
        await exchange.head()
    if sent == "a part":
        await exchange.send(b"data: {")
    with pytest.raises(TimeoutError, match=r"no answer within 0\.6 s"):
        await answer
    await exchange.wait_peer_gone()
    assert [(is_own(flow), flow.error.msg, flow.live) for flow in given_up] == [
        (True, "no answer in time", False)
    ] * is_shown
    assert all(flow.response is None or flow.response.stream is False for flow in given_up)


@SHOWN
async def test_whoever_asks_may_be_cancelled(mitm, origin, is_shown):
    given_up = []
    mitm.own.on_given_up = given_up.append
    answer = asking(mitm, origin.url, is_shown=is_shown)
    exchange = await origin.exchange()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    await exchange.wait_peer_gone()
    assert len(given_up) == int(is_shown)
    assert not mitm.own._asking[is_shown].locked()


@SHOWN
async def test_two_hundred_askers_leave_no_file_open(mitm, origin, is_shown):
    async with origin.answering(lambda exchange: exchange.answer(PONG)):
        await asking(mitm, origin.url, is_shown=is_shown)
        await connections_close(origin)
        files = open_files()
        answers = await asyncio.gather(*[asking(mitm, origin.url, is_shown=is_shown) for _ in range(200)])
        assert {answer.body for answer in answers} == {PONG}
        await connections_close(origin)
        await settled()
        assert open_files() <= files + 2


async def test_so_many_are_asked_at_once_and_probes_do_not_wait_for_them(mitm, origin):
    many = int(MAX_ASKED_AT_ONCE)
    asked = [asking(mitm, origin.url) for _ in range(many + 1)]
    under_way = [await origin.exchange() for _ in range(many)]
    with pytest.raises(TimeoutError):
        await asking(mitm, origin.url, timeout_s=SHORT_S)
    probe = asking(mitm, f"{origin.url}/probe", is_shown=False)
    exchange = await origin.exchange()
    assert exchange.request.target == "/probe"
    await exchange.answer(PONG)
    assert (await probe).body == PONG
    await under_way[0].answer(PONG)
    await (await origin.exchange()).answer(PONG)
    for exchange in under_way[1:]:
        await exchange.answer(PONG)
    assert {answer.body for answer in await asyncio.gather(*asked)} == {PONG}


async def test_what_is_no_url_is_refused(mitm):
    with pytest.raises(ValueError, match=r"."):
        await asking(mitm, "no url")
