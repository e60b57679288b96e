"""A person holds messages in a real mitmweb: released, edited, answered and dropped there and by commands."""

import asyncio
import contextlib
import json
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest

from shadowcat_core.sse import SseParser
from shadowcat_core.tape.reader import Tape
from shadowcat_core.tape.records import Open, Verdict
from tests.e2e import wire
from tests.e2e.judged import logged
from tests.e2e.origin import WITHIN_S, Origin
from tests.e2e.processes import environment
from tests.e2e.proxies import ROOT, Proxies, Proxy
from tests.e2e.raw_client import connect

MANUAL = (ROOT / "docs" / "holding.md").read_text()
STEPS = [wire.sse(wire.progress(step)) for step in range(1, 6)]
THIRD = json.dumps(wire.progress(3), indent=2)
RESULT = wire.sse(wire.result(1))


async def at_last[T](look: Callable[[], Awaitable[T | None]]) -> T:
    """What somebody sees who looks until there is something to see."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if seen := await look():
                return seen
            await asyncio.sleep(0.02)


class Person:
    """Somebody at mitmweb, through the requests its page makes."""

    def __init__(self, client: httpx.AsyncClient, tape: Path):
        self._client = client
        self._tapes = tape

    async def command(self, name: str, *arguments: str) -> Any:
        answer = await self._client.post(f"commands/shadowcat.{name}", json={"arguments": arguments})
        said = answer.raise_for_status().json()
        return said["value"] if "value" in said else said["error"]

    async def hold(self, words: str, **options: Any) -> None:
        settings = {"shadowcat_hold": words, "shadowcat_hold_timeout_s": 0, "shadowcat_hold_on_timeout": "release"}
        await self.sets(**settings | options)

    async def sets(self, **options: Any) -> None:
        (await self._client.put("options", json=options)).raise_for_status()

    async def sees_held(self, text: str) -> dict[str, Any]:
        """The flow that shows as intercepted, once its comment says what is held."""

        async def look() -> dict[str, Any] | None:
            flows = (await self._client.get("flows")).json()
            held = [flow for flow in flows if flow["intercepted"] and f"held: {text} (hold " in flow["comment"]]
            return held[0] if held else None

        return await at_last(look)

    async def latest(self) -> dict[str, Any]:
        """The flow at the end of the list."""
        return dict((await self._client.get("flows")).json()[-1])

    async def sees_nothing_held(self) -> None:
        async def look() -> bool:
            flows = (await self._client.get("flows")).json()
            shown = [flow for flow in flows if flow["intercepted"] or "held:" in flow["comment"]]
            return not shown and await self.command("held") == []

        await at_last(look)

    async def reads(self, flow: dict[str, Any], side: str) -> str:
        return (await self._client.get(f"flows/{flow['id']}/{side}/content.data")).raise_for_status().text

    async def writes(self, flow: dict[str, Any], side: str, text: str) -> None:
        (await self._client.put(f"flows/{flow['id']}", json={side: {"content": text}})).raise_for_status()

    async def presses(self, button: str, flow: dict[str, Any]) -> None:
        (await self._client.post(f"flows/{flow['id']}/{button}")).raise_for_status()

    async def number(self) -> str:
        """The number of the one message that is held."""
        (line,) = await self.command("held")
        return str(line.partition(" ")[0])

    async def verdicts(self, flow: dict[str, Any], count: int) -> list[tuple[str, str]]:
        """What the tape says was done to a flow's messages, once it says so much; holds without their numbers."""

        async def look() -> list[tuple[str, str]] | None:
            (path,) = self._tapes.iterdir()
            records = [*Tape.open(path).records()]
            its = [record.exchange for record in records if isinstance(record, Open) and record.flow == flow["id"]]
            done = [record for record in records if isinstance(record, Verdict) and record.exchange in its]
            said = [(record.action, record.reason.rstrip("0123456789")) for record in done]
            return said if len(said) >= count else None

        return await at_last(look)


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tapes")


@pytest.fixture
def proxy(proxies: Proxies, origin: Origin, tapes: Path) -> Proxy:
    return proxies.web(f"reverse:{origin.url}", shadowcat_tape=str(tapes), shadowcat_live_ms="20")


@pytest.fixture
async def person(proxy: Proxy, tapes: Path) -> AsyncIterator[Person]:
    """Somebody at mitmweb, who holds nothing in the end."""
    assert proxy.web_url
    base, _, query = proxy.web_url.partition("?")
    async with httpx.AsyncClient(base_url=base, timeout=WITHIN_S, trust_env=False) as client:

        async def come_in() -> list[str]:
            with contextlib.suppress(httpx.ConnectError):  # the proxy listens before its page does
                await client.get("")
                await client.get(f"?{query}")
            return [value for name, value in client.cookies.items() if name.endswith("_xsrf")]

        (client.headers["X-XSRFToken"],) = await at_last(come_in)  # from the form that asks for the token
        somebody = Person(client, tapes)
        yield somebody
        await somebody.hold("")
        await somebody.command("release", "all")


