"""Rules files through a real mitmdump: calls blocked, events of running streams changed, files loaded anew."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.origin import EVENT_STREAM, JSON, Exchange, Origin
from tests.e2e.processes import READY_WITHIN_S, ChildProcess
from tests.e2e.proxies import PROGRAMS, SHADOWCAT, Proxies, Proxy
from tests.e2e.raw_client import Connection, connect

RULES = """
rules:
  - name: no-deletes
    when: {method: tools/call, target: "delete_*"}
    do: {block: "{{ target }} is not allowed"}
  - name: hide
    when: {method: tools/call, target: rename}
    do: {modify: {set: {/params/name: echo, /params/arguments/was: "{{ target }}"}}}
  - name: third-is-special
    when: {method: notifications/progress, nth: {at: 3, per: stream}}
    do: {modify: {set: {/params/message: "step {{ params.progress }}"}}}
  - name: no-keys
    when: {method: tools/call, result: {"$.content[*].text": {matches: "sk-[0-9]+"}}}
    do: {modify: {set: {/result/content: [{type: text, text: hidden}]}}}
"""
ALLOWS = "rules: [{when: {method: tools/call, target: other}, do: block}]"
WITHIN_S = 30


@pytest.fixture
def guard(tmp_path: Path) -> Path:
    path = tmp_path / "guard.yaml"
    path.write_text(RULES)
    return path


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin, guard: Path) -> Proxy:
    return proxies.shadowcat(f"reverse:{origin.url}", shadowcat_rules=str(guard))


def written_anew(path: Path, text: str) -> None:
    """Write a file as editors do: another one takes its place."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


async def logged(process: ChildProcess, words: str, times: int = 1) -> None:
    async with asyncio.timeout(WITHIN_S):
        while process.log.count(words) < times:  # noqa: ASYNC110 -- a log tells nobody
            await asyncio.sleep(0.05)


async def call(client: Connection, tool: str) -> None:
    await client.send("POST", "/mcp", wire.headers("tools/call", tool), wire.tool_call(tool))


async def is_blocked(client: Connection, origin: Origin, tool: str = "delete_all") -> bool:
    """Whether a call does not get to the server."""
    await call(client, tool)
    answered = asyncio.create_task(client.response())
    asked = asyncio.create_task(origin.exchange())
    done, _ = await asyncio.wait({answered, asked}, return_when=asyncio.FIRST_COMPLETED)
    if asked in done:
        await asked.result().answer(json.dumps(wire.result(1)).encode(), JSON)
    asked.cancel()
    message = json.loads(await (await answered).rest())
    return "error" in message


async def test_a_call_is_blocked_and_its_caller_told_why(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await call(client, "delete_all")
        response = await client.response()
        error = {"code": -31010, "message": "delete_all is not allowed (rule no-deletes)"}
        assert json.loads(await response.rest()) == {"jsonrpc": "2.0", "id": 1, "error": error}
        assert response.status == 200
        await call(client, "echo")
        exchange = await origin.exchange()
        assert json.loads(exchange.request.body)["params"]["name"] == "echo"


async def test_a_changed_call_has_headers_that_agree(origin: Origin, proxy: Proxy):
    async with connect(proxy.port) as client:
        await call(client, "rename")
        exchange = await origin.exchange()
        params = json.loads(exchange.request.body)["params"]
        assert (params["name"], params["arguments"]) == ("echo", {"was": "rename"})
        assert exchange.request.header("mcp-name") == "echo"


async def stream(client: Connection, origin: Origin) -> Exchange:
    await call(client, "echo")
    exchange = await origin.exchange()
    await exchange.head()
    return exchange


async def test_one_event_of_a_running_stream_is_changed_and_the_others_are_as_they_came(origin: Origin, proxy: Proxy):
    events = [wire.sse(wire.progress(step), event_id=str(step)) for step in range(1, 6)]
    third = wire.progress(3)
    third["params"]["message"] = "step 3"
    expected = [*events[:2], wire.sse(third, event_id="3"), *events[3:]]
    async with connect(proxy.port) as client:
        for _ in range(2):  # streams count apart
            exchange = await stream(client, origin)
            response = await client.response()
            for sent, received in zip(events, expected, strict=True):
                await exchange.send(sent)
                assert await response.receive(len(received)) == received
            await exchange.end()
            assert await response.rest() == b""


@pytest.mark.parametrize("content_type", [JSON, EVENT_STREAM])
async def test_a_result_is_judged_by_the_call_that_it_answers(origin: Origin, proxy: Proxy, content_type):
    result = wire.result(1, content=[{"type": "text", "text": "sk-12345"}], resultType="complete")
    hidden = wire.result(1, content=[{"type": "text", "text": "hidden"}], resultType="complete")
    async with connect(proxy.port) as client:
        await call(client, "echo")
        exchange = await origin.exchange()
        is_stream = content_type == EVENT_STREAM
        await exchange.answer(wire.sse(result) if is_stream else json.dumps(result).encode(), content_type)
        received = await (await client.response()).rest()
        assert received == wire.sse(hidden) if is_stream else json.loads(received) == hidden


async def test_a_file_that_changes_is_in_force_without_a_restart_and_a_broken_one_never(
    origin: Origin, proxy: Proxy, guard: Path
):
    async with connect(proxy.port) as client:
        assert await is_blocked(client, origin)
        written_anew(guard, ALLOWS)
        await logged(proxy.process, "loaded anew: 1 rules")
        assert not await is_blocked(client, origin)
        assert await is_blocked(client, origin, "other")
        written_anew(guard, RULES.replace("target:", "targte:"))
        await logged(proxy.process, "stay as they were")
        assert "rules[0].when.targte: unknown field; did you mean 'target'?" in proxy.process.log
        assert await is_blocked(client, origin, "other")
        written_anew(guard, RULES)
        await logged(proxy.process, "loaded anew: 4 rules")
        assert await is_blocked(client, origin)


async def test_a_stream_that_runs_meets_the_new_rules_with_its_next_event(origin: Origin, proxy: Proxy, guard: Path):
    first, second = (wire.sse(wire.progress(step)) for step in (1, 2))
    async with connect(proxy.port) as client:
        exchange = await stream(client, origin)
        response = await client.response()
        await exchange.send(first)
        assert await response.receive(len(first)) == first
        written_anew(guard, "rules: [{when: {method: notifications/progress}, do: block}]")
        await logged(proxy.process, "loaded anew: 1 rules")
        last = wire.sse(wire.result(1))
        await exchange.send(second + last)
        await exchange.end()
        assert await response.rest() == last


def test_a_file_that_cannot_be_used_ends_mitmproxy_at_its_start(tmp_path: Path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("rules: [{when: {}}]")
    listen = ["--listen-host", "127.0.0.1", "-p", "0"]
    options = ["--set", f"shadowcat_rules={broken}", "--set", f"confdir={tmp_path}"]
    ended = subprocess.run(
        [PROGRAMS / "mitmdump", *listen, "-s", SHADOWCAT, *options],
        capture_output=True,
        text=True,
        timeout=READY_WITHIN_S,
    )
    assert ended.returncode == 1
    assert "broken.yaml:1: rules[0]: the field 'do' is missing" in ended.stdout + ended.stderr
