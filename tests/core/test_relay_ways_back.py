"""A client that comes back gets what it missed and then what comes, at whatever proxy, whoever broke it off."""

import asyncio

import pytest

from shadowcat_core.limits import READING_BEAT_S
from tests.core.relay_driver import begun, called, error_in, listening, note
from tests.core.relay_parts import Head, call, result
from tests.core.resumption_world import settle

pytest_plugins = ["tests.core.relay_fixtures"]


async def hang_up(exchange):
    exchange.leave()
    await settle()


async def back(client, exchange, proxy=None):
    """Come back behind the last event that was received."""
    return await client.stream(proxy=proxy, last_event_id=exchange.last_event_id)


@pytest.mark.parametrize("has_ids", [True, False])
async def test_a_client_that_comes_back_to_a_call_gets_the_rest_of_it(world, has_ids):
    its = world("a", has_ids=has_ids)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    stream.emit(note(2))
    again = await back(client, exchange)
    assert (again.status, again.headers["content-type"]) == (200, "text/event-stream")
    assert again.payloads == [note(2)]
    stream.finish(result(7))
    await its.time.finish(again.task)
    assert (again.payloads, again.ended) == ([note(2), result(7)], "ended")
    assert its.proxy.counts.streams_resumed == 1
    once_more = await client.do("GET", last_event_id=again.frames[0].id)
    assert once_more.payloads == [result(7)]
    its.proxy.leaves_nothing()


