"""What rules cost a message: none, 10, 100 and 1,000 of them, beside a matcher that asks one after the other.

    python -m benches.bench_rules

CPU time of the thread, medians of interleaved rounds. Every message is made and routed anew, as a proxy gets them, and
none is acted on, so what is measured is the looking. The baseline parses each message with `json`, walks the rules,
and compares globs with `fnmatch`, as a script of one's own would.

- "calls": the rules each name `tools/call` and a tool, and the messages call tools; one rule in all is about each.
- "progress": the same rules, and messages of a method that none of them names.
- "by glob": the rules name tools by globs; which of them fit a tool is found out when it is called the first time.
- "results": the rules are about results of calls, and look into them for a text.
"""

import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from benches.bench_messages import medians
from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.interceptors import Pipeline, on_asyncio
from shadowcat_core.interceptors.rules import RuleSet, parse_rules
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext

type Work = Callable[[], object]
type Rule = dict[str, object]

COUNTS = (0, 10, 100, 1_000)
MESSAGES = 500
TOOLS = 1_000
BUDGET_US = 3.0
"""What 1,000 rules may add to a message that none of them is about."""
FACTOR = 10

ASKED = Message(
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool-7"}}',
    MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP),
)
TO_SERVER = MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP)
TO_CLIENT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP, request_of=lambda _: ASKED)


def exact_rules(count: int) -> list[Rule]:
    return [
        {"when": {"method": "tools/call", "target": f"tool-{n}", "params": {"/arguments/n": -1}}, "do": "block"}
        for n in range(count)
    ]


def glob_rules(count: int) -> list[Rule]:
    return [{"when": {"method": "tools/call", "target": f"delete_{n}*"}, "do": "block"} for n in range(count)]


def result_rules(count: int) -> list[Rule]:
    return [
        {
            "when": {"method": "tools/call", "target": f"tool-{n}", "result": {"/content/0/text": {"contains": "no!"}}},
            "do": "block",
        }
        for n in range(count)
    ]


def call(n: int) -> bytes:
    arguments = {"n": n, "text": "x" * 150}
    params = {"name": f"tool-{n * 7 % TOOLS}", "arguments": arguments}
    return orjson.dumps({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params})


def progress(n: int) -> bytes:
    params = {"progressToken": 1, "progress": n, "message": "x" * 150}
    return orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def result(n: int) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": n, "result": {"content": [{"type": "text", "text": "x" * 150}]}})


def judged(messages: Sequence[bytes], context: MessageContext, rules: Sequence[Rule]) -> Work:
    """Each message through a pipeline that has these rules and nothing else."""
    pipeline = Pipeline(on_asyncio(time.perf_counter_ns))
    compiled(rules).install(pipeline, "rules")

    def run() -> int:
        sent = 0
        for raw in messages:
            batch = MessageBatch.of_body(raw, context)
            pipeline.run(batch)
            sent += len(batch.emit())
        return sent

    return run


def compiled(rules: Sequence[Rule]) -> RuleSet:
    return RuleSet(parse_rules(orjson.dumps({"rules": list(rules)}), Path("bench.json")))


def naively(messages: Sequence[bytes], rules: Sequence[Rule]) -> Work:
    """The baseline."""

    def holds(when: dict[str, object], method: object, name: object, payload: dict) -> bool:
        if method is None or not fnmatchcase(str(method), str(when["method"])):
            return False
        if name is None or not fnmatchcase(str(name), str(when["target"])):
            return False
        if "params" in when:
            return payload.get("params", {}).get("arguments", {}).get("n") == -1
        if "result" in when:
            return "no!" in payload["result"]["content"][0]["text"]
        return True

    def run() -> int:
        sent = 0
        for raw in messages:
            payload = json.loads(raw)
            asked = ASKED.payload if "result" in payload else payload
            method, name = asked.get("method"), asked.get("params", {}).get("name")
            if not any(holds(rule["when"], method, name, payload) for rule in rules):
                sent += len(raw)
        return sent

    return run


WORKLOADS = {
    "calls": (call, TO_SERVER, exact_rules),
    "progress": (progress, TO_CLIENT, exact_rules),
    "by glob": (call, TO_SERVER, glob_rules),
    "results": (result, TO_CLIENT, result_rules),
}


def costs(console: Console, rounds: int) -> list[Figure]:
    """Compare rules with the baseline, for all workloads."""
    table = Table("messages", title="µs a message; in brackets: the naive matcher", title_justify="left")
    for count in COUNTS:
        table.add_column(f"{count:,} rules", justify="right")
    figures = []
    for workload, (make, context, rules_of) in WORKLOADS.items():
        messages = [make(n) for n in range(MESSAGES)]
        works: dict[str, Work] = {}
        for count in COUNTS:
            rules = rules_of(count)
            works[f"rules {count}"] = judged(messages, context, rules)
            # A thousand rules take the naive way a second for the whole round.
            works[f"naive {count}"] = naively(messages[:: 10 if count > 100 else 1], rules)
        found = medians(works, MESSAGES, rounds)
        us = {name: ns / 1000 * (10 if name == "naive 1000" else 1) for name, ns in found.items()}
        table.add_row(workload, *(f"{us[f'rules {count}']:.2f} ({us[f'naive {count}']:.2f})" for count in COUNTS))
        added, factor = us["rules 1000"] - us["rules 0"], us["naive 1000"] / us["rules 1000"]
        figures += [
            Figure(f"added by 1,000 rules, {workload}", added, "µs", BUDGET_US if workload == "progress" else None),
            Figure(f"naive / rules at 1,000, {workload}", factor, "×", FACTOR, "higher"),
            *(Figure(f"{count:,} rules, {workload}", us[f"rules {count}"], "µs") for count in COUNTS),
        ]
    console.print(table)
    return figures


def loading(console: Console) -> list[Figure]:
    """Measure what a thousand rules take to be loaded, and to be kept."""
    text = orjson.dumps({"rules": exact_rules(1_000)})
    began_ns = time.thread_time_ns()
    file = parse_rules(text, Path("bench.json"))
    parsed_ns = time.thread_time_ns()
    RuleSet(file)
    compiled_ns = time.thread_time_ns()
    tracemalloc.start()
    kept = RuleSet(parse_rules(text, Path("bench.json")))
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    console.print(
        f"1,000 rules: read and checked in {(parsed_ns - began_ns) / 1e6:.0f} ms, compiled in "
        f"{(compiled_ns - parsed_ns) / 1e6:.0f} ms, {kept_bytes / 1e6:.1f} MB ({len(kept.rules):,} rules)"
    )
    return [
        Figure("loading 1,000 rules", (compiled_ns - began_ns) / 1e6, "ms"),
        Figure("memory of 1,000 rules", kept_bytes / 1e6, "MB", 20),
    ]


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and give the figures."""
    console = Console(width=130)
    console.print(machine("orjson", "pydantic"))
    figures = costs(console, 3 if quick else 7)
    figures += loading(console)
    print_figures(console, "Budgets", [figure for figure in figures if figure.budget is not None])
    return figures


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
