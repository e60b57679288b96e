"""A dead server's session goes on at another one: the same handshake, version, subscriptions; once, whoever asks."""

import asyncio
import json

import pytest

from shadowcat_core.errors import RevivalTooLate, SessionNotRevived, StoreUnavailable, VersionChanged
from shadowcat_core.limits import MAX_REVIVALS
from shadowcat_core.sessions import Handshake, Upstream
from shadowcat_core.sessions.contract import SetClock, Settings
from shadowcat_core.sessions.lifecycle import Refusal
from shadowcat_core.sessions.manager import Revived
from tests.core.resumption_world import settle
from tests.core.test_session_manager import CARRIED, TOKEN, VERSION, Bed, answer, initialize, initialized

pytest_plugins = ["tests.store_contract.fixtures"]


@pytest.fixture
async def bed():
    made = Bed()
    yield made
    await made.manager.aclose()


async def test_the_recorded_handshake_version_subscriptions_and_level_are_repeated(bed):
    began = await bed.begin()
    for uri in ("file:///b", "file:///a"):
        await bed.manager.note(began.session_id, "resources/subscribe", {"uri": uri})
    await bed.manager.note(began.session_id, "logging/setLevel", {"level": "error"})

    revived = await bed.manager.revive(began, "new", CARRIED)

    assert revived.mapping.upstream == Upstream("new", "new-1")
    assert (revived.mapping.epoch, revived.mapping.session_id, revived.changes) == (2, began.session_id, ())
    assert [(method, params) for _, method, params, _ in bed.servers.asked] == [
        ("initialize", json.loads(initialize())["params"]),
        ("notifications/initialized", None),
        ("resources/subscribe", {"uri": "file:///b"}),
        ("resources/subscribe", {"uri": "file:///a"}),
        ("logging/setLevel", {"level": "error"}),
    ]
    first, *others = [told for *_, told in bed.servers.asked]
    assert "mcp-session-id" not in first
    assert "mcp-protocol-version" not in first
    assert {told["mcp-session-id"] for told in others} == {"new-1"}
    assert {told["mcp-protocol-version"] for told in others} == {VERSION}
    assert {told["authorization"] for told in (first, *others)} == {TOKEN}
    assert await bed.manager.use(began.session_id, TOKEN) == revived.mapping


async def test_a_newer_server_is_asked_for_the_version_that_the_client_was_told(bed):
    began = await bed.begin(handshake=Handshake(initialize("2025-11-25"), initialized()))
    revived = await bed.manager.revive(began, "new")
    assert isinstance(revived, Revived)
    assert bed.servers.asked[0][2]["protocolVersion"] == VERSION
    assert bed.servers.asked[0][2]["clientInfo"] == {"name": "c", "version": "1"}


async def test_a_server_that_speaks_another_version_is_refused_and_its_session_ended(bed):
    began = await bed.begin()
    bed.servers.living.add("strange")
    bed.servers.say["initialize"] = answer(body=initialized("2025-11-25"), mcp_session_id="strange")
    with pytest.raises(VersionChanged, match="speaks 2025-11-25, and its client was told 2025-06-18") as caught:
        await bed.manager.revive(began, "new")
    assert (caught.value.expected, caught.value.offered) == (VERSION, "2025-11-25")
    await bed.manager.aclose()
    assert bed.servers.living == set()
    assert await bed.manager.use(began.session_id, TOKEN) == began


async def test_what_the_new_server_does_otherwise_is_reported(bed):
    began = await bed.begin()
    await bed.manager.note(began.session_id, "resources/subscribe", {"uri": "file:///a"})
    body = initialized(capabilities={"tools": {}}, instructions="read me")
    bed.servers.say["initialize"] = answer(body=body, mcp_session_id="new-1")
    error = {"jsonrpc": "2.0", "id": "shadowcat-revival-0", "error": {"code": -32601, "message": "no"}}
    bed.servers.say["resources/subscribe"] = answer(body=json.dumps(error).encode())
    revived = await bed.manager.revive(began, "new")
    assert revived.changes == ("capabilities differs", "instructions differs", "resources/subscribe file:///a refused")


