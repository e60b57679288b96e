"""`shadowcat sessions`: list the sessions that proxies keep in a store, show one, and end some."""

import asyncio
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shadowcat_core.cli import session_lines as lines
from shadowcat_core.cli.group import complain
from shadowcat_core.errors import StoreError, StoreUnavailable
from shadowcat_core.limits import SESSION_PAGE
from shadowcat_core.relay.opening import expanded, open_store
from shadowcat_core.sessions import SessionRecord, Store, wall_clock_ms
from shadowcat_core.transcript import printable
from shadowcat_core.upstreams import SessionsConfig, StoreAddress, StoreKind, load_upstreams

PATIENCE_S = 2.0
UNKNOWN, AMBIGUOUS = 3, 4
MIN_PREFIX_CHARS = 4
"""An empty variable in a script would otherwise be the beginning of whichever session is there."""
IDS = {"ignore_unknown_options": True}  # an id may begin with -
_SPAN: Final = re.compile(r"([0-9]{1,6})(s|m|min|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


class UnknownSessionError(click.ClickException):
    """No session has this id, or begins with it."""

    exit_code = UNKNOWN


class AmbiguousSessionError(click.ClickException):
    """Several sessions begin with what was given."""

    exit_code = AMBIGUOUS


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        StoreAddress.parse("memory" if value is None else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _span_ms(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    found = _SPAN.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no time; allowed: such as 90s, 30m, 2h, 7d")
    return int(found[1]) * _SECONDS[found[2]] * 1000


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command be told which store."""
    for option in (
        click.option("--store", metavar="ADDRESS", callback=_address, help="The store: sqlite:PATH or redis://HOST/DB."),
        click.option(
            "--upstreams", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="The file that the proxy has as shadowcat_upstreams; it names the store.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")


@click.group()
def sessions() -> None:
    """List, show and end the sessions that proxies keep."""


@sessions.command()
@where
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="List so many at most, the oldest first.")
@as_json
def ls(*, upstreams: Path | None, store: str | None, limit: int | None, as_json: bool) -> None:
    """List sessions in the order in which they began: where they are, whose they are, and how long they are idle.

    As much of an id as is shown is enough for `show` and `end`.

    \b
    Examples:
      shadowcat sessions ls --upstreams shadowcat.yaml
      shadowcat sessions ls --store redis://127.0.0.1:6379/0 --json | jq 'select(.idle_s > 3600)'
    """
    asyncio.run(_ls(_config(upstreams, store), limit, as_json=as_json))


async def _ls(config: SessionsConfig, limit: int | None, *, as_json: bool) -> None:
    now_ms = wall_clock_ms()
    found: list[SessionRecord] = []
    async with _opened(config) as store:
        count = await store.count()
        with _progress(count if limit is None else min(limit, count)) as progress:
            async for record in _records(store, limit):
                found.append(record)
                progress(len(found))
        is_cut = limit is not None and len(found) == limit and limit < count
    if as_json:
        for record in found:
            click.echo(lines.json_line(lines.as_json(record, now_ms)))
    elif found:
        short = lines.short_ids([record.session_id for record in found])
        rows = [lines.row(record, short[record.session_id], now_ms) for record in found]
        for line in lines.table(rows):
            click.echo(line)
    if not found:
        complain("there are no sessions in this store")
    if is_cut:
        complain(f"these are the {limit:,} oldest of {count:,} sessions")


@sessions.command(context_settings=IDS)
@click.argument("session_id", metavar="ID")
@where
@as_json
def show(*, session_id: str, upstreams: Path | None, store: str | None, as_json: bool) -> None:
    """Show all that is known of a session: how it began, what its client subscribed to, and its streams of events.

    ID is a session's id or its beginning. Credentials are never shown; the store has none.

    Exit status: 3 there is no such session; 4 several begin so.
    """
    asyncio.run(_show(_config(upstreams, store), session_id, as_json=as_json))


async def _show(config: SessionsConfig, session_id: str, *, as_json: bool) -> None:
    async with _opened(config) as store:
        (record,) = await _resolved(store, [session_id])
        streams = await store.streams(record.session_id)
    now_ms = wall_clock_ms()
    if as_json:
        click.echo(lines.json_line(lines.all_as_json(record, streams, now_ms)))
        return
    for name, value in lines.details(record, streams, now_ms):
        click.echo(f"{name:<15}{value}" if name else f"  {value}")


@sessions.command(context_settings=IDS)
@click.argument("session_ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--idle-for", "idle_ms", metavar="TIME", callback=_span_ms, help="End those that are idle for so long: 30m, 2h, 7d."
)
@click.option("--dry-run", is_flag=True, help="Say what would be ended, and end nothing.")
@where
@as_json
def end(
    *, session_ids: Sequence[str], idle_ms: int | None, dry_run: bool, upstreams: Path | None, store: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """End sessions: the next request of each client is answered 404, upon which it begins a new session.

    ID is a session's id or its beginning. When one of them is not known or not unique, none is ended.

    This ends them in the store. A server keeps its own session until that is idle for too long; the proxy's command
    shadowcat.sessions.end ends it there too.

    Exit status: 3 there is no such session; 4 several begin so.
    """
    if bool(session_ids) is (idle_ms is not None):
        raise click.UsageError("which sessions? Give their ids, or --idle-for", click.get_current_context())
    asyncio.run(_end(_config(upstreams, store), session_ids, idle_ms, dry_run=dry_run, as_json=as_json))


async def _end(
    config: SessionsConfig, texts: Sequence[str], idle_ms: int | None, *, dry_run: bool, as_json: bool
) -> None:
    now_ms = wall_clock_ms()
    async with _opened(config) as store:
        if idle_ms is None:
            chosen = await _resolved(store, texts)
        else:
            chosen = [each async for each in _all(store) if now_ms - each.times.used_ms >= idle_ms]
        done = 0
        for start in range(0, len(chosen), SESSION_PAGE):
            some = chosen[start : start + SESSION_PAGE]
            gone = [not dry_run] * len(some)
            if not dry_run:
                gone = [each is not None for each in await store.end_many([each.session_id for each in some])]
            for record, is_ended in zip(some, gone, strict=True):
                done += is_ended
                _say_end(record, now_ms, "would end" if dry_run else "ended" if is_ended else "gone", as_json=as_json)
    if not chosen:
        complain("no session is idle for so long")
    if done:
        complain(
            f"{done:,} ended in the store: their clients begin anew, and their servers keep what they have until it is "
            "idle for too long (the proxy's command shadowcat.sessions.end ends it there too)"
        )


def _say_end(record: SessionRecord, now_ms: int, what: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(lines.json_line({**lines.as_json(record, now_ms), "is_ended": what == "ended"}))
        return
    idle = lines.span_text(now_ms - record.times.used_ms)
    said = "had ended already" if what == "gone" else f"at {printable(record.mapping.upstream.name)}, idle {idle}"
    click.echo(f"{what if what != 'gone' else 'not ended'} {record.session_id} · {said}")


def _config(upstreams: Path | None, store: str | None) -> SessionsConfig:
    """Find out which store is meant; it is to be asked itself, so an outage is an error here."""
    if (upstreams is None) is (store is None):
        text = "which sessions? Give --upstreams FILE, the file that the proxy has, or --store ADDRESS"
        raise click.UsageError(text, click.get_current_context())
    config = SessionsConfig(store=store or "memory") if upstreams is None else load_upstreams(upstreams).sessions
    if config.address.kind is StoreKind.MEMORY:
        raise click.ClickException(
            "sessions in memory are in the proxy alone: use its command shadowcat.sessions, or keep them in a store "
            "that others can read (sessions.store in the file of upstreams: sqlite:PATH or redis://HOST/DB)"
        )
    return config.model_copy(update={"on_outage": "closed"})


@asynccontextmanager
async def _opened(config: SessionsConfig) -> AsyncIterator[Store]:
    if config.address.kind is StoreKind.SQLITE:
        _demand_sessions(expanded(config.address.location))
    store = open_store(config)
    try:
        yield store
    except StoreUnavailable as exc:
        raise StoreError(
            f"the store does not answer: {printable(str(exc))}; is its address right, and is it on?"
        ) from exc
    finally:
        await store.aclose()


def _demand_sessions(path: Path) -> None:
    """Refuse to make a store, or tables in another program's file: who looks changes nothing."""
    if not path.is_file():
        raise click.ClickException(
            f"there is no file {path}: no proxy has kept sessions there (the proxy takes a relative path from where it "
            "was started)"
        )
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        if database.execute("pragma user_version").fetchone()[0] == 0:
            raise click.ClickException(f"{path} is no store of sessions")


async def _records(store: Store, limit: int | None = None) -> AsyncIterator[SessionRecord]:
    """Read sessions page by page, in the store's order."""
    cursor, left = None, limit
    while left is None or left > 0:
        page = await store.list(cursor, SESSION_PAGE if left is None else min(SESSION_PAGE, left))
        for record in page.records:
            yield record
        left = None if left is None else left - len(page.records)
        cursor = page.cursor
        if cursor is None:
            return


async def _all(store: Store) -> AsyncIterator[SessionRecord]:
    """Read all sessions, with a bar when that takes long."""
    with _progress(await store.count()) as progress:
        done = 0
        async for record in _records(store):
            done += 1
            progress(done)
            yield record


async def _resolved(store: Store, texts: Sequence[str]) -> Sequence[SessionRecord]:
    """Find the sessions with these ids or beginnings, each once.

    Raises:
        UnknownSessionError, AmbiguousSessionError: one is not known, or not unique.
    """
    candidates: dict[str, list[SessionRecord]] = {
        text: [] if record is None else [record]
        for text, record in zip(texts, await store.get_many(texts), strict=True)
    }
    prefixes = [text for text, exact in candidates.items() if not exact and len(text) >= MIN_PREFIX_CHARS]
    if prefixes:
        async for record in _all(store):
            for text in prefixes:
                if record.session_id.startswith(text):
                    candidates[text].append(record)
    if unknown := [text for text, found in candidates.items() if not found]:
        raise UnknownSessionError(f"{'; '.join(_why_unknown(unknown))} (`shadowcat sessions ls` lists them)")
    for text, found in candidates.items():
        if len(found) > 1:
            short = lines.short_ids([record.session_id for record in found]).values()
            some = ", ".join(list(short)[:5]) + (", …" if len(found) > 5 else "")
            raise AmbiguousSessionError(f"{text} begins {len(found):,} sessions: {some}; give more of it")
    return list({found[0].session_id: found[0] for found in candidates.values()}.values())


def _why_unknown(texts: Sequence[str]) -> Iterator[str]:
    short = [printable(text) or "''" for text in texts if len(text) < MIN_PREFIX_CHARS]
    other = [printable(text) for text in texts if len(text) >= MIN_PREFIX_CHARS]
    if short:
        yield f"too short: {', '.join(short)}; of an id's beginning, at least {MIN_PREFIX_CHARS} characters are needed"
    if other:
        yield f"no session has this id, or begins with it: {', '.join(other)}"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr once reading has taken longer than a person likes to wait for nothing."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    task = bar.add_task("sessions", total=total)
    started = monotonic()

    def update(done: int) -> None:
        if not bar.live.is_started and monotonic() - started > PATIENCE_S:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield update
    finally:
        bar.stop()
