"""A client keeps its session while its servers forget theirs, and is told at once when there is nothing to keep."""

import pytest

from shadowcat_core.errors import StoreFull, StoreUnavailable
from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.limits import MAX_HANDSHAKE_BYTES
from shadowcat_core.messages import Message
from tests.core.relay_driver import CONTEXT, UNREACHABLE, Client, World, begun, error_of
from tests.core.relay_parts import (
    EVERYTHING_400,
    SDK_404,
    VERSION,
    Connection,
    Head,
    call,
    event_stream,
    initialize,
    notification,
    request,
    result,
)
from tests.core.resumption_world import settle

pytest_plugins = ["tests.core.relay_fixtures"]


def initialized(version=VERSION, **more) -> bytes:
    return result(0, protocolVersion=version, capabilities={}, serverInfo={"name": "s"}, **more)


# --- Beginning ----------------------------------------------------------------------------------------------------


async def test_a_client_is_told_an_id_of_ours(world):
    its = world("a")
    exchange = await its.proxy.do("POST", initialize(), mcp_session_id="of-before", accept_encoding="gzip")
    client = Client(its, exchange.headers["mcp-session-id"])
    mapping = await client.mapping()
    assert mapping.session_id not in its.servers["a"].begun
    assert (mapping.upstream.session_id, mapping.epoch, mapping.protocol_version) == ("a-1-1", 1, VERSION)
    (_, session_id, headers, _) = its.servers["a"].asked[0]
    assert (session_id, headers.get("accept-encoding")) == (None, "identity")
    assert (its.proxy.counts.sessions_begun, its.proxy.sessions()) == (1, {"a": 1})


async def test_a_handshake_on_an_event_stream_passes_as_soon_as_its_answer_is_there(world):
    its = world("a")
    connection = Connection()
    its.servers["a"].then("initialize", event_stream(connection, mcp_session_id="a-0"))
    log = notification("notifications/message", level="info")
    connection.send(b"id: 1\ndata: \n\ndata: " + log + b"\n\n")
    exchange = its.proxy.open("POST", initialize())
    await settle()
    assert exchange.status is None
    middle = len(initialized()) // 2
    connection.send(b"data: " + initialized()[:middle])
    connection.send(initialized()[middle:] + b"\n\n")
    await settle()
    assert exchange.status == 200
    client = Client(its, exchange.headers["mcp-session-id"])
    assert (await client.mapping()).upstream.session_id == "a-0"
    connection.send(b"data: " + log + b"\n\n")
    connection.close()
    await its.time.finish(exchange.task)
    assert exchange.payloads == [log, initialized(), log]


async def test_a_server_without_sessions_gets_one_for_its_client(world):
    its = world("a", "b")
    for server in its.servers.values():
        server.gives_sessions = False
    client = await begun(its)
    assert (await client.mapping()).upstream.session_id is None
    assert (await client.post(call(1))).json["result"] == {"by": "a"}
    assert its.servers["a"].asked[-1][1] is None
    its.servers["a"].die()
    assert (await client.post(call(2))).json["result"] == {"by": "b"}


@pytest.mark.parametrize(
    "said",
    [
        Head(200, b'{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}', mcp_session_id="x"),
        Head(200, b"<html>"),
        Head(200, initialized(version=7)),
        Head(200, b"\x00", content_encoding="br"),
        Head(401, b"who are you?"),
        Head(404, b"no session here"),
    ],
)
async def test_a_refused_handshake_passes_and_begins_nothing(world, said):
    its = world("a")
    its.servers["a"].then("initialize", said)
    exchange = await its.proxy.do("POST", initialize())
    assert exchange.status == said.status
    assert exchange.headers == said.fields
    assert (its.proxy.counts.sessions_begun, its.proxy.sessions()) == (0, {"a": 0})
    assert await its.store.count() == 0


@pytest.mark.parametrize("why", [StoreFull("sessions", 1), StoreUnavailable("away")])
async def test_a_session_that_cannot_be_kept_is_not_begun(world, why):
    its = world("a")

    async def fail(_record):
        raise why

    its.store.create = fail
    exchange = await its.proxy.do("POST", initialize())
    error = exchange.json["error"]
    assert (exchange.status, error["code"], exchange.json["id"]) == (200, ErrorCode.STORE_UNAVAILABLE, 0)
    assert str(why) in error["message"]
    assert its.proxy.sessions() == {"a": 0}


@pytest.mark.parametrize("size", [MAX_HANDSHAKE_BYTES - 200, 2 * MAX_HANDSHAKE_BYTES])
async def test_a_handshake_that_is_too_large_is_an_error_and_no_session_that_would_be_unknown(world, size):
    its = world("a")
    body = initialized(instructions="x" * size)
    its.servers["a"].then("initialize", Head(200, body, mcp_session_id="a-0"))
    exchange = await its.proxy.do("POST", initialize())
    error = exchange.json["error"]
    assert (exchange.status, error["code"], exchange.json["id"]) == (200, ErrorCode.STORE_UNAVAILABLE, 0)
    assert str(int(MAX_HANDSHAKE_BYTES)) in error["message"].replace(",", "")
    assert "mcp-session-id" not in exchange.headers


