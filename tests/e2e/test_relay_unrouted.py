"""A request to a real mitmdump whose path no route of its file is about."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.proxies import Proxies
from tests.e2e.raw_client import connect
from tests.e2e.relay_lanes import Lanes


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("unrouted")
    with Proxies(folder) as proxies:
        yield Lanes(folder, {"plain": ({}, 1)}).run(proxies)


@pytest.mark.parametrize(
    ("method", "body", "message_id"),
    [
        pytest.param("GET", b"", None, id="get"),
        pytest.param("POST", b"anything", None, id="post"),
        pytest.param("POST", wire.request("tools/list", {}, era="legacy", message_id=5), 5, id="legacy"),
        pytest.param("POST", wire.request("tools/list", {}, message_id=6), 6, id="modern"),
    ],
)
async def test_a_path_without_a_route_is_answered_with_those_that_there_are(
    lanes: Lanes, method: str, body: bytes, message_id: int | None
):
    path = f"/wrong-{message_id}-{method}"
    async with connect(lanes.proxy.port) as client:
        headers = {"Accept": wire.ACCEPT, "Content-Type": "application/json", "MCP-Protocol-Version": "2025-06-18"}
        response = await client.request(method, path, headers, body)
        told = json.loads(await response.rest())
    assert (response.status, response.header("content-type")) == (404, "application/json")
    assert told["id"] == message_id
    assert told["error"]["message"].startswith(f"No route of the upstreams file is about {path} at 127.0.0.1:")
    assert told["error"]["message"].endswith("; there are /plain-0")
    assert lanes.proxy.process.log.count(f"about {path} at") == 1
