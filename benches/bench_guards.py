"""What each guard costs a result that gives it nothing to do, and one that does.

    python -m benches.bench_guards

CPU time of the thread, medians of interleaved rounds; one event a chunk, framing and emission included. "None" is an
empty pipeline: what is above it is the guard's.

- "small": the result of a tool with a short text, 270 bytes. "Rows": a table as JSON, 10 KB, with all that makes a
  guard look closer than at bytes: escapes (`\\u00e9`), "user", "tools".
- "concerned": the same small result with a secret, an escape sequence, or tools to compare, as the guard wants.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count

from rich.console import Console
from rich.table import Table

from benches.bench_messages import medians
from benches.figures import Figure
from benches.report import machine
from shadowcat_core.interceptors import Interceptor, Pipeline, on_asyncio
from shadowcat_core.interceptors.guards import (
    CapResults,
    Drift,
    HideTools,
    Pins,
    RedactMessages,
    Redactor,
    ScanAction,
    ScanTexts,
    ToolPolicy,
    WatchToolLists,
)
from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.sse import SseParser

EVENTS = 200
LIMIT_BYTES = 1_000
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.QUJDREVGR0hJSktM"
TOOL: Json = {
    "name": "delete_all",
    "description": "Deletes everything there is, without asking.",
    "inputSchema": {"type": "object", "properties": {"really": {"type": "boolean"}}},
}

TO_SERVER = MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP, server="http://127.0.0.1/mcp")


def answers_to(method: str) -> MessageContext:
    request = Message(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}).encode(), TO_SERVER)
    return replace(TO_SERVER, direction=Direction.SERVER_TO_CLIENT, request_of=lambda _: request)


def event(result: Json) -> bytes:
    return b"data: " + json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode() + b"\n\n"


def text(content: str) -> Json:
    return {"content": [{"type": "text", "text": content}], "isError": False}


SMALL = text("a row of what the tool has found, and a little more of it; " * 3)
ROWS = text(json.dumps([{"user": f"é{n}", "tools": n, "text": "words and more words"} for n in range(170)]))
WATCHED = Drift(Pins())

# A guard, and what makes it act on a small result: its method and the result.
GUARDS: dict[str, tuple[Interceptor, str, Json]] = {
    "tools hidden": (HideTools(ToolPolicy(deny=["delete_*"])), "tools/list", {"tools": [TOOL]}),
    "pins compared": (WatchToolLists(WATCHED), "tools/list", {"tools": [TOOL]}),
    "scan, strip": (ScanTexts(ScanAction.STRIP), "tools/call", text("\x1b[31mred\x1b[0m and the rest of the line" * 3)),
    "redaction": (RedactMessages(Redactor()), "tools/call", text(f"the token is {JWT}, and the rest of the line")),
    "cap": (CapResults(LIMIT_BYTES), "tools/call", text("x" * LIMIT_BYTES)),
}


def work(pipeline: Pipeline, chunk: bytes, context: MessageContext) -> Callable[[], object]:
    parser, ids = SseParser(), count(1)

    def judge_all() -> None:
        for at_ns in ids:
            batch = MessageBatch(parser.feed(chunk), context, at_ns)
            pipeline.run(batch)
            batch.emit()
            if at_ns % EVENTS == 0:
                return

    return judge_all


def pipeline_of(*guards: Interceptor) -> Pipeline:
    pipeline = Pipeline(on_asyncio(lambda: 0))
    for guard in guards:
        pipeline.add(guard)
    return pipeline


def main(quick: bool = False) -> list[Figure]:
    """Print the table and give the figures."""
    console = Console(width=130)
    console.print(machine("orjson"))
    rounds = 7 if quick else 21
    calls = answers_to("tools/call")
    uncapped = CapResults(1_000_000)
    everybody = pipeline_of(*(guard for name, (guard, *_) in GUARDS.items() if name != "cap"), uncapped)
    columns: dict[str, dict[str, Callable[[], object]]] = {}
    for title, result in (("small", SMALL), ("rows", ROWS)):
        at_work = partial(work, chunk=event(result), context=calls)
        columns[title] = {"none": at_work(pipeline_of())}
        columns[title] |= {
            name: at_work(pipeline_of(uncapped if name == "cap" else guard)) for name, (guard, *_) in GUARDS.items()
        }
        columns[title]["all five"] = at_work(everybody)
    columns["concerned"] = {
        name: work(pipeline_of(guard), event(result), answers_to(method))
        for name, (guard, method, result) in GUARDS.items()
    }
    taken = {title: medians(works, EVENTS, rounds) for title, works in columns.items()}
    table = Table("guard", *columns, title="µs of CPU an event, one a chunk", title_justify="left", title_style="")
    for name in columns["small"]:
        table.add_row(name, *(f"{taken[title][name] / 1e3:.2f}" if name in taken[title] else "" for title in columns))
    console.print(table)
    small = taken["small"]
    return [
        Figure(f"guard on a small result: {name}, above none", (small[name] - small["none"]) / 1e3, "µs")
        for name in small
        if name != "none"
    ]


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
