"""A client keeps its session, whatever becomes of its server; and nobody else gets it."""

import asyncio
import json

import pytest

from shadowcat_core.errors import StoreError, StoreFull, StoreUnavailable
from shadowcat_core.limits import EXPIRE_BATCH_SESSIONS, MAX_ENDINGS
from shadowcat_core.mcp.headers import HeaderFields
from shadowcat_core.sessions import CredentialBinder, Handshake, MemoryStore, SessionMapping, Upstream
from shadowcat_core.sessions.contract import SetClock
from shadowcat_core.sessions.lifecycle import (
    NOTED_METHODS,
    Answer,
    Refusal,
    own_headers,
    request_edits,
    response_edits,
)
from shadowcat_core.sessions.manager import SessionManager
from tests.core.resumption_world import settle

pytest_plugins = ["tests.store_contract.fixtures"]

VERSION = "2025-06-18"
TOKEN = "Bearer secret"
CARRIED = [("Authorization", TOKEN), ("mcp-session-id", "the client's"), ("X-Team", "blue")]


def initialize(version=VERSION):
    params = {"protocolVersion": version, "capabilities": {"roots": {}}, "clientInfo": {"name": "c", "version": "1"}}
    return json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).encode()


def initialized(version=VERSION, request_id=0, **more):
    result = {"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "s"}, **more}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode()


HANDSHAKE = Handshake(initialize(), initialized())


def answer(status=200, body=b"", **headers):
    fields = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Answer(status, HeaderFields((name.encode(), value.encode()) for name, value in fields.items()), body)


class Servers:
    """Servers that know the protocol, and note what they are asked. What `say` has for a method comes first."""

    def __init__(self):
        self.asked = []
        self.begun = 0
        self.living = set()
        self.say = {}
        self.gate = None
        self.has_begun = asyncio.Event()

    async def __call__(self, upstream, method, headers, body):
        told = {name.lower(): value for name, value in headers}
        message = json.loads(body) if body else {"method": method}
        self.asked.append((upstream, message["method"], message.get("params"), told))
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        said = self.say.get(message["method"])
        if isinstance(said, BaseException):
            raise said
        if said is not None:
            return said
        match message["method"]:
            case "initialize":
                self.begun += 1
                session_id = f"{upstream}-{self.begun}"
                self.living.add(session_id)
                self.has_begun.set()
                version = message["params"]["protocolVersion"]
                return answer(body=initialized(version, message["id"]), mcp_session_id=session_id)
            case "notifications/initialized":
                return answer(202)
            case "DELETE":
                if told["mcp-session-id"] not in self.living:
                    return answer(404)
                self.living.discard(told["mcp-session-id"])
                return answer()
            case _:
                return answer(body=json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {}}).encode())

    def methods(self, upstream=None):
        return [method for name, method, _, _ in self.asked if upstream in (None, name)]


class Bed:
    def __init__(self, store=None, **options):
        self.clock = SetClock()
        self.store = store or MemoryStore(clock_ms=self.clock)
        self.servers = Servers()
        self.unended = []
        self.manager = self.proxy(**options)

    def proxy(self, **options):
        return SessionManager(
            self.store,
            CredentialBinder(b"k" * 32),
            self.servers,
            clock_ms=self.clock,
            on_unended=lambda upstream, reason: self.unended.append((upstream, reason)),
            **options,
        )

    async def begin(self, session_id="old-1", handshake=HANDSHAKE):
        return await self.manager.begin(Upstream("old", session_id), handshake, VERSION, TOKEN)


@pytest.fixture
async def bed():
    made = Bed()
    yield made
    await made.manager.aclose()


# --- Ids and who may use them -------------------------------------------------------------------------------------


async def test_a_session_is_used_under_an_id_of_ours_in_one_step_of_the_store(bed):
    began = await bed.begin()
    steps = []

    class Counting:
        def __getattr__(self, verb):
            steps.append(verb)
            return getattr(bed.store, verb)

    manager = SessionManager(Counting(), CredentialBinder(b"k" * 32), bed.servers)
    mapping = await manager.use(began.session_id, TOKEN)
    assert mapping == began
    assert (mapping.upstream, mapping.epoch, mapping.protocol_version) == (Upstream("old", "old-1"), 1, VERSION)
    assert steps == ["touch"]
    assert "old" not in began.session_id
    assert "secret" not in repr(await bed.store.get(began.session_id))


