"""Refreshed tokens when much happens at once: many requests, many tokens, sessions and stores that end meanwhile."""

import asyncio

import pytest

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.limits import MAX_FAILED_VOUCHINGS
from shadowcat_core.sessions import CredentialBinder, SessionMapping
from shadowcat_core.sessions.contract import SetClock, Settings
from shadowcat_core.sessions.lifecycle import Refusal
from tests.core.renewal_bed import NEW, OLD, UNREACHABLE, Guarded, RenewalBed
from tests.core.resumption_world import settle
from tests.core.token_parts import forged, token_of

pytest_plugins = ["tests.store_contract.fixtures"]


@pytest.fixture
async def bed():
    made = RenewalBed()
    yield made
    await made.manager.aclose()


# --- How often it is asked ----------------------------------------------------------------------------------------


async def test_requests_that_bring_the_same_token_share_one_question(bed):
    began = await bed.begin()
    found = await asyncio.gather(*(bed.manager.use(began.session_id, NEW) for _ in range(50)))
    assert len(set(found)) == 1
    assert isinstance(found[0], SessionMapping)
    assert bed.pings() == 2


async def test_who_writes_tokens_gets_few_questions_a_minute_and_the_holder_goes_on():
    bed = RenewalBed()
    began, other = await bed.begin(), await bed.begin()
    at_once = await asyncio.gather(*(bed.manager.use(began.session_id, forged(n=n)) for n in range(100)))
    one_by_one = [await bed.manager.use(began.session_id, forged(n=n)) for n in range(100)]
    assert bed.pings() == 2 * MAX_FAILED_VOUCHINGS
    assert at_once.count(Refusal.UNKNOWN) == MAX_FAILED_VOUCHINGS
    assert set(one_by_one) == {Refusal.UNVOUCHED}
    assert await bed.manager.use(began.session_id, OLD) == began
    assert isinstance(await bed.manager.use(other.session_id, NEW), SessionMapping)
    assert await bed.manager.use(began.session_id, NEW) is Refusal.UNVOUCHED
    bed.clock.advance(60_000)
    assert isinstance(await bed.manager.use(began.session_id, NEW), SessionMapping)


async def test_failures_are_forgotten_after_a_minute():
    bed = RenewalBed()
    for _ in range(20):
        for began in [await bed.begin(), await bed.begin()]:
            assert await bed.manager.use(began.session_id, forged()) is Refusal.UNKNOWN
        bed.clock.advance(30_000)
    assert len(bed.manager._vouching._failures_ms) == 4
    assert bed.manager._vouching._running == {}


async def test_a_server_that_cannot_be_reached_is_asked_again_as_soon_as_it_is_there():
    bed = RenewalBed()
    began = await bed.begin()
    bed.servers.say["ping"] = UNREACHABLE
    bed.servers.lets_in = lambda _told: True
    for _ in range(3 * MAX_FAILED_VOUCHINGS):
        assert await bed.manager.use(began.session_id, NEW) is Refusal.UNVOUCHED
    bed.servers.say.clear()
    bed.servers.lets_in = Guarded().lets_in
    assert isinstance(await bed.manager.use(began.session_id, NEW), SessionMapping)


async def test_a_caller_that_leaves_takes_nothing_from_the_others_with_the_same_token(bed):
    began = await bed.begin()
    leaves, stays = (asyncio.create_task(bed.manager.use(began.session_id, NEW)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaves.cancel()
    assert isinstance(await stays, SessionMapping)
    assert bed.pings() == 2


async def test_a_closed_manager_gives_up_its_questions(bed):
    began = await bed.begin()
    bed.servers.lets_in = lambda _told: True
    bed.servers.gate = asyncio.Event()
    running = asyncio.create_task(bed.manager.use(began.session_id, NEW))
    await settle()
    await bed.manager.aclose()
    with pytest.raises(asyncio.CancelledError):
        await running


# --- What happens meanwhile ---------------------------------------------------------------------------------------


async def during_the_question(bed, session_id, happens):
    """Use a session with the new token; `happens` is awaited while its server is being asked."""
    asked = asyncio.Event()
    go_on = asyncio.Event()
    lets_in = bed.servers.lets_in

    def waiting(told):
        asked.set()
        return lets_in(told)

    bed.servers.lets_in = waiting
    bed.servers.gate = go_on
    running = asyncio.create_task(bed.manager.use(session_id, NEW))
    await asked.wait()
    await happens
    go_on.set()
    return await running


async def test_a_session_that_ends_meanwhile_is_unknown(bed):
    began = await bed.begin()
    assert await during_the_question(bed, began.session_id, bed.store.end(began.session_id)) is Refusal.UNKNOWN


@pytest.mark.parametrize(
    ("quicker", "is_taken"), [(NEW, True), (token_of(n=3), True), (token_of("bob"), False), ("Bearer x", False)]
)
async def test_of_two_tokens_that_are_bound_at_once_the_later_stays_when_it_is_of_the_same_holder(
    bed, quicker, is_taken
):
    began = await bed.begin()
    binder = CredentialBinder(b"k" * 32)
    bound = binder.bind(quicker)
    rebound = bed.store.rebind_credential(began.session_id, began.credential, bound)
    found = await during_the_question(bed, began.session_id, rebound)
    in_force = (await bed.store.get(began.session_id)).mapping
    if is_taken:
        assert found == in_force
        assert binder.matches(in_force.credential, NEW)
    else:
        assert found is Refusal.UNKNOWN
        assert in_force.credential == bound


async def test_a_store_that_goes_away_meanwhile_is_said_to_be(bed):
    began = await bed.begin()

    async def fail(*_args):
        raise StoreUnavailable("away")

    bed.store.rebind_credential = fail
    with pytest.raises(StoreUnavailable):
        await bed.manager.use(began.session_id, NEW)


async def test_proxies_that_share_a_store_know_what_one_of_them_has_asked(make_store):
    async with make_store(Settings(SetClock())) as store:
        bed = RenewalBed(store=store)
        began = await bed.begin()
        proxies = [bed.proxy() for _ in range(4)]
        found = await asyncio.gather(*(each.use(began.session_id, NEW) for each in proxies))
        assert len(set(found)) == 1
        asked = bed.pings()
        assert await bed.manager.use(began.session_id, NEW) == found[0]
        assert bed.pings() == asked
        for each in proxies:
            await each.aclose()
