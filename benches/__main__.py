"""All benches one after the other, and one table at the end: what was measured, what was promised.

    python -m benches [--quick] [--json FILE] [NAME...]

Each bench runs in a process of its own, so that none inherits another's heap. The exit status is 0 when all of them
ran, whether or not the budgets were met; 1 when one crashed; 2 when there is no such bench.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benches.figures import Figure
from benches.report import figure_row, machine, verdict_table

BENCHES = (
    "sse",
    "messages",
    "pipeline",
    "rules",
    "guards",
    "hooks",
    "tap",
    "recorder",
    "sessions",
    "resumption",
    "upstreams",
    "metrics",
    "proxy",
    "pauses",
    "relay",
)
PACKAGES = ("mitmproxy", "orjson", "httpx-sse")
WITHIN_S = 240
"""For one bench, on a machine that has much else to do."""

type Found = dict[str, list[Figure]]


def run_here(name: str, *, quick: bool) -> list[Figure]:
    """Run one bench in this process."""
    figures: list[Figure] = import_module(f"benches.bench_{name}").main(quick)
    return figures


def run_apart(name: str, *, quick: bool) -> list[Figure] | None:
    """Run one bench in a process of its own; None when it crashed, which it has said itself."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "figures.json"
        argv = [sys.executable, "-m", "benches", "--json", str(report), *(["--quick"] if quick else []), name]
        try:
            subprocess.run(argv, check=True, timeout=WITHIN_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        return [Figure(**figure) for figure in json.loads(report.read_text())["figures"][name]]


def write_json(path: Path, found: Found, *, quick: bool) -> None:
    """Write every figure, those without a budget included, for programs that compare runs."""
    figures = {name: [asdict(figure) for figure in each] for name, each in found.items()}
    document = {"machine": machine(*PACKAGES), "quick": quick, "figures": figures}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_summary(console: Console, found: Found, crashed: Sequence[str], elapsed_s: float) -> None:
    table = verdict_table(machine(*PACKAGES), "bench", "figure")
    for name, figures in found.items():
        promised = [figure for figure in figures if figure.budget is not None]
        for figure in promised:
            table.add_row(name, *figure_row(figure), end_section=figure is promised[-1])
    for name in crashed:
        table.add_row(name, "[bold red]crashed[/]", "", "", "")
    console.print(table)
    verdicts = [figure.met for figures in found.values() for figure in figures if figure.met is not None]
    missed = verdicts.count(False)
    words = "all met" if not missed else f"{missed} missed"
    console.print(f"{len(verdicts)} budgets, {words}; {elapsed_s:.0f} s. docs/performance.md says what they mean.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches", description="Measure, and compare with the budgets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which benches: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: less certain, a third of the time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHES]:
        parser.error(f"no such bench: {', '.join(unknown)} (there are {', '.join(BENCHES)})")
    names: list[str] = arguments.names or list(BENCHES)
    started = time.monotonic()
    found: Found = {}
    crashed = []
    if len(names) == 1:
        found[names[0]] = run_here(names[0], quick=arguments.quick)
    else:
        for name in names:
            figures = run_apart(name, quick=arguments.quick)
            if figures is None:
                crashed.append(name)
            else:
                found[name] = figures
        print_summary(Console(width=130), found, crashed, time.monotonic() - started)
    if arguments.json is not None:
        write_json(arguments.json, found, quick=arguments.quick)
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
