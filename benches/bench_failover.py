"""What clients notice of servers that are killed: fifty sessions for a minute, with Shadowcat in between and without.

    python -m benches.bench_failover

Two servers of the official SDK; every few seconds one of them, or both, end as by `kill -9` and come back a second
later. The clients, of both lines of the SDK, call tools with progress all the time, each second one a tool with
`readOnlyHint`: those are to be answered all the same. Without Shadowcat, half of them are at each server. The figures
are counts: none of what has a budget may happen.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benches.figures import Figure
from benches.report import machine, print_figures
from tests.e2e.failover import Course, Setting, Way, run
from tests.e2e.failover_findings import Findings, table

WAYS: tuple[Way, ...] = ("direct", "shadowcat")
SECONDS, QUICK_SECONDS = 60.0, 15.0


def figures_of(findings: Findings) -> list[Figure]:
    """What must not happen, counted."""
    counts = {
        "sessions lost": len(findings.lost),
        "sessions that do not work in the end": len(findings.dead),
        "unsafe calls run twice": len(findings.run_twice),
        "safe calls that failed before patience ended": len(findings.safe_failed),
        "calls that ran and were said not to": len(findings.denied_but_run),
        "calls without an answer": findings.outcomes["no answer"],
        "calls that lack progress": len(findings.progress_lost),
        "calls that heard of progress twice": len(findings.progress_doubled),
        "events of the server's own, missing": len(findings.news_lost),
        "events of the server's own, twice": len(findings.news_doubled),
    }
    told = {
        "safe calls answered in spite of a kill": len(findings.safe_answered),
        "events of the server's own, sent while a stream was cut": findings.unheard,
    }
    return [
        *(Figure(name, count, "", 0) for name, count in counts.items()),
        *(Figure(name, count, "") for name, count in told.items()),
    ]


def main(quick: bool = False) -> list[Figure]:
    """Print the table of what happened, and the figures with their budgets; `quick` takes a quarter of the minute."""
    console = Console(width=130)
    console.print(f"Failover: {machine('mitmproxy', 'mcp')}")
    course = Course(QUICK_SECONDS if quick else SECONDS)
    found: dict[str, Findings] = {}
    with tempfile.TemporaryDirectory() as name:
        for way in WAYS:
            found[way] = run(Path(name) / way, Setting("two SDK servers"), way, course)
    console.print(table(found))
    for problem in found["shadowcat"].problems():
        console.print(problem, markup=False)
    figures = figures_of(found["shadowcat"])
    figures.append(Figure("sessions lost without Shadowcat", len(found["direct"].lost), ""))
    print_figures(console, "Failover, through Shadowcat", figures)
    return figures


if __name__ == "__main__":
    main("--quick" in sys.argv)
