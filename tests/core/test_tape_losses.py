"""What a recorder does when queue, disk or redactor fail: the wire waits for nothing, the tape counts every loss."""

import os

import pytest

from shadowcat_core.tape.records import Chunk, Gap, Note
from tests.core.tape_parts import ORIGIN_NS, Gate, Recording, chunk


def gaps(records):
    return [record for record in records if isinstance(record, Gap)]


def test_a_full_queue_drops_from_the_tape_and_counts_exactly():
    with Recording(queue_records=3) as (recorder, disk, _):
        for t in range(3):
            recorder.put(chunk(t))
        for t in range(5):
            recorder.put(chunk(10 + t, b"12345678", exchange=2 + t % 2))
        recorder.flush()
        recorder.put(chunk(20))
        recorder.flush()
        lost = Gap(ORIGIN_NS + 10_000, 5, 40, "the queue was full", [2, 3])
        assert disk.records() == [chunk(0), chunk(1), chunk(2), lost, chunk(20)]
        assert (recorder.recorded, recorder.dropped) == (4, 5)


def test_the_queue_is_bounded_in_bytes_too():
    with Recording(queue_bytes=10_000) as (recorder, disk, _):
        for t in range(20):
            recorder.put(chunk(t, b"x" * 5_000))
        assert recorder.waiting == 3  # two, and the gap
        recorder.flush()
        assert [record.records for record in gaps(disk.records())] == [18]
        recorder.put(chunk(99, b"y" * 5_000))
        recorder.flush()
        assert disk.records()[-1] == chunk(99, b"y" * 5_000)


def test_one_huge_record_is_taken_when_there_is_room_at_all():
    body = os.urandom(20_000_000)
    with Recording(queue_bytes=1_000_000) as (recorder, disk, _):
        recorder.put(chunk(1, body))
        recorder.flush()
        assert disk.records() == [chunk(1, body)]


def test_losses_at_different_places_are_different_gaps():
    with Recording(queue_records=2) as (recorder, disk, _):
        for start in (0, 100):
            for t in range(4):
                recorder.put(chunk(start + t))
            recorder.flush()
        kinds = [type(record) for record in disk.records()]
        assert kinds == [Chunk, Chunk, Gap, Chunk, Chunk, Gap]
        assert [record.records for record in gaps(disk.records())] == [2, 2]


def test_a_loss_after_something_was_accepted_again_has_its_own_gap():
    """Room can appear while a gap still waits: the bound in bytes lets a record in where the one on records did not."""
    with Recording(queue_records=100, queue_bytes=2_000) as (recorder, disk, _):
        recorder.put(chunk(0, b"x" * 4_000))
        recorder.put(chunk(1))
        recorder._bytes_out += 4_000  # as if the writer had taken the first
        recorder.put(chunk(2))
        recorder._bytes_out -= 4_000
        recorder.put(chunk(3))
        recorder.flush()
        assert [type(record) for record in disk.records()] == [Chunk, Gap, Chunk, Gap]
        assert (recorder.recorded, recorder.dropped) == (2, 2)


def test_a_loss_while_its_gap_is_being_written_is_in_the_next_gap():
    more = [chunk(10), chunk(11)]

    def redact(record):
        if isinstance(record, Gap):
            while more:
                recorder.put(more.pop())
        return record

    with Recording(queue_bytes=100, redact=redact) as (recorder, disk, _):
        recorder.put(chunk(0))
        recorder.put(chunk(1))
        recorder.flush()
        assert [record.records for record in gaps(disk.records())] == [1, 2]
        assert (recorder.recorded, recorder.dropped) == (1, 3)


def test_a_gap_names_a_bounded_number_of_exchanges_and_counts_all():
    with Recording(queue_records=1) as (recorder, disk, _):
        recorder.put(chunk(0))
        for n in range(3_000):
            recorder.put(chunk(1, exchange=n))
        recorder.put(Note(ORIGIN_NS, None, "about the whole tape"))
        recorder.flush()
        (gap,) = gaps(disk.records())
        assert gap.records == 3_001
        assert len(gap.exchanges) == 1_000


