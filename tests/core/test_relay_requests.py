"""A request goes where it can be answered, again where that is harmless; else its client learns what may have run."""

import json

import pytest

from shadowcat_core.errors import RevivalTooLate, StoreUnavailable
from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.mcp import Era
from shadowcat_core.messages import Message
from shadowcat_core.relay import Pass
from shadowcat_core.upstreams import State
from tests.core.relay_driver import CONTEXT, MAY_HAVE_RUN, UNREACHABLE, begun, error_of
from tests.core.relay_parts import Head, call, notification, request, result
from tests.core.upstream_parts import break_down, named, upstream

pytest_plugins = ["tests.core.relay_fixtures"]


# --- Whose it is --------------------------------------------------------------------------------------------------


async def test_a_request_without_a_session_passes_as_it_is(world):
    its = world("a")
    its.servers["a"].gives_sessions = False
    exchange = await its.proxy.do("POST", request(1, "tools/list"), x_team="blue")
    assert (exchange.status, exchange.json["result"]) == (200, {"by": "a"})
    assert exchange.legs[0].edits == []
    assert exchange.passage.mapping is None
    assert exchange.passage.carriage is None


@pytest.mark.parametrize(
    ("method", "body", "request_id"),
    [("POST", request("x", "ping"), "x"), ("POST", notification("notifications/cancelled"), None), ("GET", b"", None)],
)
async def test_an_unknown_session_is_refused_as_servers_do(world, method, body, request_id):
    its = world("a")
    exchange = await its.proxy.do(method, body, mcp_session_id="unknown")
    assert (exchange.status, exchange.json["error"]["code"], exchange.json["id"]) == (404, -32600, request_id)
    assert its.servers["a"].asked == []
    assert its.proxy.counts.refused == 1


async def test_a_session_of_somebody_else_is_as_unknown(world):
    its = world("a")
    client = await begun(its, authorization="Bearer mine")
    assert (await client.post(request(1, "ping"), authorization="Bearer theirs")).status == 404
    assert (await client.post(request(1, "ping"))).status == 404
    assert (await client.post(request(1, "ping"), authorization="Bearer mine")).status == 200


async def test_a_modern_request_has_no_session_whatever_header_it_carries(world):
    its = world("a")
    its.servers["a"].gives_sessions = False
    exchange = await its.proxy.do("POST", request(1, "tools/list"), era=Era.MODERN, mcp_session_id="unknown")
    assert exchange.status == 200
    (_, session_id, headers, _) = its.servers["a"].asked[-1]
    assert (session_id, headers.get("mcp-session-id")) == (None, None)
    its.servers["a"].die()
    exchange = await its.proxy.do("POST", call(2), era=Era.MODERN)
    assert (exchange.status, error_of(exchange)) == (502, UNREACHABLE)


async def test_a_modern_initialize_begins_no_session(world):
    its = world("a")
    its.servers["a"].then("initialize", Head(200, result(0, protocolVersion="2026-07-28"), mcp_session_id="its-own"))
    exchange = await its.proxy.do("POST", request(0, "initialize"), era=Era.MODERN)
    assert exchange.headers["mcp-session-id"] == "its-own"
    assert its.proxy.counts.sessions_begun == 0


@pytest.mark.parametrize(
    ("method", "body", "status", "answered"),
    [
        ("POST", request(1, "ping"), 200, [1]),
        ("POST", b"[" + request(1, "ping") + b"," + request("b", "ping") + b"]", 200, [1, "b"]),
        ("POST", notification("notifications/cancelled"), 202, []),
        ("GET", b"", 503, []),
    ],
)
async def test_while_nobody_knows_of_a_session_its_client_is_told_to_keep_it(world, method, body, status, answered):
    its = world("a")
    client = await begun(its)
    its.proxy.log.is_away = True
    exchange = await client.do(method, body)
    assert exchange.status == status
    if not answered:
        assert exchange.received == b""
        return
    bodies = exchange.json if len(answered) > 1 else [exchange.json]
    assert [each["id"] for each in bodies] == answered
    assert {(each["error"]["code"], each["error"]["data"]["mayHaveRun"]) for each in bodies} == {(-31004, False)}


