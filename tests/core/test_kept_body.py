"""A kept body is bounded, says what it left out, and knows when each kept chunk came."""

import pytest

from shadowcat_core.kept_body import KeptBody
from shadowcat_core.limits import CHUNK_OVERHEAD_BYTES

EVENT = b"data: 0123456789\n\n"
COST = len(EVENT) + CHUNK_OVERHEAD_BYTES


def test_a_small_body_is_kept_whole_with_its_times():
    kept = KeptBody(100_000)
    for i in range(3):
        kept.add(i * 10, EVENT)
    assert kept.content() == EVENT * 3
    assert kept.times() == [[18, 0], [36, 10], [54, 20]]
    assert kept.dropped_bytes == 0


def test_a_long_body_keeps_its_beginning_and_its_latest_part():
    kept = KeptBody(COST * 4)
    for i in range(100):
        kept.add(i, b"data: %010d\n\n" % i)
    content = kept.content()
    assert content.startswith(b"data: 0000000000\n\ndata: 0000000001\n\n\n\n: shadowcat: ")
    assert content.endswith(b"\n\ndata: 0000000098\n\ndata: 0000000099\n\n")
    assert b"%d bytes of this stream are not kept here" % (96 * len(EVENT)) in content
    assert kept.dropped_bytes == 96 * len(EVENT)
    assert [at_us for _, at_us in kept.times()] == [0, 1, 98, 98, 99]
    assert kept.times()[-1][0] == len(content)


def test_the_copy_stays_bounded_whatever_the_chunks():
    for size in (1, 50, 5_000):
        kept = KeptBody(20_000)
        for i in range(2_000):
            kept.add(i, bytes(size))
        assert len(kept.content()) <= 20_000
        assert len(kept.times()) <= 20_000 // CHUNK_OVERHEAD_BYTES + 1


def test_a_chunk_larger_than_the_limit_is_left_out_and_counted():
    kept = KeptBody(1_000)
    kept.add(0, bytes(10_000))
    kept.add(1, b"data: after\n\n")
    assert kept.dropped_bytes == 10_000
    assert kept.content().endswith(b"data: after\n\n")


@pytest.mark.parametrize("chunks", [10, 1_000])
def test_without_a_tail_only_the_beginning_is_kept(chunks):
    kept = KeptBody(COST * 5, keep_tail=False)
    for i in range(chunks):
        kept.add(i, EVENT)
    assert kept.content() == EVENT * 5
    assert kept.dropped_bytes == (chunks - 5) * len(EVENT)