def test_a_full_disk_costs_nothing_but_time():
    with Recording() as (recorder, disk, failures):
        recorder.put(chunk(1))
        recorder.flush()
        disk.fill_up()
        for t in range(2, 5):
            recorder.put(chunk(t))
            assert not recorder.flush()
        assert recorder.failures == 3
        assert len(failures) == 1
        assert isinstance(failures[0], OSError)
        disk.capacity = 10**9
        assert recorder.flush()
        assert disk.records() == [chunk(t) for t in range(1, 5)]
        assert recorder.dropped == 0


def test_a_second_outage_is_reported_again():
    with Recording() as (recorder, disk, failures):
        for outage in range(2):
            disk.fill_up()
            recorder.put(chunk(outage))
            recorder.flush()
            disk.capacity = 10**9
            recorder.flush()
        assert len(failures) == 2


def test_a_long_outage_becomes_a_gap():
    with Recording(queue_records=10) as (recorder, disk, _):
        disk.fill_up()
        recorder.put(chunk(0))
        recorder.flush()
        for t in range(1, 101):
            recorder.put(chunk(t))
        disk.capacity = 10**9
        recorder.flush()
        *kept, gap = disk.records()
        assert kept == [chunk(t) for t in range(11)]
        assert gap.records == 90
        assert (recorder.recorded, recorder.dropped) == (11, 90)


@pytest.mark.parametrize("room", [1, 50, 100])
def test_a_write_that_fails_half_way_leaves_no_half_line(room):
    with Recording() as (recorder, disk, _):
        whole = disk.data
        disk.capacity = len(disk.data) + room
        recorder.put(chunk(1, b"x" * 200))
        recorder.flush()
        assert disk.data == whole
        disk.capacity = 10**9
        recorder.flush()
        assert disk.records() == [chunk(1, b"x" * 200)]


def test_a_disk_that_cannot_even_be_cut_back_is_cut_back_later():
    with Recording() as (recorder, disk, failures):
        disk.capacity = len(disk.data) + 5
        disk.truncate, truncate = lambda _size: (_ for _ in ()).throw(OSError("no")), disk.truncate
        recorder.put(chunk(1))
        recorder.flush()
        recorder.flush()
        disk.truncate = truncate
        disk.capacity = 10**9
        recorder.flush()
        assert disk.records() == [chunk(1)]
        assert len(failures) == 1


def test_a_disk_that_takes_little_at_a_time_is_written_to_the_end():
    with Recording() as (recorder, disk, _):
        disk.most_per_write = 7
        recorder.put(chunk(1))
        recorder.flush()
        assert disk.records() == [chunk(1)]


def test_a_file_that_takes_nothing_is_a_failure_and_no_endless_loop():
    with Recording() as (recorder, disk, failures):
        disk.write, write = lambda _data: None, disk.write
        recorder.put(chunk(1))
        assert not recorder.flush()
        assert len(failures) == 1
        disk.write = write


def test_while_the_disk_fails_more_records_do_not_make_the_writer_hurry():
    gate = Gate()
    with Recording(gate=gate, flush_records=2) as (recorder, disk, _):
        disk.fill_up()
        recorder.put(chunk(0))
        gate.step()
        for t in range(1, 20):
            recorder.put(chunk(t))
        gate.step()
        assert gate.was_woken == [False, False]
        disk.capacity = 10**9
        gate.step()
        assert disk.records() == [chunk(t) for t in range(20)]
        gate.open()


def test_a_record_that_cannot_be_redacted_is_never_stored():
    def redact(record):
        if b"secret" in record.data:
            raise LookupError("oops, secret")
        return record

    with Recording(redact=redact) as (recorder, disk, failures):
        recorder.put(chunk(1))
        recorder.put(chunk(2, b"my secret"))
        recorder.put(chunk(3))
        recorder.flush()
        lost = Gap(ORIGIN_NS + 2000, 1, 9, "a record of kind chunk could not be stored: LookupError", [1])
        assert disk.records() == [chunk(1), lost, chunk(3)]
        assert b"secret" not in disk.data
        assert (recorder.recorded, recorder.dropped) == (2, 1)
        assert failures == []


def test_a_record_that_is_not_json_becomes_a_gap():
    with Recording() as (recorder, disk, _):
        recorder.put(Note(ORIGIN_NS, None, "odd", data=object()))
        recorder.put(Note(ORIGIN_NS, None, "fine"))
        recorder.flush()
        gap, note = disk.records()
        assert gap.reason == "a record of kind note could not be stored: TypeError"
        assert note.text == "fine"
