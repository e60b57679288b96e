"""Where a server is: its URL in parts, and what becomes of a request's path on the way there. Source: RFC 3986."""

import re
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|[0-9A-Fa-f:.]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's URL. `host` has no brackets; `path` is empty when the URL has none, or `/` alone."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take a URL apart.

        Raises:
            ValueError: no http or https URL; or it has a user, a query or a fragment, which a request brings itself.
        """
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError("a URL has no user or password here; give the header Authorization")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError(f"{url!r} is no URL: visible ASCII characters only")
        parts = urlsplit(url)
        scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
        host = parts.hostname
        if parts.scheme != scheme or not host:
            raise ValueError(f"{url!r} is no URL of a server: http://host:port/path")
        if "?" in url or "#" in url:
            raise ValueError(f"{url!r} has a query or a fragment: they are the requests' own")
        if _HOST.fullmatch(host) is None:
            raise ValueError(f"{host!r} is no host")
        try:
            port = parts.port
        except ValueError as exc:
            raise ValueError(f"{url!r} has no port from 1 to 65535") from exc
        if port == 0:
            raise ValueError(f"{url!r} has no port from 1 to 65535")
        return cls(scheme, host, port or _DEFAULT_PORTS[scheme], "" if parts.path == "/" else parts.path)

    @property
    def authority(self) -> str:
        """What the `Host` header says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def target(self, prefix: str, asked: str) -> str:
        """Tell the path, with its query, that a request for `asked` has at the server.

        The URL's path takes the place of the route's prefix; a URL without one leaves the path as it was asked.
        """
        if not self.path:
            return asked
        way = prefix.rstrip("/")
        rest = asked[len(way) :]
        if not way and rest.partition("?")[0] == "/":
            rest = rest[1:]  # the slash is the prefix itself
        return (self.path.rstrip("/") if rest.startswith("/") else self.path) + rest
