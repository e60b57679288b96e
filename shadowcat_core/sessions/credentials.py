"""Bind a session to who began it, without keeping a token. No I/O.

A session id is a bearer secret; with the binding it is worth nothing without the Authorization it began with.
Source: MCP 2025-11-25, Basic / Security Best Practices / Session Hijacking.
"""

import hmac
from hashlib import sha256
from typing import Final

_MIN_KEY_BYTES: Final = 16


class CredentialBinder:
    """Makes keyed hashes of Authorization headers. Proxies that share sessions need the same `key`.

    Whoever has both the store and the key can check a guessed token, so the key is not kept in the store.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_KEY_BYTES:
            raise ValueError(f"a key of at least {_MIN_KEY_BYTES} bytes, please: this one has {len(key)}")
        self._key = key

    def bind(self, authorization: str | None) -> str:
        """Make the hash of a header's value, as 64 hexadecimal digits; empty when there is no header."""
        if authorization is None:
            return ""
        return hmac.new(self._key, authorization.encode("utf-8", "surrogateescape"), sha256).hexdigest()

    def matches(self, credential: str, authorization: str | None) -> bool:
        """True when the header is the one that the session is bound to; takes the same time whatever differs."""
        return hmac.compare_digest(credential.encode(), self.bind(authorization).encode())
