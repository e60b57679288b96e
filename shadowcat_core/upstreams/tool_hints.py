"""What servers say of their tools that matters when a call may have run: `readOnlyHint` and `idempotentHint`.

They are a server's word about itself, and untrusted: nothing but repeating a call depends on them here, and only where
a configuration trusts them. Source: MCP, schema.ts, ToolAnnotations.
"""

from dataclasses import dataclass
from typing import Final

from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import MAX_HINTED_TOOLS


@dataclass(frozen=True, slots=True)
class ToolHints:
    """A tool's annotations, as far as it has them. Nothing said counts as False, as the specification has it."""

    read_only: bool = False
    idempotent: bool = False

    @classmethod
    def of(cls, tool: Json) -> "ToolHints":
        """Read them from one element of a `tools/list` result; what is no boolean says nothing."""
        annotations = tool.get("annotations") if isinstance(tool, dict) else None
        if not isinstance(annotations, dict):
            return NO_HINTS
        return cls(annotations.get("readOnlyHint") is True, annotations.get("idempotentHint") is True)


NO_HINTS: Final = ToolHints()


class HintBook:
    """The hints of a route's tools, learned from the listings that pass. Bounded by `limits.MAX_HINTED_TOOLS`."""

    def __init__(self, *, max_tools: int = MAX_HINTED_TOOLS) -> None:
        self._hints: dict[str, ToolHints] = {}
        self._max_tools = max_tools

    def __len__(self) -> int:
        return len(self._hints)

    def learn(self, result: Json) -> None:
        """Read a page of a `tools/list` result; what it says of a tool takes the place of what was said before."""
        tools = result.get("tools") if isinstance(result, dict) else None
        for tool in tools if isinstance(tools, list) else ():
            name = tool.get("name") if isinstance(tool, dict) else None
            if not isinstance(name, str):
                continue
            hints = ToolHints.of(tool)
            self._hints.pop(name, None)
            if hints != NO_HINTS:
                self._hints[name] = hints
                if len(self._hints) > self._max_tools:
                    del self._hints[next(iter(self._hints))]

    def of(self, tool: str | None) -> ToolHints:
        """What was said of a tool."""
        return NO_HINTS if tool is None else self._hints.get(tool, NO_HINTS)
