"""Interceptors that wait: only their own stream waits with them, in order, and in a task of its own."""

import asyncio
import contextvars
import json

import pytest

from shadowcat_core.interceptors import Block, Continue, Delay, Mock, Modify
from shadowcat_core.interceptors.scheduling import advance
from tests.core.interception import (
    TO_CLIENT,
    TO_SERVER,
    Does,
    Says,
    events,
    in_virtual_time,
    judged,
    lines,
    names,
    note,
    now_s,
    pipeline_of,
    tagging,
)


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


def test_every_interceptor_of_a_batch_runs_in_the_task_that_it_began_in():
    async def main():
        caller, tasks = asyncio.current_task(), []

        def careful(seconds):
            async def intercept(message):
                tasks.append(asyncio.current_task())
                async with asyncio.timeout(60):
                    await asyncio.sleep(seconds)
                tasks.append(asyncio.current_task())
                return Modify({**message.payload, "method": message.method + "a"})

            return Says(intercept)

        for first, second in ((0, 1), (1, 0), (1, 1)):
            batch = events([note("x"), note("y")], TO_CLIENT)
            await judged(pipeline_of(careful(first), tagging("-"), careful(second)), batch)
            assert names(batch) == ["xa-a", "ya-a"]
        assert len(tasks) == 3 * 8
        assert caller not in tasks
        assert len(set(tasks)) == 3

    in_virtual_time(main())


def test_a_sync_interceptor_may_answer_with_a_coroutine_that_does_not_wait():
    released = []

    async def soon():
        return Modify(json.loads(note("z")))

    async def main():
        batch = events([note("x"), note("y")], TO_CLIENT)
        pipeline = pipeline_of(Says(lambda message: soon()))
        assert pipeline.run(batch, release=released.append) is None
        assert names(batch) == ["z", "z"]
        assert released == []  # nothing had to go ahead

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
