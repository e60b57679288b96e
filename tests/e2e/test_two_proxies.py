"""Two real mitmdumps and one store: a session belongs to both, and outlives the death of either.

The store is a real redis-server, and SQLite where nothing else would tell that it is shared as well.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal

import pytest
from mcp import Client

from tests.e2e.numbers_client import LegacyClient
from tests.e2e.origin import WITHIN_S
from tests.e2e.shared_sessions import Forwarder, Kind, NumberedProgram, Rig
from tests.store_contract.redis_server import RedisServer, require_redis

CLOSED = -31002

type StoreKind = Literal["redis", "sqlite"]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    require_redis()
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Rigs:
    """Gives tests the rigs that they ask for. All end together, and so does each `fresh` one with its test."""

    def __init__(self, redis: RedisServer, folders: pytest.TempPathFactory, stack: ExitStack):
        self._redis = redis
        self._folders = folders
        self._stack = stack
        self._started: dict[tuple[object, ...], Rig] = {}

    async def of(self, kind: Kind, store: StoreKind = "redis") -> Rig:
        """A rig that other tests have used: its proxies live, and its server's ledger is empty."""
        if (kind, store) not in self._started:
            self._started[kind, store] = self._stack.enter_context(self.fresh(kind, store=store))
        rig = self._started[kind, store]
        for proxy in (rig.one, rig.two):
            if not proxy.lives[-1].alive:
                await asyncio.to_thread(proxy.start)
        await rig.servers[0].forget()
        return rig

    def fresh(self, *kinds: Kind, store: StoreKind = "redis") -> Rig:
        """A rig for a test that kills servers: proxies bring the sessions of earlier tests to those that follow."""
        folder = self._folders.mktemp("rig")
        servers = [NumberedProgram.of(kind, folder) for kind in kinds]
        return Rig(folder, self._redis.url if store == "redis" else f"sqlite:{folder / 'sessions.db'}", *servers)


@pytest.fixture(scope="module")
def rigs(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rigs]:
    with ExitStack() as stack:
        yield Rigs(redis, tmp_path_factory, stack)


# Streams


@pytest.mark.parametrize(("kind", "store"), [("ids", "redis"), ("ids", "sqlite"), ("official", "redis")])
async def test_a_stream_whose_proxy_was_killed_goes_on_at_the_other(rigs: Rigs, kind: Kind, store: StoreKind):
    rig = await rigs.of(kind, store)
    [server] = rig.servers
    async with LegacyClient(rig.one) as client:
        await client.begin()
        async with client.numbers("a", 12) as stream:
            await server.release("a", 5)
            await stream.until(5)
            rig.one.kill()
            await stream.broken()
        await server.release("a", 12)
        await server.finished("a")
        client.at = rig.two
        async with client.back(stream.heard) as again:
            await again.answered()
    stream.heard.check_whole(12)
    assert len((await server.ledger())["resumed_from"]) == 1


@pytest.mark.parametrize("heard_before", [0, 700])
async def test_a_proxy_is_killed_while_events_pour_in_and_none_is_lost_or_told_twice(rigs: Rigs, heard_before: int):
    rig = await rigs.of("ids")
    [server] = rig.servers
    async with LegacyClient(rig.one) as client:
        await client.begin()
        async with client.numbers("a", 3000) as stream:
            await stream.primed()
            await server.release("a", 2000)
            await stream.until(heard_before)
            rig.one.kill()
            await stream.broken()
        await server.release("a", 3000)
        client.at = rig.two
        async with client.back(stream.heard) as again:
            await again.answered()
    stream.heard.check_whole(3000)


async def test_a_stream_goes_to_and_fro_between_proxies_that_die_in_turn(rigs: Rigs):
    rig = await rigs.of("ids")
    [server] = rig.servers
    here, there = rig.one, rig.two
    async with LegacyClient(here) as client:
        await client.begin()
        async with client.numbers("a", 50) as stream:
            await server.release("a", 5)
            await stream.until(5)
            here.kill()
            await stream.broken()
        for number in (10, 20, 30):
            here, there = there, here
            client.at = here
            async with client.back(stream.heard) as again:
                await server.release("a", number)
                await again.until(number)
                await asyncio.to_thread(there.start)
                here.kill()
                await again.broken()
        client.at = there
        await server.release("a", 50)
        async with client.back(stream.heard) as again:
            await again.answered()
    stream.heard.check_whole(50)
    assert len((await server.ledger())["begun"]) == 1


