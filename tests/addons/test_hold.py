"""Held messages show on their flows as mitmproxy's own intercepted ones, and people decide there."""

import asyncio
import json
import logging
from dataclasses import replace

import pytest
from mitmproxy.exceptions import CommandError
from mitmproxy.flow import Error
from mitmproxy.test import taddons

from shadowcat_core.exchange import Exchange
from shadowcat_core.interceptors import Action
from shadowcat_core.kept_body import TIMES_KEY
from shadowcat_core.messages import MessageBatch
from shadowcat_core.sse import encode
from tests.addons.conftest import request_flow, response_of
from tests.addons.hold_desk import (
    EDITED,
    MCP,
    NOTE,
    RAW,
    RESULT,
    TO_SERVER,
    Desk,
    answer_of,
    answered_flow,
    hold,
    laid_out,
    release,
    snapshot,
    soon,
)


def streaming_flow():
    flow = request_flow()
    flow.response = response_of(content_type="text/event-stream")
    flow.response.data.content = encode(b"{}") * 2
    flow.metadata[TIMES_KEY] = [[2, 10]]
    return flow


def event_of(desk):
    return desk.event(NOTE)


PLACES = [
    pytest.param(Desk.request, request_flow, "request", RAW, "tools/call echo", id="request"),
    pytest.param(answer_of, answered_flow, "response", RESULT, "answer to tools/call echo", id="response"),
    pytest.param(event_of, streaming_flow, "response", NOTE, "notifications/progress", id="event"),
]


def on_the_wire(raw, batch):
    return encode(raw) if batch is event_of else raw


@pytest.mark.parametrize(("batch", "flow_of", "side", "raw", "name"), PLACES)
def test_a_held_message_shows_on_its_flow_and_leaves_no_trace(batch, flow_of, side, raw, name):
    def act(desk):
        assert desk.flow.intercepted
        assert desk.flow.marked == ":raised_hand:"
        assert getattr(desk.flow, side).content == laid_out(raw)
        assert TIMES_KEY not in desk.flow.metadata
        assert desk.exchange.held == f"{name} (hold 1)"
        assert desk.redrawn == [desk.exchange]
        assert desk.call("release", "1") == f"released: {name} (hold 1)"

    _, sent, unchanged = hold(act, batch=batch, flow=flow_of())
    assert sent == on_the_wire(raw, batch)
    assert unchanged


def resume(desk):
    desk.flow.resume()


@pytest.mark.parametrize("let_go", [resume, release])
@pytest.mark.parametrize(("batch", "flow_of", "side", "raw", "name"), PLACES)
def test_what_a_person_writes_on_the_flow_goes_on_however_it_is_released(batch, flow_of, side, raw, name, let_go):
    edits = {b"echo": b"shout", b'"content": []': b'"content": [\n1 ]', b'"progress": 3': b'"progress": 3.30'}

    def act(desk):
        part = getattr(desk.flow, side)
        for before, after in edits.items():
            part.content = part.content.replace(before, after)
        let_go(desk)

    desk, sent, unchanged = hold(act, batch=batch, flow=flow_of())
    edited = {Desk.request: EDITED, answer_of: RESULT.replace(b"[]", b"[1]"), event_of: NOTE.replace(b"3", b"3.30")}
    assert sent == on_the_wire(edited[batch], batch)
    assert desk.said[1] == (Action.MODIFY, "edited by hand")
    assert unchanged  # the edit comes out of the pipeline, and whoever runs that writes it on the flow


def test_resuming_the_flow_releases_the_message_as_it_was():
    desk, sent, unchanged = hold(resume)
    assert (sent, unchanged) == (RAW, True)
    assert desk.said == [(Action.PAUSE, "hold 1"), (Action.RELEASE, "released")]


@pytest.mark.parametrize("write", [encode, lambda raw: raw.replace(b",", b", ") + b"\n"])
def test_an_event_may_be_written_with_the_event_around_it_and_without(write):
    def act(desk):
        desk.flow.response.content = write(NOTE.replace(b"3", b"4"))
        desk.flow.resume()

    _, sent, _ = hold(act, batch=event_of, flow=streaming_flow())
    assert sent == encode(NOTE.replace(b"3", b"4"))


def test_a_message_that_cannot_be_read_is_shown_and_released_as_it_came():
    broken = NOTE.replace(b"}}", b"}")

    def act(desk):
        assert desk.flow.response.content == encode(broken)
        desk.flow.response.content = encode(broken + b" }")
        desk.flow.resume()

    _, sent, unchanged = hold(act, batch=lambda desk: desk.event(broken), flow=streaming_flow())
    assert (sent, unchanged) == (encode(broken + b" }"), True)


@pytest.mark.parametrize("raw", [b'{"jsonrpc":"2.0","method":"a","method":"b","x":1.10}', b'{"a":"\\ud800"}'])
def test_what_is_not_edited_goes_on_byte_for_byte(raw):
    async def act(desk):
        resume(desk)
        await asyncio.sleep(1)
        desk.call("release", "all")

    assert hold(act, batch=lambda desk: desk.request(raw), flow=request_flow(raw))[1] == raw


