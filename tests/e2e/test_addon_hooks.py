"""Scripts with hooks and interceptors beside ours, through a real mitmdump: on running streams, and changed."""

import asyncio
import json
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.origin import WITHIN_S, Origin
from tests.e2e.processes import READY_WITHIN_S, environment
from tests.e2e.proxies import PROGRAMS, SHADOWCAT, Proxies, Proxy
from tests.e2e.raw_client import Connection, Response, connect

type Start = Callable[[str], Proxy]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


@pytest.fixture
def start(tmp_path: Path, origin: Origin, script: Path) -> Iterator[Start]:
    """Start a proxy with a script of one's own beside ours."""
    with Proxies(tmp_path) as proxies:

        def started(source: str) -> Proxy:
            write(script, source)
            return proxies.shadowcat(f"reverse:{origin.url}", script)

        yield started


def write(script: Path, source: str) -> None:
    """Write it at once, as an editor that renames does: mitmproxy looks at any moment."""
    draft = script.with_suffix(".draft")
    draft.write_text(textwrap.dedent(source))
    draft.rename(script)


async def event_of(response: Response) -> dict:
    """The next event of a stream, whatever its length."""
    block = b""
    while not block.endswith(b"\r\n\r\n"):
        block += await response.receive(1)
    (data,) = (line[6:] for line in block.decode().splitlines() if line.startswith("data: "))
    return json.loads(data)


async def begin(client: Connection, origin: Origin):
    await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
    exchange = await origin.exchange()
    await exchange.head()
    return exchange, await client.response()


MARKING = """
    from shadowcat_core.interceptors import Modify

    {how} mcp_notification(message):
        {wait}
        params = message.payload["params"] | {{"message": "{word}"}}
        return Modify(message.payload | {{"params": params}})
"""
HOWS = {"sync": ("def", "pass"), "async": ("async def", "import asyncio; await asyncio.sleep(0.02)")}


@pytest.mark.parametrize("how", HOWS)
async def test_hooks_judge_the_events_of_a_running_stream(origin: Origin, start: Start, how):
    keyword, wait = HOWS[how]
    proxy = start(MARKING.format(how=keyword, wait=wait, word="seen"))
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        for step in (1, 2):
            await exchange.send(wire.sse(wire.progress(step)))
            params = (await event_of(response))["params"]
            assert (params["progress"], params["message"]) == (step, "seen")
        await exchange.send(wire.sse(wire.progress(3)) + wire.sse(wire.result(1)))
        await exchange.end()
        assert (await event_of(response))["params"]["message"] == "seen"
        assert await response.rest() == wire.sse(wire.result(1))


async def test_hooks_of_all_kinds_see_their_messages_without_an_import(origin: Origin, start: Start, script: Path):
    seen = script.with_name("seen.txt")
    hooks = "".join(
        f"def mcp_{kind}(message): note('{kind}', message.kind, message.request and message.request.target)\n"
        for kind in ("request", "response", "notification", "message")
    )
    proxy = start(
        f"def note(*words): print(*words, file=open({str(seen)!r}, 'a'))\n"
        f"{hooks}def mcp_batch(batch): note('batch', len(batch), None)\n"
    )
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        await exchange.send(wire.sse(wire.progress(1)))
        await event_of(response)
        await exchange.send(wire.sse(wire.result(1)))
        await exchange.end()
        await response.rest()
    assert seen.read_text().splitlines() == [
        "batch 1 None", "message request None", "request request None",
        "batch 1 None", "message notification None", "notification notification None",
        "batch 1 None", "message response echo", "response response echo",
    ]  # fmt: skip


