"""A safe call whose stream breaks off is sent again, and its client has the answer on the stream that it holds open."""

import json

import pytest

from shadowcat_core.limits import MAX_EVENT_BYTES
from tests.core.relay_driver import begun, called, error_in, note, plain_answer
from tests.core.relay_parts import (
    EVERYTHING_400,
    SDK_404,
    Connection,
    Head,
    call,
    notification,
    result,
)
from tests.core.relay_second_runs import LOST_7, progress, safe_world, second_run
from tests.core.resumption_world import settle

pytest_plugins = ["tests.core.relay_fixtures"]


# --- Where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_ids", [True, False])
@pytest.mark.parametrize("how", ["restarted", "another"])
async def test_a_safe_call_whose_server_is_killed_goes_on_where_it_runs_again(world, how, has_ids):
    its = safe_world(world, "a", "b", has_ids=has_ids)
    client = await begun(its)
    exchange, stream = await called(client)
    for each in (progress(1), note(1), progress(2)):
        stream.emit(each)
    await settle()
    if how == "restarted":
        its.servers["a"].restart()
    else:
        its.servers["a"].die()
    again = await second_run(its, but=stream)
    for each in (progress(1), note(2), progress(2), progress(3)):
        again.emit(each)
    again.finish(result(7, by="second"))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [
        *(progress(1), note(1), progress(2), note(2), progress(3), result(7, by="second")),
    ]
    ids = [frame.id for frame in exchange.frames if frame.data]
    assert [each.split(".")[1] for each in ids] == ["1", "2", "3", "4", "5", "6"]
    assert exchange.ended == "ended"
    assert (await client.mapping()).upstream.name == ("a" if how == "restarted" else "b")
    assert (its.proxy.counts.sent_again, its.proxy.counts.answers_lost) == (2, 0)
    its.proxy.leaves_nothing()


async def test_the_connection_alone_may_break_and_the_session_stays_where_it_is(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, stream = await called(client)
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]
    assert ((await client.mapping()).epoch, its.servers["b"].asked) == (1, [])
    assert [leg.resumes for leg in exchange.legs] == [False, False]
    assert (exchange.legs[0].goes_on, exchange.legs[1].goes_on) == (False, True)
    assert its.servers["a"].executed[7] == 2
    (_, session_id, headers, body) = its.servers["a"].asked[-1]
    assert (session_id, headers.get("accept-encoding")) == (its.servers["a"].begun[0], "identity")
    assert json.loads(body)["id"] == 7


async def test_it_waits_for_its_only_server_to_come_back(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    its.servers["a"].die()
    await its.time.pass_s(6)
    assert not exchange.task.done()
    its.servers["a"].is_up = True
    again = await second_run(its, but=stream)
    again.emit(progress(2))
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(1), progress(2), result(7)]
    assert its.proxy.counts.waited == 1
    its.proxy.leaves_nothing()


async def test_when_patience_ends_it_is_an_error_that_says_that_it_may_have_run(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, _ = await called(client)
    its.servers["a"].die()
    began_s = its.time.now_s
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert 9 < its.time.now_s - began_s < 11
    assert "nobody took it again: a (refused" in json.loads(exchange.payloads[0])["error"]["message"]
    its.proxy.leaves_nothing()


async def test_a_server_that_gives_ids_and_lives_goes_on_with_the_first_run(world):
    its = safe_world(world, "a", "b", has_ids=True)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    its.servers["a"].break_off("reset")
    await its.time.pass_s(1)
    stream.emit(progress(2))
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(1), progress(2), result(7)]
    assert (its.servers["a"].executed[7], its.proxy.counts.sent_again) == (1, 0)


@pytest.mark.parametrize("said", [Head(405), Head(404), Head(400, b"Invalid event id"), None])
async def test_a_server_that_gives_ids_and_does_not_go_on_is_asked_again(world, said):
    its = safe_world(world, has_ids=True)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    its.servers["a"].then("GET", *([said] if said else [Head(409) for _ in range(5)]))
    stream.connection.close("reset")
    again = await second_run(its, but=stream)
    # Ids of the first run mean nothing in the second: what has the same one is no repetition.
    again.name = stream.name
    for step in (1, 2):
        again.emit(progress(step))
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(1), progress(2), result(7)]


async def test_what_runs_again_can_be_resumed_in_its_turn(world):
    its = safe_world(world, "a", "b", has_ids=True)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    its.servers["a"].die()
    again = await second_run(its, but=stream)
    for step in (1, 2):
        again.emit(progress(step))
    await settle()
    its.servers["b"].break_off("reset")
    await its.time.pass_s(1)
    again.emit(progress(3))
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(1), progress(2), progress(3), result(7)]
    assert its.servers["b"].executed[7] == 1
    assert exchange.legs[-1].resumes


