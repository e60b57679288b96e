"""The MCP Inspector's command line, in both eras, gets through the proxy what it gets without it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import partners
from tests.e2e.processes import environment
from tests.e2e.proxies import Proxies
from tests.e2e.sdk import SERVERS, Servers, output_of

pytestmark = [pytest.mark.partner, pytest.mark.usefixtures("npm")]

LIST = ("--method", "tools/list")
CALL_SUM = ("--method", "tools/call", "--tool-name", "get-sum", "--tool-arg", "a=2", "--tool-arg", "b=3")
CALL_ADD = ("--method", "tools/call", "--tool-name", "add", "--tool-arg", "a=2", "--tool-arg", "b=3")
CALL_LONG = ("--method", "tools/call", "--tool-name", "trigger-long-running-operation", "--tool-arg", "duration=1")
READ = ("--method", "resources/read", "--uri", "text://leaflet")
GREET = ("--method", "prompts/get", "--prompt-name", "greeting", "--prompt-args", "name=Ann")

ASKED = [
    ("everything", "legacy", LIST),
    ("everything", "legacy", CALL_SUM),
    ("everything", "legacy", CALL_LONG),
    ("everything", "auto", CALL_SUM),
    ("sdk2", "legacy", LIST),
    ("sdk2", "legacy", CALL_ADD),
    ("sdk2", "auto", LIST),
    ("sdk2", "modern", CALL_ADD),
    ("sdk2", "modern", READ),
    ("sdk2", "modern", GREET),
]
LEGACY_SSE = [("everything-sse", "legacy", CALL_SUM), ("sdk2-sse", "legacy", CALL_ADD)]


async def inspect(url: str, transport: str, era: str, asked: tuple[str, ...], home: Path, **env: str) -> Any:
    """What the Inspector prints, as JSON."""
    argv = (partners.node(), partners.INSPECTOR, "--cli", url, "--transport", transport, "--format", "json", *asked)
    era_flags = ("--protocol-era", era) if transport == "http" else ()
    return json.loads(await output_of(*argv, *era_flags, env=environment(HOME=str(home), **env), succeeds=True))


@pytest.mark.parametrize(("name", "era", "asked"), ASKED + LEGACY_SSE)
async def test_the_inspector_gets_the_same_through_the_proxy(
    proxies: Proxies, servers: Servers, tmp_path: Path, name, era, asked
):
    server = SERVERS[name]
    url = servers.url(server)
    proxy = proxies.shadowcat(f"reverse:{url}")
    direct = await inspect(url + server.path, server.transport, era, asked, tmp_path)
    assert await inspect(proxy.url + server.path, server.transport, era, asked, tmp_path) == direct
    assert direct


async def test_the_inspector_uses_a_forward_proxy(proxies: Proxies, servers: Servers, tmp_path: Path):
    url = servers.url(SERVERS["everything"]) + "/mcp"
    proxy = proxies.shadowcat("regular")
    said = await inspect(url, "http", "legacy", CALL_SUM, tmp_path, NODE_USE_ENV_PROXY="1", HTTP_PROXY=proxy.url)
    assert "5" in json.dumps(said)
    assert f"POST {url}" in proxy.process.log
