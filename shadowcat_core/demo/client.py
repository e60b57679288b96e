"""Drive the example server through a URL with the official SDK's client, once in each era, and check what comes back.

    python -m shadowcat_core.demo.client http://127.0.0.1:8080/mcp

Exits 0 when every answer was right, 1 with one line on stderr that names the call and what was wrong with it.
"""

import argparse
import sys
from typing import Any, Literal

import anyio
from mcp import Client, MCPError
from mcp.client.subscriptions import ResourceUpdated
from mcp_types import CallToolResult, Implementation, LoggingMessageNotificationParams, TextContent

from shadowcat_core.demo.server import DEPLOY_STEPS, release_uri

type Mode = Literal["legacy", "auto"]
MODES: tuple[Mode, ...] = ("legacy", "auto")  # "auto" asks for `server/discover`: the modern era
CALL_TIMEOUT_S = 10
QUICK_CALLS = 5


class WrongAnswerError(Exception):
    """A call through the proxy did not give what the server sends."""


def expect(call: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise WrongAnswerError(f"{call}: got {got!r}, expected {wanted!r}")


def text_of(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


class ProgressHeard:
    """A progress callback that keeps (done, total, message) of every notification."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float | None, str | None]] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.steps.append((progress, total, message))


class LogHeard:
    """A logging callback that keeps the text of every log message."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def __call__(self, params: LoggingMessageNotificationParams) -> None:
        self.lines.append(str(params.data))


class Conversation:
    """One client's session with the release desk: every kind of request, answer and notification once."""

    def __init__(self, client: Client, log: LogHeard) -> None:
        self.client = client
        self.log = log

    async def hold(self) -> None:
        """The whole session, in the order a person would try things."""
        await self.look_around()
        await self.call_quick_tools()
        if is_modern(self.client):
            await self.deploy_under_watch("web", "1.2.0")
        else:
            await self.deploy("web", "1.1.0")
        await self.call_two_at_once()
        await self.fail()

    async def look_around(self) -> None:
        tools = await self.client.list_tools()
        expect("tools/list", {tool.name for tool in tools.tools} >= {"echo", "deploy"}, True)
        resources = await self.client.list_resources()
        expect("resources/list", [r.name for r in resources.resources], ["handbook", "services"])
        templates = await self.client.list_resource_templates()
        expect("resources/templates/list", [t.name for t in templates.resource_templates], ["release"])
        await self.client.read_resource("desk://handbook")
        prompts = await self.client.list_prompts()
        expect("prompts/list", [prompt.name for prompt in prompts.prompts], ["release_notes"])
        prompt = await self.client.get_prompt("release_notes", {"service": "web"})
        expect("prompts/get release_notes", len(prompt.messages), 1)

    async def call_quick_tools(self) -> None:
        for number in range(QUICK_CALLS):
            text = f"hello {number}"
            expect("tools/call echo", text_of(await self.client.call_tool("echo", {"text": text})), text)
        expect("tools/call add", text_of(await self.client.call_tool("add", {"a": 2, "b": 3})), "5")

    async def deploy(self, service: str, version: str) -> None:
        """A stream: progress at every step, a log message at each end, and then the answer."""
        logged_before, heard = len(self.log.lines), ProgressHeard()
        result = await self.client.call_tool(
            "deploy", {"service": service, "version": version}, progress_callback=heard
        )
        steps = [(done, len(DEPLOY_STEPS), step) for done, step in enumerate(DEPLOY_STEPS, start=1)]
        expect("tools/call deploy", text_of(result), f"{service} {version} is live")
        expect("tools/call deploy, progress", heard.steps, steps)
        expect("tools/call deploy, log messages", len(self.log.lines) - logged_before, 2)
        expect("resources/read", await self.read(release_uri(service)), version)

    async def deploy_under_watch(self, service: str, version: str) -> None:
        """Two streams: the one of the call, and a subscription on which the change is announced."""
        uri = release_uri(service)
        async with self.client.listen(resource_subscriptions=[uri]) as news:
            await self.deploy(service, version)
            expect("subscriptions/listen", await anext(news), ResourceUpdated(uri))

    async def call_two_at_once(self) -> None:
        """A slow stream and a quick call side by side: the quick one must not wait."""
        finished: list[str] = []

        async def call(tool: str, arguments: dict[str, Any]) -> None:
            await self.client.call_tool(tool, arguments, progress_callback=ProgressHeard())
            finished.append(tool)

        async with anyio.create_task_group() as calls:
            calls.start_soon(call, "countdown", {"start": 3})
            calls.start_soon(call, "echo", {"text": "me first"})
        expect("two calls at once, by the order they finish", finished, ["echo", "countdown"])

    async def fail(self) -> None:
        """The two ways to fail: a tool that says so in its result, and an error of the protocol."""
        result = await self.client.call_tool("rollback", {"service": "api"})
        expect("tools/call rollback", result.is_error, True)
        try:
            await self.client.read_resource(release_uri("nowhere"))
        except MCPError as error:
            expect("resources/read release://nowhere", error.code, -32602)
        else:
            raise WrongAnswerError("resources/read release://nowhere: an error was expected")

    async def read(self, uri: str) -> str:
        contents = (await self.client.read_resource(uri)).contents
        return "".join(getattr(content, "text", "") for content in contents)


async def converse(url: str, mode: Mode) -> None:
    """Hold one conversation. Raises `WrongAnswerError`, or what the SDK raises when the connection fails."""
    log = LogHeard()
    client = Client(
        url,
        mode=mode,
        log_level="info",
        logging_callback=log,
        client_info=Implementation(name="shadowcat-demo", version="1.0.0"),
        read_timeout_seconds=CALL_TIMEOUT_S,
    )
    async with client:
        expect("the protocol's era is modern", is_modern(client), mode == "auto")
        await Conversation(client, log).hold()


def is_modern(client: Client) -> bool:
    """Versions are dates; 2026-07-28 is the first without sessions."""
    return client.protocol_version >= "2026-07-28"


def innermost(error: BaseException) -> BaseException:
    """The error that task groups wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main(arguments: list[str] | None = None) -> int:
    """Drive the conversations; `arguments` are the command line's, without the program. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shadowcat_core.demo.client", description="Drive the release desk.")
    parser.add_argument("url", help="the server's URL, or a proxy's in front of it")
    options = parser.parse_args(arguments)
    for mode in MODES:
        try:
            anyio.run(converse, options.url, mode)
        except Exception as error:  # noqa: BLE001 - whatever broke the session is the message
            cause = innermost(error)
            print(f"{mode} session: {type(cause).__name__}: {cause}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
