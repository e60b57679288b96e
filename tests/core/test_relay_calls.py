"""A call's answers go on when their server breaks off; each event comes once, and what cannot come is told."""

import pytest

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.jsonrpc import ErrorCode
from tests.core.relay_driver import begun, called, error_in, listening, note, plain_answer
from tests.core.relay_parts import Connection, Head, call, event_stream, result
from tests.core.resumption_world import settle
from tests.core.upstream_parts import named

pytest_plugins = ["tests.core.relay_fixtures"]

LOST_7 = (7, ErrorCode.UPSTREAM_CLOSED, True)


# --- The answers to a call ----------------------------------------------------------------------------------------


async def test_a_call_whose_connection_breaks_is_gone_on_with_at_its_server(world):
    its = world("a", "b")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    its.servers["a"].break_off("reset")
    stream.emit(note(2))
    await its.time.pass_s(1)
    stream.emit(note(3))
    stream.connection.close()  # in good order, which is to say: ask again
    await settle()
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [note(1), note(2), note(3), result(7)]
    assert its.proxy.counts.streams_reconnected == 2
    legs = exchange.legs[1:]
    assert all(leg.resumes for leg in legs)
    (_, session_id, headers, body) = its.servers["a"].asked[-1]
    assert (session_id, headers.get("accept"), body) == (its.servers["a"].begun[0], "text/event-stream", b"")
    assert headers.get("last-event-id") == f"{stream.name}/2"
    its.proxy.leaves_nothing()


@pytest.mark.parametrize("how", ["reset", None])
async def test_a_call_of_a_server_without_ids_is_lost_with_its_connection(world, how):
    its = world("a", has_ids=False)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    if how is None:
        stream.connection.close()
    else:
        its.servers["a"].break_off(how)
    await its.time.finish(exchange.task)
    assert exchange.payloads[0] == note(1)
    # A server that ends such a stream in good order has its reasons, and no client is told more.
    assert [error_in(each) for each in exchange.payloads[1:]] == ([] if how is None else [LOST_7])
    assert (exchange.ended, its.proxy.counts.answers_lost) == ("ended", 0 if how is None else 1)
    its.proxy.leaves_nothing()


async def test_a_call_whose_server_died_is_an_error_and_no_second_call(world):
    its = world("a", "b")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    assert (exchange.payloads[0], error_in(exchange.payloads[1])) == (note(1), LOST_7)
    assert its.servers["b"].executed == {}
    assert (await client.post(call(8))).json["result"] == {"by": "b"}


