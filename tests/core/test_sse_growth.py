"""Four times the stream is about four times the work, whatever a server sends: nothing is quadratic.

Work is CPU time of this thread, so that a busy machine hardly shows; a quadratic parser would need sixteen times, and
one quiet measurement out of several is enough to show that it does not.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from shadowcat_core.sse import SseParser

SMALL = 1_500
GROWTH = 4
MAX_RATIO = 6.5
TRIES = 5
LONG = 20  # a search for one byte is so fast that only a long stream shows one that goes too far

LF_LAYOUT = b"id: 1\ndata: x\n\n"
CRLF_LAYOUT = b"id: 1\r\ndata: x\r\n\r\n"

# What is repeated, what comes before it, and the size of the chunks (0: one chunk).
HOSTILE: dict[str, tuple[Callable[[int], bytes], int]] = {
    "one-long-line-in-small-chunks": (lambda n: b"data: " + b"x" * (40 * n), 16),
    "one-long-line-without-a-colon": (lambda n: b"x" * (40 * n), 16),
    "many-data-lines-in-small-chunks": (lambda n: b"data: x\n" * n, 16),
    "crlf-split-by-every-chunk": (lambda n: b"data:xyz\r\n" * n, 1),
    "many-data-lines-in-one-chunk": (lambda n: b"data: x\n" * (LONG * n) + b"\n", 0),
    "many-retry-lines": (lambda n: b"retry: 5\n" * n, 16),
    "many-digits": (lambda n: b"retry: " + b"9" * (100 * n) + b"\n\n", 0),
    "blank-lines": (lambda n: b"\n" * n, 0),
    "lone-cr-events-after-an-lf-layout": (lambda n: LF_LAYOUT + b"id: 1\rdata: x\r\r" * (LONG * n), 0),
    "lone-cr-ids-after-an-lf-layout": (lambda n: LF_LAYOUT + b"id: 1\r\r" * (LONG * n), 0),
    "lf-events-after-a-crlf-layout": (lambda n: CRLF_LAYOUT + LF_LAYOUT * n, 0),
    "lone-cr-and-lf-in-turn": (lambda n: b"data: x\n\ndata: x\r\r" * n, 0),
    "half-known-layouts": (lambda n: LF_LAYOUT + b"id: 1\nid: 2\n\n" * n, 0),
    "always-new-event-types": (lambda n: b"".join(b"event: %d\ndata: x\n\n" % i for i in range(n)), 0),
    "ids-that-are-ignored": (lambda n: b"id: \0\ndata: x\n\nevent: e\nid: \0\ndata: x\n\n" * n, 0),
    "one-block-a-chunk": (lambda n: LF_LAYOUT * n, len(LF_LAYOUT)),
}


def cpu_ns(stream: bytes, step: int) -> int:
    parser = SseParser(max_event_bytes=len(stream) + 1)
    chunks = [stream[at : at + step] for at in range(0, len(stream), step)] if step else [stream]
    started = time.thread_time_ns()
    for chunk in chunks:
        parser.feed(chunk)
    return time.thread_time_ns() - started


def ratios(make: Callable[[int], bytes], step: int) -> Iterator[float]:
    for _ in range(TRIES):
        small = min(cpu_ns(make(SMALL), step) for _ in range(2))
        yield cpu_ns(make(SMALL * GROWTH), step) / small


@pytest.mark.parametrize(("make", "step"), list(HOSTILE.values()), ids=list(HOSTILE))
def test_the_work_grows_with_the_stream(make: Callable[[int], bytes], step: int):
    seen = []
    for ratio in ratios(make, step):
        seen.append(ratio)
        if ratio < MAX_RATIO:
            return
    raise AssertionError(f"{GROWTH} times the stream took {min(seen):.1f} times the work at best: {seen}")


def test_asking_every_frame_for_its_id_is_linear_too():
    def ask(n: int) -> int:
        batch = SseParser().feed(b"data: x\n\n" * n)
        started = time.thread_time_ns()
        for frame in batch:
            assert frame.last_event_id == ""
        return time.thread_time_ns() - started

    assert any(ask(SMALL * GROWTH) / ask(SMALL) < MAX_RATIO for _ in range(TRIES))