async def test_what_is_told_about_the_upstream_goes_on_the_way(world):
    its = world("a", upstreams=[upstream("a", headers={"X-Api-Key": "k"}, port=3097)])
    client = await begun(its)
    exchange = await client.post(request(1, "ping"), accept_encoding="gzip", x_api_key="theirs")
    (_, session_id, headers, _) = its.servers["a"].asked[-1]
    assert session_id == its.servers["a"].begun[0]
    assert (headers.get("x-api-key"), headers.get("accept-encoding")) == ("k", "identity")
    assert exchange.legs[0].path == "/mcp"
    assert exchange.passage.upstream == "a"


# --- What failed --------------------------------------------------------------------------------------------------


async def test_a_request_that_was_never_sent_goes_to_another_server(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].die()
    exchange = await client.post(call(1))
    assert exchange.json["result"] == {"by": "b"}
    assert (await client.mapping()).epoch == 2
    assert its.servers["b"].methods() == ["initialize", "notifications/initialized", "tools/call"]
    assert its.proxy.counts.sent_again == 1
    assert named(its.proxy.pool, "a").counts.failures == 1


async def test_a_request_waits_for_its_server_to_come_back(world):
    its = world("a")
    client = await begun(its)
    server = its.servers["a"]
    server.die()
    exchange = client.open("POST", call(1))
    await its.time.pass_s(5)
    assert not exchange.task.done()
    server.restart()
    await its.time.finish(exchange.task)
    assert exchange.json["result"] == {"by": "a"}
    assert server.executed[1] == 1
    assert its.proxy.counts.waited == 1


@pytest.mark.parametrize("patience_s", [0, 3, 10])
async def test_patience_ends_with_an_error_that_says_that_nothing_ran(world, patience_s):
    its = world("a", "b", retry={"patience_s": patience_s})
    client = await begun(its)
    for server in its.servers.values():
        server.die()
    began_s = its.time.now_s
    exchange = await client.post(call(1))
    assert (exchange.status, error_of(exchange)) == (200, UNREACHABLE)
    assert patience_s - 1 <= its.time.now_s - began_s <= patience_s
    assert exchange.json["error"]["data"]["retryInSeconds"] >= 0
    assert (its.proxy.counts.unreachable, its.proxy.counts.waited) == (1, min(1, patience_s))
    assert (await client.mapping()).epoch == 1


async def test_a_session_that_has_to_move_has_all_of_the_patience(world):
    its = world("a", "b")
    client = await begun(its)
    for server in its.servers.values():
        server.die()
    exchange = client.open("POST", call(1))
    await its.time.pass_s(6)
    assert not exchange.task.done()
    its.servers["b"].restart()
    await its.time.finish(exchange.task)
    assert exchange.json["result"] == {"by": "b"}


async def test_a_server_that_all_drain_from_is_not_waited_for(world):
    its = world("a")
    client = await begun(its)
    its.proxy.fleet.drain("a")
    assert (await client.post(call(1))).json["result"] == {"by": "a"}
    began_s = its.time.now_s
    exchange = await its.proxy.do("POST", request(0, "initialize"))
    assert error_of(exchange) == UNREACHABLE
    assert its.time.now_s == began_s
    assert its.proxy.counts.waited == 0


async def test_a_call_that_may_have_run_is_not_repeated_and_its_client_is_told(world):
    its = world("a", "b")
    client = await begun(its)
    exchange = await client.post(call(7, how="dies"))
    assert (exchange.status, error_of(exchange), exchange.json["id"]) == (200, MAY_HAVE_RUN, 7)
    assert its.servers["a"].executed + its.servers["b"].executed == {7: 1}
    assert its.proxy.counts.given_up == 1


@pytest.mark.parametrize("body", [request(1, "tools/list"), call(1, "search")])
async def test_what_may_run_twice_goes_again(world, body):
    its = world("a", "b", retry={"tools": ["search"]})
    client = await begun(its)
    its.servers["a"].then(json.loads(body)["method"], ConnectionResetError("reset"))
    assert (await client.post(body)).json["result"] == {"by": "b"}


