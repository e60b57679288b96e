"""Interceptors decide about a stream before it passes: in order, nothing lost, and only what waits is waited for."""

import asyncio
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.framing import BodyFraming, LineFraming
from shadowcat_core.interceptors import BatchPolicy, Block, Continue, Delay, Inject, Mock, Modify, Pause, apply
from shadowcat_core.messages import MessageBatch
from shadowcat_core.sse import SseParser
from tests.core.interception import TO_CLIENT, Says, in_virtual_time, pipeline_of
from tests.core.judged_stream import event, question, said, steered, steered_later, wire

JUDGES = {
    "sync": lambda: Says(steered),
    "async": lambda: Says(steered_later),
    "delay": lambda: Says(lambda message: Delay(message.payload.get("params", {}).get("hold_s", 0))),
}


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
def test_events_before_a_held_one_go_ahead_and_those_behind_it_keep_their_place(judge):
    async def scenario():
        stream = wire(pipeline_of(judge()))
        await stream.take(event(1) + event(2) + event(3, hold_s=2) + event(4), event(5))
        await stream.end()
        assert [(at_s, name) for at_s, data in stream.sent for name in said(data)] == [
            (0, "1"), (0, "2"), (2, "3"), (2, "4"), (2, "5"),
        ]  # fmt: skip
        assert stream.tap.metrics.held >= 1
        assert stream.failures == []

    in_virtual_time(scenario())


def test_several_events_of_one_chunk_may_be_held_one_after_the_other():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        await stream.take(event(1, hold_s=1) + event(2) + event(3, hold_s=2) + event(4) + event(5, hold_s=4))
        assert [(at_s, said(data)) for at_s, data in stream.sent] == [(1, ["1", "2"]), (3, ["3", "4"]), (7, ["5"])]

    in_virtual_time(scenario())


def test_two_interceptors_that_hold_hold_one_after_the_other():
    async def scenario():
        pipeline = pipeline_of(Says(steered), Says(steered_later))
        stream = wire(pipeline)
        await stream.take(event(1) + event(2, hold_s=3) + event(3))
        assert [(at_s, name) for at_s, data in stream.sent for name in said(data)] == [(0, "1"), (6, "2"), (6, "3")]

    in_virtual_time(scenario())


@pytest.mark.parametrize("rest", [b"", b"data: unfinished", b": c"])
def test_the_end_of_a_stream_waits_for_what_is_held(rest):
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        await stream.take(event(1, hold_s=5) + rest)
        await stream.end()
        await stream.end()
        assert stream.body == event(1, hold_s=5) + rest
        assert b"".join(stream.passed) == stream.body
        assert stream.shown == ["notifications/1"]

    in_virtual_time(scenario())


def test_a_last_line_without_its_end_is_judged_when_the_stream_ends():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), framing=LineFraming(TO_CLIENT))
        lines = [
            b'{"jsonrpc":"2.0","method":"a","params":{}}\n',
            b'{"jsonrpc":"2.0","method":"b","params":{"hold_s":3}}',
        ]
        await stream.take(*lines)
        await stream.end()
        assert [(at_s, data) for at_s, data in stream.sent] == list(zip([0, 3], lines, strict=True))

    in_virtual_time(scenario())


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_body_in_one_piece_is_judged_when_all_of_it_is_here(cut):
    async def scenario():
        stream = wire(pipeline_of(Says(lambda message: Mock({"n": 1}))), framing=BodyFraming(TO_CLIENT))
        body = b'{"jsonrpc":"2.0","id":4,"result":{"secret":true}}'
        await stream.take(*(body[at : at + cut] for at in range(0, len(body), cut)))
        assert stream.sent == []
        await stream.end()
        assert json.loads(stream.body) == {"jsonrpc": "2.0", "id": 4, "result": {"n": 1}}
        assert b"".join(stream.came) == body
        assert b"".join(stream.passed) == stream.body

    in_virtual_time(scenario())


def test_a_blocked_request_of_the_server_is_answered_to_the_server_once():
    async def scenario():
        stream = wire(pipeline_of(Says(lambda m: Block("no") if m.method == "sampling/createMessage" else Continue())))
        await stream.take(question(1) + event("a"), question(2), question(3, "roots/list"))
        await stream.end()
        assert stream.body == event("a") + question(3, "roots/list")
        assert [(reply.id, reply.payload["error"]["code"]) for reply in stream.replies] == [(1, -31010), (2, -31010)]

    in_virtual_time(scenario())


