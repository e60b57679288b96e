"""Access tokens for tests: JWTs of any content, signed with a key or forged."""

import base64
import hmac
import json
from hashlib import sha256

SIGNING_KEY = b"of the authorization server"


def part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def jwt(claims, key=SIGNING_KEY) -> str:
    """Sign claims, which may also be bytes that are none."""
    raw = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{part(b'{"alg":"HS256","typ":"at+jwt"}')}.{part(raw)}"
    return f"{signed}.{part(hmac.digest(key, signed.encode(), sha256))}"


def token_of(sub="alice", *, key=SIGNING_KEY, **claims) -> str:
    """An Authorization header with a token of somebody; `n` tells one from the next."""
    return f"Bearer {jwt({'iss': 'https://as.example', 'sub': sub, 'client_id': 'app', **claims}, key)}"


def forged(sub="alice", **claims) -> str:
    """The same, written by somebody who has not the key."""
    return token_of(sub, key=b"of a thief", **claims)


def is_genuine(authorization: str | None) -> bool:
    """What a server finds that verifies tokens."""
    signed, _, signature = (authorization or "").removeprefix("Bearer ").rpartition(".")
    return signature == part(hmac.digest(SIGNING_KEY, signed.encode(), sha256))
