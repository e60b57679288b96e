"""A session of the official SDK's client, the same for both of its lines: prints what it saw as one JSON object.

Run by whichever Python has `mcp` installed. The proxy, if any, comes from HTTP_PROXY and HTTPS_PROXY, the trusted
authority from SSL_CERT_FILE, as with any client.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from mcp import ClientSession, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

try:
    from mcp import Client

    LINE = 2
except ImportError:
    Client = None
    LINE = 1

LOG_MESSAGES = 5
STEPS = 4

type Report = dict[str, Any]


class Heard:
    """What the server said unasked."""

    def __init__(self) -> None:
        self.logs: list[str] = []
        self.asked: list[str] = []
        self.tools_changed = asyncio.Event()

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logs.append(str(params.data))

    async def elicit(self, _: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        wanted = (params.model_dump(by_alias=True).get("requestedSchema") or {}).get("properties", {})
        content = {"colour": "blue"} if "colour" in wanted else {"name": "Ann"}
        return types.ElicitResult(action="accept", content=content)

    async def sample(self, _: object, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.asked.append("sampling")
        text = types.TextContent(type="text", text="a sampled answer")
        return types.CreateMessageResult(role="assistant", content=text, model="none")

    async def message(self, message: object) -> None:
        if isinstance(getattr(message, "root", message), types.ToolListChangedNotification):
            self.tools_changed.set()

    def callbacks(self) -> dict[str, Any]:
        return {
            "logging_callback": self.log,
            "elicitation_callback": self.elicit,
            "sampling_callback": self.sample,
            "message_handler": self.message,
        }


@contextlib.asynccontextmanager
async def connected(url: str, transport: str, mode: str, heard: Heard) -> AsyncIterator[tuple[Any, str]]:
    """A session and the protocol version it agreed on."""
    if LINE == 2:
        server = sse_client(url) if transport == "sse" else url
        async with Client(server, mode=mode, log_level="info", **heard.callbacks()) as client:
            yield client, client.protocol_version
        return
    connecting = sse_client(url) if transport == "sse" else streamable_http_client(url)
    async with connecting as streams, ClientSession(*streams[:2], **heard.callbacks()) as session:
        yield session, (await session.initialize()).protocolVersion


def plain(model: Any) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def text(result: Any) -> str:
    return " ".join(block.text for block in result.content if block.type == "text")


async def listings(session: Any) -> Report:
    return {
        "tools": plain(await session.list_tools())["tools"],
        "resources": plain(await session.list_resources())["resources"],
        "templates": plain(await session.list_resource_templates())["resourceTemplates"],
        "prompts": plain(await session.list_prompts())["prompts"],
    }


async def gated_progress(session: Any) -> list[list[Any]]:
    """Call `steps`; every progress notification is confirmed by a call of `seen` while `steps` still runs."""
    arrived: asyncio.Queue[int] = asyncio.Queue()
    progress: list[list[Any]] = []
    call = f"call-{time.monotonic_ns()}"

    async def on_progress(step: float, total: float | None, message: str | None) -> None:
        progress.append([step, total, message])
        arrived.put_nowait(int(step))

    async def confirm() -> None:
        for _ in range(STEPS):
            await session.call_tool("seen", {"call": call, "step": await arrived.get()})

    async with asyncio.TaskGroup() as group:
        group.create_task(confirm())
        result = await session.call_tool("steps", {"call": call, "count": STEPS}, progress_callback=on_progress)
    progress.append([text(result)])
    return progress


async def hear_of_change(session: Any, version: str, heard: Heard) -> bool:
    """Have the server announce a changed list of tools, and hear it on the stream made for that."""
    if version >= "2026":
        async with session.listen(tools_list_changed=True) as subscription:
            await session.call_tool("grow", {})
            await anext(aiter(subscription))
        return True
    while not heard.tools_changed.is_set():
        # The stream the client opens for such news races with its calls: what came before it is lost, so ask again.
        await session.call_tool("grow", {})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await heard.tools_changed.wait()
    return True


async def official(session: Any, version: str, heard: Heard) -> Report:
    """The conversation with tests/e2e/servers/official.py."""
    failing = await session.call_tool("fail", {"reason": "asked to"})
    return await listings(session) | {
        "echo": plain(await session.call_tool("echo", {"text": "→ ä 🐈\n" * 3}))["content"],
        "add": plain(await session.call_tool("add", {"a": 2, "b": 3}))["structuredContent"],
        "fail": [plain(failing)["isError"], text(failing)],
        "leaflet": plain(await session.read_resource("text://leaflet"))["contents"],
        "page": plain(await session.read_resource("text://page/7"))["contents"],
        "greeting": plain(await session.get_prompt("greeting", {"name": "Ann"}))["messages"],
        "big": len(text(await session.call_tool("echo", {"text": "x" * 300_000}))),
    }


async def streaming(session: Any, version: str, heard: Heard) -> Report:
    """What needs a stream: progress, logs, questions to the client, news."""
    said = text(await session.call_tool("chatter", {"count": LOG_MESSAGES}))
    return {
        "progress": await gated_progress(session),
        "chatter": [said, *heard.logs],
        "favourite": [text(await session.call_tool("favourite", {})), *heard.asked],
        "heard of change": await hear_of_change(session, version, heard),
    }


async def everything(session: Any, version: str, heard: Heard) -> Report:
    """The conversation with npm's server-everything."""
    progress: list[float] = []

    async def on_progress(step: float, total: float | None, message: str | None) -> None:
        progress.append(step)

    long = {"duration": 0.4, "steps": STEPS}
    resources = await session.list_resources()
    return await listings(session) | {
        "echo": text(await session.call_tool("echo", {"message": "→ ä 🐈"})),
        "sum": text(await session.call_tool("get-sum", {"a": 2, "b": 3})),
        "image": plain(await session.call_tool("get-tiny-image", {}))["content"],
        "long": text(await session.call_tool("trigger-long-running-operation", long, progress_callback=on_progress)),
        "progress": progress,
        "sampled": text(await session.call_tool("trigger-sampling-request", {"prompt": "p", "maxTokens": 9})),
        "elicited": text(await session.call_tool("trigger-elicitation-request", {})),
        "asked": heard.asked,
        "resource": plain(await session.read_resource(resources.resources[0].uri))["contents"],
        "prompt": plain(await session.get_prompt("simple-prompt"))["messages"],
    }