async def test_a_call_whose_server_forgot_it_is_an_error_and_its_session_is_begun_by_the_next_request(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.servers["a"].restart()
    await its.time.finish(exchange.task)
    assert error_in(exchange.payloads[-1]) == LOST_7
    assert (await client.mapping()).epoch == 1
    assert (await client.post(call(8))).json["result"] == {"by": "a"}
    its.proxy.leaves_nothing()


async def test_a_call_is_lost_when_its_session_has_moved_meanwhile(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.servers["a"].sessions.clear()
    await client.post(call(8))
    assert (await client.mapping()).epoch == 2
    stream.connection.close("reset")
    await its.time.finish(exchange.task)
    assert error_in(exchange.payloads[-1]) == LOST_7
    assert its.servers["a"].methods().count("GET") == 0


async def test_each_call_of_an_array_that_is_lost_gets_its_error(world):
    its = world("a", has_ids=False)
    client = await begun(its)
    connection = Connection()
    its.servers["a"].then("tools/call", event_stream(connection))
    body = b"[" + call(1) + b"," + call("b") + b"," + call(3) + b"]"
    exchange = await client.stream("POST", body)
    connection.send(b"data: " + result("b") + b"\n\n")
    connection.close("reset")
    await its.time.finish(exchange.task)
    assert [error_in(each)[0] for each in exchange.payloads[1:]] == [1, 3]
    assert its.proxy.counts.answers_lost == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
async def test_a_call_that_its_server_will_not_go_on_with_is_lost_at_once(world, status):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    its.servers["a"].then("GET", Head(status, b"no"))
    stream.connection.close("reset")
    began_s = its.time.now_s
    await its.time.finish(exchange.task)
    assert error_in(exchange.payloads[-1]) == LOST_7
    assert its.time.now_s == began_s
    assert its.servers["a"].methods().count("GET") == 1
    assert (await client.mapping()).epoch == 1


@pytest.mark.parametrize(
    "said", [(409, b"Conflict"), (503,), (200, b"{}"), (200, b"", "text/event-stream; x", "gzip"), (429,), None]
)
async def test_a_server_that_cannot_go_on_just_now_is_asked_again(world, said):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    for _ in range(2):
        its.servers["a"].then("GET", ConnectionResetError("reset") if said is None else plain_answer(*said))
    stream.connection.close("reset")
    await its.time.pass_s(2)
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [note(1), result(7)]


async def test_a_refusal_that_breaks_off_is_asked_for_again(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    connection = Connection()
    its.servers["a"].then("GET", Head(409, connection=connection))
    stream.connection.close("reset")
    await settle()
    connection.close("reset")
    await its.time.pass_s(1)
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [note(1), result(7)]


async def test_a_server_that_cannot_is_known_for_it(world):
    its = world("a")
    client = await begun(its)
    _, stream = await called(client)
    stream.emit(note(1))
    its.servers["a"].then("GET", Head(503), Head(503))
    stream.connection.close("reset")
    await its.time.pass_s(1)
    assert named(its.proxy.pool, "a").counts.failures == 2


async def test_reconnections_that_bring_nothing_come_to_an_end(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.servers["a"].then("GET", *(Head(409) for _ in range(50)))
    stream.connection.close("reset")
    await its.time.finish(exchange.task)
    assert error_in(exchange.payloads[-1]) == LOST_7
    assert its.servers["a"].methods().count("GET") == 5
    assert its.time.slept == [0.2, 0.6, 1.4, 3.0]


async def test_the_pause_that_a_server_asks_for_is_made_up_to_a_bound(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    stream.connection.send(b"retry: 1500\n\n")
    stream.connection.close()
    await its.time.pass_s(1.4)
    assert "GET" not in its.servers["a"].methods()
    await its.time.pass_s(0.2)
    stream.connection.send(b"retry: 9999999\n\n")
    stream.connection.close()
    await its.time.pass_s(31)
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert its.time.slept == [1.5, 30]
    assert exchange.payloads == [note(1), result(7)]


async def test_a_server_that_comes_back_with_its_streams_goes_on_with_them(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    its.servers["a"].break_off("reset")
    its.servers["a"].is_up = False
    await its.time.pass_s(4)
    its.servers["a"].is_up = True
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [note(1), result(7)]


async def test_a_store_that_is_away_cuts_a_stream_that_would_have_to_go_on(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.proxy.log.is_away = True
    stream.connection.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([note(1)], "cut")


async def test_so_does_one_that_goes_away_while_the_server_refuses(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.servers["a"].then("GET", Head(409))
    steps, uses = its.proxy.relay.manager.use, []

    async def use_once(*args):
        uses.append(args)
        if len(uses) > 1:
            raise StoreUnavailable("away")
        return await steps(*args)

    its.proxy.relay.manager.use = use_once
    stream.connection.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([note(1)], "cut")
    its.proxy.leaves_nothing()


@pytest.mark.parametrize("is_call", [True, False])
async def test_a_stream_of_a_session_that_has_ended_is_over(world, is_call):
    its = world("a")
    client = await begun(its)
    exchange, stream = await (called if is_call else listening)(client)
    stream.emit(note(1))
    await settle()
    await its.store.end(client.session_id)
    stream.connection.close("reset")
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([note(1)], "cut" if is_call else "ended")
    its.proxy.leaves_nothing()


async def test_who_writes_for_a_session_that_has_ended_is_stopped(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await listening(client)
    await its.store.end(client.session_id)
    stream.emit(note(1))
    await its.time.finish(exchange.task)
    assert exchange.ended == "cut"
    its.proxy.leaves_nothing()


async def test_a_server_that_says_something_and_ends_each_stream_at_once_is_asked_ever_more_slowly(world):
    its = world("a")
    client = await begun(its)
    _, stream = await called(client)
    for number in range(8):
        stream.emit(note(number))
        await settle()
        stream.connection.close("reset")
        await its.time.pass_s(0.9)
    assert its.time.slept[:5] == [0.1, 0.2, 0.4, 0.8, 0.8]
