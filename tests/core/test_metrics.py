"""Metrics tell what was counted: exactly, without anything going backwards, and in both formats alike."""

import time
from dataclasses import fields
from functools import partial

import pytest

from shadowcat_core.histogram import Histogram
from shadowcat_core.interceptors.records import StageMetrics
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import MessageBatch, MessageContext
from shadowcat_core.metrics.families import BOUNDS
from shadowcat_core.metrics.proxy import INTERCEPTORS, STREAMS
from shadowcat_core.metrics.relay import RELAY, ROUTES, UPSTREAMS
from shadowcat_core.relay.counts import RelayCounts
from shadowcat_core.relay.relay import Listing
from shadowcat_core.stream import StreamMetrics
from shadowcat_core.upstreams import FailureKind, State
from shadowcat_core.upstreams.member import MemberCounts
from shadowcat_core.upstreams.pool import PoolCounts
from tests.core.metrics_parts import EVENT, Refuse, World, scrape, value
from tests.core.tape_parts import chunk


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    yield world
    await world.aclose()


@pytest.mark.parametrize(
    ("told", "counts", "otherwise"),
    [
        pytest.param(STREAMS, StreamMetrics, {"lag"}, id="streams"),
        pytest.param(INTERCEPTORS, StageMetrics, {"verdicts", "spent_ns", "waited_ns"}, id="interceptors"),
        pytest.param(RELAY, RelayCounts, set(), id="relay"),
        pytest.param(ROUTES, PoolCounts, set(), id="routes"),
        pytest.param(UPSTREAMS, MemberCounts, set(), id="upstreams"),
    ],
)
def test_every_counter_is_told(told, counts, otherwise):
    assert set(told) == {field.name for field in fields(counts)} - otherwise


# --- Streams --------------------------------------------------------------------------------------------------------


async def test_streams_that_run_and_those_that_have_ended_add_up(world):
    _, running = world.stream("running")
    _, ended = world.stream("ended")
    for tap in (running, ended):
        tap(EVENT * 2)
        tap(EVENT)
        tap.catch_up()
    before = scrape(world.metrics)
    ended(b"")
    world.registry.close("ended")
    after = scrape(world.metrics)
    for samples, count in ((before, 2), (after, 1)):
        assert value(samples, "streams_running") == value(samples, "exchanges_running") == count
        assert value(samples, "exchanges_total") == 2
        assert value(samples, "stream_chunks_total") == 4
        assert value(samples, "stream_bytes_total") == 6 * len(EVENT)
        assert value(samples, "stream_messages_total") == 6
        assert value(samples, "stream_lag_seconds_count") == value(samples, "stream_batches_total")


async def test_no_counter_of_streams_goes_back_whatever_becomes_of_them(world):
    counted = 0.0
    for number in map(str, range(5)):
        _, tap = world.stream(number)
        for step in (partial(tap, EVENT), tap.catch_up, tap.abort, partial(world.registry.close, number)):
            step()
            chunks = value(scrape(world.metrics), "stream_chunks_total")
            assert chunks >= counted
            counted = chunks
    assert counted == 5


async def test_what_watchers_have_not_seen_is_told(world):
    _, tap = world.stream("one")
    tap(EVENT)
    assert value(scrape(world.metrics), "stream_behind_bytes") >= len(EVENT)
    tap.catch_up()
    assert value(scrape(world.metrics), "stream_behind_bytes") == 0


async def test_a_scrape_does_no_work_that_streams_have_put_off(world):
    _, tap = world.stream("one")
    tap(EVENT)
    assert value(scrape(world.metrics), "stream_messages_total") == 0
    assert tap.behind_bytes > 0


@pytest.mark.parametrize("microseconds", [0, 1, 15, 16, 63, 64, 1_000, 2**20 - 1, 2**24, 10**12])
async def test_a_duration_is_in_every_bucket_that_is_longer(world, microseconds):
    world.registry.metrics.lag.add(microseconds * 1000)
    samples = scrape(world.metrics)
    for power in BOUNDS:
        counted = value(samples, "stream_lag_seconds_bucket", le=str(2**power / 1e6))
        assert counted == (microseconds < 2**power)
    assert value(samples, "stream_lag_seconds_bucket", le="+Inf") == 1
    assert value(samples, "stream_lag_seconds_sum") == pytest.approx(microseconds / 1e6)


def test_the_longest_bucket_is_one_that_is_counted():
    assert max(BOUNDS) < len(Histogram().buckets)


# --- Interceptors, holds, the tape ----------------------------------------------------------------------------------


