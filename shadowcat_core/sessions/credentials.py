"""Bind a session to who began it, without keeping a token. No I/O.

A session id is a bearer secret; with the binding it is worth nothing without the Authorization it began with.
Source: MCP 2025-11-25, Basic / Security Best Practices / Session Hijacking.
"""

import hmac
from enum import Enum, auto
from hashlib import sha256
from typing import Final

from shadowcat_core.sessions.access_tokens import holder_of

_MIN_KEY_BYTES: Final = 16


class Likeness(Enum):
    """What a request's Authorization has in common with the one that a session is bound to.

    RENEWED is a claim and no proof: another token that names the same holder. Anybody can write one; whether its
    signature is right only the server knows (`vouching`).
    """

    SAME = auto()
    RENEWED = auto()
    OTHER = auto()


class CredentialBinder:
    """Makes keyed hashes of Authorization headers. Proxies that share sessions need the same `key`.

    Whoever has both the store and the key can check a guessed token, so the key is not kept in the store.
    """

    __slots__ = ("_holder_key", "_key")

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_KEY_BYTES:
            raise ValueError(f"a key of at least {_MIN_KEY_BYTES} bytes, please: this one has {len(key)}")
        self._key = key
        self._holder_key = hmac.digest(key, b"holder", "sha256")  # what is a holder's hash is no header's

    def bind(self, authorization: str | None) -> str:
        """Make the hash of a header's value, as 64 hexadecimal digits; empty when there is no header.

        If the header is a token that names its holder, a dot follows and the holder's hash, likewise.
        """
        if authorization is None:
            return ""
        holder = self._hash_holder(authorization)
        return self._hash(authorization) + (f".{holder}" if holder else "")

    def matches(self, credential: str, authorization: str | None) -> bool:
        """True when the header is the one that the session is bound to; takes the same time whatever differs."""
        bound, _, _ = credential.partition(".")
        return hmac.compare_digest(bound.encode(), self._hash(authorization).encode())

    def compare(self, credential: str, authorization: str | None) -> Likeness:
        """Tell how like a header is to the one that the session is bound to."""
        if self.matches(credential, authorization):
            return Likeness.SAME
        _, _, bound = credential.partition(".")
        if not bound or authorization is None:
            return Likeness.OTHER
        holder = self._hash_holder(authorization)
        return Likeness.RENEWED if holder and hmac.compare_digest(bound.encode(), holder.encode()) else Likeness.OTHER

    def _hash(self, authorization: str | None) -> str:
        if authorization is None:
            return ""
        return hmac.new(self._key, authorization.encode("utf-8", "surrogateescape"), sha256).hexdigest()

    def _hash_holder(self, authorization: str) -> str:
        """The hash of whom a token names; empty when it names nobody."""
        holder = holder_of(authorization)
        return "" if holder is None else hmac.new(self._holder_key, holder, sha256).hexdigest()
