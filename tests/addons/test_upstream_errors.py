"""An upstream that fails before it answers is answered for, with the request's id."""

import json

from shadowcat_addons.upstream_errors import UpstreamErrors
from tests.addons.conftest import CALL, request_flow


def answered(proxy, flow, error="Connect call failed"):
    return UpstreamErrors(proxy.suite.registry).answer(flow, error)


async def test_a_call_gets_a_json_rpc_error_with_its_id(proxy):
    flow = await proxy.ask(request_flow())
    flow.server_conn.timestamp_tcp_setup = None
    response = answered(proxy, flow)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    error = json.loads(response.content)
    assert error["id"] == 7
    assert error["error"]["code"] == -31001
    assert "127.0.0.1:3001 cannot be reached: Connect call failed" in error["error"]["message"]
    assert error["error"]["data"] == {"upstream": "127.0.0.1:3001", "mayHaveRun": False}


async def test_a_modern_client_gets_the_error_with_an_errors_status(proxy):
    flow = request_flow()
    flow.request.headers["mcp-protocol-version"] = "2026-07-28"
    await proxy.ask(flow)
    assert answered(proxy, flow).status_code == 502


async def test_an_upstream_that_hung_up_is_told_from_one_that_is_not_there(proxy):
    flow = await proxy.ask(request_flow({**CALL, "id": "text"}))
    flow.server_conn.timestamp_tcp_setup = 1.0
    error = json.loads(answered(proxy, flow, "server closed connection").content)
    assert error["id"] == "text"
    assert error["error"]["code"] == -31002
    assert error["error"]["data"]["mayHaveRun"] is True


async def test_an_array_is_answered_with_an_array(proxy):
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    flow = await proxy.ask(request_flow([CALL, notification, {**CALL, "id": 0}]))
    assert [error["id"] for error in json.loads(answered(proxy, flow).content)] == [7, 0]


async def test_who_asked_nothing_gets_mitmproxys_own_answer(proxy):
    notification = await proxy.ask(request_flow({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    assert answered(proxy, notification) is None
    other = await proxy.ask(request_flow(b"a=1", headers={"content-type": "text/plain"}))
    assert answered(proxy, other) is None
