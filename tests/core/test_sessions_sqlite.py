"""The store in a SQLite file: restarts, other programs, broken files, one thread, and nobody who waits for it."""

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest

from shadowcat_core.errors import StoreError, StoreUnavailable
from shadowcat_core.sessions import Event, SqliteStore, event_id
from shadowcat_core.sessions import sqlite_schema as schema
from shadowcat_core.sessions.contract import SetClock, Settings
from shadowcat_core.sessions.contract.given import Given
from shadowcat_core.sessions.sqlite_worker import SqliteWorker


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


@pytest.fixture
async def store(path, clock):
    made = SqliteStore(path, clock_ms=clock)
    yield made
    await made.aclose()


@pytest.fixture
def given(store, clock):
    return Given(store, Settings(clock), clock)


async def test_sessions_and_events_survive_a_restart(store, given, path, clock):
    session_id, stream_id = await given.stream(3)
    record = await store.get(session_id)
    await store.aclose()
    again = SqliteStore(path, clock_ms=clock)
    assert await again.get(session_id) == record
    missed = await again.after(session_id, event_id(stream_id, 1))
    assert len(missed.events) == 2
    await again.aclose()


async def test_what_was_answered_survives_a_kill(path, clock):
    program = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom shadowcat_core.sessions import *\n"
        "from shadowcat_core.sessions.contract import *\n"
        "async def main():\n"
        "    clock = SetClock()\n"
        "    store = SqliteStore(Path(sys.argv[1]), clock_ms=clock)\n"
        "    given = Given(store, Settings(clock), clock)\n"
        "    for _ in range(20): print((await given.session()).session_id, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(path)), stdout=-1, cwd=Path(__file__).parent.parent.parent
    )
    output, _ = await process.communicate()
    assert process.returncode == -9
    ids = output.decode().split()
    store = SqliteStore(path, clock_ms=clock)
    assert len(ids) == 20
    assert None not in await store.get_many(ids)
    await store.aclose()


async def test_the_file_is_for_its_owner_alone(store, given, path):
    await given.session()
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_a_file_of_another_version_is_refused_and_left_alone(path, clock):
    database = sqlite3.connect(path)
    database.execute("pragma user_version=99")
    database.close()
    store = SqliteStore(path, clock_ms=clock)
    with pytest.raises(StoreError, match=r"version 99 .* has 1") as caught:
        await store.count()
    assert not isinstance(caught.value, StoreUnavailable)
    await store.aclose()
    database = sqlite3.connect(path)
    assert database.execute("select count(*) from sqlite_master").fetchone() == (0,)
    database.close()


@pytest.mark.parametrize("break_file", ["garbage", "directory", "nowhere"])
async def test_a_file_that_cannot_be_opened_is_unavailable_until_it_can(break_file, tmp_path, clock):
    path = tmp_path / "folder" / "sessions.db"
    if break_file != "nowhere":
        path.parent.mkdir()
    if break_file == "directory":
        path.mkdir()
    if break_file == "garbage":
        path.write_bytes(b"no database at all" * 100)
    store = SqliteStore(path, clock_ms=clock)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot open"):
            await store.count()
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    assert await store.count() == 0
    await store.aclose()


async def test_a_file_that_another_program_locks_is_unavailable_not_waited_for_without_end(
    store, given, path, monkeypatch
):
    monkeypatch.setattr(schema, "STORE_BUSY_MS", 20)
    record = await given.session()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    answers = await asyncio.gather(
        *[store.touch(record.session_id) for _ in range(5)], store.end("nobody"), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert "locked" in str(answers[0])
    other.execute("rollback")
    other.close()
    assert await store.touch(record.session_id) == record.mapping


async def test_readers_do_not_wait_for_a_program_that_writes(store, given, path):
    record = await given.session()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    assert await store.get(record.session_id) == record
    other.execute("rollback")
    other.close()


async def test_a_closed_store_answers_nothing(store, given):
    await given.session()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.count()


async def test_an_unused_store_makes_no_file_and_no_thread(path, clock):
    store = SqliteStore(path, clock_ms=clock)
    await store.aclose()
    assert not path.exists()


class Gate:
    """A worker's connection that waits until it may go on."""

    def __init__(self, path):
        self.path = path
        self.open = threading.Event()
        self.begun = []

    def __call__(self):
        self.open.wait()
        connection = schema.connect(self.path)
        connection.set_trace_callback(self.begun.append)
        return connection


async def test_jobs_that_wait_share_a_transaction(path):
    gate = Gate(path)
    worker = SqliteWorker(gate)
    jobs = [asyncio.ensure_future(worker.write(lambda database, n=n: n)) for n in range(150)]
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(*jobs) == list(range(150))
    begun = [text for text in gate.begun if text.lower().startswith("begin")]
    assert 2 <= len(begun) <= 3
    await worker.aclose()


async def test_a_job_at_fault_does_not_take_others_with_it(path):
    gate = Gate(path)
    worker = SqliteWorker(gate)

    def insert(session_id):
        return lambda database: database.execute("insert into ended values (?, 1)", (session_id,)).rowcount

    def break_off(database):
        database.execute("insert into ended values ('half', 1)")
        raise ZeroDivisionError

    jobs = [asyncio.ensure_future(worker.write(each)) for each in (insert("a"), break_off, insert("b"))]
    await asyncio.sleep(0)
    gate.open.set()
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert [answers[0], type(answers[1]), answers[2]] == [1, ZeroDivisionError, 1]
    kept = await worker.read(lambda database: database.execute("select session_id from ended").fetchall())
    assert kept == [("a",), ("b",)]
    await worker.aclose()


async def test_a_caller_that_is_cancelled_disturbs_nobody(path):
    gate = Gate(path)
    worker = SqliteWorker(gate)
    cancelled, other = (asyncio.ensure_future(worker.write(lambda database: 1)) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    gate.open.set()
    assert await other == 1
    assert cancelled.cancelled()
    await worker.aclose()


async def test_jobs_given_before_closing_are_done(path):
    gate = Gate(path)
    worker = SqliteWorker(gate)
    job = asyncio.ensure_future(worker.write(lambda database: 1))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(worker.aclose())
    await asyncio.sleep(0)
    gate.open.set()
    await closing
    assert await job == 1


def test_a_loop_that_is_gone_is_not_woken(path):
    gate = Gate(path)
    worker = SqliteWorker(gate)

    async def leave():
        asyncio.ensure_future(worker.write(lambda database: 1)).cancel()
        await asyncio.sleep(0)
        lost = asyncio.ensure_future(worker.write(lambda database: 1))
        await asyncio.sleep(0)
        lost.cancel()

    asyncio.run(leave())
    gate.open.set()

    async def ask():
        answer = await worker.write(lambda database: 2)
        await worker.aclose()
        return answer

    assert asyncio.run(ask()) == 2


async def test_writing_happens_off_the_event_loop(store, given):
    loop_thread = threading.get_ident()
    seen = []
    await store._worker.write(lambda database: seen.append((threading.get_ident(), os.getpid())))
    assert seen[0][0] != loop_thread


async def test_a_stream_that_goes_on_for_ever_does_not_grow_the_file_for_ever(store, given, path):
    session_id, stream_id = await given.stream()
    sizes = []
    for n in range(600):
        await store.append(session_id, stream_id, [Event(b"x" * 10_000)], position=n)
        if n in (250, 599):
            await store._worker.write(lambda database: None)
            pages = await store._worker.read(lambda database: database.execute("pragma page_count").fetchone()[0])
            sizes.append(pages)
    assert sizes[1] <= sizes[0] * 1.1
