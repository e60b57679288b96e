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
from tests.core.relay_parts import Head, result

PROXIES = st.integers(0, 1)
CLIENTS = st.integers(0, 1)
WHICH = st.integers(0, 3)
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

    @initialize(clients=st.integers(1, 2), is_busy=st.booleans())
    def begin(self, clients, is_busy):
        async def begin():
            self.model = Model(has_ids=type(self).has_ids, proxies=type(self).proxies)
            for number in range(clients):
                await self.model.begin(number)
                if is_busy:
                    await self.busy(number)

        self.run(begin())

    async def busy(self, number):
        """Have the streams that most can happen to."""
        await self.model.listen(self.session(number), number)
        await self.model.call(self.session(number), number, "write", how="stream")

    def session(self, number):
        sessions = self.model.sessions
        return sessions[number % len(sessions)]

    def stream(self, client, which):
        session = self.session(client)
        streams = self.model.open_streams(session)
        return session, streams[which % len(streams)] if streams else None

    @rule(client=CLIENTS, proxy=PROXIES, tool=TOOLS, how=st.sampled_from(["json", "stream", "stream", "dies"]))
    def call(self, client, proxy, tool, how):
        self.run(self.model.call(self.session(client), proxy, tool, how=how))

    @rule(client=CLIENTS, proxy=PROXIES, tool=TOOLS, fate=st.sampled_from([*FATES, "unknown"]))
    def call_that_meets_its_fate(self, client, proxy, tool, fate):
        is_away = fate == "unknown"
        self.run(self.model.call(self.session(client), proxy, tool, fate=FATES.get(fate), is_away=is_away))

    @rule(client=CLIENTS, tool=TOOLS, count=st.integers(2, 5), dies=st.none() | SERVERS)
    def calls_at_once(self, client, tool, count, dies):
        async def calls():
            if dies is not None:
                await self.model.stop(dies, how="restart")
            await self.model.call_at_once(self.session(client), tool, count)

        self.run(calls())

    @rule(client=CLIENTS, which=WHICH, count=st.integers(0, 3), is_all=st.booleans())
    def server_sends(self, client, which, count, is_all):
        session, stream = self.stream(client, which)
        if stream is not None:
            self.run(self.model.send(session, stream, count, is_all=is_all))

    @rule(client=CLIENTS, which=WHICH, share=st.floats(0, 1), noticed=st.booleans(), sent=st.integers(0, 2),
          comes_back=st.none() | PROXIES)  # fmt: skip
    def client_drops(self, client, which, share, noticed, sent, comes_back):
        async def drop():
            session, stream = self.stream(client, which)
            if stream is not None:
                await self.model.drop(stream, share, noticed)
                await self.model.send(session, stream, sent, is_all=False)
                if comes_back is not None:
                    await self.model.return_to(session, stream, comes_back)

        self.run(drop())

    @rule(client=CLIENTS, which=WHICH, proxy=PROXIES)
    def client_comes_back(self, client, which, proxy):
        self.run(self.model.return_to(*self.stream(client, which), proxy))

    @rule(name=SERVERS, how=st.sampled_from(["die", "restart", "break", "break"]), seconds=st.sampled_from([0, 1, 5]))
    def server_stops(self, name, how, seconds):
        async def stop():
            await self.model.stop(name, how=how)
            await self.model.wait(seconds)

        self.run(stop())

    @rule(name=SERVERS, seconds=st.sampled_from([0.1, 1, 15]))
    def server_comes_up(self, name, seconds):
        async def come():
            await self.model.wait(seconds)
            await self.model.come_up(name)

        self.run(come())

    @rule(seconds=st.sampled_from([0.1, 1, 15]))
    def time_passes(self, seconds):
        async def wait():
            await self.model.wait(seconds)
            await self.model.tend()

        self.run(wait())

    @precondition(lambda self: type(self).proxies > 1)
    @rule(proxy=PROXIES)
    def proxy_dies(self, proxy):
        self.run(self.model.kill(proxy))

    @rule(client=CLIENTS, proxy=PROXIES, expires=st.booleans())
    def session_ends(self, client, proxy, expires):
        async def end():
            await (self.model.expire() if expires else self.model.delete(self.session(client), proxy))
            await self.model.begin(proxy)
            await self.busy(-1)

        self.run(end())

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
            max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def test_a_client_keeps_what_a_run_said_that_broke_off_and_gets_all_of_the_one_that_answers():
    model = Model(has_ids=False, proxies=1)
    session = await model.begin()
    made = await model.call(session, 0, "search", how="stream")
    await model.answer(made, 1, is_all=False)
    await model.stop("a", how="restart")
    await model.stop("b", how="restart")
    await model.finish()
    await model.aclose()
    assert model.executed(made.key) == 2
    assert made.payloads() == [*model.told[made.key], result(made.key)]
