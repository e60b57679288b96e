"""Each store, made empty for one test."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio.cluster import RedisCluster

from shadowcat_core.sessions import MemoryStore, RedisStore, SqliteStore
from shadowcat_core.sessions.contract import MakeStore, Settings
from tests.store_contract.redis_server import RedisServer


def options(settings: Settings) -> dict:
    return {
        "clock_ms": settings.clock_ms,
        "retention": settings.retention,
        "max_sessions": settings.max_sessions,
    }


def memory() -> MakeStore:
    @asynccontextmanager
    async def make(settings: Settings) -> AsyncIterator[MemoryStore]:
        yield MemoryStore(**options(settings))

    return make


def sqlite(directory: Path) -> MakeStore:
    """A store in a new file of `directory`."""

    @asynccontextmanager
    async def make(settings: Settings) -> AsyncIterator[SqliteStore]:
        store = SqliteStore(directory / f"{secrets.token_hex(8)}.db", **options(settings))
        try:
            yield store
        finally:
            await store.aclose()

    return make


def redis(server: RedisServer) -> MakeStore:
    """A store under a new prefix of one server."""

    @asynccontextmanager
    async def make(settings: Settings) -> AsyncIterator[RedisStore]:
        store = RedisStore.from_url(server.url, prefix=secrets.token_hex(8), timeout_ms=30_000, **options(settings))
        try:
            yield store
        finally:
            await store.aclose()

    return make


def cluster(server: RedisServer) -> MakeStore:
    """A store under a new prefix of a cluster, with a client for clusters."""

    @asynccontextmanager
    async def make(settings: Settings) -> AsyncIterator[RedisStore]:
        client = RedisCluster(host="127.0.0.1", port=server.port)
        store = RedisStore(client, prefix=secrets.token_hex(8), timeout_ms=30_000, **options(settings))
        try:
            yield store
        finally:
            await store.aclose()

    return make
