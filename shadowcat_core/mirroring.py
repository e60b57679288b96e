"""Keeps the headers of an edited request true to its body.

A modern server refuses a request whose headers and body disagree (HeaderMismatch). Which parameters a header mirrors
stands in the tool's definition, so definitions are noted as they pass; where one was never seen, a header is taken to
mirror the argument that has its name or its value. No I/O.
Source: MCP 2026-07-28, transports, "Standard headers" (SEP-2243).
"""

from collections.abc import Iterator, Mapping

from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import MAX_MIRRORED_TOOLS
from shadowcat_core.mcp import (
    METHOD_HEADER,
    NAME_HEADER,
    PARAM_HEADER_PREFIX,
    encode_header_value,
    mirrored_headers,
    param_headers,
)

type Edits = Mapping[str, str | None]
"""Headers to set, and (None) to take away."""


class HeaderMirror:
    """Knows the tools whose parameters headers mirror, by server and name."""

    def __init__(self, max_tools: int = MAX_MIRRORED_TOOLS) -> None:
        self._schemas: dict[tuple[str | None, str], Json] = {}  # the oldest first
        self._max_tools = int(max_tools)

    def learn(self, server: str | None, tools_list_result: Json) -> None:
        """Take note of the tools that a server lists."""
        tools = tools_list_result.get("tools") if isinstance(tools_list_result, dict) else None
        for tool in tools if isinstance(tools, list) else ():
            name = tool.get("name") if isinstance(tool, dict) else None
            if not isinstance(tool, dict) or not isinstance(name, str):
                continue
            self._schemas.pop((server, name), None)
            schema = tool.get("inputSchema")
            if "x-mcp-header" in repr(schema):
                self._schemas[server, name] = schema
                while len(self._schemas) > self._max_tools:
                    del self._schemas[next(iter(self._schemas))]

    def edits(self, server: str | None, present: Mapping[str, str], before: Json, after: Json) -> Edits:
        """Tell what must change in a request's headers when its body did.

        Args:
            present: the headers there are, by their names in lower case.
            before: the payload that they were true to; None when that is not known.
            after: the payload that goes on.
        """
        if METHOD_HEADER.lower() not in present:
            return {}  # a client of the legacy era: its headers mirror nothing
        wanted: dict[str, str | None] = dict.fromkeys((METHOD_HEADER, NAME_HEADER))
        wanted |= mirrored_headers(after)
        params = {name: value for name, value in present.items() if name.startswith(PARAM_HEADER_PREFIX.lower())}
        wanted |= dict.fromkeys(params)
        name, arguments = _called(after)
        schema = self._schemas.get((server, name or ""))
        if schema is not None:
            found = {header.lower(): (header, value) for header, value in param_headers(arguments, schema).items()}
            wanted = {header: value for header, value in wanted.items() if header not in found} | dict(found.values())
        elif name is not None and name == _called(before)[0]:
            wanted |= _followed(params, _called(before)[1], arguments)
        return {header: value for header, value in wanted.items() if present.get(header.lower()) != value}


def _called(payload: Json) -> tuple[str | None, Json]:
    """The tool that a request calls, and the arguments."""
    params = payload.get("params") if isinstance(payload, dict) else None
    if not isinstance(params, dict) or not isinstance(payload, dict) or payload.get("method") != "tools/call":
        return None, None
    name = params.get("name")
    return (name if isinstance(name, str) else None), params.get("arguments")


def _followed(params: Mapping[str, str], before: Json, after: Json) -> dict[str, str | None]:
    """Let each header follow the argument that it mirrored: of several with its value, the one with its name."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    followed: dict[str, str | None] = {}
    for header, value in params.items():
        bare = _bare(header.removeprefix(PARAM_HEADER_PREFIX.lower()))
        paths = sorted((path for path in old if old[path] == value), key=lambda path: _bare(path[-1]) != bare)
        followed[header] = new.get(paths[0]) if paths else value
    return followed


def _bare(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _leaves(arguments: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield path and header value of all that a header could mirror. JSON is not deep here: parsing has a limit."""
    if isinstance(arguments, dict):
        for name, value in arguments.items():
            yield from _leaves(value, (*path, name))
    elif isinstance(arguments, bool):
        yield path, "true" if arguments else "false"
    elif isinstance(arguments, str | int) and path:
        yield path, encode_header_value(str(arguments))
