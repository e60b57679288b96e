"""The pipeline: order, changes while it runs, counters and records, what waits, and what goes ahead meanwhile."""

import asyncio
import contextvars
import json

import pytest

from shadowcat_core.interceptors import (
    Action,
    Block,
    Continue,
    Delay,
    Inject,
    Mock,
    Mode,
    Modify,
    Pause,
    Pipeline,
    Settings,
    adapt,
    on_asyncio,
)
from shadowcat_core.interceptors.scheduling import advance
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
    lines,
    now_s,
    payloads,
    pipeline_of,
    scheduler,
)


def note(name):
    return b'{"jsonrpc":"2.0","method":"notifications/%s","params":{}}' % name.encode()


def names(batch):
    return [message.method.removeprefix("notifications/") for message in batch]


def tagging(tag, **interest):
    """An interceptor that appends a letter to every method."""

    def tag_all(batch):
        for position, message in batch.where():
            batch.replace(position, {**message.payload, "method": message.method + tag})

    return Does(tag_all, **interest)


def run(pipeline, batch, **options):
    return in_virtual_time(judged(pipeline, batch, **options))


def test_interceptors_are_asked_by_priority_and_then_in_the_order_they_were_added():
    pipeline = Pipeline(scheduler())
    for tag, priority in (("c", 5), ("d", 5), ("a", -1), ("b", 0)):
        pipeline.add(tagging(tag), name=tag, priority=priority)
    assert [stage.settings.name for stage in pipeline.stages] == ["a", "b", "c", "d"]
    batch = events([note("x")], TO_CLIENT)
    run(pipeline, batch)
    assert names(batch) == ["xabcd"]


def test_a_pipeline_may_be_changed_at_any_time():
    pipeline = Pipeline(scheduler())
    first, second = pipeline.add(tagging("a"), name="one"), pipeline.add(tagging("b"))

    def tagged():
        batch = events([note("x")], TO_CLIENT)
        run(pipeline, batch)
        return names(batch)

    assert tagged() == ["xab"]
    replaced = pipeline.replace("one", tagging("A"))
    assert tagged() == ["xAb"]
    assert replaced.metrics is first.metrics
    assert replaced.metrics.batches == 2
    pipeline.remove(second)
    assert tagged() == ["xA"]
    pipeline.add(tagging("c"), priority=-1)
    assert tagged() == ["xcA"]
    pipeline.remove("one")
    assert tagged() == ["xc"]


def test_what_is_not_in_the_pipeline_cannot_be_removed_or_replaced():
    pipeline = Pipeline(scheduler())
    stage = pipeline.add(tagging("a"), name="one")
    pipeline.remove(stage)
    for gone in ("one", stage):
        with pytest.raises(KeyError, match="one"):
            pipeline.remove(gone)
        with pytest.raises(KeyError, match="one"):
            pipeline.replace(gone, tagging("b"))


def test_names_are_those_of_the_classes_and_never_twice_the_same():
    pipeline = Pipeline(scheduler())
    pipeline.add(Does(print), name="mine")
    for _ in range(3):
        pipeline.add(Does(print))
    pipeline.add(adapt(Says(print)))
    assert [stage.settings.name for stage in pipeline.stages] == ["mine", "Does", "Does-2", "Does-3", "Says"]
    with pytest.raises(ValueError, match="there is an interceptor 'mine' already"):
        pipeline.add(Does(print), name="mine")