async def test_the_third_of_five_events_is_edited_on_mitmwebs_page_and_arrives_in_its_order(
    origin: Origin, proxy: Proxy, person: Person
):
    async with connect(proxy.port) as client:
        await person.hold("method:notifications/progress")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        for step in STEPS[:2]:
            await exchange.send(step)
            await person.presses("resume", await person.sees_held("notifications/progress"))
            assert await response.receive(len(step)) == step
        await exchange.send(b"".join(STEPS[2:]) + RESULT)
        await exchange.end()
        flow = await person.sees_held("notifications/progress")
        assert flow["marked"] == "✋"
        shown = await person.reads(flow, "response")
        assert shown == THIRD
        await person.hold("")
        await person.writes(flow, "response", shown.replace('"progress": 3', '"progress": 3, "message": "drei → é"'))
        await person.presses("resume", flow)
        frames = SseParser().feed(await response.rest())
        messages = [json.loads(frame.data) for frame in frames]
        assert [message.get("params", {}).get("progress") for message in messages] == [3, 4, 5, None]
        assert messages[0]["params"]["message"] == "drei → é"
        assert b"".join(frame.raw for frame in frames[1:]) == b"".join(STEPS[3:]) + RESULT
        await person.sees_nothing_held()
        shown = await person.reads(flow, "response")
        assert [word in shown for word in ('"progress":1', "drei", '"progress":5')] == [True] * 3
        assert await person.verdicts(flow, 6) == [
            ("pause", "hold "),
            ("release", "released"),
            ("pause", "hold "),
            ("release", "released"),
            ("pause", "hold "),
            ("modify", "edited by hand"),
        ]


async def test_a_held_request_is_edited_on_mitmwebs_page_and_its_headers_follow(
    origin: Origin, proxy: Proxy, person: Person
):
    async with connect(proxy.port) as client:
        await person.hold("method:tools/call kind:request")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        flow = await person.sees_held("tools/call echo")
        shown = await person.reads(flow, "request")
        assert shown == json.dumps(json.loads(wire.CALL), indent=2)
        await person.writes(flow, "request", shown.replace('"echo"', '"shout"'))
        await person.presses("resume", flow)
        exchange = await origin.exchange()
        expected = json.loads(wire.CALL.replace(b'"echo"', b'"shout"'))
        assert exchange.request.body == json.dumps(expected, separators=(",", ":")).encode()
        assert exchange.request.header("mcp-name") == "shout"
        await exchange.answer(json.dumps(wire.result(1)).encode())
        assert json.loads(await (await client.response()).rest()) == wire.result(1)


async def test_an_edit_that_cannot_be_sent_is_refused_and_can_be_mended(origin: Origin, proxy: Proxy, person: Person):
    async with connect(proxy.port) as client:
        await person.hold("method:tools/call kind:request")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        flow = await person.sees_held("tools/call echo")
        await person.writes(flow, "request", "{")
        assert "JSON" in await person.command("release", await person.number())
        await person.presses("resume", flow)
        await person.writes(await person.sees_held("tools/call echo"), "request", wire.CALL.decode())
        assert await person.command("release", "all") == "released 1"
        assert json.loads((await origin.exchange()).request.body) == json.loads(wire.CALL)


@pytest.mark.parametrize(
    ("command", "arguments", "answer", "action"),
    [
        ("answer", ['{"content":[]}'], {"result": {"resultType": "complete", "content": []}}, "mock"),
        ("answer", ['{"error":{"code":5,"message":"no"}}'], {"error": {"code": 5, "message": "no"}}, "mock"),
        ("drop", [], {"error": {"code": -31010, "message": "dropped by hand"}}, "block"),
    ],
)
async def test_a_held_request_is_answered_and_its_server_never_sees_it(
    origin: Origin, proxy: Proxy, person: Person, command, arguments, answer, action
):
    async with connect(proxy.port) as client:
        await person.hold("method:tools/call kind:request")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        flow = await person.sees_held("tools/call echo")
        await person.command(command, await person.number(), *arguments)
        response = await client.response()
        assert json.loads(await response.rest()) == {"jsonrpc": "2.0", "id": 1} | answer
        await person.sees_nothing_held()
        assert not origin.requests
        assert [done for done, _ in await person.verdicts(flow, 2)] == ["pause", action]


async def test_a_dropped_notification_does_not_arrive_and_what_follows_does(
    origin: Origin, proxy: Proxy, person: Person
):
    async with connect(proxy.port) as client:
        await person.hold("method:notifications/progress")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(STEPS[0] + RESULT)
        await exchange.end()
        await person.sees_held("notifications/progress")
        number = await person.number()
        assert await person.command("drop", number) == f"dropped: notifications/progress (hold {number})"
        assert await response.rest() == RESULT
        await person.sees_nothing_held()


