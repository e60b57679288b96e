"""Hooks are followed when scripts come, change and go; what is gone is never called."""

import asyncio
import logging
from itertools import pairwise

import pytest

from shadowcat_core.interceptors import Block
from tests.addons.hooks_world import REQUEST, Listener, world

__all__ = ["world"]


async def test_a_script_that_comes_later_is_found_at_the_next_look(world):
    assert world.names() == []
    world.script("def mcp_batch(batch): ...")
    assert world.names() == ["mine.mcp_batch"]


async def test_scripts_with_one_name_are_told_apart_by_a_number_and_so_is_who_is_there_already(world):
    (world.folder / "other").mkdir()
    world.pipeline.add(Idle(), name="mine.mcp_batch")
    world.script("def mcp_batch(batch): ...")
    world.script("def mcp_batch(batch): ...", "other/mine.py")
    assert world.names() == ["mine.mcp_batch", "mine.mcp_batch-2", "mine.mcp_batch-3"]


class Idle:
    def intercept_batch(self, batch): ...


BLOCKS = 'from shadowcat_core.interceptors import Block\ndef mcp_request(message):\n    return Block("{}")\n'


async def test_a_script_that_was_loaded_again_is_called_in_its_new_form_and_keeps_its_counters(world):
    script = world.script(BLOCKS.format("old"))
    await world.pass_on(REQUEST)
    (stage,) = world.pipeline.stages
    world.write(BLOCKS.format("new, and of another length"))
    script.loadscript()
    await world.pass_on(REQUEST, look=False)
    await world.pass_on(REQUEST)
    assert [record.reason for record in world.records] == ["old", *["new, and of another length"] * 2]
    assert world.pipeline.stages == (stage,)
    assert stage.metrics.messages == 3


async def test_a_script_that_was_loaded_again_is_told_of_at_the_next_look(world, caplog):
    caplog.set_level(logging.INFO)

    def told():
        return [record.message for record in caplog.records if "anew" in record.message]

    script = world.script("def mcp_request(message): ...\ndef mcp_batch(batch): ...")
    other = world.script("class One:\n    def intercept(self, message): ...\naddons = [One()]", "other.py")
    world.hooks.look()
    assert told() == []
    for each in (script, other):
        each.loadscript()
    await world.pass_on(REQUEST, look=False)  # the new ones are called, and nobody has been told
    assert told() == []
    for _ in range(3):
        world.hooks.look()
    assert told() == ["shadowcat: loaded anew: mine.mcp_batch, mine.mcp_request, One.intercept"]


@pytest.mark.parametrize("look", [True, False], ids=["after a look", "before it"])
async def test_the_failures_of_a_script_that_was_loaded_again_are_news(world, look):
    raises = "def mcp_request(message):\n    raise OSError('gone')\n"
    script = world.script(raises)
    for _ in range(3):
        await world.pass_on(REQUEST)
    assert len(world.failures) == 1
    world.write(f"{raises}# of another length")
    script.loadscript()
    for _ in range(3):
        await world.pass_on(REQUEST, look=look)
    assert [(failure.suppressed, failure.is_first) for failure in world.failures] == [(0, True), (0, True)]


async def test_a_script_loaded_again_without_its_hook_is_not_called_even_before_the_next_look(world):
    script = world.script(BLOCKS.format("old"))
    assert await world.pass_on(REQUEST) == []
    world.write("x = 1  # of another length")
    script.loadscript()
    assert await world.pass_on(REQUEST, look=False) == [REQUEST]
    assert world.names() == []


@pytest.mark.parametrize(
    "source",
    [
        "def mcp_message(message): raise OSError",
        "def mcp_batch(batch): raise OSError",
        "class No:\n    def intercept(self, message): raise OSError\naddons = [No()]",
        "class No:\n    def intercept_batch(self, batch): raise OSError\naddons = [No()]",
    ],
)
async def test_a_removed_script_is_not_called_even_before_the_next_look(world, source):
    script = world.script(source)
    assert len(world.names()) == 1
    world.addons.remove(script)
    assert await world.pass_on(REQUEST, look=False) == [REQUEST]
    assert world.failures == []
    assert world.names() == []


async def test_what_was_held_while_a_script_was_loaded_again_meets_the_new_one(world):
    decision = asyncio.get_running_loop().create_future()

    class Waiter:
        async def mcp_batch(self, batch):
            await decision

    world.add(Waiter())
    script = world.script(BLOCKS.format("old"))
    passing = asyncio.create_task(world.pass_on(REQUEST))
    await asyncio.sleep(0)
    world.write(BLOCKS.format("new, and of another length"))
    script.loadscript()
    decision.set_result(None)
    assert await passing == []
    assert [record.reason for record in world.records] == ["new, and of another length"]


async def test_a_script_with_an_error_is_no_longer_there_until_it_is_mended(world, caplog):
    script = world.script(BLOCKS.format("old"))
    assert world.names() == ["mine.mcp_request"]
    world.write("def broken(:")
    script.loadscript()
    assert "error in script" in caplog.text
    assert await world.pass_on(REQUEST) == [REQUEST]
    world.write(BLOCKS.format("mended"))
    script.loadscript()
    assert await world.pass_on(REQUEST) == []


async def test_a_changed_declaration_is_seen_after_a_reload_and_after_an_option_was_set(world):
    script = world.script("mcp_methods = {'ping'}\ndef mcp_message(message): ...")
    listener = world.add(Listener("options", "mcp_message"))
    world.hooks.look()
    world.write("mcp_methods = {'ping', 'tools/list'}\ndef mcp_message(message): ...")
    script.loadscript()
    world.hooks.look()
    listener.mcp_methods = {"ping"}
    world.hooks.configure({"anything"})
    world.hooks.look()
    assert [stage.interest.methods for stage in world.pipeline.stages] == [{"ping", "tools/list"}, {"ping"}]


async def test_the_order_of_the_addons_is_kept_when_one_of_the_first_changes(world):
    first = world.script("def mcp_batch(batch): ...", "first.py")
    world.script("def mcp_batch(batch): ...", "second.py")
    assert world.names() == ["first.mcp_batch", "second.mcp_batch"]
    world.write("def mcp_batch(batch): ...\ndef mcp_request(message): ...", "first.py")
    first.loadscript()
    assert world.names() == ["first.mcp_batch", "first.mcp_request", "second.mcp_batch"]


async def test_a_look_changes_nothing_when_nothing_changed(world, caplog):
    with caplog.at_level(logging.INFO):
        world.add(Listener("one", "mcp_batch"))
        world.hooks.look()
        stages = world.pipeline.stages
        for _ in range(3):
            world.hooks.configure({"anything"})
            world.hooks.look()
    assert all(one is other for one, other in pairwise([stages, world.pipeline.stages]))
    assert [record.message for record in caplog.records if "shadowcat" in record.message] == [
        "shadowcat: hooks and interceptors of other addons: one.mcp_batch"
    ]


async def test_at_the_end_nobody_is_left_but_who_was_there(world):
    world.pipeline.add(Idle(), name="ours")
    world.add(Listener("one", "mcp_batch", "mcp_request"))
    world.hooks.look()
    world.hooks.done()
    assert [stage.settings.name for stage in world.pipeline.stages] == ["ours"]


async def test_the_hooks_own_verdicts_are_values_of_the_core(world):
    world.add(Listener("one", "mcp_request", verdict=Block("no", code=-5)))
    assert await world.pass_on(REQUEST) == []
    (record,) = world.records
    assert b'"code":-5' in record.reply