@pytest.mark.parametrize(
    ("session_id", "authorization", "refusal"),
    [
        ("", TOKEN, Refusal.UNKNOWN),
        ("forged", TOKEN, Refusal.UNKNOWN),
        ("old-1", TOKEN, Refusal.UNKNOWN),  # the server's own id is worth nothing here
        ("*\r\n\0é" * 9, TOKEN, Refusal.UNKNOWN),
        ("OURS", None, Refusal.UNKNOWN),
        ("OURS", "Bearer other", Refusal.UNKNOWN),
        ("OURS", TOKEN.lower(), Refusal.UNKNOWN),
    ],
)
async def test_who_has_not_both_the_id_and_its_credential_is_refused(bed, session_id, authorization, refusal):
    began = await bed.begin()
    asked = began.session_id if session_id == "OURS" else session_id
    assert await bed.manager.use(asked, authorization) is refusal


async def test_another_credential_cannot_be_told_from_an_unknown_id(bed):
    began = await bed.begin()
    other = await bed.manager.use(began.session_id, "Bearer other")
    unknown = await bed.manager.use("nobody", "Bearer other")
    assert (other.status, other.body(7)) == (unknown.status, unknown.body(7))


@pytest.mark.parametrize(
    ("refusal", "status", "code", "message"),
    [
        (Refusal.UNKNOWN, 404, -32600, "Session not found"),  # as the official servers say it
        (Refusal.UNVOUCHED, 503, -31001, "No server can be asked now about this access token"),
    ],
)
@pytest.mark.parametrize("request_id", [None, 0, "a"])
def test_a_refusal_has_a_status_and_a_json_rpc_error(refusal, status, code, message, request_id):
    assert refusal.status == status
    assert json.loads(refusal.body(request_id)) == {
        "jsonrpc": "2.0",
        "id": request_id,
        "error": {"code": code, "message": message},
    }


async def test_an_idle_session_is_unknown_and_a_used_one_lives_until_its_lifetime_is_over():
    bed = Bed(idle_ttl_ms=100, lifetime_ms=250)
    began = await bed.begin()
    for by_ms in (99, 99, 51):
        assert await bed.manager.use(began.session_id, TOKEN) == began
        bed.clock.advance(by_ms)
    bed.clock.advance(1)
    assert await bed.manager.use(began.session_id, TOKEN) is Refusal.UNKNOWN


async def test_a_store_that_takes_no_session_is_an_error_of_its_own(bed):
    bed.manager = Bed(MemoryStore(max_sessions=0)).manager
    with pytest.raises(StoreFull):
        await bed.begin()

    class Taken:
        async def create(self, _record):
            return False

    bed.manager = Bed(Taken()).manager
    with pytest.raises(StoreError, match="taken"):
        await bed.begin()


# --- What is rewritten -------------------------------------------------------------------------------------------


def test_in_either_direction_the_session_id_alone_is_exchanged():
    mapping = SessionMapping("ours", Upstream("u", "theirs"), 1, VERSION, "")
    assert request_edits(mapping) == (("Mcp-Session-Id", "theirs"),)
    assert response_edits(mapping, "theirs", begins=True) == (("Mcp-Session-Id", "ours"),)
    assert response_edits(mapping, "of an epoch before", begins=False) == (("Mcp-Session-Id", "ours"),)
    assert response_edits(mapping, None, begins=False) == ()


def test_a_server_without_sessions_is_not_bothered_with_ours():
    mapping = SessionMapping("ours", Upstream("u"), 1, VERSION, "")
    assert request_edits(mapping) == (("Mcp-Session-Id", None),)
    assert response_edits(mapping, None, begins=True) == (("Mcp-Session-Id", "ours"),)


def test_requests_of_our_own_carry_the_callers_headers_and_never_its_session():
    headers = own_headers(VERSION, "new-1", [*CARRIED, ("ACCEPT", "*/*"), ("MCP-Protocol-Version", "1999-01-01")])
    assert headers == [
        ("Authorization", TOKEN),
        ("X-Team", "blue"),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("Mcp-Session-Id", "new-1"),
        ("MCP-Protocol-Version", VERSION),
    ]
    assert "MCP-Protocol-Version" not in dict(own_headers("2025-03-26", "new-1", []))


# --- What is remembered for another server -----------------------------------------------------------------------


async def test_subscriptions_and_the_log_level_are_remembered(bed):
    began = await bed.begin()
    for method, params in [
        ("resources/subscribe", {"uri": "file:///a"}),
        ("resources/subscribe", {"uri": "file:///b"}),
        ("resources/unsubscribe", {"uri": "file:///a"}),
        ("logging/setLevel", {"level": "debug"}),
    ]:
        assert method in NOTED_METHODS
        assert await bed.manager.note(began.session_id, method, params)
    record = await bed.store.get(began.session_id)
    assert (list(record.subscriptions), record.log_level) == (["file:///b"], "debug")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"uri": "file:///a"}),
        (None, None),
        ("resources/subscribe", {"uri": 1}),
        ("resources/unsubscribe", []),
        ("logging/setLevel", {"level": None}),
    ],
)
async def test_what_says_nothing_is_not_remembered(bed, method, params):
    began = await bed.begin()
    assert not await bed.manager.note(began.session_id, method, params)
    assert not await bed.manager.note("nobody", "logging/setLevel", {"level": "info"})


