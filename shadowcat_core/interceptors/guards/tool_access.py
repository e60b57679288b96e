"""Lets clients see and call only the tools that somebody allowed."""

import re
from collections.abc import Collection
from fnmatch import translate
from typing import Final

from shadowcat_core.interceptors.guards.reading import (
    TOOLS_CALL,
    listed_tools,
    may_mention,
    named,
    read_object,
    tool_name,
    with_tools,
)
from shadowcat_core.interceptors.verdicts import Block, Continue, Modify, Verdict
from shadowcat_core.jsonrpc import Json
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message
from shadowcat_core.transcript import shortened

_LISTS: Final = (b"tools",)


class ToolPolicy:
    """Which tools are allowed: globs (`*`, `?`, `[abc]`) that heed case and cover the whole name. Denying wins."""

    def __init__(self, allow: Collection[str] = (), deny: Collection[str] = ()) -> None:
        """Make a policy; without `allow`, everything is allowed that is not denied.

        Raises:
            ValueError: a glob is empty.
        """
        self._allow = _matcher(allow) if allow else None
        self._deny = _matcher(deny) if deny else None

    def allows(self, tool: str) -> bool:
        """Whether a tool of this name may be seen and called."""
        if self._deny is not None and self._deny.match(tool):
            return False
        return self._allow is None or self._allow.match(tool) is not None


class RefuseCalls:
    """Answers calls of tools that are not allowed with an error; the server never sees them.

    A call that names no tool cannot be told from one that is denied, and is refused too.
    """

    methods = frozenset({TOOLS_CALL})
    direction = Direction.CLIENT_TO_SERVER

    def __init__(self, policy: ToolPolicy) -> None:
        self._policy = policy

    def intercept(self, message: Message) -> Verdict:
        """Judge one call."""
        tool = message.target
        if tool is None:
            return Block("the call names no tool, so it cannot be told whether it is allowed")
        if self._policy.allows(tool):
            return Continue()
        return Block(f"the tool {shortened(tool)} is not allowed here", data={"tool": tool})


class HideTools:
    """Takes tools that are not allowed out of the answers to `tools/list`, page by page; cursors stay."""

    direction = Direction.SERVER_TO_CLIENT

    def __init__(self, policy: ToolPolicy) -> None:
        self._policy = policy

    def intercept(self, message: Message) -> Verdict:
        """Judge one message of a server."""
        if not may_mention(message.raw, _LISTS):
            return Continue()
        payload = read_object(message)
        tools = None if payload is None else listed_tools(message, payload)
        if payload is None or tools is None:
            return Continue()
        allowed = [tool for tool in tools if self._is_allowed(tool)]
        if len(allowed) == len(tools):
            return Continue()
        gone = [tool_name(tool) or "(without a name)" for tool in tools if not self._is_allowed(tool)]
        return Modify(with_tools(payload, allowed), f"not allowed, so not listed: {named(gone)}")

    def _is_allowed(self, tool: Json) -> bool:
        name = tool_name(tool)
        return name is not None and self._policy.allows(name)


def _matcher(globs: Collection[str]) -> re.Pattern[str]:
    if not all(globs):
        raise ValueError("an empty glob matches no tool")
    return re.compile("|".join(map(translate, globs)))
