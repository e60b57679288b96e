"""Notices when a server's tools are not what they were: the "rug pull" of tools that change once they are trusted.

Definitions are compared with their pins wherever a server lists its tools, on every page, whatever made the client
ask again (`notifications/tools/list_changed`, an expired cache, a new session).
"""

from collections.abc import Callable
from typing import Final

from shadowcat_core.interceptors.guards.pins import Pins, difference, digests_of, is_pinnable
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
from shadowcat_core.limits import MAX_LEARNING_PAGES
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, MessageContext
from shadowcat_core.transcript import shortened

_LISTS: Final = (b"tools",)
_NAMELESS: Final = "(without a usable name)"
ACCEPT: Final = "shadowcat.pins.accept"


class Drift:
    """Compares tools with their pins, and pins those of servers that it meets for the first time.

    The first time is one listing, all its pages included. With `locked` nothing is pinned but by `Pins.accept`.
    """

    def __init__(
        self,
        pins: Pins,
        *,
        locked: bool = False,
        on_change: Callable[[], None] = lambda: None,
        on_drift: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make a comparison.

        Args:
            pins: is read and changed.
            locked: report the tools of unknown servers in the place of pinning them.
            on_change: the pins are to be written.
            on_drift: is told of each difference once, in words.
        """
        self.pins = pins
        self.locked = locked
        self._on_change = on_change
        self._on_drift = on_drift
        self._pages: dict[str, set[str]] = {}  # cursors to more pages of a server's first listing

    def compare(self, server: str, tools: list[Json], cursor: Json, next_cursor: Json) -> dict[str, str]:
        """Compare one page of a listing with the pins: names of the tools that differ, and how.

        `cursor` is what the page was asked for with, `next_cursor` what leads to the next one; None where there is
        none.
        """
        knows, pages = self.pins.knows(server), self._pages.get(server)
        learns = not self.locked and (
            cursor in pages if pages and isinstance(cursor, str) else not knows and not cursor
        )
        before = self._state(server, tools)
        departures: dict[str, str] = {}
        for tool in tools:
            name = tool_name(tool)
            if name is None or not is_pinnable(name) or not isinstance(tool, dict):
                departures[name or _NAMELESS] = "cannot be pinned: it has no usable name"
            elif departure := self._departure(server, name, tool, learns=learns):
                departures[name] = departure
        for name in map(tool_name, tools):
            pin = None if name is None or name in departures else self.pins.get(server, name)
            if pin is not None:
                pin.found = None
        self._follow(server, next_cursor, learns=learns, agrees=not departures)
        self._tell(server, tools, before, departures)
        return departures

    def refusal(self, server: str, tool: str | None) -> str | None:
        """Why a tool must not be called; None when it may."""
        pin = None if tool is None else self.pins.get(server, tool)
        if pin is not None and pin.found is not None:
            departure = difference(pin.pinned, pin.found)
            return f"the definition of the tool {shortened(tool or '')} is not the accepted one: {departure}"
        if tool is not None and not is_pinnable(tool):
            return f"the tool {shortened(tool)} cannot be pinned"
        if self.locked and (pin is None or pin.pinned is None):
            return f"the tool {shortened(tool or _NAMELESS)} is not pinned"
        return None

    def _departure(self, server: str, name: str, tool: dict[str, Json], *, learns: bool) -> str:
        """How a tool differs from its pin, empty if it does not; it is pinned, or what was found is kept."""
        found, pin = digests_of(tool), self.pins.add(server, name)
        if pin is None:
            return "not pinned, and there is no room for more pins"
        if pin.pinned is None and learns:
            pin.pinned = found
        departure = difference(pin.pinned, found)
        if departure:
            pin.found = found
        return departure

    def _follow(self, server: str, next_cursor: Json, *, learns: bool, agrees: bool) -> None:
        """Keep track of what belongs to a server's first listing, which several clients may ask for at a time."""
        pages = self._pages.get(server)
        if learns and not isinstance(next_cursor, str):
            self._pages.pop(server, None)
        elif isinstance(next_cursor, str) and (learns or (pages is not None and agrees)):
            pages = self._pages.setdefault(server, set())
            pages.add(next_cursor)
            if len(pages) > MAX_LEARNING_PAGES:
                del self._pages[server]

    def _state(self, server: str, tools: list[Json]) -> dict[str, tuple[object, object]]:
        pins = {name: self.pins.get(server, name) for name in map(tool_name, tools) if name is not None}
        return {name: (pin.pinned, pin.found) for name, pin in pins.items() if pin is not None}

    def _tell(
        self,
        server: str,
        tools: list[Json],
        before: dict[str, tuple[object, object]],
        departures: dict[str, str],
    ) -> None:
        after = self._state(server, tools)
        if after != before:
            self._on_change()
        for name, departure in departures.items():
            if name not in after or after[name] != before.get(name):
                self._on_drift(f"tool {shortened(name)} of {shortened(server)}: {departure}")


class WatchToolLists:
    """Takes tools out of the answers to `tools/list` whose definitions are not the pinned ones."""

    direction = Direction.SERVER_TO_CLIENT

    def __init__(self, drift: Drift) -> None:
        self._drift = drift

    def intercept(self, message: Message) -> Verdict:
        """Judge one message of a server."""
        if not may_mention(message.raw, _LISTS):
            return Continue()
        payload = read_object(message)
        tools = None if payload is None else listed_tools(message, payload)
        if payload is None or tools is None:
            return Continue()
        result = payload["result"]
        next_cursor = result.get("nextCursor") if isinstance(result, dict) else None
        departures = self._drift.compare(_server(message.context), tools, _cursor(message.request), next_cursor)
        if not departures:
            return Continue()
        kept = [tool for tool in tools if (tool_name(tool) or _NAMELESS) not in departures]
        return Modify(
            with_tools(payload, kept), f"not as pinned: {named([f'{n} ({d})' for n, d in departures.items()])}"
        )


class RefuseDrifted:
    """Answers calls of tools whose definitions are not the pinned ones with an error, until they are accepted."""

    methods = frozenset({TOOLS_CALL})
    direction = Direction.CLIENT_TO_SERVER

    def __init__(self, drift: Drift) -> None:
        self._drift = drift

    def intercept(self, message: Message) -> Verdict:
        """Judge one call."""
        why = self._drift.refusal(_server(message.context), message.target)
        return Continue() if why is None else Block(f"{why} (to accept it: {ACCEPT})", data={"tool": message.target})


def _server(context: MessageContext) -> str:
    # A URL may hold bytes that are no text, which no file of JSON can.
    return (context.server or "(unknown)").encode("utf-8", "backslashreplace").decode()


def _cursor(request: Message | None) -> Json:
    payload = None if request is None or not request.is_json else request.payload
    params = payload.get("params") if isinstance(payload, dict) else None
    return params.get("cursor") if isinstance(params, dict) else None
