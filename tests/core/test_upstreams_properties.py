"""Whatever happens to a pool, in whatever order: nobody gets an upstream that is down, and none is forgotten."""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shadowcat_core.upstreams import Circuit, FailureKind, Member
from tests.core.upstream_parts import Clock, file, pool, route, upstream

NAMES = st.sampled_from("abcd")
KEYS = st.none() | st.text(max_size=3)


class PoolMachine(RuleBasedStateMachine):
    """A pool, and what must hold after every step."""

    @initialize(
        balance=st.sampled_from(["round_robin", "least_sessions", "hash"]),
        sticky=st.booleans(),
        active=st.none() | st.just("tcp"),
        seed=st.integers(),
    )
    def begin(self, balance, sticky, active, seed):
        self.clock = Clock()
        self.fields = {"balance": balance, "sticky": sticky, "health": {"active": active}}
        self.members = [upstream("a"), upstream("b", 2), upstream("c"), upstream("d")]
        self.pool = pool(*self.members, clock=self.clock, random=Random(seed), **self.fields)

    def member(self, name: str) -> Member:
        found = self.pool.member(name)
        assert found is not None
        return found

    @rule(key=KEYS, bound=st.none() | NAMES, excluded=st.sets(NAMES, max_size=3))
    def pick(self, key, bound, excluded):
        pool = self.pool
        pool.table()  # lets the time that has passed have its effect
        exclude = {self.member(name) for name in excluded}
        usable = {member for member in pool.members() if member.is_usable} - exclude
        open_to_all = {member for member in usable if member.drained_because is None}
        by_requests = pool.route.health.active is None
        wanting = {member for member in pool.members() if member.breaker.wants_trial and by_requests} - exclude
        own = self.member(bound) if bound is not None and pool.route.sticky else None

        found = pool.pick(key, bound=bound, exclude=exclude)

        if own in usable:
            assert found is own
        elif found is None:
            assert not open_to_all
            assert not {member for member in wanting if member.drained_because is None or member is own}
        elif found in wanting:
            assert not found.breaker.wants_trial, "the trial is taken"
            assert found.drained_because is None or found is own
        else:
            assert found in open_to_all

    @rule(name=NAMES)
    def succeed(self, name):
        self.pool.succeeded(self.member(name))

    @rule(name=NAMES, kind=st.sampled_from(FailureKind))
    def fail(self, name, kind):
        self.pool.failed(self.member(name), kind)

    @rule(name=NAMES)
    def release(self, name):
        self.pool.released(self.member(name))

    @rule(name=NAMES, drains=st.booleans())
    def drain(self, name, drains):
        assert (self.pool.drain if drains else self.pool.undrain)(name)

    @rule(name=NAMES, begins=st.booleans())
    def count(self, name, begins):
        (self.pool.session_began if begins else self.pool.session_ended)(name)

    @rule(seconds=st.floats(0.01, 40))
    def wait(self, seconds):
        self.clock.pass_s(seconds)

    @rule(weights=st.lists(st.integers(1, 9), min_size=4, max_size=4))
    def reload(self, weights):
        members = [member | {"weight": weight} for member, weight in zip(self.members, weights, strict=True)]
        known = {member.name: member for member in self.pool.members()}
        self.pool.apply(file(route(*members, **self.fields)).routes[0], known, frozenset())
        assert {member.name: member for member in self.pool.members()} == known

    @invariant()
    def nothing_grows_and_everything_is_where_it_belongs(self):
        pool = self.pool
        assert set(pool._trials) == {member for member in pool.members() if member.breaker.wants_trial}
        assert set(pool._places) == {member for member in pool.members() if member.takes_new}
        assert len(pool._timers._heap) <= 2 * 4 + 9
        for member in pool.members():
            assert (member in pool._timers) is (member.breaker.wakes_at is not None)

    def teardown(self):
        """In the end each of them comes back."""
        if not hasattr(self, "pool"):
            return
        pool = self.pool
        self.clock.pass_s(10_000)
        for member in pool.members():
            pool.undrain(member.name)
            while member.sessions:
                pool.session_ended(member.name)
        for _ in range(2):
            self.clock.pass_s(10_000)
            for member in pool.wanting(self.clock()):
                pool.probed(member, None)
        assert all(member.breaker.circuit is Circuit.CLOSED for member in pool.members())
        assert {pool.pick(f"key-{number}") for number in range(100)} == set(pool.members())


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestPool = PoolMachine.TestCase
