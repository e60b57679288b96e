"""Commands and options decide about held messages, and say what cannot be done."""

import asyncio
import json
import logging
from dataclasses import replace

import pytest
from mitmproxy import exceptions
from mitmproxy.exceptions import CommandError
from mitmproxy.test import taddons
from mitmproxy.tools.dump import DumpMaster

from shadowcat_core.interceptors import Action
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import MessageBatch
from tests.addons.conftest import request_flow
from tests.addons.hold_desk import (
    EDITED,
    RAW,
    RESULT,
    Desk,
    answer_of,
    answered_flow,
    hold,
    now_s,
    release,
    snapshot,
    soon,
)


@pytest.mark.parametrize(
    ("command", "arguments", "told", "sent", "record"),
    [
        ("edit", [EDITED.decode()], "edited and released", EDITED, (Action.MODIFY, "edited by hand")),
        ("drop", [], "dropped", b"", (Action.BLOCK, "dropped by hand")),
        ("answer", ['{"a":1}'], "answered", b"", (Action.MOCK, "answered by hand")),
        ("answer", ['{"error":{"code":1,"message":"x"}}'], "answered", b"", (Action.MOCK, "answered by hand")),
    ],
)
def test_commands_decide_about_a_held_message(command, arguments, told, sent, record):
    def act(desk):
        assert desk.call(command, "1", *arguments) == f"{told}: tools/call echo (hold 1)"

    desk, really_sent, unchanged = hold(act)
    assert (really_sent, desk.said[1], unchanged) == (sent, record, True)


@pytest.mark.parametrize(
    ("command", "arguments", "complaint"),
    [
        ("release", ["2"], "there is no hold 2"),
        ("release", ["every"], "neither the number of a hold nor `all`"),
        ("drop", ["0"], "there is no hold 0"),
        ("edit", ["1", "{"], "JSON"),
        ("answer", ["1", "[]"], "an object"),
    ],
)
def test_a_command_that_cannot_be_done_says_why_and_changes_nothing(command, arguments, complaint):
    def act(desk):
        with pytest.raises(CommandError, match=complaint):
            desk.call(command, *arguments)
        assert desk.flow.intercepted
        release(desk)

    assert hold(act)[1] == RAW


def test_held_messages_are_listed_with_their_age_and_flow():
    def act(desk):
        assert desk.room.held() == [f"1 | 1 s | request → tools/call #7 echo | flow {desk.flow.id}"]
        release(desk)

    hold(act)

    def act_on_answer(desk):
        (line,) = desk.room.held()
        assert line.startswith("1 | 1 s | response ← result #7 tools/call echo")
        release(desk)

    hold(act_on_answer, batch=answer_of, flow=answered_flow())


def test_where_nothing_is_held_the_list_is_empty_and_mitmproxys_console_gets_words_to_show():
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            assert desk.call("held") == []
            context.options.add_option("console_layout", str, "single", "")
            assert desk.call("held") == ["nothing is held"]

    soon(main())


def test_a_program_gets_the_held_messages_as_json():
    def act(desk):
        (held,) = json.loads(desk.room.held_json())
        assert held == {
            "number": 1,
            "age_s": 1.0,
            "name": "tools/call echo",
            "kind": "request",
            "direction": "c2s",
            "method": "tools/call",
            "target": "echo",
            "session": "s-1",
            "flow": desk.flow.id,
            "message": RAW.decode(),
        }
        release(desk)

    desk, _, _ = hold(act)
    assert desk.call("held.json") == "[]"

    def act_on_answer(desk):
        (held,) = json.loads(desk.call("held.json"))
        assert (held["kind"], held["method"], held["target"]) == ("response", "tools/call", "echo")
        assert held["message"] == RESULT.decode()
        release(desk)

    hold(act_on_answer, batch=answer_of, flow=answered_flow())


def test_a_program_gets_what_cannot_be_read_and_what_has_no_flow_too():
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            pipe = replace(desk.exchange.context(Direction.CLIENT_TO_SERVER), stream_id=None)
            work = desk.pipeline.run(MessageBatch.of_lines(b'{"jsonrpc":"\xff\n', pipe))
            (held,) = json.loads(desk.room.held_json())
            assert (held["kind"], held["method"], held["flow"]) == ("invalid", None, None)
            assert held["message"] == '{"jsonrpc":"\ufffd'
            release(desk)
            await work

    soon(main())


def leave(desk):
    desk.room.ended(desk.exchange, desk.flow)


@pytest.mark.parametrize(
    ("act", "how"),
    [
        (release, "released"),
        (lambda desk: desk.call("edit", "1", EDITED.decode()), "edited by hand"),
        (lambda desk: desk.call("answer", "1", "{}"), "answered by hand"),
        (lambda desk: desk.call("drop", "1"), "dropped by hand"),
        (lambda desk: desk.flow.kill(), "its flow was killed"),
        (leave, "the exchange ended while this was held"),
    ],
)
def test_the_log_says_how_a_hold_ended(act, how, caplog):
    caplog.set_level(logging.INFO)

    def acts(desk):
        act(desk)

    hold(acts)
    assert [record.getMessage() for record in caplog.records] == [
        "shadowcat: held: tools/call echo (hold 1)",
        f"shadowcat: {how}: tools/call echo (hold 1)",
    ]


