"""Health probes go to real servers, over real connections, and what came of them is what the fleet hears."""

import asyncio
import contextlib
import json
import random
from pathlib import Path

import pytest

from shadowcat_addons import probes
from shadowcat_addons.probes import Probes
from shadowcat_core.limits import MAX_ASKED_AT_ONCE
from shadowcat_core.mcp import HeaderFields
from shadowcat_core.sessions.lifecycle import Answer
from shadowcat_core.upstreams import Fleet, State, parse_upstreams
from tests.addons.own_world import connections_close, mitmproxy_with_own_requests, until
from tests.e2e.origin import Origin
from tests.e2e.processes import free_port

POSTING = pytest.mark.parametrize("kind", ["ping", "discover"])
KINDS = pytest.mark.parametrize("kind", ["tcp", "ping", "discover"])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(probes, "LOOK_S", 0.01)


@pytest.fixture
async def origin():
    async with Origin(free_port()).listening() as listening:
        yield listening


@pytest.fixture
async def mitm(confdir, origin):  # so that nobody asks any more when the origin closes
    async with mitmproxy_with_own_requests(confdir) as context:
        context.probes = Probes(context.own.ask)
        yield context
        context.probes.done()


def fleet_of(*urls, kind="ping", failures=1, timeout_s=5.0, path="/mcp", headers=None):
    upstreams = [{"name": f"u{number}", "url": url, "headers": headers or {}} for number, url in enumerate(urls)]
    active = kind and {"kind": kind, "interval_s": 0.1, "timeout_s": timeout_s, "failures": failures}
    health = {"backoff": {"base_s": 0.05, "max_s": 0.1}} | ({"active": active} if active else {})
    route = {"path": path, "upstreams": upstreams, "health": health}
    file = parse_upstreams(json.dumps({"routes": [route]}).encode(), Path("upstreams.json"))
    return Fleet(file, clock=probes.time.monotonic, random=random.Random(1))


def member(fleet, name="u0"):
    return fleet.find(name)[1]


@KINDS
async def test_an_upstream_that_answers_stays_healthy(mitm, origin, kind):
    fleet = fleet_of(origin.url, kind=kind)
    mitm.probes.start(lambda: fleet)
    async with origin.answering(lambda exchange: exchange.answer(b"", status=400)):
        await until(lambda: member(fleet).counts.probes >= 3)
        assert member(fleet).counts.probe_failures == 0
        assert member(fleet).state is State.HEALTHY
        mitm.probes.done()
        await connections_close(origin)
    assert mitm.overheard.hooks == []


@POSTING
@pytest.mark.parametrize(("its_path", "target"), [("", "/tools/mcp"), ("/rpc", "/rpc")])
async def test_a_probe_asks_where_the_requests_of_its_route_go_with_the_headers_of_its_upstream(
    mitm, origin, kind, its_path, target
):
    fleet = fleet_of(f"{origin.url}{its_path}", kind=kind, path="/tools/mcp", headers={"Authorization": "Bearer t"})
    mitm.probes.start(lambda: fleet)
    exchange = await origin.exchange()
    request = exchange.request
    assert (request.method, request.target) == ("POST", target)
    assert request.header("authorization") == "Bearer t"
    assert json.loads(request.body)["method"] == {"ping": "ping", "discover": "server/discover"}[kind]
    await exchange.answer(b"", status=401)


@KINDS
async def test_an_upstream_that_cannot_be_reached_is_down_and_the_reason_is_one_line(mitm, kind):
    fleet = fleet_of(f"http://127.0.0.1:{free_port()}", kind=kind)
    mitm.probes.start(lambda: fleet)
    await until(lambda: member(fleet).state is State.DOWN)
    assert "Connect call failed" in member(fleet).breaker.reason
    assert member(fleet).breaker.reason.isprintable()


@POSTING
async def test_an_upstream_that_answers_that_it_cannot_is_down_until_it_can(mitm, origin, kind):
    fleet = fleet_of(origin.url, kind=kind)
    mitm.probes.start(lambda: fleet)
    works = False
    async with origin.answering(lambda exchange: exchange.answer(b"", status=200 if works else 503)):
        await until(lambda: member(fleet).state is State.DOWN)
        assert "HTTP 503" in member(fleet).breaker.reason
        works = True
        await until(lambda: member(fleet).state is not State.DOWN)


async def test_an_upstream_that_is_silent_is_down_after_the_time(mitm, origin):
    fleet = fleet_of(origin.url, timeout_s=0.1)
    mitm.probes.start(lambda: fleet)
    await until(lambda: member(fleet).state is State.DOWN)
    assert "no answer within 0.1 s" in member(fleet).breaker.reason
    mitm.probes.done()
    await connections_close(origin)


