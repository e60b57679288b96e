"""`shadowcat tape`: list tapes, show what they hold, count it, and check that they are whole."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from shadowcat_core.cli.group import complain
from shadowcat_core.cli.tape_lines import entry_line, payload_lines, record_line, worth_showing
from shadowcat_core.errors import TapeError
from shadowcat_core.jsonrpc import Json, dump
from shadowcat_core.tape.encoding import fields_of
from shadowcat_core.tape.filters import parse_record_filter, parse_row_filter
from shadowcat_core.tape.reader import Tape
from shadowcat_core.tape.rows import Row
from shadowcat_core.tape.survey import State, Survey, survey
from shadowcat_core.tape.writer import SUFFIX
from shadowcat_core.transcript import duration_text, printable, size_text

PATIENCE_S = 2.0
WIDE = 200
NOT_WHOLE, DAMAGED = 3, 4
STYLES = {State.WHOLE: "green", State.CUT_OFF: "yellow", State.GAPS: "yellow", State.DAMAGED: "red"}
WORDS = {"ignore_unknown_options": True}  # `-status:error` is a filter turned around, no option

tape_path = click.Path(exists=True, dir_okay=False, path_type=Path)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


@click.group()
def tape() -> None:
    """Read tapes: list them, show messages, count them, check them."""


@tape.command()
@click.argument("places", nargs=-1, type=click.Path(exists=True, path_type=Path), required=True, metavar="DIR|FILE...")
@as_json
def ls(*, places: Sequence[Path], as_json: bool) -> None:
    """List tapes: when they were made, what they hold, whether they are whole."""
    table = Table("tape", "created", "lasts", "exchanges", "records", "size", "state", box=None, pad_edge=False)
    objects: list[Json] = []
    paths = [path for place in places for path in _tapes_in(place)]
    if not paths:
        complain("no tapes there; a tape's name ends in .tape.jsonl or .tape.jsonl.zst")
    for path in paths:
        try:
            opened = Tape.open(path)
            with _progress(path) as progress:
                found = survey(opened, messages=False, progress=progress)
        except TapeError as error:
            complain(str(error))
            objects.append({"path": str(path), "error": error.message})
            table.add_row(str(path), *[""] * 5, Text("no tape", "red"))
            continue
        created, size = opened.header.created, path.stat().st_size
        objects.append(
            {"path": str(path), "created": created, "duration_us": found.duration_ns // 1000,
             "exchanges": found.exchanges, "records": found.records, "bytes": size, "state": found.state.name.lower()}
        )  # fmt: skip
        cells = [created[:19].replace("T", " "), duration_text(found.duration_ns), f"{found.exchanges:,}"]
        state = Text(found.state, STYLES[found.state])
        table.add_row(str(path), *cells, f"{found.records:,}", size_text(size), state)
    if as_json:
        _print_json(objects)
    else:
        _console().print(table)


@tape.command(context_settings=WORDS)
@click.argument("path", type=tape_path, metavar="TAPE")
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@click.option("--payload", is_flag=True, help="Print each message's JSON too, as it was on the wire.")
@click.option("--raw", is_flag=True, help="Print records (heads, bodies, chunks) instead of messages.")
@as_json
def show(*, path: Path, words: Sequence[str], payload: bool, raw: bool, as_json: bool) -> None:
    """Show the messages of a tape, one line each, (!) what was done to them, and (·) what ended without an answer.

    FILTER words must all hold: method: target: status:ok|error|invalid kind: dir:c2s|s2c id: exchange: session:
    duration:>500ms verdict:block by:NAME. In a value, * stands for anything; -WORD turns a word around; a word without
    a key is looked for in method and target.

    \b
    Examples:
      shadowcat tape show a.tape.jsonl method:tools/call status:error
      shadowcat tape show a.tape.jsonl -kind:notification 'duration:>1s' --payload
      shadowcat tape show a.tape.jsonl verdict:* by:rule:* --payload
      shadowcat tape show a.tape.jsonl exchange:3 --raw
    """
    if stray := next((word for word in words if Path(word).is_file()), None):
        raise click.UsageError(f"one tape at a time: {stray} is a file, not a filter", click.get_current_context())
    opened = Tape.open(path)
    try:
        test_record, test_row = (parse_record_filter(words), None) if raw else (None, parse_row_filter(words))
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    origin_ns = opened.header.origin_ns
    console = _console()
    with _progress(path) as progress:
        records = opened.records(progress=progress)
        if test_record is not None:
            for record in filter(test_record, records):
                if as_json:
                    _print_json(fields_of(record, origin_ns))
                else:
                    console.print(record_line(record, origin_ns), soft_wrap=True)
        elif test_row is not None:
            for entry in filter(test_row, worth_showing(records)):
                if not as_json:
                    console.print(entry_line(entry, origin_ns), soft_wrap=True)
                    for line in payload_lines(entry) if payload else ():
                        console.print(line, soft_wrap=True)
                elif isinstance(entry, Row):
                    _print_json(entry.as_json(origin_ns, payload=payload))
                else:
                    _print_json(entry.as_json(origin_ns))
    _say_what_is_missing(opened)


@tape.command()
@click.argument("path", type=tape_path, metavar="TAPE")
@as_json
def stats(*, path: Path, as_json: bool) -> None:
    """Count the messages of a tape by method, with their durations, and what was done to them."""
    opened = Tape.open(path)
    with _progress(path) as progress:
        found = survey(opened, progress=progress)
    methods = sorted(found.methods.values(), key=lambda about: (-about.count, about.method))
    verdicts = found.verdicts.most_common()
    if as_json:
        counts: list[Json] = [
            {"by": by, "verdict": verdict, "mode": mode, "count": count} for (by, verdict, mode), count in verdicts
        ]
        about_methods: list[Json] = [about.as_json() for about in methods]
        _print_json({**_totals(found), "messages": found.messages, "methods": about_methods, "verdicts": counts})
        return
    table = Table("method", *("count", "errors", "p50 ms", "p95 ms", "max ms", "events", "bytes"), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for about in methods:
        times = ["" if ms is None else f"{ms:,.1f}" for ms in map(about.quantile_ms, (0.5, 0.95, 1.0))]
        errors = Text(f"{about.errors:,}" if about.errors else "", "red")
        events = f"{about.events:,}" if about.events else ""
        table.add_row(printable(about.method), f"{about.count:,}", errors, *times, events, size_text(about.size))
    console = _console()
    console.print(table)
    if verdicts:
        table = Table("by", "verdict", "count", box=None)
        table.columns[2].justify = "right"
        for (by, verdict, mode), count in verdicts:
            table.add_row(
                printable(by), printable(verdict if mode == "enforce" else f"{verdict} ({mode})"), f"{count:,}"
            )
        console.print(table)
    totals = f"{found.messages:,} messages in {found.exchanges:,} exchanges, {found.records:,} records, "
    console.print(totals + f"{size_text(found.size)} in {duration_text(found.duration_ns)}", highlight=False)
    if found.gaps:
        console.print(f"{found.lost_records:,} records are missing ({size_text(found.lost_bytes)})", style="yellow")
    _say_what_is_missing(opened)


@tape.command()
@click.argument("path", type=tape_path, metavar="TAPE")
@as_json
def verify(*, path: Path, as_json: bool) -> None:
    """Check that a tape is whole.

    Exit status: 0 it is; 3 it has gaps or its end is cut off, and what is there is good; 4 it is damaged or no tape.
    Exchanges without an end are named, and are no fault: they were open when recording stopped.
    """
    try:
        opened = Tape.open(path)
        with _progress(path) as progress:
            found = survey(opened, messages=False, progress=progress)
    except TapeError as error:
        complain(str(error))
        click.get_current_context().exit(DAMAGED)
    if as_json:
        _print_json(
            {**_totals(found), "state": found.state.name.lower(), "unfinished": list[Json](found.unfinished),
             "headless": list[Json](found.headless), "damages": [[at.line, at.message] for at in found.damages],
             "gaps": [[(gap.at_ns - opened.header.origin_ns) // 1000, gap.records, gap.size, gap.reason]
                      for gap in found.gaps]}
        )  # fmt: skip
    else:
        _print_verdict(found, opened)
    match found.state:
        case State.WHOLE:
            return
        case State.DAMAGED:
            click.get_current_context().exit(DAMAGED)
        case State.GAPS | State.CUT_OFF:
            click.get_current_context().exit(NOT_WHOLE)


def _print_verdict(found: Survey, opened: Tape) -> None:
    console = _console()
    console.print(Text(found.state, STYLES[found.state]), f"· {found.exchanges:,} exchanges, {found.records:,} records")
    for at in found.damages:
        console.print(f"  line {at.line:,}: {printable(at.message)}", style="red", soft_wrap=True)
    for gap in found.gaps:
        when = f"{(gap.at_ns - opened.header.origin_ns) / 1e9:.3f} s"
        lost = f"{gap.records:,} records ({size_text(gap.size)}) of {len(gap.exchanges):,} exchanges"
        console.print(f"  gap at {when}: {lost}: {printable(gap.reason)}", style="yellow", soft_wrap=True)
    if found.cut_off:
        console.print("  the end is cut off: the process that recorded was killed", style="yellow")
    for numbers, what in ((found.unfinished, "without an end"), (found.headless, "without a beginning")):
        if numbers:
            some = ", ".join(map(str, numbers[:10])) + (" …" if len(numbers) > 10 else "")
            console.print(f"  {what}: exchange {some}", highlight=False)
    if found.unknown:
        console.print(f"  {found.unknown:,} records of kinds that this version does not know", highlight=False)


def _totals(found: Survey) -> dict[str, Json]:
    return {
        "records": found.records,
        "exchanges": found.exchanges,
        "chunks": found.chunks,
        "bytes": found.size,
        "duration_us": found.duration_ns // 1000,
        "lost_records": found.lost_records,
        "lost_bytes": found.lost_bytes,
        "damage_count": found.damage_count,
        "cut_off": found.cut_off,
    }


def _tapes_in(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(path for path in place.iterdir() if SUFFIX in path.name and path.is_file())
    else:
        yield place


def _say_what_is_missing(opened: Tape) -> None:
    if opened.damage_count:
        first = opened.damages[0]
        complain(
            f"{opened.damage_count:,} damaged lines were left out, the first is line {first.line:,}: {first.message}"
        )
    if opened.cut_off:
        complain("the end of the tape is cut off; all before it is shown")


def _console() -> Console:
    # What peers name their methods and tools is no markup.
    return Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else WIDE)


def _print_json(value: Json) -> None:
    click.echo(dump(value))


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr once reading has taken longer than a person likes to wait for nothing."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    task = bar.add_task(path.name, total=path.stat().st_size)
    started = monotonic()

    def update(done: int) -> None:
        if not bar.live.is_started and monotonic() - started > PATIENCE_S:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield update
    finally:
        bar.stop()
