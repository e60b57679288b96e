"""How figures are shown: the machine they come from, and a table of measured beside budget."""

import os
import platform
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches.figures import Figure

MET = {True: "met", False: "[bold red]missed[/]", None: ""}


def machine(*packages: str) -> str:
    """One line that belongs beside every figure: interpreter and build, versions, processor, system."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    parts = [
        f"{platform.python_implementation()} {platform.python_version()} ({'PGO' if optimised else 'no PGO'})",
        *(f"{package} {version(package)}" for package in packages),
        f"{os.cpu_count()} × {processor()}",
        f"{platform.system()} {platform.release().split('-')[0]}",
    ]
    return ", ".join(parts)


def processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def number(value: float) -> str:
    """Three digits that mean something, and no more."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def budget_text(figure: Figure) -> str:
    """`≤ 1.20 µs`; empty without a budget."""
    if figure.budget is None:
        return ""
    return f"{'≤' if figure.better == 'lower' else '≥'} {number(figure.budget)} {figure.unit}"


def figure_row(figure: Figure) -> tuple[str, str, str, str]:
    """Name, measured, budget and verdict, for a table that `verdict_table` began."""
    return figure.name, f"{number(figure.value)} {figure.unit}", budget_text(figure), MET[figure.met]


def verdict_table(title: str, *columns: str) -> Table:
    """A table whose named columns are followed by measured, budget and verdict."""
    table = Table(*columns, title=title, title_justify="left", title_style="")
    table.add_column("measured", justify="right")
    table.add_column("budget", justify="right")
    table.add_column("")
    return table


def print_figures(console: Console, title: str, figures: Sequence[Figure]) -> None:
    table = verdict_table(title, "figure")
    for figure in figures:
        table.add_row(*figure_row(figure))
    console.print(table)
