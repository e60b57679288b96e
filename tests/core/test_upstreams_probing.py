"""Probes go out when they are due, one at a time to each, and what comes of them is believed."""

from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.mcp import Era, era_of, protocol_version
from shadowcat_core.upstreams import Circuit, FailureKind, State, failure_of
from shadowcat_core.upstreams.probing import request_of
from tests.core.upstream_parts import Clock, Steady, break_down, file, fleet, named, route, upstream

PROBED = {
    "active": {"kind": "ping", "interval_s": 10, "timeout_s": 3, "failures": 2},
    "backoff": {"base_s": 1, "max_s": 8, "jitter": 0},
}
HALF = Steady(0.5)  # no spread


def begun(*names, clock, health=PROBED, random=HALF):
    found = fleet(route(*names, health=health), clock=clock, random=random)
    return found, found.pools()[0]


def due(found, clock) -> list[str]:
    return [probe.member.name for probe in found.prober.due(clock())]


def test_all_are_asked_within_the_first_second_and_then_in_intervals():
    clock = Clock()
    found, pool = begun("a", "b", clock=clock)
    assert due(found, clock) == []
    clock.pass_s(0.5)
    probes = found.prober.due(clock())
    assert [probe.member.name for probe in probes] == ["a", "b"]
    assert due(found, clock) == [], "they are under way"
    clock.pass_s(0.25)
    for probe in probes:
        found.prober.report(probe, clock(), None)
    clock.pass_s(9.9)
    assert due(found, clock) == []
    clock.pass_s(0.1)
    assert due(found, clock) == ["a", "b"]
    assert [member.counts.probes for member in pool.members()] == [2, 2]


def test_chance_spreads_them():
    clock = Clock()
    found, _ = begun(*(f"u{n}" for n in range(20)), clock=clock, random=Random(1))
    sent = []
    for _ in range(100):
        clock.pass_s(0.01)
        sent.append(len(found.prober.due(clock())))
    assert sum(sent) == 20
    assert max(sent) < 5


def test_enough_failures_take_it_down_and_one_answer_brings_it_back():
    clock = Clock()
    found, pool = begun("a", clock=clock)
    a = named(pool, "a")
    clock.pass_s(0.5)
    for state in (State.SUSPECT, State.DOWN):
        (probe,) = found.prober.due(clock())
        found.prober.report(probe, clock(), "HTTP 503")
        assert a.state is state
        clock.pass_s(10 if state is State.SUSPECT else 0)
    assert a.breaker.reason == "failed a probe: HTTP 503"
    assert (a.counts.probe_failures, a.counts.failures, a.counts.trips) == (2, 0, 1)
    waits = []
    for _ in range(3):
        before = clock()
        while not (probes := found.prober.due(clock())):
            assert pool.pick() is None, "requests do not try it"
            clock.pass_s(0.5)
        waits.append(clock() - before)
        assert a.breaker.circuit is Circuit.HALF_OPEN
        assert not a.breaker.wants_trial, "the probe is its trial"
        found.prober.report(probes[0], clock(), "refused")
    assert waits == [1, 2, 4], "it is asked when its back-off is over, not in intervals"
    clock.pass_s(8)
    (probe,) = found.prober.due(clock())
    found.prober.report(probe, clock(), None)
    assert a.state is State.HEALTHY
    assert pool.pick() is a


def test_one_that_requests_took_down_is_asked_as_soon_as_its_back_off_is_over():
    clock = Clock()
    found, pool = begun("a", clock=clock)
    clock.pass_s(0.5)
    (probe,) = found.prober.due(clock())
    found.prober.report(probe, clock(), None)
    break_down(pool, "a")
    clock.pass_s(0.9)
    assert due(found, clock) == []
    clock.pass_s(0.1)
    assert due(found, clock) == ["a"]


def test_one_that_went_down_before_its_next_probe_is_left_alone():
    clock = Clock()
    found, pool = begun("a", clock=clock, health=PROBED | {"backoff": {"base_s": 30, "max_s": 30, "jitter": 0}})
    clock.pass_s(0.5)
    (probe,) = found.prober.due(clock())
    found.prober.report(probe, clock(), None)
    break_down(pool, "a")
    clock.pass_s(29.9)
    assert due(found, clock) == []
    clock.pass_s(0.1)
    assert due(found, clock) == ["a"]


def test_a_probe_that_nobody_reports_counts_as_failed():
    clock = Clock()
    found, pool = begun("a", clock=clock)
    clock.pass_s(0.5)
    (lost,) = found.prober.due(clock())
    clock.pass_s(4)
    assert due(found, clock) == []
    a = named(pool, "a")
    assert a.breaker.reason == "failed a probe: no answer, and nobody said so"
    clock.pass_s(10)
    assert due(found, clock) == ["a"]
    found.prober.report(lost, clock(), None)
    assert a.state is State.SUSPECT, "the report of the lost one comes too late"