async def test_a_client_that_left_one_proxy_follows_its_stream_at_the_other_though_the_server_gives_no_ids(rigs: Rigs):
    rig = await rigs.of("plain")
    [server] = rig.servers
    async with LegacyClient(rig.one) as client:
        await client.begin()
        async with client.numbers("a", 12) as stream:
            await server.release("a", 5)
            await stream.until(5)
        await server.release("a", 8)
        client.at = rig.two
        async with client.back(stream.heard) as again:
            await again.until(8)
            await server.release("a", 12)
            await again.answered()
    stream.heard.check_whole(12)
    assert (await server.ledger())["resumed_from"] == []


async def test_a_call_that_cannot_be_resumed_is_answered_with_an_error_by_the_proxy_that_is_left(rigs: Rigs):
    rig = await rigs.of("plain")
    [server] = rig.servers
    async with LegacyClient(rig.one) as client:
        await client.begin()
        async with client.numbers("a", 12) as stream:
            await server.release("a", 5)
            await stream.until(5)
            rig.one.kill()
            await stream.broken()
        client.at = rig.two
        async with client.back(stream.heard) as again:
            await again.answered()
        heard = stream.heard
        assert heard.numbers == [1, 2, 3, 4, 5]
        [answer] = heard.answers
        assert (answer["id"], answer["error"]["code"]) == (heard.message_id, CLOSED)
        assert answer["error"]["data"]["mayHaveRun"] is True
        await client.check_echo("the session goes on")
    assert len((await server.ledger())["begun"]) == 1


async def test_twenty_streams_of_as_many_sessions_survive_the_death_of_their_proxy(rigs: Rigs):
    rig = await rigs.of("ids")
    [server] = rig.servers

    async def follow(name: str, killed: asyncio.Barrier) -> None:
        async with LegacyClient(rig.one) as client:
            await client.begin()
            async with client.numbers(name, 40) as stream:
                await server.release(name, 10)
                await stream.until(10)
                await killed.wait()
                await stream.broken()
            await server.release(name, 40)
            client.at = rig.two
            async with client.back(stream.heard) as again:
                await again.answered()
            stream.heard.check_whole(40)
            await client.check_echo(name)

    everybody = asyncio.Barrier(21)
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(follow(f"call-{number}", everybody))
        await everybody.wait()
        rig.one.kill()
    assert len((await server.ledger())["begun"]) == 20


# Sessions


@pytest.mark.parametrize("store", ["redis", "sqlite"])
async def test_one_session_is_used_at_both_proxies_in_turn(rigs: Rigs, store: StoreKind):
    rig = await rigs.of("ids", store)
    [server] = rig.servers
    async with LegacyClient(rig.one) as client:
        await client.begin()
        for turn in range(10):
            client.at = (rig.two, rig.one)[turn % 2]
            await client.check_echo(f"turn {turn}")
    ledger = await server.ledger()
    assert len(ledger["begun"]) == 1
    assert client.session_id not in ledger["begun"]  # ours, and not the server's


@pytest.mark.parametrize("ends_at_first", [True, False])
async def test_a_session_that_was_ended_at_one_proxy_is_unknown_at_both(rigs: Rigs, ends_at_first: bool):
    rig = await rigs.of("ids")
    [server] = rig.servers
    async with LegacyClient(rig.one) as client:
        await client.begin()
        client.at = rig.two
        await client.check_echo("here too")
        client.at = rig.one if ends_at_first else rig.two
        assert await client.delete() in {200, 204}
        for client.at in (rig.two, rig.one):
            assert (await client.echo("gone")).status_code == 404
            assert await client.delete() == 404
    ledger = await server.ledger()
    assert ledger["ended"] == ledger["begun"]


async def test_a_session_is_worth_nothing_with_another_authorization_at_either_proxy(rigs: Rigs):
    rig = await rigs.of("ids")
    [server] = rig.servers
    async with LegacyClient(rig.one, "Bearer mine") as client:
        await client.begin()
        async with client.numbers("a", 5) as stream:
            await server.release("a", 2)
            await stream.until(2)
        for client.authorization in ("Bearer yours", None):
            for client.at in (rig.one, rig.two):
                assert (await client.echo("mine?")).status_code == 404
                assert await client.delete() == 404
                assert await client.back_status(stream.heard) == 404
        client.authorization = "Bearer mine"
        for client.at in (rig.one, rig.two):
            await client.check_echo("mine")
    ledger = await server.ledger()
    assert ledger["tokens"] == ["Bearer mine"]
    assert (len(ledger["begun"]), ledger["ended"]) == (1, [])


