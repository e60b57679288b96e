"""What is sent again when its stream breaks off, how often, and what is an error as before."""

import json

import pytest

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import MAX_EVENT_BYTES
from shadowcat_core.messages import Message
from shadowcat_core.sessions.lifecycle import Refusal
from tests.core.relay_driver import CONTEXT, begun, called, error_in, note
from tests.core.relay_parts import (
    Connection,
    call,
    event_stream,
    notification,
    request,
    result,
)
from tests.core.relay_second_runs import LOST_7, progress, safe_world, second_run
from tests.core.resumption_world import settle
from tests.core.upstream_parts import file, route

pytest_plugins = ["tests.core.relay_fixtures"]


# --- How often --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
async def test_it_is_sent_as_often_as_the_route_says_over_its_whole_life(world, attempts):
    its = safe_world(world, retry={"attempts": attempts})
    client = await begun(its)
    exchange, stream = await called(client)
    for _ in range(1, attempts):
        its.servers["a"].break_off("reset")
        stream = await second_run(its, but=stream)
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert (its.servers["a"].executed[7], its.proxy.counts.sent_again) == (attempts, attempts - 1)


async def test_attempts_before_the_first_answer_count_as_well(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    its.servers["a"].then("tools/call", ConnectionResetError("reset"))
    its.servers["b"].then("tools/call", ConnectionResetError("reset"))
    exchange = client.open("POST", call(7, how="stream"))
    stream = await second_run(its)
    for server in its.servers.values():
        server.break_off("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert its.servers["a"].executed + its.servers["b"].executed == {7: 1}
    assert stream.sent == []


async def test_attempts_that_reached_nobody_do_not_count(world):
    its = safe_world(world, retry={"attempts": 2})
    client = await begun(its)
    exchange, stream = await called(client)
    its.servers["a"].die()
    await its.time.pass_s(5)
    its.servers["a"].is_up = True
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]


# --- What is not sent again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [{}, {"tools": ["read"]}])
async def test_what_nothing_says_is_safe_is_an_error_as_before(world, retry):
    its = world("a", "b", has_ids=False, retry=retry)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads[0], error_in(exchange.payloads[1])) == (progress(1), LOST_7)
    assert (its.servers["a"].executed[7], its.proxy.counts.sent_again) == (1, 0)


async def test_a_tools_hints_are_asked_for_when_its_stream_breaks(world):
    its = world("a", has_ids=False)
    client = await begun(its)
    exchange, stream = await called(client)
    listed = {"tools": [{"name": "write", "annotations": {"readOnlyHint": True}}]}
    answer = Message(json.dumps({"jsonrpc": "2.0", "id": 1, "result": listed}).encode(), CONTEXT)
    await its.proxy.relay.answered(its.proxy.pool.route.name, None, Message(request(1, "tools/list"), CONTEXT), answer)
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]
    assert its.proxy.caught_up


