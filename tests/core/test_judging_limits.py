"""What cannot be judged passes or ends the stream, as the interceptors say; who is added in mid stream judges on."""

import asyncio
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.content_coding import decoder_for
from shadowcat_core.framing import LineFraming, SseFraming
from shadowcat_core.interceptors import BatchPolicy, Continue
from shadowcat_core.mcp import Direction
from tests.core.interception import TO_CLIENT, Says, in_virtual_time, pipeline_of
from tests.core.judged_stream import event, said, steered, wire

# What cannot be judged.

HUGE = b"data: " + b"x" * 500


@pytest.mark.parametrize("cut", [1, 64, 10_000])
def test_a_frame_over_the_limit_passes_with_all_that_follows_when_everybody_fails_open(cut):
    async def scenario():
        shown = Says(lambda _: Continue())
        stream = wire(pipeline_of(shown, fail="open"), max_event_bytes=300)
        whole = event(1) + HUGE + b"\n\n" + event(2)
        await stream.take(*(whole[at : at + cut] for at in range(0, len(whole), cut)))
        await stream.end()
        assert stream.cut is None
        assert stream.body == b"".join(stream.passed) == whole
        assert len(stream.failures) == 1
        assert stream.tap.metrics.unwatched_bytes > 500

    in_virtual_time(scenario())


@pytest.mark.parametrize("cut", [1, 64])
def test_a_frame_over_the_limit_ends_the_stream_when_somebody_fails_closed(cut):
    async def scenario():
        pipeline = pipeline_of(Says(lambda _: Continue()), fail="open")
        pipeline.add(Says(lambda _: Continue()), fail="closed", name="strict")
        stream = wire(pipeline, max_event_bytes=300)
        whole = event(1) + HUGE
        await stream.take(*(whole[at : at + cut] for at in range(0, len(whole), cut)))
        assert stream.cut is not None
        assert "limit of 300 bytes" in stream.cut
        assert "no interceptor can judge it" in stream.cut
        assert stream.body == event(1)

    in_virtual_time(scenario())


@pytest.mark.parametrize("fail", ["open", "closed"])
@pytest.mark.parametrize("hold_s", [0, 3])
def test_what_was_collected_before_a_frame_over_the_limit_is_judged_first(fail, hold_s):
    async def scenario():
        stream = wire(pipeline_of(Says(steered), fail=fail), policy=BatchPolicy(max_delay_ms=1000), max_event_bytes=300)
        held = {"hold_s": hold_s} if hold_s else {}
        await stream.take(event(1), event(2, block=1), event(3, **held))
        assert stream.sent == []
        await stream.take(HUGE)
        judged = event(1) + event(3, **held)
        assert stream.body == judged + (HUGE if fail == "open" else b"")
        await stream.take(event(4, block=1))
        await stream.end()
        if fail == "open":
            assert stream.body == judged + HUGE + event(4, block=1)
        else:
            assert stream.body == judged
            assert stream.cut is not None
        assert b"".join(stream.passed) == stream.body
        assert len(stream.failures) == 1

    in_virtual_time(scenario())


def test_a_stream_that_ends_behind_what_could_not_be_judged_is_cut_too():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)), policy=BatchPolicy(max_delay_ms=1000), max_event_bytes=300)
        await stream.take(event(1), HUGE)
        assert stream.cut is None
        await stream.end()
        assert stream.cut is not None
        assert stream.body == event(1)

    in_virtual_time(scenario())


def test_a_stream_whose_coding_is_broken_is_cut():
    async def scenario():
        coded = gzip.compress(event(1))
        stream = wire(
            pipeline_of(Says(lambda _: Continue()), fail="open"), decoder=decoder_for("gzip"), passes_decoded=True
        )
        await stream.take(coded, b"this is no gzip")
        assert stream.body == event(1)
        assert stream.cut is not None
        assert len(stream.failures) == 1

    in_virtual_time(scenario())


@pytest.mark.parametrize("cut", [1, 5, 10_000])
def test_a_coded_stream_is_judged_and_passes_without_its_coding(cut):
    async def scenario():
        coded = gzip.compress(event(1) + event(2, block=1) + event(3))
        stream = wire(pipeline_of(Says(steered)), decoder=decoder_for("gzip"), passes_decoded=True)
        await stream.take(*(coded[at : at + cut] for at in range(0, len(coded), cut)))
        await stream.end()
        assert stream.body == event(1) + event(3)
        assert b"".join(stream.came) == coded
        assert b"".join(stream.passed) == stream.body

    in_virtual_time(scenario())