@pytest.mark.parametrize("unreadable", [answer(body=b"<html>"), answer(body=b""), answer(500)])
async def test_a_subscription_without_a_readable_answer_is_reported_and_no_more(bed, unreadable):
    began = await bed.begin()
    await bed.manager.note(began.session_id, "logging/setLevel", {"level": "error"})
    bed.servers.say["logging/setLevel"] = unreadable
    revived = await bed.manager.revive(began, "new")
    assert revived.changes == ("logging/setLevel error refused",)


async def test_an_answer_on_an_event_stream_is_found_among_other_messages(bed):
    began = await bed.begin()
    log = b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
    body = b"id: 1\ndata: \n\nevent: message\ndata: " + log + b"\n\nevent: message\r\ndata: " + initialized() + b"\n\n"
    bed.servers.say["initialize"] = answer(
        body=body, mcp_session_id="new-1", content_type="text/event-stream; charset=utf-8"
    )
    revived = await bed.manager.revive(began, "new")
    assert revived.mapping.upstream == Upstream("new", "new-1")


@pytest.mark.parametrize(
    ("method", "said", "reason"),
    [
        ("initialize", ConnectionRefusedError("refused"), "cannot be reached: refused"),
        ("initialize", TimeoutError(), "cannot be reached: TimeoutError"),
        ("initialize", answer(503), "answers initialize with status 503"),
        ("initialize", answer(body=b"<html>"), "cannot be read"),
        ("initialize", answer(body=b"[]"), "does not answer initialize with a result"),
        ("initialize", answer(body=initialized(request_id=1)), "does not answer initialize with a result"),
        ("initialize", answer(body=b'{"jsonrpc":"2.0","id":0,"error":{}}'), "does not answer initialize with a result"),
        ("initialize", answer(body=initialized(), mcp_session_id="a b"), "no session id"),
        ("notifications/initialized", answer(400), "answers notifications/initialized with status 400"),
        ("resources/subscribe", answer(404), "lost again at resources/subscribe"),
        ("resources/subscribe", ConnectionResetError("reset"), "cannot be reached: reset"),
    ],
)
async def test_a_server_that_will_not_do_is_named_with_the_reason_and_the_session_is_as_it_was(
    bed, method, said, reason
):
    began = await bed.begin()
    await bed.manager.note(began.session_id, "resources/subscribe", {"uri": "file:///a"})
    bed.servers.say[method] = said
    with pytest.raises(SessionNotRevived, match=reason) as caught:
        await bed.manager.revive(began, "new")
    assert caught.value.upstream == "new"
    assert str(caught.value).startswith("new cannot go on with the session: ")
    await bed.manager.aclose()
    assert bed.servers.living == set()
    assert await bed.manager.use(began.session_id, TOKEN) == began
    bed.servers.say.clear()
    assert (await bed.manager.revive(began, "other")).mapping.upstream.name == "other"


async def test_a_handshake_that_is_none_cannot_be_repeated(bed):
    began = await bed.begin(handshake=Handshake(b"[1]", b"[]"))
    with pytest.raises(SessionNotRevived, match="no initialize request"):
        await bed.manager.revive(began, "new")


async def test_a_server_that_takes_too_long_is_given_up_and_its_session_ended():
    bed = Bed(revival_timeout_s=0.01)
    began = await bed.begin()
    bed.servers.gate = asyncio.Event()
    with pytest.raises(RevivalTooLate, match=r"not ready within 0\.01 s"):
        await bed.manager.revive(began, "new")
    bed.servers.gate.set()
    await bed.manager.aclose()
    assert bed.servers.living == set()


async def test_who_waits_for_a_turn_loses_no_time_by_it():
    bed = Bed(revival_timeout_s=0.2)
    began = [await bed.begin(f"old-{number}") for number in range(2 * MAX_REVIVALS + 1)]
    bed.servers.gate = asyncio.Event()
    revivals = [asyncio.create_task(bed.manager.revive(each, "new")) for each in began]
    await settle()
    assert bed.servers.methods().count("initialize") == MAX_REVIVALS
    await asyncio.gather(*revivals[:MAX_REVIVALS], return_exceptions=True)
    bed.servers.gate.set()
    revived = await asyncio.gather(*revivals, return_exceptions=True)
    assert [type(each) for each in revived] == [RevivalTooLate] * MAX_REVIVALS + [Revived] * (MAX_REVIVALS + 1)
    await bed.manager.aclose()


