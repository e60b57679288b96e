"""Servers that die while the proxy connects to them: the request is answered all the same."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.proxies import Proxies


@pytest.fixture
def resetting_port() -> Iterator[int]:
    """A server that is killed with every connection just made: each is reset at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:

        def reset_all() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                with accepted:
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        resetting = threading.Thread(target=reset_all)
        resetting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        resetting.join()


async def test_a_connection_that_is_reset_as_it_is_made_leaves_no_request_without_an_answer(
    tmp_path: Path, resetting_port: int
):
    route = {
        "upstreams": [{"name": "dying", "url": f"http://127.0.0.1:{resetting_port}/mcp"}],
        "health": {"passive": {"failures": 100}},
        "retry": {"attempts": 1, "patience_s": 0},
    }
    file = tmp_path / "shadowcat.yaml"
    file.write_text(json.dumps({"version": 1, "routes": [route]}))
    asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "transfer", "arguments": {}}}
    # Who hears of a reset is chance: who connects, who then sends, or who looks at the connection between the two.
    with Proxies(tmp_path) as proxies:
        url = proxies.shadowcat("regular", shadowcat_upstreams=str(file)).url + "/mcp"
        async with httpx.AsyncClient(timeout=30) as client:
            for _ in range(5):
                answers = await asyncio.gather(
                    *(client.post(url, json=asked, headers={"Connection": "close"}) for _ in range(20))
                )
                assert {answer.json()["id"] for answer in answers} == {7}
                assert {answer.json()["error"]["code"] for answer in answers} <= {-31001, -31002}