async def test_a_script_that_changes_while_a_stream_runs_is_followed_on_that_stream(
    origin: Origin, start: Start, script: Path
):
    proxy = start(MARKING.format(how="def", wait="pass", word="old"))
    async with connect(proxy.port) as client, asyncio.timeout(WITHIN_S):
        exchange, response = await begin(client, origin)

        async def next_word() -> str:
            await exchange.send(wire.sse(wire.progress(1)))
            return (await event_of(response))["params"].get("message", "")

        assert await next_word() == "old"
        write(script, MARKING.format(how="def", wait="pass", word="new"))
        while (word := await next_word()) != "new":
            assert word == "old"
            await asyncio.sleep(0.02)  # mitmproxy looks at its scripts once a second
        assert {await next_word() for _ in range(20)} == {"new"}
        write(script, "x = 1")
        while (word := await next_word()) != "":
            assert word == "new"
            await asyncio.sleep(0.02)
        await exchange.end()


@pytest.mark.parametrize("how", ["def", "async def"])
async def test_a_hook_that_raises_lets_messages_pass_and_is_told_once(
    origin: Origin, start: Start, script: Path, how: str
):
    proxy = start(f"{how} mcp_message(message):\n    raise OSError('out of order')\n")
    events = [wire.sse(wire.progress(step)) for step in range(1, 6)] + [wire.sse(wire.result(1))]
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        for event in events:
            await exchange.send(event)
            assert await response.receive(len(event)) == event
        await exchange.end()
        assert await response.rest() == b""
    log = proxy.process.log
    assert log.count("mine.py:2 in mcp_message: OSError: out of order (on ") == 1
    assert "tools/call echo; passed, as it fails open)" in log
    assert log.count(f'File "{script}", line 2, in mcp_message') == 1


async def test_what_fails_after_a_script_was_loaded_anew_is_told_at_once(origin: Origin, start: Start, script: Path):
    broken = "def mcp_request(message):\n    {}\n"
    proxy = start(broken.format("1 / 0"))

    async def call() -> str:
        async with connect(proxy.port) as client:
            exchange, response = await begin(client, origin)
            await exchange.send(wire.sse(wire.result(1)))
            await exchange.end()
            await response.rest()
        return proxy.process.log

    assert "mine.py:2 in mcp_request: ZeroDivisionError: division by zero (on tools/call echo; passed" in await call()
    write(script, broken.format("raise OSError('another')"))
    async with asyncio.timeout(WITHIN_S):
        log = await call()
        while "mine.py:2 in mcp_request: OSError: another (on tools/call echo; passed" not in log:
            await asyncio.sleep(0.02)  # mitmproxy looks at its scripts once a second
            log = await call()
    assert log.count("loaded anew: mine.mcp_request") == 1
    assert log.count("ZeroDivisionError") == 1


async def test_a_misspelt_hook_is_told_with_the_nearest_there_is_and_nothing_of_ours_is(origin: Origin, start: Start):
    proxy = start("def mcp_requests(message): ...\ndef mcp_request(message): ...\n")
    async with connect(proxy.port) as client:
        exchange, response = await begin(client, origin)
        await exchange.end()
        await response.rest()
    log = proxy.process.log
    assert "mine.mcp_requests means nothing here; is it meant to be mcp_request?" in log
    assert log.count("means nothing here") == 1


async def test_an_interceptor_in_a_scripts_list_that_raises_blocks_and_the_server_is_not_asked(
    origin: Origin, start: Start
):
    proxy = start(
        """
        class Broken:
            methods = {"tools/call"}
            def intercept(self, message):
                raise OSError("out of order")

        addons = [Broken()]
        """
    )
    async with connect(proxy.port) as client:
        response = await client.request("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        answer = json.loads(await response.rest())
    assert (answer["id"], answer["error"]["code"]) == (1, -31011)
    assert "out of order" not in answer["error"]["message"]
    assert origin.requests == []


def test_a_declaration_that_makes_no_sense_ends_a_proxy_that_starts_with_it(script: Path):
    write(script, "mcp_mode = 'watching'\ndef mcp_message(message): ...\n")
    argv = [PROGRAMS / "mitmdump", "--listen-host", "127.0.0.1", "-p", "0", "--set", f"confdir={script.parent}"]
    argv += ["-s", SHADOWCAT, "-s", script]
    ended = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=READY_WITHIN_S, check=False)
    assert ended.returncode != 0
    assert "mine.mcp_message is not called: mcp_mode is 'watching', and may be" in ended.stdout + ended.stderr
