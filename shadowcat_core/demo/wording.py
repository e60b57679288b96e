"""What a message says, in a few words: the arguments of a request, the gist of an answer."""

import json
from collections.abc import Mapping
from typing import Any

type Payload = Mapping[str, Any]

LISTS = {
    "tools/list": ("tools", "tool"),
    "resources/list": ("resources", "resource"),
    "resources/templates/list": ("resourceTemplates", "template"),
    "prompts/list": ("prompts", "prompt"),
    "prompts/get": ("messages", "message"),
}


def is_failure(payload: Payload) -> bool:
    """Whether a message says that something went wrong: a protocol error, or a tool's own."""
    return "error" in payload or part(payload, "result").get("isError") is True


def gist(method: str, payload: Payload) -> str:
    """Say what a message is about in one line; `method` is the request's also when the message answers it."""
    if "error" in payload:
        error = part(payload, "error")
        return printable(f"{error.get('code', '')} {error.get('message', '')}")
    if "result" in payload:
        return printable(result_gist(method, part(payload, "result")))
    return printable(params_gist(method, part(payload, "params")))


def result_gist(method: str, result: Payload) -> str:
    if method in LISTS:
        key, noun = LISTS[method]
        count = len(items(result.get(key)))
        return f"{count} {noun}{'' if count == 1 else 's'}"
    match method:
        case "initialize":
            return named(part(result, "serverInfo"))
        case "server/discover":
            return f"speaks {', '.join(map(str, items(result.get('supportedVersions'))))}"
        case "tools/call":
            return texts(result.get("content"))
        case "resources/read":
            return texts(result.get("contents"))
        case _:
            return ""


def params_gist(method: str, params: Payload) -> str:
    match method:
        case "notifications/progress":
            done, total, message = params.get("progress"), params.get("total"), params.get("message")
            count = f"{done:g}" if isinstance(done, int | float) else ""
            count += f"/{total:g}" if isinstance(total, int | float) else ""
            return f"{count} {message or ''}"
        case "notifications/message":
            return f"{params.get('level')}: {params.get('data')}"
        case "notifications/resources/updated":
            return str(params.get("uri", ""))
        case "initialize":
            return named(part(params, "clientInfo"))
        case "tools/call" | "prompts/get":
            return json.dumps(params.get("arguments") or {}, ensure_ascii=False)
        case _:
            return ""


def part(payload: Payload, key: str) -> Payload:
    """The object under a key, empty when it is anything else: a peer may send what it likes."""
    value = payload.get(key)
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def named(implementation: Payload) -> str:
    return f"{implementation.get('name', '')} {implementation.get('version', '')}"


def texts(blocks: object) -> str:
    return " ".join(str(block["text"]) for block in items(blocks) if isinstance(block, Mapping) and "text" in block)


def printable(text: str) -> str:
    """One line without control characters: what a peer sends must not steer the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
