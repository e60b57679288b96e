"""Redis is killed and started again while clients call tools at two proxies: what they notice, and what is left."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.sessions import SessionMapping
from shadowcat_core.sessions.redis_store import RedisStore
from tests.e2e.numbers_client import LegacyClient, check_echoed
from tests.e2e.origin import WITHIN_S
from tests.e2e.shared_sessions import NumberedProgram, OnOutage, Rig
from tests.store_contract.redis_server import RedisServer, require_redis

type Step = Callable[[RedisServer], object]

KILLED: tuple[Step, Step] = (RedisServer.kill, RedisServer.start)
HANGING: tuple[Step, Step] = (RedisServer.pause, RedisServer.resume)

CLIENTS = 6
CALLS = 4


@pytest.fixture
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that comes back empty, or with `durable` as it was."""
    require_redis()
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder, durable=getattr(request, "param", "durable") == "durable") as server:
        yield server


def is_refused(answer: httpx.Response) -> bool:
    """Whether an answer says, in a way that lets clients keep their sessions, that nobody can say if there is one."""
    if answer.status_code != 200 or not answer.headers["content-type"].startswith("application/json"):
        return False
    return answer.json().get("error", {}).get("code") == ErrorCode.STORE_UNAVAILABLE


@dataclass
class Caller:
    """One client that calls tools without end, at both proxies in turn, and notes how each call went."""

    name: str
    client: LegacyClient
    rig: Rig
    made: int = 0
    worked: int = 0
    refused: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self) -> bool:
        """One call. Its answer is the one to this very call, or an error that says that the store is away."""
        text = f"{self.name}, call {self.made}"
        self.client.at = (self.rig.one, self.rig.two)[self.made % 2]
        self.made += 1
        answer = await self.client.echo(text)
        if is_refused(answer):
            self.refused += 1
            return False
        check_echoed(answer, text)
        self.worked += 1
        return True

    async def call_on(self) -> None:
        while True:
            await self.call()
            self.moved.set()
            self.moved = asyncio.Event()

    async def after(self, worked: int = 0, refused: int = 0) -> None:
        """Until so many more calls have worked, or were refused."""
        worked, refused = worked + self.worked, refused + self.refused
        while self.worked < worked or self.refused < refused:
            await self.moved.wait()


class Crowd:
    """All callers, while they call."""

    def __init__(self, callers: list[Caller]):
        self._callers = callers

    async def after(self, *, worked: int = 0, refused: int = 0) -> None:
        """Until each of them has so many more calls behind it."""
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(caller.after(worked, refused) for caller in self._callers))

    @property
    def refused(self) -> int:
        return sum(caller.refused for caller in self._callers)


@asynccontextmanager
async def calling(rig: Rig, clients: list[LegacyClient]) -> AsyncIterator[Crowd]:
    """Within the block all clients call; a call that goes wrong fails the block."""
    callers = [Caller(f"client {number}", client, rig) for number, client in enumerate(clients)]
    for caller in callers:
        for _ in (rig.one, rig.two):  # so that both proxies know each session
            assert await caller.call()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller.call_on()) for caller in callers]
        yield Crowd(callers)
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def bed(folder: Path, redis: RedisServer, on_outage: OnOutage) -> AsyncIterator[tuple[Rig, list[LegacyClient]]]:
    """Two proxies and a server, and clients whose sessions have begun, one half at each proxy."""
    async with AsyncExitStack() as stack:
        rig = stack.enter_context(Rig(folder, redis.url, NumberedProgram.of("ids", folder), on_outage=on_outage))
        clients = [
            await stack.enter_async_context(LegacyClient((rig.one, rig.two)[number % 2])) for number in range(CLIENTS)
        ]
        for client in clients:
            await client.begin()
        yield rig, clients


async def stored(redis: RedisServer) -> dict[str, SessionMapping]:
    """Every session that the store has, by the client's id."""
    store = RedisStore.from_url(redis.url, timeout_ms=30_000)
    try:
        found: dict[str, SessionMapping] = {}
        page = await store.list()
        while True:
            assert not found.keys() & {record.mapping.session_id for record in page.records}
            found |= {record.mapping.session_id: record.mapping for record in page.records}
            if page.cursor is None:
                return found
            page = await store.list(page.cursor)
    finally:
        await store.aclose()


async def everywhere_known(redis: RedisServer, clients: list[LegacyClient]) -> None:
    """Until the store has been told of all sessions again."""
    async with asyncio.timeout(WITHIN_S):
        while (await stored(redis)).keys() != {client.session_id for client in clients}:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)


async def taken(client: LegacyClient) -> None:
    """Until the proxy has noticed that Redis is back: it refuses a session that it has not seen before."""
    async with asyncio.timeout(WITHIN_S):
        while is_refused(await client.echo("known?")):  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)


