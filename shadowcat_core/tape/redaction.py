"""Take secrets out of records before they are stored.

A redactor is any callable from record to record; this one covers heads: headers, URLs and session ids. A secret
becomes `[REDACTED:rule:hash8]`, where the hash is keyed with random bytes that exist only while the tape is being
recorded: equal secrets stay recognisably equal on one tape, and nobody can confirm a guess with it afterwards.

What says nothing about the secret stays readable: the scheme of a credential, the names and attributes of cookies,
the names of query parameters. Bodies are not touched.
"""

import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from urllib.parse import unquote

from shadowcat_core.tape.records import Chunk, End, Headers, Note, Open, Record, Response

SESSION_RULE = "mcp-session-id"
CACHED_VALUES = 512
CACHED_CHARS = 2_000

# Names that carry a secret whatever their spelling; the words of SECRET_WORDS catch what vendors make of them.
SECRET_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "authentication-info",
        "proxy-authentication-info",
        "cookie",
        "set-cookie",
        "api-key",
        "x-api-key",
        "x-goog-api-key",
        "ocp-apim-subscription-key",
        "x-functions-key",
        "x-access-key",
        "cf-access-jwt-assertion",
        "x-forwarded-authorization",
        "dpop",
        SESSION_RULE,
    }
)
SECRET_WORDS = re.compile(
    r"(?:^|[-_])(?:token|secret|password|passwd|apikey|api[-_]key|credentials?|session[-_]?id|key|auth|jwt|assertion|session|oidc-data)$"
)
# Names that end like secrets and are none.
PLAIN_HEADERS = frozenset({"idempotency-key", "sec-websocket-key", "surrogate-key", "cache-key", "x-cache-key"})
HIDDEN_PARAMETERS = (
    r"(?:[\w.-]*[_.-])?(?:token|secret|password|passwd|signature|assertion|credential|session[_-]?id|api[_-]?key)"
    r"|key|sig|code|code_verifier|auth|authorization|jwt|pwd|session|sid|(?-i:\w*[a-z0-9](?:Token|Secret|Key))"
)
# What may follow a cookie's value; anything else there is treated as one more secret.
COOKIE_ATTRIBUTES = frozenset(
    {"path", "domain", "expires", "max-age", "httponly", "secure", "samesite", "partitioned", "priority"}
)
# Also inside a URL that is itself a percent-encoded parameter of another.
PARAMETER = re.compile(
    r"((?:[?&;#]|%3F|%26|%23)(?:" + HIDDEN_PARAMETERS + r")(?:=|%3D))((?:(?!%26|%23)[^&#\s\"'<>])+)", re.IGNORECASE
)
USERINFO = re.compile(r"(//)([^/?#@\s]+)(@)")
CREDENTIALS = re.compile(r"([A-Za-z][\w-]*) +(\S.*)", re.DOTALL)


def keep_everything(record: Record) -> Record:
    """Redact nothing: the profile `none`."""
    return record


class HeaderRedactor:
    """Redacts headers, query parameters, user names in URLs and session ids; the profile `heads`.

    `extra_headers` and `extra_parameters` are further names, in any case. `salt` keys the hashes: leave it out, so
    that it is random and stored nowhere.
    """

    profile = "heads"

    def __init__(
        self,
        extra_headers: Collection[str] = (),
        *,
        extra_parameters: Collection[str] = (),
        salt: bytes | None = None,
    ) -> None:
        self._salt = secrets.token_bytes(32) if salt is None else salt
        # A client sends the same heads again and again, and hashing takes the interpreter from the event loop.
        self._cached_value = lru_cache(maxsize=CACHED_VALUES)(self._redacted_value)
        self._headers = SECRET_HEADERS | {name.lower() for name in extra_headers}
        self._parameter = PARAMETER
        if extra_parameters:
            names = "|".join(re.escape(name) for name in extra_parameters)
            pattern = PARAMETER.pattern.replace(HIDDEN_PARAMETERS, f"{HIDDEN_PARAMETERS}|{names}")
            self._parameter = re.compile(pattern, re.IGNORECASE)

    def __call__(self, record: Record) -> Record:
        """Return `record`, or one in its place without the secrets of its head."""
        if type(record) is Chunk:
            return record
        match record:
            case Open(url=url, headers=headers, session=session):
                if session is not None:
                    session = self._value(SESSION_RULE, session)
                return replace(record, url=self._url(url), headers=self._head(headers), session=session)
            case Response(headers=headers):
                return replace(record, headers=self._head(headers))
            case End(text=text) | Note(text=text):
                return replace(record, text=self._url(text))
            case _:
                return record

    def placeholder(self, rule: str, secret: str) -> str:
        """Return what stands for `secret` on this tape."""
        digest = hmac.digest(self._salt, secret.encode("utf-8", "surrogatepass"), "sha256")
        return f"[REDACTED:{rule}:{digest[:4].hex()}]"

    def _head(self, headers: Headers) -> Headers:
        return [(name, self._value(name.lower(), value)) for name, value in headers]

    def _value(self, name: str, value: str) -> str:
        redact = self._cached_value if len(value) <= CACHED_CHARS else self._redacted_value
        return redact(name, value)

    def _redacted_value(self, name: str, value: str) -> str:
        if name in self._headers or (name not in PLAIN_HEADERS and SECRET_WORDS.search(name)):
            if name in {"cookie", "set-cookie"}:
                return "; ".join(self._cookie(name, pair.strip()) for pair in value.split(";"))
            if name.endswith("authorization") and (found := CREDENTIALS.fullmatch(value)):
                return f"{found[1]} {self.placeholder(name, found[2])}"
            return self.placeholder(name, value)
        return self._url(value) if "=" in value or "@" in value else value

    def _cookie(self, rule: str, pair: str) -> str:
        name, equals, secret = pair.partition("=")
        if rule == "set-cookie" and name.lower() in COOKIE_ATTRIBUTES:
            return pair
        return name + equals + self.placeholder(rule, secret) if equals else self.placeholder(rule, name)

    def _url(self, text: str) -> str:
        text = USERINFO.sub(lambda found: found[1] + self.placeholder("userinfo", found[2]) + found[3], text)
        return self._parameter.sub(lambda found: found[1] + self.placeholder("query", unquote(found[2])), text)
