"""Rules files at work in the proxy: their options, how they are loaded anew, and what commands say about them."""

import asyncio
import logging

import pytest
from mitmproxy import exceptions
from mitmproxy.test import taddons

from shadowcat_addons.rules import Rules
from shadowcat_core.interceptors import Pipeline
from shadowcat_core.messages import MessageBatch
from tests.addons.conftest import CALL
from tests.core.interception import scheduler
from tests.core.rule_parts import context, dump

BLOCK = "rules:\n  - {name: no-echo, when: {target: echo}, do: {block: stop}}\n"
ALLOW = "rules:\n  - {name: no-rm, when: {target: rm}, do: {block: stop}}\n"
BROKEN = "rules:\n  - {name: no-echo, when: {targte: echo}, do: {block: stop}}\n"


class Room:
    """A room of its own, with a pipeline of its own."""

    def __init__(self, tctx, folder):
        self.tctx = tctx
        self.folder = folder
        self.pipeline = Pipeline(scheduler())
        self.rules = Rules(self.pipeline)
        tctx.master.addons.add(_Addon(self.rules))

    def write(self, text, name="guard.yaml"):
        """Write as editors do: another file takes the place of the old one."""
        path = self.folder / name
        fresh = self.folder / ".swap"
        fresh.write_text(text)
        fresh.replace(path)
        return str(path)

    def remove(self, name="guard.yaml"):
        (self.folder / name).unlink()

    def set(self, *paths, **more):
        self.tctx.options.update(shadowcat_rules=list(paths), **more)

    def blocks(self, message=CALL):
        batch = MessageBatch.of_body(dump(message), context())
        assert self.pipeline.run(batch) is None
        return not batch.emit()

    @property
    def stages(self):
        return [stage.settings.name for stage in self.pipeline.stages]


class _Addon:
    def __init__(self, room):
        self.load, self.configure = room.load, room.configure


@pytest.fixture
async def room(tmp_path):
    with taddons.context() as tctx:
        made = Room(tctx, tmp_path)
        yield made
        made.rules.done()
        assert made.pipeline.stages == ()


async def test_without_files_there_is_nothing_in_the_pipeline(room):
    assert room.stages == []
    assert room.rules.rules() == ["no rules (set shadowcat_rules to files)"]
    assert room.rules.reload() == "0 rules from 0 files"


async def test_the_rules_of_a_file_are_at_work_as_long_as_the_option_names_it(room):
    room.set(room.write(BLOCK))
    assert room.stages == ["rules guard.yaml"]
    assert room.blocks()
    room.set()
    assert room.stages == []
    assert not room.blocks()


async def test_files_are_asked_in_the_order_of_the_option(room):
    (room.folder / "sub").mkdir()
    first, second = room.write(ALLOW, "b.yaml"), room.write(BLOCK, "a.yaml")
    third = room.write(ALLOW, "sub/b.yaml")
    room.set(first, second, third)
    assert room.stages == ["rules b.yaml", "rules a.yaml", "rules b.yaml (2)"]
    room.blocks()
    room.set(third, second)
    assert room.stages == ["rules b.yaml", "rules a.yaml"]
    assert room.rules.rules()[1].endswith("a.yaml | no-echo | enforce | 1 hits")


async def test_a_file_that_cannot_be_used_is_an_options_error_and_changes_nothing(room):
    good, broken = room.write(BLOCK), room.write(BROKEN, "broken.yaml")
    room.set(good)
    for paths, says in (
        ([good, broken], r"broken.yaml:2: rules\[0\].when.targte: unknown field; did you mean 'target'"),
        ([str(room.folder / "none.yaml")], "No such file"),
        ([good, good], "is there twice"),
    ):
        with pytest.raises(exceptions.OptionsError, match=says):
            room.set(*paths)
        assert room.stages == ["rules guard.yaml"]
        assert room.blocks()
    assert room.tctx.options.shadowcat_rules == [good]


async def test_a_file_that_changed_is_loaded_anew(room, caplog):
    room.set(room.write(BLOCK))
    caplog.set_level(logging.INFO)
    await room.rules.look()
    assert caplog.records == []
    room.write(ALLOW)
    await room.rules.look()
    assert not room.blocks()
    assert "guard.yaml loaded anew: 1 rules" in caplog.text
    room.write(BLOCK)
    await room.rules.look()
    assert room.blocks()


async def test_a_change_that_cannot_be_used_keeps_the_old_rules_and_is_told_once(room, caplog):
    path = room.write(BLOCK)
    room.set(path)
    room.write(BROKEN)
    for _ in range(3):
        await room.rules.look()
    assert room.blocks()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "guard.yaml:2: rules[0].when.targte: unknown field; did you mean 'target'?" in record.message
    assert "stay as they were" in record.message
    room.write(BROKEN + "# still\n")
    await room.rules.look()
    assert len(caplog.records) == 2
    room.write(ALLOW)
    await room.rules.look()
    assert not room.blocks()