async def test_many_requests_that_find_their_server_dead_begin_one_session(bed):
    began = await bed.begin()
    revived = await asyncio.gather(*(bed.manager.revive(began, "new") for _ in range(50)))
    assert {each.mapping.upstream.session_id for each in revived} == {"new-1"}
    assert bed.servers.methods().count("initialize") == 1


async def test_a_request_that_is_late_gets_the_session_that_is_there(bed):
    began = await bed.begin()
    first = await bed.manager.revive(began, "new")
    assert await bed.manager.revive(began, "other") == first
    assert bed.servers.methods().count("initialize") == 1


async def test_a_session_that_dies_again_is_begun_again(bed):
    first = (await bed.manager.revive(await bed.begin(), "new")).mapping
    running = [bed.manager.revive(first, "new"), bed.manager.revive(first, "new")]
    revived = await asyncio.gather(*running)
    assert [each.mapping.epoch for each in revived] == [3, 3]
    assert bed.servers.methods().count("initialize") == 2


async def test_who_asks_for_a_later_epoch_is_not_answered_with_a_revival_of_an_earlier_one(bed):
    began = await bed.begin()
    bed.servers.gate = asyncio.Event()
    stale = asyncio.create_task(bed.manager.revive(began, "new"))
    await settle()
    moved = await bed.store.rebind(began.session_id, 1, Upstream("third", "t-1"))
    late = asyncio.create_task(bed.manager.revive(moved, "new"))
    await settle()
    bed.servers.gate.set()
    assert (await stale).mapping.epoch == 2
    assert (await late).mapping.epoch == 3


async def test_a_caller_that_leaves_takes_nothing_from_the_others(bed):
    began = await bed.begin()
    bed.servers.gate = asyncio.Event()
    leaves, stays = (asyncio.create_task(bed.manager.revive(began, "new")) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.sleep(0)
    bed.servers.gate.set()
    assert (await stays).mapping.epoch == 2


async def test_a_failure_that_nobody_waits_for_is_no_news(bed, caplog):
    began = await bed.begin()
    bed.servers.gate = asyncio.Event()
    bed.servers.say["initialize"] = ConnectionResetError()
    leaves = asyncio.create_task(bed.manager.revive(began, "new"))
    await asyncio.sleep(0)
    leaves.cancel()
    bed.servers.gate.set()
    await settle()
    assert caplog.records == []


async def test_a_closed_manager_gives_up_what_it_had_begun(bed):
    began = await bed.begin()
    running = asyncio.create_task(bed.manager.revive(began, "new"))
    await bed.servers.has_begun.wait()
    await bed.manager.aclose()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bed.servers.living == set()


async def test_a_session_that_ends_meanwhile_is_unknown_and_leaves_nothing_behind(bed):
    began = await bed.begin()
    bed.servers.gate = asyncio.Event()
    running = asyncio.create_task(bed.manager.revive(began, "new"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await bed.store.end(began.session_id)
    bed.servers.gate.set()
    assert await running is Refusal.UNKNOWN
    await bed.manager.aclose()
    assert bed.servers.living == set()
    assert await bed.manager.revive(began, "new") is Refusal.UNKNOWN


async def test_a_store_that_goes_away_meanwhile_leaves_nothing_behind(bed):
    began = await bed.begin()

    async def fail(*_args):
        raise StoreUnavailable("away")

    bed.store.rebind = fail
    with pytest.raises(StoreUnavailable):
        await bed.manager.revive(began, "new")
    await bed.manager.aclose()
    assert bed.servers.living == set()


async def test_a_server_without_sessions_can_take_over_and_has_nothing_to_be_ended(bed):
    began = await bed.begin()
    bed.servers.say["initialize"] = answer(body=initialized())
    revived = await bed.manager.revive(began, "stateless")
    assert revived.mapping.upstream == Upstream("stateless")
    assert "DELETE" not in bed.servers.methods()


async def test_of_several_proxies_one_moves_the_session_and_the_others_end_what_they_began(make_store):
    async with make_store(Settings(SetClock())) as store:
        bed = Bed(store)
        began = await bed.begin()
        proxies = [bed.proxy() for _ in range(4)]
        revived = await asyncio.gather(*(each.revive(began, f"new{n}") for n, each in enumerate(proxies)))
        for each in proxies:
            await each.aclose()
        (in_force,) = {each.mapping for each in revived}
        assert in_force.epoch == 2
        assert bed.servers.living == {in_force.upstream.session_id}
        assert await store.find(in_force.upstream) == in_force