# The server dies


async def test_a_server_that_restarted_is_given_one_new_session_and_both_proxies_use_it(rigs: Rigs):
    with rigs.fresh("ids") as rig:
        [server] = rig.servers
        async with LegacyClient(rig.one) as client:
            await client.begin()
            client.at = rig.two
            await client.check_echo("before")
            server.kill()
            server.start()
            for client.at in (rig.one, rig.two, rig.one, rig.two):
                await client.check_echo("after")
            ledger = await server.ledger()
            assert (len(ledger["begun"]), ledger["ended"]) == (1, [])


async def test_requests_at_both_proxies_wait_for_the_server_and_agree_on_one_new_session(rigs: Rigs):
    with rigs.fresh("ids") as rig:
        [server] = rig.servers
        async with LegacyClient(rig.one) as here, LegacyClient(rig.two) as there:
            await here.begin()
            there.session_id = here.session_id
            await there.check_echo("before")
            server.kill()
            calls = [
                # A ping may be sent twice: that the server was still there when it left is no reason for an error.
                asyncio.create_task(client.post("ping"))
                for client in (here, there)
                for _ in range(8)
            ]
            await asyncio.to_thread(server.start)
            assert [answer.json().get("result") for answer in await asyncio.gather(*calls)] == [{}] * 16
            await server.left_with(1)
            assert len((await server.ledger())["begun"]) <= 2  # both may have begun one; the one in vain is ended
            for client in (here, there):
                await client.check_echo("after")
            await server.left_with(1)


async def test_a_session_moves_to_the_other_server_for_both_proxies(rigs: Rigs):
    with rigs.fresh("ids", "ids") as rig:
        async with LegacyClient(rig.one) as client:
            await client.begin()
            [home] = [server for server in rig.servers if (await server.ledger())["begun"]]
            [other] = [server for server in rig.servers if server is not home]
            home.kill()
            for client.at in (rig.one, rig.two, rig.one):
                assert (await client.post("ping")).json()["result"] == {}
                await client.check_echo("elsewhere")
            ledger = await other.ledger()
            assert (len(ledger["begun"]), ledger["ended"]) == (1, [])
            home.start()
            for client.at in (rig.two, rig.one):
                await client.check_echo("still elsewhere")
            assert (await home.ledger())["begun"] == []


async def test_an_event_id_from_before_the_servers_death_resumes_no_stream_of_the_server_of_today(rigs: Rigs):
    with rigs.fresh("ids") as rig:
        [server] = rig.servers
        async with LegacyClient(rig.one) as client:
            await client.begin()
            async with client.numbers("a", 12) as stream:
                await server.release("a", 5)
                await stream.until(5)
                rig.one.kill()
                await stream.broken()
            server.kill()
            server.start()
            client.at = rig.two
            # The same ids again, of another call: the server counts its streams and events from the start.
            async with client.numbers("b", 12) as another:
                await server.release("b", 12)
                await another.answered()
            another.heard.check_whole(12)
            async with client.back(stream.heard) as again:
                await again.answered()
        assert stream.heard.numbers == [1, 2, 3, 4, 5]
        [answer] = stream.heard.answers
        assert (answer["id"], answer["error"]["code"]) == (stream.heard.message_id, CLOSED)
        assert (await server.ledger())["resumed_from"] == []


# The official client


async def test_an_official_client_hears_every_number_though_its_proxy_dies(rigs: Rigs):
    rig = await rigs.of("official")
    [server] = rig.servers
    heard: list[float] = []
    grown = asyncio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)
        grown.set()

    async def until(number: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            while len(heard) < number:
                grown.clear()
                await grown.wait()

    async with (
        Forwarder(rig.one.port).listening() as way,
        Client(f"http://127.0.0.1:{way.port}/mcp", mode="legacy") as client,
    ):
        arguments = {"call": "a", "count": 12}
        call = asyncio.create_task(client.call_tool("numbers", arguments, progress_callback=note))
        await server.release("a", 5)
        await until(5)
        way.to = rig.two.port
        rig.one.kill()
        await server.release("a", 8)
        await until(8)
        await server.release("a", 12)
        result = await call
        assert [block.text for block in result.content] == ["12 numbers"]
        assert heard == list(range(1, 13))
        again = await client.call_tool("echo", {"text": "and on"})
        assert [block.text for block in again.content] == ["and on"]
