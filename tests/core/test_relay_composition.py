"""A relay is made of what a file says; refreshed tokens pass where a server vouches for them."""

import pytest

from shadowcat_core.relay import relay_of
from shadowcat_core.relay.steps import edited
from tests.core.relay_driver import begun
from tests.core.relay_parts import Head, call, result
from tests.core.token_parts import is_genuine, token_of
from tests.core.upstream_parts import file, fleet, route

pytest_plugins = ["tests.core.relay_fixtures"]


async def test_a_file_makes_a_relay(tmp_path):
    async def ask(*_asked):
        raise ConnectionRefusedError

    its = fleet(route("a"))
    relay = relay_of(file(route("a"), sessions={"idle_s": 5}), its, key_file=tmp_path / "key", ask=ask)
    assert relay.fleet is its
    assert relay.routes(None, "/mcp") is its.pools()[0]
    await relay.tend()
    assert relay.listing.count == 0
    await relay.aclose(0.1)


def verifying(server):
    """Let a server answer pings as one that looks at signatures."""
    handle = server.handle

    async def look(method, headers, body):
        if b'"ping"' in body and server.is_up:
            if not is_genuine(headers.get("authorization")):
                return Head(401)
            return Head(200, result("shadowcat-vouching"))
        return await handle(method, headers, body)

    server.handle = look


async def test_another_server_vouches_for_a_refreshed_token_when_the_sessions_own_is_gone(world):
    its = world("a", "b")
    for server in its.servers.values():
        verifying(server)
    client = await begun(its, authorization=token_of(n=1))
    its.servers["a"].die()
    assert (await client.post(call(1), authorization=token_of(n=2))).json["result"] == {"by": "b"}
    assert (await client.post(call(2), authorization=token_of("bob"))).status == 404


async def test_a_session_lives_while_nobody_can_vouch_for_its_clients_new_token(world):
    its = world("a", retry={"patience_s": 0})
    verifying(its.servers["a"])
    client = await begun(its, authorization=token_of(n=1))
    its.servers["a"].die()
    exchange = await client.post(call(1), authorization=token_of(n=2))
    assert exchange.json["error"]["data"]["mayHaveRun"] is False
    assert exchange.status == 200
    assert await client.mapping() is not None


@pytest.mark.parametrize(
    ("edits", "after"),
    [
        ([], [(b"A", b"1"), (b"B", b"2"), (b"a", b"3")]),
        ([("a", "x")], [(b"a", b"x"), (b"B", b"2")]),
        ([("A", None)], [(b"B", b"2")]),
        ([("C", "é"), ("D", None)], [(b"A", b"1"), (b"B", b"2"), (b"a", b"3"), (b"C", b"\xc3\xa9")]),
        ([("B", "x"), ("b", "y")], [(b"A", b"1"), (b"b", b"y"), (b"a", b"3")]),
    ],
)
def test_an_edit_takes_the_place_of_all_that_a_header_had(edits, after):
    assert edited([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")], edits) == tuple(after)
