"""Finds and takes out of a text what a person does not see and a model or a terminal does.

The characters that emoji, and scripts such as Arabic, Persian and those of India, need stay where they need them.
Every search takes time in proportion to the text.
"""

import re
from collections import Counter
from enum import StrEnum
from typing import Final

from shadowcat_core.interceptors.guards.reading import is_plain


class Hidden(StrEnum):
    """What can be found. INSTRUCTION is not hidden, only suspicious: it is told, and never taken out."""

    ANSI = "ANSI escape"
    CONTROL = "control character"
    INVISIBLE = "invisible character"
    BIDI = "bidi control"
    TAGS = "tag characters"
    SELECTORS = "variation selectors"
    BLANKS = "text behind blanks"
    COMMENT = "HTML comment"
    INSTRUCTION = "instruction-like text"


BLANK_RUN: Final = 120
"""Blanks in a row that put what follows out of sight. Indentation and columns of a table stay below."""

# Every character that can be part of something hidden. Most texts have none, and are looked through once.
_SUSPECT: Final = re.compile(
    "[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_JOINERS: Final = "\u061c\u200c-\u200f"
_JOINED: Final = (
    "\u0590-\u061b\u061d-\u1fff\u2190-\u2bff\u3040-\ud7ff\uf900-\ufdff\ufe0e\ufe0f\ufe70-\ufefc\U00010000-\U000dffff"
)
_HIDDEN: Final = re.compile(
    rf"""
    (?P<fine> \U0001f3f4[\U000e0020-\U000e007e]{{1,8}}\U000e007f )  # the flags of England, Scotland, Wales
    | (?P<ansi>
        (?: \x1b\[ | \x9b ) [0-?]*+ [\ -/]*+ [@-~]
        | (?: \x1b\] | \x9d ) [^\x07\x1b\x9c]*+ (?: \x07 | \x1b\\ | \x9c )
        | (?: \x1b[PX^_] | [\x90\x98\x9e\x9f] ) [^\x1b\x9c]*+ (?: \x1b\\ | \x9c )
        | \x1b [\ -/]*+ [0-~]?
      )
    | (?P<control> [\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]+ )
    | (?P<bidi> [\u202a-\u202e\u2066-\u2069]+ )
    | (?P<tags> [\U000e0000-\U000e00ff]+ )
    | (?P<selectors>
        [\ufe00-\ufe0f\U000e0100-\U000e01ef]{{2,}}
        | (?<= [A-Za-z] ) [\ufe00-\ufe0f]
        | (?<! [\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff] ) [\U000e0100-\U000e01ef]
      )
    | (?P<invisible>
        (?<= . ) \ufeff  # in front of everything it is a byte order mark
        | (?<! [{_JOINED}] ) [{_JOINERS}] (?! [{_JOINED}] )
        | [\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\uffa0\ufff0-\ufffb]
        | [\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e01f0-\U000e0fff]
      )
    """,
    re.VERBOSE | re.DOTALL,
)
_PASSES: Final = 3  # taking something out may bring two others together
_BLANKS: Final = re.compile(rf"\s\s{{{BLANK_RUN - 1},}}+")
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)

# A search for text that begins with letters is five times as quick as one for a word in any case, so lower case is
# searched, and only for the orders of whose words one is there.
_FEW_WORDS: Final = r"(?:[\w'’]++\s++){0,3}?"
_FORGET: Final = (
    rf"\s++{_FEW_WORDS}(?:previous|prior|above|earlier|preceding)\s++"
    rf"{_FEW_WORDS}(?:instructions?|prompts?|rules|messages|directions)"
)
_KEEP_FROM: Final = rf"\s++(?:tell|inform|mention|notify|alert|reveal|show)\s++{_FEW_WORDS}user"
_ORDERS: Final = tuple(
    (word, re.compile(pattern))
    for word, pattern in (
        ("ignore", "ignore" + _FORGET),
        ("disregard", "disregard" + _FORGET),
        ("forget", "forget" + _FORGET),
        ("override", "override" + _FORGET),
        ("user", r"do\s++not" + _KEEP_FROM),
        ("user", "don['’]t" + _KEEP_FROM),
        ("user", "never" + _KEEP_FROM),
        ("user", r"without\s++(?:telling|informing|notifying|asking)\s++(?:the\s++)?user"),
        ("instructions", r"new\s++instructions\s*+:"),
        ("<", "</?(?:important|system|secret|critical|instructions?)>"),
    )
)
# One of these is in every order, in lower case. Few letters of a text are the first of one.
_ORDER_WORDS: Final = (
    r"user|uctions|gnore(?<=ignore)|gard(?<=disregard)|get(?<=forget)|verride"
    r"|</?(?:important|system|secret|critical|ins)"
)
_MAY_ORDER: Final = re.compile(_ORDER_WORDS)
_MAY_ORDER_OR_HIDE: Final = re.compile(
    # Some readers take control characters unescaped.
    rb"[\x08\x1b\x7f]|\\b|<!--|" + _ORDER_WORDS.encode()
)
_BLANK_BYTES: Final = bytes(ord(" " if chr(byte) in " \t\r\n\f\v\\nrtf" else "x") for byte in range(256))
_SAMPLED: Final = 12  # every so many bytes of a run of blanks are looked at, and are blanks or their escapes
_TWO_BLANKS: Final = re.compile(r"\s\s")


def may_hide(raw: bytes) -> bool:
    """False when the bytes of a JSON text prove that no string in it hides anything."""
    if not raw.isascii() or not is_plain(raw) or _MAY_ORDER_OR_HIDE.search(raw.lower()) is not None:
        return True
    return raw[::_SAMPLED].translate(_BLANK_BYTES).find(b" " * (BLANK_RUN // _SAMPLED - 1)) >= 0


def examine(text: str, *, comments: bool) -> tuple[str, Counter[Hidden]]:
    """The text without what it hides, and what that was how often. HTML comments count when `comments` says so.

    What was found in a text is not found in what is given.
    """
    found: Counter[Hidden] = Counter()
    text = _without_characters(text, found)
    if comments and "<!--" in text:
        end = text.rfind("-->") + 3  # so that none is looked for where none can end
        shown, count = _COMMENT.subn(" ", text[:end])
        if count:
            text = shown + text[end:]
            found[Hidden.COMMENT] += count
    if _TWO_BLANKS.search(text[:: BLANK_RUN // 2]) is not None:
        shown = text.rstrip()  # what is behind them is hidden, so there must be something
        blanks, count = _BLANKS.subn(lambda run: "\n" if "\n" in run[0] else " ", shown)
        if count:
            text = blanks + text[len(shown) :]
            found[Hidden.BLANKS] += count
    lowered = text.lower()
    if _MAY_ORDER.search(lowered) is not None:
        count = sum(len(pattern.findall(lowered)) for word, pattern in _ORDERS if word in lowered)
        if count:
            found[Hidden.INSTRUCTION] += count
    return text, found


def _without_characters(text: str, found: Counter[Hidden]) -> str:
    if _SUSPECT.search(text) is None:
        return text

    def replaced(match: re.Match[str]) -> str:
        if match.lastgroup == "fine":
            return match[0]
        found[Hidden[str(match.lastgroup).upper()]] += 1
        return ""

    for _ in range(_PASSES):
        shown = _HIDDEN.sub(replaced, text)
        if shown == text:
            return text
        text = shown
    return text if _HIDDEN.sub(replaced, text) == text else _SUSPECT.sub("", text)