async def test_a_connection_that_does_not_come_about_counts_after_the_time(mitm, monkeypatch):
    async def never(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    fleet = fleet_of("http://127.0.0.1:1", kind="tcp", timeout_s=0.05)
    mitm.probes.start(lambda: fleet)
    await until(lambda: member(fleet).state is State.DOWN)
    assert "no connection within 0.05 s" in member(fleet).breaker.reason


async def test_a_silent_upstream_holds_no_other_up(mitm, origin):
    async with Origin(free_port()).listening() as silent:
        fleet = fleet_of(silent.url, origin.url)
        mitm.probes.start(lambda: fleet)
        await silent.exchange()
        async with origin.answering(lambda exchange: exchange.answer(b"")):
            await until(lambda: member(fleet, "u1").counts.probes >= 3)
        assert len(silent.requests) == 1


async def test_nobody_is_asked_without_active_health_or_without_a_fleet(mitm, origin):
    fleets = [None, fleet_of(origin.url, kind=None), fleet_of(origin.url)]
    asked = []

    def next_fleet():
        asked.append(len(origin.requests))
        return fleets[min(len(asked) // 5, 2)]

    mitm.probes.start(next_fleet)
    await origin.exchange()
    assert asked[:10] == [0] * 10


async def test_starting_twice_starts_once_and_stopping_stops(mitm, origin):
    fleet = fleet_of(origin.url)
    mitm.probes.start(lambda: fleet)
    mitm.probes.start(lambda: pytest.fail("asked"))
    exchange = await origin.exchange()
    mitm.probes.done()
    await exchange.wait_peer_gone()
    mitm.probes.done()
    assert not mitm.probes._under_way
    again = fleet_of(origin.url)
    mitm.probes.start(lambda: again)
    await origin.exchange()


async def test_many_silent_upstreams_make_probes_late_and_not_failures():
    under_way, release = set(), asyncio.Event()

    async def ask(url, *_, **__):
        under_way.add(url)
        await release.wait()
        return Answer(200, HeaderFields(()))

    many = 2 * int(MAX_ASKED_AT_ONCE)
    fleet = fleet_of(*[f"http://127.0.0.1:{port}" for port in range(1, many + 1)])
    now = 0.0
    tried = Probes(ask, clock=lambda: now)
    for pool in fleet.pools():
        fleet.prober.follow([pool], now)
    fleet.prober._plan = type(fleet.prober._plan)()
    for each in fleet.prober._pools:
        fleet.prober._plan.put(each, now)
    tried.start(lambda: fleet)
    await until(lambda: len(under_way) == MAX_ASKED_AT_ONCE)
    now = 3600.0  # long after any probe's time
    await asyncio.sleep(0)
    assert len(under_way) == MAX_ASKED_AT_ONCE
    release.set()
    await until(lambda: len(under_way) == many)
    tried.done()
    assert sum(each.counts.probe_failures for each in fleet.prober._pools) == 0


@pytest.mark.parametrize("what", ["a probe", "the fleet", "a report"])
async def test_a_bug_is_said_once_and_ends_nothing(mitm, origin, caplog, monkeypatch, what):
    fleet = fleet_of(origin.url, timeout_s=0.1)
    bugs = [RuntimeError("bug")] * 3

    def buggy(real):
        def call(*args, **keywords):
            if bugs:
                raise bugs.pop()
            return real(*args, **keywords)

        return call

    match what:
        case "a probe":
            mitm.probes._ask = buggy(mitm.own.ask)
        case "the fleet":
            monkeypatch.setattr(fleet.prober, "due", buggy(fleet.prober.due))
        case "a report":
            monkeypatch.setattr(fleet.prober, "report", buggy(fleet.prober.report))
    mitm.probes.start(lambda: fleet)
    async with origin.answering(lambda exchange: exchange.answer(b"")):
        await until(lambda: not bugs and len(origin.requests) >= 2)
    said = [record.getMessage() for record in caplog.records if record.name == probes.__name__]
    assert said == ["shadowcat: RuntimeError('bug') while upstreams were probed"]
    if what == "a probe":
        assert member(fleet).counts.probe_failures > 0


async def test_an_upstream_that_comes_with_a_reload_is_asked_and_one_that_leaves_is_not(mitm, origin):
    async with Origin(free_port()).listening() as other:
        fleet = fleet_of(origin.url)
        mitm.probes.start(lambda: fleet)
        exchange = await origin.exchange()
        fleet.apply(fleet_of(other.url).file)
        with contextlib.suppress(ConnectionError):
            await exchange.answer(b"", status=503)
        await (await other.exchange()).answer(b"")
        await until(lambda: member(fleet).counts.probes == 1)
        assert member(fleet).counts.probe_failures == 0
        assert len(origin.requests) == 1
