"""Recipes of the cookbook through a real mitmdump, between the example server and the official SDK's client."""

import re
from typing import Self

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError

from tests.e2e.proxies import ROOT, Proxies

MODES = ("legacy", "2026-07-28")
DEPLOY = {"service": "web", "version": "2.0.0"}

pytestmark = pytest.mark.parametrize("mode", MODES)


class Session:
    """A client of the official SDK behind a proxy with one recipe."""

    def __init__(self, proxies: Proxies, example_server: str, recipe: str, mode: str):
        (script,) = (ROOT / "examples" / "interceptors").glob(f"*_{recipe}.py")
        self.proxy = proxies.shadowcat(f"reverse:{example_server}", script)
        self.logs: list[str] = []
        self.progress: list[float] = []
        self._client = Client(f"{self.proxy.url}/mcp", mode=mode, log_level="info", logging_callback=self._log)

    async def _log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logs.append(str(params.data))

    async def _step(self, step: float, total: float | None, message: str | None) -> None:
        self.progress.append(step)

    async def __aenter__(self) -> Self:
        self.client = await self._client.__aenter__()
        return self

    async def __aexit__(self, *how: object) -> None:
        await self._client.__aexit__(*how)

    async def call(self, tool: str, **arguments: object) -> str:
        result = await self.client.call_tool(tool, arguments, progress_callback=self._step)
        return " ".join(block.text for block in result.content if block.type == "text")


async def test_a_refused_call_is_an_error_for_the_client_and_the_session_goes_on(proxies, example_server, mode):
    async with Session(proxies, example_server, "block_deletes", mode) as session:
        with pytest.raises(MCPError, match="delete_all is not allowed here"):
            await session.call("delete_all")
        assert await session.call("echo", text="still here") == "still here"


async def test_a_mocked_tool_satisfies_the_shape_that_the_client_checks(proxies, example_server, mode):
    async with Session(proxies, example_server, "mock_a_tool", mode) as session:
        await session.client.list_tools()
        assert await session.call("deploy", **DEPLOY) == "rehearsed: nothing was deployed"
        assert await session.call("add", a=2, b=3) == "5"
    async with Session(proxies, example_server, "block_deletes", mode) as session:
        services = await session.client.read_resource("desk://services")
        assert "2.0.0" not in services.contents[0].text


async def test_addresses_are_redacted_in_results(proxies, example_server, mode):
    async with Session(proxies, example_server, "redact_emails", mode) as session:
        assert await session.call("echo", text="ask ann@example.org") == "ask [e-mail]"


async def test_a_slow_tool_is_answered_all_the_same(proxies, example_server, mode):
    async with Session(proxies, example_server, "slow_tool", mode) as session:
        assert await session.call("echo", text="late") == "late"


async def test_the_client_is_told_how_long_its_call_took(proxies, example_server, mode):
    async with Session(proxies, example_server, "tell_the_time", mode) as session:
        assert await session.call("countdown", start=2) == "lift-off"
        (said,) = session.logs
        assert re.fullmatch(r"countdown took \d+ ms", said)


async def test_notes_stand_under_the_descriptions_that_the_client_reads(proxies, example_server, mode):
    async with Session(proxies, example_server, "note_on_tools", mode) as session:
        said = {tool.name: tool.description for tool in (await session.client.list_tools()).tools}
        assert said["deploy"].endswith("it changes production.")
        assert said["echo"] == "Answer with the text as it came."


async def test_slow_calls_are_logged(proxies, example_server, mode):
    async with Session(proxies, example_server, "log_slow_calls", mode) as session:
        await session.call("countdown", start=6)
        assert re.search(r"tools/call countdown took \d+ ms \(response\)", session.proxy.process.log)


async def test_progress_and_result_come_through_where_progress_may_be_thinned(proxies, example_server, mode):
    async with Session(proxies, example_server, "latest_progress", mode) as session:
        assert await session.call("countdown", start=3) == "lift-off"
        assert session.progress == sorted(session.progress)
        assert session.progress[-1] == 2
