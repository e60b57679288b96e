"""What it costs to cut an event stream into frames, beside the decoders of httpx-sse, of the MCP SDK, and naive code.

    python -m benches.bench_sse

CPU time of the thread for each event, medians of interleaved rounds. The work is not the same: the peers make a
decoded object for every event, `framing` makes offsets and decodes on demand. `decoded` is framing and then asking
every frame for its type, data as text and id, which is what the peers do.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator

from httpx2._sse import _SSEParser
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from rich.console import Console
from rich.table import Table

from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.sse import SseParser

MAX_EVENTS = 2_000
MAX_BYTES = 4_000_000
READ_BYTES = 65_536
ROUNDS = 9
LLM_EVENTS = ("content_block_delta",) * 14 + ("content_block_start", "content_block_stop")


def progress(number: int, size: int) -> bytes:
    """A notification of about `size` bytes, keys in the order of the TypeScript SDK."""
    params = {"progressToken": 12, "progress": number, "message": "x" * size}
    return json.dumps({"method": "notifications/progress", "params": params, "jsonrpc": "2.0"}).encode()


def lf(number: int, size: int) -> bytes:
    """As the TypeScript SDK writes."""
    return b"event: message\nid: %08d\ndata: %b\n\n" % (number, progress(number, size))


def crlf(number: int, size: int) -> bytes:
    """As the Python SDK writes."""
    return b"id: %08d\r\nevent: message\r\ndata: %b\r\n\r\n" % (number, progress(number, size))


def llm(number: int, size: int) -> bytes:
    """As an LLM API streams: no id, several types."""
    kind = LLM_EVENTS[number % len(LLM_EVENTS)]
    data = {"type": kind, "index": 0, "delta": {"type": "text_delta", "text": "x" * size}}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(data).encode())


WORKLOADS: dict[str, tuple[Callable[[int, int], bytes], int]] = {
    "mcp200": (lf, 112),
    "crlf": (crlf, 106),
    "1k": (lf, 866),
    "20k": (lf, 19_866),
    "llm": (llm, 20),
}
CHUNKINGS = ("1ev", "16ev", "64k")


def chunks_of(events: list[bytes], chunking: str) -> list[bytes]:
    if chunking == "64k":
        stream = b"".join(events)
        return [stream[at : at + READ_BYTES] for at in range(0, len(stream), READ_BYTES)]
    count = int(chunking.removesuffix("ev"))
    return [b"".join(events[at : at + count]) for at in range(0, len(events), count)]


def framing(chunks: list[bytes]) -> int:
    parser = SseParser()
    return sum(len(parser.feed(chunk).records) for chunk in chunks)


def decoded(chunks: list[bytes]) -> int:
    parser = SseParser()
    count = 0
    for chunk in chunks:
        for frame in parser.feed(chunk):
            count += bool((frame.event, frame.data.decode(), frame.last_event_id))
    return count


def httpx_sse(chunks: list[bytes]) -> int:
    lines, events = SSELineDecoder(), SSEDecoder()
    return sum(events.decode(line) is not None for chunk in chunks for line in lines.decode(chunk.decode()))


def mcp_sdk(chunks: list[bytes]) -> int:
    parser = _SSEParser(max_event_size=1 << 24)
    return sum(1 for chunk in chunks for _ in parser.decode(chunk.decode()))


def naive(chunks: list[bytes]) -> int:
    """What one writes in ten minutes: no lone CR, no byte order mark, no limit."""
    return sum(1 for _ in naive_events(chunks))


def naive_events(chunks: list[bytes]) -> Iterator[dict[str, str]]:
    rest = ""
    for chunk in chunks:
        *blocks, rest = (rest + chunk.decode().replace("\r\n", "\n")).split("\n\n")
        for block in blocks:
            event: dict[str, str] = {}
            for line in block.split("\n"):
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                event[name] = f"{event[name]}\n{value}" if name in event else value
            yield event


CONTENDERS: dict[str, Callable[[list[bytes]], int]] = {
    "framing": framing,
    "decoded": decoded,
    "httpx-sse": httpx_sse,
    "mcp (httpx2)": mcp_sdk,
    "naive": naive,
}


def measure(rounds: int, share: int) -> dict[tuple[str, str, str], float]:
    """CPU ns an event for each (workload, chunking, contender). `share` divides the number of events."""
    seen: dict[tuple[str, str, str], list[float]] = {}
    streams = {}
    for workload, (make, size) in WORKLOADS.items():
        count = min(MAX_EVENTS, MAX_BYTES // len(make(0, size))) // share // 16 * 16
        events = [make(number, size) for number in range(count)]
        streams.update({(workload, chunking): (chunks_of(events, chunking), count) for chunking in CHUNKINGS})
    for _ in range(rounds):
        for (workload, chunking), (chunks, count) in streams.items():
            for name, contender in CONTENDERS.items():
                started = time.thread_time_ns()
                found = contender(chunks)
                spent = time.thread_time_ns() - started
                assert found == count, f"{name} found {found} of {count} events"
                seen.setdefault((workload, chunking, name), []).append(spent / count)
    return {key: statistics.median(values) for key, values in seen.items()}


def print_table(console: Console, medians: dict[tuple[str, str, str], float]) -> None:
    table = Table("CPU ns an event", *CONTENDERS, "httpx-sse / framing", title="event streams", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for workload, (make, size) in WORKLOADS.items():
        for chunking in CHUNKINGS:
            row = [medians[workload, chunking, name] for name in CONTENDERS]
            factor = medians[workload, chunking, "httpx-sse"] / medians[workload, chunking, "framing"]
            label = f"{workload} ({len(make(0, size)):,} B), {chunking}"
            table.add_row(label, *(f"{value:,.0f}" for value in row), f"{factor:.1f} ×")
    console.print(table)


def main(quick: bool = False) -> list[Figure]:
    console = Console()
    medians = measure(3 if quick else ROUNDS, 4 if quick else 1)
    console.print(machine("httpx-sse", "httpx2", "mcp"))
    print_table(console, medians)

    def factor(peer: str, ours: str, chunking: str) -> float:
        return medians["mcp200", chunking, peer] / medians["mcp200", chunking, ours]

    figures = [
        Figure("framing vs httpx-sse at 16/chunk", factor("httpx-sse", "framing", "16ev"), "×", 3.0, "higher"),
        Figure("framing vs httpx-sse at 1/chunk", factor("httpx-sse", "framing", "1ev"), "×", better="higher"),
        Figure(
            "framing vs the MCP SDK's decoder at 16/chunk",
            factor("mcp (httpx2)", "framing", "16ev"),
            "×",
            better="higher",
        ),
        Figure("framing, one event a chunk", medians["mcp200", "1ev", "framing"] / 1_000, "µs"),
        Figure("framing, 16 events a chunk", medians["mcp200", "16ev", "framing"] / 1_000, "µs"),
    ]
    print_figures(console, "event streams", figures)
    return figures


if __name__ == "__main__":
    main()
