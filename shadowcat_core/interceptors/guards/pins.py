"""Remembers what tools looked like: hashes of their definitions by server and name, as one JSON document.

A definition is what a model is shown and a client checks calls by. Each of its members has a hash of its own, so a
difference can be named without keeping the definition. No I/O: whoever owns the file reads and writes it.
"""

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shadowcat_core.errors import PinsError
from shadowcat_core.jsonrpc import Json
from shadowcat_core.limits import MAX_PINNED_TOOLS

MEMBERS: Final = ("title", "description", "inputSchema", "outputSchema", "annotations")
MAX_NAME_CHARS: Final = 256  # MCP recommends 128 at most

type Digests = dict[str, Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]]
"""SHA-256 of the canonical JSON of each member that a definition has, in hex."""


class Pin(BaseModel):
    """One tool: the definition that is `pinned`, and what was `found` in its place and is not accepted."""

    model_config = ConfigDict(extra="forbid")

    pinned: Digests | None = None
    found: Digests | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    servers: dict[str, dict[str, Pin]] = Field(default_factory=dict)


class Pins:
    """The pins of all servers. Mutable; for one thread."""

    def __init__(self, servers: dict[str, dict[str, Pin]] | None = None, *, max_tools: int = MAX_PINNED_TOOLS) -> None:
        self._servers = {} if servers is None else servers
        self._max_tools = int(max_tools)
        self._count = sum(map(len, self._servers.values()))

    @classmethod
    def parse(cls, raw: bytes) -> "Pins":
        """Read a document of pins.

        Raises:
            PinsError: it is none; the message says where.
        """
        try:
            return cls(_File.model_validate_json(raw).servers)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise PinsError(f"no file of pins: {f'{place}: ' if place else ''}{first['msg']}") from exc

    def dump(self) -> bytes:
        """Write the document: sorted and indented, to be reviewed and compared by people."""
        servers = {
            server: {name: pin.model_dump(exclude_none=True) for name, pin in tools.items()}
            for server, tools in self._servers.items()
        }
        return json.dumps({"version": 1, "servers": servers}, indent=1, sort_keys=True).encode("ascii") + b"\n"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, str, Pin]]:
        """Server, tool and pin of each, sorted."""
        for server, tools in sorted(self._servers.items()):
            for name, pin in sorted(tools.items()):
                yield server, name, pin

    def get(self, server: str, tool: str) -> Pin | None:
        """The pin of a tool, None when it was never seen."""
        return self._servers.get(server, {}).get(tool)

    def knows(self, server: str) -> bool:
        """Whether any tool of a server is pinned."""
        return any(pin.pinned is not None for pin in self._servers.get(server, {}).values())

    def add(self, server: str, tool: str) -> Pin | None:
        """The pin of a tool, an empty one when it was never seen; None when there is no room for another."""
        pin = self.get(server, tool)
        if pin is None and self._count < self._max_tools:
            pin = self._servers.setdefault(server, {})[tool] = Pin()
            self._count += 1
        return pin

    def accept(self, server: str, tool: str) -> list[str]:
        """Pin what was found, of one tool of a server or of all (`*`), and give the names of those that changed."""
        accepted = []
        for name, pin in self._servers.get(server, {}).items():
            if pin.found is not None and tool in ("*", name):
                pin.pinned, pin.found = pin.found, None
                accepted.append(name)
        return accepted

    def departures(self) -> Iterator[tuple[str, str, str]]:
        """Server, name and difference of each tool that is not as pinned."""
        return (
            (server, name, difference(pin.pinned, pin.found)) for server, name, pin in self if pin.found is not None
        )

    def summary(self) -> dict[str, Counter[str]]:
        """How many tools of each server are `pinned`, `changed` and `new`."""
        counts: dict[str, Counter[str]] = {}
        for server, _, pin in self:
            state = "pinned" if pin.found is None else "new" if pin.pinned is None else "changed"
            counts.setdefault(server, Counter())[state] += 1
        return counts


def digests_of(tool: dict[str, Json]) -> Digests:
    """Hash a definition. The order of members and the spelling of JSON make no difference; null is absent."""
    return {
        member: sha256(json.dumps(tool[member], sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
        for member in MEMBERS
        if tool.get(member) is not None
    }


def difference(pinned: Digests | None, found: Digests) -> str:
    """Say in a few words how a definition differs from the pinned one; empty when it does not."""
    if pinned is None:
        return "not pinned"
    words = {
        "changed": [name for name in MEMBERS if name in pinned and name in found and pinned[name] != found[name]],
        "added": [name for name in MEMBERS if name in found and name not in pinned],
        "removed": [name for name in MEMBERS if name in pinned and name not in found],
    }
    return "; ".join(f"{', '.join(names)} {verb}" for verb, names in words.items() if names)


def is_pinnable(name: str) -> bool:
    """Whether a tool of this name can be pinned: not empty, not endless, and text that can be written to a file."""
    if not 0 < len(name) <= MAX_NAME_CHARS:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in name)