async def test_a_session_id_that_the_specification_forbids_is_an_error(world):
    its = world("a")
    its.servers["a"].then("initialize", Head(200, initialized(), mcp_session_id="one two"))
    exchange = await its.proxy.do("POST", initialize())
    assert (exchange.status, exchange.json["id"]) == (200, 0)
    assert "one two" in exchange.json["error"]["message"]


async def test_a_handshake_goes_to_the_next_server_and_is_counted_where_it_ends(world):
    its = world("a", "b", "c")
    its.servers["a"].die()
    its.servers["b"].then("initialize", ConnectionResetError("reset"))
    await begun(its)
    assert its.proxy.sessions() == {"a": 0, "b": 0, "c": 1}
    assert its.proxy.counts.sent_again == 2


async def test_a_burst_of_sessions_spreads(world):
    its = world("a", "b", balance="least_sessions")
    exchanges = [its.proxy.open("POST", initialize()) for _ in range(6)]
    await its.time.finish(*(exchange.task for exchange in exchanges))
    assert its.proxy.sessions() == {"a": 3, "b": 3}


async def test_a_handshake_that_nobody_takes_leaves_no_count(world):
    its = world("a", retry={"patience_s": 0})
    its.servers["a"].die()
    exchange = await its.proxy.do("POST", initialize())
    assert (exchange.status, error_of(exchange)) == (200, UNREACHABLE)
    assert its.proxy.sessions() == {"a": 0}


# --- Losing and finding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [SDK_404, EVERYTHING_400, (404, b"")])
async def test_a_session_that_its_server_forgot_is_begun_anew_behind_the_clients_back(world, unknown):
    its = world("a", "b")
    server = its.servers["a"]
    server.unknown = unknown
    client = await begun(its)
    server.restart()
    exchange = await client.post(call(1))
    assert exchange.json["result"] == {"by": "a"}
    assert server.executed == {1: 1}
    assert (await client.mapping()).upstream.session_id == server.begun[-1]
    assert (its.proxy.counts.sessions_moved, its.proxy.sessions()) == (1, {"a": 1, "b": 0})
    assert len(its.proxy.moved) == 1


