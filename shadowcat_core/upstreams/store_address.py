"""Where sessions are kept: `memory`, `sqlite:PATH`, or the URL of a Redis."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self
from urllib.parse import urlsplit

_REDIS_SCHEMES: Final = ("redis", "rediss", "unix")


class StoreKind(StrEnum):
    """Which store."""

    MEMORY = "memory"
    SQLITE = "sqlite"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store, and its `location`: a path, a URL, or nothing in memory."""

    kind: StoreKind
    location: str = field(default="", repr=False)  # a URL may hold a password

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            ValueError: it is none of the three.
        """
        if text == "memory":
            return cls(StoreKind.MEMORY)
        scheme, _, rest = text.partition(":")
        if scheme == "sqlite" and rest:
            return cls(StoreKind.SQLITE, rest)
        if scheme in _REDIS_SCHEMES:
            parts = urlsplit(text)
            if parts.hostname or (scheme == "unix" and parts.path):
                return cls(StoreKind.REDIS, text)
        # What was given is not repeated: it may hold a password.
        raise ValueError("no address of a store; allowed: memory, sqlite:PATH, redis://HOST:PORT/DB (rediss, unix)")
