"""Record what passes without slowing it down: a bounded queue on the event loop, one thread that empties it.

`put` is an append. The thread writes 100 records at a time, or what there is every 100 ms. What the disk cannot take
waits; what the queue cannot hold is dropped from the tape, never from the wire, and counted on the tape as a `gap` at
the place of the loss. Every record put is in the end either `recorded` or `dropped`, whatever happens in between.

A clean exit loses nothing, with `close` or without; a kill -9 loses what the last interval brought. The thread is not
a daemon: it sees the main thread end, drains and stops. A forked child has no thread and never touches the file.

Plain text is the default: a record of 270 bytes costs the writer 1.4 µs (1.8 µs with zstd level 1), one of 20 KB 30 µs
(97 µs), and a person can read the file while it grows. zstd makes a third of the size and compresses with the
interpreter lock released; take it for tapes to keep (CPython 3.13.0 without PGO; `benches/bench_recorder.py`).
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from shadowcat_core import limits
from shadowcat_core.tape.records import RECORD_OVERHEAD_BYTES, Chunk, Gap, Header, Record, held_bytes, payload_bytes
from shadowcat_core.tape.writer import ZSTD_SUFFIX, Redactor, TapeFile, TapeWriter, open_private

type Mode = Literal["background", "standard"]
type Wait = Callable[[threading.Event, float], object]

NEVER = sys.maxsize


class _Loss(Gap):
    """A gap in the queue that still counts; `touched` becomes its `exchanges` when it is written."""

    __slots__ = ("touched",)

    def __init__(self, at_ns: int, reason: str) -> None:
        super().__init__(at_ns, 0, 0, reason)
        self.touched: set[int] = set()


class Recorder:
    """One tape being written.

    `put` belongs to one thread, the event loop's; everything else may be called from any. In mode `background` a
    thread writes; in mode `standard` each `put` returns after its record was handed to the operating system.
    `on_failure` hears of a failing write once until writing works again, on the thread that wrote.

    Counters, to be read at any time: `dropped` records, `failures` of writes, `flushes` that wrote, `high_water`
    of the queue in records, `recorded` records and `bytes_written` of the file.

    Raises: TapeError when the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        *,
        redact: Redactor,
        on_failure: Callable[[Exception], None],
        mode: Mode = "background",
        flush_records: int = limits.TAPE_FLUSH_RECORDS,
        flush_ms: float = limits.TAPE_FLUSH_MS,
        queue_records: int = limits.TAPE_QUEUE_RECORDS,
        queue_bytes: int = limits.TAPE_QUEUE_BYTES,
        open_file: Callable[[Path], TapeFile] = open_private,
        wait: Wait = threading.Event.wait,
    ) -> None:
        self.path = path
        self.failures = 0
        self.high_water = 0
        self._on_failure = on_failure
        self._flush_records = flush_records if mode == "background" else 1
        self._flush_s = flush_ms / 1000
        self._wait = wait
        self._pid = os.getpid()
        # Plain numbers: comparing with a `Limit` in `put` would cost 20 ns.
        self._max_records = int(queue_records)
        self._max_bytes = int(queue_bytes)
        self._queue: deque[Record] = deque()
        # The putting thread counts what goes in, the writing thread what comes out: no lock between them.
        self._bytes_in = 0
        self._bytes_out = 0
        self._wake_at = self._flush_records
        self._woken = threading.Event()
        self._closing = False
        self._finished = False
        self._failing = False
        self._flush_lock = threading.Lock()
        self._loss_lock = threading.Lock()
        self._loss: _Loss | None = None
        # Counted on the putting thread and on the writing one, each its own.
        self._dropped_putting = 0
        self._dropped_writing = 0
        self._losses_in = 0
        self._losses_out = 0
        self._loss_bytes_in = 0
        self._complete = False
        self._writer = TapeWriter(open_file(path), header, redact, compress=path.suffix == ZSTD_SUFFIX)
        self._thread: threading.Thread | None = None
        self.flush()
        if mode == "background":
            self._thread = threading.Thread(target=self._run, name=f"tape writer {path.name}", daemon=False)
            self._thread.start()

    @property
    def dropped(self) -> int:
        """Records that are not on the tape and never will be."""
        return self._dropped_putting + self._dropped_writing

    @property
    def recorded(self) -> int:
        """Records that are in the file."""
        return self._writer.recorded

    @property
    def bytes_written(self) -> int:
        """Size of the file."""
        return self._writer.bytes_written

    @property
    def flushes(self) -> int:
        """Writes that succeeded, the header's included."""
        return self._writer.writes

    @property
    def waiting(self) -> int:
        """Records that are not in the file yet."""
        return len(self._queue) + self._writer.pending_records

    @property
    def waiting_bytes(self) -> int:
        """What those in the queue hold in memory."""
        return self._bytes_in - self._bytes_out

    def put(self, record: Record) -> None:
        """Take `record` for the tape. Never raises for a full queue or disk; after `close` it counts as dropped."""
        queue = self._queue
        if len(queue) >= self._max_records or self._bytes_in - self._bytes_out >= self._max_bytes:
            self._drop(record)
            return
        if type(record) is Chunk:
            self._bytes_in += len(record.data) + RECORD_OVERHEAD_BYTES
        else:
            self._bytes_in += held_bytes(record)
        queue.append(record)
        if len(queue) >= self._wake_at:
            self._wake()

    def flush(self) -> bool:
        """Write all that waits, now, on this thread; blocks for as long as the disk does.

        Returns True when everything put before is in the file, False when a write failed: it is tried again later.
        """
        if os.getpid() != self._pid:
            return False
        with self._flush_lock:
            if self._finished:
                return self._discard()
            try:
                self._writer.write()
                while self._take():
                    self._writer.write()
            except OSError as exc:
                self.failures += 1
                if not self._failing:
                    self._failing = True
                    self._on_failure(exc)
                return False
            self._failing = False
            return True

    def close(self, timeout_s: float = 5.0) -> bool:
        """Write all that waits and close the file; what is put later is dropped and counted.

        Returns True when everything put is on the tape or in one of its gaps. When the disk refuses to the end it
        returns False, and `dropped` counts what is lost. When the disk takes more than `timeout_s` it returns False
        and the thread goes on writing.
        """
        self._closing = True
        self._max_records = 0
        self._woken.set()
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        # A `put` that was past its first line when this began now flushes its own record, which counts it.
        self._wake_at = 0
        return self._finish()

    def _run(self) -> None:
        main = threading.main_thread()
        while not self._closing and main.is_alive():
            self._wait(self._woken, self._flush_s)
            # In this order: a record put after the reset wakes again, one put before it is taken by this flush.
            self._woken.clear()
            self._wake_at = self._flush_records
            if not self.flush():
                # The disk is failing: more records are no reason to try sooner.
                self._wake_at = NEVER
        self._closing = True
        self._max_records = 0
        self._finish()

    def _finish(self) -> bool:
        if os.getpid() != self._pid:
            return False
        complete = self.flush()
        with self._flush_lock:
            if not self._finished:
                self._finished = True
                self._dropped_writing += self._writer.pending_records
                self._discard()
                try:
                    self._writer.close()
                except OSError as exc:
                    complete = False
                    self.failures += 1
                    self._on_failure(exc)
                self._complete = complete
            return self._complete

    def _discard(self) -> bool:
        """Count what came too late for the file. Returns True when there was nothing."""
        late = [self._queue.popleft() for _ in range(len(self._queue))]
        lost = sum(type(record) is not _Loss for record in late)
        self._dropped_writing += lost
        return lost == 0

    def _wake(self) -> None:
        if self._thread is None or self._closing:
            self.flush()
            return
        # In this order: `_wake_at` is NEVER only while the event is set or about to be, so no wake-up is lost.
        self._wake_at = NEVER
        self._woken.set()

    def _take(self) -> bool:
        """Move the next write's worth of records to the writer. Returns False when there are none."""
        queue = self._queue
        waiting = len(queue)
        if not waiting:
            return False
        # The queue only grows between two takes, so its highest point is here.
        self.high_water = max(self.high_water, waiting)
        batch: list[Record] = []
        size = 0
        max_size = int(limits.TAPE_FLUSH_BYTES)
        while len(batch) < waiting and size < max_size:
            record = queue.popleft()
            batch.append(record)
            size += len(record.data) + RECORD_OVERHEAD_BYTES if type(record) is Chunk else held_bytes(record)
        losses = 0 if self._losses_in == self._losses_out else self._seal(batch)
        self._dropped_writing += self._writer.take(batch, len(batch) - losses)
        self._bytes_out += size
        return True

    def _seal(self, batch: list[Record]) -> int:
        """Make the losses in `batch` final: nothing is counted into them any more. Returns how many there are."""
        with self._loss_lock:
            losses = [record for record in batch if isinstance(record, _Loss)]
            for loss in losses:
                loss.exchanges = sorted(loss.touched)
                if loss is self._loss:
                    self._loss = None
            self._losses_out += len(losses)
            return len(losses)

    def _drop(self, record: Record) -> None:
        if os.getpid() != self._pid:
            return
        with self._loss_lock:
            self._dropped_putting += 1
            if self._closing:
                return
            loss = self._loss
            # Something was accepted since the last loss: this one has its own place on the tape.
            if loss is None or self._loss_bytes_in != self._bytes_in:
                loss = self._loss = _Loss(record.at_ns, "the queue was full")
                self._losses_in += 1
                self._bytes_in += held_bytes(loss)
                self._loss_bytes_in = self._bytes_in
                self._queue.append(loss)
            loss.records += 1
            loss.size += payload_bytes(record)
            exchange = getattr(record, "exchange", None)
            if exchange is not None and len(loss.touched) < limits.TAPE_GAP_EXCHANGES:
                loss.touched.add(exchange)
