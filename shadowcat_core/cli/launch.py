"""`shadowcat web` and `shadowcat dump`: mitmproxy's programs with the suite loaded, and what to tell the client."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from shadowcat_core.cli.group import complain
from shadowcat_core.cli.mitmproxy_command import (
    Program,
    Upstream,
    ca_certificate,
    mitmproxy_command,
    options_in,
)
from shadowcat_core.listen_address import ListenAddress

DEFAULT_LISTEN = "127.0.0.1:8080"
UPSTREAMS_OPTION = "shadowcat_upstreams"
METRICS_OPTION = "shadowcat_metrics"
PRINTING = {"shadowcat_print": "true", "flow_detail": "0"}  # a line for each message, none for the flow around it


def parsed[T](parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """An option's callback made of a `parse` function, whose ValueError is the message."""

    def convert(_context: click.Context, _parameter: click.Parameter, value: str | None) -> T | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}") from error

    return convert


class LaunchCommand(click.Command):
    """A command whose unknown options most likely were meant for mitmproxy."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            message = f"{error.format_message()} mitmproxy's own options go after --."
            raise click.UsageError(message, ctx) from error


def launch_command(function: Callable[..., None]) -> click.Command:
    """Give a function the parameters that `web` and `dump` share."""
    for decorate in (
        click.argument("mitmproxy_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- MITMPROXY_ARGS...]"),
        click.option(
            "--tape",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Record every conversation as a tape in this directory.",
        ),
        click.option(
            "--listen",
            callback=parsed(ListenAddress.parse),
            default=DEFAULT_LISTEN,
            show_default=True,
            metavar="HOST:PORT",
            help="Address that clients connect to.",
        ),
        click.option(
            "--metrics",
            callback=parsed(ListenAddress.parse),
            metavar="[HOST:]PORT",
            help="Serve metrics for Prometheus there.",
        ),
        click.option(
            "--upstreams",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Lead requests to the servers that this file names, in sessions that survive them.",
        ),
        click.option(
            "--upstream",
            callback=parsed(Upstream.parse),
            metavar="URL",
            help="Stand in front of this MCP server; without it, be a forward proxy.",
        ),
    ):
        function = decorate(function)
    return click.command(cls=LaunchCommand)(function)


@launch_command
def web(
    upstream: Upstream | None,
    upstreams: Path | None,
    listen: ListenAddress,
    tape: Path | None,
    metrics: ListenAddress | None,
    mitmproxy_args: tuple[str, ...],
) -> None:
    """Watch MCP in the browser: mitmweb with the suite.

    \b
    Examples:
      shadowcat web --upstream http://127.0.0.1:3001/mcp
      shadowcat web --upstreams shadowcat.yaml
      shadowcat web --tape tapes -- --no-web-open-browser --web-port 9090
    """
    launch("mitmweb", upstream, listen, tape, mitmproxy_args, options_of(upstreams, metrics))


@launch_command
def dump(
    upstream: Upstream | None,
    upstreams: Path | None,
    listen: ListenAddress,
    tape: Path | None,
    metrics: ListenAddress | None,
    mitmproxy_args: tuple[str, ...],
) -> None:
    """Watch or record MCP in the terminal: mitmdump with the suite.

    Prints a line for each message as it passes, in place of mitmdump's lines for flows.

    \b
    Examples:
      shadowcat dump --upstream https://mcp.example.com/mcp --tape tapes
      shadowcat dump --listen 127.0.0.1:9000 -- --quiet
    """
    wants_quiet = not {"-q", "--quiet"}.isdisjoint(mitmproxy_args)
    options = {} if wants_quiet or "shadowcat_print" in options_in(mitmproxy_args) else PRINTING
    launch("mitmdump", upstream, listen, tape, mitmproxy_args, {**options, **options_of(upstreams, metrics)})


def options_of(upstreams: Path | None, metrics: ListenAddress | None) -> Mapping[str, str]:
    """The options that let a file of upstreams lead requests, and that serve metrics; each where it is wanted."""
    options = {} if upstreams is None else {UPSTREAMS_OPTION: str(upstreams.absolute())}
    return options if metrics is None else {**options, METRICS_OPTION: str(metrics)}


def launch(
    program: Program,
    upstream: Upstream | None,
    listen: ListenAddress,
    tape: Path | None,
    extra: Sequence[str],
    options: Mapping[str, str],
) -> None:
    """Become the program: its signals, its terminal and its exit status are then its own."""
    if upstream is None and extra and extra[0].startswith(("http://", "https://")):
        raise click.UsageError(f"to stand in front of a server, say --upstream {extra[0]}", click.get_current_context())
    command = mitmproxy_command(program, listen=listen, upstream=upstream, tape=tape, options=options, extra=extra)
    if told := advice(upstream, listen, extra, upstreams=options.get(UPSTREAMS_OPTION)):
        complain(told)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def advice(
    upstream: Upstream | None, listen: ListenAddress, extra: Sequence[str], *, upstreams: str | None = None
) -> str:
    """What the person has to tell the client; lines to paste into a shell stand alone."""
    if listen.port == 0:
        return "the system chooses the port; mitmproxy says below where it listens"
    if upstreams is not None:
        return f"clients use {listen.origin} and the paths of the routes in {upstreams}"
    if upstream is not None:
        return f"clients use {upstream.through(listen)} instead of {upstream.parts.geturl()}"
    if any(argument in {"-m", "--mode"} or argument.startswith("--mode=") for argument in extra):
        return ""
    certificate = shlex.quote(str(ca_certificate(extra)))
    return "\n".join(
        (
            f"forward proxy on {listen.origin}; start the client with",
            f"export HTTP_PROXY={listen.origin} HTTPS_PROXY={listen.origin} NO_PROXY=",
            f"export SSL_CERT_FILE={certificate}",
            f"export NODE_USE_ENV_PROXY=1 NODE_EXTRA_CA_CERTS={certificate}",
        )
    )
