"""Hooks and interceptors of other people's addons: found, called in order, kept to what they declare."""

import asyncio
import logging

import pytest
from mitmproxy.addons.view import View

from shadowcat_addons.addon_hooks import HOOKS
from shadowcat_core.interceptors import Action, Fail, Mode, Modify
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction
from tests.addons.hooks_world import EVERYTHING, NOTIFICATION, REQUEST, SHOWN, Listener, world
from tests.core.interception import TO_CLIENT, TO_SERVER

__all__ = ["world"]


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_hook_is_shown_its_kinds_of_message_in_both_directions(world, hook):
    listener = world.add(Listener("one", hook))
    for context in (TO_SERVER, TO_CLIENT):
        listener.shown.clear()
        assert await world.pass_on(*EVERYTHING, context=context) == EVERYTHING
        assert listener.shown == [(hook, shown) for shown in SHOWN[hook]]


async def test_nobody_with_hooks_means_nobody_in_the_pipeline(world):
    class Plain:
        def request(self, flow): ...

    world.add(Plain())
    assert world.names() == []
    assert await world.pass_on(REQUEST) == [REQUEST]


@pytest.mark.parametrize("hook", ["mcp_message", "mcp_batch", "mcp_request"])
@pytest.mark.parametrize("how", ["def", "async def"])
async def test_functions_of_a_script_are_hooks_sync_or_async(world, how, hook):
    world.script(f"seen = []\n{how} {hook}(given):\n    seen.append(given)\n")
    assert world.names() == [f"mine.{hook}"]
    assert await world.pass_on(REQUEST) == [REQUEST]
    assert len(world.addons.get(str(world.folder / "mine.py")).seen) == 1


@pytest.mark.parametrize("how", ["def", "async def"])
async def test_a_hook_may_give_a_verdict(world, how):
    world.script(
        f"""
        from shadowcat_core.interceptors import Block
        {how} mcp_request(message):
            return Block("not now")
        """
    )
    assert await world.pass_on(NOTIFICATION, REQUEST) == [NOTIFICATION]
    assert [(record.interceptor, record.action, record.reason) for record in world.records] == [
        ("mine.mcp_request", Action.BLOCK, "not now")
    ]


async def test_a_hook_that_really_waits_is_waited_for(world):
    decision = asyncio.get_running_loop().create_future()

    class Waiter:
        async def mcp_request(self, message):
            return await decision

    world.add(Waiter())
    passing = asyncio.create_task(world.pass_on(REQUEST))
    await asyncio.sleep(0)
    assert not passing.done()
    decision.set_result(Modify(NOTIFICATION))
    assert await passing == [NOTIFICATION]


async def test_what_a_hook_waited_for_may_be_nothing(world):
    waited = asyncio.get_running_loop().create_future()
    waited.set_result(None)
    world.add(Listener("lambda", "mcp_message", verdict=waited))
    assert await world.pass_on(REQUEST) == [REQUEST]
    assert world.failures == []


async def test_a_batch_hook_edits_the_batch(world):
    class Dropper:
        def mcp_batch(self, batch):
            for position, _ in batch.where(kinds={Kind.NOTIFICATION}):
                batch.drop(position)

    world.add(Dropper())
    assert await world.pass_on(REQUEST, NOTIFICATION) == [REQUEST]


async def test_hooks_are_called_in_the_order_of_the_addons_and_then_of_their_kind(world):
    order = []

    class Noting:
        def __init__(self, name):
            self.name = name
            for hook in ("mcp_request", "mcp_message", "mcp_batch"):
                setattr(self, hook, lambda _, called=f"{name}.{hook}": order.append(called))

    parent = Noting("a")
    parent.addons = [Noting("b")]
    world.add(parent, Noting("c"))
    assert await world.pass_on(REQUEST) == [REQUEST]
    assert order == [f"{name}.mcp_{hook}" for name in "abc" for hook in ("batch", "message", "request")]
    assert world.names() == order


async def test_a_priority_comes_before_the_order_of_the_addons(world):
    late, early = Listener("late", "mcp_batch"), Listener("early", "mcp_batch")
    early.mcp_priority = -1
    world.add(late, early)
    assert world.names() == ["early.mcp_batch", "late.mcp_batch"]


