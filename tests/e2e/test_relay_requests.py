"""Sessions through a real mitmdump: whose ids are whose, how they begin, and that a server may lose them."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e import wire
from tests.e2e.origin import JSON
from tests.e2e.proxies import Proxies
from tests.e2e.relay_lanes import Lanes
from tests.e2e.relay_servers import SESSION, say

IMPATIENT = {"retry": {"patience_s": 0}}


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    folder = tmp_path_factory.mktemp("relay")
    kinds = {"plain": ({}, 90), "impatient": (IMPATIENT, 20)}
    with Proxies(folder) as proxies:
        yield Lanes(folder, kinds).run(proxies)


# --- Ids ------------------------------------------------------------------------------------------------------------


async def test_client_and_server_never_see_each_others_session_id(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        heads = []
        for method in ("POST", "GET", "DELETE"):
            if method == "DELETE":
                response = await client.line.request(method, lane.path, client.headers())
            elif method == "GET":
                await client.line.send(method, lane.path, client.headers())
                await (await lane.a.exchange()).answer(b"", {SESSION: lane.a.begun[0]}, status=405)
                response = await client.line.response()
            else:
                await client.call()
                await (await lane.a.exchange()).answer(
                    json.dumps(wire.result(1)).encode(), JSON | {SESSION: lane.a.begun[0]}
                )
                response = await client.line.response()
            await response.rest()
            heads.append(response.header(SESSION))
        assert set(heads) <= {client.session, None}
        assert client.session not in lane.a.begun
        its = {request.header(SESSION) for request in lane.a.requests}
        assert its == {None, lane.a.begun[0]}
        assert all(client.session not in str(request) for request in lane.a.requests)


@pytest.mark.parametrize("status", [200, 204, 404, 405])
async def test_a_session_ends_when_its_server_lets_it(lanes: Lanes, status: int):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        lane.a.own["DELETE"] = lambda exchange: exchange.answer(b"", {}, status=status)
        response = await client.line.request("DELETE", lane.path, client.headers())
        await response.rest()
        assert response.status == (200 if status == 404 else status)
        await client.call()
        if status == 405:
            await say(await lane.a.exchange())
            assert (await client.answer())["id"] == 1
        else:
            assert (await client.line.response()).status == 404
            assert lane.a.asked("tools/call") == []


async def test_an_id_that_nobody_has_is_404_and_so_is_one_of_somebody_else(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client(Authorization="Bearer one")).begin()
        other = await lane.client(Authorization="Bearer two")
        for session in ("nobody", client.session):
            other.session = session
            await other.call(message_id="mine")
            response = await other.line.response()
            assert response.status == 404
            assert json.loads(await response.rest())["id"] == "mine"
        assert lane.a.asked("tools/call") == []


async def test_a_request_without_an_id_reaches_a_server_as_it_is(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await lane.client()
        await client.call()
        exchange = await lane.a.exchange()
        assert exchange.request.header(SESSION) is None
        await exchange.answer(
            b'{"jsonrpc":"2.0","error":{"code":-1,"message":"Mcp-Session-Id?"},"id":null}', status=400
        )
        response = await client.line.response()
        assert response.status == 400
        assert b"Mcp-Session-Id?" in await response.rest()


# --- Sessions that their server has lost ------------------------------------------------------------------------------

LOST = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "No valid session ID"}}).encode()
REFUSED = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no such tool"}}).encode()


@pytest.mark.parametrize("cut", [None, 7])
@pytest.mark.parametrize(
    ("status", "body"),
    [(404, LOST), (404, b""), (404, b"x" * 300_000), (400, LOST)],
    ids=["404", "bare", "long", "400"],
)
async def test_a_session_that_its_server_lost_is_begun_anew_and_the_request_goes_again(
    lanes: Lanes, status: int, body: bytes, cut: int | None
):
    cut = 65_536 if cut and len(body) > 1000 else cut
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        lane.a.forget()
        lane.a.own["lost"] = lambda exchange: exchange.answer(body, status=status, cut=cut)
        for number in (1, 2):  # over the same connection
            await client.call(message_id=number)
            await say(await lane.a.exchange())
            assert (await client.answer())["id"] == number
        sessions = [request.header(SESSION) for request in lane.a.asked("tools/call")]
        assert sessions == [lane.a.begun[0], lane.a.begun[1], lane.a.begun[1]]
        assert len(lane.a.asked("initialize")) == 2
        assert lane.a.asked("notifications/initialized")[1].header(SESSION) == lane.a.begun[1]


@pytest.mark.parametrize("cut", [None, 7])
@pytest.mark.parametrize(
    ("status", "body"), [(400, REFUSED), (400, b""), (400, b"x" * 300_000), (422, LOST), (401, LOST), (500, LOST)]
)
async def test_other_refusals_pass_as_they_are(lanes: Lanes, status: int, body: bytes, cut: int | None):
    cut = 65_536 if cut and len(body) > 1000 else cut
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        for _ in range(2):
            await client.call()
            await (await lane.a.exchange()).answer(body, JSON | {"www-authenticate": "Bearer"}, status=status, cut=cut)
            response = await client.line.response()
            assert response.status == status
            assert await response.rest() == body
            assert response.header("www-authenticate") == "Bearer"
        assert len(lane.a.asked("initialize")) == 1
        assert len(lane.a.asked("tools/call")) == 2


async def test_twenty_requests_at_once_begin_a_lost_session_once(lanes: Lanes):
    async with lanes.lane() as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()
        lines = [await client.another() for _ in range(20)]
        lane.a.forget()
        for number, line in enumerate(lines):
            await client.call(message_id=number, on=line)
        for _ in lines:
            await say(await lane.a.exchange())
        answers = [await client.answer(on=line) for line in lines]
        assert [answer["id"] for answer in answers] == list(range(20))
        assert len(lane.a.asked("initialize")) == 2
        assert all("result" in answer for answer in answers)


async def test_a_server_that_loses_each_session_at_once_is_believed_in_the_end(lanes: Lanes):
    async with lanes.lane("impatient") as lane:
        await lane.a.start()
        client = await (await lane.client()).begin()

        async def forgetful(exchange):
            await lane.a.begin(exchange)
            lane.a.forget()

        lane.a.forget()
        lane.a.own["initialize"] = forgetful
        await client.call()
        response = await client.line.response()
        assert response.status == 404
        assert len(lane.a.asked("initialize")) < 10


# --- How `initialize` is answered -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["ends", "stays open", "is told more"])
@pytest.mark.parametrize(
    "first",
    [b"", wire.sse({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}), b"id: 1\ndata:\n\n: hi\n\n"],
)
async def test_a_session_begins_also_with_an_event_stream(lanes: Lanes, first: bytes, ending: str):
    async with lanes.lane() as lane:
        await lane.a.start()

        async def begin(exchange):
            await exchange.head({"content-type": "text/event-stream"} | lane.a.give_id())
            said = first + wire.sse(lane.a.hello(exchange))
            for at in range(0, len(said), 50):
                await exchange.send(said[at : at + 50])
            if ending == "is told more":
                await exchange.send(b": more\n\n")
            if ending != "stays open":
                await exchange.end()

        lane.a.own["initialize"] = begin
        client = await lane.client()
        response = await client.initialize()
        assert client.session not in (None, *lane.a.begun)
        said = first + wire.sse(lane.a.hello(lane_exchange(lane)))
        assert (await response.receive(len(said))) == said
        if ending != "stays open":
            assert await response.rest() == (b": more\n\n" if ending == "is told more" else b"")
        else:
            client = await client.elsewhere()
        await client.call()
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 1


def lane_exchange(lane):
    """The request that began the last session, as if it were to be answered."""
    from tests.e2e.origin import Http1Exchange

    return Http1Exchange(lane.a.asked("initialize")[-1], None)


@pytest.mark.parametrize("how", ["error", "401", "empty", "202", "no version", "no id"])
async def test_a_refused_beginning_passes_as_it_is(lanes: Lanes, how: str):
    body, status = {
        "error": (b'{"jsonrpc":"2.0","id":"first","error":{"code":-32602,"message":"version"}}', 200),
        "401": (b"", 401),
        "empty": (b"", 200),
        "202": (b"", 202),
        "no version": (b'{"jsonrpc":"2.0","id":"first","result":{}}', 200),
        "no id": (b'{"jsonrpc":"2.0","id":"other","result":{"protocolVersion":"2025-11-25"}}', 200),
    }[how]
    async with lanes.lane() as lane:
        await lane.a.start()
        lane.a.own["initialize"] = lambda exchange: exchange.answer(body, JSON | {"x": "y"}, status=status)
        client = await lane.client()
        for _ in range(2):
            response = await client.initialize()
            assert (response.status, await response.rest(), response.header("x")) == (status, body, "y")
            assert client.session is None
        lane.a.own["initialize"] = lane.a.begin
        await client.begin()


async def test_a_server_without_session_ids_serves_sessions_all_the_same(lanes: Lanes):
    async with lanes.lane() as lane:
        for server in (lane.a, lane.b):
            server.own["initialize"] = lambda exchange, server=server: exchange.answer(
                json.dumps(server.hello(exchange)).encode()
            )
        await lane.a.start()
        client = await (await lane.client()).begin()
        await lane.a.die()
        await lane.b.start()
        await client.call()
        exchange = await lane.b.exchange()
        assert exchange.request.header(SESSION) is None
        await say(exchange)
        assert (await client.answer())["id"] == 1
        assert len(lane.b.asked("initialize")) == 1
