"""The manual's tables are what is told: every metric, with its type, labels and meaning, and no other."""

import re
from pathlib import Path

from tests.core.metrics_parts import Refuse, World, described

PAGE = (Path(__file__).parent.parent.parent / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(shadowcat_\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", flags=re.MULTILINE)


async def test_the_tables_are_what_is_told(tmp_path):
    world = World(tmp_path)
    world.pipeline.add(Refuse())
    told = described(world.metrics)
    await world.aclose()
    rows = ROW.findall(PAGE)
    assert {name: (kind, labels, meaning) for name, kind, labels, meaning in rows} == told
    assert len(rows) == len(told)


async def test_whatever_a_query_asks_for_is_told(tmp_path):
    world = World(tmp_path)
    world.pipeline.add(Refuse())
    told = described(world.metrics)
    await world.aclose()
    assert set(re.findall(r"shadowcat_\w+(?=\)|\[| ==)", PAGE)) <= set(told)
