"""The guards in a real mitmdump, between the official SDK's client and a server of it that is not to be trusted."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.origin import WITHIN_S
from tests.e2e.processes import ChildProcess, environment, free_port
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.sdk import HERE, SDK2_PYTHON, output_of
from tests.e2e.servers.shifty import RED, TOKEN

MODES = ["legacy", "2026-07-28"]
SUM = ["call", "add", {"a": 2, "b": 3}]


@pytest.fixture
def shifty(tmp_path: Path) -> Iterator[str]:
    """Where a fresh server listens."""
    port = free_port()
    argv = (SDK2_PYTHON, "-m", "tests.e2e.servers.shifty", "--port", str(port))
    process = ChildProcess("server shifty", argv, port=port, log=tmp_path / "shifty.txt", env=environment())
    try:
        yield f"http://127.0.0.1:{process.wait_listening().port}"
    finally:
        process.stop()


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


async def ask(proxy: Proxy, mode: str, *steps: list[Any]) -> list[Any]:
    """What came of a session's steps."""
    argv = (SDK2_PYTHON, HERE / "clients" / "caller.py", f"{proxy.url}/mcp", mode, json.dumps(steps))
    return json.loads(await output_of(*argv, env=environment(), succeeds=True))


async def logged(proxy: Proxy, text: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while text not in proxy.process.log:  # noqa: ASYNC110 -- another process writes it
            await asyncio.sleep(0.02)


async def test_a_denied_tool_is_not_listed_and_its_call_is_refused_in_words(proxies: Proxies, shifty: str, mode: str):
    proxy = proxies.shadowcat(f"reverse:{shifty}", shadowcat_tools_deny="delete_*")
    listed, refused, answered = await ask(proxy, mode, ["list"], ["call", "delete_all", {}], SUM)
    assert set(listed) == {"add", "leak", "repeat", "flood", "turn", "paint"}
    assert refused == {"error": "the tool delete_all is not allowed here", "code": -31010}
    assert answered == "5"


async def test_escapes_are_taken_out_of_descriptions_and_results(proxies: Proxies, shifty: str, mode: str):
    proxy = proxies.shadowcat(f"reverse:{shifty}", shadowcat_scan="strip")
    listed, painted = await ask(proxy, mode, ["list"], ["call", "paint", {}])
    assert listed["paint"] == "Paint something."
    assert painted == "Paint is done"


async def test_escapes_are_only_told_when_that_is_chosen(proxies: Proxies, shifty: str, mode: str):
    proxy = proxies.shadowcat(f"reverse:{shifty}", shadowcat_scan="warn")
    listed, painted = await ask(proxy, mode, ["list"], ["call", "paint", {}])
    assert listed["paint"] == f"{RED} something."
    assert painted == f"{RED} is done"
    await logged(proxy, "ANSI escape ×2 in /result/tools/6 (paint)/description")


async def test_a_tool_that_changed_is_told_hidden_and_refused(proxies: Proxies, shifty: str, mode: str, tmp_path: Path):
    pins = tmp_path / "pins.json"
    proxy = proxies.shadowcat(f"reverse:{shifty}", shadowcat_pins=str(pins), shadowcat_pins_action="block")
    steps = (["list"], SUM, ["call", "turn", {}])
    before, answered, turned = await ask(proxy, mode, *steps)
    assert (before["add"], answered, turned) == ("Add two numbers.", "5", "turned")
    assert stat.S_IMODE(pins.stat().st_mode) == 0o600
    after, refused, untouched = await ask(proxy, mode, ["list"], SUM, ["call", "repeat", {"text": "a"}])
    assert set(before) - set(after) == {"add"}
    assert "the tool add is not the accepted one: description changed" in refused["error"]
    assert untouched == "a"
    await logged(proxy, f"tool add of {shifty}/mcp: description changed")


async def test_secrets_are_masked_on_their_way_to_either_side(proxies: Proxies, shifty: str, mode: str):
    steps = (["call", "leak", {}], ["call", "repeat", {"text": f"mine is {TOKEN}"}])
    told, back = await ask(proxies.shadowcat(f"reverse:{shifty}", shadowcat_redact_wire="both"), mode, *steps)
    assert (told, back) == ("the token is [REDACTED:github-token]", "mine is [REDACTED:github-token]")


@pytest.mark.parametrize("action", ["error", "truncate"])
async def test_a_result_that_is_too_large_is_refused_or_cut(proxies: Proxies, shifty: str, mode: str, action: str):
    proxy = proxies.shadowcat(
        f"reverse:{shifty}", shadowcat_max_result_kb="10", shadowcat_max_result_action=action, shadowcat_scan="strip"
    )
    large, small = await ask(proxy, mode, ["call", "flood", {}], SUM)
    assert small == "5"
    if action == "error":
        assert "no more than 10,240 are let through" in large["error"]
    else:
        assert "[truncated by shadowcat" in large
        assert len(large) < 10_240
