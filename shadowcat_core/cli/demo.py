"""`shadowcat demo`: a whole MCP conversation through mitmproxy, with nothing to set up."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from shadowcat_core.cli.group import MissingProgramError, complain
from shadowcat_core.cli.mitmproxy_command import Upstream, mitmproxy_command
from shadowcat_core.listen_address import ListenAddress

DEFAULT_TAPE_DIR = "tapes"
ANY_PORT = ListenAddress("127.0.0.1", 0)
EXAMPLE_NEEDS = {"mcp": 2, "uvicorn": 0}  # package → major version at least


@click.command
@click.option(
    "--tape",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_TAPE_DIR,
    show_default=True,
    metavar="DIR",
    help="Directory for the tape.",
)
@click.option("--keep", is_flag=True, help="Leave server and proxy running afterwards, for a client of your own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines: each message, then the summary.")
@click.option("--no-color", is_flag=True, help="Print plain text.")
def demo(*, tape: Path, keep: bool, as_json: bool, no_color: bool) -> None:
    """See a real MCP conversation as the proxy sees it.

    Starts an example server, mitmdump with the suite in front of it, and the official client, which holds one
    session in each era of the protocol. Takes a few seconds and leaves a tape.

    \b
    Examples:
      shadowcat demo
      shadowcat demo --keep
      shadowcat demo --json | jq 'select(.type == "summary")'
    """
    require_example_packages()
    # Imported late: only now is it certain that what they need is there.
    from rich.console import Console

    from shadowcat_core.demo.processes import PartFailedError
    from shadowcat_core.demo.screen import JsonLines, Terminal
    from shadowcat_core.demo.stage import Stage

    def proxy_command(server_origin: str) -> list[str]:
        return mitmproxy_command("mitmdump", listen=ANY_PORT, upstream=Upstream.parse(server_origin), tape=tape)

    console = Console(no_color=no_color or None, highlight=False)
    screen = JsonLines(console) if as_json else Terminal(console)
    with ending_on_signals(), tempfile.TemporaryDirectory(prefix="shadowcat-demo-") as log_dir:
        try:
            Stage(Path(log_dir), tape, proxy_command, screen).perform(keep=keep)
        except PartFailedError as failure:
            if failure.log:
                click.echo(failure.log, err=True)
            complain(str(failure))
            sys.exit(1)


def require_example_packages() -> None:
    """Raise `MissingProgramError` unless the example's packages are there."""
    for package, major in EXAMPLE_NEEDS.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            found = f"{package} is not installed"
        else:
            if int(installed.partition(".")[0]) >= major:
                continue
            found = f"{package} {installed} is too old"
        raise MissingProgramError(f"{found}, and the demo's example needs it; run: pip install 'shadowcat[demo]'")


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does: in order, with every child stopped."""
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave with the status that shells give to a signal."""
    sys.exit(128 + number)