async def test_a_client_may_come_back_before_its_absence_was_noticed(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    again = await back(client, exchange)
    stream.emit(note(2))
    await hang_up(exchange)
    stream.finish(result(7))
    await its.time.finish(exchange.task, again.task)
    assert again.payloads == [note(2), result(7)]
    its.proxy.leaves_nothing()


@pytest.mark.parametrize("has_ids", [True, False])
async def test_who_follows_a_stream_takes_it_up_when_whoever_read_it_is_gone(world, has_ids):
    its = world("a", has_ids=has_ids)
    client = await begun(its)
    exchange, stream = await listening(client)
    stream.emit(note(1))
    await settle()
    again = await back(client, exchange)
    await hang_up(exchange)
    await its.time.pass_s(1)
    stream.emit(note(2))
    await settle()
    assert again.payloads == [note(2)]
    assert len(again.legs) == 1
    await hang_up(again)
    its.proxy.leaves_nothing()


async def test_a_server_that_breaks_off_while_its_client_follows_is_gone_on_with(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    again = await back(client, exchange)
    stream.emit(note(2))
    its.servers["a"].break_off("reset")
    stream.emit(note(3))
    await its.time.pass_s(1)
    stream.finish(result(7))
    await its.time.finish(again.task)
    assert again.payloads == [note(2), note(3), result(7)]
    its.proxy.leaves_nothing()


@pytest.mark.parametrize("has_ids", [True, False])
async def test_a_servers_own_stream_is_gone_on_with_when_its_client_is_back(world, has_ids):
    its = world("a", has_ids=has_ids)
    client = await begun(its)
    exchange, stream = await listening(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    if has_ids:
        stream.emit(note(2))
    again = await back(client, exchange)
    stream.emit(note(3))
    await settle()
    assert again.payloads == ([note(2), note(3)] if has_ids else [note(3)])
    await hang_up(again)
    its.proxy.leaves_nothing()


@pytest.mark.parametrize("how", ["restarted", "moved"])
async def test_a_clients_stream_goes_on_where_its_session_is_by_now(world, how):
    its = world("a", "b")
    client = await begun(its)
    exchange, stream = await listening(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    its.servers["a"].die()
    if how == "restarted":
        its.servers["a"].restart()
    again = await back(client, exchange)
    await its.time.pass_s(3)
    upstream = (await client.mapping()).upstream
    assert upstream.name == ("a" if how == "restarted" else "b")
    its.servers[upstream.name].sessions[upstream.session_id].own.emit(note(2))
    await settle()
    assert again.payloads == [note(2)]


async def test_a_call_whose_server_is_gone_is_told_to_who_comes_back(world):
    its = world("a", "b")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    its.servers["a"].die()
    await client.post(call(8))
    again = await client.do("GET", last_event_id=exchange.last_event_id)
    assert [error_in(each)[0] for each in again.payloads] == [7]
    assert (again.ended, its.proxy.counts.answers_lost) == ("ended", 1)
    its.proxy.leaves_nothing()


async def test_an_id_that_is_not_ours_is_the_servers_affair(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("GET", Head(200, b"data: {}\n\n", content_type="text/event-stream"))
    exchange = await client.stream(last_event_id="42")
    assert exchange.payloads == [b"{}"]
    assert its.servers["a"].asked[2][2].get("last-event-id") == "42"
    assert its.proxy.counts.streams_resumed == 0


async def test_who_left_on_the_way_back_keeps_nothing(world):
    its = world("a")
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    its.servers["a"].break_off("reset")
    await its.time.finish(exchange.task)
    its.proxy.leaves_nothing()
    passage = its.proxy.passage("GET", mcp_session_id=client.session_id, last_event_id=exchange.last_event_id)
    way = await passage.begin()

    async def walk():
        return [frames async for frames in way.frames()]

    await its.time.finish(asyncio.create_task(walk()))
    assert way.stream is not None
    passage.close()
    await its.time.pass_s(1)
    its.proxy.leaves_nothing()


async def test_who_leaves_while_it_follows_leaves_word_that_the_stream_is_read_on(world):
    its = world("a", has_ids=False)
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    again = await back(client, exchange)
    stream.emit(note(2))
    await settle()
    await hang_up(again)
    elsewhere = await back(client, again, other)
    for _ in range(6):
        await its.time.pass_s(float(READING_BEAT_S))
        its.proxy.relay.beat()
    assert not elsewhere.task.done()
    stream.finish(result(7))
    await its.time.finish(elsewhere.task)
    assert elsewhere.payloads == [result(7)]


async def test_another_proxy_takes_a_stream_over(world):
    its = world("a")
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await listening(client)
    stream.emit(note(1))
    await settle()
    again = await back(client, exchange, other)
    stream.emit(note(2))
    await its.time.finish(exchange.task)
    assert exchange.ended == "cut"
    assert again.payloads == [note(2)]
    its.proxy.leaves_nothing()
    await hang_up(again)
    other.leaves_nothing()


async def test_another_proxy_follows_a_call_that_is_read_on(world):
    its = world("a", has_ids=False)
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    again = await back(client, exchange, other)
    stream.finish(result(7))
    await its.time.finish(again.task)
    assert again.payloads == [result(7)]
    for proxy in (its.proxy, other):
        proxy.leaves_nothing()


async def test_a_call_is_gone_on_with_when_its_proxy_was_killed(world):
    its = world("a")
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.proxy.kill()
    await settle()
    stream.emit(note(2))
    again = await back(client, exchange, other)
    await its.time.pass_s(15)
    stream.finish(result(7))
    await its.time.finish(again.task)
    assert again.payloads == [note(2), result(7)]


async def test_events_that_nobody_has_any_more_are_counted(world):
    its = world("a", has_ids=False)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    await hang_up(exchange)
    for number in range(1_100):
        stream.emit(note(number))
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    again = await client.do("GET", last_event_id=exchange.last_event_id)
    assert again.payloads == [*(note(number) for number in range(101, 1_100)), result(7)]
    assert its.proxy.counts.events_lost == 101 + 1  # what proxies say to each other takes a place too


async def test_a_way_back_that_the_store_cannot_lead_keeps_nothing(world):
    its = world("a", has_ids=False)
    client = await begun(its)
    exchange, stream = await called(client)
    stream.finish(result(7))
    await its.time.finish(exchange.task)
    passage = its.proxy.passage("GET", mcp_session_id=client.session_id, last_event_id=exchange.frames[0].id)
    await passage.begin()
    step = await passage.go_on(broken=None)
    assert (step.data, step.cut) == (b"", None)
    passage.close()
    its.proxy.leaves_nothing()


async def test_a_stream_that_is_taken_while_it_waits_for_its_server_is_cut(world):
    its = world("a")
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.servers["a"].then("GET", Head(409))
    stream.connection.close("reset")
    await settle()
    again = await back(client, exchange, other)
    exchange.passage.carriage.stream.remark(b": to be written\n\n")
    await its.time.finish(exchange.task)
    assert (exchange.ended, len(exchange.legs)) == ("cut", 2)
    stream.finish(result(7))
    await its.time.finish(again.task)
    assert again.payloads == [result(7)]
    its.proxy.leaves_nothing()


async def test_two_proxies_do_not_take_the_server_from_each_other(world):
    its = world("a")
    other = its.another_proxy()
    client = await begun(its)
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    again = await back(client, exchange, other)
    last = await back(client, exchange)
    await its.time.pass_s(20)
    assert [each.task.done() for each in (exchange, again, last)].count(False) == 1
    assert its.servers["a"].methods().count("GET") == 2
    stream.finish(result(7))
    await its.time.finish(again.task, last.task)
    assert result(7) in last.payloads + again.payloads
    assert its.proxy.counts.answers_lost + other.counts.answers_lost == 0
