"""Flows that were led to an upstream, sent again by hand in a real mitmweb: as if their client had done so."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import wire
from tests.e2e.authority import Authority
from tests.e2e.mitmweb_person import Person, at_mitmweb, has_ended
from tests.e2e.origin_h2 import serve_h2
from tests.e2e.proxies import Proxies
from tests.e2e.raw_client_h2 import connect_h2
from tests.e2e.relay_lanes import Lanes, calling
from tests.e2e.relay_servers import CLOSED, SESSION, UNREACHABLE, numbered, numbers, say

IMPATIENT = {"retry": {"patience_s": 0}}
HASTY = {"timeouts": {"first_byte_s": 2}} | IMPATIENT
CALL = b"tools/call"
MODES = ["regular", "reverse:http://127.0.0.1:1"]


@pytest.fixture(scope="module", params=MODES, ids=["regular", "reverse"])
def lanes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Lanes]:
    folder: Path = tmp_path_factory.mktemp("by_hand")
    kinds = {
        "plain": ({}, 20),
        "impatient": (IMPATIENT, 4),
        "hasty": (HASTY, 2),
        "keyed": ({}, 2),
        "tls": ({"scheme": "https"}, 1),
    }
    with Proxies(folder) as proxies:
        made = Lanes(folder, kinds)
        for route in made.routes:
            if route["name"].startswith("keyed"):
                route["upstreams"][0]["headers"] = {"Authorization": "Bearer of-a-alone"}
        made.save()
        made.proxy = proxies.web(
            request.param,
            shadowcat_upstreams=str(made.file),
            ssl_verify_upstream_trusted_ca=str(authority.ca_file),
        )
        yield made


@pytest.fixture
async def person(lanes: Lanes) -> AsyncIterator[Person]:
    async with at_mitmweb(lanes.proxy) as person:
        yield person
        assert str(await person.command("shadowcat.streams")).startswith("0 exchanges running")


async def called(lane: Any, person: Person, **headers: str) -> tuple[Any, dict[str, Any]]:
    """A client, and the flow of its call, which has been answered."""
    await lane.a.start()
    client = await (await lane.client(**headers)).begin()
    await client.call()
    await say(await lane.a.exchange(), which="first")
    assert (await client.answer())["result"]["which"] == "first"
    return client, await person.latest(lane.path, said=CALL)


def header(message: dict[str, Any], name: str) -> str | None:
    return next((value for key, value in message["headers"] if key.lower() == name), None)


async def test_the_list_shows_requests_as_their_client_sent_them(lanes: Lanes, person: Person):
    async with lanes.lane("keyed") as lane:
        client, flow = await called(lane, person, Authorization="Bearer the-clients")
        assert flow["request"]["path"] == lane.path
        assert header(flow["request"], SESSION) == client.session
        assert header(flow["request"], "authorization") == "Bearer the-clients"
        assert lane.a.asked("tools/call")[0].header("authorization") == "Bearer of-a-alone"
        assert flow["server_conn"]["address"][1] == lane.a.port


@pytest.mark.parametrize("how", ["json", "stream"])
async def test_a_call_is_sent_again_through_its_session_and_the_list_shows_the_answer(
    lanes: Lanes, person: Person, how: str
):
    async with lanes.lane() as lane:
        client, flow = await called(lane, person)
        for which in ("second", "third"):
            await person.press("replay", flow)
            exchange = await lane.a.exchange()
            if how == "json":
                await say(exchange, which=which)
            else:
                await exchange.head()
                await exchange.send(numbered(7))
                await exchange.send(wire.sse(wire.result(1, which=which)))
                await exchange.end()
            ended = await person.ended(flow)
            assert (ended["response"]["status_code"], ended.get("error")) == (200, None)
            assert which.encode() in await person.body(ended)
        first, *others = lane.a.asked("tools/call")
        assert all(other.body == first.body for other in others)
        assert {request.header(SESSION) for request in lane.a.asked("tools/call")} == {lane.a.begun[0]}
        await client.call(message_id=9)
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 9


async def test_what_a_person_edits_is_sent(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        _, flow = await called(lane, person)
        body = wire.request("tools/call", {"name": "edited", "arguments": {}}, era="legacy")
        await person.edit(flow, headers=[*flow["request"]["headers"], ["x-edited", "yes"]], content=body.decode())
        await person.press("replay", flow)
        exchange = await lane.a.exchange()
        assert (exchange.request.body, exchange.request.header("x-edited")) == (body, "yes")
        assert exchange.request.header(SESSION) == lane.a.begun[0]
        await say(exchange)
        await person.ended(flow)


async def test_a_replay_follows_its_session_to_where_it_is(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        _, flow = await called(lane, person)
        await lane.b.start()
        await lane.a.die()
        await person.press("replay", flow)
        await say(await lane.b.exchange(), which="b")
        assert b'"b"' in await person.body(await person.ended(flow))
        assert [request.header(SESSION) for request in lane.b.asked("tools/call")] == lane.b.begun
        assert len(lane.b.begun) == 1


async def test_a_session_that_is_over_is_over_by_hand_too(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        client, flow = await called(lane, person)
        await client.line.send("DELETE", lane.path, client.headers())
        assert (await client.line.response()).status == 200
        deletion = await person.latest(lane.path, "DELETE")
        for each in (flow, deletion):
            await person.press("replay", each)
            ended = await person.ended(each)
            assert ended["response"]["status_code"] == 404
            assert b"Session not found" in await person.body(ended)
        assert len(lane.a.asked("tools/call")) == len(lane.a.asked("DELETE")) == 1


async def test_a_session_ends_when_its_deletion_is_sent_by_hand(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        client, _ = await called(lane, person)
        lane.a.own["DELETE"] = lambda exchange: exchange.answer(b"", {}, status=405)
        response = await client.line.request("DELETE", lane.path, client.headers())
        await response.rest()
        assert response.status == 405
        lane.a.own["DELETE"] = lane.a.end
        flow = await person.latest(lane.path, "DELETE")
        await person.press("replay", flow)
        assert (await person.ended(flow))["response"]["status_code"] == 200
        await client.call()
        assert (await client.line.response()).status == 404


async def test_initialize_by_hand_begins_a_session_of_its_own(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        client, _ = await called(lane, person)
        flow = await person.latest(lane.path, said=b'"initialize"')
        await person.press("replay", flow)
        ended = await person.ended(flow)
        session = header(ended["response"], SESSION)
        assert session not in (None, client.session, *lane.a.begun)
        assert len(lane.a.begun) == 2
        for mine, its in zip((client.session, session), lane.a.begun, strict=True):
            client.session = mine
            await client.call()
            exchange = await lane.a.exchange()
            assert exchange.request.header(SESSION) == its
            await say(exchange)
            await client.answer()


async def test_a_notification_is_sent_again(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        await called(lane, person)
        flow = await person.latest(lane.path, said=b"notifications/initialized")
        await person.press("replay", flow)
        assert (await person.ended(flow))["response"]["status_code"] == 202
        its = [request.header(SESSION) for request in lane.a.asked("notifications/initialized")]
        assert its == [lane.a.begun[0]] * 2


@pytest.mark.parametrize("how", ["refused", "resumed"])
async def test_the_stream_of_a_get_is_not_taken_from_its_client(lanes: Lanes, person: Person, how: str):
    async with lanes.lane() as lane:
        if how == "resumed":
            client, exchange, stream = await calling(lane)
            await exchange.send(numbered(1))
            await stream.messages(1)
            await exchange.send(wire.sse(wire.result(1)))
            await exchange.end()
            await stream.rest()
            assert (await (await client.listen(stream.events[0].id)).rest())[-1]["id"] == 1
        else:
            client, _ = await called(lane, person)
            await client.line.send("GET", lane.path, client.headers())
            await (await lane.a.exchange()).answer(b"", {}, status=405)
            assert (await client.line.response()).status == 405
        line = await client.another()
        await line.send("GET", lane.path, client.headers())
        exchange = await lane.a.exchange()
        await exchange.head()
        listening = await client.stream(on=line)
        flow = next(each for each in await person.flows() if each["request"]["method"] == "GET" and has_ended(each))
        await person.press("replay", flow)
        ended = await person.ended(flow)
        assert ended["response"]["status_code"] == 409
        assert b"belongs to its client" in await person.body(ended)
        assert len(lane.a.asked("GET")) == (1 if how == "resumed" else 2)
        await exchange.send(numbered(3))
        assert numbers(await listening.messages(1)) == [3]


@pytest.mark.parametrize("authorization", ["Bearer of-somebody-else", None])
async def test_nobody_rides_anothers_session_by_hand(lanes: Lanes, person: Person, authorization: str | None):
    async with lanes.lane() as lane:
        client, flow = await called(lane, person, Authorization="Bearer one")
        headers = [each for each in flow["request"]["headers"] if each[0].lower() != "authorization"]
        headers += [["Authorization", authorization]] if authorization else []
        await person.edit(flow, headers=headers)
        await person.press("replay", flow)
        ended = await person.ended(flow)
        assert ended["response"]["status_code"] == 404
        assert len(lane.a.asked("tools/call")) == 1
        # Nor does it help to know the server's own id of the session.
        headers = [[name, lane.a.begun[0] if name.lower() == SESSION else value] for name, value in headers]
        await person.edit(flow, headers=headers)
        await person.press("replay", flow)
        assert (await person.ended(flow))["response"]["status_code"] == 404
        assert len(lane.a.asked("tools/call")) == 1
        await client.call()
        await say(await lane.a.exchange())
        assert (await client.answer())["id"] == 1


@pytest.mark.parametrize("how", ["gone", "breaks off", "silent"])
async def test_a_replay_that_fails_says_so_and_keeps_no_other_from_its_turn(lanes: Lanes, person: Person, how: str):
    async with lanes.lane("hasty" if how == "silent" else "impatient") as lane:
        _, flow = await called(lane, person)
        if how == "gone":
            await lane.a.die()
        await person.press("replay", flow)
        if how == "breaks off":
            await (await lane.a.exchange()).reset()
        elif how == "silent":
            await lane.a.exchange()
        ended = await person.ended(flow)
        error = json.loads(await person.body(ended))["error"]
        code = UNREACHABLE if how == "gone" else CLOSED
        assert (error["code"], error["data"]["mayHaveRun"]) == (code, code == CLOSED)
        if how == "gone":
            await lane.a.start()
            await (await lane.client()).begin()
        flow = await person.latest(lane.path, said=b"notifications/initialized")
        await person.press("replay", flow)
        assert (await person.ended(flow))["response"]["status_code"] == 202


async def test_a_stream_that_breaks_off_while_it_is_replayed_goes_on(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        _, flow = await called(lane, person)
        await person.press("replay", flow)
        exchange = await lane.a.exchange()
        await exchange.head()
        await exchange.send(numbered(1, event_id="1"))
        await exchange.reset()
        again = await lane.a.exchange()
        assert again.request.header("last-event-id") == "1"
        await again.head()
        await again.send(wire.sse(wire.result(1, which="the rest"), event_id="2"))
        await again.end()
        assert b"the rest" in await person.body(await person.ended(flow))


async def test_a_replay_that_waits_for_a_server_ends_when_it_is_killed(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        _, flow = await called(lane, person)
        await lane.a.die()
        await person.press("replay", flow)
        await person.press("kill", flow)
        assert (await person.ended(flow))["error"]["msg"] == "Connection killed."
        await lane.a.start()
        flow = await person.latest(lane.path, said=b"notifications/initialized")
        await person.press("replay", flow)
        await person.ended(flow)
        assert len(lane.a.asked("tools/call")) == 1


async def test_what_a_person_edits_while_a_request_is_intercepted_is_sent(lanes: Lanes, person: Person):
    async with lanes.lane() as lane:
        client, _ = await called(lane, person)
        await person.set(intercept=f"~q & ~u {lane.path}")
        await client.call(message_id=2, tool="intercepted")
        flow = await person.intercepted(lane.path, b'"intercepted"')
        await person.edit(flow, content=(await person.body(flow, "request")).decode().replace("intercepted", "edited"))
        await person.set(intercept="")
        await person.press("resume", flow)
        exchange = await lane.a.exchange()
        assert b'"edited"' in exchange.request.body
        assert exchange.request.header(SESSION) == lane.a.begun[0]
        await say(exchange)
        assert (await client.answer())["id"] == 2


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_the_call_of_an_http2_client_is_sent_again(lanes: Lanes, person: Person, authority: Authority, kind: str):
    tls = authority.server_context("h2", "http/1.1") if kind == "tls" else None
    async with lanes.lane(kind, tls=tls, h2=serve_h2) as lane:
        first, _ = await called(lane, person)
        async with connect_h2(lane.proxy.port, lane.proxy.tls_context()) as client:
            body = wire.request("tools/call", {"name": "over-h2", "arguments": {}}, era="legacy")
            stream = await client.post(lane.path, first.headers(), body)
            await say(await lane.a.exchange())
            await client.rest(stream)
        flow = await person.latest(lane.path, said=b"over-h2")
        assert flow["request"]["http_version"] == "HTTP/2.0"
        await person.press("replay", flow)
        exchange = await lane.a.exchange()
        assert (exchange.request.body, exchange.request.header(SESSION)) == (body, lane.a.begun[0])
        await say(exchange, which="again")
        assert b"again" in await person.body(await person.ended(flow))