async def check_all_as_before(rig: Rig, redis: RedisServer, clients: list[LegacyClient]) -> None:
    """Every session is in the store, once, and is the one at the server that it was from the start."""
    [server] = rig.servers
    ledger = await server.ledger()
    assert (len(ledger["begun"]), ledger["ended"]) == (len(clients), [])
    mappings = await stored(redis)
    assert mappings.keys() == {client.session_id for client in clients}
    assert sorted(mapping.upstream.session_id for mapping in mappings.values()) == sorted(ledger["begun"])
    assert {mapping.epoch for mapping in mappings.values()} == {1}


@pytest.mark.parametrize(
    ("redis", "outages"),
    [("durable", (KILLED, HANGING)), ("empty", (KILLED, KILLED))],
    ids=["durable", "empty"],
    indirect=["redis"],
)
async def test_when_failing_open_no_client_notices_that_redis_is_away(
    redis: RedisServer, tmp_path: Path, outages: tuple[tuple[Step, Step], ...]
):
    async with bed(tmp_path, redis, "open") as (rig, clients):
        async with calling(rig, clients) as crowd:
            for ends, begins in outages:
                await crowd.after(worked=CALLS)
                ends(redis)
                await crowd.after(worked=CALLS)
                await asyncio.to_thread(begins, redis)
                await crowd.after(worked=CALLS)
            assert crowd.refused == 0
        await everywhere_known(redis, clients)
        for client in clients:
            for client.at in (rig.one, rig.two):
                await client.check_echo("afterwards")
        await check_all_as_before(rig, redis, clients)


async def test_when_failing_closed_calls_are_refused_until_redis_is_back_and_then_all_sessions_work(
    redis: RedisServer, tmp_path: Path
):
    async with bed(tmp_path, redis, "closed") as (rig, clients):
        async with calling(rig, clients) as crowd:
            for ends, begins in (KILLED, HANGING):
                await crowd.after(worked=CALLS)
                ends(redis)
                await crowd.after(refused=2)  # by each proxy one
                await asyncio.to_thread(begins, redis)
                await crowd.after(worked=CALLS)
                refused = crowd.refused
                await crowd.after(worked=CALLS)
                assert crowd.refused == refused  # back is back: also for connections of before that were not used since
        for client in clients:
            for client.at in (rig.one, rig.two):
                await client.check_echo("afterwards")
        await check_all_as_before(rig, redis, clients)


@pytest.mark.parametrize("redis", ["durable", "empty"], indirect=True)
async def test_what_begins_and_ends_while_redis_is_away_is_known_everywhere_afterwards(
    redis: RedisServer, tmp_path: Path
):
    async with bed(tmp_path, redis, "open") as (rig, clients):
        leaving, *staying = clients
        redis.kill()
        leaving.at = rig.one
        assert await leaving.delete() in {200, 204}
        assert (await leaving.echo("gone")).status_code == 404
        async with LegacyClient(rig.two) as late:
            await late.begin()
            await late.check_echo("at once")
            late.at = rig.one
            assert is_refused(await late.echo("not known here, and not unknown"))
            await asyncio.to_thread(redis.start)
            await everywhere_known(redis, [*staying, late])
            for late.at in (rig.one, rig.two):
                await late.check_echo("now everywhere")
            for leaving.at in (rig.one, rig.two):
                assert (await leaving.echo("gone")).status_code == 404


@pytest.mark.parametrize("redis", ["empty"], indirect=True)
async def test_a_stream_goes_on_while_redis_is_away_and_can_be_resumed_elsewhere_afterwards(
    redis: RedisServer, tmp_path: Path
):
    async with bed(tmp_path, redis, "open") as (rig, clients):
        [server] = rig.servers
        client = clients[0]
        client.at = rig.one
        async with client.numbers("a", 60) as stream:
            await server.release("a", 10)
            await stream.until(10)
            redis.kill()
            await server.release("a", 20)
            await stream.until(20)
            await asyncio.to_thread(redis.start)
            await server.release("a", 30)
            await stream.until(30)
            await everywhere_known(redis, clients)
            rig.one.kill()
            await stream.broken()
        await server.release("a", 60)
        client.at = rig.two
        await taken(client)
        async with client.back(stream.heard) as again:
            await again.answered()
        stream.heard.check_whole(60)


async def test_a_stream_cannot_be_resumed_at_a_proxy_that_fails_closed_until_redis_is_back(
    redis: RedisServer, tmp_path: Path
):
    async with bed(tmp_path, redis, "closed") as (rig, [client, *_]):
        [server] = rig.servers
        client.at = rig.one
        async with client.numbers("a", 20) as stream:
            await server.release("a", 10)
            await stream.until(10)
            redis.kill()
            await server.release("a", 15)
            await stream.until(15)  # what flows, flows on
        client.at = rig.two
        assert await client.back_status(stream.heard) == 503
        await asyncio.to_thread(redis.start)
        await server.release("a", 20)
        async with client.back(stream.heard) as again:
            await again.answered()
        stream.heard.check_whole(20)
