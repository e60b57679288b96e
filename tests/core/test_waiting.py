"""What waits on a message's way can be given up, and tells how it ended."""

import asyncio

import pytest

from shadowcat_core.waiting import LOOK_S, Waiting, is_well_done, until_done
from tests.core.interception import in_virtual_time, now_s


def test_a_wait_is_over_when_what_it_waits_for_is():
    async def scenario():
        began_s = now_s()
        await Waiting.sleeping(7).wait()
        assert now_s() - began_s == 7
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(scenario())


@pytest.mark.parametrize("make", [Waiting.forever, lambda: Waiting.sleeping(1000)], ids=["forever", "sleeping"])
def test_a_wait_that_is_given_up_is_over_at_once_and_leaves_no_task(make):
    async def scenario():
        waiting = make()
        began_s = now_s()
        asyncio.get_running_loop().call_later(1, waiting.give_up)
        await waiting.wait()
        await asyncio.sleep(0)
        assert now_s() - began_s == 1
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(scenario())


def test_who_waits_is_told_when_it_is_given_up_even_before_it_waits():
    async def scenario():
        told = []
        waiting = Waiting(lambda: asyncio.sleep(1000), lambda: told.append("left"))
        waiting.give_up()
        await waiting.wait()
        assert told == ["left"]

    in_virtual_time(scenario())


@pytest.mark.parametrize("already", [False, True])
def test_a_wait_that_is_broken_off_ends_without_being_over(already):
    async def scenario():
        told = []
        waiting = Waiting(lambda: asyncio.sleep(1000), lambda: told.append("ended"))
        if already:
            waiting.break_off()
        else:
            asyncio.get_running_loop().call_later(1, waiting.break_off)
        began_s = now_s()
        await waiting.wait()
        await asyncio.sleep(0)
        assert now_s() - began_s <= 1
        assert (told, waiting.is_over) == (["ended"], False)
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(scenario())


def test_a_wait_that_is_itself_cancelled_leaves_no_task():
    async def scenario():
        task = asyncio.ensure_future(Waiting.forever().wait())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(scenario())


def test_work_that_is_done_or_cancelled_or_failed_tells_which():
    async def fail():
        await asyncio.sleep(1)
        raise LookupError("it")

    async def scenario():
        done = asyncio.ensure_future(asyncio.sleep(3))
        assert not is_well_done(done)
        await until_done(done)
        cancelled = asyncio.ensure_future(asyncio.sleep(1000))
        asyncio.get_running_loop().call_later(1, cancelled.cancel)
        await until_done(cancelled)
        failed = asyncio.ensure_future(fail())
        await until_done(failed)
        assert [is_well_done(work) for work in (done, cancelled, failed)] == [True, False, False]

    in_virtual_time(scenario())


def test_who_waits_for_work_can_be_cancelled_while_the_work_goes_on():
    async def scenario():
        work = asyncio.ensure_future(asyncio.sleep(5))
        waits = asyncio.ensure_future(until_done(work))
        await asyncio.sleep(1)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        await work
        assert not work.cancelled()

    in_virtual_time(scenario())


def test_a_wait_that_became_moot_is_given_up_soon():
    async def scenario():
        told, began_s = [], now_s()
        forever = asyncio.get_running_loop().create_future()
        waiting = Waiting(lambda: forever, lambda: told.append(now_s()), lambda: now_s() > began_s + 10)
        await waiting.wait()
        assert waiting.is_over
        assert began_s + 10 <= told[0] <= began_s + 10 + 2 * LOOK_S

    in_virtual_time(scenario())


def test_a_wait_that_nobody_waited_for_is_not_over():
    assert not Waiting.sleeping(1).is_over
