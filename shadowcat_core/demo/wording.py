"""What a message says, in a few words: the arguments of a request, the gist of an answer."""

from collections.abc import Mapping

from shadowcat_core.jsonrpc import Json, Kind, dump
from shadowcat_core.messages import Message

type Fields = Mapping[str, Json]

LISTS = {
    "tools/list": ("tools", "tool"),
    "resources/list": ("resources", "resource"),
    "resources/templates/list": ("resourceTemplates", "template"),
    "prompts/list": ("prompts", "prompt"),
    "prompts/get": ("messages", "message"),
}


def gist(method: str, message: Message) -> str:
    """Say what a message is about in one line; `method` is the request's also when the message answers it."""
    if message.kind is Kind.INVALID:
        return printable(f"not JSON-RPC: {message.raw.decode(errors='replace')}")
    payload = message.payload if isinstance(message.payload, dict) else {}
    match message.kind:
        case Kind.ERROR:
            error = part(payload, "error")
            return printable(f"{error.get('code', '')} {error.get('message', '')}")
        case Kind.RESPONSE:
            return printable(result_gist(method, part(payload, "result")))
        case Kind.REQUEST | Kind.NOTIFICATION:
            return printable(params_gist(method, part(payload, "params")))


def result_gist(method: str, result: Fields) -> str:
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


def params_gist(method: str, params: Fields) -> str:
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
            return dump(params.get("arguments") or {}).decode()
        case _:
            return ""


def part(fields: Fields, key: str) -> Fields:
    """The object under a key, empty when it is anything else: a peer may send what it likes."""
    value = fields.get(key)
    return value if isinstance(value, Mapping) else {}


def items(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def named(implementation: Fields) -> str:
    return f"{implementation.get('name', '')} {implementation.get('version', '')}"


def texts(blocks: Json) -> str:
    return " ".join(str(block["text"]) for block in items(blocks) if isinstance(block, Mapping) and "text" in block)


def printable(text: str) -> str:
    """One line without control characters: what a peer sends must not steer the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