async def test_another_400_passes(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("tools/call", Head(400, b"Bad Request: no such version"))
    exchange = await client.post(call(1))
    assert (exchange.status, bytes(exchange.received)) == (400, b"Bad Request: no such version")
    assert (await client.mapping()).epoch == 1


@pytest.mark.parametrize("coding", ["br", "unheard-of"])
async def test_what_cannot_be_read_says_nothing_of_a_session(world, coding):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("tools/call", Head(400, b"session", content_encoding=coding))
    assert (await client.post(call(1))).status == 400


async def test_a_server_without_streams_of_its_own_has_not_lost_the_session(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("GET", Head(404, b"Cannot GET /mcp"))
    exchange = await client.do("GET")
    assert (exchange.status, bytes(exchange.received)) == (404, b"Cannot GET /mcp")
    assert (await client.mapping()).epoch == 1
    its.servers["a"].restart()
    await client.stream()
    assert (await client.mapping()).epoch == 2


async def test_a_server_that_never_knows_its_sessions_is_believed_in_the_end(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("tools/call", *(Head(*SDK_404) for _ in range(9)))
    exchange = await client.post(call(1))
    assert exchange.status == 404
    assert (await client.mapping()).epoch == 5
    assert its.servers["a"].executed == {}


async def test_a_server_that_will_not_have_the_session_again_tells_its_client_so(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].restart()
    its.servers["a"].then("initialize", Head(200, initialized("2025-03-26"), mcp_session_id="x"))
    began_s = its.time.now_s
    exchange = await client.post(call(1))
    assert (exchange.status, exchange.json["error"]["message"]) == (404, "Session not found")
    assert its.time.now_s == began_s
    assert its.proxy.counts.sessions_not_moved == 1


async def test_a_client_waits_for_its_own_server_when_the_other_speaks_another_version(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].die()
    its.servers["b"].then("initialize", Head(200, initialized("2025-03-26"), mcp_session_id="x"))
    exchange = client.open("POST", call(1))
    await its.time.pass_s(4)
    assert not exchange.task.done()
    its.servers["a"].restart()
    await its.time.finish(exchange.task)
    assert exchange.json["result"] == {"by": "a"}
    assert its.servers["b"].methods().count("initialize") == 1


async def test_a_client_keeps_a_session_that_was_lost_while_nobody_can_be_reached(world):
    its = world("a")
    client = await begun(its)
    server = its.servers["a"]
    server.restart()
    server.then("initialize", *(ConnectionRefusedError("refused") for _ in range(200)))
    exchange = await client.post(call(1))
    assert (exchange.status, error_of(exchange)) == (200, UNREACHABLE)
    server.say.clear()
    await its.time.pass_s(5)
    assert (await client.post(call(2))).json["result"] == {"by": "a"}
    assert server.executed == {2: 1}


async def test_the_store_may_be_away_when_a_lost_session_is_to_be_found(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].restart()

    async def fail(*_args):
        raise StoreUnavailable("away")

    its.store.get = fail
    exchange = await client.post(call(1))
    assert (exchange.status, error_of(exchange)) == (200, (ErrorCode.STORE_UNAVAILABLE, False))


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_session_that_ends_while_it_moves_is_unknown(world, is_lost):
    its = world("a", "b")
    client = await begun(its)
    if is_lost:
        its.servers["a"].restart()
    else:
        its.servers["a"].die()
    steps = its.store.rebind

    async def end_first(session_id, *rest):
        await its.store.end(session_id)
        return await steps(session_id, *rest)

    its.store.rebind = end_first
    assert (await client.post(call(1))).status == 404
    assert its.proxy.counts.refused == 1


async def test_many_requests_that_find_their_session_lost_begin_one_and_count_it_once(world):
    its = world("a", "b")
    client = await begun(its)
    await begun(its)
    assert its.proxy.sessions() == {"a": 1, "b": 1}
    its.servers["a"].die()
    exchanges = [client.open("POST", call(number)) for number in range(20)]
    await its.time.finish(*(exchange.task for exchange in exchanges))
    assert [exchange.json["result"] for exchange in exchanges] == [{"by": "b"}] * 20
    assert its.servers["b"].methods().count("initialize") == 2
    assert (its.proxy.counts.sessions_moved, len(its.proxy.moved)) == (1, 1)
    assert its.proxy.sessions() == {"a": 0, "b": 2}


async def test_of_two_proxies_that_find_it_lost_one_moves_the_session_and_both_know_where_it_is(world):
    its = world("a", "b", "c")
    other = its.another_proxy()
    client = await begun(its)
    its.servers["a"].die()
    exchanges = [client.open("POST", call(number), proxy) for number, proxy in enumerate([its.proxy, other] * 3)]
    await its.time.finish(*(exchange.task for exchange in exchanges))
    mapping = await client.mapping()
    assert mapping.epoch == 2
    assert [exchange.json["result"] for exchange in exchanges] == [{"by": mapping.upstream.name}] * 6
    for proxy in (its.proxy, other):
        await proxy.relay.manager.aclose()
    living = {each for server in its.servers.values() for each in server.sessions}
    assert living == {mapping.upstream.session_id}
    assert its.proxy.counts.sessions_moved + other.counts.sessions_moved == 1


async def test_who_loses_the_race_to_a_server_that_is_not_in_its_file_moves_the_session_on(world):
    its = world("a", "b")
    its.servers["c"] = World("c").servers["c"]
    other = its.another_proxy()
    client = await begun(its)
    its.servers["a"].die()
    for name in ("a", "b"):
        other.fleet.drain(name)
    other.relay.fleet.pools()[0].drain("b")
    steps = its.store.rebind

    async def lose(session_id, epoch, upstream):
        if upstream.name == "b" and epoch == 1:
            await steps(session_id, epoch, type(upstream)("c", "c-9"))
        return await steps(session_id, epoch, upstream)

    its.store.rebind = lose
    assert (await client.post(call(1))).json["result"] == {"by": "b"}
    assert (await client.mapping()).epoch == 3


async def test_a_client_that_leaves_in_the_midst_of_a_move_takes_no_count_with_it(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].die()
    exchange = client.open("POST", call(1))
    await its.servers["b"].was_asked.wait()
    exchange.leave()
    await settle()
    assert (await client.mapping()).upstream.name == "b"
    assert (its.proxy.counts.sessions_moved, its.proxy.sessions()) == (1, {"a": 0, "b": 1})


async def test_what_a_client_asked_for_is_asked_of_the_next_server(world):
    its = world("a", "b")
    client = await begun(its)
    asked = Message(request(1, "resources/subscribe", uri="file:///x"), CONTEXT)
    refusal = Message(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}', CONTEXT)
    await its.proxy.relay.answered("route-1", client.session_id, asked, refusal)
    await its.proxy.relay.answered("route-1", None, asked, Message(result(1), CONTEXT))
    assert (await its.store.get(client.session_id)).subscriptions == ()
    await its.proxy.relay.answered("route-1", client.session_id, asked, Message(result(1), CONTEXT))
    await its.proxy.relay.answered("route-1", client.session_id, Message(b"[]", CONTEXT), Message(result(1), CONTEXT))
    its.servers["a"].die()
    await client.post(call(1))
    assert its.servers["b"].methods()[:3] == ["initialize", "notifications/initialized", "resources/subscribe"]


async def test_servers_that_share_their_sessions_need_no_move(world):
    its = world("a", "b", sticky=False)
    its.servers["b"].sessions = its.servers["a"].sessions
    client = await begun(its)
    by = {(await client.post(call(number))).json["result"]["by"] for number in range(4)}
    assert by == {"a", "b"}
    assert (await client.mapping()).epoch == 1
