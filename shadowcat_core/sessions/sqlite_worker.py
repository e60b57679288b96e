"""One thread that talks to SQLite for an event loop: jobs that wait together share one transaction.

A transaction costs more than most jobs in it. While one is committed the next jobs gather, so the batch grows with the
load and nothing waits for company. Each job's answer is given only when its transaction is on disk (in the write-ahead
log), so nothing is lost when the process ends; hence a daemon thread, which never keeps a program from ending.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Final

from shadowcat_core.errors import ShadowcatError, StoreError, StoreUnavailable

type Work[T] = Callable[[sqlite3.Connection], T]

_MAX_BATCH: Final = 100


class _Job:
    """What is to be done, and who waits for it. `failed` is set for whatever the work raised."""

    __slots__ = ("answer", "failed", "loop", "waiting", "work", "writes")

    def __init__(self, work: Work[Any], *, writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.loop = asyncio.get_running_loop()
        self.waiting: asyncio.Future[Any] = self.loop.create_future()
        self.answer: Any = None
        self.failed: Exception | None = None

    def deliver(self) -> None:
        """Wake who waits. Runs on the event loop."""
        if self.waiting.done():  # cancelled meanwhile
            return
        if self.failed is None:
            self.waiting.set_result(self.answer)
        else:
            self.waiting.set_exception(self.failed)


class SqliteWorker:
    """Runs functions of a connection on a thread of its own, in the order in which they were given.

    `connect` opens the database on that thread; when it fails the next job tries again.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def read[T](self, work: Work[T]) -> T:
        """Run `work`, which changes nothing: other processes may write at the same time."""
        answer: T = await self._run(_Job(work, writes=False))
        return answer

    async def write[T](self, work: Work[T]) -> T:
        """Run `work`, which may change something.

        Raises:
            StoreUnavailable: SQLite failed; the transaction with all of its jobs was rolled back.
        """
        answer: T = await self._run(_Job(work, writes=True))
        return answer

    async def aclose(self) -> None:
        """Do what was given before, then close the connection and end the thread."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    async def _run(self, job: _Job) -> Any:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="session store", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return await job.waiting

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while (batch := self._next_batch()) is not None:
            try:
                connection = connection or self._connect()
            except (OSError, sqlite3.Error, StoreError) as exc:
                for job in batch:
                    job.failed = exc if isinstance(exc, StoreError) else StoreUnavailable(f"cannot open: {exc}")
            else:
                _perform(connection, batch)
            _deliver(batch)
        if connection is not None:
            connection.close()

    def _next_batch(self) -> list[_Job] | None:
        """Wait for a job, and take those that came with it. None when it is time to end."""
        job = self._jobs.get()
        batch: list[_Job] = []
        while job is not None:
            batch.append(job)
            if len(batch) == _MAX_BATCH:
                return batch
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._jobs.put(None)
            return batch
        return None


def _perform(connection: sqlite3.Connection, batch: list[_Job]) -> None:
    """Do all jobs in one transaction; when one of them is at fault, each in its own."""
    try:
        # A transaction that begins as a reader and becomes a writer fails at once when another has written meanwhile.
        connection.execute("begin immediate" if any(job.writes for job in batch) else "begin")
        for job in batch:
            try:
                job.answer = job.work(connection)
            except ShadowcatError as exc:  # the work refused before it changed anything
                job.failed = exc
        connection.execute("commit")
    except sqlite3.Error as exc:
        _roll_back(connection)
        for job in batch:
            job.failed = StoreUnavailable(f"SQLite: {exc}")
    except Exception as exc:  # noqa: BLE001 -- whatever the work raised belongs to who asked for it
        _roll_back(connection)
        if len(batch) == 1:
            batch[0].failed = exc
            return
        for job in batch:
            job.failed = None
            _perform(connection, [job])


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("rollback")


def _deliver(batch: list[_Job]) -> None:
    """Wake each loop once for all of its jobs."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in batch:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_wake, jobs)


def _wake(jobs: list[_Job]) -> None:
    for job in jobs:
        job.deliver()