class BrokenPipeline:
    """A pipeline with a fault of its own."""

    active = frozenset({Direction.SERVER_TO_CLIENT})

    def __init__(self, *, closed, later):
        self.closed, self.later = closed, later

    def fails_closed(self, _direction):
        return self.closed

    def run(self, batch, release=None):
        batch.drop(0)
        if not self.later:
            raise LookupError("ours")
        return asyncio.ensure_future(self.fail())

    async def fail(self):
        await asyncio.sleep(1)
        raise LookupError("ours")


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_a_pipeline_that_fails_lets_the_original_pass_only_when_nobody_fails_closed(closed, later):
    async def scenario():
        stream = wire(BrokenPipeline(closed=closed, later=later))
        await stream.take(event(1), event(2))
        await stream.end()
        assert stream.body == (b"" if closed else event(1) + event(2))
        assert [str(failure) for failure in stream.failures] == ["ours", "ours"]

    in_virtual_time(scenario())


def test_judging_that_somebody_else_cancels_meets_the_failure_policy():
    class Cancelled(BrokenPipeline):
        def run(self, batch, release=None):
            batch.drop(0)
            running = asyncio.ensure_future(asyncio.sleep(1000))
            asyncio.get_running_loop().call_later(1, running.cancel)
            return running

    async def scenario():
        for closed in (False, True):
            stream = wire(Cancelled(closed=closed, later=True))
            await stream.take(event(1), event(2))
            await stream.end()
            assert stream.body == (b"" if closed else event(1) + event(2))
            assert len(stream.failures) == 2

    in_virtual_time(scenario())


def test_replies_that_cannot_be_sent_are_told_and_the_stream_goes_on():
    def cannot(_replies):
        raise LookupError("nowhere to")

    async def scenario():
        stream = wire(pipeline_of(Says(steered)), on_replies=cannot)
        blocked = b'data: {"jsonrpc":"2.0","id":1,"method":"roots/list","params":{"block":1}}\n\n'
        await stream.take(blocked + event(1))
        assert said(stream.body) == ["1"]
        assert [str(failure) for failure in stream.failures] == ["nowhere to"]

    in_virtual_time(scenario())


def test_a_frame_over_the_limit_that_passed_unwatched_leaves_nothing_to_judge():
    async def scenario():
        pipeline = pipeline_of()
        stream = wire(pipeline, max_event_bytes=300)
        await stream.take(HUGE)
        pipeline.add(Says(steered), fail="open")
        await stream.take(b"\n\n", event(1, block=1))
        await stream.end()
        assert stream.body == HUGE + b"\n\n" + event(1, block=1)
        assert len(stream.failures) == 1

    in_virtual_time(scenario())


# Interceptors that come and go while the stream runs.


def test_an_interceptor_that_is_added_judges_from_the_next_chunk_on():
    async def scenario():
        pipeline = pipeline_of()
        stream = wire(pipeline)
        assert stream.tap.passes_first()
        await stream.take(event(1, block=1))
        stage = pipeline.add(Says(steered))
        assert not stream.tap.passes_first()
        await stream.take(event(2, block=1) + event(3))
        pipeline.remove(stage)
        await stream.take(event(4, block=1))
        await stream.end()
        assert said(stream.body) == ["1", "3", "4"]
        assert stream.shown == ["notifications/1", "notifications/3", "notifications/4"]
        assert b"".join(stream.passed) == stream.body

    in_virtual_time(scenario())


def test_an_interceptor_of_the_other_direction_changes_nothing():
    async def scenario():
        stream = wire(pipeline_of(Says(steered, direction=Direction.CLIENT_TO_SERVER)))
        assert stream.tap.passes_first()
        await stream.take(event(1, block=1))
        assert said(stream.body) == ["1"]

    in_virtual_time(scenario())


