"""TOML is read as the same plain values as YAML, and what stands on a line of its own is found there."""

from pathlib import Path

import pytest

from shadowcat_core.documents import read_document
from shadowcat_core.errors import DocumentError
from shadowcat_core.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_VALUES

TOML = Path("shadowcat.toml")

EVERYWHERE = '''\
version = 1
note = """
routes = "not a key"
# not a comment
"""
single = \'\'\'
[not.a.table]
\'\'\'

[sessions]
store = "memory" # [[routes]]
"idle\\u0020s" = 3
'as it is' = 4
life.time_s = 5

[[routes]]
path = "/mcp"
matrix = [
  [1],
  [2]
]

[routes.health.passive]
failures = 3

[[routes.upstreams]]
name = "a"

[[routes.upstreams]]
name = "b"
headers = {X-One = "1", X-Two = "2"}

[[routes]]
path = "/other"
[[routes.upstreams]]
name = "c"
'''


def test_toml_is_read_as_json_values():
    document = read_document(EVERYWHERE.encode(), TOML)
    assert document.data == {
        "version": 1,
        "note": 'routes = "not a key"\n# not a comment\n',
        "single": "[not.a.table]\n",
        "sessions": {"store": "memory", "idle s": 3, "as it is": 4, "life": {"time_s": 5}},
        "routes": [
            {
                "path": "/mcp",
                "matrix": [[1], [2]],
                "health": {"passive": {"failures": 3}},
                "upstreams": [{"name": "a"}, {"name": "b", "headers": {"X-One": "1", "X-Two": "2"}}],
            },
            {"path": "/other", "upstreams": [{"name": "c"}]},
        ],
    }


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (("version",), "version = 1"),
        (("single",), "single = '''"),
        (("sessions",), "[sessions]"),
        (("sessions", "store"), 'store = "memory" # [[routes]]'),
        (("sessions", "idle s"), '"idle\\u0020s" = 3'),
        (("sessions", "as it is"), "'as it is' = 4"),
        (("sessions", "life", "time_s"), "life.time_s = 5"),
        (("routes",), "[[routes]]"),
        (("routes", 0), "[[routes]]"),
        (("routes", 0, "path"), 'path = "/mcp"'),
        (("routes", 0, "matrix", 1, 0), "matrix = ["),
        (("routes", 0, "health", "passive"), "[routes.health.passive]"),
        (("routes", 0, "health", "passive", "failures"), "failures = 3"),
        (("routes", 0, "upstreams", 1, "name"), 'name = "b"'),
        (("routes", 0, "upstreams", 1, "headers", "X-Two"), 'headers = {X-One = "1", X-Two = "2"}'),
        (("routes", 1, "path"), 'path = "/other"'),
        (("routes", 1, "upstreams", 0, "name"), 'name = "c"'),
        (("nothing", "of", "the", "kind"), "version = 1"),
    ],
)
def test_a_value_has_the_line_of_its_key_or_of_the_nearest_one_around_it(where, text):
    line = read_document(EVERYWHERE.encode(), TOML).line(where)
    assert line is not None
    assert EVERYWHERE.splitlines()[line - 1] == text
    if where == ("routes", 1, "path"):
        assert line > EVERYWHERE.splitlines().index("[[routes]]") + 2


def test_dates_are_text_and_numbers_stay_what_they_are():
    text = "day = 2026-07-28\nat = 2026-07-28T10:00:00Z\ntime = 07:32:00\nbig = 123456789012345678901\nhalf = 0.5\n"
    assert read_document(text.encode(), TOML).data == {
        "day": "2026-07-28",
        "at": "2026-07-28T10:00:00+00:00",
        "time": "07:32:00",
        "big": 123456789012345678901,
        "half": 0.5,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1\nb = ", "shadowcat.toml:2: not TOML: "),
        ("a = 1\na = 2", "shadowcat.toml:2: not TOML: "),
        ("a = [", "shadowcat.toml"),
        ("a = 1\n\nb = inf", "shadowcat.toml:3: inf is no number of JSON"),
        ("[t]\nb = [1, nan]", "shadowcat.toml:2: nan is no number of JSON"),
        ("a = " + "[" * 5_000 + "]" * 5_000, "shadowcat.toml: nested too deep"),
        ("a = " + "[" * 101 + "]" * 101, f"shadowcat.toml:1: nested deeper than {MAX_DOCUMENT_DEPTH} levels"),
        (b"a = 1\nb = '\xff'", "shadowcat.toml:2: not UTF-8"),
        (b"#" * (MAX_DOCUMENT_BYTES + 1), "4,194,305 bytes are over the limit of 4,194,304"),
        ("a = [" + "1," * MAX_DOCUMENT_VALUES + "]", f"shadowcat.toml:1: more than {MAX_DOCUMENT_VALUES:,} values"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_toml_of_ours_is_refused_with_its_line(text, says):
    with pytest.raises(DocumentError) as caught:
        read_document(text if isinstance(text, bytes) else text.encode(), TOML)
    assert says in str(caught.value)


def test_a_file_of_nothing_is_a_table_of_nothing():
    assert read_document(b"", TOML).data == {}
