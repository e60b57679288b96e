"""Fixtures of the tests of session stores: `pytest_plugins` names this module where they are used."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shadowcat_core.sessions.contract import MakeStore
from tests.store_contract import stores
from tests.store_contract.outage_bed import Bed
from tests.store_contract.redis_server import RedisServer, require_redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    require_redis()
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A cluster of one node: it refuses whatever touches two slots at once."""
    require_redis()
    with RedisServer(tmp_path_factory.mktemp("cluster"), cluster=True) as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def make_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeStore:
    """Makes empty stores of each kind."""
    match request.param:
        case "memory":
            return stores.memory()
        case "sqlite":
            return stores.sqlite(tmp_path_factory.mktemp("sqlite"))
        case "redis":
            return stores.redis(request.getfixturevalue("redis_server"))
        case _:
            return stores.cluster(request.getfixturevalue("redis_cluster"))


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """Proxies before an unreliable store, closed when the store is there again."""
    made = Bed()
    yield made
    made.primary.away = False
    for proxy in made.proxies:
        await proxy.aclose()
