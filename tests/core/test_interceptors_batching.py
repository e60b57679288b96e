"""Collecting the batches of several chunks, for who trades latency for size."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.interceptors import Batcher, BatchPolicy
from shadowcat_core.messages import MessageBatch
from shadowcat_core.sse import SseParser
from tests.core.interception import TO_CLIENT, events, lines

NOTE = b'{"method":"notifications/progress","params":{"progress":1},"jsonrpc":"2.0"}'
MS = 1_000_000


def test_a_complete_event_is_not_held_unless_somebody_asks_for_it():
    batcher = Batcher(BatchPolicy())
    batch = events([NOTE], TO_CLIENT)
    assert batcher.add(batch) is batch
    assert batcher.due_ns is None
    assert batcher.flush() is None


def at(ms, count=1):
    chunk = b"".join(b"id: %d\ndata: %s\n\n" % (n, NOTE) for n in range(count))
    return MessageBatch.of_frames(SseParser().feed(chunk), TO_CLIENT, ms * MS)


def test_the_first_message_says_when_a_batch_is_due():
    batcher = Batcher(BatchPolicy(max_delay_ms=2.5))
    assert batcher.add(at(10)) is None
    assert batcher.add(at(11)) is None
    assert batcher.due_ns == 12_500_000
    joined = batcher.flush()
    assert (len(joined), joined.at_ns, joined.context) == (2, 10 * MS, TO_CLIENT)
    assert batcher.due_ns is None
    assert batcher.add(at(20)) is None
    assert batcher.due_ns == 22_500_000


@pytest.mark.parametrize(
    ("policy", "counts", "sizes"),
    [
        (BatchPolicy(max_events=3, max_delay_ms=9), [1, 1, 1, 1], [None, None, 3, None]),
        (BatchPolicy(max_events=3, max_delay_ms=9), [2, 5, 1], [None, 7, None]),
        (BatchPolicy(max_events=1, max_delay_ms=9), [1, 1], [1, 1]),
        (BatchPolicy(max_bytes=300, max_delay_ms=9), [1, 1, 1, 1, 1, 1], [None, None, None, 4, None, None]),
        (BatchPolicy(max_events=1), [4, 4], [4, 4]),
    ],
)
def test_a_batch_that_is_large_enough_is_not_held_longer(policy, counts, sizes):
    batcher = Batcher(policy)
    given_ = [batcher.add(at(n, count)) for n, count in enumerate(counts)]
    assert [None if batch is None else len(batch) for batch in given_] == sizes


@pytest.mark.parametrize(
    "settings",
    [
        {"max_events": 0},
        {"max_bytes": 0},
        {"max_delay_ms": -1},
        {"max_delay_ms": float("nan")},
        {"max_delay_ms": 1e400},
    ],
)
def test_a_policy_that_makes_no_sense_cannot_be_made(settings):
    with pytest.raises(ValueError, match="no batch can be made by"):
        BatchPolicy(**settings)


parts = st.lists(
    st.sampled_from(
        [
            b"id: 1\r\ndata: " + NOTE + b"\r\n\r\n",
            b"data: [" + NOTE + b"]\n\n",
            b"data: {\ndata: }\n\n",
            b": ping\n\n",
            b"id: 2\ndata:\n\n",
            b"\n",
        ]
    ),
    min_size=1,
    max_size=8,
)


@given(parts, st.lists(st.integers(0, 500), max_size=6), st.booleans())
def test_joined_batches_hold_the_same_messages_and_bytes(chunks, cuts, drop):
    stream = b"".join(chunks)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parser, batcher = SseParser(), Batcher(BatchPolicy(max_delay_ms=9, max_events=99, max_bytes=99_999))
    expected = []
    for start, end in itertools.pairwise(edges):
        batch = MessageBatch.of_frames(parser.feed(stream[start:end]), TO_CLIENT)
        expected += [(message.raw, message.event_id) for message in batch]
        assert batcher.add(batch) is None
    joined = batcher.flush()
    assert [(message.raw, message.event_id) for message in joined] == expected
    assert joined.emit() + parser.close() == stream
    if drop and expected:
        joined.drop(0)
        assert [message.raw for message in joined] == [raw for raw, _ in expected[1:]]


def test_lines_are_joined_like_events():
    batcher = Batcher(BatchPolicy(max_delay_ms=1))
    batcher.add(lines([NOTE], TO_CLIENT))
    batcher.add(lines([NOTE, b"talk"], TO_CLIENT))
    joined = batcher.flush()
    assert joined.emit() == NOTE + b"\n" + NOTE + b"\ntalk\n"
    joined.drop(1)
    assert joined.emit() == NOTE + b"\ntalk\n"
