"""Official SDK clients and servers while an interceptor looks at, and now and then holds, every message of theirs."""

import asyncio
import time

import pytest

from tests.e2e.proxies import SCRIPTS, Proxies
from tests.e2e.sdk import Client, Server, Servers
from tests.e2e.test_sdk_matrix import client, server

__all__ = ["client", "server"]

pytestmark = pytest.mark.partner

SLOW_JUDGE = SCRIPTS / "slow_judge.py"
HOLD_THIRD = SCRIPTS / "hold_third.py"
HOLD_S = 0.4
JUDGED_PAIRS = [
    *(("sdk1", server) for server in ("sdk1", "sdk2", "everything", "sdk2-sse")),
    *(("sdk2-legacy", server) for server in ("sdk1-json", "everything", "sdk1-sse", "everything-sse")),
    *(("sdk2-auto", server) for server in ("sdk1", "sdk2", "everything")),
    *(("sdk2-modern", server) for server in ("sdk2", "sdk2-json", "sdk2-stateless")),
]


@pytest.mark.parametrize(("client", "server"), JUDGED_PAIRS, indirect=True)
async def test_a_session_that_is_judged_and_held_is_the_session_without_the_proxy(
    proxies: Proxies, servers: Servers, client: Client, server: Server
):
    url = servers.url(server)
    proxy = proxies.shadowcat(f"reverse:{url}", SLOW_JUDGE)
    direct, judged = await asyncio.gather(client.converse(server, url), client.converse(server, proxy.url))
    assert "error" not in direct
    assert judged == direct
    assert "as it fails" not in proxy.process.log


@pytest.mark.parametrize(
    ("client", "server"), [("sdk1", "sdk1"), ("sdk2-auto", "sdk2"), ("sdk2-legacy", "everything")], indirect=True
)
async def test_an_official_client_gets_a_held_progress_notification_in_its_place(
    proxies: Proxies, servers: Servers, client: Client, server: Server
):
    url = servers.url(server)
    proxy = proxies.shadowcat(f"reverse:{url}", HOLD_THIRD)
    direct = await client.converse(server, url)
    began = time.monotonic()
    held = await client.converse(server, proxy.url)
    assert time.monotonic() - began >= HOLD_S
    assert len(held["progress"]) >= 4
    assert held == direct
    assert "held the third" in proxy.process.log
