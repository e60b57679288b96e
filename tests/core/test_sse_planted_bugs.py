"""The tables find every bug in a list of planted ones, so a real one like them would not pass."""

import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import shadowcat_core.sse
from tests.core import sse_checks
from tests.planted_bugs_sse import PLANTED_BUGS

ROOM = Path(shadowcat_core.sse.__file__).parent
FILES = ["blocks.py", "frames.py", "encoding.py", "parser.py", "__init__.py"]  # each imports only from those before
COPY = "planted_sse"


@cache
def source(file: str) -> str:
    return (ROOM / file).read_text()


@cache
def compiled(text: str) -> object:
    return compile(text.replace("shadowcat_core.sse", COPY), COPY, "exec")


def load(monkeypatch: pytest.MonkeyPatch, file: str = "", old: str = "", new: str = "") -> ModuleType:
    """Load a copy of the package from source, one text in one file replaced; the real one stays as it is."""
    for each in FILES:
        text = source(each).replace(old, new) if each == file else source(each)
        module = ModuleType(f"{COPY}.{each}".removesuffix(".py").removesuffix(".__init__"))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compiled(text), module.__dict__)
    return sys.modules[COPY]


def test_without_a_bug_no_row_fails(monkeypatch: pytest.MonkeyPatch):
    assert set(FILES) == {path.name for path in ROOM.glob("*.py")}
    assert list(sse_checks.failing(load(monkeypatch))) == []


@pytest.mark.parametrize(
    ("file", "old", "new"), [bug[1:] for bug in PLANTED_BUGS], ids=[bug[0] for bug in PLANTED_BUGS]
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str):
    assert source(file).count(old) == 1, "the text to replace must occur once"
    assert old != new
    assert next(sse_checks.failing(load(monkeypatch, file, old, new)), None), "no row fails"


def test_at_least_twenty_bugs_are_planted_and_each_has_a_name():
    assert len({bug[0] for bug in PLANTED_BUGS}) == len(PLANTED_BUGS) >= 20
