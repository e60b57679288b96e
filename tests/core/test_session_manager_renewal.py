"""A refreshed token goes on with its session once a server vouched for it; and no token of anybody else ever does."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.sessions import CredentialBinder, SessionMapping
from shadowcat_core.sessions.lifecycle import Refusal
from shadowcat_core.sessions.manager import Revived
from tests.core.renewal_bed import DENIED, LOST, NEW, OLD, PONG, UNREACHABLE, Guarded, RenewalBed, Scripted
from tests.core.test_session_manager import VERSION, answer
from tests.core.token_parts import forged, is_genuine, token_of

pytest_plugins = ["tests.store_contract.fixtures"]


@pytest.fixture
async def bed():
    made = RenewalBed()
    yield made
    await made.manager.aclose()


# --- Whose token it is --------------------------------------------------------------------------------------------


async def test_a_refreshed_token_that_the_server_vouches_for_goes_on_and_is_bound(bed):
    began = await bed.begin()
    renewed = await bed.manager.use(began.session_id, NEW, [("X-Team", "blue"), ("Authorization", NEW)])
    assert (renewed.session_id, renewed.upstream, renewed.epoch) == (began.session_id, began.upstream, 1)
    assert bed.pings() == 2
    assert await bed.manager.use(began.session_id, NEW) == renewed
    assert bed.pings() == 2
    assert (await bed.store.get(began.session_id)).mapping == renewed


async def test_the_server_is_shown_the_token_and_a_spoilt_one_in_the_session_with_the_callers_headers(bed):
    began = await bed.begin()
    await bed.manager.use(began.session_id, NEW, [("X-Team", "blue"), ("mcp-session-id", began.session_id)])
    (_, _, _, first), (_, _, _, second) = bed.servers.asked
    assert second["authorization"] == NEW
    assert first["authorization"] != NEW
    assert first["authorization"].rpartition(".")[0] == NEW.rpartition(".")[0]
    assert {**first, "authorization": NEW} == second
    assert (second["x-team"], second["mcp-session-id"], second["mcp-protocol-version"]) == ("blue", "old-1", VERSION)
    assert "text/event-stream" in second["accept"]


async def test_each_refresh_is_asked_about_and_the_token_before_is_bound_no_more(bed):
    began = await bed.begin()
    for n in range(2, 30):
        assert isinstance(await bed.manager.use(began.session_id, token_of(n=n)), SessionMapping)
    assert bed.pings() == 2 * 28
    mapping = await bed.manager.use(began.session_id, OLD)
    assert CredentialBinder(b"k" * 32).matches(mapping.credential, OLD)
    assert bed.pings() == 2 * 29


NOT_THE_HOLDER = [
    None,
    "",
    "Bearer opaque",
    token_of("bob"),
    token_of(client_id="other"),
    token_of(iss="https://other.example"),
    forged("bob"),
]


@pytest.mark.parametrize("authorization", NOT_THE_HOLDER)
@pytest.mark.parametrize("lets_in", [lambda _told: True, lambda told: is_genuine(told.get("authorization"))])
async def test_the_token_of_anybody_else_is_refused_without_a_question_whatever_the_server_accepts(
    authorization, lets_in
):
    bed = RenewalBed(Guarded(lets_in))
    began = await bed.begin()
    assert await bed.manager.use(began.session_id, authorization) is Refusal.UNKNOWN
    assert bed.servers.asked == []
    assert await bed.manager.use(began.session_id, OLD) == began


LENIENT = {
    "verifies nothing": lambda _told: True,
    "verifies": lambda told: is_genuine(told.get("authorization")),
    "goes by a cookie too": lambda told: is_genuine(told.get("authorization")) or "cookie" in told,
    "wants any token": lambda told: "authorization" in told,
    "believes the claims": lambda told: ".eyJpc3Mi" in told.get("authorization", ""),
}


@pytest.mark.parametrize("server", LENIENT)
async def test_a_forged_token_of_the_holder_is_refused_whatever_the_server_lets_pass(server):
    bed = RenewalBed(Guarded(LENIENT[server]))
    began = await bed.begin()
    carried = [("Cookie", "of the thief"), ("Authorization", token_of("thief")), ("AUTHORIZATION", token_of("thief"))]
    assert await bed.manager.use(began.session_id, forged(n=2), carried) is Refusal.UNKNOWN
    assert await bed.manager.use(began.session_id, OLD) == began
    assert (await bed.store.get(began.session_id)).mapping == began


async def test_a_ticket_that_counts_once_does_not_make_a_forged_token_genuine():
    tickets = {"one"}

    def lets_in(told):
        if told.get("x-ticket") in tickets:
            tickets.discard(told["x-ticket"])
            return True
        return is_genuine(told.get("authorization"))

    bed = RenewalBed(Guarded(lets_in))
    began = await bed.begin()
    assert await bed.manager.use(began.session_id, forged(n=2), [("X-Ticket", "one")]) is Refusal.UNKNOWN


async def test_a_credential_of_before_holders_were_kept_ends_with_its_token():
    bed = RenewalBed()
    began = await bed.begin()
    old, _, _ = began.credential.partition(".")
    assert await bed.store.rebind_credential(began.session_id, began.credential, old)
    assert (await bed.manager.use(began.session_id, OLD)).credential == old
    assert await bed.manager.use(began.session_id, NEW) is Refusal.UNKNOWN


@given(
    st.sampled_from(sorted(LENIENT)),
    st.lists(
        st.tuples(
            st.one_of(
                st.none(),
                st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
                st.builds(token_of, st.sampled_from(["bob", "Alice", "alice ", "alic", ""])),
                st.builds(forged, st.sampled_from(["alice", "bob"]), n=st.integers(0, 3)),
                st.builds(token_of, client_id=st.sampled_from([None, "other", 1])),
            ),
            st.sampled_from([[], [("Cookie", "x")], [("Authorization", token_of("bob"))], [("authorization", OLD)]]),
        ),
        max_size=8,
    ),
)
def test_whoever_is_not_the_holder_never_gets_in(server, attempts):
    async def attack():
        bed = RenewalBed(Guarded(LENIENT[server]))
        began = await bed.begin()
        for authorization, carried in attempts:
            found = await bed.manager.use(began.session_id, authorization, carried)
            assert found in {Refusal.UNKNOWN, Refusal.UNVOUCHED}
        assert await bed.manager.use(began.session_id, OLD) == began

    asyncio.run(attack())


# --- What a server says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoilt", "genuine", "outcome"),
    [
        (DENIED, PONG, "renewed"),
        (answer(403), PONG, "renewed"),
        (answer(400), PONG, "renewed"),
        (DENIED, LOST, "renewed"),  # it is revived when the request itself gets this answer
        (PONG, None, Refusal.UNKNOWN),
        (LOST, None, Refusal.UNKNOWN),
        (answer(202), None, Refusal.UNKNOWN),
        (answer(302), None, Refusal.UNKNOWN),
        (answer(405), None, Refusal.UNKNOWN),
        (answer(500), None, Refusal.UNKNOWN),
        (DENIED, DENIED, Refusal.UNKNOWN),
        (DENIED, answer(403), Refusal.UNKNOWN),
        (DENIED, answer(400), Refusal.UNKNOWN),
        (DENIED, answer(500), Refusal.UNKNOWN),
        (DENIED, answer(200), Refusal.UNKNOWN),
        (DENIED, answer(202), Refusal.UNKNOWN),
        (DENIED, answer(200, b"<html>"), Refusal.UNKNOWN),
        (DENIED, answer(200, b'{"jsonrpc":"2.0","id":1,"result":{}}'), Refusal.UNKNOWN),
        (
            DENIED,
            answer(200, b'{"jsonrpc":"2.0","id":"shadowcat-vouching","error":{"code":-32001,"message":"no"}}'),
            Refusal.UNKNOWN,
        ),
        (
            DENIED,
            answer(200, b"data: " + b"x" * 9_000_000, content_type="text/event-stream"),
            Refusal.UNKNOWN,
        ),
        (DENIED, answer(404, b"<html>blocked</html>"), Refusal.UNKNOWN),
        (DENIED, answer(404, b"{}"), Refusal.UNKNOWN),
        (DENIED, answer(404), Refusal.UNKNOWN),
        (UNREACHABLE, None, Refusal.UNVOUCHED),
        (TimeoutError(), None, Refusal.UNVOUCHED),
        (DENIED, ConnectionResetError("reset"), Refusal.UNVOUCHED),
        *((answer(status), None, Refusal.UNVOUCHED) for status in (429, 502, 503, 504)),
        *((DENIED, answer(status), Refusal.UNVOUCHED) for status in (429, 502, 503, 504)),
    ],
)
async def test_a_server_vouches_by_refusing_the_spoilt_token_and_not_the_other(spoilt, genuine, outcome):
    bed = RenewalBed(Scripted(spoilt, *([] if genuine is None else [genuine])))
    began = await bed.begin()
    found = await bed.manager.use(began.session_id, NEW)
    assert bed.servers.said == []
    if outcome == "renewed":
        assert found.session_id == began.session_id
        assert (await bed.store.get(began.session_id)).mapping.credential == found.credential != began.credential
    else:
        assert found is outcome
        assert await bed.manager.use(began.session_id, OLD) == began


async def test_an_answer_on_an_event_stream_is_understood():
    body = b"id: 1\ndata: \n\nevent: message\ndata: " + PONG.body + b"\n\n"
    bed = RenewalBed(Scripted(DENIED, answer(body=body, content_type="text/event-stream")))
    began = await bed.begin()
    assert isinstance(await bed.manager.use(began.session_id, NEW), SessionMapping)


async def test_a_server_that_never_answers_is_not_waited_for_and_ends_nothing():
    bed = RenewalBed(Guarded(lambda _told: True), vouching_timeout_s=0.01)
    began = await bed.begin()
    bed.servers.gate = asyncio.Event()
    assert await bed.manager.use(began.session_id, NEW) is Refusal.UNVOUCHED
    assert await bed.manager.use(began.session_id, OLD) == began


async def test_while_its_own_server_is_away_another_one_can_vouch_and_take_the_session_over(bed):
    began = await bed.begin()

    class Apart(Guarded):
        async def __call__(self, upstream, *request):
            if upstream == "old":
                raise UNREACHABLE
            found = await super().__call__(upstream, *request)
            return LOST if found.status == 200 and self.methods()[-1] == "ping" else found

    bed.servers = Apart()
    bed.manager = bed.proxy()
    carried = [("Authorization", NEW)]
    assert await bed.manager.use(began.session_id, NEW, carried) is Refusal.UNVOUCHED
    assert await bed.manager.use(began.session_id, forged(), carried, voucher="new") is Refusal.UNKNOWN
    mapping = await bed.manager.use(began.session_id, NEW, carried, voucher="new")
    assert mapping.upstream == began.upstream
    revived = await bed.manager.revive(mapping, "new", carried)
    assert isinstance(revived, Revived)
    assert await bed.manager.use(began.session_id, NEW) == revived.mapping
