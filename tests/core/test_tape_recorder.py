"""The recorder: nothing stranded, nothing lost in silence, whatever the disk and the clock do."""

import subprocess
import sys
import threading
from collections import deque

import pytest

from shadowcat_core.tape.records import End, Open
from tests.core.tape_parts import ORIGIN_NS, WAITING_S, Gate, Recording, chunk


def test_what_is_put_is_in_the_file_after_a_flush():
    with Recording() as (recorder, disk, failures):
        records = [chunk(1), chunk(2, b"\xff"), End(ORIGIN_NS + 3000, 1, "eof")]
        for record in records:
            recorder.put(record)
        assert disk.records() == []
        assert recorder.waiting == 3
        assert recorder.flush()
        assert disk.records() == records
        assert (recorder.recorded, recorder.dropped, recorder.waiting) == (3, 0, 0)
        assert recorder.bytes_written == len(disk.data)
        assert recorder.high_water == 3
        assert failures == []


def test_the_header_is_on_disk_before_anything_is_recorded():
    with Recording() as (recorder, disk, _):
        assert disk.data.startswith(b'{"kind":"header","format":"shadowcat-tape","version":1')
        assert recorder.recorded == 0


def test_a_flush_is_one_write():
    with Recording() as (recorder, disk, _):
        for t in range(50):
            recorder.put(chunk(t))
        recorder.flush()
        assert len(disk.writes) == 2  # the header's and this one
        assert recorder.flushes == 2


def test_a_backlog_is_written_in_pieces_of_bounded_size():
    with Recording() as (recorder, disk, _):
        for t in range(40):
            recorder.put(chunk(t, b"x" * 100_000))
        recorder.flush()
        assert len(disk.writes) > 3
        assert max(map(len, disk.writes)) < 2_000_000
        assert len(disk.records()) == 40


def test_the_writer_wakes_every_interval():
    gate = Gate()
    with Recording(gate=gate, flush_ms=250) as (recorder, disk, _):
        recorder.put(chunk(1))
        gate.step()
        assert disk.records() == [chunk(1)]
        assert gate.asked_s[0] == 0.25
        assert gate.was_woken == [False]
        gate.open()


def test_a_full_buffer_wakes_the_writer_early_and_only_once():
    gate = Gate()
    with Recording(gate=gate, flush_records=10) as (recorder, disk, _):
        for t in range(25):
            recorder.put(chunk(t))
        gate.step()
        assert gate.was_woken == [True]
        assert len(disk.records()) == 25
        for t in range(9):
            recorder.put(chunk(t))
        gate.step()
        assert gate.was_woken == [True, False]
        for t in range(10):
            recorder.put(chunk(t))
        gate.step()
        assert gate.was_woken == [True, False, True]
        gate.open()


def test_a_record_put_while_a_flush_writes_is_not_stranded():
    """The classic loss: it comes after the queue was looked at, and before the writer sleeps again."""
    gate = Gate()
    late = [chunk(t, b"late") for t in range(20)]
    with Recording(gate=gate, flush_records=10) as (recorder, disk, _):
        write = disk.write

        def write_while_more_comes(data):
            while late:
                recorder.put(late.pop())
            return write(data)

        disk.write = write_while_more_comes
        recorder.put(chunk(0))
        gate.step()
        assert len(disk.records()) == 21
        assert recorder.waiting == 0
        gate.open()


def test_a_record_put_between_the_last_look_and_the_wait_wakes_the_writer():
    gate = Gate()
    with Recording(gate=gate, flush_records=1) as (recorder, disk, _):
        gate.arrive()
        recorder.put(chunk(1))  # the writer is at its wait and has looked at an empty queue
        gate._arrived.release()
        gate.step()
        assert gate.was_woken == [True]
        assert disk.records() == [chunk(1)]
        gate.open()


def test_closing_writes_what_waits_and_counts_what_comes_later():
    recording = Recording()
    with recording as (recorder, disk, _):
        recorder.put(chunk(1))
        assert recorder.close()
        assert disk.closed
        assert disk.records() == [chunk(1)]
        recorder.put(chunk(2))
        assert (recorder.recorded, recorder.dropped, recorder.waiting) == (1, 1, 0)
        assert recorder.flush()
        assert recorder.close()


def test_closing_on_a_full_disk_does_not_hang_and_counts_the_loss():
    with Recording(queue_records=3) as (recorder, disk, failures):
        disk.fill_up()
        recorder.put(chunk(1))
        recorder.flush()
        for t in range(2, 12):
            recorder.put(chunk(t))
        assert not recorder.close()
        assert not recorder.close()
        assert (recorder.recorded, recorder.dropped) == (0, 11)
        assert len(failures) == 1


