"""A pool gives every request an upstream that works, as long as there is one."""

from collections import Counter

import pytest

from shadowcat_core.upstreams import Circuit, FailureKind, State
from tests.core.upstream_parts import Clock, break_down, fleet, named, picks, pool, route, upstream

BALANCES = ["round_robin", "least_sessions", "hash"]
ONE_FAILURE = {"passive": {"failures": 1}, "backoff": {"base_s": 2, "max_s": 60, "jitter": 0}}


@pytest.mark.parametrize("balance", BALANCES)
def test_one_that_is_down_is_not_picked_until_its_time_is_over(balance):
    clock = Clock()
    one = pool("a", "b", balance=balance, clock=clock, health=ONE_FAILURE)
    break_down(one, "a")
    assert set(picks(one, 20, key="x")) == {"b"}
    clock.pass_s(1.99)
    assert set(picks(one, 20, key="x")) == {"b"}
    clock.pass_s(0.01)
    assert "a" in picks(one, 2, key="x")


@pytest.mark.parametrize("balance", BALANCES)
def test_a_half_open_circuit_lets_exactly_one_request_through(balance):
    clock = Clock()
    one = pool("a", "b", balance=balance, clock=clock, health=ONE_FAILURE)
    break_down(one, "a")
    clock.pass_s(2)
    assert Counter(picks(one, 100, key="x"))["a"] == 1
    assert one.counts.trials == 1
    one.failed(named(one, "a"), FailureKind.FIRST_BYTE)
    assert "a" not in picks(one, 100, key="x")
    clock.pass_s(4)
    assert Counter(picks(one, 100, key="x"))["a"] == 1
    one.succeeded(named(one, "a"))
    assert named(one, "a").state is State.HEALTHY
    if balance != "hash":
        assert Counter(picks(one, 100))["a"] == 50


def test_a_trial_goes_to_nobody_who_has_tried_it_already():
    clock = Clock()
    one = pool("a", "b", clock=clock, health=ONE_FAILURE)
    break_down(one, "a")
    clock.pass_s(2)
    a = named(one, "a")
    assert picks(one, 3, exclude={a}) == ["b", "b", "b"]
    assert one.pick() is a


def test_a_trial_whose_client_left_goes_to_the_next_request():
    clock = Clock()
    one = pool("a", clock=clock, health=ONE_FAILURE)
    break_down(one, "a")
    clock.pass_s(2)
    a = named(one, "a")
    assert one.pick() is a
    assert one.pick() is None
    one.released(a)
    assert one.pick() is a
    one.succeeded(a)
    one.released(a)
    assert one.pick() is a


def test_a_trial_of_which_nobody_says_anything_does_not_shut_an_upstream_out_for_ever():
    clock = Clock()
    one = pool("a", clock=clock, health=ONE_FAILURE, timeouts={"connect_s": 1, "first_byte_s": 4})
    break_down(one, "a")
    clock.pass_s(2)
    assert picks(one, 2) == ["a", None]
    clock.pass_s(4.9)
    assert one.pick() is None
    clock.pass_s(0.1)
    assert picks(one, 2) == ["a", None]


def test_answers_may_take_as_long_as_they_like_and_trials_still_end():
    clock = Clock()
    one = pool("a", clock=clock, health=ONE_FAILURE, timeouts={"first_byte_s": None})
    break_down(one, "a")
    clock.pass_s(2)
    assert picks(one, 2) == ["a", None]
    clock.pass_s(305)
    assert picks(one, 1) == ["a"]


@pytest.mark.parametrize("balance", ["round_robin", "least_sessions"])
def test_a_suspect_comes_after_those_that_are_healthy(balance):
    clock = Clock()
    one = pool("a", "b", balance=balance, clock=clock)
    a, b = one.members()
    one.failed(a, FailureKind.CLOSED, "reset")
    assert a.state is State.SUSPECT
    assert set(picks(one, 10)) == {"b"}
    assert [member.name for member in one.candidates()] == ["b", "a"]
    one.failed(b, FailureKind.CLOSED)
    assert set(picks(one, 10)) == {"a", "b"}, "two suspects are as good as each other"
    one.succeeded(a)
    assert set(picks(one, 10)) == {"a"}
    clock.pass_s(30)
    assert set(picks(one, 10)) == {"a", "b"}, "it is forgotten when nothing more is heard"


