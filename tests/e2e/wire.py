"""What goes over the wire in these tests: MCP requests of both eras and event streams, as bytes."""

import json
from typing import Any, Literal

type Era = Literal["legacy", "modern"]

MODERN_VERSION = "2026-07-28"
LEGACY_VERSION = "2025-11-25"
ACCEPT = "application/json, text/event-stream"

# Every shape the framing knows: line ends of all three kinds, comments, ids, retry, several data lines, non-ASCII.
EVERY_SHAPE = (
    b"\xef\xbb\xbf: the mark before this comment belongs to the stream\n\n"
    b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress",'
    b'"params":{"progressToken":7,"progress":1}}\r\n\r\n'
    b"id: a-1\rdata:\r\r"
    b"retry: 1500\n\n"
    b'data: {"jsonrpc":"2.0",\ndata: "method":"notifications/message","params":{"level":"info","data":"\xe2\x86\x92"}}'
    b"\nid: a-2\n\n"
    b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"ok"}]}}\n\n'
    b"data: a block that is never finished"
)


def sse(message: object, *, event: str | None = "message", event_id: str | None = None) -> bytes:
    """One event as the SDKs write it."""
    lines = [f"event: {event}"] if event else []
    lines += [f"id: {event_id}"] if event_id else []
    lines += [f"data: {json.dumps(message, separators=(',', ':'), ensure_ascii=False)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def progress(step: int, *, token: int | str = 1, total: int | None = None) -> dict[str, Any]:
    params = {"progressToken": token, "progress": step} | ({"total": total} if total else {})
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


def result(message_id: int | str, **content: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "result": content or {"content": [], "resultType": "complete"}}


def request(
    method: str, params: dict[str, Any] | None = None, *, message_id: int | str = 1, era: Era = "modern"
) -> bytes:
    """A request's body. A modern one carries the `_meta` every modern request must have."""
    params = dict(params or {})
    if era == "modern":
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
        } | params.get("_meta", {})
    return json.dumps({"jsonrpc": "2.0", "id": message_id, "method": method, "params": params}).encode()


def notification(method: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method}).encode()


def headers(method: str, name: str | None = None, *, era: Era = "modern", session: str | None = None) -> dict[str, str]:
    """The headers a POST of this method carries."""
    common = {"Accept": ACCEPT, "Content-Type": "application/json"}
    if era == "modern":
        named = {"Mcp-Name": name} if name else {}
        return common | {"MCP-Protocol-Version": MODERN_VERSION, "Mcp-Method": method} | named
    return common | ({"MCP-Protocol-Version": LEGACY_VERSION, "Mcp-Session-Id": session} if session else {})


def tool_call(tool: str = "echo", *, message_id: int | str = 1, era: Era = "modern", **arguments: Any) -> bytes:
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": 1}}
    return request("tools/call", params, message_id=message_id, era=era)


CALL_HEADERS = headers("tools/call", "echo")
CALL = tool_call(text="hi")