async def test_what_is_not_safe_any_more_is_not_sent_a_third_time(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, _ = await called(client)
    policy = its.proxy.pool.route.retry
    connection = Connection()
    its.servers["a"].then("tools/call", event_stream(connection, content_encoding="gzip"))
    its.servers["a"].break_off("reset")
    await settle()
    its.proxy.relay.apply(file(route("a", health=its.options["health"])))
    assert its.proxy.pool.route.retry != policy
    connection.close("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert its.servers["a"].methods().count("tools/call") == 2
    assert "sent again: reset" in json.loads(exchange.payloads[0])["error"]["message"]


@pytest.mark.parametrize(
    "asked",
    [
        request("s", "sampling/createMessage"),
        request(3, "elicitation/create"),
        request(7, "roots/list"),
        b"[" + note(1) + b"," + request(7, "ping") + b"]",
    ],
)
async def test_a_call_that_has_asked_its_client_something_is_not_sent_again(world, asked):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(asked)
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads[0], error_in(exchange.payloads[1])) == (asked, LOST_7)
    assert its.servers["a"].executed[7] == 1


async def test_a_second_run_may_ask_and_is_then_not_followed_by_a_third(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    again.emit(request(1, "roots/list"))
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert exchange.payloads[0] == request(1, "roots/list")
    assert error_in(exchange.payloads[1]) == LOST_7
    assert its.servers["a"].executed[7] == 2


async def test_progress_that_is_too_large_to_keep_keeps_its_call_from_being_sent_again(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(notification("notifications/progress", progressToken=7, progress=1, message="x" * 5_000))
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert error_in(exchange.payloads[1]) == LOST_7


async def test_a_server_that_ends_a_stream_in_good_order_is_not_asked_again(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.connection.close()
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended, its.servers["a"].executed[7]) == ([], "ended", 1)


async def test_what_passed_unread_is_not_sent_again(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.connection.send(b"data: " + b"x" * (MAX_EVENT_BYTES + 1))
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert (exchange.ended, its.servers["a"].executed[7]) == ("cut", 1)


# --- Arrays -----------------------------------------------------------------------------------------------------------


async def array_called(world, *told):
    """Two safe calls in one body, whose stream has told this much and breaks; then the second run."""
    its = safe_world(world, "a", "b")
    client = await begun(its)
    connections = Connection(), Connection()
    for server in its.servers.values():
        server.then("tools/call", *(event_stream(each) for each in connections))
    body = b"[" + call(1) + b"," + notification("notifications/cancelled") + b"," + call("b") + b"]"
    exchange = await client.stream("POST", body)
    for each in told:
        connections[0].send(b"data: " + each + b"\n\n")
    connections[0].close("reset")
    await its.time.pass_s(1)
    return its, exchange, connections[1]


@pytest.mark.parametrize("told", [(), (note(1),)])
async def test_an_array_is_sent_again_as_a_whole(world, told):
    its, exchange, second = await array_called(world, *told)
    for each in (result("b"), result(1)):
        second.send(b"data: " + each + b"\n\n")
    second.close()
    await its.time.finish(exchange.task)
    assert exchange.payloads == [*told, result("b"), result(1)]


async def test_an_array_may_be_answered_in_json_the_second_time(world):
    its = safe_world(world)
    client = await begun(its)
    first = Connection()
    its.servers["a"].then("tools/call", event_stream(first))
    exchange = await client.stream("POST", b"[" + call(1) + b"," + call(2) + b"]")
    first.close("reset")
    await its.time.finish(exchange.task)
    (told,) = exchange.payloads
    assert [each["id"] for each in json.loads(told)] == [1, 2]
    assert exchange.ended == "ended"


@pytest.mark.parametrize("told", [result("b"), progress(1)])
async def test_an_array_of_which_something_was_told_is_not_sent_again(world, told):
    its, exchange, _ = await array_called(world, told)
    await its.time.finish(exchange.task)
    assert [error_in(each)[0] for each in exchange.payloads[1:]] == ([1] if b"result" in told else [1, "b"])
    assert its.proxy.counts.sent_again == 0


async def test_an_array_with_an_answer_to_its_server_is_not_sent_again(world):
    its = safe_world(world)
    client = await begun(its)
    connection = Connection()
    its.servers["a"].then("tools/call", event_stream(connection))
    exchange = await client.stream("POST", b"[" + call(7) + b"," + result("of the server's") + b"]")
    connection.close("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]


# --- Clients that leave -----------------------------------------------------------------------------------------------


async def test_a_call_that_is_read_on_runs_again_for_when_its_client_comes_back(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    exchange.leave()
    await settle()
    its.servers["a"].die()
    again = await second_run(its, but=stream)
    for step in (1, 2):
        again.emit(progress(step))
    await settle()
    back = client.open("GET", last_event_id=exchange.last_event_id)
    await settle()
    assert back.payloads == [progress(2)]
    again.emit(progress(3))
    again.finish(result(7))
    await its.time.finish(exchange.task, back.task)
    assert (exchange.payloads, back.payloads) == ([progress(1)], [progress(2), progress(3), result(7)])
    its.proxy.leaves_nothing()


async def test_a_call_that_its_proxy_gave_up_is_not_sent_by_who_leads_its_client_back(world):
    its = safe_world(world, "a", "b")
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    its.proxy.kill()
    its.servers["a"].die()
    back = client.open("GET", proxy=other, last_event_id=exchange.last_event_id)
    await its.time.finish(back.task)
    assert [error_in(each) for each in back.payloads] == [LOST_7]
    assert its.servers["b"].executed == {}


# --- The store --------------------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_leaves_the_error(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, _ = await called(client)
    its.proxy.log.is_away = True
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    its.proxy.log.is_away = False
    await its.time.pass_s(60)
    its.proxy.leaves_nothing()


async def test_a_store_that_goes_away_while_the_session_moves_leaves_the_error(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, _ = await called(client)

    async def fail(*_args):
        raise StoreUnavailable("away")

    its.proxy.relay.manager.revive = fail
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]


async def test_a_session_that_is_refused_by_now_leaves_the_error(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, _ = await called(client)

    async def refuse(*_args, **_named):
        return Refusal.UNKNOWN

    its.proxy.relay.manager.use = refuse
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert its.servers["a"].executed[7] == 1


@pytest.mark.parametrize("told", [[], [progress(1)]])
async def test_a_call_of_a_session_that_has_ended_is_not_sent_again(world, told):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    for each in told:
        stream.emit(each)
    await settle()
    await its.store.end(client.session_id)
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert exchange.payloads[: len(told)] == told
    assert its.servers["a"].executed[7] == 1
    its.proxy.leaves_nothing()


async def test_another_proxy_that_has_taken_the_stream_keeps_it(world):
    its = safe_world(world)
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    (info,) = await its.store.streams(client.session_id)
    await other.log.close_stream(client.session_id, info.stream_id)
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([progress(1)], "cut")
    assert its.servers["a"].executed[7] == 1
