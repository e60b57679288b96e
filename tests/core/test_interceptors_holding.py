"""Messages that are held: what stands before them goes ahead, and the rest follows the decision."""

import asyncio

import pytest

from shadowcat_core.interceptors import Action, Block, Continue, Delay, Inject, Mock, Modify, Pause, Pipeline
from tests.core.interception import (
    FRAMINGS,
    TO_CLIENT,
    TO_SERVER,
    Says,
    events,
    in_virtual_time,
    judged,
    lines,
    names,
    note,
    now_s,
    payloads,
    pipeline_of,
    scheduler,
    tagging,
)


def held(decide, *, timeout_s=None, on_timeout=None, **settings):
    """Hold the message "b" of a, b, c in one chunk; `decide` gets the future. Tells what was sent when, and records."""
    sent, records = [], []

    async def main():
        began_s = now_s()
        future = asyncio.get_running_loop().create_future()
        pause = Pause(future, timeout_s, on_timeout or Continue(), "look at this")
        pipeline = Pipeline(scheduler(), on_verdict=records.append)
        pipeline.add(Says(lambda message: pause if message.method.endswith("b") else Continue()), **settings)
        pipeline.add(tagging("!"), name="tag")
        batch = events([note("a"), note("b"), note("c")], TO_CLIENT)
        asyncio.get_running_loop().call_later(4, decide, future)

        def release(part):
            sent.append((round(now_s() - began_s), names(part)))

        pending = pipeline.run(batch, release)
        if pending is not None:
            await pending
        release(batch)

    in_virtual_time(main())
    return sent, [(record.action, record.reason) for record in records if record.interceptor != "tag"]


HELD = (Action.PAUSE, "look at this")


@pytest.mark.parametrize(
    ("decision", "rest", "record"),
    [
        (None, ["b!", "c!"], (Action.RELEASE, "released")),
        (True, ["b!", "c!"], (Action.RELEASE, "released")),
        (Continue(), ["b!", "c!"], (Action.RELEASE, "released")),
        (Modify(note("B"), "edited"), ["B!", "c!"], (Action.MODIFY, "edited")),
        (Block("dropped"), ["c!"], (Action.BLOCK, "dropped")),
        (Inject([note("i")], reason="more"), ["i!", "b!", "c!"], (Action.INJECT, "more")),
    ],
)
def test_what_stands_before_a_held_message_goes_ahead_and_the_rest_follows_the_decision(decision, rest, record):
    sent, records = held(lambda future: future.set_result(decision))
    assert sent == [(0, ["a!"]), (4, rest)]
    assert records == [HELD, record]


def test_a_decision_may_be_to_wait_again():
    sent, records = held(lambda future: future.set_result(Delay(3, "later")))
    assert sent == [(0, ["a!"]), (7, ["b!", "c!"])]
    assert records == [HELD, (Action.DELAY, "later")]


@pytest.mark.parametrize(
    ("on_timeout", "rest", "record"),
    [
        (Continue(), ["b!", "c!"], (Action.RELEASE, "nobody decided within 2 s")),
        (Block("too late"), ["c!"], (Action.BLOCK, "too late")),
    ],
)
def test_a_held_message_that_nobody_decides_about_meets_its_default(on_timeout, rest, record):
    cancelled = []
    sent, records = held(lambda future: cancelled.append(future.cancelled()), timeout_s=2, on_timeout=on_timeout)
    assert sent == [(0, ["a!"]), (2, rest)]
    assert records == [HELD, record]


def test_a_decision_in_time_ends_the_time_limit():
    sent, _ = held(lambda future: future.set_result(None), timeout_s=9)
    assert sent == [(0, ["a!"]), (4, ["b!", "c!"])]


@pytest.mark.parametrize("decision", ["yes", False, 7, b"{}"])
def test_a_decision_that_is_no_verdict_is_a_failure_of_the_interceptor(decision):
    for fail, rest in (("open", ["b!", "c!"]), ("closed", ["c!"])):
        sent, records = held(lambda future: future.set_result(decision), fail=fail)
        assert sent == [(0, ["a!"]), (4, rest)]
        assert records[1] == (Action.FAIL, f"BadVerdict: {type(decision).__name__} is no verdict")


def test_a_decision_that_is_cancelled_is_a_failure_and_not_the_end_of_the_stream():
    sent, records = held(lambda future: future.cancel(), fail="open")
    assert sent == [(0, ["a!"]), (4, ["b!", "c!"])]
    assert records[1][0] is Action.FAIL


