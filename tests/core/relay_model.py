"""What a client may expect of sessions, calls and streams whatever breaks: a reference model, checked step by step."""

import asyncio
from collections import defaultdict

from shadowcat_core.limits import READING_BEAT_S
from shadowcat_core.sessions import Retention
from tests.core.relay_driver import Proxy, World, begun, note
from tests.core.relay_listening import FAILED, LEFT, OK, REFUSED, Call, Listening
from tests.core.relay_parts import call, result
from tests.core.relay_runs import fits
from tests.core.relay_seen_store import SeenStore
from tests.core.resumption_world import settle

IDLE_S = 3_600


class Session:
    """A client of the model, with one session at a time."""

    def __init__(self, client) -> None:
        self.client = client
        self.calls = {}
        self.listening = None
        self.owns = []
        """The servers' ends of its own stream, one after the other."""
        self.is_over = False


class Model:
    """Two servers, some proxies that share a store, and the sessions of two clients."""

    def __init__(self, *, has_ids, proxies) -> None:
        self.store = SeenStore(clock_ms=lambda: self.world.time.clock_ms(), retention=Retention(max_age_ms=10**12))
        self.has_ids = has_ids
        self.world = World(
            "a", "b", has_ids=has_ids, store=self.store, idle_ttl_ms=IDLE_S * 1000, retry={"tools": ["search"]}
        )
        for server in self.world.servers.values():
            server.primes = has_ids
        self.time = self.world.time
        while len(self.world.proxies) < proxies:
            self.world.another_proxy()
        self.all_proxies = list(self.world.proxies)
        self.sessions = []
        self.over = []
        self.keys = iter(range(1, 10**9))
        self.calls = []
        self.told = defaultdict(list)
        self.is_counted_by_tending = False
        self.beating = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await self.time.sleep(float(READING_BEAT_S))
            for proxy in self.world.proxies:
                proxy.relay.beat()

    async def aclose(self) -> None:
        self.beating.cancel()
        await self.world.aclose()
        await settle()

    def proxy(self, number) -> Proxy:
        return self.world.proxies[number % len(self.world.proxies)]

    @property
    def servers(self):
        return self.world.servers

    async def begin(self, number=0) -> Session:
        for server in self.servers.values():
            if not server.is_up:
                server.is_up = True
        await self.time.pass_s(3)
        session = Session(await begun(self.world, self.proxy(number)))
        self.sessions.append(session)
        return session

    def having(self, made):
        return [server for server in self.servers.values() if made.key in server.calls]

    def executed(self, key) -> int:
        return sum(server.executed[key] for server in self.servers.values())

    # --- What happens -------------------------------------------------------------------------------------------------

    async def call(self, session, number, tool, *, how="json", fate=None, is_away=False) -> Call:
        proxy = self.proxy(number)
        key = next(self.keys)
        if fate is not None:
            for server in self.servers.values():
                server.then("tools/call", fate())
        proxy.log.is_away = is_away
        exchange = session.client.open("POST", call(key, tool, how), proxy)
        made = Call(key, tool, exchange, is_stream=how == "stream")
        session.calls[key] = made
        self.calls.append(made)
        if how == "stream":
            await settle()
        else:
            await self.time.finish(exchange.task)
            exchange.task.result()
        proxy.log.is_away = False
        for server in self.servers.values():
            server.say.clear()
        return made

    async def call_at_once(self, session, tool, count) -> None:
        """Calls that find all that has happened at the same time, at all proxies."""
        opened = []
        for number in range(count):
            key, proxy = next(self.keys), self.proxy(number)
            opened.append(Call(key, tool, session.client.open("POST", call(key, tool), proxy), is_stream=False))
            session.calls[key] = opened[-1]
        self.calls += opened
        await self.time.finish(*(made.exchange.task for made in opened))

    async def listen(self, session, number) -> None:
        listening = session.listening
        proxy = self.proxy(number)
        if listening is None:
            session.listening = Listening(session.client.open("GET", b"", proxy))
        elif listening.exchange is None or listening.exchange.task.done():
            listening.drop()
            self._come_back(session, listening, proxy)
        await settle()

    def _come_back(self, session, listening, proxy) -> None:
        at = listening.last_event_id
        more = {} if at is None else {"last_event_id": at}
        listening.come_back(session.client.open("GET", b"", proxy, **more))

    async def come_back(self, session, made, number) -> None:
        made.look()
        if made.outcome is None and (made.exchange is None or made.exchange.task.done()):
            made.drop()
            if made.last_event_id is None:
                made.outcome = (LEFT, None, None)
            else:
                self._come_back(session, made, self.proxy(number))
        await settle()

    async def server_end(self, session):
        """The server's end of the session's own stream, as far as there is one."""
        mapping = await session.client.mapping()
        its = None if mapping is None else self.servers[mapping.upstream.name].sessions.get(mapping.upstream.session_id)
        return None if its is None else its.own

    async def note(self, session, count) -> None:
        own = await self.server_end(session)
        if own is None:
            return
        if own not in session.owns:
            own.reached = 0
            session.owns.append(own)
        for _ in range(count):
            own.emit(note(next(self.keys)))
        await settle()
        self.see_reached()

    def see_reached(self) -> None:
        """Note what has reached a proxy: the connections that are open have been read."""
        for session in self.sessions:
            for own in session.owns:
                if own.connection is not None and own.connection.is_open:
                    own.reached = len(own.sent)

    def open_streams(self, session):
        """What the session has of calls without an answer, and its own stream."""
        calls = [made for made in session.calls.values() if made.is_stream and made.outcome is None]
        return calls if session.listening is None else [*calls, session.listening]

    async def send(self, session, stream, count, *, is_all) -> None:
        """The server sends something on a stream, and answers the call that it is for."""
        if isinstance(stream, Call):
            await self.answer(stream, count, is_all=is_all)
        else:
            await self.note(session, count)

    async def return_to(self, session, stream, number) -> None:
        """The client comes back, or listens for the first time."""
        if isinstance(stream, Call):
            await self.come_back(session, stream, number)
        else:
            await self.listen(session, number)

    async def answer(self, made, count, *, is_all) -> None:
        """The server that has a call sends some of its answer."""
        for server in self.servers.values():
            end = server.calls.get(made.key)
            if end is not None and not end.is_over and server.is_up:
                for _ in range(count):
                    payload = note(next(self.keys))
                    self.told[made.key].append(payload)
                    end.emit(payload)
                if is_all:
                    end.finish(result(made.key))
        await settle()

    async def drop(self, listening, share, noticed) -> None:
        # Without ids, what reaches a proxy that does not know that its client is elsewhere is nobody's.
        listening.drop(share=share, noticed=noticed or not self.has_ids)
        await settle()

    async def come_up(self, name) -> None:
        self.servers[name].is_up = True
        await settle()

    async def wait(self, seconds) -> None:
        await self.time.pass_s(seconds)
        self.see_reached()

    async def tend(self) -> None:
        for proxy in self.world.proxies:
            await proxy.relay.tend()
        self.is_counted_by_tending = False

    async def stop(self, name, *, how) -> None:
        server = self.servers[name]
        self.see_reached()
        for session in self.sessions:
            for made in session.calls.values():
                its = server.calls.get(made.key)
                if its is not None and (how != "break" or not self.has_ids):
                    made.may_be_lost = True
        match how:
            case "die":
                server.die()
            case "restart":
                server.restart()
            case "break":
                server.break_off("reset")
        await settle()

    async def kill(self, number) -> None:
        number %= len(self.world.proxies)
        dead = self.world.proxies[number]
        dead.kill()
        await dead.relay.keeper.aclose()
        await dead.relay.manager.aclose()
        self.world.proxies[number] = Proxy(self.world)
        self.all_proxies.append(self.world.proxies[number])
        self.is_counted_by_tending = True
        for session in self.sessions:
            for made in session.calls.values():
                if made.exchange is not None and made.exchange.proxy is dead:
                    made.drop()
                made.may_be_lost |= not self.has_ids
            own = session.listening
            if own is not None and own.exchange is not None and own.exchange.proxy is dead:
                own.drop()
        await settle()

    async def delete(self, session, number) -> None:
        await self.hang_up(session)
        exchange = await session.client.do("DELETE", b"", self.proxy(number))
        assert exchange.status == 200, exchange.status
        self._forget(session)

    async def expire(self) -> None:
        """So much time passes at once that nobody has used any session."""
        for session in self.sessions:
            await self.hang_up(session)
        self.time.now_s += IDLE_S + 1
        for proxy in self.world.proxies:
            await proxy.relay.tend()
        for session in list(self.sessions):
            self._forget(session)

    async def hang_up(self, session) -> None:
        for listening in (*session.calls.values(), session.listening):
            if listening is not None and listening.exchange is not None:
                if isinstance(listening, Call):
                    listening.look()
                    listening.outcome = listening.outcome or (LEFT, None, None)
                listening.exchange.task.cancel()
                listening.drop()
        await settle()

    def _forget(self, session) -> None:
        session.is_over = True
        self.sessions.remove(session)
        self.over.append(session)

    # --- What holds ---------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        for session in self.sessions:
            mapping = await session.client.mapping()
            assert mapping is not None, "a session was lost that nobody ended"
            self.store.see(mapping)
            for made in session.calls.values():
                if made.epoch is None and made.exchange is not None and made.exchange.passage.carriage is not None:
                    made.epoch = made.exchange.passage.mapping.epoch
                made.may_be_lost |= made.epoch not in (None, mapping.epoch)
            self._check_own(session)
        for session in self.over:
            assert await session.client.mapping() is None, "a session lives that was ended"
        for made in self.calls:
            made.look()
            self._check_call(made)
        if not self.is_counted_by_tending and len(self.world.proxies) == 1:
            for name, sessions in self.world.proxy.sessions().items():
                assert sessions == await self.store.count(name), f"{name} has another number of sessions"

    def _check_call(self, made) -> None:
        ran = self.executed(made.key)
        if made.tool == "write":
            assert ran <= 1, "a call ran twice that may not"
        if made.outcome is not None:
            kind, code, may_have_run = made.outcome
            if kind == OK:
                assert ran >= 1, "a call was answered that never ran"
            if may_have_run is False:
                assert ran == 0, f"a call ran of which error {code} says that it did not"
            if kind == REFUSED:
                assert code in (502, 503), f"a call of a living session was refused with {code}"
        if made.is_stream:
            ends = [server.calls[made.key] for server in self.having(made)]
            received = made.payloads()
            if made.outcome is not None and made.outcome[0] == FAILED:
                received = received[:-1]
                assert made.may_be_lost or not ends, f"an answer was given up that could come: {made.outcome}"
            is_answered = bool(ends) and made.outcome is not None and made.outcome[0] == OK
            if is_answered or (received and (made.outcome is None or made.outcome[0] != REFUSED)):
                its = fits(received, ends, told=self.told[made.key], runs=ran, is_answered=is_answered)
                assert its, "a call has other events than were sent"

    def _check_own(self, session, *, alive=None) -> None:
        """Look at a session's own stream; once `alive` is the server's end of it, all is there that could come."""
        if session.listening is None:
            return
        received = session.listening.payloads()
        sent = [payload for own in session.owns for payload in own.sent]
        assert len(set(received)) == len(received), "an event came twice"
        places = [sent.index(payload) for payload in received]
        assert places == sorted(places), "events came in another order"
        if alive is not None:
            due = [each for own in session.owns for each in (own.sent if own is alive else own.sent[: own.reached])]
            assert set(due) <= set(received), "events were lost"

    async def finish(self) -> None:
        """All is well again: what can come comes."""
        for server in self.servers.values():
            server.is_up = True
        for turn in range(4):
            await self.time.pass_s(20)
            for session in self.sessions:
                for made in list(session.calls.values()):
                    await self.come_back(session, made, turn)
                if session.listening is not None:
                    await self.listen(session, turn)
            await self.time.pass_s(20)
            for server in self.servers.values():
                for key, end in list(server.calls.items()):
                    end.finish(result(key))
            await self.time.pass_s(20)
            await self.check()
        for session in self.sessions:
            assert all(made.outcome is not None for made in session.calls.values()), "a call has no outcome"
            self._check_own(session, alive=await self.server_end(session))
            assert (await session.client.post(call(next(self.keys)), self.proxy(0))).status == 200
            await self.hang_up(session)
        await self._check_nothing_is_left()

    async def _check_nothing_is_left(self) -> None:
        for proxy in self.world.proxies:
            for exchange in proxy.exchanges:
                if not exchange.task.done():
                    exchange.task.cancel()
        await self.time.pass_s(20)
        for proxy in self.world.proxies:
            proxy.leaves_nothing()
            await proxy.relay.tend()
            for name, sessions in proxy.sessions().items():
                assert sessions == await self.world.store.count(name)
        await asyncio.gather(*(proxy.relay.manager.aclose() for proxy in self.all_proxies))
        moved = sum(proxy.counts.sessions_moved for proxy in self.all_proxies)
        assert moved == sum(epoch > 1 for _, epoch in self.store.in_force), "the counts do not add up"
        in_force = {upstream.session_id for upstream in self.store.in_force.values()}
        for server in self.servers.values():
            assert set(server.sessions) <= in_force, "an upstream session was begun in vain, and not ended"