@pytest.mark.parametrize(
    ("outcome", "how"),
    [("release", "released, as nobody decided within 2 s"), ("block", "nobody decided in time")],
)
def test_the_log_says_that_nobody_decided(outcome, how, caplog):
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            desk.set("echo", timeout_s=2, on_timeout=outcome)
            caplog.set_level(logging.INFO)
            await desk.pipeline.run(desk.request())
            await asyncio.sleep(0)
            assert caplog.records[-1].getMessage() == f"shadowcat: {how}: tools/call echo (hold 1)"

    soon(main())


def test_the_log_says_that_nobody_waits_any_more(caplog):
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            caplog.set_level(logging.INFO)
            desk.pipeline.run(desk.request()).cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert caplog.records[-1].getMessage() == (
                "shadowcat: nobody waits for it any more: tools/call echo (hold 1)"
            )

    soon(main())


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [("echo", {}, True), ("echo", {"timeout_s": 5}, False), ("", {"on_timeout": "block"}, False)],
)
def test_mitmdump_has_nobody_who_decides_and_without_a_time_limit_that_is_said(words, options, said, caplog):
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            assert not caplog.records  # other programs have somebody
            context.master.__class__ = DumpMaster
            desk.set(words, **options)
            assert ("shadowcat_hold_timeout_s limits how long" in caplog.text) is said

    soon(main())


@pytest.mark.parametrize(
    ("outcome", "record"),
    [
        ("release", (Action.RELEASE, "nobody decided within 2 s")),
        ("block", (Action.BLOCK, "nobody decided in time")),
    ],
)
def test_after_the_time_that_was_set_a_message_meets_the_outcome_that_was_set(outcome, record):
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            desk.set("echo", timeout_s=2, on_timeout=outcome)
            before = snapshot(desk.flow)
            await desk.pipeline.run(desk.request())
            await asyncio.sleep(0)
            assert now_s() == pytest.approx(1002)
            assert desk.said[1] == record
            assert snapshot(desk.flow) == before
            assert desk.exchange.held is None

    soon(main())


def test_an_edit_that_nobody_released_is_lost_with_the_time():
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            desk.set("echo", timeout_s=2)
            batch = desk.request()
            pending = desk.pipeline.run(batch)
            desk.flow.request.content = EDITED
            await pending
            await asyncio.sleep(0)
            assert batch.emit() == desk.flow.request.content == RAW

    soon(main())


def test_what_is_held_is_set_at_run_time_and_what_is_held_already_stays(caplog):
    async def main():
        caplog.set_level(logging.INFO)
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            pending = desk.pipeline.run(desk.request())
            assert "held: tools/call echo (hold 1)" in caplog.text
            desk.set("target:other")
            assert [stage.settings.name for stage in desk.pipeline.stages] == ["hold"]
            assert desk.pipeline.run(desk.request()) is None
            desk.set("")
            assert desk.pipeline.stages == ()
            assert "nothing more is held; a message still is" in caplog.text
            desk.set("")
            assert len(desk.room.held()) == 1
            desk.set("echo")
            more = desk.pipeline.run(desk.request())
            desk.room.done()
            await asyncio.gather(pending, more)
            assert desk.pipeline.stages == ()
            assert desk.room.held() == []
            assert not desk.flow.intercepted

    soon(main())


def test_too_many_held_messages_are_said_once(caplog):
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            desk.room._held._max_held = 1
            works = [desk.pipeline.run(desk.request()) for _ in range(3)]
            await asyncio.gather(*works[1:])
            assert caplog.text.count("as many as there may be") == 1
            release(desk)
            await works[0]

    soon(main())


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("shadowcat_hold", "colour:red", "there are method:, target:"),
        ("shadowcat_hold", "kind:requests", "fits no message"),
        ("shadowcat_hold", "target:'x", "quot"),
        ("shadowcat_hold_timeout_s", -1, "0 or more"),
        ("shadowcat_hold_on_timeout", "explode", "is not release or block"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(option, value, complaint):
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            stages = desk.pipeline.stages
            with pytest.raises(exceptions.OptionsError, match=complaint):
                context.configure(desk.room, **{option: value})
            assert desk.pipeline.stages == stages

    soon(main())


def test_it_is_off_unless_it_is_set_and_heads_and_beginnings_are_nothing_to_it():
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            desk.set("")
            assert desk.pipeline.run(desk.request()) is None
            desk.room.opened(desk.exchange, desk.flow)
            desk.room.answering(desk.exchange, desk.flow)
            assert not desk.redrawn

    soon(main())