@pytest.mark.parametrize("verdict", ["yes", 3, True, {"jsonrpc": "2.0"}])
@pytest.mark.parametrize("fail", ["open", "closed", None])
async def test_what_is_no_verdict_is_a_failure_and_open_unless_said_otherwise(world, verdict, fail):
    listener = Listener("odd", "mcp_request", verdict=verdict)
    if fail:
        listener.mcp_fail = fail
    world.add(listener)
    assert await world.pass_on(REQUEST) == ([] if fail == "closed" else [REQUEST])
    (failure,) = world.failures
    assert failure.interceptor == "odd.mcp_request"


@pytest.mark.parametrize("how", ["def", "async def"])
async def test_a_hook_that_raises_lets_the_message_pass(world, how):
    world.script(f"{how} mcp_request(message):\n    raise OSError('gone')\n")
    assert await world.pass_on(REQUEST) == [REQUEST]
    (failure,) = world.failures
    assert isinstance(failure.error, OSError)


async def test_an_addon_declares_what_its_hooks_care_for_and_how_they_are_run(world):
    listener = Listener("set", "mcp_message")
    listener.mcp_methods = {"tools/call"}
    listener.mcp_direction = "c2s"
    listener.mcp_exact = False
    listener.mcp_mode = "audit"
    listener.mcp_fail = "closed"
    listener.mcp_timeout_s = 2
    world.add(listener)
    assert await world.pass_on(REQUEST, NOTIFICATION) == [REQUEST, NOTIFICATION]
    assert await world.pass_on(REQUEST, context=TO_CLIENT) == [REQUEST]
    assert listener.shown == [("mcp_message", REQUEST)]
    (stage,) = world.pipeline.stages
    assert stage.interest.direction is Direction.CLIENT_TO_SERVER
    assert not stage.interest.exact
    assert (stage.settings.mode, stage.settings.fail, stage.settings.timeout_s) == (Mode.AUDIT, Fail.CLOSED, 2)


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("mcp_methods", "tools/call", "'tools/call', and may be a collection of methods, such as {\"tools/call\"}"),
        ("mcp_methods", 3, "3, and may be a collection"),
        ("mcp_methods", {1, 2}, "{1, 2}, and may be a collection"),
        ("mcp_mode", "watch", '\'watch\', and may be "enforce" or "audit"'),
        ("mcp_fail", "close", '\'close\', and may be "open" or "closed"'),
        ("mcp_fail", "x" * 1000, "'" + "x" * 79 + "…, and may be"),
        ("mcp_timeout_s", 0, "0, and may be a number of seconds above 0, or None"),
        ("mcp_timeout_s", "x", "'x', and may be a number of seconds"),
        ("mcp_priority", "first", "'first', and may be a whole number"),
        ("mcp_direction", "up", '\'up\', and may be "c2s" or "s2c", or None for both'),
    ],
)
async def test_a_declaration_that_makes_no_sense_is_said_and_costs_only_its_own_hook(
    world, caplog, attribute, value, says
):
    broken = Listener("broken", "mcp_message")
    setattr(broken, attribute, value)
    world.add(broken, Listener("fine", "mcp_message"))
    with caplog.at_level(logging.ERROR):
        assert world.names() == ["fine.mcp_message"]
    (record,) = caplog.records
    assert record.message.startswith(f"shadowcat: broken.mcp_message is not called: {attribute} is {says}")
    world.hooks.configure(set())
    assert world.names() == ["fine.mcp_message"]
    assert len(caplog.records) == 1
    world.hooks.done()
    assert world.pipeline.stages == ()


async def test_interceptors_in_a_scripts_list_are_added_with_what_they_declare(world):
    world.script(
        """
        from shadowcat_core.interceptors import Block

        class NoCalls:
            methods = {"tools/call"}
            priority = 7
            timeout_s = 3
            def intercept(self, message):
                return Block("no")

        class Silent:
            kinds = {"notification"}
            exact = False
            fail = "open"
            mode = "audit"
            name = "quiet"
            def intercept_batch(self, batch):
                for position, _ in batch.where(kinds={"notification"}):
                    batch.drop(position)

        addons = [NoCalls(), Silent()]
        """
    )
    assert world.names() == ["quiet", "NoCalls"]
    assert await world.pass_on(REQUEST, NOTIFICATION) == [NOTIFICATION]
    quiet, calls = (stage.settings for stage in world.pipeline.stages)
    assert (quiet.fail, quiet.mode, quiet.timeout_s) == (Fail.OPEN, Mode.AUDIT, None)
    assert (calls.fail, calls.mode, calls.timeout_s, calls.priority) == (Fail.CLOSED, Mode.ENFORCE, 3, 7)


