"""A store that proxies keep sessions in, and `shadowcat sessions` run on it."""

import asyncio
import json

from click.testing import CliRunner

from shadowcat_core.cli import main
from shadowcat_core.relay.opening import open_store
from shadowcat_core.sessions import Handshake, SessionTimes, Upstream, begin_session, wall_clock_ms
from shadowcat_core.upstreams import SessionsConfig

HOUR_MS = 3_600_000
SECRET = "c0ffee" * 10


def run(*arguments):
    return CliRunner().invoke(main, ["sessions", *map(str, arguments)])


def objects(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def handshake(name: object = "inspector", version: object = "0.17.2"):
    params = {"capabilities": {"roots": {}, "sampling": {}}, "clientInfo": {"name": name, "version": version}}
    result = {"capabilities": {"tools": {}}, "serverInfo": {"name": "files", "version": "3"}}
    return Handshake(json.dumps({"params": params}).encode(), json.dumps({"result": result}).encode())


def record(session_id, *, age_h=0.0, shaken=None, upstream="tools-1", credential=SECRET):
    began_ms = wall_clock_ms() - round(age_h * HOUR_MS)
    times = SessionTimes.starting(began_ms, idle_ttl_ms=100 * HOUR_MS)
    server = Upstream(upstream, f"at-{session_id[:8]}")
    return begin_session(
        server, shaken or handshake(), "2025-11-25", credential=credential, times=times, session_id=session_id
    )


def with_store(address, work):
    """Do some work with the store that a proxy would open."""

    async def do():
        store = open_store(SessionsConfig(store=address, on_outage="closed"))
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(do())


def keep(address, *records):
    async def create(store):
        assert all([await store.create(each) for each in records])

    with_store(address, create)


def kept(address):
    async def read(store):
        return [each.session_id for each in (await store.list(None, 1000)).records]

    return with_store(address, read)