@pytest.mark.parametrize("word", ["é", "Привет", "👋"])
@pytest.mark.parametrize(("batch", "flow_of", "side", "raw", "name"), PLACES)
def test_words_of_all_languages_can_be_written(batch, flow_of, side, raw, name, word):
    def act(desk):
        part = getattr(desk.flow, side)
        part.text = part.text.replace('"2.0"', f'"2.0", "note": "{word}"')
        desk.flow.resume()

    _, sent, unchanged = hold(act, batch=batch, flow=flow_of())
    assert f'"note":"{word}"'.encode() in sent
    assert unchanged


@pytest.mark.parametrize("text", [b"", b"{", b"[]", RAW.replace(b"7", b"8"), NOTE, encode(RAW) * 2])
@pytest.mark.parametrize("by_command", [False, True])
def test_an_edit_that_cannot_be_sent_keeps_the_message_held_and_says_why(text, by_command, caplog):
    caplog.set_level(logging.INFO)

    async def act(desk):
        desk.flow.request.content = text
        if by_command:
            with pytest.raises(CommandError):
                desk.call("release", "1")
            assert desk.call("release", "all").startswith("released 0; hold 1 stays: ")
        else:
            desk.flow.resume()
            await asyncio.sleep(1)
            assert desk.exchange.held.startswith("tools/call echo (hold 1): ")
            assert "hold 1 stays: " in caplog.text
        assert desk.flow.intercepted
        desk.flow.request.content = EDITED
        desk.flow.resume()

    assert hold(act)[1] == EDITED


def kill(desk):
    desk.flow.kill()


def end(desk):
    desk.flow.error = Error("client disconnected")
    desk.room.ended(desk.exchange, desk.flow)


@pytest.mark.parametrize(("leave", "reason"), [(kill, "its flow was killed"), (end, "the exchange ended while this")])
def test_a_message_whose_flow_is_gone_is_held_no_more(leave, reason):
    desk, sent, _ = hold(leave)
    assert sent == b""
    action, why = desk.said[1]
    assert action is Action.BLOCK
    assert why.startswith(reason)
    assert not desk.flow.intercepted


def test_the_end_of_another_exchange_changes_nothing():
    def act(desk):
        desk.room.ended(Exchange(4, "other", MCP), desk.flow)
        assert desk.exchange.held is not None
        release(desk)

    assert hold(act)[1] == RAW


def test_an_element_of_an_array_is_shown_alone():
    def act(desk):
        assert desk.flow.request.content == laid_out(RAW)
        desk.flow.request.content = EDITED
        desk.flow.resume()

    array = b"[ %s ]" % RAW
    flow = request_flow(array)
    _, sent, unchanged = hold(act, batch=lambda desk: desk.request(array), flow=flow)
    assert (json.loads(sent), unchanged) == ([json.loads(EDITED)], True)


def test_an_encoded_body_is_shown_and_edited_as_text_and_put_back_as_it_was():
    def act(desk):
        assert desk.flow.response.content == laid_out(RESULT)
        desk.flow.response.text = desk.flow.response.text.replace("[]", "[2]")
        desk.flow.resume()

    flow = answered_flow()
    flow.response.encode("gzip")
    _, sent, unchanged = hold(act, batch=answer_of, flow=flow)
    assert (sent, unchanged) == (RESULT.replace(b"[]", b"[2]"), True)


def test_a_flow_that_somebody_else_has_intercepted_stays_so():
    flow = request_flow()
    flow.intercept()
    desk, _, _ = hold(release, flow=flow)
    assert desk.flow.intercepted


def test_a_mark_that_a_person_sets_meanwhile_stays():
    def act(desk):
        desk.flow.marked = ":grapes:"
        release(desk)

    assert hold(act)[0].flow.marked == ":grapes:"


def test_a_message_without_a_flow_is_decided_about_by_commands():
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            elsewhere = [replace(desk.exchange.context(TO_SERVER), stream_id=name) for name in ("pipe", None)]
            batches = [MessageBatch.of_lines(RAW + b"\n", context) for context in elsewhere]
            works = [desk.pipeline.run(batch) for batch in batches]
            assert [line.count("flow") for line in desk.room.held()] == [0, 0]
            assert desk.call("release", "all") == "released 2"
            await asyncio.gather(*works)
            assert not desk.redrawn

    soon(main())


def test_a_flow_shows_one_message_at_a_time_and_the_commands_have_all():
    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow())
            before = snapshot(desk.flow)
            works = [desk.pipeline.run(desk.request()) for _ in range(2)]
            assert len(desk.room.held()) == 2
            assert desk.exchange.held == "tools/call echo (hold 1)"
            release(desk)
            await asyncio.gather(*works)
            assert snapshot(desk.flow) == before

    soon(main())