async def test_an_interceptor_that_says_nothing_fails_closed(world):
    world.script("class Mute:\n    def intercept(self, message):\n        pass\naddons = [Mute()]")
    assert await world.pass_on(REQUEST) == []
    assert len(world.failures) == 1


async def test_both_shapes_in_one_object_count_once_as_the_batch_shape(world):
    world.script(
        """
        class Both:
            def intercept(self, message): ...
            def intercept_batch(self, batch): ...
        addons = [Both()]
        """
    )
    assert world.names() == ["Both"]
    assert await world.pass_on(REQUEST) == [REQUEST]
    assert world.failures == []


async def test_the_word_intercept_means_nothing_outside_a_scripts_list(world):
    class Embedded:
        def intercept(self, flow): ...

    world.add(Embedded())
    world.script("def intercept(flow): ...", "function.py")
    view = View()
    assert callable(view.intercept)
    world.add(view)
    assert world.names() == []


async def test_an_interceptor_is_told_its_own_names_and_what_they_may_be(world, caplog):
    world.script(
        """
        class Late:
            kinds = {"question"}
            def intercept(self, message): ...

        class Soft:
            fail = "softly"
            def intercept_batch(self, batch): ...

        addons = [Late(), Soft()]
        """
    )
    assert world.names() == []
    late, soft = (record.message for record in caplog.records)
    kinds = '"request", "notification", "response", "error" or "invalid"'
    assert (
        late == f"shadowcat: Late.intercept is not called: kinds is {{'question'}}, and may be a collection of {kinds}"
    )
    assert soft == 'shadowcat: Soft.intercept_batch is not called: fail is \'softly\', and may be "open" or "closed"'


async def test_names_that_seem_to_be_slips_are_told_once_with_the_nearest_that_there_is(world, caplog):
    script = world.script(
        """
        import json as mcp_json
        mcp_method = {"tools/call"}
        mcp_servers = ["mine"]
        def mcp_requests(message): ...
        def mcp_request(message): ...

        class Watcher:
            async def mcp_notifications(self, message): ...

        addons = [Watcher()]
        """
    )
    world.add(Listener("not of a script", "mcp_messages"))
    for _ in range(2):
        assert world.names() == ["mine.mcp_request"]
        world.hooks.configure(set())
    slips = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert slips == [
        "shadowcat: Watcher.mcp_notifications means nothing here; is it meant to be mcp_notification?",
        "shadowcat: mine.mcp_method means nothing here; is it meant to be mcp_methods?",
        "shadowcat: mine.mcp_requests means nothing here; is it meant to be mcp_request?",
    ]
    world.write("def mcp_request(message): ...")
    script.loadscript()
    world.names()
    world.write("def mcp_requests(message): ...")
    script.loadscript()
    world.names()
    slips = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert slips[3:] == ["shadowcat: mine.mcp_requests means nothing here; is it meant to be mcp_request?"]


async def test_a_class_in_the_place_of_an_object_is_said_and_blocks_nothing(world, caplog):
    world.script("class Whole:\n    def intercept(self, message): ...\naddons = [Whole]")
    with caplog.at_level(logging.ERROR):
        assert await world.pass_on(REQUEST) == [REQUEST]
    assert "Whole.intercept is not called: Whole is a class, and `addons` takes objects: write `Whole()`" in caplog.text


async def test_an_addon_that_mitmproxy_has_not_registered_is_not_called(world):
    parent = world.add(Listener("parent", "mcp_batch"))
    parent.addons = [Listener("late", "mcp_batch")]
    assert world.names() == ["parent.mcp_batch"]


async def test_a_module_or_a_value_with_a_hooks_name_is_no_hook(world):
    world.script("import json as mcp_message\nmcp_batch = None\nmcp_request = 3")
    assert world.names() == []
