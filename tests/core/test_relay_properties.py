"""Whatever breaks, in whatever order: no session is lost, no call runs twice that may not, no event is lost unsaid."""

import asyncio

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.core.relay_model import Model
from tests.core.relay_parts import Head

PROXIES = st.integers(0, 1)
CLIENTS = st.integers(0, 1)
TOOLS = st.sampled_from(["write", "search"])
SERVERS = st.sampled_from(["a", "b"])
FATES = {
    "closes": lambda: ConnectionResetError("reset"),
    "cannot": lambda: Head(503, b"sorry"),
    "forgot": lambda: Head(404, b"Session not found"),
}


class Machine(RuleBasedStateMachine):
    has_ids = True
    proxies = 2

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = None

    def run(self, step):
        return self.runner.run(step)

    @initialize(clients=st.integers(1, 2))
    def begin(self, clients):
        async def begin():
            self.model = Model(has_ids=type(self).has_ids, proxies=type(self).proxies)
            for number in range(clients):
                await self.model.begin(number)

        self.run(begin())

    def session(self, number):
        sessions = self.model.sessions
        return sessions[number % len(sessions)]

    def open_calls(self, number):
        session = self.session(number)
        return session, [made for made in session.calls.values() if made.is_stream and made.outcome is None]

    @rule(client=CLIENTS, proxy=PROXIES, tool=TOOLS, how=st.sampled_from(["json", "json", "dies"]))
    def call(self, client, proxy, tool, how):
        self.run(self.model.call(self.session(client), proxy, tool, how=how))

    @rule(client=CLIENTS, proxy=PROXIES, tool=TOOLS, fate=st.sampled_from(sorted(FATES)))
    def call_that_meets_its_fate(self, client, proxy, tool, fate):
        self.run(self.model.call(self.session(client), proxy, tool, fate=FATES[fate]))

    @rule(client=CLIENTS, proxy=PROXIES)
    def call_while_the_store_is_away(self, client, proxy):
        self.run(self.model.call(self.session(client), proxy, "write", is_away=True))

    @rule(client=CLIENTS, proxy=PROXIES, tool=TOOLS)
    def call_for_a_stream(self, client, proxy, tool):
        self.run(self.model.call(self.session(client), proxy, tool, how="stream"))

    @rule(client=CLIENTS, which=st.integers(0, 3), count=st.integers(0, 3), is_all=st.booleans())
    def server_answers(self, client, which, count, is_all):
        _, calls = self.open_calls(client)
        if calls:
            self.run(self.model.answer(calls[which % len(calls)], count, is_all=is_all))

    @rule(client=CLIENTS, proxy=PROXIES)
    def client_listens(self, client, proxy):
        self.run(self.model.listen(self.session(client), proxy))

    @rule(client=CLIENTS, count=st.integers(1, 3))
    def server_notes(self, client, count):
        self.run(self.model.note(self.session(client), count))

    @rule(client=CLIENTS, which=st.integers(0, 3), share=st.floats(0, 1), noticed=st.booleans())
    def client_drops_a_call(self, client, which, share, noticed):
        session, calls = self.open_calls(client)
        if calls:
            self.run(self.model.drop(session, calls[which % len(calls)], share, noticed))

    @rule(client=CLIENTS, share=st.floats(0, 1), noticed=st.booleans())
    def client_drops_its_stream(self, client, share, noticed):
        session = self.session(client)
        if session.listening is not None:
            self.run(self.model.drop(session, session.listening, share, noticed))

    @rule(client=CLIENTS, which=st.integers(0, 3), proxy=PROXIES)
    def client_comes_back_for_a_call(self, client, which, proxy):
        session, calls = self.open_calls(client)
        if calls:
            self.run(self.model.come_back(session, calls[which % len(calls)], proxy))

    @rule(name=SERVERS, how=st.sampled_from(["die", "restart", "break"]))
    def server_stops(self, name, how):
        self.run(self.model.stop(name, how=how))

    @rule(name=SERVERS)
    def server_comes_up(self, name):
        self.run(self.model.come_up(name))

    @rule(seconds=st.sampled_from([0.1, 1, 15]))
    def time_passes(self, seconds):
        self.run(self.model.wait(seconds))

    @precondition(lambda self: type(self).proxies > 1)
    @rule(proxy=PROXIES)
    def proxy_dies(self, proxy):
        self.run(self.model.kill(proxy))

    @rule(client=CLIENTS, proxy=PROXIES)
    def client_ends_its_session(self, client, proxy):
        async def end():
            await self.model.delete(self.session(client), proxy)
            await self.model.begin(proxy)

        self.run(end())

    @rule(proxy=PROXIES)
    def sessions_expire(self, proxy):
        async def expire():
            await self.model.expire()
            await self.model.begin(proxy)

        self.run(expire())

    @rule()
    def proxies_tend(self):
        self.run(self.model.tend())

    @invariant()
    def nothing_is_broken_so_far(self):
        if self.model is not None:
            self.run(self.model.check())

    def teardown(self):
        async def end():
            try:
                await self.model.finish()
            finally:
                await self.model.aclose()

        try:
            if self.model is not None:
                self.run(end())
        finally:
            self.runner.close()


@pytest.mark.parametrize(
    ("has_ids", "proxies"), [(True, 1), (False, 1), (True, 2), (False, 2)], ids=["ids", "no ids", "two", "two, no ids"]
)
def test_sessions_calls_and_streams_survive_whatever_breaks(has_ids, proxies):
    machine = type("OneMachine", (Machine,), {"has_ids": has_ids, "proxies": proxies})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
