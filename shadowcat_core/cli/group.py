"""What every subcommand shares: loading on demand, and one way to say that something went wrong.

An error is one line on stderr that begins with the program's name and says what to do; stdout is left to data.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from shadowcat_core.errors import ShadowcatError

INTERRUPTED = 130  # 128 + SIGINT, as shells count


class MissingProgramError(click.ClickException):
    """A program or package that the command needs is not installed."""

    exit_code = 127


class LazyGroup(click.Group):
    """A group that knows where its subcommands are (`module:name`) and imports the one that is called."""

    def __init__(self, *args: Any, commands_at: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(self.commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in self.commands_at:
            return None
        module, name = self.commands_at[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run as a program: every error ends in one line and an exit status."""
        prog_name = prog_name or "shadowcat"
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            # An int is the status that `ctx.exit` was given; what a command returns otherwise is not one.
            answer = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            status = answer if isinstance(answer, int) else 0
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            status = error.exit_code
        except click.ClickException as error:
            complain(error.format_message())
            if isinstance(error, click.UsageError) and error.ctx is not None:
                complain(f"for help, run: {error.ctx.command_path} --help")
            status = error.exit_code
        except ShadowcatError as error:
            complain(str(error))
            status = 1
        except click.Abort:
            complain("stopped")
            status = INTERRUPTED
        sys.exit(status)


def complain(text: str) -> None:
    """Say something to the person, on stderr, under the program's name."""
    click.echo(f"shadowcat: {text}", err=True)
