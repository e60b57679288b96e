"""What hostile partners send must not raise where nobody catches, nor cost more than its size."""

import gzip
import time
import tracemalloc
from collections.abc import Callable, Iterable

import pytest
import zstandard

from shadowcat_core.content_coding import decoded_body, decoder_for
from shadowcat_core.dedup import DedupWindow
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.framing import SseFraming
from shadowcat_core.limits import MiB
from shadowcat_core.mcp import Direction, Transport, is_event_stream, media_type, recognise_request
from shadowcat_core.messages import MessageContext
from shadowcat_core.sse import SseParser
from shadowcat_core.stream import StreamTap
from shadowcat_core.summary import exchange_failed, summary

CONTEXT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP)
HEADERS = {"Content-Type": "application/json", "MCP-Protocol-Version": "2025-11-25"}
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}'
DEEP = b'{"a":' * 1_000 + b"1" + b"}" * 1_000


@pytest.mark.parametrize(
    "content_type",
    [
        "text/event-stream; a*" + "9" * 5_000 + "*=x",
        "text/event-stream; a*0=x; a*=y",
        "text/event-stream; a*=y; a*1=2",
        "text/event-stream; a*0*=utf-8''x; a*1=y; a*=zz''%ff",
        "text/event-stream; a*=u\0'x'y",
        "text/event-stream; a*=nobody'x'%80",
        "text/event-stream; a*=''%",
        'text/event-stream; a="',
        "text/event-stream; \udcff=\udcfe",
        "text/event-stream;" + ";" * 1_000,
    ],
)
def test_no_parameter_hides_a_media_type(content_type: str):
    assert media_type(content_type)[0] == "text/event-stream"
    assert is_event_stream(content_type)


def asked(body: bytes = CALL) -> tuple[ExchangeRegistry, Exchange]:
    registry = ExchangeRegistry(time.monotonic_ns)
    return registry, registry.open("flow", recognise_request("POST", HEADERS, body), body)


# Their ends are an answer's, so they are routed as answers to the call; what lies between does not parse.
UNREADABLE_ANSWERS = {
    "no JSON inside": b'{"jsonrpc":"2.0","id":1,"result":{oops}}',
    "an error, no JSON inside": b'{"jsonrpc":"2.0","id":1,"error":{oops}}',
    "a trailing comma": b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,}}',
    "NaN": b'{"jsonrpc":"2.0","id":1,"result":{"n":NaN}}',
    "a raw control character": b'{"jsonrpc":"2.0","id":1,"result":{"t":"\x07"}}',
    "a thousand levels": b'{"jsonrpc":"2.0","id":1,"result":' + DEEP + b"}",
    "two documents": b'{"jsonrpc":"2.0","id":1,"result":{}}{"jsonrpc":"2.0","id":1,"result":{}}',
    "input required, and no JSON": b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required" oops}}',
}


@pytest.mark.parametrize("name", UNREADABLE_ANSWERS)
def test_an_answer_that_cannot_be_read_is_summed_up_all_the_same(name: str):
    registry, exchange = asked()
    registry.see_body(exchange, UNREADABLE_ANSWERS[name])
    exchange.status, exchange.ended_ns = 200, registry.clock_ns()
    assert summary(exchange, registry.clock_ns()).startswith("tools/call echo →")
    assert exchange_failed(exchange) in (True, False)


def cpu_ns(work: Callable[[], object]) -> int:
    """The least of three measurements, in thread CPU time."""
    times = []
    for _ in range(3):
        started = time.thread_time_ns()
        work()
        times.append(time.thread_time_ns() - started)
    return min(times)


FRAMES = {
    "line ends": b"\n",
    "all line ends": b"\n\r\n\r",
    "comments": b":\n\n",
    "ids alone": b"id: 1\n\n",
    "events without data": b"event: x\n\n",
    "retries": b"retry: 1\n\n",
    "empty data": b"data\n\n",
    "small events": b"data: {}\n\n",
    "data in two lines": b"data: a\ndata: b\n\n",
    "data before an id": b"data: a\nid: b\n\n",
}


@pytest.mark.parametrize("name", FRAMES)
def test_framing_a_chunk_takes_time_in_proportion_to_its_size(name: str):
    def read(size: int) -> None:
        SseFraming(CONTEXT).read(FRAMES[name] * (size // len(FRAMES[name])), 0)

    small, large = cpu_ns(lambda: read(8_000)), cpu_ns(lambda: read(64_000))
    # Eight times the bytes: about eight times the work, or sixty-four times where it grows with the square.
    assert large < 24 * small


@pytest.mark.parametrize("unit", [b"data: x\n\n", b":\n\n"])
def test_a_coded_chunk_is_not_unpacked_and_framed_all_at_once(unit: bytes):
    coded = gzip.compress(unit * (1_000_000 // len(unit)))
    assert len(coded) < 20_000
    told: list[Exception] = []
    tap = StreamTap(SseFraming(CONTEXT), clock_ns=lambda: 0, on_failure=told.append, decoder=decoder_for("gzip"))
    tracemalloc.start()
    try:
        tap.watch(coded)
        tap.catch_up()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * MiB


def held_after(framing: SseFraming, chunks: Iterable[bytes]) -> int:
    """Bytes that the framing occupies when it has read all chunks."""
    tracemalloc.start()
    try:
        for chunk in chunks:
            framing.read(chunk, 0)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_an_unfinished_event_is_held_once():
    held = held_after(SseFraming(CONTEXT), (b"x" * 65_536 for _ in range(200)))
    assert held < 200 * 65_536 * 1.2


@pytest.mark.parametrize("resumed", [False, True])
def test_long_ids_are_not_held(resumed: bool):
    framing = SseFraming(CONTEXT, dedup=DedupWindow() if resumed else None)
    assert (
        held_after(framing, (b"id: %d" % number + b"i" * 200_000 + b"\ndata:\n\n" for number in range(200))) < 2 * MiB
    )


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_body_of_several_coded_parts_is_read_to_its_end(pack: Callable[[bytes], bytes]):
    coding = "gzip" if pack is gzip.compress else "zstd"
    body = pack(b"data: 1\n\n") + pack(b"data: 2\n\n")
    assert decoded_body(body, coding) == b"data: 1\n\ndata: 2\n\n"
    decoder = decoder_for(coding)
    assert b"".join(decoder.decode(body[at : at + 1]) for at in range(len(body))) == b"data: 1\n\ndata: 2\n\n"


def test_the_parser_gives_back_every_byte_of_a_byte_by_byte_drip_of_odd_bytes():
    stream = bytes(range(256)) * 4 + b"\xef\xbb\xbf\r\n\r" * 50
    parser = SseParser()
    frames = [frame.raw for at in range(len(stream)) for frame in parser.feed(stream[at : at + 1])]
    assert b"".join(frames) + parser.close() == stream