def test_a_suspect_keeps_its_keys():
    one = pool("a", "b", balance="hash")
    where = {f"k{n}": one.pick(f"k{n}") for n in range(50)}
    one.failed(named(one, "a"), FailureKind.CLOSED)
    assert {key: one.pick(key) for key in where} == where


def test_when_all_are_down_there_is_nobody_and_it_is_known_until_when():
    clock = Clock()
    one = pool("a", "b", clock=clock, health=ONE_FAILURE)
    assert one.retry_in_s() == 0
    break_down(one, "a")
    assert one.retry_in_s() == 0
    clock.pass_s(0.5)
    break_down(one, "b")
    assert one.pick() is None
    assert list(one.candidates()) == []
    assert one.counts.refusals == 2
    assert one.retry_in_s() == 1.5
    clock.pass_s(1.5)
    assert one.retry_in_s() == 0
    assert one.pick() is named(one, "a")
    assert one.retry_in_s() == 0.5, "the trial is under way, and the other one comes"
    clock.pass_s(0.5)
    assert one.pick() is named(one, "b")
    assert one.retry_in_s() == pytest.approx(304.5), "both trials are under way"


def test_with_probes_it_takes_one_at_least_until_somebody_is_there():
    clock = Clock()
    one = pool("a", clock=clock, health=ONE_FAILURE | {"active": {"kind": "tcp", "timeout_s": 0.25}})
    break_down(one, "a")
    clock.pass_s(2)
    assert one.retry_in_s() == 0.25
    assert one.pick() is None, "the trial is the probe's"


def test_nobody_knows_when_a_drained_pool_is_there_again():
    one = pool("a")
    assert one.drain("a")
    assert one.pick() is None
    assert one.retry_in_s() is None


# --- Sessions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balance", BALANCES)
def test_a_session_stays_where_it_is(balance):
    one = pool("a", "b", "c", balance=balance)
    assert set(picks(one, 10, key="s", bound="b")) == {"b"}
    assert one.counts.strayed == 0


def test_a_session_that_is_not_sticky_goes_anywhere():
    one = pool("a", "b", sticky=False)
    assert set(picks(one, 10, bound="b")) == {"a", "b"}


def test_a_session_stays_with_a_suspect_and_moves_when_it_is_down():
    one = pool("a", "b", health=ONE_FAILURE | {"passive": {"failures": 2}})
    a = named(one, "a")
    one.failed(a, FailureKind.BROKEN)
    assert one.pick(bound="a") is a
    one.failed(a, FailureKind.BROKEN)
    assert picks(one, 2, bound="a") == ["b", "b"]
    assert one.counts.strayed == 2


def test_a_session_moves_when_its_upstream_was_tried_or_is_not_known():
    one = pool("a", "b")
    assert one.pick(bound="a", exclude={named(one, "a")}) is named(one, "b")
    assert one.pick(bound="gone") is not None
    assert [member.name for member in one.candidates(bound="b")] == ["b", "a"]


def test_a_session_is_the_trial_of_its_own_upstream():
    clock = Clock()
    one = pool("a", "b", clock=clock, health=ONE_FAILURE)
    break_down(one, "a")
    break_down(one, "b")
    clock.pass_s(2)
    assert picks(one, 2, bound="b") == ["b", "a"]


def test_draining_takes_no_new_sessions_and_serves_old_ones():
    clock = Clock()
    one = pool("a", "b", clock=clock, health=ONE_FAILURE)
    one.session_began("a")
    assert one.drain("a")
    a = named(one, "a")
    assert a.state is State.DRAINING
    assert set(picks(one, 10)) == {"b"}
    assert set(picks(one, 10, bound="a")) == {"a"}
    break_down(one, "b")
    assert picks(one, 2) == [None, None], "not even when there is nobody else"
    break_down(one, "a")
    assert a.state is State.DOWN
    clock.pass_s(2)
    assert picks(one, 2) == ["b", None], "no trial of it with a new session"
    assert picks(one, 2, bound="a") == ["a", None]
    one.succeeded(a)
    assert a.state is State.DRAINING
    assert one.undrain("a")
    assert a.state is State.HEALTHY
    assert "a" in picks(one, 4)


