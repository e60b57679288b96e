"""Knows what well-known secrets look like: tokens with a form of their own, which nothing else has.

Every pattern takes time in proportion to the text, whatever the text: no repetition is without a bound unless it
takes all it can get and never gives back.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SecretPattern:
    """What one kind of secret looks like. Where the pattern has a group, the group alone is the secret.

    `hints` are ASCII texts, one of which is in every match and which JSON never escapes; without hints, every text has
    to be searched.
    """

    name: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...] = ()


def _known(name: str, pattern: str, *hints: str) -> SecretPattern:
    return SecretPattern(name, re.compile(pattern, re.ASCII), hints)


_APART: Final = r"(?<![A-Za-z0-9])"
_BASE64URL_APART: Final = r"(?<![A-Za-z0-9_-])"
_KEY_LABEL: Final = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"

WELL_KNOWN: Final = (
    _known(
        "aws-access-key",
        _APART + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        "AKIA", "ASIA", "ABIA", "ACCA",
    ),
    _known(
        "aws-secret-key",
        r"(?:[Ss]ecretAccessKey|secret_?access_?key|SECRET_ACCESS_KEY)[\"'\\\s:=]{1,8}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
        "access_key", "AccessKey", "ACCESS_KEY", "accesskey",
    ),
    _known(
        "github-token",
        _APART + r"(?:gh[pousr]_[A-Za-z0-9]{30,}+|github_pat_[A-Za-z0-9_]{22,}+)",
        "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_",
    ),
    _known("gitlab-token", _APART + r"glpat-[A-Za-z0-9_-]{20,}+", "glpat-"),
    _known("api-key", _APART + r"sk-(?=[A-Za-z_-]{0,99}[0-9])[A-Za-z0-9_-]{20,}+", "sk-"),
    _known("stripe-key", _APART + r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}+", "k_live_", "k_test_"),
    _known("slack-token", _APART + r"xox[abeoprs]-[A-Za-z0-9-]{10,}+", "xox"),
    _known("google-api-key", _APART + r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", "AIza"),
    _known("npm-token", _APART + r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])", "npm_"),
    _known("pypi-token", _APART + r"pypi-[A-Za-z0-9_-]{50,}+", "pypi-"),
    _known("hugging-face-token", _APART + r"hf_[A-Za-z0-9]{30,}+", "hf_"),
    _known(
        "jwt",
        _BASE64URL_APART + r"eyJ[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]{8,}+){2,4}",
        "eyJ",
    ),
    _known(
        # One that is cut off is a secret to the end of the text.
        "private-key",
        rf"-----BEGIN {_KEY_LABEL}(?s:.*?)(?:-----END {_KEY_LABEL}|\Z)",
        "PRIVATE KEY",
    ),
    _known(
        "bearer-token",
        _APART + r"(?:[Bb]earer|BEARER) {1,4}(?=[A-Za-z._~+/-]{0,400}[0-9])([A-Za-z0-9._~+/-]{16,}+=*)",
        "earer ", "EARER ",
    ),
    _known("url-password", r"://[^\s/:@]{0,64}:(?!\[REDACTED:)([^\s/@]{1,128})@", "@"),
)  # fmt: skip
"""In the order in which they are looked for: what one has masked is no secret to the next."""


def own_pattern(text: str, number: int = 1) -> SecretPattern:
    """Make a pattern of somebody's own regular expression (Python's `re`); its name has a number.

    Raises:
        ValueError: it is no regular expression, or it finds a secret in nothing.
    """
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"no regular expression: {text!r}: {exc}") from exc
    if pattern.search("") is not None:
        raise ValueError(f"it matches the empty text, so everything: {text!r}")
    return SecretPattern(f"pattern-{number}", pattern)