# --- Ends --------------------------------------------------------------------------------------------------------


async def test_ending_a_session_ends_it_at_its_server_with_the_callers_token(bed):
    bed.servers.living.add("old-1")
    began = await bed.begin()
    assert await bed.manager.end(began.session_id, CARRIED) == began
    assert await bed.manager.end(began.session_id) is None
    assert bed.servers.living == set()
    ((_, _, _, told),) = bed.servers.asked
    assert told["authorization"] == TOKEN
    assert await bed.manager.use(began.session_id, TOKEN) is Refusal.UNKNOWN
    assert bed.unended == []


@pytest.mark.parametrize(
    ("status", "ends"), [(200, True), (204, True), (404, True), (401, False), (405, False), (500, False), (503, False)]
)
async def test_a_deleted_session_ends_unless_its_server_keeps_it(bed, status, ends):
    began = await bed.begin()
    assert await bed.manager.end_deleted(began, status) is ends
    assert (await bed.store.get(began.session_id) is None) is ends
    assert bed.servers.asked == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [(answer(401), "status 401"), (ConnectionRefusedError("refused"), "refused"), (TimeoutError(), "TimeoutError")],
)
async def test_a_server_that_cannot_be_told_is_reported_and_the_session_is_over_all_the_same(bed, said, reason):
    began = await bed.begin()
    bed.servers.say["DELETE"] = said
    assert await bed.manager.end(began.session_id) == began
    assert bed.unended == [(Upstream("old", "old-1"), reason)]


async def test_a_server_that_never_answers_is_not_waited_for():
    bed = Bed(ending_timeout_s=0.01)
    began = await bed.begin()
    bed.servers.gate = asyncio.Event()
    assert await bed.manager.end(began.session_id) == began
    assert bed.unended == [(Upstream("old", "old-1"), "TimeoutError")]


async def test_expired_sessions_are_ended_at_their_servers_in_bounded_batches():
    bed = Bed(idle_ttl_ms=100)
    for number in range(25):
        bed.servers.living.add(f"old-{number}")
        await bed.begin(f"old-{number}")
    without = await bed.manager.begin(Upstream("stateless"), HANDSHAKE, VERSION, None)
    assert await bed.manager.sweep() == 0
    bed.clock.advance(100)
    assert [await bed.manager.sweep(10) for _ in range(4)] == [10, 10, 6, 0]
    await bed.manager.aclose()
    assert bed.servers.living == set()
    assert "stateless" not in {name for name, *_ in bed.servers.asked}
    assert await bed.store.get(without.session_id) is None


async def test_a_sweep_waits_for_no_server_and_takes_no_more_than_servers_can_be_told_of():
    bed = Bed(idle_ttl_ms=100)
    count = EXPIRE_BATCH_SESSIONS + 5
    for number in range(count):
        await bed.begin(f"old-{number}")
    bed.clock.advance(100)
    bed.servers.gate = asyncio.Event()
    assert [await bed.manager.sweep() for _ in range(2)] == [EXPIRE_BATCH_SESSIONS, 0]
    bed.servers.gate.set()
    await settle(1_000)
    assert [await bed.manager.sweep() for _ in range(2)] == [5, 0]
    await bed.manager.aclose()
    assert len([method for _, method, *_ in bed.servers.asked if method == "DELETE"]) == count


async def test_a_manager_that_ends_does_not_wait_for_many_servers_that_never_answer():
    bed = Bed(idle_ttl_ms=100, ending_timeout_s=0.01)
    for number in range(EXPIRE_BATCH_SESSIONS):
        await bed.begin(f"old-{number}")
    bed.clock.advance(100)
    bed.servers.gate = asyncio.Event()
    assert await bed.manager.sweep() == EXPIRE_BATCH_SESSIONS
    await bed.manager.aclose()
    assert MAX_ENDINGS <= len(bed.unended) < EXPIRE_BATCH_SESSIONS


async def test_a_store_that_is_away_is_said_to_be():
    class Away:
        def __getattr__(self, _verb):
            async def fail(*_args):
                raise StoreUnavailable("away")

            return fail

    bed = Bed(Away())
    mapping = SessionMapping("ours", Upstream("u", "theirs"), 1, VERSION, "")
    for step in (
        bed.begin(),
        bed.manager.use("ours", None),
        bed.manager.note("ours", "logging/setLevel", {"level": "info"}),
        bed.manager.revive(mapping, "new"),
        bed.manager.end("ours"),
        bed.manager.sweep(),
    ):
        with pytest.raises(StoreUnavailable):
            await step