async def test_a_call_whose_session_has_moved_meanwhile_follows_it(world):
    its = safe_world(world, has_ids=True)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    its.servers["a"].sessions.clear()
    await client.post(call(8))
    stream.connection.close("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(1), result(7)]
    assert (await client.mapping()).epoch == 2


# --- What it is answered with -----------------------------------------------------------------------------------------


async def test_an_answer_in_json_becomes_an_event(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    await settle()
    its.servers["b"].then("tools/call", Head(200, b'{"jsonrpc":"2.0",\n"id":7,"result":{}}'))
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    first, last = exchange.frames[-2:]
    assert (first.data, json.loads(last.data)) == (progress(1), {"jsonrpc": "2.0", "id": 7, "result": {}})
    assert (last.id.split(".")[1], exchange.ended) == ("2", "ended")
    its.proxy.leaves_nothing()
    late = await client.do("GET", last_event_id=first.id)
    assert [json.loads(each)["id"] for each in late.payloads] == [7]


async def test_an_error_in_json_is_an_answer_too(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, _ = await called(client)
    its.servers["b"].then("tools/call", Head(200, b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}'))
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    assert json.loads(exchange.payloads[0])["error"]["code"] == 1


@pytest.mark.parametrize(
    "said",
    [
        Head(200, b"{}"),
        Head(200, b"nonsense"),
        Head(200, result(8)),
        Head(200, progress(1)),
        Head(202),
        Head(200),
        Head(403, b"no"),
        Head(*EVERYTHING_400[:1], b'{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"bad"}}'),
        plain_answer(200, b"not gzip", content_encoding="gzip"),
        Head(200, b"data: x\n\n", content_type="text/event-stream", content_encoding="gzip"),
        Head(200, b" " * MAX_EVENT_BYTES + result(7)),
    ],
)
async def test_an_answer_that_is_none_is_told_as_an_error(world, said):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, _ = await called(client)
    its.servers["b"].then("tools/call", said)
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert f"HTTP {said.status}" in json.loads(exchange.payloads[0])["error"]["message"]
    assert its.proxy.counts.answers_lost == 1
    its.proxy.leaves_nothing()


@pytest.mark.parametrize("said", [Head(503), ConnectionResetError("reset"), Head(*SDK_404), Head(*EVERYTHING_400)])
async def test_a_server_that_fails_or_knows_no_session_is_followed_by_another_attempt(world, said):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, stream = await called(client)
    its.servers["a"].then("tools/call", said)
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]
    assert its.proxy.counts.sent_again == 2
    its.proxy.leaves_nothing()


async def test_a_body_that_breaks_off_in_json_is_sent_for_again(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    connection = Connection()
    its.servers["a"].then("tools/call", Head(200, connection=connection))
    its.servers["a"].break_off("reset")
    await settle()
    connection.send(b'{"json')
    connection.close("reset")
    again = await second_run(its, but=stream)
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [result(7)]


# --- Progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2], [1, 2, 3], [3]),
        ([0.5], [0.25, 0.5, 0.75], [0.75]),
        ([], [1, 2], [1, 2]),
        ([10], [1, 2, 3], []),
        ([-2], [-3, -1, 0], [-1, 0]),
        ([1], [2, 2, 1, 3], [2, 3]),
    ],
)
async def test_progress_goes_on_behind_what_the_client_has_heard(world, first, second, expected):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    for step in first:
        stream.emit(progress(step))
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    for step in second:
        again.emit(progress(step))
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [*map(progress, first), *map(progress, expected), result(7)]


async def test_progress_goes_on_over_any_number_of_runs(world):
    its = safe_world(world, retry={"attempts": 10})
    client = await begun(its)
    exchange, stream = await called(client)
    for until in (2, 1, 3):
        for step in range(1, until + 1):
            stream.emit(progress(step))
        its.servers["a"].break_off("reset")
        stream = await second_run(its, but=stream)
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(1), progress(2), progress(3), result(7)]


async def test_what_is_no_progress_of_that_call_passes_a_second_run(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(5))
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    others = [
        progress(1, token="7"),
        b'{"progress": nonsense',
        b'["progress"]',
        notification("notifications/progress", progressToken=7),
        notification("notifications/progress", progress=1),
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":[7,1]}',
        note("progress"),
    ]
    for each in others:
        again.emit(each)
    again.connection.send(b": progress\n\n")
    again.emit(progress(4))
    again.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(5), *others, result(7)]
    assert b": progress\n\n" in exchange.received


async def test_frames_of_a_second_run_may_come_in_pieces(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(progress(1))
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    whole = b"\xef\xbb\xbf" + b"".join(b"data: " + each + b"\r\n\r\n" for each in (progress(1), progress(2)))
    for at in range(len(whole)):
        again.connection.send(whole[at : at + 1])
    again.connection.send(b"data: " + result(7))  # its server ends it without a blank line
    again.connection.close()
    await its.time.finish(exchange.task)
    assert exchange.payloads == [progress(1), progress(2)]
    assert exchange.received.endswith(b"data: " + result(7))


async def test_a_frame_over_the_limit_makes_the_rest_of_a_second_run_pass_unread(world):
    its = safe_world(world)
    client = await begun(its)
    exchange, stream = await called(client)
    its.servers["a"].break_off("reset")
    again = await second_run(its, but=stream)
    large = b"data: " + b"x" * (MAX_EVENT_BYTES + 1)
    again.connection.send(large)
    again.connection.send(b"\n\ndata: y\n\n")
    again.connection.close()
    await its.time.finish(exchange.task)
    assert exchange.received.endswith(large + b"\n\ndata: y\n\n")
