"""Words that pick messages and records from a tape."""

import pytest

from shadowcat_core.tape.filters import parse_record_filter, parse_row_filter
from shadowcat_core.tape.meaning import read_messages
from shadowcat_core.tape.rows import list_rows
from tests.core.tape_conversations import SESSION, session


def picked(*words):
    test = parse_row_filter(words)
    return [index for index, row in enumerate(list_rows(read_messages(session()))) if test(row)]


@pytest.mark.parametrize(
    ("words", "indexes"),
    [
        ([], list(range(12))),
        (["method:tools/call"], [2, 6, 8, 9, 10, 11]),
        (["method:notifications/*"], [4, 7]),
        (["method:tools/call", "status:error"], [9, 11]),
        (["status:ok"], [1, 5, 6]),
        (["target:echo"], [2, 6, 10, 11]),
        (["kind:notification"], [4, 7]),
        (["dir:c2s"], [0, 2, 5, 8, 10]),
        (["id:8"], [8, 9]),
        (["id:0"], [0, 1]),
        (["exchange:3"], [2, 3, 4, 6]),
        (["session:"], [0]),
        ([f"session:{SESSION.replace('[', '[[]')}", "exchange:1"], [1]),
        (["duration:>5ms"], [1, 6]),
        (["duration:>=10"], [1, 6]),
        (["duration:<3ms"], [9, 11]),
        (["duration:<=3000us"], [5, 9, 11]),
        (["duration:>0.016s"], [6]),
        (["-kind:notification", "-method:tools/call"], [0, 1, 3, 5]),
        (["echo"], [2, 6, 10, 11]),
        (["elicit"], [3, 5]),
        (["-tools"], [0, 1, 3, 4, 5]),
        (["status:error", "status:ok"], []),
    ],
)
def test_words_pick_messages(words, indexes):
    assert picked(*words) == indexes


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("colour:red", "there are method:, target:"),
        ("--jsn", "there are method:"),
        ("", "there are method:"),
        ("duration:5ms", "as in duration:>500ms"),
        ("duration:>5 minutes", "as in duration:>500ms"),
        ("-duration:x", "as in duration:>500ms"),
    ],
)
def test_a_wrong_word_says_what_is_possible(word, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_row_filter([word])


@pytest.mark.parametrize(
    ("words", "count"),
    [([], 30), (["exchange:3"], 7), (["kind:chunk", "exchange:3"], 3), (["dir:s2c"], 8), (["session:[[]RED*"], 5)],
)
def test_words_pick_records(words, count):
    test = parse_record_filter(words)
    assert sum(map(test, session())) == count


@pytest.mark.parametrize("word", ["method:ping", "duration:>1s", "echo"])
def test_records_know_less_than_messages(word):
    with pytest.raises(ValueError, match="there are kind:, dir:, exchange:, session:"):
        parse_record_filter([word])
