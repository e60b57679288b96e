"""A file that changes takes the old one's place, and what has not changed is not forgotten."""

import pytest

from shadowcat_core.upstreams import Circuit, FailureKind, State, compare
from tests.core.upstream_parts import Clock, break_down, file, fleet, named, picks, upstream

A = {"upstreams": [upstream("a"), upstream("b")], "name": "one"}
ELSEWHERE = {"upstreams": [upstream("z")], "name": "two", "path": "/two"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ([A], [A], "nothing changed"),
        ([A], [A | {"upstreams": [upstream("a"), upstream("c")]}], "added: c; removed: b"),
        ([A], [A | {"upstreams": [upstream("b"), upstream("a")]}], "nothing changed"),
        ([A], [A | {"upstreams": [upstream("a", 3), upstream("b", port=9)]}], "changed: a (weight), b (url)"),
        ([A], [A | {"upstreams": [upstream("a", headers={"x": "y"}), upstream("b")]}], "changed: a (headers)"),
        ([A], [A, ELSEWHERE], "added: z; routes added: two"),
        ([A, ELSEWHERE], [A], "removed: z; routes removed: two"),
        ([A], [A | {"balance": "hash", "sticky": False}], "routes changed: one (balance, sticky)"),
        ([A], [A | {"name": "uno"}], "changed: a (route), b (route); routes added: uno; routes removed: one"),
        (
            [A, ELSEWHERE],
            [A | {"upstreams": [upstream("a")]}, ELSEWHERE | {"upstreams": [upstream("b", 2)]}],
            "removed: z; changed: b (weight, route)",
        ),
    ],
)
def test_it_is_said_what_a_reload_changes(old, new, says):
    assert str(compare(file(*old), file(*new))) == says
    assert str(fleet(*old).apply(file(*new))) == says


def test_changes_of_sessions_are_said_too():
    assert str(compare(file(A), file(A, sessions={"idle_s": 5}))) == "sessions changed: idle_s"


def test_an_upstream_that_stays_keeps_its_health_its_sessions_and_its_counts():
    clock = Clock()
    found = fleet(A, clock=clock)
    (pool,) = found.pools()
    a, b = pool.members()
    pool.session_began("a")
    picks(pool, 4)
    break_down(pool, "b")
    retry_at = b.breaker.retry_at
    clock.pass_s(0.1)
    found.apply(file(A | {"upstreams": [upstream("b", 5), upstream("a"), upstream("c")], "balance": "least_sessions"}))
    assert found.pools() == (pool,)
    assert pool.members()[:2] == (b, a)
    assert (b.config.weight, b.state, b.breaker.retry_at, b.counts.failures) == (5, State.DOWN, retry_at, 3)
    assert (a.sessions, a.counts.picks) == (1, 2)
    assert set(picks(pool, 4)) == {"c"}
    clock.now = retry_at
    assert pool.pick() is b


def test_one_at_another_url_is_a_new_one_that_has_the_old_ones_sessions():
    found = fleet(A)
    (pool,) = found.pools()
    old = named(pool, "a")
    pool.session_began("a")
    pool.drain("a")
    break_down(pool, "a")
    found.apply(file(A | {"upstreams": [upstream("a", port=9), upstream("b")]}))
    new = named(pool, "a")
    assert new is not old
    assert (new.endpoint.port, new.sessions, new.counts.failures) == (9, 1, 0)
    assert new.state is State.DRAINING, "a person said so of the name"
    pool.failed(old, FailureKind.BROKEN)
    pool.succeeded(old)
    pool.released(old)
    pool.probed(old, "late")
    assert (new.counts.failures, new.counts.successes, new.breaker.circuit) == (0, 0, Circuit.CLOSED)


def test_one_that_is_gone_serves_its_sessions_and_leaves_with_the_last_of_them():
    found = fleet(A)
    (pool,) = found.pools()
    a = named(pool, "a")
    pool.session_began("a")
    pool.session_began("a")
    found.apply(file(A | {"upstreams": [upstream("b")]}))
    assert a.state is State.DRAINING
    assert [(row.name, row.reason) for row in found.table()] == [("b", ""), ("a", "no longer in the configuration")]
    assert set(picks(pool, 4)) == {"b"}
    assert set(picks(pool, 4, bound="a")) == {"a"}
    assert not pool.undrain("a"), "there is nothing to go back to"
    pool.session_ended("a")
    assert found.find("a") == (pool, a)
    pool.session_ended("a")
    assert found.find("a") is None
    assert set(picks(pool, 4, bound="a")) == {"b"}


def test_one_that_is_gone_without_sessions_is_gone_at_once():
    found = fleet(A)
    found.apply(file(A | {"upstreams": [upstream("b")]}))
    assert [row.name for row in found.table()] == ["b"]


def test_one_that_comes_back_while_its_sessions_last_is_what_it_was():
    found = fleet(A)
    (pool,) = found.pools()
    a = named(pool, "a")
    pool.session_began("a")
    found.apply(file(A | {"upstreams": [upstream("b")]}))
    found.apply(file(A))
    assert named(pool, "a") is a
    assert (a.state, a.sessions) == (State.HEALTHY, 1)
    assert set(picks(pool, 4)) == {"a", "b"}
    pool.session_ended("a")
    assert named(pool, "a") is a


def test_one_that_moves_to_another_route_keeps_what_is_known_of_it():
    clock = Clock()
    found = fleet(A, ELSEWHERE, clock=clock)
    one, two = found.pools()
    a = named(one, "a")
    one.session_began("a")
    break_down(one, "a")
    found.apply(file(A | {"upstreams": [upstream("b")]}, ELSEWHERE | {"upstreams": [upstream("a")]}))
    assert one.member("a") is None
    assert two.member("a") is a
    assert (a.sessions, a.state) == (1, State.DOWN)
    one.succeeded(a)
    one.failed(a, FailureKind.BROKEN)
    assert a.counts.failures == 3, "news from the old place do not count"
    clock.pass_s(15)
    assert two.pick() is a


def test_a_new_route_is_found_and_a_removed_one_is_not():
    found = fleet(A)
    assert found.route("h", "/two") is None
    found.apply(file(A, ELSEWHERE))
    pool = found.route("h", "/two")
    assert pool is not None
    found.apply(file(A))
    assert found.route("h", "/two") is None
    assert found.find("z") is None


def test_news_for_a_policy_that_changed_are_judged_by_the_new_one():
    found = fleet(A)
    (pool,) = found.pools()
    pool.failed(named(pool, "a"), FailureKind.BROKEN)
    found.apply(file(A | {"health": {"passive": {"failures": 2}}}))
    pool.failed(named(pool, "a"), FailureKind.BROKEN)
    assert named(pool, "a").state is State.DOWN