async def test_a_file_that_vanishes_keeps_its_rules_until_it_is_back(room, caplog):
    path = room.write(BLOCK)
    room.set(path)
    room.remove()
    for _ in range(2):
        await room.rules.look()
    assert room.blocks()
    assert len(caplog.records) == 1
    assert "No such file" in caplog.text
    room.write(ALLOW)
    await room.rules.look()
    assert not room.blocks()


async def test_files_are_looked_at_by_themselves_until_the_room_is_done(room, monkeypatch):
    monkeypatch.setattr("shadowcat_addons.rules.LOOK_S", 0)
    room.set(room.write(BLOCK))
    room.write(ALLOW)
    async with asyncio.timeout(20):
        while room.blocks():  # noqa: ASYNC110 -- whoever watches a file tells nobody
            await asyncio.sleep(0)
    watch = room.rules._watch
    room.set()
    with pytest.raises(asyncio.CancelledError):
        await watch
    room.set(str(room.folder / "guard.yaml"))
    watch = room.rules._watch
    room.rules.done()
    with pytest.raises(asyncio.CancelledError):
        await watch
    assert room.stages == []


async def test_what_a_command_did_while_a_file_was_read_has_the_last_word(room, monkeypatch):
    path = room.write(BLOCK)
    room.set(path)
    room.write(ALLOW)
    looking = room.rules.look()

    async def meanwhile(function, *arguments):
        loaded = function(*arguments)
        room.set()
        return loaded

    monkeypatch.setattr(asyncio, "to_thread", meanwhile)
    await looking
    assert room.stages == []


async def test_reload_loads_all_files_or_none(room):
    room.set(room.write(BLOCK, "a.yaml"), room.write(ALLOW, "b.yaml"))
    room.write(ALLOW, "a.yaml")
    room.write(BROKEN, "b.yaml")
    with pytest.raises(exceptions.CommandError, match=r"b.yaml:2: rules\[0\]"):
        room.rules.reload()
    assert room.blocks()
    room.write(BLOCK, "b.yaml")
    assert room.rules.reload() == "2 rules from 2 files"
    assert [line.split(" | ")[1] for line in room.rules.rules()] == ["no-rm", "no-echo"]


async def test_a_list_of_rules_has_their_files_modes_and_hits(room):
    audited = BLOCK.replace("no-echo,", "no-echo, mode: audit,")
    path = room.write(audited + "  - {when: {method: ping}, do: block}\n")
    room.set(path)
    room.blocks()
    room.blocks()
    assert room.rules.rules() == [f"{path} | no-echo | audit | 2 hits", f"{path} | rule-2 | enforce | 0 hits"]
    room.write(BLOCK + "mode: audit\n")
    room.rules.reload()
    assert room.rules.rules() == [f"{path} | no-echo | audit | 2 hits"]


async def test_a_rule_that_is_still_the_same_goes_on_counting(room):
    text = "rules:\n  - {name: second, when: {target: echo, nth: 2}, do: block}\n"
    room.set(room.write(text))
    assert not room.blocks()
    room.write(text + "  - {when: {method: ping}, do: block}\n")
    await room.rules.look()
    assert room.blocks()


async def test_another_seed_loads_all_anew(room):
    path = room.write("rules:\n  - {when: {probability: 0.5}, do: block}\n")
    drawn = set()
    for seed in range(6):
        room.set(path, shadowcat_rules_seed=seed)
        drawn.add(tuple(room.blocks() for _ in range(10)))
    assert len(drawn) > 1
    room.set()
    room.set(path, shadowcat_rules_seed=0)
    again = tuple(room.blocks() for _ in range(10))
    room.set()
    room.set(path, shadowcat_rules_seed=0)
    assert tuple(room.blocks() for _ in range(10)) == again


async def test_the_options_of_others_do_not_touch_the_rules(room):
    room.set(room.write(BLOCK))
    stage = room.pipeline.stages[0]
    room.rules.configure({"anticache"})
    assert room.pipeline.stages[0] is stage


async def test_commands_and_options_are_there_with_their_types(room):
    commands = room.tctx.master.commands.commands
    assert {"shadowcat.rules", "shadowcat.rules.reload"} <= set(commands)
    assert room.tctx.master.commands.execute("shadowcat.rules.reload") == "0 rules from 0 files"
    assert room.tctx.master.commands.execute("shadowcat.rules") == ["no rules (set shadowcat_rules to files)"]