def test_requests_that_succeed_know_better_than_probes():
    clock = Clock()
    found, pool = begun("a", clock=clock)
    a = named(pool, "a")
    clock.pass_s(0.5)
    for _ in range(5):
        (probe,) = found.prober.due(clock())
        found.prober.report(probe, clock(), "HTTP 500")
        pool.succeeded(a)
        clock.pass_s(10)
    assert a.state is State.HEALTHY


def test_after_a_reload_those_that_stay_keep_their_time_and_those_that_are_gone_are_left():
    clock = Clock()
    found, _ = begun("a", "b", clock=clock)
    clock.pass_s(0.5)
    of_a, of_b = found.prober.due(clock())
    found.prober.report(of_a, clock(), None)
    found.apply(file(route("a", "c", health=PROBED)))
    found.prober.report(of_b, clock(), "too late")
    clock.pass_s(0.5)
    assert due(found, clock) == ["c"]
    clock.pass_s(9.5)
    assert "a" in due(found, clock)
    found.apply(file(route("a", "c")))
    clock.pass_s(100)
    assert due(found, clock) == [], "nobody wants probes any more"
    found.apply(file(route("a", "c", health=PROBED)))
    clock.pass_s(1)
    assert due(found, clock) == ["a", "c"]


def test_one_that_is_kept_for_its_sessions_is_asked_until_the_last_is_over():
    clock = Clock()
    found, pool = begun("a", "b", clock=clock)
    pool.session_began("b")
    found.apply(file(route("a", health=PROBED)))
    clock.pass_s(1)
    probes = {probe.member.name: probe for probe in found.prober.due(clock())}
    assert set(probes) == {"a", "b"}
    pool.session_ended("b")
    for probe in probes.values():
        found.prober.report(probe, clock(), None)
    clock.pass_s(10)
    assert due(found, clock) == ["a"]
    assert len(found.prober._plan) == 1


def test_probes_say_what_they_ask_with_the_upstreams_own_headers():
    clock = Clock()
    found, _ = begun(upstream("a", headers={"Authorization": "Bearer x"}), clock=clock)
    clock.pass_s(1)
    (probe,) = found.prober.due(clock())
    assert (probe.kind, probe.timeout_s, probe.member.endpoint.path) == ("ping", 3, "/mcp")
    assert probe.headers["Authorization"] == "Bearer x"
    assert probe.body is not None
    assert orjson.loads(probe.body)["method"] == "ping"
    assert "Bearer" not in repr(probe)


def test_a_probe_of_a_connection_sends_nothing():
    assert request_of("tcp") == ({}, None)


def test_a_discovery_is_a_request_of_the_modern_era():
    headers, body = request_of("discover")
    assert body is not None
    payload = orjson.loads(body)
    assert payload["method"] == headers["Mcp-Method"] == "server/discover"
    assert protocol_version(payload) == headers["MCP-Protocol-Version"]
    assert era_of(protocol_version(payload)) is Era.MODERN
    assert payload["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, None),
        (202, None),
        (400, None),
        (401, None),
        (404, None),
        (429, None),
        (500, "HTTP 500"),
        (503, "HTTP 503"),
    ],
)
def test_a_server_that_refuses_is_there(status, failure):
    assert failure_of(status) == failure


@given(
    st.lists(
        st.tuples(st.sampled_from(["wait", "due", "good", "bad", "fail", "ok"]), st.floats(0.01, 15)), max_size=120
    ),
    st.integers(),
)
@settings(max_examples=60, deadline=None)
def test_there_is_never_more_than_one_probe_of_an_upstream_under_way(steps, seed):
    clock = Clock()
    found, pool = begun("a", "b", clock=clock, random=Random(seed))
    under_way = {}
    for step, seconds in steps:
        match step:
            case "wait":
                clock.pass_s(seconds)
            case "due":
                for probe in found.prober.due(clock()):
                    before = under_way.get(probe.member)
                    assert before is None or clock() - before[1] >= 4, "unless the other was given up"
                    under_way[probe.member] = probe, clock()
                    assert probe.member.breaker.circuit is not Circuit.OPEN
            case "good" | "bad":
                while under_way:
                    found.prober.report(under_way.popitem()[1][0], clock(), None if step == "good" else "no")
            case "fail":
                pool.failed(named(pool, "a"), FailureKind.CLOSED)
            case "ok":
                pool.succeeded(named(pool, "a"))
    asked = set()
    for _ in range(3):
        clock.pass_s(100)
        asked |= set(due(found, clock))
    assert asked == {"a", "b"}, "nobody is forgotten"
