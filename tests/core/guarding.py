"""What the tests of guards share: answers that know their request, and one message through a guard on any framing."""

import json
from dataclasses import replace
from typing import Any

from shadowcat_core.messages import Message, MessageBatch
from tests.core.interception import (
    FRAMINGS,
    TO_CLIENT,
    TO_SERVER,
    again,
    in_virtual_time,
    judged,
    payloads,
    pipeline_of,
)

SERVER = "http://127.0.0.1:3001/mcp"


def raw(payload: Any) -> bytes:
    """A message as servers write it, readable where it is not ASCII."""
    return payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()


def call(tool: Any = "echo", arguments: Any = None, **params: Any) -> dict:
    params = {"name": tool, "arguments": arguments or {}, **params}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


def answer(result: Any, request_id: Any = 7) -> dict:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def text(*texts: str) -> dict:
    """A tool's result."""
    return {"content": [{"type": "text", "text": each} for each in texts]}


def context_of(method: str | None, *, server: str | None = SERVER, **params: Any):
    """Where answers to a method come from; None: what they answer is not known."""
    if method is None:
        return replace(TO_CLIENT, server=server)
    request = Message(raw({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}), TO_SERVER)
    return replace(TO_CLIENT, server=server, request_of=lambda _: request)


ASKS = replace(TO_SERVER, server=SERVER)


def through(guard: Any, payload: Any, context: Any, framing: str = "body", **settings: Any) -> tuple[list, list]:
    """Send one message through a guard; gives what goes on and what its sender is answered, parsed."""

    async def run() -> tuple[list, list]:
        pipeline = pipeline_of(guard, **settings)
        batch: MessageBatch = FRAMINGS[framing]([raw(payload)], context)
        emitted = await judged(pipeline, batch)
        return payloads(again(framing, emitted, context)), [reply.payload for reply in batch.replies]

    return in_virtual_time(run())


def one(guard: Any, payload: Any, context: Any, framing: str = "body") -> Any:
    """The one message that goes on."""
    (passed,), _ = through(guard, payload, context, framing)
    return passed


def verdict(guard: Any, payload: Any, context: Any) -> Any:
    """What a guard says about one message."""
    return guard.intercept(Message(raw(payload), context))