def test_a_late_failure_on_closing_is_reported():
    with Recording() as (recorder, disk, failures):
        disk.fails_to_close = True
        assert not recorder.close()
        assert len(failures) == 1


def test_closing_gives_up_waiting_for_a_disk_that_hangs():
    release = threading.Event()
    with Recording() as (recorder, disk, _):
        write = disk.write
        disk.write = lambda data: (release.wait(WAITING_S), write(data))[1]
        recorder.put(chunk(1))
        assert not recorder.close(timeout_s=0.01)
        release.set()
        assert recorder.close()
        assert disk.records() == [chunk(1)]


@pytest.mark.parametrize("mode", ["background", "standard"])
def test_every_record_put_while_another_thread_closes_is_recorded_or_counted(mode):
    for attempt in range(20):
        with Recording(mode=mode, flush_records=3) as (recorder, disk, _):
            begun = threading.Event()

            def produce(recorder=recorder, begun=begun, attempt=attempt):
                for t in range(400):
                    recorder.put(chunk(t))
                    if t == attempt * 5:
                        begun.set()

            producer = threading.Thread(target=produce)
            producer.start()
            assert begun.wait(WAITING_S)
            recorder.close()
            producer.join()
            assert recorder.recorded + recorder.dropped == 400
            assert recorder.waiting == 0
            assert disk.records() == [chunk(t) for t in range(recorder.recorded)]


def test_a_put_caught_in_the_middle_by_close_is_counted():
    with Recording() as (recorder, disk, _):

        class Interrupted(deque):
            def append(self, record):
                recorder.close()  # another thread's, after the bound was checked and before the record is in
                super().append(record)

        recorder._queue = Interrupted()
        recorder.put(chunk(1))
        assert disk.closed
        assert (recorder.waiting, recorder.recorded, recorder.dropped) == (0, 0, 1)


def test_standard_mode_has_the_record_on_disk_when_put_returns():
    with Recording(mode="standard") as (recorder, disk, _):
        for t in range(3):
            recorder.put(chunk(t))
            assert disk.records() == [chunk(n) for n in range(t + 1)]
        assert recorder._thread is None


def test_standard_mode_survives_a_full_disk():
    with Recording(mode="standard", queue_records=3) as (recorder, disk, failures):
        disk.fill_up()
        for t in range(10):
            recorder.put(chunk(t))
        assert len(failures) == 1
        disk.capacity = 10**9
        recorder.flush()
        assert recorder.recorded + recorder.dropped == 10
        assert recorder.dropped == disk.records()[-1].records > 0


def test_redaction_happens_before_anything_is_written():
    def redact(record):
        return Open(record.at_ns, 1, "f", "POST", "http://redacted/", "HTTP/1.1", [])

    with Recording(redact=redact) as (recorder, disk, _):
        recorder.put(Open(ORIGIN_NS, 1, "f", "POST", "http://h/?token=hush", "HTTP/1.1", [("A", "hush")]))
        recorder.flush()
        assert b"hush" not in disk.data


IN_A_CHILD = """
import os, sys, time
from pathlib import Path
from shadowcat_core.tape.recorder import Recorder
from tests.core.tape_parts import as_it_is, chunk, header

recorder = Recorder(Path(sys.argv[1]), header(), redact=as_it_is, on_failure=print, flush_ms=20)
"""


def run_child(tmp_path, program, **options):
    path = tmp_path / "a.tape.jsonl"
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_A_CHILD + program, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert child.stderr == ""
    return path.read_text(), child


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path):
    tape, child = run_child(tmp_path, "for t in range(1000): recorder.put(chunk(t, b'<%d>' % t))")
    assert child.returncode == 0
    assert all(f"<{t}>" in tape for t in range(1000))


def test_a_forked_child_never_touches_the_tape(tmp_path):
    program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that a thread runs is the point
recorder.put(chunk(1, b"parent"))
pid = os.fork()
if pid == 0:
    for t in range(500):
        recorder.put(chunk(t, b"child"))
    recorder._max_records = 0
    recorder.put(chunk(0, b"child"))
    sys.exit(recorder.flush() or recorder.close())
_, status = os.waitpid(pid, 0)
recorder.close()
print(status)
"""
    tape, child = run_child(tmp_path, program)
    assert child.stdout == "0\n"
    assert tape.count("parent") == 1
    assert "child" not in tape
