"""However much a partner sends, what the proxy holds of it stays small, and the tape has all of it."""

import gzip
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import h11
import pytest

from shadowcat_core.limits import MAX_DECODED_CHUNK_BYTES, MAX_EVENT_BYTES, TAPE_QUEUE_BYTES, MiB
from tests.e2e import wire
from tests.e2e.hostile import EVENT, STANDALONE
from tests.e2e.memory import PeakMemory
from tests.e2e.origin import EVENT_STREAM, JSON, Exchange, Framing, Origin
from tests.e2e.proxies import PROGRAMS, Proxies, Proxy
from tests.e2e.raw_client import Connection, connect

PIECE_BYTES = 64 * 1024
# mitmproxy's own buffers, what is waiting for the tape (10 MB, shared by all streams) and the allocator's slack.
# Everything goes through the queue of the tape, which fills up when the disk or the processor is slow.
SLACK_BYTES = 10 * MiB + TAPE_QUEUE_BYTES
LEGACY = wire.headers("tools/call", era="legacy", session="s-1")


def repeated(unit: bytes, total: int) -> Callable[[int], bytes]:
    """Pieces of a body that repeats `unit` for about `total` bytes; b"" behind its end."""
    piece = unit * max(1, PIECE_BYTES // len(unit))
    count = total // len(piece)
    return lambda number: piece if number < count else b""


def enclosed(opening: bytes, core: bytes, closing: bytes, total: int) -> Callable[[int], bytes]:
    """Pieces of one long document."""
    inner = repeated(core, total)

    def piece(number: int) -> bytes:
        if number == 0:
            return opening
        return inner(number - 1) or (closing if inner(number - 2) else b"")

    return piece


def numbered(event: Callable[[int], bytes], count: int) -> Callable[[int], bytes]:
    """Pieces that are events of their own."""
    return lambda number: event(number) if number < count else b""


def identified(number: int) -> bytes:
    return b"id: %d" % number + b"i" * 200_000 + b"\ndata: {}\n\n"


def question(number: int) -> bytes:
    padding = b"p" * 500_000
    return b'data: {"jsonrpc":"2.0","id":%d,"method":"sampling/createMessage","params":{"x":"%b"}}\n\n' % (
        number,
        padding,
    )


@dataclass(frozen=True)
class Flood:
    """A large response: its pieces, how it is framed, and what may be held of it beside the slack."""

    pieces: Callable[[int], bytes]
    headers: dict[str, str]
    framing: Framing = "chunked"
    held_bytes: int = 0
    said: str | None = None


AS_EVENTS = dict(EVENT_STREAM)
AS_JSON = dict(JSON)
BOMB = gzip.compress((b"data: " + b"x" * 1_000 + b"\n\n") * 100_000, 1)
FLOODS = {
    "100 MB of events": Flood(repeated(EVENT, 100_000_000), AS_EVENTS),
    "40 MB of answers to nobody": Flood(
        repeated(b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n', 40_000_000), AS_EVENTS
    ),
    # The parser holds an unfinished event up to the limit, and joins it once.
    "an event of 64 MB": Flood(
        enclosed(b"data: ", b"x" * 1_000, b"\n\n", 64_000_000), AS_EVENTS, held_bytes=2 * MAX_EVENT_BYTES, said="limit"
    ),
    "events of 15 MB": Flood(
        # The frame as it is gathered, joined and read.
        repeated(b"data: " + b"x" * 15_000_000 + b"\n\n", 60_000_000),
        AS_EVENTS,
        held_bytes=3 * MAX_EVENT_BYTES,
    ),
    "64 MB of JSON of unknown length": Flood(
        enclosed(b'{"jsonrpc":"2.0","id":1,"result":{"t":"', b"t" * 1_000, b'"}}', 64_000_000), AS_JSON
    ),
    "64 MB of JSON of known length": Flood(repeated(b" " * 1_000, 64_000_000), AS_JSON, framing=0),
    "a compressed stream that unpacks to 100 MB": Flood(
        numbered(lambda number: BOMB[number * 4_096 : (number + 1) * 4_096], len(BOMB) // 4_096 + 1),
        AS_EVENTS | {"content-encoding": "gzip"},
        held_bytes=MAX_DECODED_CHUNK_BYTES,
    ),
    "ids of 200 KB each": Flood(numbered(identified, 300), AS_EVENTS),
    "questions of 500 KB that nobody answers": Flood(numbered(question, 120), AS_EVENTS),
    "a thousand codings": Flood(
        repeated(EVENT, 200_000), AS_EVENTS | {"content-encoding": ", ".join(["gzip"] * 1_000)}, said="coding"
    ),
}


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tapes")


@pytest.fixture
async def proxy(proxies: Proxies, origin: Origin, tapes: Path) -> AsyncIterator[Proxy]:
    proxy = proxies.shadowcat(f"reverse:{origin.url}", shadowcat_tape=str(tapes))
    async with connect(proxy.port) as client:  # what the first exchange loads is no growth
        await exchange_flood(origin, client, Flood(repeated(EVENT, 1_000_000), AS_EVENTS))
    return proxy


async def exchange_flood(origin: Origin, client: Connection, flood: Flood) -> None:
    """Each piece is sent when the client holds the one before, so nothing piles up that the proxy cannot help."""
    await client.send("POST", "/mcp", wire.CALL_HEADERS, wire.CALL)
    exchange = await origin.exchange()
    framing = flood.framing
    if framing == 0:
        number = size = 0
        while piece := flood.pieces(number):
            size, number = size + len(piece), number + 1
        framing = size
    await exchange.head(flood.headers, framing=framing)
    response = await client.response()
    sent, got, number = sha256(), sha256(), 0
    while piece := flood.pieces(number):
        for at in range(0, len(piece), PIECE_BYTES):
            part = piece[at : at + PIECE_BYTES]
            sent.update(part)
            await exchange.send(part)
            got.update(await response.receive(len(part)))
            response.arrivals.clear()
        number += 1
    await exchange.end()
    got.update(await response.rest())
    assert got.digest() == sent.digest()


@pytest.mark.parametrize("name", FLOODS)
async def test_a_large_response_passes_and_is_not_held(origin: Origin, proxy: Proxy, name: str):
    flood = FLOODS[name]
    logged = len(proxy.process.log)
    memory = PeakMemory(proxy.process.pid)
    before = memory.reset()
    async with connect(proxy.port) as client:
        await exchange_flood(origin, client, flood)
    grown = memory.peak_bytes() - before
    assert grown < SLACK_BYTES + flood.held_bytes, f"{grown / MiB:.1f} MiB"
    said = re.findall(r"\] shadowcat: (.*)", proxy.process.log[logged:])
    assert [flood.said in line for line in said if flood.said] == [True] * bool(flood.said)
    assert "Traceback" not in proxy.process.log[logged:]


@pytest.mark.parametrize("status", [200, 202])
async def test_large_requests_that_are_never_answered_are_not_held(origin: Origin, proxy: Proxy, status: int):
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b"", {}, status=status)

    async def ask(count: int, size: int) -> None:
        async with origin.answering(answer), connect(proxy.port) as client:
            for number in range(count):
                body = wire.tool_call(message_id=f"{status} {size} {number}", era="legacy", text="t" * size)
                await (await client.request("POST", "/mcp", LEGACY, body)).rest()

    await ask(2, 900_000)
    before = proxy.process.resident_bytes()
    await ask(60, 1_000_000)
    grown = proxy.process.resident_bytes() - before
    assert grown < SLACK_BYTES, f"{grown / MiB:.1f} MiB"


async def test_what_streams_left_behind_is_nothing(origin: Origin, proxy: Proxy):
    async def broken(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(EVENT)
        await exchange.reset()

    async def streams(count: int) -> None:
        async with origin.answering(broken):
            for _ in range(count):
                async with connect(proxy.port) as client:
                    await client.send("GET", "/mcp", STANDALONE)
                    with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
                        await (await client.response()).rest()

    await streams(150)
    before = proxy.process.resident_bytes()
    await streams(150)
    grown = proxy.process.resident_bytes() - before
    assert grown < 1 * MiB


def test_the_tape_of_all_that_is_good_and_counts_what_it_lacks(proxies: Proxies, tapes: Path, proxy: Proxy):
    proxy.process.stop()
    (path,) = tapes.glob("*.tape.jsonl")
    verify = [PROGRAMS / "shadowcat", "tape", "verify", "--json", path]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    found = json.loads(verified.stdout)
    # A disk that cannot keep up is no fault of the tape's, as long as each loss is said: 3 stands for gaps.
    assert verified.returncode == (3 if found["gaps"] else 0)
    assert (found["damage_count"], found["cut_off"]) == (0, False)
    assert bool(found["lost_records"]) == bool(found["gaps"])
    assert bool(found["headless"]) <= bool(found["gaps"])
