"""A tap passes every byte, shows every message, and never breaks what it watches."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.content_coding import decoder_for
from shadowcat_core.framing import SseFraming
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import MessageContext
from shadowcat_core.stream import BURST_NS, StreamMetrics, StreamTap

CONTEXT = MessageContext(Direction.SERVER_TO_CLIENT, Transport.HTTP, exchange_id=1)


def event(number):
    return b'event: message\nid: %d\ndata: {"jsonrpc":"2.0","method":"notifications/n%d"}\n\n' % (number, number)


class Clock:
    """A clock that moves on at every look: by two milliseconds, so that no two chunks are one burst."""

    def __init__(self, step_ns=2 * BURST_NS):
        self.now_ns = 0
        self.step_ns = step_ns

    def __call__(self):
        self.now_ns += self.step_ns
        return self.now_ns


class Pipeline:
    """Calls a function on each batch."""

    active = frozenset({Direction.SERVER_TO_CLIENT})

    def __init__(self, edit, *, closed=False):
        self._edit = edit
        self._closed = closed

    def run(self, batch, release=None):
        self._edit(batch)

    def fails_closed(self, direction):
        return self._closed


def make_tap(framing="sse", **arguments):
    tap_failures = []
    tap = StreamTap(
        SseFraming(CONTEXT, max_event_bytes=arguments.pop("max_event_bytes", 10_000)) if framing == "sse" else framing,
        clock_ns=arguments.pop("clock_ns", Clock()),
        on_failure=tap_failures.append,
        **arguments,
    )
    return tap, tap_failures


def pass_through(tap, data, step=10_000):
    sent = []
    for i in range(0, len(data), step):
        pieces = tap(data[i : i + step])
        assert len(pieces) <= 1
        assert b"" not in pieces
        sent += pieces
    pieces = tap(b"")
    assert b"" not in pieces
    return b"".join(sent + pieces)


def methods(batches):
    return [message.method for batch in batches for message in batch]


def test_a_watching_tap_passes_each_chunk_as_it_is_and_shows_its_messages_later():
    batches = []
    tap, failures = make_tap(batch_sinks=[batches.append])
    chunk = event(1)
    assert tap(chunk) == [chunk]
    assert tap(chunk)[0] is chunk
    assert batches == []
    tap.catch_up()
    assert methods(batches) == ["notifications/n1", "notifications/n1"]
    assert failures == []


def test_messages_carry_the_time_of_the_chunk_that_completed_them():
    batches = []
    tap, _ = make_tap(batch_sinks=[batches.append])
    whole = event(1) + event(2)
    for piece in (whole[:10], whole[10:100], whole[100:]):
        tap.watch(piece)
    tap.catch_up()
    assert [message.at_ns for batch in batches for message in batch] == [4 * BURST_NS, 6 * BURST_NS]


def test_chunks_of_one_burst_are_seen_together_at_the_time_of_the_last():
    batches = []
    tap, _ = make_tap(batch_sinks=[batches.append], clock_ns=Clock(step_ns=BURST_NS // 4))
    for number in range(7):
        tap.watch(event(number))
    tap.catch_up()
    assert [[message.method for message in batch] for batch in batches] == [
        [f"notifications/n{number}" for number in range(5)],
        [f"notifications/n{number}" for number in range(5, 7)],
    ]
    assert [batch.at_ns for batch in batches] == [5 * BURST_NS // 4, 7 * BURST_NS // 4]


def test_a_burst_with_a_frame_over_the_limit_shows_what_came_before_it():
    batches = []
    tap, failures = make_tap(batch_sinks=[batches.append], clock_ns=Clock(step_ns=1), max_event_bytes=500)
    for chunk in (event(1), event(2), b"data: " + b"x" * 600, b"\n\n", event(3)):
        tap.watch(chunk)
    tap.catch_up()
    assert methods(batches) == ["notifications/n1", "notifications/n2"]
    assert len(failures) == 1
    assert tap.metrics.unwatched_bytes == 606 + 2 + len(event(3))


def test_watching_catches_up_by_itself_when_it_falls_too_far_behind():
    batches = []
    tap, _ = make_tap(batch_sinks=[batches.append], max_behind_bytes=2_000)
    for number in range(100):
        tap.watch(event(number))
    assert len(batches) > 80


@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_the_end_of_the_stream_shows_what_was_behind(step):
    batches = []
    tap, _ = make_tap(batch_sinks=[batches.append])
    stream = event(1) + event(2) + b"data: unfinished"
    assert pass_through(tap, stream, step) == stream
    assert methods(batches) == ["notifications/n1", "notifications/n2"]


def test_a_stream_that_breaks_off_shows_what_had_passed():
    batches = []
    tap, _ = make_tap(batch_sinks=[batches.append])
    tap(event(1) + b"data: unfin")
    tap.abort()
    assert methods(batches) == ["notifications/n1"]


def test_chunk_sinks_see_each_chunk_at_once_with_its_arrival():
    chunks = []
    tap, _ = make_tap(chunk_sinks=[lambda at_ns, chunk: chunks.append((at_ns, chunk))])
    tap(b"data: a\n\n")
    tap(b"data")
    assert chunks == [(2 * BURST_NS, b"data: a\n\n"), (4 * BURST_NS, b"data")]


def test_a_tap_watches_only_unless_something_must_come_first():
    assert make_tap()[0].passes_first()
    assert not make_tap(sinks_first=True)[0].passes_first()
    assert not make_tap(pipeline=Pipeline(lambda batch: None))[0].passes_first()


@pytest.mark.parametrize("sink", ["chunk_sinks", "batch_sinks"])
def test_a_sink_that_raises_is_reported_once_and_left_out_while_others_go_on(sink):
    seen = []

    def broken(*_):
        raise RuntimeError("broken")

    def working(*arguments):
        seen.append(arguments)

    tap, failures = make_tap(**{sink: [broken, working]})
    stream = event(1) + event(2)
    assert pass_through(tap, stream, len(event(1))) == stream
    assert [str(failure) for failure in failures] == ["broken"]
    assert len(seen) == 2
    assert tap.metrics.failures == 1


@pytest.mark.parametrize("step", [1, 64, 10_000])
@pytest.mark.parametrize("pipeline", [None, Pipeline(lambda batch: None)], ids=["watching", "judging"])
def test_a_frame_over_the_limit_passes_and_is_said_once(step, pipeline):
    tap, failures = make_tap(pipeline=pipeline, max_event_bytes=500)
    stream = event(1) + b"data: " + b"x" * 5_000 + b"\n\n" + event(2) + b"data: " + b"y" * 5_000 + b"\n\n"
    assert pass_through(tap, stream, step) == stream
    assert len(failures) == 1
    assert "limit of 500 bytes" in str(failures[0])
    assert tap.metrics.unwatched_bytes > 10_000
    assert tap.metrics.bytes == len(stream)


@given(
    st.lists(st.sampled_from([event(1), b": c\n\n", b"\r", b"\n", b"data: x\r\n\r\n", b"\xef\xbb\xbf", b"id: 1\n\n"]))
)
def test_an_idle_pipeline_changes_no_byte(pieces):
    stream = b"".join(pieces)
    for step in (1, 2, 7, 10_000):
        tap, failures = make_tap(pipeline=Pipeline(lambda batch: None))
        assert pass_through(tap, stream, step) == stream
        assert failures == []


def test_a_pipeline_edits_what_passes():
    tap, _ = make_tap(pipeline=Pipeline(lambda batch: batch.drop(0)))
    assert tap(event(1)) == []
    assert tap(event(1) + event(2)) == [event(2)]


def test_a_pipeline_that_raises_lets_the_original_pass():
    def fail(batch):
        batch.drop(0)
        raise RuntimeError("judge")

    tap, failures = make_tap(pipeline=Pipeline(fail))
    assert tap(event(1)) == [event(1)]
    assert str(failures[0]) == "judge"


def test_a_coded_stream_is_watched_decoded_and_passes_coded():
    batches = []
    tap, _ = make_tap(batch_sinks=[batches.append], decoder=decoder_for("gzip"))
    coded = gzip.compress(event(1) + event(2))
    assert pass_through(tap, coded, 3) == coded
    assert methods(batches) == ["notifications/n1", "notifications/n2"]


def test_a_stream_that_is_not_in_its_coding_passes_unwatched():
    tap, failures = make_tap(decoder=decoder_for("gzip"))
    assert pass_through(tap, event(1), 10) == event(1)
    assert len(failures) == 1
    assert tap.metrics.unwatched_bytes == len(event(1))


def test_a_body_without_framing_only_feeds_the_chunk_sinks():
    chunks = []
    tap, _ = make_tap(framing=None, chunk_sinks=[lambda _, chunk: chunks.append(chunk)])
    assert pass_through(tap, b'{"a":1}' * 3, 5) == b'{"a":1}' * 3
    assert b"".join(chunks) == b'{"a":1}' * 3
    assert not tap.has_framing
    assert tap.metrics.unwatched_bytes == 21


@pytest.mark.parametrize("arguments", [{"decoder": decoder_for("gzip")}, {"framing": None}])
def test_what_cannot_be_changed_is_only_watched(arguments):
    tap, _ = make_tap(pipeline=Pipeline(lambda batch: batch.drop(0)), **arguments)
    assert tap.passes_first()
    body = gzip.compress(event(1))
    assert pass_through(tap, body, 5) == body


def test_metrics_count_and_add_up():
    total = StreamMetrics()
    for _ in range(2):
        tap, _ = make_tap()
        pass_through(tap, event(1) + event(2), len(event(1)))
        assert (tap.metrics.chunks, tap.metrics.batches, tap.metrics.messages) == (2, 2, 2)
        assert tap.metrics.lag.count == 2
        total.merge(tap.metrics)
    assert (total.chunks, total.batches, total.messages, total.bytes) == (4, 4, 4, 4 * len(event(1)))
    assert total.lag.count == 4
    assert (total.failures, total.unwatched_bytes) == (0, 0)
