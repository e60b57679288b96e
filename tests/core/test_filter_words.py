"""Words that pick messages, on their way or from a tape."""

from dataclasses import replace

import pytest

from shadowcat_core.filter_words import about_circumstances, parse_message_filter, split_words
from shadowcat_core.messages import Message
from tests.core.interception import TO_CLIENT, TO_SERVER

CALL = Message(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"delete_all"}}', TO_SERVER)
PING = Message(b'{"jsonrpc":"2.0","id":"7","method":"ping"}', replace(TO_SERVER, session_id=None))
NOTE = Message(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}', TO_CLIENT)
RESULT = Message(
    b'{"jsonrpc":"2.0","id":7,"result":{}}', replace(TO_CLIENT, request_of=lambda answer: CALL if answer.id else None)
)
STRAY = Message(b'{"jsonrpc":"2.0","id":7,"result":{}}', TO_CLIENT)
NONSENSE = Message(b'{"jsonrpc":NaN}', TO_SERVER)
MESSAGES = {"call": CALL, "ping": PING, "note": NOTE, "result": RESULT, "stray": STRAY, "nonsense": NONSENSE}


@pytest.mark.parametrize(
    ("words", "picked"),
    [
        ("", "call ping note result stray nonsense"),
        ("method:tools/call", "call result"),
        ("method:tools/call kind:request", "call"),
        ("method:tools/call target:delete_*", "call result"),
        ("target:create_*", ""),
        ("method:notifications/*", "note"),
        ("method:", "stray nonsense"),
        ("kind:re*", "call ping result stray"),
        ("kind:invalid", "nonsense"),
        ("dir:s2c", "note result stray"),
        ("-dir:s2c", "call ping nonsense"),
        ("dir:*", "call ping note result stray nonsense"),
        ("session:s1 dir:c2s", "call nonsense"),
        ("session: kind:request", "ping"),
        ("id:7", "call ping result stray"),
        ("id:7 -kind:re*", ""),
        ("delete", "call result"),
        ("-tools kind:request", "ping"),
        ("kind", ""),
        ('"method:tools/call" target:"delete all"', ""),
    ],
)
def test_words_pick_messages(words, picked):
    test = parse_message_filter(split_words(words))
    assert [name for name, message in MESSAGES.items() if test(message)] == picked.split()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("colour:red", "'colour:red' is no filter; there are method:, target:, kind:, dir:, session:, id:"),
        ("duration:>1s", "is no filter"),
        ("dir:up", "'dir:up' fits no message; there are dir:c2s, dir:s2c"),
        ("-kind:requests", "fits no message; there are kind:request, "),
        ("kind:", "fits no message"),
        ("--method:x", "is no filter"),
        ('target:"x', "quot"),
    ],
)
def test_a_word_that_makes_no_sense_says_what_is_possible(words, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_message_filter(split_words(words))


def test_some_words_can_be_told_of_what_cannot_be_read():
    words = split_words("method:tools/call -dir:s2c session:a kind:request dir:c2s -session:b -id:1 direct")
    assert about_circumstances(words) == ["-dir:s2c", "session:a", "dir:c2s", "-session:b"]
