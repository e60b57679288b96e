"""The `shadowcat` command: a group whose subcommands are loaded when they are asked for."""

import click

from shadowcat_core import __version__
from shadowcat_core.cli.group import LazyGroup

EPILOG = """\b
Examples:
  shadowcat demo                                     a whole conversation, nothing to set up
  shadowcat web --upstream http://127.0.0.1:3001/mcp watch a server in the browser
  shadowcat dump --tape tapes                        a forward proxy that records
  shadowcat tape ls tapes                            what was recorded
  shadowcat rules test guard.yaml                    whether rules do what they should
  shadowcat sessions ls --upstreams shadowcat.yaml   the sessions that proxies keep

\b
Exit status: 0 done; 1 it failed, and stderr says why; 2 the command line is wrong;
127 a program is missing; 130 stopped by Ctrl-C. `web` and `dump` end with mitmproxy's own status.
"""


@click.group(
    "shadowcat",
    cls=LazyGroup,
    commands_at={
        "demo": "shadowcat_core.cli.demo:demo",
        "dump": "shadowcat_core.cli.launch:dump",
        "rules": "shadowcat_core.cli.rules:rules",
        "sessions": "shadowcat_core.cli.sessions:sessions",
        "tape": "shadowcat_core.cli.tape:tape",
        "web": "shadowcat_core.cli.launch:web",
    },
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="shadowcat")
def main() -> None:
    """See, record and inspect MCP conversations with mitmproxy."""
