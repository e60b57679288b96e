"""mitmdump in a terminal: each message stands on its output while the stream is open, and what was done to it."""

import asyncio
import json
import re
from pathlib import Path

import h11
import pytest
from click.testing import CliRunner

from shadowcat_core.cli import main
from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, WITHIN_S, Origin
from tests.e2e.proxies import Proxies, Proxy
from tests.e2e.raw_client import connect

EVENTS = [wire.sse(wire.progress(step, total=4)) for step in range(1, 5)]


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin) -> Proxy:
    # The user interface's own pace is an hour: what is printed in time is printed by the console.
    return proxies.shadowcat(
        f"reverse:{origin.url}", shadowcat_print="true", flow_detail="0", shadowcat_live_ms="3600000"
    )


async def printed(proxy: Proxy, *wanted: str) -> list[str]:
    """The lines about messages, once each of `wanted` stands in one of the latest."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            log = await asyncio.to_thread(proxy.process.log_path.read_text)
            lines = [line for line in log.splitlines() if not line.startswith("[")]
            latest = lines[-len(wanted) :]
            if len(latest) == len(wanted) and all(map(str.__contains__, latest, wanted)):
                return lines


def shown_of_the_tape_in(folder: Path) -> list[str]:
    """What `tape show` prints of the one tape in a folder, without times."""
    (path,) = folder.iterdir()
    lines = CliRunner().invoke(main, ["tape", "show", str(path)]).stdout.splitlines()
    return [line.partition(" s ")[2] for line in lines]


def asides(lines: list[str]) -> list[str]:
    """The lines about what happened beside the messages, without durations."""
    return [re.sub(r" · [\d.]+ m?s\b", "", line) for line in lines if line.startswith(("!", "·"))]


async def test_each_message_is_printed_before_the_next_is_sent(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await printed(proxy, "→ tools/call #1 echo")
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        for step, event in enumerate(EVENTS, start=1):
            await exchange.send(event)
            assert await response.receive(len(event)) == event
            await printed(proxy, f"← notifications/progress {step}/4")
        await exchange.send(wire.sse(wire.result(1)))
        await printed(proxy, "← result #1 tools/call echo")
        await exchange.end()
        await response.rest()
        assert "connect" not in proxy.process.log


async def test_an_answer_in_one_piece_and_a_refusal_are_printed(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.headers("ping"), wire.request("ping"))
        await (await origin.exchange()).answer(json.dumps(wire.result(1)).encode())
        await (await client.response()).rest()
        await printed(proxy, "→ ping #1", "← result #1 ping")
        await client.send("POST", "/mcp", wire.headers("ping"), wire.request("ping"))
        await (await origin.exchange()).answer(b"no", {"Content-Type": "text/plain"}, status=401)
        await (await client.response()).rest()
        lines = await printed(proxy, "→ ping #1", "· ping → ✗ HTTP 401")
    assert "\x1b" not in "".join(lines)


async def test_what_was_done_and_what_broke_is_said_in_the_words_of_the_tape(
    origin: Origin, proxies: Proxies, tmp_path: Path
):
    broken = {"shadowcat_faults": "cut:after=2", "shadowcat_tools_deny": "delete_*"}
    printing = {"shadowcat_print": "true", "flow_detail": "0", "shadowcat_tape": str(tmp_path)}
    proxy = proxies.shadowcat(f"reverse:{origin.url}", **broken, **printing)
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.headers("tools/call", "delete_all"), wire.tool_call("delete_all"))
        await (await client.response()).rest()
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await (await origin.exchange()).answer(b"".join(EVENTS), EVENT_STREAM)
        with pytest.raises(h11.RemoteProtocolError):
            await (await client.response()).rest()
    wanted = [
        "→ tools/call #1 delete_all",
        "! → tools/call #1 delete_all",
        "← error #1 tools/call delete_all",
        "→ tools/call #1 echo",
        *(f"← notifications/progress {step}/4" for step in range(1, 5)),
        "! tools/call echo · fault cut: the body is cut off behind 2 events",
        "· tools/call echo → ✗ broke off",
    ]
    lines = await printed(proxy, *wanted)
    await asyncio.to_thread(proxy.process.stop)
    shown = await asyncio.to_thread(shown_of_the_tape_in, tmp_path)
    assert asides(shown) == asides([line.partition(" ")[2] for line in lines]) != []