async def test_a_tool_that_its_server_says_is_read_only_goes_again(world):
    its = world("a", "b")
    client = await begun(its)
    asked = Message(request(1, "tools/list"), CONTEXT)
    tools = [{"name": "look", "annotations": {"readOnlyHint": True}}, {"name": "write"}]
    await its.proxy.relay.answered("route-1", client.session_id, asked, Message(result(1, tools=tools), CONTEXT))
    its.servers["a"].then("tools/call", ConnectionResetError("reset"))
    assert (await client.post(call(1, "look"))).json["result"] == {"by": "b"}
    its.servers["b"].then("tools/call", ConnectionResetError("reset"))
    assert error_of(await client.post(call(2))) == MAY_HAVE_RUN
    assert its.proxy.caught_up == 2


async def test_a_request_that_was_sent_and_finds_nobody_then_may_have_run(world):
    its = world("a", retry={"tools": ["search"]})
    client = await begun(its)
    exchange = client.open("POST", call(1, "search", how="dies"))
    its.servers["a"].then("tools/call", None)
    await its.time.pass_s(0.02)
    assert its.servers["a"].executed[1] == 1
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    assert error_of(exchange) == MAY_HAVE_RUN


async def test_a_request_that_kills_servers_does_so_no_oftener_than_the_route_says(world):
    its = world("a", retry={"tools": ["search"], "attempts": 3})
    client = await begun(its)
    exchange = await client.post(call(1, "search", how="dies"))
    assert error_of(exchange) == MAY_HAVE_RUN
    assert its.servers["a"].executed[1] == 3


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_server_that_says_that_it_cannot_is_left_for_another_where_that_does_no_harm(world, status):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].then("tools/list", Head(status, b"sorry"))
    assert (await client.post(request(1, "tools/list"))).json["result"] == {"by": "b"}
    its.servers["b"].then("tools/call", Head(status, b"sorry"))
    exchange = await client.post(call(2))
    assert (exchange.status, bytes(exchange.received)) == (status, b"sorry")
    assert {member.counts.failures for member in its.proxy.pool.members()} == {1}


async def test_what_the_only_server_says_passes_when_nobody_else_takes_the_request(world):
    its = world("a", retry={"patience_s": 0})
    client = await begun(its)
    its.servers["a"].then("tools/list", Head(503, b"sorry"))
    exchange = await client.post(request(1, "tools/list"))
    assert (exchange.status, bytes(exchange.received)) == (503, b"sorry")
    assert its.proxy.counts.unreachable == 0


async def test_another_error_of_a_server_passes(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].then("tools/list", Head(500, b"oh"))
    exchange = await client.post(request(1, "tools/list"))
    assert (exchange.status, bytes(exchange.received)) == (500, b"oh")


async def test_a_server_that_is_down_is_not_tried(world):
    its = world("a", "b")
    client = await begun(its)
    break_down(its.proxy.pool, "a")
    assert (await client.post(call(1))).json["result"] == {"by": "b"}
    assert "tools/call" not in its.servers["a"].methods()
    assert named(its.proxy.pool, "a").state is State.DOWN


# --- Arrays, notifications, answers -------------------------------------------------------------------------------


async def test_each_request_of_an_array_gets_its_error(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].then("ping", ConnectionResetError("reset"))
    exchange = await client.post(b"[" + request(1, "ping") + b"," + call(2) + b"]")
    errors = {each["id"]: (each["error"]["code"], each["error"]["data"]["mayHaveRun"]) for each in exchange.json}
    assert errors[2] == MAY_HAVE_RUN
    assert errors[1][1] is True
    its.servers["a"].then("ping", ConnectionResetError("reset"))
    exchange = await client.post(b"[" + request(1, "ping") + b"," + request(2, "ping") + b"]")
    assert [each["result"] for each in exchange.json] == [{"by": "b"}, {"by": "b"}]


async def test_a_notification_that_reaches_nobody_ends_no_session(world):
    its = world("a", retry={"patience_s": 0})
    client = await begun(its)
    its.servers["a"].then("notifications/own", ConnectionResetError("reset"))
    assert (await client.post(notification("notifications/own"))).status == 202
    its.servers["a"].die()
    assert (await client.post(notification("notifications/cancelled"))).status == 202
    assert (its.proxy.counts.undelivered, its.proxy.counts.given_up, its.proxy.counts.unreachable) == (2, 0, 0)


