"""Ten thousand racing operations on one session, by several programs at once, lose no update."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from shadowcat_core.sessions import (
    Handshake,
    MemoryStore,
    SessionTimes,
    Upstream,
    begin_session,
    event_id,
    wall_clock_ms,
)
from tests.store_contract.racer import RETENTION, open_store, race

pytest_plugins = ["tests.store_contract.fixtures"]

RACERS = ("north", "south")


async def begin(store):
    times = SessionTimes.starting(wall_clock_ms())
    record = begin_session(Upstream("u", "first"), Handshake(b"", b""), "2025-11-25", credential="", times=times)
    assert await store.create(record)
    assert await store.open_stream(record.session_id, "s")
    return record.session_id


async def check_nothing_is_lost(store, session_id, results):
    total = {name: sum(each[name] for each in results) for name in results[0]}
    assert total["verbs"] >= 10_000
    record = await store.get(session_id)
    assert record.mapping.epoch == 1 + total["moves"]
    assert len(record.subscriptions) == total["subscriptions"] == len(results) * results[0]["subscriptions"]
    events = []
    while True:
        missed = await store.after(session_id, event_id("s", len(events)), limit=500)
        assert missed.lost == 0
        if not missed.events:
            break
        events += [each.event.data for each in missed.events]
    assert len(events) == len(set(events)) == missed.stream.position == total["events"]
    assert await store.count("u") == 1


async def test_tasks_that_race_on_memory_lose_no_update():
    store = MemoryStore(retention=RETENTION)
    session_id = await begin(store)
    results = await asyncio.gather(*[race(store, session_id, name) for name in RACERS])
    await check_nothing_is_lost(store, session_id, results)


async def run_racer(kind, place, session_id, name):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.store_contract.racer", kind, place, session_id, name),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return json.loads(output)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_programs_that_race_on_a_shared_store_lose_no_update(kind, request, tmp_path):
    place = str(tmp_path / "race.db") if kind == "sqlite" else request.getfixturevalue("redis_server").url
    store = open_store(kind, place)
    session_id = await begin(store)
    results = await asyncio.gather(*[run_racer(kind, place, session_id, name) for name in RACERS])
    await check_nothing_is_lost(store, session_id, results)
    await store.end(session_id)
    await store.aclose()
