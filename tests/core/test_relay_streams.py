"""Which streams are kept, how a server's own goes on wherever its session is, and what becomes of a left one."""

import pytest

from shadowcat_core.limits import MAX_EVENT_BYTES, MAX_READ_ON_STREAMS
from tests.core.relay_driver import MAY_HAVE_RUN, begun, called, error_in, listening, note
from tests.core.relay_parts import SDK_404, Connection, Head, call, event_stream, notification, request, result
from tests.core.resumption_world import settle

pytest_plugins = ["tests.core.relay_fixtures"]


# --- Which streams are kept ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "primes"), [("2025-03-26", False), ("2025-06-18", False), ("2025-11-25", True)])
async def test_a_client_of_the_newest_version_can_come_back_before_the_first_event(world, version, primes):
    its = world("a")
    client = await begun(its, version=version)
    exchange, stream = await called(client)
    assert [frame.data for frame in exchange.frames] == ([b""] if primes else [])
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([result(7)], "ended")
    assert exchange.headers["mcp-session-id"] == client.session_id
    assert its.proxy.counts.streams == 1
    its.proxy.leaves_nothing()


@pytest.mark.parametrize(
    ("method", "body", "said"),
    [
        ("POST", call(1), {"content_type": "application/json"}),
        ("POST", call(1), {"content_type": "text/event-stream", "content_encoding": "gzip"}),
        ("POST", notification("notifications/cancelled"), {"content_type": "text/event-stream"}),
        ("DELETE", b"", {"content_type": "text/event-stream"}),
    ],
)
async def test_other_answers_pass_byte_for_byte(world, method, body, said):
    its = world("a")
    client = await begun(its)
    named_method = {"POST": "tools/call", "DELETE": "DELETE"}[method]
    if body.find(b"cancelled") > 0:
        named_method = "notifications/cancelled"
    its.servers["a"].then(named_method, Head(200, b"data: {}\n\n", **said))
    exchange = await client.do(method, body)
    assert (bytes(exchange.received), exchange.ended) == (b"data: {}\n\n", "ended")
    assert exchange.passage.carriage is None
    assert its.proxy.counts.streams == 0


async def test_a_stream_without_a_session_passes_and_breaks_as_it_does(world):
    its = world("a")
    its.servers["a"].gives_sessions = False
    connection = Connection()
    its.servers["a"].then("tools/call", event_stream(connection))
    exchange = its.proxy.open("POST", call(1))
    connection.send(b"id: 9\ndata: {}\n\n")
    connection.close("reset")
    await its.time.finish(exchange.task)
    assert (bytes(exchange.received), exchange.ended) == (b"id: 9\ndata: {}\n\n", "cut")
    assert (await exchange.passage.go_on(broken="reset")).cut == "reset"


# --- A server's own stream ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_ids", [True, False])
@pytest.mark.parametrize("how", ["breaks", "ends", "restarts", "moves"])
async def test_a_servers_own_stream_goes_on_on_the_clients_connection(world, has_ids, how):
    its = world("a", "b", has_ids=has_ids)
    client = await begun(its)
    exchange, stream = await listening(client)
    stream.emit(note(1))
    await settle()
    match how:
        case "breaks":
            its.servers["a"].break_off("reset")
        case "ends":
            stream.connection.close()
        case "restarts":
            its.servers["a"].restart()
        case "moves":
            its.servers["a"].die()
    await its.time.pass_s(3)
    upstream = (await client.mapping()).upstream
    again = its.servers[upstream.name].sessions[upstream.session_id].own
    again.emit(note(2))
    await settle()
    assert exchange.payloads == [note(1), note(2)]
    assert upstream.name == ("b" if how == "moves" else "a")
    resumed = its.servers[upstream.name].asked[-1][2].get("last-event-id")
    assert (resumed is not None) == (has_ids and how in ("breaks", "ends"))
    exchange.leave()
    await settle()
    assert exchange.task.cancelled()
    its.proxy.leaves_nothing()


