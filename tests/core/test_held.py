"""A judged stream beside its messages: what is collected, posted and given up, who looks on, and who cannot wait."""

import asyncio

import pytest

from shadowcat_core.content_coding import decoder_for
from shadowcat_core.framing import SseFraming
from shadowcat_core.interceptors import BatchPolicy
from shadowcat_core.outlet import Cut
from shadowcat_core.stream import Held
from tests.core.interception import TO_CLIENT, Does, Says, in_virtual_time, names, pipeline_of
from tests.core.judged_stream import clock_ns, event, said, steered, wire

# Larger batches, collected.


def test_what_is_collected_is_judged_together_when_it_is_due():
    async def scenario():
        batches = []
        stream = wire(pipeline_of(Does(lambda b: batches.append(names(b)))), policy=BatchPolicy(max_delay_ms=50))
        await stream.take(event(1))
        await stream.until(0.02)
        await stream.take(event(2))
        assert stream.tap.due_ns == int(stream.began_s * 1e9) + 50_000_000
        await stream.flush()
        assert stream.sent == []
        await stream.until(0.1)
        assert stream.tap.due_ns is None
        assert batches == [["1", "2"]]
        assert [at_s for at_s, _ in stream.sent] == [0.05]

    in_virtual_time(scenario())


@pytest.mark.parametrize("policy", [BatchPolicy(2, 65_536, 1000), BatchPolicy(64, 150, 1000)], ids=["events", "bytes"])
def test_a_collection_that_is_full_is_judged_at_once(policy):
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), policy=policy)
        await stream.take(event(1), event(2), event(3))
        assert [(at_s, said(data)) for at_s, data in stream.sent] == [(0, ["1", "2"])]
        await stream.end()
        assert said(stream.body) == ["1", "2", "3"]

    in_virtual_time(scenario())


def test_an_event_that_is_held_in_a_collection_lets_those_before_it_go():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), policy=BatchPolicy(max_delay_ms=100))
        await stream.take(event(1), event(2, hold_s=2), event(3))
        await stream.until(5)
        assert [(at_s, said(data)) for at_s, data in stream.sent] == [(0.1, ["1"]), (2.1, ["2", "3"])]

    in_virtual_time(scenario())


def test_without_interceptors_nothing_is_collected():
    async def scenario():
        stream = wire(pipeline_of(), policy=BatchPolicy(max_delay_ms=100))
        await stream.take(event(1))
        assert said(stream.body) == ["1"]
        assert stream.tap.due_ns is None

    in_virtual_time(scenario())


# What is sent on the stream besides what came.


def test_what_is_owed_comes_before_all_else_and_what_is_posted_between_two_frames():
    async def scenario():
        nudges = []
        stream = wire(pipeline_of(Says(steered)))
        stream.tap.owe(event("owed"))
        stream.tap.on_post = lambda: nudges.append(1)
        await stream.flush()
        await stream.take(event(1))
        assert stream.tap.post(event("mine"))
        assert nudges == [1]
        await stream.flush()
        await stream.take(event(2)[:9])
        assert stream.tap.post(event("also mine"))
        await stream.end()
        assert said(stream.body.removesuffix(event(2)[:9])) == ["owed", "1", "mine", "also mine"]
        assert b"".join(stream.passed) == stream.body

    in_virtual_time(scenario())


@pytest.mark.parametrize("judges", [False, True])
def test_what_is_posted_waits_for_the_end_of_a_frame_that_has_passed_in_half(judges):
    async def scenario():
        pipeline = pipeline_of()
        stream = wire(pipeline)
        stream.tap.on_post = lambda: None
        await stream.take(event(1)[:20])
        if judges:
            pipeline.add(Says(steered))
            assert not stream.tap.passes_first()
        assert stream.tap.post(event("mine"))
        await stream.flush()
        assert stream.body == event(1)[:20]
        assert not stream.tap.has_posted
        await stream.take(event(1)[20:])
        assert stream.tap.has_posted
        await stream.flush()
        assert stream.body == event(1) + event("mine")

    in_virtual_time(scenario())


def test_nothing_can_be_posted_on_a_stream_that_passes_in_its_coding():
    async def scenario():
        stream = wire(decoder=decoder_for("gzip"))
        stream.tap.on_post = lambda: None
        assert not stream.tap.post(event("mine"))
        stream = wire(pipeline_of(Says(steered)), decoder=decoder_for("gzip"), passes_decoded=True)
        stream.tap.on_post = lambda: None
        assert stream.tap.post(event("mine"))

    in_virtual_time(scenario())


@pytest.mark.parametrize("how", ["end", "abort", "release"])
def test_nothing_can_be_posted_on_a_stream_that_is_over(how):
    async def scenario():
        stream = wire()
        assert not stream.tap.post(event("nobody can send it yet"))
        stream.tap.on_post = lambda: None
        if how == "end":
            await stream.end()
        else:
            getattr(stream.tap, how)()
        assert not stream.tap.post(event("late"))
        await stream.flush()
        assert stream.body == b""

    in_virtual_time(scenario())


# Sinks.


