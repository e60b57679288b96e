"""Where something listens, as people write it."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""What a client on this machine dials to reach a wildcard."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host, empty for every interface, and a port. Port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`, `[V6]:PORT` or `PORT`, which means 127.0.0.1. Raises ValueError that says what is wrong."""
        parts = urlsplit(f"//{text}" if not text.isdigit() else f"//127.0.0.1:{text}")
        if parts.port is None or "@" in text or any(parts[2:]):
            raise ValueError("an address is HOST:PORT, such as 127.0.0.1:8080")
        return cls(parts.hostname or "", parts.port)

    def __str__(self) -> str:
        """Write it as `parse` reads it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """The origin that a client on this machine uses."""
        return f"http://{ListenAddress(_ANY.get(self.host, self.host), self.port)}"