@pytest.mark.parametrize("message", [result(9, roots=[]), notification("notifications/progress", progressToken=1)])
async def test_what_answers_a_server_reaches_the_session_that_asked_or_nobody(world, message):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].restart()
    assert (await client.post(message)).status == 202
    its.servers["a"].die()
    assert (await client.post(message)).status == 202
    assert its.proxy.counts.undelivered == 2
    assert its.servers["b"].asked == []
    assert (await client.mapping()).epoch == 1
    assert (await client.post(call(1))).json["result"] == {"by": "b"}


async def test_an_answer_without_a_session_waits_for_the_server_that_it_was_sent_to(world):
    its = world("a")
    its.servers["a"].gives_sessions = False
    its.servers["a"].then("answer", ConnectionResetError("reset"))
    assert (await its.proxy.do("POST", result(9, roots=[]))).status == 202
    assert its.servers["a"].methods() == ["answer", "answer"]
    assert its.proxy.counts.undelivered == 0


async def test_a_body_that_is_no_message_has_a_status_alone_when_nobody_takes_it(world):
    its = world("a", retry={"patience_s": 0})
    its.servers["a"].die()
    exchange = await its.proxy.do("GET", era=None)
    assert (exchange.status, exchange.received) == (502, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("how", ["breaks", *(502, 503, 504)])
async def test_what_nobody_can_read_is_not_sent_twice(world, method, how):
    its = world("a", "b")
    failure = ConnectionResetError("reset") if how == "breaks" else Head(how)
    for server in its.servers.values():
        server.then(method, failure)
    exchange = await its.proxy.do(method, era=None)
    assert (exchange.status, exchange.received) == (502 if how == "breaks" else how, b"")
    assert len(its.servers["a"].asked + its.servers["b"].asked) == 1
    assert (its.proxy.counts.given_up, its.proxy.counts.sent_again) == (int(how == "breaks"), 0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_only_reads_by_its_method_goes_again(world, method):
    its = world("a", "b")
    its.servers["a"].then(method, ConnectionResetError("reset"))
    its.servers["b"].then(method, Head(200, b"{}"))
    exchange = await its.proxy.do(method, era=None)
    assert (exchange.status, exchange.json) == (200, {})


async def test_the_store_may_be_away_when_a_session_has_to_move(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].die()

    async def fail(*_args):
        raise StoreUnavailable("away")

    its.store.rebind = fail
    exchange = await client.post(call(1))
    assert (exchange.status, error_of(exchange)) == (200, (ErrorCode.STORE_UNAVAILABLE, False))
    assert its.servers["b"].executed == {}
    await its.proxy.relay.manager.aclose()
    assert its.servers["b"].sessions == {}


async def test_a_server_is_not_blamed_for_a_session_that_was_not_begun_in_time(world):
    its = world("a", "b")
    client = await begun(its)
    its.servers["a"].restart()
    manager = its.proxy.relay.manager
    revive, late = manager.revive, []

    async def revive_late(mapping, upstream, headers):
        if len(late) < 4:
            late.append(upstream)
            raise RevivalTooLate(upstream, "it was not ready") from TimeoutError()
        return await revive(mapping, upstream, headers)

    manager.revive = revive_late
    assert (await client.post(call(1))).status == 200
    assert sorted(late) == ["a", "a", "b", "b"]
    assert [member.counts.failures for member in its.proxy.pool.members()] == [0, 0]
    assert {member.state for member in its.proxy.pool.members()} == {State.HEALTHY}
    assert (its.proxy.counts.sessions_not_moved, its.proxy.counts.waited) == (4, 1)


async def test_a_client_that_leaves_says_nothing_of_a_server(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].die()
    exchange = client.open("POST", call(1))
    await its.time.pass_s(1)
    exchange.leave()
    await its.time.pass_s(1)
    assert exchange.task.cancelled()
    its.proxy.leaves_nothing()
    passage = its.proxy.passage("GET")
    assert passage.leave() is False
    assert isinstance(passage.heard(200, Head(200).headers), Pass)