def test_an_event_may_decide_and_a_coroutine_too():
    async def main():
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(3, gate.set)

        async def ask():
            await asyncio.sleep(1)
            return Mock({"by": "hand"})

        def say(message):
            return Pause(ask() if message.id == 1 else gate.wait())

        batch = lines([b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % n for n in (1, 2)], TO_SERVER)
        await judged(pipeline_of(Says(say)), batch)
        assert payloads(batch.replies) == [{"jsonrpc": "2.0", "id": 1, "result": {"by": "hand"}}]
        assert [message.id for message in batch] == [2]
        assert now_s() == pytest.approx(1003)

    in_virtual_time(main())


def test_a_hold_does_not_count_against_the_time_of_its_interceptor():
    async def main():
        pipeline = pipeline_of(Says(lambda message: Delay(100)), timeout_s=1)
        batch = events([note("x")], TO_CLIENT)
        await judged(pipeline, batch)
        assert names(batch) == ["x"]
        assert pipeline.stages[0].metrics.failures == 0

    in_virtual_time(main())


def test_without_a_place_to_release_to_nothing_goes_ahead():
    async def main():
        batch = events([note("a"), note("b")], TO_CLIENT)
        pipeline = pipeline_of(Says(lambda message: Delay(1) if message.method.endswith("b") else Continue()))
        assert await judged(pipeline, batch) == events([note("a"), note("b")], TO_CLIENT).emit()

    in_virtual_time(main())


def test_two_interceptors_that_hold_release_in_the_order_of_the_wire():
    def delaying(name, seconds):
        return Says(lambda message: Delay(seconds) if message.method.endswith(name) else Continue())

    async def main():
        sent, whole = [], events([note(name) for name in "abcdef"], TO_CLIENT).emit()

        def release(part):
            sent.append((now_s() - 1000, names(part), part.emit()))

        batch = events([note(name) for name in "abcdef"], TO_CLIENT)
        await pipeline_of(delaying("e", 10), delaying("c", 3), delaying("a", 1)).run(batch, release)
        release(batch)
        assert [(when, "".join(part)) for when, part, _ in sent] == [(1, "ab"), (4, "cd"), (14, "ef")]
        assert b"".join(emitted for _, _, emitted in sent) == whole

    in_virtual_time(main())


def test_elements_of_one_array_stay_together():
    async def main():
        sent = []
        batch = FRAMINGS["array"]([note("a"), note("b")], TO_SERVER)
        pipeline = pipeline_of(Says(lambda message: Delay(1) if message.method.endswith("b") else Continue()))
        await pipeline.run(batch, sent.append)
        assert sent == []
        assert names(batch) == ["a", "b"]

    in_virtual_time(main())


def test_replies_go_with_the_part_of_the_batch_that_they_answer():
    def say(message):
        return Block("no") if message.id in (1, 4) else Delay(2) if message.id == 3 else Continue()

    async def main():
        raws = [b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % n for n in (1, 2, 3, 4)]
        sent = []
        batch = lines(raws, TO_SERVER)
        await pipeline_of(Says(say)).run(batch, sent.append)
        (head,) = sent
        assert [[reply.id for reply in part.replies] for part in (head, batch)] == [[1], [4]]
        assert [[message.id for message in part] for part in (head, batch)] == [[2], [3]]
        assert head.emit() + batch.emit() == raws[1] + b"\n" + raws[2] + b"\n"

    in_virtual_time(main())


def test_what_was_blocked_before_a_held_message_is_answered_at_once():
    def say(message):
        return Block("no") if message.id == 1 else Delay(2)

    async def main():
        sent = []
        batch = lines([b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % n for n in (1, 2)], TO_SERVER)
        await pipeline_of(Says(say)).run(batch, lambda part: sent.append((now_s(), part.emit(), len(part.replies))))
        assert sent == [(1000, b"", 1)]
        assert batch.replies == []

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("wait", "action"),
    [
        (lambda: Delay(60), Action.DELAY),
        (lambda: Pause(asyncio.get_running_loop().create_future()), Action.PAUSE),
        (lambda: Pause(asyncio.Event().wait(), 60), Action.PAUSE),
    ],
)
def test_a_hold_that_ends_as_nobody_waits_any_more_is_on_record(wait, action):
    async def main():
        records = []
        pipeline = Pipeline(scheduler(), on_verdict=records.append)
        stage = pipeline.add(Says(lambda _message: wait()))
        running = pipeline.run(lines([note("a")], TO_SERVER))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        began, ended = records
        assert (began.action, began.original) == (action, note("a"))
        assert (ended.action, ended.reason) == (Action.DROP, "nobody waits for it any more")
        assert (ended.original, ended.result, ended.reply) == (note("a"), None, None)
        assert stage.metrics.verdicts == {action: 1, Action.DROP: 1}
        assert stage.metrics.failures == 0

    in_virtual_time(main())
