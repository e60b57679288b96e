"""The HTTP headers of MCP: their names, the values that mirror a body, and media types.

A modern server refuses a request whose headers and body disagree, so whoever edits the body must edit them together.
Source: MCP 2026-07-28, transports, "Standard headers" (SEP-2243); RFC 9110, 5.5, 5.6.2 and 8.3.1.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from email.utils import collapse_rfc2231_value
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp.protocol import protocol_version, target

SESSION_ID_HEADER: Final = "Mcp-Session-Id"
PROTOCOL_VERSION_HEADER: Final = "MCP-Protocol-Version"
METHOD_HEADER: Final = "Mcp-Method"
NAME_HEADER: Final = "Mcp-Name"
PARAM_HEADER_PREFIX: Final = "Mcp-Param-"

_NAMED_IN_HEADER: Final = ("tools/call", "prompts/get", "resources/read")
_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_PLAIN: Final = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")  # visible ASCII, blanks only inside
_MAX_PARAMETER_CHARS: Final = 1_000  # reading parameters is quadratic, and no media type needs as many
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class HeaderLookup(Protocol):
    """Headers that find a value whatever the case of the name; a repeated header's values come joined by commas."""

    def get(self, name: str, /) -> str | None:
        """The value of a header, None when there is none."""
        ...


class HeaderFields:
    """The fields of a head, in bytes as they came, for many look-ups: each is one look into a dictionary."""

    __slots__ = ("_values",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, bytes] = {}
        for field, value in fields:
            name = field.lower()
            earlier = self._values.get(name)
            self._values[name] = value if earlier is None else earlier + b", " + value

    def get(self, name: str, /) -> str | None:
        """The value of a header, repeated ones joined by commas; None when there is none."""
        value = self._values.get(name.lower().encode())
        return None if value is None else value.decode("utf-8", "surrogateescape")


def encode_header_value(text: str) -> str:
    """Write a text as a header value: as it is when it survives there, else as `=?base64?…?=`."""
    if _PLAIN.fullmatch(text) and not _SENTINEL.fullmatch(text):
        return text
    # A lone surrogate has no UTF-8; what an endpoint would have to compare with is its replacement.
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}?="


def decode_header_value(value: str) -> str | None:
    """Read a header value back; None when it claims to be base64 and is not the base64 of UTF-8 text."""
    match = _SENTINEL.fullmatch(value)
    if match is None:
        return value
    try:
        data = base64.b64decode(match[1], validate=True)
        # Bits that base64 leaves over must be zero, or one text would have several spellings.
        return data.decode("utf-8") if base64.b64encode(data).decode("ascii") == match[1] else None
    except (binascii.Error, ValueError):
        return None


def mirrored_headers(payload: Json) -> dict[str, str]:
    """What the headers of a modern request must say about its body, `Mcp-Param-*` apart.

    An edited request needs every header given here, and none of `Mcp-Method` and `Mcp-Name` that is not.
    """
    if not isinstance(payload, dict) or not isinstance(method := payload.get("method"), str):
        return {}
    headers = {METHOD_HEADER: encode_header_value(method)}
    name = target(method, payload.get("params"))
    if name is not None and (method in _NAMED_IN_HEADER or method.startswith("tasks/")):
        headers[NAME_HEADER] = encode_header_value(name)
    version = protocol_version(payload)
    # A version is written as it is, unlike names; one that is none must not become further headers.
    if version is not None and method != "initialize" and _PLAIN.fullmatch(version):
        headers[PROTOCOL_VERSION_HEADER] = version
    return headers


def param_headers(arguments: Json, input_schema: Json) -> dict[str, str]:
    """The `Mcp-Param-*` headers of a `tools/call`, from its arguments and the tool's `inputSchema`.

    A parameter is mirrored when `x-mcp-header` stands on a string, integer or boolean that a chain of `properties`
    reaches; absent and null values are not.
    """
    headers: dict[str, str] = {}
    for path, name in _annotated(input_schema):
        value = arguments
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, bool):
            headers[PARAM_HEADER_PREFIX + name] = "true" if value else "false"
        elif isinstance(value, str | int):
            headers[PARAM_HEADER_PREFIX + name] = encode_header_value(str(value))
    return headers


def _annotated(schema: Json) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path of property names, header name) of every annotated property; no recursion, schemas are foreign."""
    pending: list[tuple[tuple[str, ...], Json]] = [((), schema)]
    while pending:
        path, node = pending.pop()
        properties = node.get("properties") if isinstance(node, dict) else None
        if not isinstance(properties, dict):
            continue
        for step, child in properties.items():
            pending.append(((*path, step), child))
            name = child.get("x-mcp-header") if isinstance(child, dict) else None
            if isinstance(name, str) and _TOKEN.fullmatch(name) and _is_mirrorable(child):
                yield (*path, step), name


def _is_mirrorable(schema: Json) -> bool:
    return isinstance(schema, dict) and schema.get("type") in ("string", "integer", "boolean")


@lru_cache(maxsize=256)  # a handful of values, each asked for several times an exchange; parsing one takes 5 µs
def media_type(value: str | None) -> tuple[str, Mapping[str, str]]:
    """Split a Content-Type into its type, lower-case, and its parameters; `("", {})` when there is none."""
    essence = (value or "").partition(";")[0].strip().lower()
    if value is None or ";" not in value or len(value) > _MAX_PARAMETER_CHARS:
        return essence, MappingProxyType({})
    header = Message()
    header["Content-Type"] = value
    try:
        _, *params = header.get_params(failobj=[("", "")])
        found = {name.lower(): collapse_rfc2231_value(held) for name, held in params}
    except (TypeError, ValueError):  # parameters that RFC 2231 does not allow; the type itself still counts
        return essence, MappingProxyType({})
    return essence, MappingProxyType(found)


def is_event_stream(content_type: str | None) -> bool:
    """True for `text/event-stream`, whatever its parameters."""
    return media_type(content_type)[0] == "text/event-stream"


def reads_as_event_stream(content_type: str | None) -> bool:
    """True for what clients of MCP take for an event stream: all that names it, as the SDKs do not parse the type."""
    return "text/event-stream" in (content_type or "").lower()


def reads_as_json(content_type: str | None) -> bool:
    """True for what clients of MCP take for JSON, likewise."""
    return "json" in (content_type or "").lower()


def is_json(content_type: str | None) -> bool:
    """True for `application/json` and for types with the suffix `+json`."""
    essence = media_type(content_type)[0]
    return essence == "application/json" or essence.endswith("+json")
