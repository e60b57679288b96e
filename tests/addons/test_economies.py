"""What is had for less has the same outcome as mitmproxy's own: addons called, failures said, messages checked."""

import logging
import math
from dataclasses import dataclass, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import addonmanager, hooks, http
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.keepserving import KeepServing
from mitmproxy.addons.stickyauth import StickyAuth
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.test import taddons, tflow

from shadowcat_addons.http_stream.economies import economise

DEEDS = ("nothing", "sync", "async", "fails", "fails later", "halts", "refuses", "is no hook", "is a module")


@pytest.fixture
def economies():
    undo = economise()
    yield
    undo()


class Addon:
    """Does one thing at a request, and has perhaps brought others."""

    def __init__(self, number, deed, brought, called) -> None:
        self.name = f"addon {number}"
        if brought:
            self.addons = brought
        if deed == "is no hook":
            self.request = 3
        elif deed == "is a module":
            self.request = math
        elif deed != "nothing":
            self.request = getattr(self, f"_{deed.partition(' ')[0]}")
        self._call = lambda flow: called.append((self.name, flow))
        self._is_late = deed == "fails later"

    def __repr__(self) -> str:
        return self.name

    def _sync(self, flow):
        self._call(flow)

    async def _async(self, flow):
        self._call(flow)

    def _fails(self, flow):
        self._call(flow)
        if not self._is_late:
            raise ValueError(self.name)
        return self._later()

    async def _later(self):
        raise ValueError(f"{self.name}, later")

    def _halts(self, flow):
        self._call(flow)
        raise AddonHalt

    def _refuses(self, flow):
        self._call(flow)
        raise OptionsError(self.name)


def addons_of(tree, called, numbers):
    return [Addon(next(numbers), deed, addons_of(brought, called, numbers), called) for deed, brought in tree]


TREES = st.recursive(
    st.just([]),
    lambda brought: st.lists(st.tuples(st.sampled_from(DEEDS), brought), max_size=4),
    max_leaves=12,
)


async def outcome(tree, caplog):
    """Who was called with what, what was logged, and what was raised."""
    called = []
    manager = AddonManager(type("Master", (), {"options": Options()})())
    manager.chain = addons_of(tree, called, iter(range(1000)))
    caplog.clear()
    raised = None
    try:
        await manager.trigger_event(HttpRequestHook("the flow"))
    except OptionsError as exc:
        raised = type(exc), str(exc)
    said = [(record.getMessage(), record.exc_info[0], str(record.exc_info[1])) for record in caplog.records]
    return called, said, raised


@given(TREES)
async def test_addons_are_called_and_their_failures_said_as_by_mitmproxy(tree):
    caplog = _Records()
    with caplog:
        expected = await outcome(tree, caplog)
        undo = economise()
        try:
            first = await outcome(tree, caplog)
            again = await outcome(tree, caplog)  # it has looked at them once
        finally:
            undo()
    assert [str(each) for each in (first, again)] == [str(expected)] * 2


class _Records(logging.Handler):
    """What addonmanager logs; hypothesis does not go with pytest's fixture."""

    def __init__(self) -> None:
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def clear(self):
        self.records.clear()

    def __enter__(self):
        addonmanager.logger.addHandler(self)
        return self

    def __exit__(self, *_):
        addonmanager.logger.removeHandler(self)


async def test_a_failures_traceback_begins_at_the_addon(economies, caplog):
    class Failing:
        def request(self, flow):
            raise ValueError("no")

    with taddons.context(Failing()) as context:
        await context.master.addons.trigger_event(HttpRequestHook(tflow.tflow()))
    (record,) = caplog.records
    assert record.getMessage() == "Addon error: no"
    assert record.exc_info[2].tb_frame.f_code.co_name == "request"


async def test_an_addon_that_learns_a_hook_is_called_from_then_on(economies):
    class Learning:
        pass

    with taddons.context(addon := Learning()) as context:
        await context.master.addons.trigger_event(HttpRequestHook("before"))
        heard = []
        addon.request = heard.append
        await context.master.addons.trigger_event(HttpRequestHook("after"))
    assert heard == ["after"]


async def test_a_script_can_give_mitmproxys_own_addons_hooks_and_take_them_away(economies, monkeypatch):
    heard = []
    with taddons.context(teaching := KeepServing(), hooked := StickyAuth()) as context:

        async def happens(flow):
            await context.master.addons.trigger_event(HttpRequestHook(flow))

        await happens(tflow.tflow())
        teaching.request = heard.append
        hooked.request = None
        await happens("of its own")
        del teaching.request
        monkeypatch.setattr(KeepServing, "request", lambda _self, flow: heard.append(flow), raising=False)
        await happens("of its class")
    assert heard == ["of its own", "of its class"]


async def test_a_hook_that_is_none_is_said_each_time(economies, caplog):
    class Mistaken:
        request = 3

    with taddons.context(Mistaken()) as context:
        for _ in range(2):
            await context.master.addons.trigger_event(HttpRequestHook("a flow"))
    assert ["not callable" in record.getMessage() for record in caplog.records] == [True, True]


@pytest.mark.parametrize("event", list(hooks.all_hooks.values()), ids=lambda event: event.name)
def test_hooks_are_given_what_mitmproxy_gives_them(event):
    made = event(*(object() for _ in fields(event)))
    expected = made.args()
    undo = economise()
    assert made.args() == expected
    undo()


@pytest.mark.parametrize("field", ["http_version", "headers", "content", "timestamp_start"])
def test_a_message_with_a_field_of_the_wrong_type_is_refused_each_time(economies, field):
    right = vars(tflow.tflow().request.data)
    for _ in range(2):
        http.RequestData(**right)
        with pytest.raises(TypeError, match=field):
            http.RequestData(**right | {field: object()})


def test_the_types_that_are_right_for_one_kind_of_message_are_not_for_another(economies):
    @dataclass
    class OfBytes(http.RequestData):
        host: bytes

    right = vars(tflow.tflow().request.data)
    http.RequestData(**right)
    with pytest.raises(TypeError, match="host"):
        OfBytes(**right)


def test_all_is_mitmproxys_again_afterwards():
    before = AddonManager.trigger_event, hooks.Hook.args, http.MessageData.__post_init__
    undo = economise()
    during = AddonManager.trigger_event, hooks.Hook.args, http.MessageData.__post_init__
    undo()
    assert all(ours is not its for ours, its in zip(during, before, strict=True))
    assert (AddonManager.trigger_event, hooks.Hook.args, http.MessageData.__post_init__) == before


def test_what_somebody_else_has_put_in_its_place_since_stays(monkeypatch):
    monkeypatch.setattr(hooks.Hook, "args", hooks.Hook.args)
    undo = economise()
    hooks.Hook.args = others = lambda self: []
    undo()
    assert hooks.Hook.args is others


def test_without_asserts_there_is_no_check_to_save(monkeypatch):
    monkeypatch.delattr(http.MessageData, "__post_init__")
    undo = economise()
    assert not hasattr(http.MessageData, "__post_init__")
    undo()
