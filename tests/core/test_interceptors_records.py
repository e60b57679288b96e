"""What is known of interceptors at work: counters, records, and audits, which change nothing."""

import asyncio
import json

import pytest

from shadowcat_core.interceptors import (
    Action,
    Block,
    Continue,
    Delay,
    Mock,
    Mode,
    Pause,
    Pipeline,
    Settings,
    on_asyncio,
)
from tests.core.interception import (
    FRAMINGS,
    TO_CLIENT,
    TO_SERVER,
    Does,
    Says,
    body,
    events,
    in_virtual_time,
    judged,
    names,
    note,
    now_s,
    pipeline_of,
    scheduler,
    tagging,
)


def run(pipeline, batch, **options):
    return in_virtual_time(judged(pipeline, batch, **options))


def test_everything_an_interceptor_does_is_counted_and_recorded_with_the_original():
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}'
    records = []

    def edit(batch):
        batch.replace(0, note("new"), "nicer")
        batch.drop(1, "noise")
        batch.insert_after(2, note("more"), "news")
        batch.block(2, "no calls")

    def say(message):
        return Mock({"a": 1}, reason="made up") if message.method == "notifications/new" else Continue()

    pipeline = Pipeline(scheduler(), on_verdict=records.append)
    pipeline.add(Does(edit), name="editor")
    pipeline.add(Says(say), name="mocker")
    batch = events([note("a"), note("b"), call], TO_SERVER)
    pipeline.run(batch)
    told = [
        (record.interceptor, record.action, record.reason, record.original, record.result, record.reply)
        for record in records
    ]
    refusal = batch.replies[0].raw
    assert told == [
        ("editor", Action.MODIFY, "nicer", note("a"), note("new"), None),
        ("editor", Action.DROP, "noise", note("b"), None, None),
        ("editor", Action.INJECT, "news", None, note("more"), None),
        ("editor", Action.BLOCK, "no calls", call, None, refusal),
        ("mocker", Action.MOCK, "made up", note("new"), None, None),
    ]
    assert {(record.mode, record.context, record.at_ns) for record in records} == {(Mode.ENFORCE, TO_SERVER, 5)}
    editor, mocker = (stage.metrics for stage in pipeline.stages)
    assert (editor.batches, editor.messages, mocker.batches, mocker.messages) == (1, 3, 1, 2)
    assert editor.verdicts == {Action.MODIFY: 1, Action.DROP: 1, Action.INJECT: 1, Action.BLOCK: 1}
    assert mocker.verdicts == {Action.MOCK: 1}


def test_time_is_counted_for_each_interceptor():
    now_ns = 0

    def tick(message):
        nonlocal now_ns
        now_ns += 7
        return Continue()

    def tick_batch(batch):
        nonlocal now_ns
        now_ns += 100

    async def tick_later(message):
        tick(message)
        await asyncio.sleep(0)
        return tick(message)

    async def main():
        pipeline = Pipeline(on_asyncio(lambda: now_ns))
        for interceptor in (Says(tick), Does(tick_batch), Says(tick_later)):
            pipeline.add(interceptor)
        for _ in range(1000):
            await judged(pipeline, events([note("a"), note("b")], TO_CLIENT))
        spent = [stage.metrics.spent_ns for stage in pipeline.stages]
        assert spent[0] == 1000 * 2 * 7
        assert spent[1] == pytest.approx(1000 * 100, rel=0.02)
        assert spent[2] == 1000 * 2 * 7
        assert [stage.metrics.waited_ns for stage in pipeline.stages] == [0, 0, 1000 * 2 * 7]

    in_virtual_time(main())


def test_an_audit_says_what_it_would_have_done_and_nothing_waits_for_it():
    records = []

    async def main():
        async def later(batch):
            await asyncio.sleep(5)
            batch.drop(0, "would be gone")

        until = asyncio.sleep(0)
        verdicts = {"a": Block("no"), "b": Delay(9), "c": Pause(until, reason="look"), "d": Continue()}
        pipeline = Pipeline(scheduler(), on_verdict=records.append)
        judge = pipeline.add(Says(lambda message: verdicts[message.method[-1]]), mode="audit", name="judge")
        late = pipeline.add(Does(later), mode="audit", name="late")
        pipeline.add(tagging("!"), name="tag")
        batch = events([note(name) for name in "abcd"], TO_CLIENT)
        assert pipeline.run(batch) is None
        assert names(batch) == ["a!", "b!", "c!", "d!"]
        assert now_s() == 1000
        assert late.metrics.verdicts == {}
        await asyncio.sleep(6)
        assert late.metrics.verdicts == {Action.DROP: 1}
        assert judge.metrics.verdicts == {Action.BLOCK: 1, Action.DELAY: 1, Action.PAUSE: 1}

    in_virtual_time(main())
    audited = [(r.interceptor, r.action, r.original, r.result) for r in records if r.mode is Mode.AUDIT]
    assert audited == [
        ("judge", Action.BLOCK, note("a"), None),
        ("judge", Action.DELAY, note("b"), note("b")),
        ("judge", Action.PAUSE, note("c"), note("c")),
        ("late", Action.DROP, note("a"), None),
    ]


def test_audits_that_wait_are_bounded_counted_and_given_up_at_the_end():
    async def main():
        async def forever(batch):
            await asyncio.Event().wait()

        pipeline = pipeline_of(Does(forever), mode="audit")
        for _ in range(103):
            assert pipeline.run(events([note("a")], TO_CLIENT)) is None
        metrics = pipeline.stages[0].metrics
        assert (metrics.batches, metrics.unaudited) == (100, 3)
        pipeline.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pipeline.run(events([note("a")], TO_CLIENT)) is None
        assert (metrics.batches, metrics.unaudited) == (101, 3)
        pipeline.remove(pipeline.stages[0])
        pipeline.close()
        await asyncio.sleep(0)

    in_virtual_time(main())


def test_an_audit_sees_what_those_before_it_made():
    records = []
    pipeline = Pipeline(scheduler(), on_verdict=records.append)
    pipeline.add(tagging("!"))
    pipeline.add(tagging("?"), mode="audit")
    batch = events([note("a")], TO_CLIENT)
    pipeline.run(batch)
    assert names(batch) == ["a!"]
    assert json.loads(records[1].result)["method"] == "notifications/a!?"


def test_settings_have_the_defaults_of_sep_2624():
    assert (Settings(name="x").mode, Settings(name="x").fail, Settings(name="x").priority) == ("enforce", "closed", 0)


def test_an_array_of_a_body_is_judged_like_any_batch():
    batch = FRAMINGS["array"]([note("a"), note("b")], TO_SERVER)
    run(pipeline_of(Says(lambda message: Block() if message.method.endswith("a") else Continue())), batch)
    assert json.loads(batch.emit()) == [json.loads(note("b"))]
    single = body([note("a")], TO_SERVER)
    run(pipeline_of(Says(lambda message: Block())), single)
    assert single.emit() == b""
