"""What choosing an upstream costs a request, for 2, 10 and 100 of them and every rule of balancing.

    python -m benches.bench_upstreams

CPU time of the thread, medians of interleaved rounds. "pick" chooses one, and "whole" is all that a request needs:
its route by host and path, its key, a pick, and the report that it was answered. The baselines do less: one goes in
turn with `itertools.cycle` and knows neither weights nor health, one looks at all of them for the fewest sessions.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from random import Random

import orjson
from rich.console import Console
from rich.table import Table

from benches.bench_messages import medians
from benches.figures import Figure
from benches.report import machine, print_figures
from shadowcat_core.upstreams import FailureKind, Fleet, Pool, parse_upstreams
from shadowcat_core.upstreams.ring import Ring

type Work = Callable[[], object]

RULES = ("round_robin", "least_sessions", "hash")
COUNTS = (2, 10, 100)
PICKS = 2_000
KEYS = [f"session-{number}" for number in range(PICKS)]
BUDGET_US = 10.0
"""A whole request's choice: a hundredth of a millisecond."""
GROWTH = 3.0
"""How much dearer a hundred upstreams may be than two."""


class Headers:
    """Those of one request."""

    def get(self, name: str, /) -> str | None:
        return "echo" if name == "Mcp-Name" else None


def fleet(rule: str, count: int) -> Fleet:
    upstreams = [
        {"name": f"u{n}", "url": f"http://127.0.0.1:{3000 + n}/mcp", "weight": 1 + n % 3} for n in range(count)
    ]
    text = orjson.dumps({"routes": [{"balance": rule, "upstreams": upstreams}]})
    return Fleet(parse_upstreams(text, Path("bench.json")), clock=time.monotonic, random=Random(1))


def picking(pool: Pool) -> Work:
    def run() -> None:
        for key in KEYS:
            pool.pick(key)

    return run


def whole(rule: str, count: int) -> Work:
    chosen, headers = fleet(rule, count), Headers()

    def run() -> None:
        for session_id in KEYS:
            pool = chosen.route("127.0.0.1:8080", "/mcp?x=1")
            assert pool is not None
            member = pool.pick(pool.key(session_id, headers))
            assert member is not None
            pool.succeeded(member)

    return run


def cycling(count: int) -> Work:
    turns = cycle(range(count))

    def run() -> None:
        for _ in KEYS:
            next(turns)

    return run


def looking(count: int) -> Work:
    sessions = dict.fromkeys(range(count), 0)

    def run() -> None:
        for _ in KEYS:
            min(sessions, key=sessions.__getitem__)

    return run


def costs(console: Console, rounds: int) -> list[Figure]:
    works: dict[str, Work] = {}
    for count in COUNTS:
        for rule in RULES:
            (pool,) = fleet(rule, count).pools()
            works[f"pick, {rule}, {count}"] = picking(pool)
            works[f"whole, {rule}, {count}"] = whole(rule, count)
        works[f"cycle, {count}"] = cycling(count)
        works[f"min(), {count}"] = looking(count)
    us = {name: ns / 1000 for name, ns in medians(works, PICKS, rounds).items()}
    table = Table("", *(f"{count} upstreams" for count in COUNTS), title="µs a request", title_justify="left")
    for row in (*(f"{what}, {rule}" for rule in RULES for what in ("pick", "whole")), "cycle", "min()"):
        table.add_row(row, *(f"{us[f'{row}, {count}']:.2f}" for count in COUNTS))
    console.print(table)
    most = COUNTS[-1]
    growth = {rule: us[f"pick, {rule}, {most}"] / us[f"pick, {rule}, {COUNTS[0]}"] for rule in RULES}
    return [
        *(Figure(f"whole, {rule}, {most}", us[f"whole, {rule}, {most}"], "µs", BUDGET_US) for rule in RULES),
        *(Figure(f"pick, {rule}: {most} / {COUNTS[0]} upstreams", growth[rule], "×", GROWTH) for rule in RULES),
        *(Figure(name, value, "µs") for name, value in us.items()),
    ]


def changing(console: Console) -> list[Figure]:
    """Measure what a failure costs, how evenly a ring shares, and how many keys move."""
    table = Table("upstreams", "makes a ring, ms", "after a failure, ms", "most / mean", "moved / (1 / n)")
    figures = []
    for count in COUNTS:
        names = {f"u{n}": 1 for n in range(count)}
        began_ns = time.thread_time_ns()
        ring = Ring.of(names)
        made_ns = time.thread_time_ns()
        (pool,) = fleet("hash", count).pools()
        pool.pick("x")
        member = pool.members()[0]
        failed_ns = time.thread_time_ns()
        for _ in range(pool.route.health.passive.failures):
            pool.failed(member, FailureKind.CONNECT)
        pool.pick("x")
        done_ns = time.thread_time_ns()
        keys = [f"key-{n}" for n in range(200 * count)]
        before = [ring.owner(key) for key in keys]
        smaller = ring.without({"u0"})
        moved = sum(old != smaller.owner(key) for key, old in zip(keys, before, strict=True)) / len(keys)
        share = max(Counter(before).values()) / (len(keys) / count)
        making_ms, after_ms = (made_ns - began_ns) / 1e6, (done_ns - failed_ns) / 1e6
        table.add_row(f"{count}", f"{making_ms:.2f}", f"{after_ms:.2f}", f"{share:.2f}", f"{moved * count:.2f}")
        figures += [
            Figure(f"ring of {count} after a failure", after_ms, "ms", 10 if count == COUNTS[-1] else None),
            Figure(f"keys moved by removing one of {count}, × 1/n", moved * count, "×", 1.5),
        ]
    console.print(table)
    return figures


def main(quick: bool = False) -> list[Figure]:
    """Print the tables and give the figures."""
    console = Console(width=130)
    console.print(machine("pydantic"))
    figures = costs(console, 5 if quick else 15) + changing(console)
    print_figures(console, "Budgets", [figure for figure in figures if figure.budget is not None])
    return figures


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
