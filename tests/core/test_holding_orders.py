"""Whatever people do about held messages, and in whatever order, each is decided about exactly once."""

import asyncio
import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.errors import InvalidMessage, NotHeld
from shadowcat_core.interceptors import Action, Block, Continue
from shadowcat_core.interceptors.holding import Hold
from tests.core.holding_desk import CALL, ERROR, OTHER, Desk
from tests.core.interception import FRAMINGS, TO_SERVER, in_virtual_time

DECISIONS = {
    "release": lambda held, number: held.release(number),
    "drop": lambda held, number: held.drop(number),
    "edit": lambda held, number: held.edit(number, OTHER),
    "edit badly": lambda held, number: held.edit(number, ERROR),
    "answer": lambda held, number: held.answer(number, b"{}"),
    "answer badly": lambda held, number: held.answer(number, b"[]"),
    "give up": lambda held, number: held.give_up(held[number], "gone"),
}
DEEDS = st.tuples(st.integers(0, 3), st.sampled_from([*DECISIONS, "cancel", "close"]), st.integers(0, 5))
"""How many seconds pass, what somebody does then, and to which hold."""


async def busy_desk(desk, deeds, timeouts):
    """Let people do their deeds while four messages are held; gives each message's work and who was decided about."""
    works = {}
    for number, timeout_s in enumerate(timeouts, 1):
        on_timeout = Block("late") if number % 2 else Continue()
        desk.pipeline.replace("hold", Hold(desk.held, [], timeout_s=timeout_s, on_timeout=on_timeout))
        batch = FRAMINGS["body"]([CALL], TO_SERVER)
        works[number] = (batch, desk.pipeline.run(batch))
    decided = []
    for wait_s, deed, number in deeds:
        await asyncio.sleep(wait_s)
        if deed == "close":
            desk.held.close()
        elif deed == "cancel":
            if number in works:
                works[number][1].cancel()
        else:
            with contextlib.suppress(NotHeld, InvalidMessage):
                DECISIONS[deed](desk.held, number)
                decided.append(number)
    desk.held.close()
    await asyncio.gather(*(pending for _, pending in works.values()), return_exceptions=True)
    await asyncio.sleep(0)
    return works, decided


@settings(max_examples=300)
@given(
    deeds=st.lists(DEEDS, max_size=12),
    timeouts=st.lists(st.sampled_from([None, 1, 2, 5]), min_size=4, max_size=4),
    limit=st.integers(1, 4),
)
def test_whatever_people_do_and_in_whatever_order_each_message_is_decided_about_exactly_once(deeds, timeouts, limit):
    async def main():
        desk = Desk(max_held=limit)
        works, decided = await busy_desk(desk, deeds, timeouts)
        assert len(desk.held) == 0
        assert len(decided) == len(set(decided)), "two decided about one message"
        told = {word: [number for what, number in desk.told if what == word] for word in ("held", "over", "full")}
        assert sorted(told["over"]) == told["held"]
        assert sorted([*told["held"], *told["full"]]) == [1, 2, 3, 4]
        finished = [batch for batch, pending in works.values() if not pending.cancelled()]
        for batch in finished:
            assert (batch.emit() in (CALL, OTHER)) is not bool(batch.replies), "gone and answered, or neither"
        pauses = [record for record in desk.records if record.action is Action.PAUSE]
        assert len(pauses) == 4
        left = [record for record in desk.records if record.action is Action.DROP]
        assert len(left) == len(works) - len(finished)
        assert len(desk.records) == 4 + len(works), "each has a beginning and an end on record"

    in_virtual_time(main())
