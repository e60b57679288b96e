"""The manual of faults names every toxic, field and default there is, and its examples and recipes work."""

import re
from pathlib import Path

import pytest

from shadowcat_core.interceptors.faults import TOXICS, parse_toxic
from shadowcat_core.interceptors.faults.syntax import fields_of
from shadowcat_core.interceptors.faults.toxics import BodyToxic, EventToxic, HttpToxic, MessageToxic, Toxic

PAGE = (Path(__file__).parent.parent.parent / "docs" / "faults.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.partition("## Recipes")[0], flags=re.MULTILINE))
SHARED = {name for level in (Toxic, MessageToxic, EventToxic, BodyToxic, HttpToxic) for name in fields_of(level)}


@pytest.mark.parametrize("kind", TOXICS)
def test_every_toxic_has_a_row_with_its_own_fields_and_their_defaults(kind):
    model = TOXICS[kind]
    for name, field in model.model_fields.items():
        written = field.alias or name
        if written in SHARED:
            continue
        assert f"`{written}`" in ROWS[kind]
        if field.default not in (None, "") and written != "description":
            assert re.search(rf"`{written}` \(`?{field.default}`?[),]", ROWS[kind]), f"{written} ({field.default})"


def test_every_shared_field_has_a_row():
    assert set(ROWS) == set(TOXICS) | SHARED


RECIPES = re.search(r"## Recipes\n\n```\n(.*?)```", PAGE, flags=re.DOTALL)[1].splitlines()


@pytest.mark.parametrize("line", RECIPES)
def test_every_recipe_is_a_toxic(line):
    assert parse_toxic(re.split(r" {3,}", line)[0]).kind in TOXICS


def test_the_toxics_of_the_examples_at_the_top_are_toxics():
    specs = re.findall(r"shadowcat_faults=(\S+)|shadowcat\.faults\.add (\S+)", PAGE)
    assert len(specs) == 3
    for option, command in specs:
        parse_toxic(option or command)


def test_the_python_of_the_manual_runs():
    [code] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "docs/faults.md", "exec"), {})
