"""Words that pick messages: `method:tools/call target:delete_* -dir:s2c`.

A word is `key:value`; all must hold. In a value `*` stands for anything, and `-` before the word turns it around. A
word without a key is looked for in method and target. No I/O.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message

type Test[T] = Callable[[T], bool]
type Look[T] = Callable[[T, str], object]
"""Gives what an item has under a key; None when it has nothing there."""
type ParseWord[T] = Callable[[str, str], Test[T]]
"""Makes the test of a word that is not compared as text, from the word and its value."""

MESSAGE_KEYS = ("method", "target", "kind", "dir", "session", "id")
_CIRCUMSTANCES = ("dir:", "session:", "-dir:", "-session:")
_NAMES: Mapping[str, Iterable[str]] = {"kind": Kind, "dir": Direction}


def split_words(text: str) -> list[str]:
    """Split a line into words as a shell does, so that quotes hold a word with blanks together.

    Raises:
        ValueError: a quotation does not end.
    """
    return shlex.split(text)


def parse_words[T](
    words: Sequence[str], keys: Sequence[str], look: Look[T], special: Mapping[str, ParseWord[T]] | None = None
) -> Test[T]:
    """Return the test that words describe; no words let everything through.

    Args:
        words: what must hold.
        keys: what a word may ask for.
        look: gives what an item has under a key.
        special: keys whose values are not compared as text.

    Raises:
        ValueError: it names the word and what is possible.
    """
    tests = [_parse_word(word, keys, look, special or {}) for word in words]
    return lambda item: all(test(item) for test in tests)


def parse_message_filter(words: Sequence[str]) -> Test[Message]:
    """Return the test of messages that words describe. A response has the method and target of what it answers.

    Raises:
        ValueError: likewise; also for a kind or direction that no message has.
    """
    for word in words:
        key, colon, value = word.removeprefix("-").partition(":")
        names = [str(name) for name in _NAMES.get(key, ())]
        if colon and names and not any(fnmatchcase(name, value) for name in names):
            raise ValueError(f"{word!r} fits no message; there are {', '.join(f'{key}:{name}' for name in names)}")
    return parse_words(words, MESSAGE_KEYS, _look_at_message)


def about_circumstances(words: Sequence[str]) -> list[str]:
    """Pick the words that hold or do not hold for a message that cannot be read, too."""
    return [word for word in words if word.startswith(_CIRCUMSTANCES)]


def _parse_word[T](word: str, keys: Sequence[str], look: Look[T], special: Mapping[str, ParseWord[T]]) -> Test[T]:
    if word.startswith("-") and not word.startswith("--"):
        test = _parse_word(word[1:], keys, look, special)
        return lambda item: not test(item)
    key, colon, value = word.partition(":")
    if not colon and "method" in keys and word and not word.startswith("-"):
        return lambda item: any(word in str(look(item, name) or "") for name in ("method", "target"))
    if key not in keys:
        raise ValueError(f"{word!r} is no filter; there are {', '.join(f'{known}:' for known in keys)}")
    if key in special:
        return special[key](word, value)

    def test_value(item: T) -> bool:
        found = look(item, key)
        return fnmatchcase("" if found is None else str(found), value)

    return test_value


def _look_at_message(message: Message, key: str) -> object:
    match key:
        case "method":
            return (message.request or message).method
        case "target":
            return (message.request or message).target
        case "kind":
            return message.kind
        case "dir":
            return message.direction
        case "session":
            return message.session_id
        case _:
            return message.id