async def brief(session: Any, version: str, heard: Heard) -> Report:
    """One call."""
    return {"echo": text(await session.call_tool("echo", {"text": "hi"}))}


type Conversation = Callable[[Any, str, Heard], Awaitable[Report]]
CONVERSATIONS: dict[str, Conversation] = {
    "official": official,
    "streaming": streaming,
    "everything": everything,
    "brief": brief,
}


async def hold(asked: argparse.Namespace) -> Report:
    heard = Heard()
    report: Report = {}
    async with (
        asyncio.timeout(asked.within_s),
        connected(asked.url, asked.transport, asked.mode, heard) as (session, version),
    ):
        report["version"] = version
        for name in asked.conversation:
            report |= await CONVERSATIONS[name](session, version, heard)
    return report


def innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--transport", choices=["http", "sse"], default="http")
    parser.add_argument("--mode", default="auto", help="how a 2.x client negotiates: auto, legacy or a version")
    parser.add_argument("--conversation", action="append", choices=CONVERSATIONS, default=[])
    parser.add_argument("--within-s", type=float, default=30.0, help="how long the whole session may take")
    asked = parser.parse_args()
    try:
        report = asyncio.run(hold(asked))
    except Exception as error:  # noqa: BLE001 -- whatever ended the session is this program's answer
        cause = innermost(error)
        report = {"error": {"type": type(cause).__name__, "message": str(cause)}}
    json.dump(report, sys.stdout)
    return 1 if "error" in report else 0


if __name__ == "__main__":
    sys.exit(main())
