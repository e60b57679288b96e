"""Finds the route of a request: the most specific host, and there the longest prefix of whole path segments.

What it costs depends on the depth of the prefixes, never on how many routes there are.
"""

from collections.abc import Iterable, Iterator
from typing import Final

_SOME: Final = "*."


class Router[R]:
    """Routes by where they apply: a host, every host (None) or those under one (`*.…`), and there a prefix."""

    def __init__(self, routes: Iterable[tuple[str | None, str, R]]) -> None:
        self._by_host: dict[str | None, dict[str, R]] = {}
        for host, prefix, route in routes:
            self._by_host.setdefault(host, {})[prefix.rstrip("/")] = route
        self._depth = max((prefix.count("/") for prefixes in self._by_host.values() for prefix in prefixes), default=0)
        self._named = any(host is not None for host in self._by_host)
        self._labels = max((host.count(".") for host in self._by_host if host and host.startswith(_SOME)), default=0)

    def match(self, host: str | None, path: str) -> R | None:
        """Find the route for a request: its `Host`, with or without a port, and its path, with or without a query."""
        ways: list[str] | None = None
        for name in self._hosts(host) if self._named and host else (None,):
            prefixes = self._by_host.get(name)
            if prefixes is None:
                continue
            if ways is None:
                ways = self._prefixes(path)
            for way in ways:
                route = prefixes.get(way)
                if route is not None:
                    return route
        return None

    def _hosts(self, host: str) -> Iterator[str | None]:
        name = _without_port(host).lower().removesuffix(".")
        yield name
        labels = name.split(".")
        for left in range(max(1, len(labels) - self._labels), len(labels)):
            yield _SOME + ".".join(labels[left:])
        yield None

    def _prefixes(self, path: str) -> list[str]:
        """The prefixes of a path that a route may have, the longest first; the empty one is every path's."""
        segments = path.partition("?")[0].split("/", self._depth + 1)[: self._depth + 1]
        return ["/".join(segments[:count]) for count in range(len(segments), 0, -1)]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]