async def test_a_stream_survives_any_number_of_restarts(world):
    its = world("a")
    client = await begun(its)
    exchange, _ = await listening(client)
    for number in range(12):
        its.servers["a"].restart()
        await its.time.pass_s(2)
        upstream = (await client.mapping()).upstream
        its.servers["a"].sessions[upstream.session_id].own.emit(note(number))
        await settle()
    assert exchange.payloads == [note(number) for number in range(12)]
    assert (await client.mapping()).epoch == 13
    assert its.proxy.sessions() == {"a": 1}


async def test_streams_of_one_session_that_find_it_lost_move_it_once(world):
    its = world("a")
    client = await begun(its)
    exchanges = [await client.stream() for _ in range(2)]
    its.servers["a"].then("GET", None, Head(409))
    its.servers["a"].restart()
    await its.time.pass_s(3)
    assert (await client.mapping()).epoch == 2
    assert its.servers["a"].methods().count("initialize") == 2
    assert all(not exchange.task.done() for exchange in exchanges)


async def test_a_session_that_was_moved_by_another_request_is_not_moved_again_for_its_stream(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await listening(client)
    connection = Connection()
    stream.connection.close()
    await settle()
    stream = its.servers["a"].sessions[its.servers["a"].begun[0]].own
    its.servers["a"].then("GET", Head(*SDK_404[:1], connection=connection))
    stream.connection.close()
    await its.time.pass_s(1.3)
    its.servers["a"].sessions.clear()
    assert (await client.post(call(1))).json["result"] == {"by": "a"}
    assert (await client.mapping()).epoch == 2
    connection.send(SDK_404[1])
    connection.close()
    await its.time.pass_s(1)
    assert (await client.mapping()).epoch == 2
    its.servers["a"].sessions[its.servers["a"].begun[-1]].own.emit(note(1))
    await settle()
    assert exchange.payloads == [note(1)]


async def test_a_400_without_a_reason_ends_a_stream_and_no_session(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await listening(client)
    stream.emit(note(1))
    its.servers["a"].then("GET", Head(400, b"Invalid event id"))
    stream.connection.close()
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([note(1)], "ended")
    assert (await client.mapping()).epoch == 1


async def test_a_stream_that_nobody_goes_on_with_ends_in_good_order(world):
    its = world("a")
    client = await begun(its)
    exchange, _ = await listening(client)
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    assert (exchange.payloads, exchange.ended) == ([], "ended")
    its.proxy.leaves_nothing()


@pytest.mark.parametrize("said", [b"", b": hello\n\n", b"retry: 0\n\n", b"retry: 1\n\n"])
async def test_a_server_that_ends_its_stream_at_once_is_asked_some_times_with_pauses_between(world, said):
    its = world("a")
    client = await begun(its)
    _end_each_stream(its.servers["a"], said)
    exchange = await client.do("GET")
    assert exchange.ended == "ended"
    assert its.servers["a"].methods().count("GET") == 6
    assert min(its.time.slept[1:]) >= 1
    assert len([pause for pause in its.time.slept if pause]) == (5 if b"retry" in said else 4)
    assert min(its.time.slept) >= 0.1


@pytest.mark.parametrize("retry", [b"", b"retry: 0\n", b"retry: 1\n", b"retry: 3000\n"])
async def test_a_server_that_ends_its_stream_behind_each_event_is_asked_once_a_second(world, retry):
    its = world("a")
    client = await begun(its)
    _end_each_stream(its.servers["a"], retry + b"data: {}\n\n")
    client.open("GET")
    await its.time.pass_s(30)
    asked = its.servers["a"].methods().count("GET")
    assert asked == 11 if b"3000" in retry else 20 <= asked <= 32


def _end_each_stream(server, said) -> None:
    """Answer each GET with a stream that says so much and ends."""
    server.then("GET", *(Head(200, said, content_type="text/event-stream") for _ in range(1_000)))


@pytest.mark.parametrize(("is_broken", "waited_s"), [(True, 0.2), (False, 1)])
async def test_what_moved_its_session_waits_a_second_at_most_for_the_stream_to_be_there(world, is_broken, waited_s):
    its = world("a")
    client = await begun(its)
    exchange, _ = await listening(client)
    began_s = its.time.now_s
    if is_broken:
        its.servers["a"].restart()
    else:
        its.servers["a"].sessions.clear()
    assert (await client.post(call(1))).json["result"] == {"by": "a"}
    assert its.time.now_s - began_s == pytest.approx(waited_s)
    assert its.servers["a"].methods()[-1] == "tools/call"
    assert len(its.time.slept) <= 2
    exchange.leave()
    await settle()
    its.proxy.leaves_nothing()


# --- Half events --------------------------------------------------------------------------------------------------


async def test_an_error_for_a_lost_answer_does_not_run_into_half_an_event(world):
    its = world("a", has_ids=False)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    stream.connection.send(b'data: {"jsonrpc":"2.0","id":7,"result":{"con')
    await settle()
    stream.connection.close("reset")
    await its.time.finish(exchange.task)
    first, last = exchange.payloads
    assert (first, error_in(last), exchange.ended) == (note(1), (7, *MAY_HAVE_RUN), "ended")


async def test_an_event_that_its_server_ends_without_a_blank_line_reaches_the_client(world):
    its = world("a", has_ids=False)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.connection.send(b"data: " + result(7))
    await settle()
    stream.connection.close()
    await its.time.finish(exchange.task)
    assert (exchange.received.endswith(b"data: " + result(7)), exchange.ended) == (True, "ended")


@pytest.mark.parametrize("how", ["breaks", "ends"])
async def test_a_servers_own_stream_goes_on_behind_half_an_event(world, how):
    its = world("a", has_ids=False)
    client = await begun(its)
    exchange, stream = await listening(client)
    stream.connection.send(b'data: {"jsonrpc":"2.0","met')
    await settle()
    stream.connection.close(*(["reset"] if how == "breaks" else []))
    await its.time.pass_s(2)
    stream.emit(note(2))
    await settle()
    assert exchange.payloads == [note(2)]


@pytest.mark.parametrize("how", ["breaks", "ends"])
@pytest.mark.parametrize("opened", [called, listening])
async def test_what_passed_unread_is_not_gone_on_with_and_nothing_is_said_behind_it(world, opened, how):
    its = world("a")
    client = await begun(its)
    exchange, stream = await opened(client)
    large = b"data: " + b"x" * (MAX_EVENT_BYTES + 1)
    stream.connection.send(large)
    await settle()
    stream.connection.close(*(["reset"] if how == "breaks" else []))
    await its.time.finish(exchange.task)
    assert exchange.received.endswith(large)
    assert exchange.ended == ("cut" if how == "breaks" else "ended")
    assert its.proxy.counts.answers_lost == 0
    its.proxy.leaves_nothing()


# --- Clients that leave -------------------------------------------------------------------------------------------


async def test_a_call_is_read_on_when_its_client_has_left(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    exchange.leave()
    await settle()
    assert its.proxy.relay._world.left == 1
    assert its.proxy.counts.streams_read_on == 1
    assert exchange.passage.leave() is True  # said twice
    assert its.proxy.relay._world.left == 1
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == []
    assert exchange.passage.leave() is False
    its.proxy.leaves_nothing()


async def test_no_more_are_read_on_than_the_limit_says(world):
    its = world("a")
    client = await begun(its)
    exchange, _ = await called(client)
    its.proxy.relay._world.left = int(MAX_READ_ON_STREAMS)
    exchange.leave()
    await settle()
    assert exchange.task.cancelled()
    assert its.proxy.relay._world.left == MAX_READ_ON_STREAMS
    its.proxy.relay._world.left = 0


async def test_a_call_that_breaks_while_nobody_listens_waits_for_its_client(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    exchange.leave()
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    its.proxy.leaves_nothing()
    stream.finish(result(7))
    again = await client.do("GET", last_event_id=exchange.last_event_id)
    assert again.payloads == [result(7)]


async def test_a_request_that_is_answered_needs_no_reading_on(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(result(7))
    await settle()
    exchange.leave()
    await settle()
    assert exchange.task.cancelled()
    assert its.proxy.counts.streams_read_on == 0
    assert (await client.post(request(9, "ping"))).status == 200
    its.proxy.leaves_nothing()
