"""What nobody waits for any more is not sent again: cancelled calls, and streams that another proxy has taken."""

import pytest

from tests.core.relay_driver import begun, called, error_in, note
from tests.core.relay_parts import Connection, Head, call, event_stream, notification, result
from tests.core.relay_second_runs import LOST_7, safe_world, second_run
from tests.core.resumption_world import settle

pytest_plugins = ["tests.core.relay_fixtures"]


async def cancel(client, request_id, **asked):
    exchange = await client.post(notification("notifications/cancelled", requestId=request_id), **asked)
    assert exchange.status == 202


def runs(its, key=7) -> int:
    return sum(server.executed[key] for server in its.servers.values())


# --- Cancelled calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_ids", [True, False])
@pytest.mark.parametrize("tool", ["write", "somebody else's"])
async def test_a_cancelled_call_whose_stream_breaks_runs_once_and_its_stream_just_ends(world, tool, has_ids):
    its = safe_world(world, "a", "b", has_ids=has_ids)
    client = await begun(its)
    exchange = await client.stream("POST", call(7, tool, how="stream"))
    its.servers["a"].calls[7].emit(note(1))
    await cancel(client, 7)
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended, runs(its)) == ([note(1)], "ended", 1)
    assert (its.proxy.counts.sent_again, its.proxy.counts.answers_lost) == (0, 0)
    its.proxy.leaves_nothing()


async def test_a_cancelled_call_that_is_answered_all_the_same_has_its_answer(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    await cancel(client, 7)
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([result(7)], "ended")


@pytest.mark.parametrize(
    "named", [8, "7", None, [7], {"id": 7}], ids=["another", "a text", "none", "an array", "an object"]
)
async def test_who_cancels_another_call_or_none_has_not_cancelled_this_one(world, named):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    await cancel(client, named)
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]


async def test_who_has_another_session_cancels_nothing_of_this_one(world):
    its = safe_world(world)
    client, other = await begun(its), await begun(its)
    exchange, stream = await called(client)
    await cancel(other, 7)
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]


async def test_who_has_not_the_sessions_credential_cancels_nothing(world):
    its = safe_world(world)
    client = await begun(its, authorization="Bearer mine")
    exchange, stream = await called(client, authorization="Bearer mine")
    refused = await client.post(
        notification("notifications/cancelled", requestId=7), authorization="Bearer somebody else's"
    )
    assert refused.status != 202
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]


async def test_a_call_that_is_cancelled_while_it_waits_for_a_server_is_not_sent_there(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, _ = await called(client)
    its.servers["a"].die()
    await its.time.pass_s(2)
    cancelling = client.open("POST", notification("notifications/cancelled", requestId=7))
    await settle()
    its.servers["a"].is_up = True
    await its.time.finish(exchange.task, cancelling.task)
    assert (exchange.payloads, exchange.ended, runs(its)) == ([], "ended", 1)
    assert its.servers["a"].methods().count("tools/call") == 1
    its.proxy.leaves_nothing()


async def test_a_second_run_that_is_cancelled_is_not_followed_by_a_third(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    its.servers["a"].break_off("reset")
    await second_run(its, but=stream)
    await cancel(client, 7)
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended, runs(its)) == ([], "ended", 2)


async def test_of_an_array_with_a_cancelled_call_the_others_are_told_that_their_answers_are_lost(world):
    its = safe_world(world)
    client = await begun(its)
    connection = Connection()
    its.servers["a"].then("tools/call", event_stream(connection))
    exchange = await client.stream("POST", b"[" + call(7) + b"," + call(8) + b"]")
    await cancel(client, 8)
    connection.close("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert its.servers["a"].methods().count("tools/call") == 1


async def test_an_array_with_a_cancelled_call_waits_for_the_one_server_that_can_go_on_with_it(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    first, second = Connection(), Connection()
    its.servers["a"].then("tools/call", event_stream(first))
    its.servers["a"].then("GET", event_stream(second))
    exchange = await client.stream("POST", b"[" + call(7) + b"," + call(8) + b"]")
    first.send(b"id: 1\ndata: " + note(1) + b"\n\n")
    await cancel(client, 8)
    its.servers["a"].is_up = False
    first.close("reset")
    await its.time.pass_s(3)
    its.servers["a"].is_up = True
    await its.time.pass_s(3)
    second.send(b"id: 2\ndata: " + result(7) + b"\n\n")
    second.close()
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([note(1), result(7)], "ended")


async def test_an_array_whose_calls_are_all_answered_or_cancelled_just_ends(world):
    its = safe_world(world)
    client = await begun(its)
    connection = Connection()
    its.servers["a"].then("tools/call", event_stream(connection))
    exchange = await client.stream("POST", b"[" + call(7) + b"," + call(8) + b"]")
    await cancel(client, 8)
    connection.send(b"data: " + result(7) + b"\n\n")
    connection.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([result(7)], "ended")


async def test_a_cancellation_keeps_no_stream_of_the_servers_own_from_going_on(world):
    its = safe_world(world)
    client = await begun(its)
    listening = await client.stream()
    await cancel(client, 7)
    its.servers["a"].break_off("reset")
    await its.time.pass_s(2)
    assert not listening.task.done()
    assert its.servers["a"].methods().count("GET") == 2


async def test_ids_that_name_no_call_are_not_kept(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    for number in range(100, 200):
        await cancel(client, number)
    assert exchange.passage.carriage._cancelled == set()
    stream.finish(result(7))
    await its.time.finish(exchange.task)


# --- Streams that were taken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited", ["a server", "a body", "its end", "a head"])
async def test_a_second_run_whose_stream_was_taken_meanwhile_is_followed_by_nothing(world, awaited):
    its = safe_world(world)
    client = await begun(its)
    exchange, _ = await called(client)
    connection = Connection()
    if awaited == "a server":
        its.servers["a"].die()
    else:
        its.servers["a"].then("tools/call", Head(503 if awaited == "a body" else 200, connection=connection))
        its.servers["a"].break_off("reset")
    await its.time.pass_s(1)
    exchange.passage.carriage.taken()
    its.servers["a"].is_up = True
    if awaited == "a body":
        connection.close()
    elif awaited == "its end":
        connection.send(result(7))
        connection.close()
    else:
        connection.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended, runs(its)) == ([], "cut", 1)
    assert its.servers["a"].methods().count("tools/call") == (1 if awaited == "a server" else 2)
    its.proxy.leaves_nothing()


async def test_a_stream_that_was_taken_while_its_server_refused_to_go_on_tells_of_no_lost_answers(world):
    its = safe_world(world, has_ids=True)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    connection = Connection()
    its.servers["a"].then("GET", Head(405, connection=connection))
    stream.connection.close("reset")
    await its.time.pass_s(1)
    exchange.passage.carriage.taken()
    connection.close()
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended, runs(its)) == ([note(1)], "cut", 1)
    assert its.proxy.counts.answers_lost == 0
