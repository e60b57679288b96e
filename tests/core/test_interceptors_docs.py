"""What docs/interceptors.md shows can be run, in the order it is shown, and its tables name what there is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from shadowcat_core import interceptors
from shadowcat_core.interceptors import Interest, Settings, StageMetrics
from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext

PAGE = (Path(__file__).parents[2] / "docs" / "interceptors.md").read_text()
CIRCUMSTANCES = (Direction.CLIENT_TO_SERVER, Transport.HTTP)
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


@pytest.mark.parametrize("shown", [Message, MessageBatch])
def test_every_member_of_messages_and_batches_is_in_a_table(shown):
    named = " ".join(re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE))
    slots = {slot for each in shown.__mro__ for slot in getattr(each, "__slots__", ())}
    for name in {*vars(shown), *slots}:
        if not name.startswith("_"):
            assert re.search(rf"[`.]{name}[`(]", named), name


def test_every_member_of_a_context_is_explained():
    (row,) = re.findall(r"^\| `context` \| where.*\n.*$", PAGE, flags=re.MULTILINE)
    for each in fields(MessageContext):
        assert each.name in ("direction", "request_of") or f"`{each.name}`" in row, each.name


def test_an_edit_in_place_is_not_sent():
    batch = MessageBatch.of_body(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', MessageContext(*CIRCUMSTANCES))
    batch[0].payload["method"] = "pong"
    assert batch.emit() == b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    assert "in place does nothing to what is sent" in PAGE


def test_the_codes_are_those_of_the_page():
    assert (ErrorCode.BLOCKED, ErrorCode.INTERCEPTOR_FAILED) == (-31010, -31011)
    assert "−31010" in PAGE
    assert "−31011" in PAGE