def test_the_table_says_since_when_one_drains_and_that_it_is_drained_when_nothing_is_there():
    clock = Clock()
    one = pool("a", clock=clock)
    one.session_began("a")
    clock.pass_s(41)
    one.drain("a")
    clock.pass_s(2)
    one.drain("a")  # once more is no other drain
    clock.pass_s(1)

    def said(in_flight=0):
        return str(*one.table({"a": in_flight})).split(" · ")[2:4]

    assert said() == ["draining for 3 s", "sessions 1, in flight 0"]
    one.session_ended("a")
    assert said(2) == ["draining for 3 s", "sessions 0, in flight 2"]
    assert said() == ["drained for 3 s", "sessions 0, in flight 0"]
    one.undrain("a")
    assert said() == ["healthy for 44 s", "sessions 0, in flight 0"]
    clock.pass_s(5)
    one.drain("a")
    assert said() == ["drained for 0 s", "sessions 0, in flight 0"]


def test_only_what_is_there_can_be_drained():
    one = fleet(route("a"), route("b", path="/b"))
    assert one.drain("b", "an upgrade")
    assert [(row.name, row.state, row.reason) for row in one.table()] == [
        ("a", State.HEALTHY, ""),
        ("b", State.DRAINING, "an upgrade"),
    ]
    assert one.undrain("b")
    assert not one.drain("c")
    assert not one.undrain("c")
    assert not one.pools()[0].drain("b")


def test_sessions_are_counted_and_never_below_none():
    one = pool("a", "b")
    one.session_began("a")
    one.session_began("a")
    one.session_ended("b")
    one.session_began("gone")
    one.session_ended("gone")
    one.session_ended("a")
    assert [member.sessions for member in one.members()] == [1, 0]


# --- What is hashed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "session", "key"),
    [
        ({"balance": "round_robin"}, "s", None),
        ({"balance": "least_sessions"}, None, None),
        ({"balance": "hash"}, "s", "s"),
        ({"balance": "hash"}, None, "echo"),
        ({"balance": "hash", "hash_by": "authorization"}, None, "Bearer x"),
        ({"balance": "hash", "hash_by": "authorization"}, "s", "s"),
        ({"balance": "hash", "hash_by": "session"}, None, None),
        ({"balance": "hash", "hash_by": "X-None"}, None, None),
    ],
)
def test_the_key_of_a_request_is_its_session_or_the_header_that_the_route_names(fields, session, key):
    class Headers:
        def get(self, name: str, /) -> str | None:
            return {"mcp-name": "echo", "authorization": "Bearer x"}.get(name.lower())

    assert pool("a", **fields).key(session, Headers()) == key


# --- What a person sees ----------------------------------------------------------------------------------------------


def test_the_table_says_how_each_is_why_and_since_when():
    clock = Clock()
    one = pool(upstream("a", 3), "b", clock=clock, health=ONE_FAILURE, name="tools")
    assert picks(one, 4) == ["a", "a", "b", "a"]
    a, b = one.members()
    one.succeeded(a)
    one.session_began("a")
    one.failed(b, FailureKind.CONNECT, "connection refused")
    one.drain("b")
    clock.pass_s(0.5)
    first, second = one.table()
    assert (first.route, first.name, first.url, first.weight) == ("tools", "a", a.config.url, 3)
    assert (first.state, first.circuit, first.reason, first.for_s) == (State.HEALTHY, Circuit.CLOSED, "", 0.5)
    assert (first.retry_in_s, first.sessions, first.picks, first.successes, first.failures) == (None, 1, 3, 1, 0)
    assert (second.state, second.circuit) == (State.DOWN, Circuit.OPEN)
    assert second.reason == "cannot be reached: connection refused; draining"
    assert (second.for_s, second.retry_in_s, second.failures) == (0.5, 1.5, 1)
    clock.pass_s(1.5)
    assert one.table()[1].circuit is Circuit.HALF_OPEN
    assert (b.counts.trips, one.counts.picks) == (1, 4)
    assert repr(b) == "<Member b down>"