def test_sinks_that_raise_are_left_out_and_the_stream_is_judged_on():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        calls = []

        def broken(*_):
            calls.append(1)
            raise LookupError("sink")

        stream.tap._passed_sinks.append(broken)
        stream.tap._chunk_sinks.append(broken)
        await stream.take(event(1), event(2, block=1), event(3))
        await stream.end()
        assert said(stream.body) == ["1", "3"]
        assert len(calls) == 2
        assert [str(failure) for failure in stream.failures] == ["sink", "sink"]

    in_virtual_time(scenario())


def test_watchers_of_a_judged_stream_are_shown_in_time_when_they_fall_behind():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), max_behind_bytes=300)
        for number in range(20):
            await stream.take(event(number))
        assert len(stream.shown) >= 15
        await stream.end()
        assert len(stream.shown) == 20

    in_virtual_time(scenario())


def test_a_stream_that_breaks_off_while_it_is_judged_shows_what_had_passed():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        await stream.take(event(1), event(2)[:9])
        stream.tap.abort()
        assert stream.shown == ["notifications/1"]

    in_virtual_time(scenario())


# Leaving.


def test_a_held_event_that_is_given_up_is_not_sent_and_leaves_no_task():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        held = stream.tap.take(event(1) + event(2, hold_s=1000))
        assert isinstance(held, Held)
        await held.more()
        assert held.take() == event(1)
        held.cancel()
        await held.more()
        assert held.take() == b""
        assert held.done
        assert len(asyncio.all_tasks()) == 1
        assert clock_ns() == int(stream.began_s * 1e9)

    in_virtual_time(scenario())


def test_what_might_have_gone_ahead_is_not_sent_either_once_it_is_given_up():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        held = stream.tap.take(event(1) + event(2, hold_s=1000))
        held.cancel()
        assert held.take() == b""
        while not held.done:
            await held.more()
            assert held.take() == b""

    in_virtual_time(scenario())


@pytest.mark.parametrize("is_given_up", [False, True])
def test_what_is_to_follow_a_held_event_comes_directly_behind_it_or_not_at_all(is_given_up):
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        held = stream.tap.take(event(1, hold_s=1))
        held.then(lambda: b"rest")
        if is_given_up:
            held.cancel()
        sent = b""
        while not held.done:
            await held.more()
            sent += held.take()
        held.then(lambda: b"too late")
        assert sent + held.take() == (b"" if is_given_up else event(1, hold_s=1) + b"rest")

    in_virtual_time(scenario())


def test_a_stream_goes_on_after_a_held_event_was_given_up():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        held = stream.tap.take(event(1, hold_s=1000) + event(2))
        held.cancel()
        while not held.done:
            await held.more()
            assert held.take() == b""
        assert stream.tap.take(event(3)) == event(3)

    in_virtual_time(scenario())


@pytest.mark.parametrize("framing", [SseFraming(TO_CLIENT, max_event_bytes=10), None])
def test_a_cut_is_a_value_and_never_an_exception(framing):
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), framing=framing)
        passed = stream.tap.take(event(1))
        assert isinstance(passed, bytes if framing is None else Cut)

    in_virtual_time(scenario())


# The plain seat, which cannot wait.


def seated(tap, whole, cut):
    sent = []
    for at in range(0, len(whole), cut):
        sent += tap(whole[at : at + cut])
    sent += tap(b"")
    assert b"" not in sent
    return b"".join(sent)


@pytest.mark.parametrize("cut", [1, 30, 10_000])
def test_in_the_plain_seat_what_would_be_held_is_dropped_and_said(cut):
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        whole = event(1) + event(2, hold_s=9) + event(3, block=1) + event(4)
        sent = seated(stream.tap, whole, cut)
        assert said(sent) == (["1", "4"] if cut < 10_000 else ["1"])
        assert [str(failure) for failure in stream.failures] == [
            "a message that an interceptor holds cannot wait here, and was dropped"
        ]
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(scenario())


def test_in_the_plain_seat_nothing_follows_the_end():
    async def scenario():
        tap = wire(pipeline_of(Says(steered))).tap
        assert tap(event(1)) == [event(1)]
        assert tap(b"") == []
        assert tap(event(2)) == []
        assert tap(b"") == []

    in_virtual_time(scenario())


def test_in_the_plain_seat_what_is_owed_comes_first_and_what_is_due_with_the_next_chunk():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), policy=BatchPolicy(max_delay_ms=100))
        stream.tap.owe(event("owed"))
        assert stream.tap(event(1)) == [event("owed")]
        await asyncio.sleep(0.2)
        assert stream.tap(event(2)) == [event(1)]
        assert stream.tap(b"") == [event(2)]

    in_virtual_time(scenario())


def test_in_the_plain_seat_a_cut_ends_the_stream():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), max_event_bytes=200)
        assert stream.tap(event(1)) == [event(1)]
        assert stream.tap(b"data: " + b"x" * 300) == []
        assert stream.tap(event(2)) == []
        assert stream.tap(b"") == []
        assert len(stream.failures) == 1

    in_virtual_time(scenario())


def test_in_the_plain_seat_an_unfinished_frame_comes_at_the_end():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        assert stream.tap(event(1) + b"data: unfinished") == [event(1)]
        assert stream.tap(b"") == [b"data: unfinished"]

    in_virtual_time(scenario())
