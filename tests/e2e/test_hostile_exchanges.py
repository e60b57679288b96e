"""Hostile exchanges through a recording, showing proxy: the client sees what it sees without us, and all else goes on.

Each case is played through mitmdump with the one-line streaming script, then through mitmdump with our addon, with an
event stream beside it and a normal call after it.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from shadowcat_core.cli import main
from shadowcat_core.mcp import Direction
from shadowcat_core.tape.exchange import RecordedExchange
from shadowcat_core.tape.meaning import read_messages
from shadowcat_core.tape.reader import Tape
from tests.e2e import hostile_bodies, hostile_http, hostile_streams, wire
from tests.e2e.hostile import ANSWER, EVENT, Case, Seen, bystander, play
from tests.e2e.origin import WITHIN_S, Origin
from tests.e2e.proxies import STREAM_ALL, Proxies, Proxy
from tests.e2e.raw_client import connect

CASES = [*hostile_streams.CASES, *hostile_bodies.CASES, *hostile_http.CASES]
CONTROL = Path(__file__).parent / "hostile_control_script.py"

# What mitmproxy, asyncio and Python say when something was not foreseen.
CRASH = re.compile(r"Traceback|Addon error|has crashed|Exception|[Uu]nhandled|Task .* never")
OURS = re.compile(r"\] shadowcat: (?!recording on )(.*)")
# No event of the stream beside may take this long: far more than a busy machine needs, far less than a client waits.
STARVED_S = 15.0


class TestBed:
    """Our proxy and the one to compare with, and a tape for each case."""

    __test__ = False

    def __init__(self, origin: Origin, proxies: Proxies, tapes: Path):
        self.origin = origin
        self.tapes = tapes
        self.stock = proxies.stock(f"reverse:{origin.url}", STREAM_ALL, connection_strategy="lazy")
        self.ours: Proxy = proxies.shadowcat(
            f"reverse:{origin.url}", CONTROL, shadowcat_live_ms="10", shadowcat_tape_queue_mb="100"
        )
        self.unharmed = False
        """Set by a test that has come to its end."""
        self._logs_read = [len(proxy.process.log) for proxy in (self.ours, self.stock)]

    async def record(self, directory: Path | str) -> None:
        async with connect(self.ours.port) as client:
            response = await client.request("GET", f"/tape?{quote(str(directory))}")
            assert response.status == 204

    async def comment(self) -> bytes:
        """What the proxy's user interface says of the latest normal call."""
        async with connect(self.ours.port) as client:
            return await (await client.request("GET", "/comment")).rest()

    def said_by_ours(self) -> str:
        """What our proxy has said since the test began."""
        return self.ours.process.log[self._logs_read[0] :]

    def said_by_stock(self) -> str:
        """What the other one has said."""
        return self.stock.process.log[self._logs_read[1] :]


@pytest.fixture
async def bed(origin: Origin, proxies: Proxies, tmp_path: Path) -> AsyncIterator[TestBed]:
    bed = TestBed(origin, proxies, tmp_path)
    await bed.record(tmp_path)
    yield bed
    if not bed.unharmed:  # one that a case has broken would fail all that follow
        bed.ours.process.stop()
        proxies._started = {wish: proxy for wish, proxy in proxies._started.items() if proxy is not bed.ours}


async def a_normal_call(bed: TestBed) -> None:
    async with connect(bed.ours.port) as client:
        await client.send("POST", "/normal", wire.CALL_HEADERS, wire.CALL)
        exchange = await bed.origin.exchange()
        await exchange.head()
        response = await client.response()
        for event in (EVENT, ANSWER):
            await exchange.send(event)
            assert await response.receive(len(event)) == event
        await exchange.end()
        assert await response.rest() == b""
    # What is shown is shown in order, so all that the case left to show has been shown by then.
    async with asyncio.timeout(WITHIN_S):
        while b"ok" not in await bed.comment():
            pass  # each question takes its time


def is_mitmproxys_error(seen: Seen) -> bool:
    """True when the server gave nothing that could be passed on, and mitmproxy answered with its HTML page."""
    return len(seen.final) == 1 and seen.final[0].status == 502 and b"<html>" in seen.final[0].body


def is_our_error(seen: Seen, ids: tuple[object, ...]) -> bool:
    (answer,) = seen.answers
    # 200 for clients of the legacy era: they give a session up at an error's status.
    if not answer.whole or answer.status not in (200, 502) or (b"content-type", b"application/json") not in answer.head:
        return False
    body = json.loads(answer.body)
    errors = body if isinstance(body, list) else [body]
    codes = [error["error"]["code"] for error in errors]
    return [error["id"] for error in errors] == list(ids) and all(not -32768 <= code <= -32000 for code in codes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_hostile_exchange_harms_nobody(bed: TestBed, case: Case):
    without_us = await play(case, bed.origin, bed.stock.port)
    async with bystander(bed.origin, bed.ours.port) as beside:
        seen = await play(case, bed.origin, bed.ours.port)
    await a_normal_call(bed)
    refused = is_mitmproxys_error(without_us)
    answered_by_us = bool(case.ids) and (case.held or refused)
    if answered_by_us:
        assert is_our_error(seen, case.ids), seen
    else:
        assert seen == without_us
    assert beside.beats >= 2
    assert beside.longest_s < STARVED_S
    said = bed.said_by_ours()
    assert bool(CRASH.search(said)) <= bool(CRASH.search(bed.said_by_stock())), said
    lines = OURS.findall(said)
    expected = [case.said] if case.said else ["MCP server 127.0.0.1"] if answered_by_us else []
    assert len(lines) == len(expected), lines
    assert all(words in line and line.isprintable() for words, line in zip(expected, lines, strict=True)), lines
    await bed.record("")
    the_tape_holds(bed, case, seen, failed=refused or case.held)
    bed.unharmed = True


def the_tape_holds(bed: TestBed, case: Case, seen: Seen, *, failed: bool) -> None:
    (path,) = bed.tapes.glob("*.tape.jsonl")
    result = CliRunner().invoke(main, ["tape", "verify", str(path)])
    assert result.exit_code == 0, result.output
    tape = Tape.open(path, strict=True)
    recorded = [each for each in tape.exchanges() if each.opened and case.target in each.opened.url]
    numbers = {each.number for each in recorded}
    messages = [each for each in read_messages(tape.records()) if each.exchange_id in numbers]
    if case.messages is not None:
        assert sum(each.direction is Direction.SERVER_TO_CLIENT for each in messages) == case.messages
    assert b"xyzzy-secret" not in path.read_bytes()
    if not case.taped:
        assert recorded == []
        return
    assert [each.request_body for each in recorded] == [case.asked] * case.responses
    for exchange, answer in zip(recorded, seen.final, strict=bool(seen.final) and case.leaves is None):
        if failed and not case.ids:
            assert exchange.response_body == b""  # the page is mitmproxy's own, and not from the wire
        elif case.leaves is not None:
            assert exchange.response_body.startswith(answer.body)
        else:
            assert exchange.response_body == answer.body
            assert_end(exchange, eof=answer.whole and not failed)


def assert_end(exchange: RecordedExchange, *, eof: bool) -> None:
    assert exchange.end is not None
    assert (exchange.end.how == "eof") == eof, exchange.end
