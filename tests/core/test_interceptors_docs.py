"""What docs/interceptors.md shows can be run, in the order it is shown, and its tables name what there is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from shadowcat_core import interceptors
from shadowcat_core.interceptors import Interest, Settings, StageMetrics
from shadowcat_core.jsonrpc import ErrorCode

PAGE = (Path(__file__).parents[2] / "docs" / "interceptors.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_every_code_block_runs():
    namespace = {"__name__": "docs"}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/interceptors.md, block {number}", "exec"), namespace)
    assert len(BLOCKS) >= 7


@pytest.mark.parametrize("verdict", ["Continue", "Modify", "Block", "Mock", "Delay", "Pause", "Inject"])
def test_every_verdict_is_explained_with_its_fields(verdict):
    (row,) = re.findall(rf"^\| `{verdict}\(.*$", PAGE, flags=re.MULTILINE)
    for each in fields(getattr(interceptors, verdict)):
        assert each.name in row


def test_every_setting_and_attribute_and_counter_is_explained():
    for each in (*fields(Settings), *fields(Interest)):
        assert re.search(rf"^\| `{each.name}` \|", PAGE, flags=re.MULTILINE), each.name
    for each in fields(StageMetrics):
        assert f"`{each.name}`" in PAGE


def test_the_codes_are_those_of_the_page():
    assert (ErrorCode.BLOCKED, ErrorCode.INTERCEPTOR_FAILED) == (-31010, -31011)
    assert "−31010" in PAGE
    assert "−31011" in PAGE
