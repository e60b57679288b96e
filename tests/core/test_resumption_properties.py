"""Whatever breaks, in whatever order: the client gets all events of the server's, in order, each once."""

import asyncio

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shadowcat_core.sessions import Retention
from shadowcat_core.sessions.contract import SetClock
from tests.core.resumption_world import Turning, World, new_session, settle

PROXIES = st.integers(0, 1)


class Machine(RuleBasedStateMachine):
    retention = None
    gather_s = 0

    def __init__(self):
        super().__init__()
        self.clock = SetClock()
        self.runner = asyncio.Runner(loop_factory=Turning)
        self.run(self.begin())

    def run(self, step):
        return self.runner.run(step)

    async def begin(self):
        self.world = World(self.clock, retention=type(self).retention, gather_s=type(self).gather_s)
        await new_session(self.world.store, self.clock)

    def teardown(self):
        try:
            self._finish()
        finally:
            self.run(self.world.aclose())
            self.runner.close()

    def _finish(self):
        self.run(self.heal())
        assert self.world.client.received == self.world.server.sent
        assert all(lost == 0 for _, lost in self.world.outcomes)

    async def heal(self):
        """All is well again: the client comes back until it has everything."""
        world = self.world
        world.log.is_away = False
        for attempt in range(3):
            await world.drop_client()
            await world.connect(attempt % 2)
            await settle(400)
            world.client.read()

    @initialize(proxy=PROXIES, primes=st.booleans(), line_end=st.sampled_from([b"\n", b"\r\n"]))
    def connect_first(self, proxy, primes, line_end):
        world = self.world
        world.server.line_end = line_end
        # An event that nobody has an id before is in the log, or nowhere.
        self.may_forget = primes = primes or type(self).retention is not None

        async def connect():
            await world.connect(proxy)
            line = world.client.line
            line.send(line.reading.stream.prime())
            if primes:
                world.server.prime()

        self.run(connect())
        world.client.read()

    @rule(count=st.integers(1, 4), logged=st.booleans())
    def emit(self, count, logged):
        async def emit():
            self.world.server.emit(count)
            if logged:
                await settle()

        self.run(emit())

    @rule(size=st.none() | st.integers(1, 150))
    def client_reads(self, size):
        self.world.client.read(size)

    @rule(noticed=st.booleans(), read_on=st.booleans())
    def client_drops(self, noticed, read_on):
        self.run(self.world.drop_client(noticed=noticed, read_on=read_on))

    @rule(proxy=PROXIES, noticed=st.booleans())
    def client_comes(self, proxy, noticed):
        async def come():
            await self.world.drop_client(noticed=noticed)
            await self.world.connect(proxy)

        self.run(come())

    @rule(reconnect=st.booleans())
    def server_drops(self, reconnect):
        self.run(self.world.drop_server(reconnect=reconnect))

    @rule(repeats=st.integers(0, 5))
    def server_repeats(self, repeats):
        # What neither log nor client remember cannot be known for a repetition.
        self.world.server.repeats = min(repeats, 1) if self.may_forget else repeats

    @rule(proxy=PROXIES)
    def proxy_dies(self, proxy):
        self.run(self.world.kill(proxy))

    @rule(is_away=st.booleans(), takes_the_step=st.booleans())
    def log_goes_or_comes(self, is_away, takes_the_step):
        # What nobody has an id for is in the log, or nowhere.
        self.world.log.is_away = is_away and self.may_forget
        self.world.log.takes_the_step = takes_the_step

    @rule()
    def beat(self):
        async def beat():
            for keeper in self.world.keepers:
                keeper.beat()
            await settle()

        self.run(beat())

    @rule(by_ms=st.sampled_from([1_000, 100_000, 400_000]))
    def wait(self, by_ms):
        self.clock.advance(by_ms if self.may_forget else 1)
        self.run(self.world.store.touch("the-session"))

    @invariant()
    def nothing_is_lost_or_doubled_so_far(self):
        received = self.world.client.received
        assert received == self.world.server.sent[: len(received)]


NEXT_TO_NOTHING = Retention(max_events=3, max_bytes=2_000, max_age_ms=150_000, max_streams=2)


def machine_with(retention, gather_s=0):
    return type("OneMachine", (Machine,), {"retention": retention, "gather_s": gather_s})


def check(retention, examples, gather_s=0):
    run_state_machine_as_test(
        machine_with(retention, gather_s),
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_no_event_is_lost_and_none_comes_twice_whatever_breaks():
    check(None, 150)


def test_neither_when_the_log_keeps_next_to_nothing():
    check(NEXT_TO_NOTHING, 150)


@pytest.mark.parametrize("gather_s", [0.003, 0.02])
@pytest.mark.parametrize("retention", [None, NEXT_TO_NOTHING])
def test_neither_when_events_gather_before_they_are_logged(retention, gather_s):
    check(retention, 100, gather_s)


# --- What came to light once ---------------------------------------------------------------------------------------

BEGIN = ("connect_first", {"proxy": 0, "primes": True, "line_end": b"\n"})
READ = ("client_reads", {"size": None})


def come(proxy, *, noticed):
    return "client_comes", {"proxy": proxy, "noticed": noticed}


def emit(count, *, logged):
    return "emit", {"count": count, "logged": logged}


def lose_log(*, takes_the_step=False):
    return "log_goes_or_comes", {"is_away": True, "takes_the_step": takes_the_step}


def tell(*steps, retention=None):
    """Take these steps; in the end the client has to have everything."""
    machine = machine_with(retention)()
    try:
        for step, fields in steps:
            getattr(machine, step)(**fields)
            machine.nothing_is_lost_or_doubled_so_far()
    finally:
        machine.teardown()


@pytest.mark.parametrize("noticed", [True, False])
@pytest.mark.parametrize("takes_the_step", [True, False])
def test_nothing_is_lost_where_proxies_wait_for_a_server_that_has_handed_their_stream_on(takes_the_step, noticed):
    tell(
        BEGIN,
        ("server_drops", {"reconnect": False}),
        come(1, noticed=False),
        come(0, noticed=False),
        lose_log(takes_the_step=takes_the_step),
        come(0, noticed=noticed),
        emit(1, logged=False),
    )


def test_nothing_comes_twice_where_a_log_that_lost_the_stream_gets_none_of_its_events_back():
    tell(
        BEGIN,
        emit(3, logged=True),
        come(1, noticed=True),
        come(0, noticed=True),
        ("beat", {}),
        READ,
        retention=NEXT_TO_NOTHING,
    )
    tell(
        BEGIN,
        lose_log(takes_the_step=True),
        emit(2, logged=True),
        come(1, noticed=True),
        READ,
        come(0, noticed=False),
        come(0, noticed=True),
        retention=NEXT_TO_NOTHING,
    )
