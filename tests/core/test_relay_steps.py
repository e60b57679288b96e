"""Edits to header fields: in their places, once each, and nothing else changes."""

import pytest

from shadowcat_core.relay import edited

FIELDS = ((b"Host", b"a"), (b"X-Key", b"1"), (b"Accept", b"*/*"), (b"x-key", b"2"))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], FIELDS),
        ([("host", "b")], ((b"host", b"b"), *FIELDS[1:])),
        ([("X-Key", "3")], (FIELDS[0], (b"X-Key", b"3"), FIELDS[2])),
        ([("X-KEY", None)], (FIELDS[0], FIELDS[2])),
        ([("Nobody", None)], FIELDS),
        ([("New", "n"), ("Newer", "ü")], (*FIELDS, (b"New", b"n"), (b"Newer", "ü".encode()))),
        ([("Accept", "1"), ("accept", "2")], (*FIELDS[:2], (b"accept", b"2"), FIELDS[3])),
    ],
)
def test_an_edit_takes_the_place_of_the_first_that_it_replaces(edits, expected):
    assert edited(FIELDS, edits) == expected


def test_a_value_that_came_as_bytes_goes_as_the_same_bytes():
    value = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert edited((), [("X", value)]) == ((b"X", b"caf\xe9"),)