async def test_interceptors_are_told_by_name_and_action(world):
    world.pipeline.add(Refuse(), name="refuse")
    context = MessageContext(Direction.CLIENT_TO_SERVER, Transport.HTTP)
    batch = MessageBatch.of_body(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', context, time.monotonic_ns())
    assert world.pipeline.run(batch) is None
    samples = scrape(world.metrics)
    assert value(samples, "interceptor_messages_total", interceptor="refuse") == 1
    assert value(samples, "interceptor_verdicts_total", interceptor="refuse", action="block") == 1
    assert value(samples, "interceptor_verdicts_total", interceptor="refuse", action="drop") == 0
    assert value(samples, "interceptor_seconds_total", interceptor="refuse", phase="running") > 0
    assert value(samples, "interceptor_seconds_total", interceptor="refuse", phase="waiting") == 0


async def test_a_name_that_would_end_a_label_is_told_as_it_is(world):
    world.pipeline.add(Refuse(), name='a "b"\\c\nd ✗')
    assert value(scrape(world.metrics), "interceptor_failures_total", interceptor='a "b"\\c\nd ✗') == 0


async def test_what_is_held_goes_up_and_down(world):
    for held in (2, 0):
        world.held = held
        assert value(scrape(world.metrics), "held_messages") == held


async def test_the_tape_tells_what_it_has_and_what_it_lacks(world):
    world.recorder.put(chunk(1))
    world.disk.broken = True
    world.recorder.put(chunk(2))
    samples = scrape(world.metrics)
    assert value(samples, "tape_records_total") == 1
    assert value(samples, "tape_bytes_total") == len(world.disk.data)
    assert value(samples, "tape_write_failures_total") == 1
    assert value(samples, "tape_waiting_records") == 1
    assert value(samples, "tape_lost_records_total") == 0
    world.recorder.close()
    assert value(scrape(world.metrics), "tape_lost_records_total") == 1


async def test_what_is_not_there_is_not_told(world):
    world.is_recording = world.is_relaying = False
    names = {name for name, _ in scrape(world.metrics)}
    assert not [name for name in names if name.startswith(("shadowcat_tape", "shadowcat_relay", "shadowcat_interc"))]
    assert "shadowcat_sessions" not in names


async def test_versions_are_labels(world):
    assert value(scrape(world.metrics), "build_info", version="1.2.3", mitmproxy="12.0.0") == 1


# --- Sessions and upstreams -----------------------------------------------------------------------------------------


def state_of(samples, upstream):
    states = {state: value(samples, "upstream_state", route="main", upstream=upstream, state=state) for state in State}
    (state,) = [state for state, is_on in states.items() if is_on]
    return state


async def test_an_upstream_that_fails_is_told_by_state_and_counters(world):
    (pool,) = world.fleet.pools()
    one, two = pool.members()
    while one.is_usable:
        pool.failed(one, FailureKind.CONNECT)
    pool.drain(two.name)
    world.in_flight = {"two": 3, "gone": 1}
    pool.session_began("two")
    samples = scrape(world.metrics)
    assert (state_of(samples, "one"), state_of(samples, "two")) == (State.DOWN, State.DRAINING)
    its = {"route": "main", "upstream": "one"}
    assert value(samples, "upstream_up", **its) == 0
    assert value(samples, "upstream_trips_total", **its) == 1
    assert value(samples, "upstream_failures_total", **its) == one.counts.failures > 0
    assert value(samples, "upstream_up", route="main", upstream="two") == 1
    assert value(samples, "upstream_in_flight", **its) == 0
    assert value(samples, "upstream_in_flight", route="main", upstream="two") == 3
    assert value(samples, "upstream_sessions", route="main", upstream="two") == 1
    assert not [labels for _, labels in samples if ("upstream", "gone") in labels]


async def test_a_suspect_of_which_nothing_was_heard_is_healthy_again_though_nobody_asks_it(world):
    (pool,) = world.fleet.pools()
    pool.failed(pool.members()[0], FailureKind.CONNECT)
    assert state_of(scrape(world.metrics), "one") is State.SUSPECT
    world.clock.pass_s(pool.route.health.passive.window_s)
    assert state_of(scrape(world.metrics), "one") is State.HEALTHY


async def test_a_relays_counters_have_their_names(world):
    world.relay.counts.answers_lost = 4
    samples = scrape(world.metrics)
    assert value(samples, "relay_answers_lost_total") == 4
    assert value(samples, "relay_streams_resumed_total") == 0
    assert value(samples, "relay_streams_kept") == value(samples, "relay_unlogged_bytes") == 0


async def test_sessions_are_those_of_the_latest_count(world):
    world.relay.listing = Listing((), 7, 0.0)
    assert value(scrape(world.metrics), "sessions") == 7


async def test_a_store_that_is_away_is_told(world):
    assert value(scrape(world.metrics), "session_store_up") == 1
    world.is_store_away = True
    assert value(scrape(world.metrics), "session_store_up") == 0


async def test_a_store_that_somebody_stands_in_for_is_away_all_the_same(world, monkeypatch):
    from shadowcat_core.sessions.resilient_store import ResilientStore

    monkeypatch.setattr(ResilientStore, "is_away", property(lambda _self: world.is_away), raising=True)
    monkeypatch.setattr(world.relay, "store", ResilientStore.__new__(ResilientStore))
    for world.is_away in (True, False):
        assert value(scrape(world.metrics), "session_store_up") == (not world.is_away)
    monkeypatch.undo()
