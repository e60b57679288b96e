"""The circuit of one upstream: what opens it, for how long, and what closes it again."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.upstreams.health import Breaker, Circuit, FailureKind, State, backoff_s
from shadowcat_core.upstreams.models import Backoff, Health
from tests.core.upstream_parts import Steady

CONNECT, PROBE = FailureKind.CONNECT, FailureKind.PROBE
NO_CHANCE = Steady()


def breaker(**health) -> Breaker:
    return Breaker(Health.model_validate(health), 0.0)


def play(story: str, one: Breaker, seconds_each: float = 1.0) -> None:
    """F: a request fails, S: one succeeds, f: a probe fails, s: one succeeds, .: nothing; a second after another."""
    now = one.since
    for step in story:
        now += seconds_each
        one.wake(now)
        match step:
            case "F":
                one.failed(now, CONNECT, "refused", NO_CHANCE)
            case "f":
                one.failed(now, PROBE, "HTTP 503", NO_CHANCE)
            case "S":
                one.succeeded(now)
            case "s":
                one.probed(now)


ACTIVE = {"active": "ping"}


@pytest.mark.parametrize(
    ("health", "story", "state"),
    [
        ({}, "", State.HEALTHY),
        ({}, "SSS", State.HEALTHY),
        ({}, "F", State.SUSPECT),
        ({}, "FF", State.SUSPECT),
        ({}, "FFF", State.DOWN),
        ({}, "FS", State.HEALTHY),
        ({}, "FSF", State.SUSPECT),
        ({}, "FSFSF", State.DOWN),  # three of five
        ({}, "FSSFSSF", State.SUSPECT),  # three of seven
        ({}, "SSSSSSSSSSFFF", State.DOWN),  # what was before the first of them does not count
        ({}, "FSSFSSFFF", State.DOWN),
        ({"passive": {"share": 1}}, "FFSF", State.SUSPECT),
        ({"passive": {"share": 0.001}}, "FSSSSFSSSSSSF", State.DOWN),
        ({"passive": {"failures": 1}}, "F", State.DOWN),
        ({"passive": {"window_s": 2}}, "F.", State.SUSPECT),
        ({"passive": {"window_s": 2}}, "F..", State.HEALTHY),  # nothing was heard of it since
        ({"passive": {"window_s": 2}}, "FFF", State.DOWN),
        ({"passive": {"window_s": 2}}, "F.FF", State.SUSPECT),
        ({"passive": {"window_s": 2}}, "F.FFF", State.DOWN),
        (ACTIVE, "f", State.SUSPECT),
        (ACTIVE, "ff", State.DOWN),
        (ACTIVE, "fs", State.HEALTHY),
        (ACTIVE, "fsf", State.SUSPECT),
        (ACTIVE, "fSf", State.SUSPECT),  # requests know better than probes
        (ACTIVE, "Ff", State.SUSPECT),  # each is counted by itself
        (ACTIVE, "FfF", State.SUSPECT),
        (ACTIVE, "FFsF", State.DOWN),  # it is there, and answers no requests
        ({}, "ff", State.SUSPECT),  # nobody asked for probes
    ],
)
def test_what_happened_makes_the_state(health, story, state):
    one = breaker(**health)
    play(story, one)
    assert one.state is state
    assert (one.circuit is Circuit.CLOSED) is (state is not State.DOWN)
    assert bool(one.reason) is (state is not State.HEALTHY)


def opened(**health) -> Breaker:
    one = breaker(passive={"failures": 1}, backoff={"base_s": 4, "max_s": 10, "jitter": 0}, **health)
    play("F", one)
    assert one.circuit is Circuit.OPEN
    return one


def test_an_open_circuit_becomes_half_open_when_its_time_is_over():
    one = opened()
    assert (one.since, one.retry_at, one.wakes_at) == (1, 5, 5)
    one.wake(4.999)
    assert one.circuit is Circuit.OPEN
    assert not one.wants_trial
    one.wake(5)
    assert one.circuit is Circuit.HALF_OPEN
    assert one.state is State.DOWN
    assert one.wants_trial
    assert one.wakes_at is None
    assert one.reason == "cannot be reached: refused"


def test_a_trial_that_succeeds_closes_it_as_if_nothing_had_been():
    one = opened()
    one.wake(5)
    one.begin_trial(5, within_s=3)
    assert not one.wants_trial
    one.succeeded(6)
    assert (one.state, one.reason, one.since, one.trips) == (State.HEALTHY, "", 6, 0)
    assert one.wakes_at is None


def test_a_trial_that_fails_opens_it_for_longer_each_time_up_to_the_maximum():
    one = opened()
    waits = []
    for _ in range(4):
        now = one.retry_at
        one.wake(now)
        one.begin_trial(now, within_s=3)
        one.failed(now + 1, CONNECT, "", NO_CHANCE)
        assert one.circuit is Circuit.OPEN
        waits.append(one.retry_at - now - 1)
    assert waits == [8, 10, 10, 10]
    assert one.since == 1, "it has been down since the first failure"
    assert one.reason == "cannot be reached"


def test_a_trial_of_which_nobody_says_anything_makes_room_for_another():
    one = opened()
    one.wake(5)
    one.begin_trial(5, within_s=3)
    one.wake(7.9)
    assert not one.wants_trial
    one.wake(8)
    assert one.wants_trial


def test_a_trial_can_be_given_up():
    one = opened()
    one.wake(5)
    one.begin_trial(5, within_s=3)
    one.give_up_trial()
    assert one.wants_trial


def test_news_of_old_requests_means_nothing_to_an_open_circuit():
    one = opened()
    one.succeeded(2)
    one.failed(3, CONNECT, "another", NO_CHANCE)
    assert (one.circuit, one.retry_at, one.trips) == (Circuit.OPEN, 5, 1)
    assert one.reason == "cannot be reached: refused"


def test_a_probe_that_is_answered_closes_also_an_open_circuit():
    one = opened(active="tcp")
    one.probed(2)
    assert one.state is State.HEALTHY


def test_after_it_closed_failures_are_counted_from_none():
    one = breaker(backoff={"base_s": 1, "jitter": 0})
    play("FFF.S", one)
    assert one.state is State.HEALTHY
    play("FF", one)
    assert one.state is State.SUSPECT


def test_a_suspect_has_been_one_since_its_first_failure():
    one = breaker()
    play("SFF", one)
    assert one.since == 2


@given(
    base_s=st.floats(0.001, 100),
    more_s=st.floats(0, 1000),
    jitter=st.floats(0, 0.9),
    trips=st.integers(1, 10_000),
    seed=st.integers(),
)
def test_a_back_off_doubles_up_to_its_maximum_and_chance_only_shortens_it(base_s, more_s, jitter, trips, seed):
    policy = Backoff(base_s=base_s, max_s=base_s + more_s, jitter=jitter)
    longest_s = backoff_s(policy, trips, NO_CHANCE)
    assert longest_s == (base_s + more_s if trips > 64 else min(base_s + more_s, base_s * 2 ** (trips - 1)))
    assert longest_s * (1 - jitter) <= backoff_s(policy, trips, Random(seed)) <= longest_s


def test_back_offs_of_two_proxies_differ_and_those_of_one_seed_do_not():
    policy = Backoff()
    assert backoff_s(policy, 3, Random(1)) != backoff_s(policy, 3, Random(2))
    assert backoff_s(policy, 3, Random(1)) == backoff_s(policy, 3, Random(1))


@given(st.lists(st.sampled_from("FSfs."), max_size=200), st.floats(0.1, 40))
def test_nothing_grows_and_there_is_always_a_way_back(story, seconds_each):
    one = breaker(active="ping", backoff={"jitter": 0})
    play("".join(story), one, seconds_each)
    assert len(one._failures) <= one.policy.passive.failures
    now = max(one.wakes_at or 0, one.since) + 1_000
    one.wake(now)
    assert one.state is State.HEALTHY or one.wants_trial
    one.succeeded(now)
    assert one.state is State.HEALTHY