async def test_a_held_answer_is_edited_on_mitmwebs_page(origin: Origin, proxy: Proxy, person: Person):
    async with connect(proxy.port) as client:
        await person.hold("method:tools/call kind:response")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        body = json.dumps(wire.result(1, a=1)).encode()
        await (await origin.exchange()).answer(body)
        flow = await person.sees_held("answer to tools/call echo")
        assert json.loads(await person.reads(flow, "response")) == json.loads(body)
        await person.writes(flow, "response", json.dumps(wire.result(1, a="größer"), ensure_ascii=False))
        await person.presses("resume", flow)
        assert json.loads(await (await client.response()).rest()) == wire.result(1, a="größer")


async def test_nobody_decides_and_the_time_does(origin: Origin, proxy: Proxy, person: Person):
    async with connect(proxy.port) as client:
        await person.hold("tools/call kind:request", shadowcat_hold_timeout_s=1)
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        assert (await origin.exchange()).request.body == wire.CALL
        assert await person.verdicts(await person.latest(), 2) == [
            ("pause", "hold "),
            ("release", "nobody decided within 1 s"),
        ]
        await person.sees_nothing_held()


@pytest.mark.parametrize("words", ["kind:request", "method:notifications/progress"])
async def test_when_the_client_leaves_nothing_is_held_any_more(origin: Origin, proxy: Proxy, person: Person, words):
    async with connect(proxy.port) as client:
        await person.hold(words)
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        if words == "kind:request":
            await person.sees_held("tools/call echo")
            client.leave()
        else:
            exchange = await origin.exchange()
            await exchange.head()
            await client.response()
            await exchange.send(STEPS[0])
            await person.sees_held("notifications/progress")
            client.leave()
            await exchange.wait_peer_gone()
        await person.sees_nothing_held()
        assert len(origin.requests) == (words != "kind:request")


async def test_when_its_flow_is_killed_a_request_is_held_no_more_and_its_server_never_sees_it(
    origin: Origin, proxy: Proxy, person: Person
):
    async with connect(proxy.port) as client:
        await person.hold("kind:request")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await person.presses("kill", await person.sees_held("tools/call echo"))
        with pytest.raises(h11.RemoteProtocolError):
            await client.response()
        await person.sees_nothing_held()
        assert not origin.requests


async def test_when_its_flow_is_killed_the_stream_of_a_held_event_breaks_off(
    origin: Origin, proxy: Proxy, person: Person
):
    async with connect(proxy.port) as client:
        await person.hold("method:notifications/progress")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        exchange = await origin.exchange()
        await exchange.head()
        response = await client.response()
        await exchange.send(STEPS[0] + RESULT)
        await exchange.end()
        await person.presses("kill", await person.sees_held("notifications/progress"))
        with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
            await response.rest()
        assert response.arrivals == []
        await person.sees_nothing_held()


async def test_what_a_rule_pauses_waits_for_a_person_too(origin: Origin, proxy: Proxy, person: Person, tmp_path: Path):
    rules = tmp_path / "ask.yaml"
    rules.write_text("rules: [{when: {method: tools/call}, do: {pause: {timeout_s: 600, reason: ask}}}]")
    await person.sets(shadowcat_rules=[str(rules)])
    async with connect(proxy.port) as client:
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        flow = await person.sees_held("tools/call echo")
        await person.command("release", await person.number())
        exchange = await origin.exchange()
        assert exchange.request.body == wire.CALL
        await exchange.answer(json.dumps(wire.result(1)).encode())
        assert (await client.response()).status == 200
    assert [action for action, _ in await person.verdicts(flow, 2)] == ["pause", "release"]
    await person.sets(shadowcat_rules=[])


async def test_the_manuals_line_for_other_programs_releases_a_message(origin: Origin, proxy: Proxy, person: Person):
    (line,) = re.findall(r"^curl .*$", MANUAL, flags=re.MULTILINE)
    base, _, query = str(proxy.web_url).partition("/?token=")
    line = line.replace("http://127.0.0.1:8081", base).replace("PASSWORD", query)

    async def release(number: str) -> Any:
        argv = shlex.split(line.replace('"3"', f'"{number}"'))
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, env=environment())
        said, _ = await process.communicate()
        return json.loads(said)

    async with connect(proxy.port) as client:
        await person.hold("kind:request")
        await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
        await person.sees_held("tools/call echo")
        (held,) = json.loads(await person.command("held.json"))
        assert json.loads(held["message"]) == json.loads(wire.CALL)
        number = held["number"]
        assert await release(number + 1) == {"error": f"there is no hold {number + 1}"}
        assert await release(number) == {"value": f"released: tools/call echo (hold {number})"}
        assert (await origin.exchange()).request.body == wire.CALL


async def test_mitmdump_says_that_nobody_can_decide_without_a_time_limit(proxies: Proxies, origin: Origin):
    limited = proxies.shadowcat(f"reverse:{origin.url}", shadowcat_hold="delete", shadowcat_hold_timeout_s="5")
    unlimited = proxies.shadowcat(f"reverse:{origin.url}", shadowcat_hold="delete")
    warning = "shadowcat_hold_timeout_s limits how long they wait"
    assert [warning in await logged(one, "listening at") for one in (limited, unlimited)] == [False, True]