def test_replies_of_what_goes_ahead_and_of_what_was_held_are_given_once_each():
    async def scenario():
        def judge(message):
            if message.method == "sampling/createMessage":
                return Pause(asyncio.sleep(1, Block("held and refused"))) if message.id == 2 else Block("no")
            return Continue()

        stream = wire(pipeline_of(Says(judge)))
        await stream.take(question(1) + event("a") + question(2) + question(3) + event("b"))
        assert [reply.id for reply in stream.replies] == [1, 2, 3]
        assert [(at_s, said(data)) for at_s, data in stream.sent] == [(0, ["a"]), (1, ["b"])]

    in_virtual_time(scenario())


# Nothing lost, nothing twice, nothing out of order: against one event at a time.

VERDICTS = {
    "continue": Continue(),
    "modify": Modify({"jsonrpc": "2.0", "method": "notifications/m", "params": {}}),
    "block": Block("no"),
    "inject": Inject(
        [b'{"jsonrpc":"2.0","method":"notifications/b"}'], [b'{"jsonrpc":"2.0","method":"notifications/c"}']
    ),
    "delay": Delay(0.5),
    "pause": "pause",
    "pause and block": "pause and block",
}


class Scripted:
    """Gives verdicts by the number in a message, sync or async."""

    def __init__(self, verdicts, is_async):
        self.verdicts = verdicts
        self.is_async = is_async

    def intercept(self, message):
        name = self.verdicts[message.payload["params"]["n"]]
        return self.later(name) if self.is_async else self.now(name)

    def now(self, name):
        match name:
            case "pause":
                return Pause(asyncio.sleep(0.25))
            case "pause and block":
                return Pause(asyncio.sleep(0.25, Block("no")))
            case _:
                return VERDICTS[name]

    async def later(self, name):
        await asyncio.sleep(0.125)
        return self.now(name)


def one_by_one(pieces, verdicts):
    """What a client gets and the server is answered, one piece at a time and without any waiting."""
    sent, replies = [], []
    for piece in pieces:
        batch = MessageBatch.of_frames(SseParser().feed(piece), TO_CLIENT)
        for position, message in enumerate(list(batch)):
            name = verdicts[message.payload["params"]["n"]]
            verdict = {"delay": Continue(), "pause": Continue(), "pause and block": Block("no")}.get(
                name, VERDICTS[name]
            )
            apply(verdict, batch, position)
        sent.append(batch.emit())
        replies += [reply.id for reply in batch.replies]
    return b"".join(sent), replies


def numbered(n, kind):
    params = {"n": n}
    if kind == "comment":
        return b": %d\n\n" % n
    message = {"jsonrpc": "2.0", "method": "notifications/x", "params": params}
    if kind == "request":
        message |= {"id": n, "method": "sampling/createMessage"}
    return b"id: %d\ndata: %s\n\n" % (n, json.dumps(message).encode())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("delay_ms", [0, 100], ids=["at-once", "collected"])
def test_any_stream_in_any_cut_gives_what_its_events_give_one_by_one(is_async, delay_ms, data):
    kinds = data.draw(st.lists(st.sampled_from(["event", "request", "comment"]), max_size=8))
    verdicts = data.draw(st.lists(st.sampled_from(list(VERDICTS)), min_size=8, max_size=8))
    pieces = [numbered(n, kind) for n, kind in enumerate(kinds)]
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=6)))
    pauses_s = data.draw(st.lists(st.sampled_from([0, 0.05, 0.2, 1]), min_size=7, max_size=7))

    async def scenario():
        stream = wire(
            pipeline_of(Scripted(verdicts, is_async)), policy=BatchPolicy(max_events=3, max_delay_ms=delay_ms)
        )
        at_s = 0
        for (start, end), pause_s in zip(itertools.pairwise([0, *cuts, len(whole)]), pauses_s, strict=False):
            if whole[start:end]:
                await stream.take(whole[start:end])
            at_s += pause_s
            await stream.until(at_s)
        await stream.end()
        assert len(asyncio.all_tasks()) == 1
        return stream

    stream = in_virtual_time(scenario())
    body, replies = one_by_one(pieces, verdicts)
    assert stream.body == body
    assert [reply.id for reply in stream.replies] == replies
    assert b"".join(stream.came) == whole
    assert b"".join(stream.passed) == body
    assert b"" not in [chunk for _, chunk in stream.sent]
    assert stream.failures == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([event(1), b": c\n\n", b"\r", b"\n", b"data: x\r\n\r\n", b"\xef\xbb\xbf", b"id: 1\n\n"])),
    st.integers(1, 40),
)
def test_what_nobody_edits_passes_byte_for_byte(pieces, cut):
    whole = b"".join(pieces)

    async def scenario():
        stream = wire(pipeline_of(Says(lambda _: Continue())))
        await stream.take(*(whole[at : at + cut] for at in range(0, len(whole), cut)))
        await stream.end()
        assert stream.body == b"".join(stream.passed) == whole

    in_virtual_time(scenario())