HALVES = {
    "event": (event(1, block=1), event(2, block=1) + event(3)),
    "comment": (b": a comment of some length\n\n", event(2) + event(3)),
    "array": (
        b'data: [{"jsonrpc":"2.0","method":"notifications/1"},{"jsonrpc":"2.0","method":"notifications/2"}]\n\n',
        event(2, block=1) + event(3),
    ),
}


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("together", [False, True])
def test_an_interceptor_that_is_added_while_a_frame_has_passed_in_half_judges_from_the_next_one_on(kind, together):
    half, rest = HALVES[kind]

    async def scenario():
        pipeline = pipeline_of()
        stream = wire(pipeline)
        await stream.take(half[:20])
        pipeline.add(Says(steered))
        assert not stream.tap.passes_first()
        await stream.take(*([half[20:] + rest] if together else [half[20:30], half[30:], rest]))
        await stream.end()
        judged = rest if kind == "comment" else event(3)
        assert stream.body == b"".join(stream.passed) == half + judged
        assert b"".join(stream.came) == half + rest

    in_virtual_time(scenario())


def test_an_interceptor_that_is_added_on_a_stream_whose_chunks_all_end_within_an_event_judges_all_the_same():
    async def scenario():
        pipeline = pipeline_of()
        stream = wire(pipeline)
        whole = b"".join(event(number, block=1) for number in range(100))
        for at in range(0, len(whole), len(event(10, block=1)) - 1):
            if at > 2_000 and not pipeline.stages:
                pipeline.add(Says(steered))
            await stream.take(whole[at : at + len(event(10, block=1)) - 1])
        assert 20 < len(said(stream.body)) < 40

    in_virtual_time(scenario())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([event(1), b": c\n\n", b"data: x\r\n\r\n", b"\xef\xbb\xbf", b"id: 1\n\n", b"\r", b"y"])),
    st.integers(1, 30),
    st.integers(0, 20),
)
def test_whenever_an_interceptor_is_added_no_byte_is_lost_or_doubled(pieces, cut, added_at):
    whole = b"".join(pieces)

    async def scenario():
        pipeline = pipeline_of()
        stream = wire(pipeline)
        for number, at in enumerate(range(0, len(whole), cut)):
            if number == added_at:
                pipeline.add(Says(lambda _: Continue()))
            await stream.take(whole[at : at + cut])
        await stream.end()
        assert stream.body == b"".join(stream.passed) == b"".join(stream.came) == whole

    in_virtual_time(scenario())


@pytest.mark.parametrize("how", ["end", "too large", "line"])
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_a_half_that_had_passed_is_not_sent_again_however_the_frame_ends(how, fail):
    async def scenario():
        pipeline = pipeline_of()
        framing = LineFraming(TO_CLIENT) if how == "line" else SseFraming(TO_CLIENT, max_event_bytes=300)
        stream = wire(pipeline, framing=framing)
        whole = b'{"jsonrpc":"2.0","method":"notifications/last"}' if how == "line" else b"data: " + b"x" * 100
        await stream.take(whole[:20])
        pipeline.add(Says(steered), fail=fail)
        await stream.take(whole[20:])
        if how == "too large":
            await stream.take(HUGE)
            assert stream.body == (whole[:20] if fail == "closed" else whole + HUGE)
        else:
            await stream.end()
            assert stream.body == whole
        assert b"".join(stream.passed) == stream.body

    in_virtual_time(scenario())


def test_an_interceptor_that_is_added_on_a_coded_stream_only_watches():
    async def scenario():
        pipeline = pipeline_of()
        stream = wire(pipeline, decoder=decoder_for("gzip"))
        pipeline.add(Says(steered))
        coded = gzip.compress(event(1, block=1))
        await stream.take(coded)
        await stream.end()
        assert stream.body == coded
        assert stream.shown == ["notifications/1"]

    in_virtual_time(scenario())


@pytest.mark.parametrize("cut", [1, 30, 10_000])
def test_the_event_that_says_where_to_post_is_left_alone_with_all_before_it(cut):
    async def scenario():
        seen = Says(steered)
        endpoint = b"event: endpoint\ndata: /messages?session_id=1\n\n"
        stream = wire(pipeline_of(seen))
        stream.tap.skip("/messages?session_id=1")
        whole = b": hello\n\n" + endpoint + event(1, block=1) + event(2, hold_s=1)
        await stream.take(*(whole[at : at + cut] for at in range(0, len(whole), cut)))
        await stream.end()
        assert stream.body == b": hello\n\n" + endpoint + event(2, hold_s=1)
        assert len(seen.shown) == 2

    in_virtual_time(scenario())


def test_when_nothing_says_where_to_post_everything_is_judged():
    async def scenario():
        stream = wire(pipeline_of(Says(steered)))
        stream.tap.skip("/messages")
        await stream.take(event(1, block=1), event(2))
        assert said(stream.body) == ["2"]

    in_virtual_time(scenario())
