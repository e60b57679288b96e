"""Whatever is done in whatever order, every store agrees with the oracle."""

import asyncio
import contextlib

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shadowcat_core.sessions import Event, Handshake, SessionTimes, Upstream, begin_session, event_id
from shadowcat_core.sessions.contract import SetClock, Settings
from tests.store_contract.oracle import Oracle

pytest_plugins = ["tests.store_contract.fixtures"]

EXAMPLES = {"memory": 200, "sqlite": 25, "redis": 25, "cluster": 5}
SESSIONS = st.sampled_from(["a", "b", "c"])
STREAMS = st.sampled_from(["s", "t", "u", "v"])
UPSTREAMS = st.sampled_from([Upstream("x", f"id-{n}") for n in range(4)] + [Upstream("y"), Upstream("z", "id-0")])
SELDOM = st.sampled_from([False, False, False, True])
URIS = st.sampled_from(["file:///1", "file:///2", "é"])
EVENTS = st.lists(
    st.builds(Event, st.binary(max_size=3) | st.just(b"x" * 900), st.sampled_from(["", "up"])), max_size=4
)


class Machine(RuleBasedStateMachine):
    make = None

    def __init__(self):
        super().__init__()
        self.clock = SetClock()
        wanted = Settings(self.clock)
        self.oracle = Oracle(self.clock, wanted.retention)
        self.runner = asyncio.Runner()
        self.stack = contextlib.AsyncExitStack()
        self.store = self.run(self.stack.enter_async_context(type(self).make(wanted)))
        self.seen = {}

    def teardown(self):
        self.run(self.stack.aclose())
        self.runner.close()

    def run(self, verb):
        return self.runner.run(verb)

    def record(self, session_id, upstream, idle_ms):
        # One upstream session stands behind one session at a time, as with real servers.
        if self.oracle.find(upstream) is not None:
            upstream = Upstream(upstream.name)
        times = SessionTimes.starting(self.clock(), idle_ttl_ms=idle_ms, lifetime_ms=100_000)
        handshake = Handshake(b"{}", b"\x00" + session_id.encode())
        return begin_session(upstream, handshake, "2025-11-25", credential="", times=times, session_id=session_id)

    @initialize(upstream=UPSTREAMS)
    def begin(self, upstream):
        self.create("a", upstream, 20_000)

    @rule(session_id=SESSIONS, upstream=UPSTREAMS, idle_ms=st.sampled_from([5_000, 20_000, 200_000]))
    def create(self, session_id, upstream, idle_ms):
        record = self.record(session_id, upstream, idle_ms)
        assert self.run(self.store.create(record)) == self.oracle.create(record)

    @rule(by_ms=st.sampled_from([0, 1, 999, 4_999, 10_000, 20_000, 30_000, -500]))
    def wait(self, by_ms):
        self.clock.advance(by_ms)

    @rule(session_id=SESSIONS)
    def touch(self, session_id):
        assert self.run(self.store.touch(session_id)) == self.oracle.touch(session_id)

    @rule(session_id=SESSIONS, epoch=st.integers(1, 3), upstream=UPSTREAMS)
    def rebind(self, session_id, epoch, upstream):
        if self.oracle.find(upstream) is not None:
            upstream = Upstream(upstream.name)
        assert self.run(self.store.rebind(session_id, epoch, upstream)) == self.oracle.rebind(
            session_id, epoch, upstream
        )

    @rule(session_id=SESSIONS, uri=URIS, on=st.booleans())
    def subscribe(self, session_id, uri, on):
        verb = "add_subscription" if on else "remove_subscription"
        assert self.run(getattr(self.store, verb)(session_id, uri)) == getattr(self.oracle, verb)(session_id, uri)

    @rule(session_id=SESSIONS, level=st.sampled_from(["info", None]))
    def set_log_level(self, session_id, level):
        assert self.run(self.store.set_log_level(session_id, level)) == self.oracle.set_log_level(session_id, level)

    @rule(session_id=SESSIONS)
    def end(self, session_id):
        assert self.run(self.store.end(session_id)) == self.oracle.end(session_id)

    @rule()
    def expire(self):
        expired = sorted(mapping.session_id for mapping in self.run(self.store.expire()))
        assert expired == self.oracle.expire()
        assert self.run(self.store.count()) == len(self.oracle.records)
        for name in "xyz":
            wanted = sum(record.mapping.upstream.name == name for record in self.oracle.records)
            assert self.run(self.store.count(name)) == wanted

    @rule(session_id=SESSIONS)
    def remember(self, session_id):
        self.seen[session_id] = self.oracle.get(session_id) or self.seen.get(session_id)

    @rule(session_id=SESSIONS)
    def restore(self, session_id):
        record = self.seen.get(session_id)
        if record is not None and self.oracle.find(record.mapping.upstream) is None:
            (mapping,) = self.run(self.store.restore([record]))
            assert mapping == self.oracle.restore(record)

    @rule(session_id=SESSIONS, stream_id=STREAMS, events=st.just([]) | EVENTS, closed=SELDOM)
    def open_stream(self, session_id, stream_id, events, closed):
        opened = self.run(self.store.open_stream(session_id, stream_id, "", events, closed=closed))
        assert opened == self.oracle.open_stream(session_id, stream_id, events, closed)

    @rule(session_id=SESSIONS, stream_id=STREAMS, events=EVENTS, off=st.sampled_from([0, 0, 0, 1]), closed=SELDOM)
    def append(self, session_id, stream_id, events, off, closed):
        stream = self.oracle.stream(session_id, stream_id)
        position = off + (0 if stream is None else stream.info.position)
        appended = self.run(self.store.append(session_id, stream_id, events, position=position, closed=closed))
        assert appended == self.oracle.append(session_id, stream_id, events, position, closed)

    @rule(session_id=SESSIONS, stream_id=STREAMS)
    def close_stream(self, session_id, stream_id):
        closed = self.run(self.store.close_stream(session_id, stream_id))
        assert closed == self.oracle.close_stream(session_id, stream_id)

    @rule(session_id=SESSIONS, stream_id=STREAMS, position=st.integers(0, 12))
    def after(self, session_id, stream_id, position):
        missed = self.run(self.store.after(session_id, event_id(stream_id, position)))
        wanted = self.oracle.after(session_id, stream_id, position)
        assert (missed and (list(missed.events), missed.lost)) == wanted

    @rule(upstream=UPSTREAMS)
    def find(self, upstream):
        assert self.run(self.store.find(upstream)) == self.oracle.find(upstream)

    @invariant()
    def they_know_the_same(self):
        assert list(self.run(self.store.list()).records) == self.oracle.list()
        for session_id in "abc":
            assert list(self.run(self.store.streams(session_id))) == self.oracle.streams(session_id)


def test_every_store_agrees_with_the_oracle(make_store, request):
    machine = type("OneMachine", (Machine,), {"make": staticmethod(make_store)})
    kind = request.node.callspec.params["make_store"]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES[kind],
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
