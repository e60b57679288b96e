"""Reads in an access token whom it names, as far as it says so itself. Nothing here is verified. No I/O.

A token's holder is who stays the same when the token is refreshed: `iss`, `sub`, and `client_id` or `azp`. Source: RFC
9068, 2.2 (claims of access tokens); RFC 7515, 3.1 (compact form); RFC 6750, 2.1 (the Authorization header).
"""

import binascii
import json
import re
from base64 import urlsafe_b64decode
from typing import Final

from shadowcat_core.jsonrpc import Json, dump
from shadowcat_core.limits import MAX_READ_TOKEN_BYTES

_BEARER_JWT: Final = re.compile(
    r"bearer +[A-Za-z0-9_-]+\.(?P<claims>[A-Za-z0-9_-]+)\.(?P<signature>[A-Za-z0-9_-]{2,})", re.ASCII | re.IGNORECASE
)
_IN_WORDS: Final = ("iss", "sub", "client_id", "azp")


def holder_of(authorization: str) -> bytes | None:
    """Write down whom the JWT in an Authorization header names, the same bytes for the same holder.

    Returns None for whatever cannot be told from another holder's token: another scheme (`DPoP` binds each request, so
    nothing may be asked in its name), an opaque or encrypted token, one without `sub` or signature or over
    `limits.MAX_READ_TOKEN_BYTES`, and claims that two readers could read in two ways.
    """
    jwt = _bearer_jwt(authorization)
    claims = None if jwt is None else _claims(jwt["claims"])
    if claims is None:
        return None
    named = {name: claims.get(name) for name in _IN_WORDS}
    if not named["sub"] or not all(value is None or isinstance(value, str) for value in named.values()):
        return None
    client = named["azp"] if named["client_id"] is None else named["client_id"]
    return dump([named["iss"], named["sub"], client])


def spoil_signature(authorization: str) -> str:
    """Make of a header that has a holder another one, which is the same but for its signature: that is wrong.

    Raises:
        ValueError: there is no signature to be spoilt.
    """
    jwt = _bearer_jwt(authorization)
    if jwt is None:
        raise ValueError("the header has no signed token of a size to be read")
    at = jwt.start("signature")
    # The first character is all signature; the last one may have bits that no reader looks at.
    return f"{authorization[:at]}{'B' if authorization[at] == 'A' else 'A'}{authorization[at + 1 :]}"


def _bearer_jwt(authorization: str) -> re.Match[str] | None:
    return None if len(authorization) > MAX_READ_TOKEN_BYTES else _BEARER_JWT.fullmatch(authorization)


def _claims(part: str) -> dict[str, Json] | None:
    try:
        raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        claims: Json = json.loads(raw.decode(), object_pairs_hook=_distinct)
    except (binascii.Error, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _distinct(members: list[tuple[str, Json]]) -> dict[str, Json]:
    """Refuse a name that is there twice: the server may go by the one, and this by the other."""
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a name is there twice")
    return found
