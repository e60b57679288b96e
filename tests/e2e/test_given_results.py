"""What the pages give as results in a server's place is accepted by the official client, in both eras."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from mcp import Client

from tests.e2e.origin import WITHIN_S
from tests.e2e.proxies import ROOT, Proxies

MODES = ("legacy", "2026-07-28")
RULES = (ROOT / "docs" / "rules.md").read_text()
HOLDING = (ROOT / "docs" / "holding.md").read_text()
LISTS = """
rules:
  - {when: {method: tools/list}, do: {mock: {result: {tools: [{name: nothing, inputSchema: {type: object}}]}}}}
  - {when: {method: resources/read}, do: {mock: {result: {contents: [{uri: "x:y", text: hi}]}}}}
"""

pytestmark = pytest.mark.parametrize("mode", MODES)


async def test_a_mock_of_the_rules_manual(proxies: Proxies, example_server: str, tmp_path_factory, mode: str):
    (example,) = re.findall(r"^```yaml\n(.*?)^```", RULES, flags=re.DOTALL | re.MULTILINE)
    rules = written(tmp_path_factory, example)
    proxy = proxies.shadowcat(f"reverse:{example_server}", shadowcat_rules=str(rules))
    async with Client(f"{proxy.url}/mcp", mode=mode) as client:
        await client.list_tools()  # from now on it knows the shapes of results, and checks them
        result = await client.call_tool("deploy", {"service": "web", "version": "2"})
    assert [block.text for block in result.content] == ["rehearsed: web"]


async def test_mocks_of_what_may_be_cached(proxies: Proxies, example_server: str, tmp_path_factory, mode: str):
    proxy = proxies.shadowcat(f"reverse:{example_server}", shadowcat_rules=str(written(tmp_path_factory, LISTS)))
    async with Client(f"{proxy.url}/mcp", mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["nothing"]
        assert (await client.read_resource("x:y")).contents[0].text == "hi"


@pytest.mark.parametrize("knows_shapes", [False, True])
async def test_answers_of_the_holding_manual(proxies: Proxies, example_server: str, mode: str, knows_shapes: bool):
    plain, shaped = re.findall(r"`shadowcat\.answer 3 '(\{\"content\".*?\})'`", HOLDING)
    proxy = proxies.web(
        f"reverse:{example_server}", shadowcat_hold="method:tools/call kind:request", shadowcat_live_ms="20"
    )
    headers = {"Authorization": "Bearer a-token-for-this-test", "Cookie": "_mitmproxy_xsrf=x", "X-XSRFToken": "x"}
    base = str(proxy.web_url).partition("?")[0]
    async with (
        httpx.AsyncClient(base_url=base, headers=headers, timeout=WITHIN_S, trust_env=False) as person,
        Client(f"{proxy.url}/mcp", mode=mode) as client,
    ):
        if knows_shapes:
            await client.list_tools()
        call = asyncio.create_task(client.call_tool("rollback" if knows_shapes else "unlisted", {"service": "web"}))
        number = await number_of_hold(person)
        arguments = [number, shaped if knows_shapes else plain]
        said = await person.post("commands/shadowcat.answer", json={"arguments": arguments})
        assert "answered: tools/call" in said.json()["value"]
        result = await call
    assert result.content == []
    assert result.structured_content == ({"result": "nothing was deleted"} if knows_shapes else None)


async def number_of_hold(person: httpx.AsyncClient) -> str:
    """The number of the message that is held, once there is one."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            for line in (await person.post("commands/shadowcat.held", json={"arguments": []})).json()["value"]:
                return str(line.partition(" ")[0])
            await asyncio.sleep(0.02)


def written(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(text)
    return path