@pytest.mark.parametrize(
    ("interceptor", "settings", "error"),
    [
        (object(), {}, TypeError),
        (Does(print, methods="tools/call"), {}, TypeError),
        (Does(print, kinds="request"), {}, TypeError),
        (Does(print, kinds={"question"}), {}, ValueError),
        (Does(print, direction="up"), {}, ValueError),
        (Does(print), {"mode": "maybe"}, ValueError),
        (Does(print), {"fail": "softly"}, ValueError),
        (Does(print), {"timeout_s": 0}, ValueError),
        (Does(print), {"timeout_s": float("nan")}, ValueError),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_pipeline_stays_as_it_was(interceptor, settings, error):
    pipeline = pipeline_of(tagging("a"))
    with pytest.raises(error):
        pipeline.add(interceptor, **settings)
    assert len(pipeline.stages) == 1


def test_a_batch_ends_with_the_interceptors_it_began_with():
    async def main():
        gate = asyncio.Event()

        async def wait(batch):
            await gate.wait()

        pipeline = pipeline_of(Does(wait))
        old = pipeline.add(tagging("a"))
        batch = events([note("x")], TO_CLIENT)
        pending = pipeline.run(batch)
        pipeline.replace(old, tagging("b"))
        for stage in pipeline.stages:
            pipeline.remove(stage)
        gate.set()
        await pending
        assert names(batch) == ["xa"]
        untouched = events([note("x")], TO_CLIENT)
        assert pipeline.run(untouched) is None
        assert not untouched.edited

    in_virtual_time(main())


def test_interceptors_of_one_direction_do_not_see_the_other():
    pipeline = pipeline_of(tagging("s", direction="c2s"), tagging("c", direction="s2c"), tagging("b"))
    for context, expected in ((TO_SERVER, "xsb"), (TO_CLIENT, "xcb")):
        batch = lines([note("x")], context)
        run(pipeline, batch)
        assert names(batch) == [expected]


@pytest.mark.parametrize("wait_s", [None, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_what_an_interceptor_makes_is_shown_to_those_behind_it_who_care_for_it(wait_s, count):
    def edit(batch):
        batch.replace(0, note("wanted"))

    async def edit_later(batch):
        await asyncio.sleep(wait_s)
        edit(batch)

    seen = [Says(lambda message: Continue(), methods={"notifications/wanted"}, exact=exact) for exact in (True, False)]
    batch = events([note("x")] * count, TO_CLIENT)
    run(pipeline_of(seen[0], Does(edit if wait_s is None else edit_later), *seen[1:], Does(lambda batch: None)), batch)
    assert [interceptor.shown for interceptor in seen] == [[], [note("wanted")]]


@pytest.mark.parametrize("chunk", [[], None], ids=["no frames", "a comment"])
def test_nobody_is_asked_about_nothing(chunk):
    does, says = Does(print), Says(print)
    pipeline = pipeline_of(does, says)
    batch = events([], TO_CLIENT) if chunk is not None else lines([b" "], TO_CLIENT)
    assert pipeline.run(batch) is None
    assert (does.calls, says.shown) == (0, [])


def test_a_pipeline_without_interceptors_leaves_everything_as_it_is():
    pipeline = Pipeline(scheduler())
    for make in FRAMINGS.values():
        batch = make([note("x")], TO_CLIENT)
        original = batch.emit()
        assert pipeline.run(batch) is None
        assert batch.emit() is original


# --- Waiting -----------------------------------------------------------------------------------------------------


def test_sync_interceptors_need_no_event_loop():
    batch = events([note("x")], TO_CLIENT)
    assert pipeline_of(tagging("a"), Says(lambda message: Continue())).run(batch) is None
    assert names(batch) == ["xa"]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_async_interceptors_without_an_event_loop_are_an_error_of_the_caller():
    async def nothing(batch):
        raise AssertionError("it cannot run")

    with pytest.raises(RuntimeError, match="no running event loop"):
        pipeline_of(Does(nothing)).run(events([note("x")], TO_CLIENT))


def test_a_coroutine_that_does_not_wait_is_done_at_once():
    async def tag(batch):
        batch.replace(0, json.loads(note("y")))

    async def say(message):
        return Modify(json.loads(note("z"))) if message.method.endswith("y") else Continue()

    async def main():
        batch = events([note("x"), note("y")], TO_CLIENT)
        assert pipeline_of(Does(tag), Says(say)).run(batch) is None
        assert names(batch) == ["z", "z"]

    in_virtual_time(main())


def test_what_waits_makes_the_batch_pending_and_the_rest_follows_in_order():
    async def main():
        async def slow(batch):
            await asyncio.sleep(3)
            tagging("a").action(batch)

        async def slow_word(message):
            await asyncio.sleep(2)
            return Modify({**message.payload, "method": message.method + "b"})

        pipeline = pipeline_of(Does(slow), Says(slow_word), tagging("c"))
        batch = events([note("x"), note("y")], TO_CLIENT)
        began_s = now_s()
        pending = pipeline.run(batch)
        assert not pending.done()
        await pending
        assert names(batch) == ["xabc", "yabc"]
        assert now_s() - began_s == pytest.approx(7)
        waited = [round(stage.metrics.waited_ns / 1e9) for stage in pipeline.stages]
        assert waited == [3, 4, 0]

    in_virtual_time(main())


def test_any_awaitable_is_awaited():
    class Soon:
        def __await__(self):
            yield from asyncio.sleep(1).__await__()
            return Mock({"soon": True})

    async def main():
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2, later.set_result, Block("later"))
        batch = lines([b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % n for n in (1, 2)], TO_SERVER)
        await judged(pipeline_of(Says(lambda message: Soon() if message.id == 1 else later)), batch)
        assert [reply.kind for reply in batch.replies] == ["response", "error"]

    in_virtual_time(main())


def test_an_interceptor_may_use_what_belongs_to_one_task():
    async def main():
        caller = asyncio.current_task()

        async def careful(batch):
            before = asyncio.current_task()
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1))
            assert asyncio.current_task() is before is not caller
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.sleep(9)
            tagging("a").action(batch)

        batch = events([note("x")], TO_CLIENT)
        pipeline = pipeline_of(Does(careful), timeout_s=60)
        await pipeline.run(batch)
        assert names(batch) == ["xa"]
        assert pipeline.stages[0].metrics.failures == 0

    in_virtual_time(main())


def test_a_coroutine_that_is_given_up_while_it_waits_is_closed():
    ended = []

    async def wait():
        try:
            await asyncio.sleep(1)
        finally:
            ended.append(True)

    async def main():
        steps = advance(wait()).__await__()
        next(steps)
        steps.close()
        assert ended == [True]
        assert advance(asyncio.sleep(0, "done")).__await__().send(None) is None

    in_virtual_time(main())


def test_context_variables_are_seen_and_do_not_leak():
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        seen = []

        async def look(batch):
            seen.append(variable.get())
            variable.set("inside")

        variable.set("outside")
        pipeline_of(Does(look)).run(events([note("x")], TO_CLIENT))
        assert (seen, variable.get()) == (["outside"], "outside")

    in_virtual_time(main())


def test_a_cancelled_batch_keeps_what_was_done_before_the_interceptor_that_waited():
    async def main():
        async def half(batch):
            batch.drop(0)
            await asyncio.sleep(1)

        async def half_word(message):
            await asyncio.sleep(1)

        for interceptor in (Does(half), Says(half_word), Says(lambda message: Delay(1))):
            batch = events([note("x"), note("y")], TO_CLIENT)
            pipeline = pipeline_of(tagging("a"), interceptor, tagging("b"))
            pending = pipeline.run(batch)
            await asyncio.sleep(0.5)
            pending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pending
            assert names(batch) == ["xa", "ya"]
            assert pipeline.stages[1].metrics.failures == 0

    in_virtual_time(main())


# --- Holding -----------------------------------------------------------------------------------------------------


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


# --- Counters and records ----------------------------------------------------------------------------------------


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
