"""What servers say of sessions that they do not know is told from what they say of requests."""

import pytest

from shadowcat_core.relay.said import says_lost
from tests.core.relay_driver import begun
from tests.core.relay_parts import EVERYTHING_400, Head, call

pytest_plugins = ["tests.core.relay_fixtures"]


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize(
    "text",
    [
        "Bad Request: No valid session ID provided", "Bad Request: Missing session ID", "Session not found",
        "No valid session ID provided", "Invalid session ID", "Session has expired", "Session has been terminated",
        "Not Found: Session has been terminated", "Invalid or expired: unknown session",
        "Bad Request: Mcp-Session-Id header is required", "session abc-1 does not exist",
    ],
)  # fmt: skip
@pytest.mark.parametrize("named", ['"id":null,', "", '"id":"server-error",'])
def test_what_servers_say_of_lost_sessions_is_understood(status, text, named):
    body = f'{{"jsonrpc":"2.0",{named}"error":{{"code":-32000,"message":"{text}"}}}}'.encode()
    assert says_lost("POST", status, Head(status).headers, body, [1])
    assert says_lost("GET", status, Head(status).headers, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"possession must be a string"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"obsession not found"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"the session name has to be short"}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Session not found"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":7}}',
        b'{"jsonrpc":"2.0","id":null,"error":"Session not found"}',
        b'["Session not found"]', b"Session not found", b"",
    ],
)  # fmt: skip
async def test_a_400_about_the_request_itself_passes_and_runs_once(world, body):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("tools/call", Head(400, body))
    exchange = await client.post(call(1))
    assert (exchange.status, bytes(exchange.received)) == (400, body)
    assert its.servers["a"].methods().count("tools/call") == 1
    assert (await client.mapping()).epoch == 1


async def test_a_server_that_says_so_of_what_it_has_just_begun_is_believed(world):
    its = world("a")
    client = await begun(its)
    its.servers["a"].then("tools/call", *(Head(*EVERYTHING_400) for _ in range(9)))
    exchange = await client.post(call(1))
    assert (exchange.status, bytes(exchange.received)) == EVERYTHING_400
    assert its.servers["a"].methods().count("tools/call") == 2
    assert (await client.mapping()).epoch == 2
