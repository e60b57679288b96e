"""An example MCP server on the official SDK: a small release desk that serves both eras of the protocol.

    python -m shadowcat_core.demo.server --port 3001

It has one of everything a proxy should be seen handling: quick tools, tools that report progress while they work, a
tool that fails, log messages, resources, a resource template, a prompt, and a resource that changes. Clients of the
stateful era (`initialize`) and of the stateless one (`server/discover`) use the same URL, `/mcp`.
"""

import argparse
import contextlib
import json
import socket
import sys
import warnings

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.shared.exceptions import MCPDeprecationWarning

STEP_S = 0.1
DEPLOY_STEPS = ("fetch", "build", "test", "ship", "check")

desk = MCPServer(
    "release-desk",
    version="1.0.0",
    instructions="Deploy services with `deploy`, take a release back with `rollback`.",
    log_level="WARNING",
)
releases: dict[str, list[str]] = {"web": ["1.0.0"]}  # service → versions, oldest first


@desk.tool()
def echo(text: str) -> str:
    """Answer with the text as it came."""
    return text


@desk.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@desk.tool()
async def countdown(start: int, ctx: Context) -> str:
    """Count down to zero, one progress notification every 100 ms."""
    for done in range(start):
        await ctx.report_progress(done, start, f"{start - done}")
        await anyio.sleep(STEP_S)
    return "lift-off"


@desk.tool()
async def deploy(service: str, version: str, ctx: Context) -> str:
    """Deploy a version of a service: five steps with progress, a log message at each end."""
    await ctx.info(f"deploying {service} {version}")
    for done, step in enumerate(DEPLOY_STEPS, start=1):
        await anyio.sleep(STEP_S)
        await ctx.report_progress(done, len(DEPLOY_STEPS), step)
    releases.setdefault(service, []).append(version)
    await ctx.notify_resource_updated(release_uri(service))
    await ctx.info(f"{service} {version} is live")
    return f"{service} {version} is live"


@desk.tool()
def rollback(service: str) -> str:
    """Take the newest release of a service back; fails when there is nothing to go back to."""
    versions = releases.get(service, [])
    if len(versions) < 2:
        raise ToolError(f"{service} has no earlier release to go back to")
    versions.pop()
    return f"{service} is back at {versions[-1]}"


@desk.resource("desk://handbook", mime_type="text/markdown")
def handbook() -> str:
    """How releases are made here."""
    return "# Releases\n\n" + "\n".join(f"{number}. {step}" for number, step in enumerate(DEPLOY_STEPS, start=1))


@desk.resource("desk://services", mime_type="application/json")
def services() -> str:
    """Every service and the version it runs."""
    return json.dumps({service: versions[-1] for service, versions in releases.items()})


@desk.resource("release://{service}")
def release(service: str) -> str:
    """The version a service runs."""
    if service not in releases:
        raise ResourceNotFoundError(f"no service is called {service!r}")
    return releases[service][-1]


@desk.prompt()
def release_notes(service: str) -> str:
    """Ask a model to write the notes of a service's newest release."""
    return f"Write release notes for {service} {releases.get(service, ['unreleased'])[-1]}, in three sentences."


def release_uri(service: str) -> str:
    return f"release://{service}"


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes a free one."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # The protocol is named, not left to its default: asyncio switches TCP_NODELAY on only where it reads "TCP", and
    # without it every second answer waits 40 ms for the peer's delayed acknowledgement.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen()
    return listener


async def serve(listener: socket.socket, host: str) -> None:
    """Serve the desk on a listening socket until SIGINT or SIGTERM."""
    app = desk.streamable_http_app(host=host)
    # Event streams may be open for hours: at the end they are cut, not waited for.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


def main(arguments: list[str] | None = None) -> None:
    """Run the server; `arguments` are the command line's, without the program."""
    parser = argparse.ArgumentParser(prog="python -m shadowcat_core.demo.server", description="An example MCP server.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3001, help="port; 0 takes a free one (default: %(default)s)")
    options = parser.parse_args(arguments)
    # The modern era deprecates log messages; the desk still sends them, for both eras are on show.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    with listen(options.host, options.port) as listener:
        print(f"listening on http://{options.host}:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            anyio.run(serve, listener, options.host)


if __name__ == "__main__":
    main()
