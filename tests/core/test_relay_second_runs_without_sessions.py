"""A safe call without a session whose stream breaks off is sent again too, and its bytes pass as they come."""

import json

import pytest

from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.mcp import Era
from tests.core.relay_driver import error_in
from tests.core.relay_parts import Connection, Head, call, event_stream, request, result
from tests.core.relay_second_runs import LOST_7, progress, safe_world
from tests.core.resumption_world import settle

pytest_plugins = ["tests.core.relay_fixtures"]


def frame(payload) -> bytes:
    return b"event: message\r\ndata: " + payload + b"\r\n\r\n"


async def modern_call(its, body=None):
    """A call of the modern era, and the server's ends of the streams that answer it, at whatever server, in turn."""
    connections = [Connection() for _ in range(4)]
    heads = [event_stream(each) for each in connections]

    async def answer(method, headers, body):
        its.asked.append((method, headers, body))
        return heads.pop(0) if not its.said else its.said.pop(0)

    its.asked, its.said = [], []
    for server in its.servers.values():
        server.handle = answer
    body = call(7) if body is None else body
    exchange = its.proxy.open("POST", body, era=Era.MODERN, mcp_session_id="stale", accept_encoding="gzip")
    await settle()
    return exchange, connections


async def test_the_call_goes_again_and_its_client_hears_of_what_is_new(world):
    its = safe_world(world, "a", "b")
    exchange, (first, second, *_) = await modern_call(its)
    first.send(frame(progress(1)) + frame(progress(2)))
    first.send(frame(progress(3))[:20])
    first.close("reset")
    await its.time.pass_s(1)
    second.send(frame(progress(1)) + b": alive\n\n" + frame(progress(2)) + frame(progress(3)) + frame(result(7)))
    second.close()
    await its.time.finish(exchange.task)
    expected = [frame(progress(1)), frame(progress(2)), b": alive\n\n", frame(progress(3)), frame(result(7))]
    assert (bytes(exchange.received), exchange.ended) == (b"".join(expected), "ended")
    assert [method for method, *_ in its.asked] == ["POST", "POST"]
    (_, headers, body) = its.asked[1]
    assert (headers.get("mcp-session-id"), headers.get("accept-encoding"), body) == (None, "identity", call(7))
    assert its.asked[0][1].get("accept-encoding") == "gzip"
    assert its.proxy.counts.sent_again == 1
    its.proxy.leaves_nothing()


async def test_an_answer_in_json_becomes_an_event_here_too(world):
    its = safe_world(world)
    exchange, (first, *_) = await modern_call(its)
    its.said.append(Head(200, result(7)))
    first.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([result(7)], "ended")


async def test_a_server_that_cannot_be_reached_is_followed_by_another(world):
    its = safe_world(world, "a", "b")
    exchange, (first, second, *_) = await modern_call(its)

    async def refuse(*_asked):
        raise ConnectionRefusedError("refused")

    its.servers["b"].handle = refuse
    first.close("reset")
    await its.time.pass_s(2)
    second.send(frame(result(7)))
    second.close()
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]


@pytest.mark.parametrize("said", [Head(404, result(7)), Head(200, result(8)), Head(202)])
async def test_what_is_no_answer_is_told_as_an_error(world, said):
    its = safe_world(world)
    exchange, (first, *_) = await modern_call(its)
    its.said.append(said)
    first.close("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert "MCP server a broke off" in json.loads(exchange.payloads[0])["error"]["message"]
    assert its.proxy.counts.answers_lost == 1


async def test_it_is_sent_as_often_as_the_route_says(world):
    its = safe_world(world, retry={"attempts": 3})
    exchange, connections = await modern_call(its)
    for each in connections[:3]:
        each.close("reset")
        await its.time.pass_s(1)
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert len(its.asked) == 3


@pytest.mark.parametrize(
    "body", [call(7, tool="other"), request(7, "subscriptions/listen"), request(7, "somebody/else's")]
)
async def test_what_is_not_safe_or_lasts_passes_and_breaks_as_it_does(world, body):
    its = safe_world(world)
    exchange, (first, *_) = await modern_call(its, body)
    first.send(frame(progress(1))[:20])
    first.close("reset")
    await its.time.finish(exchange.task)
    assert (bytes(exchange.received), exchange.ended, len(its.asked)) == (frame(progress(1))[:20], "cut", 1)
    assert exchange.passage.carriage is None


@pytest.mark.parametrize("rest", [b"", b"data: unfinished"])
async def test_a_server_that_ends_its_stream_in_good_order_is_believed(world, rest):
    its = safe_world(world)
    exchange, (first, *_) = await modern_call(its)
    first.send(rest)
    first.close()
    await its.time.finish(exchange.task)
    assert (bytes(exchange.received), exchange.ended, len(its.asked)) == (rest, "ended", 1)


async def test_an_answer_that_is_there_needs_no_second_run(world):
    its = safe_world(world)
    exchange, (first, *_) = await modern_call(its)
    first.send(frame(result(7)) + frame(progress(1)))
    first.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended, len(its.asked)) == ([result(7), progress(1)], "ended", 1)


async def test_a_frame_over_the_limit_passes_and_is_not_followed(world):
    its = safe_world(world)
    exchange, (first, *_) = await modern_call(its)
    large = b"data: " + b"x" * (MAX_EVENT_BYTES + 1)
    first.send(large)
    first.send(b"\n\n")
    first.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.received == large + b"\n\n", exchange.ended, len(its.asked)) == (True, "cut", 1)


async def test_a_client_that_leaves_has_cancelled_its_call(world):
    its = safe_world(world)
    exchange, (first, *_) = await modern_call(its)
    first.send(frame(progress(1)))
    await settle()
    exchange.leave()
    await settle()
    assert exchange.task.cancelled()
    assert its.proxy.counts.streams_read_on == 0
    its.proxy.leaves_nothing()
