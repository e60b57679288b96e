"""Whom a pool prefers: turns follow the weights, sessions are spread, and a hash moves as few keys as it can."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shadowcat_core.upstreams.ranking import Ranking
from shadowcat_core.upstreams.ring import POINTS, Ring
from tests.core.upstream_parts import named, picks, pool, upstream

KEYS = [f"session-{number}" for number in range(4_000)]

# --- A queue whose items change rank ---------------------------------------------------------------------------------


def test_equal_ranks_are_first_come_first_served():
    ranking: Ranking[str] = Ranking()
    for name in "abc":
        ranking.put(name, 1)
    assert ranking.first() == (1, "a")
    ranking.put("a", 1)
    assert ranking.first() == (1, "b")
    assert ranking.first({"b", "c"}) == (1, "a")
    assert ranking.first({"a", "b", "c"}) is None
    assert ranking.first() == (1, "b")


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "put", "discard", "first"]), st.sampled_from("abcdefgh"), st.integers(0, 9)),
        max_size=300,
    )
)
def test_a_ranking_is_a_sorted_list_and_keeps_no_more_than_it_has_items(steps):
    ranking: Ranking[str] = Ranking()
    model: dict[str, tuple[int, int]] = {}
    for number, (step, name, rank) in enumerate(steps):
        match step:
            case "put":
                ranking.put(name, rank)
                model[name] = (rank, number)
            case "discard":
                ranking.discard(name)
                model.pop(name, None)
        exclude = {"a", name} if step == "first" else set[str]()
        left = [(place, item) for item, place in model.items() if item not in exclude]
        assert ranking.first(exclude) == ((min(left)[0][0], min(left)[1]) if left else None)
        assert len(ranking) == len(model)
        assert ("a" in ranking) is ("a" in model)
        assert len(ranking._heap) <= 2 * len(model) + 9


# --- In turn ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ([1], "aaaa"),
        ([1, 1], "abab"),
        ([1, 1, 1], "abcabc"),
        ([3, 1], "aabaaaba"),
        ([2, 1, 1], "abcaabca"),
        ([5, 1], "aaaabaaaaaba"),
    ],
)
def test_turns_are_taken_by_weight_and_spread(weights, order):
    members = [upstream(name, weight) for name, weight in zip("abc", weights, strict=False)]
    assert "".join(name or "-" for name in picks(pool(*members), len(order))) == order


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=8), st.integers(0, 300))
@settings(max_examples=50)
def test_at_any_time_no_two_differ_by_more_than_a_turn_each(weights, count):
    members = [upstream(f"u{index}", weight) for index, weight in enumerate(weights)]
    taken = Counter(picks(pool(*members), count))
    for one, other in pairwise(range(len(weights))):
        turns = [taken[f"u{index}"] / weights[index] for index in (one, other)]
        assert abs(turns[0] - turns[1]) <= 1 / weights[one] + 1 / weights[other] + 1e-9


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 3))
@settings(max_examples=50)
def test_a_full_round_gives_each_exactly_its_weight(weights, rounds):
    members = [upstream(f"u{index}", weight) for index, weight in enumerate(weights)]
    one = pool(*members)
    for _ in range(rounds):
        assert Counter(picks(one, sum(weights))) == {f"u{n}": weight for n, weight in enumerate(weights)}


# --- Fewest sessions -------------------------------------------------------------------------------------------------


def test_sessions_go_where_the_fewest_are_for_the_weight():
    one = pool(upstream("a", 2), upstream("b"), balance="least_sessions")
    for _ in range(9):
        member = one.pick()
        assert member is not None
        one.session_began(member.name)
    assert (named(one, "a").sessions, named(one, "b").sessions) == (6, 3)
    for _ in range(4):
        one.session_ended("a")
    assert picks(one, 3) == ["a", "a", "a"], "two for a weight of two are fewer than three for one"
    one.session_ended("b")
    one.session_ended("b")
    one.session_ended("b")
    assert picks(one, 2) == ["b", "b"]


def test_without_sessions_they_are_taken_in_turn_by_weight():
    one = pool(upstream("a", 3), upstream("b"), balance="least_sessions")
    assert Counter(picks(one, 40)) == {"a": 30, "b": 10}


def test_one_that_was_full_for_long_is_not_flooded_when_it_is_as_empty_as_others():
    one = pool("a", "b", "c", balance="least_sessions")
    one.session_began("a")
    assert set(picks(one, 100)) == {"b", "c"}
    one.session_ended("a")
    assert Counter(picks(one, 6)) == {"a": 2, "b": 2, "c": 2}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=100), st.lists(st.integers(1, 9), min_size=4))
def test_the_one_that_is_picked_has_the_least_for_its_weight(steps, weights):
    names = "abcd"
    one = pool(
        *(upstream(name, weight) for name, weight in zip(names, weights, strict=False)), balance="least_sessions"
    )
    for begins, index in steps:
        (one.session_began if begins else one.session_ended)(names[index])
    member = one.pick()
    assert member is not None
    loads = [other.sessions / other.config.weight for other in one.members()]
    assert member.sessions / member.config.weight == min(loads)


# --- Hashing ---------------------------------------------------------------------------------------------------------


def owners(ring: Ring) -> dict[str, str | None]:
    return {key: ring.owner(key) for key in KEYS}


@given(st.integers(2, 12), st.text(max_size=8))
@settings(max_examples=20, deadline=None)
def test_one_that_comes_or_goes_moves_its_share_of_the_keys_and_no_others(count, salt):
    names = {f"{salt}{number}": 1 for number in range(count)}
    last = f"{salt}{count - 1}"
    whole, smaller = Ring.of(names), Ring.of({name: 1 for name in names if name != last})
    before, after = owners(whole), owners(smaller)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert all(before[key] == last for key in moved)
    assert all(after[key] != last for key in KEYS)
    assert 0.5 / count < len(moved) / len(KEYS) < 1.7 / count
    assert owners(whole.without({last})) == after


def test_keys_are_shared_by_weight():
    shares = Counter(owners(Ring.of({"a": 1, "b": 2, "c": 5})).values())
    assert shares["a"] / len(KEYS) == pytest.approx(1 / 8, rel=0.3)
    assert shares["b"] / len(KEYS) == pytest.approx(2 / 8, rel=0.3)
    assert shares["c"] / len(KEYS) == pytest.approx(5 / 8, rel=0.3)


def test_a_key_has_the_same_owner_in_every_process():
    ring = Ring.of({"a": 1, "b": 1, "c": 1})
    assert [ring.owner(key) for key in ("", "x", "session-1", "schlüssel", "\ud800")] == ["b", "a", "c", "b", "a"]


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.text())
def test_leaving_out_and_passing_over_come_to_the_same(gone, excluded, key):
    ring = Ring.of(dict.fromkeys("abcdef", 2))
    owner = ring.without(gone).owner(key, excluded)
    assert owner == ring.owner(key, gone | excluded)
    assert (owner is None) is (gone | excluded == set("abcdef"))


def test_a_ring_has_a_point_for_every_share_of_a_weight():
    ring = Ring.of({"a": 3, "b": 1})
    assert len(ring._points) == 4 * POINTS
    assert list(ring._points) == sorted(ring._points)
    assert Counter(ring._owners) == {0: 3 * POINTS, 1: POINTS}


def test_a_hashed_pool_gives_a_key_to_the_same_upstream_until_that_is_gone():
    one = pool("a", "b", "c", balance="hash")
    where = {key: one.pick(key) for key in KEYS[:200]}
    assert {key: one.pick(key) for key in KEYS[:200]} == where
    one.drain("b")
    for key, member in where.items():
        now = one.pick(key)
        assert now is not named(one, "b")
        assert member is named(one, "b") or now is member
    one.undrain("b")
    assert {key: one.pick(key) for key in KEYS[:200]} == where


def test_a_key_whose_upstream_is_excluded_goes_to_the_next_one_on_the_ring():
    one = pool("a", "b", "c", balance="hash")
    for key in KEYS[:50]:
        order = [member.name for member in one.candidates(key)]
        assert sorted(order) == ["a", "b", "c"]
        assert order == [member.name for member in one.candidates(key)]


@given(st.sets(st.sampled_from("abc"), min_size=1), st.sampled_from(KEYS))
def test_nobody_is_found_when_all_that_are_left_are_excluded(drained, key):
    assume(len(drained) < 3)
    one = pool("a", "b", "c", balance="hash")
    for name in drained:
        one.drain(name)
    left = {member for member in one.members() if member.name not in drained}
    assert one.pick(key) in left
    assert one.pick(key, exclude=left) is None
    assert one.pick(key, exclude=set(one.members())) is None


def test_what_has_no_key_goes_in_turn():
    assert picks(pool("a", "b", balance="hash"), 4) == ["a", "b", "a", "b"]
