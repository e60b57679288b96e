"""How the demo shows itself: lines and a table for people, JSON Lines for scripts."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import orjson
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from shadowcat_core.demo.listener import Heard
from shadowcat_core.demo.summary import Summary
from shadowcat_core.transcript import ARROWS, COLOURS, printable

ERA_TITLES = {
    "legacy": "initialize, then a session with state",
    "modern": "server/discover, then every request on its own",
}
WIDE = 100  # columns from which the gists can stand below each other
HEAD_WIDTH, NARROW_HEAD_WIDTH = 47, 33
DURATION_WIDTH = 10


class Screen(Protocol):
    """What the demo tells."""

    def introduce(self, parts: Mapping[str, str]) -> None:
        """Say what was started, under which names and where."""

    def show(self, message: Heard) -> None:
        """Show one message."""

    def conclude(self, summary: Summary, tape: Path, records_missing: int) -> None:
        """Sum up."""

    def invite(self, url: str) -> None:
        """Say that the proxy stays, for the person's own client."""


class Terminal:
    """Colours and columns, as wide as the terminal is."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._era: str | None = None
        self._began_ms: float | None = None
        self._head_width = HEAD_WIDTH if console.width >= WIDE else NARROW_HEAD_WIDTH

    def introduce(self, parts: Mapping[str, str]) -> None:
        grid = Table.grid(padding=(0, 2))
        for name, place in parts.items():
            grid.add_row(Text(name, style="bold"), Text(place))
        self.console.print(grid)

    def show(self, message: Heard) -> None:
        if message.era != self._era:
            self._era = message.era
            title = Text.assemble((message.era, "bold cyan"), f"  {ERA_TITLES.get(message.era, '')}")
            self.console.print()
            self.console.print(Rule(title, align="left", style="cyan"))
        self.console.print(self._line(message), no_wrap=True, overflow="ellipsis")

    def conclude(self, summary: Summary, tape: Path, records_missing: int) -> None:
        self.console.print()
        self.console.print(summary_table(summary))
        self.console.print(
            f"{summary.messages} messages, {summary.calls} calls, {summary.events} events on streams, "
            "as the proxy recorded them.",
            highlight=False,
        )
        if records_missing:
            self.console.print(f"{records_missing} records are missing from the tape.", style="bold red")
        self.console.print()
        grid = Table.grid(padding=(0, 2))
        for what, command in (
            ("the tape", str(tape)),
            ("read it", f"shadowcat tape show {shlex.quote(str(tape))}"),
            ("count it", f"shadowcat tape stats {shlex.quote(str(tape))}"),
            ("your server", "shadowcat web --upstream http://127.0.0.1:3001/mcp"),
        ):
            grid.add_row(Text(what, style="bold"), Text(command, style="green", overflow="fold"))
        self.console.print(grid)

    def invite(self, url: str) -> None:
        self.console.print()
        self.console.print(
            Text.assemble("Still running; point your client at ", (url, "bold green"), ". Ctrl-C ends it.")
        )

    def _line(self, message: Heard) -> Text:
        if self._began_ms is None:
            self._began_ms = message.at_ms
        style = "red" if message.failed else COLOURS[message.kind]
        duration = "" if message.duration_ms is None else f"{message.duration_ms:,.1f} ms"
        what, number, about, gist = message.words
        line = Text()
        line.append(f"{(message.at_ms - self._began_ms) / 1000:7.3f} ", style="dim")
        line.append(f"{ARROWS[message.direction]} ", style=f"bold {style}")
        # The words of a headline. The gist begins in a column of its own, unless what stands before is too long.
        head = Text(" ").join(
            Text(word, style) for word, style in ((what, style), (number, "dim"), (about, "bold")) if word
        )
        head.pad_right(max(0, self._head_width - head.cell_len))
        line.append(head)
        line.append(f" {gist}", style="red" if message.failed else "")
        # The duration stands at the right edge.
        line.truncate(self.console.width - DURATION_WIDTH, overflow="ellipsis", pad=True)
        line.append(f"{duration:>{DURATION_WIDTH}}", style="dim")
        return line


class JsonLines:
    """One object a line on stdout: `message` for each message, then `summary`."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def introduce(self, parts: Mapping[str, str]) -> None:
        self._print({"type": "started", "parts": dict(parts)})

    def show(self, message: Heard) -> None:
        fields = asdict(message)
        del fields["words"]
        self._print({"type": "message"} | fields | {"gist": message.words.gist})

    def conclude(self, summary: Summary, tape: Path, records_missing: int) -> None:
        methods = [
            {
                **subject._asdict(),
                "calls": len(tally.durations_ms),
                "events": tally.events,
                "failures": tally.failures,
                "p50_ms": tally.quantile_ms(0.5),
                "p95_ms": tally.quantile_ms(0.95),
                "max_ms": tally.quantile_ms(1),
            }
            for subject, tally in summary.tallies.items()
        ]
        self._print(
            {
                "type": "summary",
                "tape": str(tape),
                "messages": summary.messages,
                "records_missing": records_missing,
                "methods": methods,
            }
        )

    def invite(self, url: str) -> None:
        self._print({"type": "waiting", "url": url})

    def _print(self, fields: Mapping[str, object]) -> None:
        self.console.file.write(orjson.dumps(fields).decode() + "\n")
        self.console.file.flush()


def summary_table(summary: Summary) -> Table:
    """Latencies by era and method. Durations are the proxy's: request seen to answer seen."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("era", "method"):
        table.add_column(title)
    for title in ("calls", "failed", "events", "p50 ms", "p95 ms", "max ms"):
        table.add_column(title, justify="right")
    for (era, method, tool), tally in summary.tallies.items():
        counts = (len(tally.durations_ms), tally.failures, tally.events)
        times = (
            [f"{tally.quantile_ms(fraction):,.1f}" for fraction in (0.5, 0.95, 1)] if tally.durations_ms else [""] * 3
        )
        table.add_row(
            Text(era, style="cyan"),
            printable(f"{method or 'GET'} {tool}"),
            *(str(count or "") for count in counts),
            *times,
        )
    return table
