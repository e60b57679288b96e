"""What holds of every event stream, tried on streams made of fields: random bytes would hardly ever make an event."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

import shadowcat_core.sse as sse
from shadowcat_core.errors import MessageTooLarge
from shadowcat_core.sse import SseParser, encode
from tests.core import sse_checks, sse_oracle

NAMES = st.sampled_from([b"data", b"event", b"id", b"retry", b"", b"foo", b"Data", b"data ", b"\xef\xbb\xbfdata"])
COLONS = st.sampled_from([b": ", b":", b":  ", b""])
VALUES = st.sampled_from([b"", b"1", b"22", b"a:b", b" x", b"\0", b"1\0", b"\xff", b"\xe2\x82", "é€😀".encode(), b"+5"])
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """A block with mostly one kind of line end; a layout drawn once comes again with other values."""
    usual = draw(LINE_ENDS)
    fields = draw(st.lists(st.tuples(NAMES, COLONS), max_size=4))
    repeats = []
    for _ in range(draw(st.integers(1, 4))):
        lines = [name + colon + draw(VALUES) for name, colon in fields]
        ends = [draw(st.one_of(st.just(usual), LINE_ENDS)) for _ in lines]
        repeats.append(b"".join(line + end for line, end in zip(lines, ends, strict=True)) + usual)
    return b"".join(repeats)


STREAMS = st.builds(
    lambda start, parts, rest: start + b"".join(parts) + rest,
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\n"]),
    st.lists(blocks(), max_size=6),
    st.sampled_from([b"", b"data: 1", b"id: 9\n", b"retry: 3\r", b"\r"]),
)


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    """A stream in chunks: whole, byte by byte, or cut anywhere."""
    stream = draw(STREAMS)
    step = draw(st.sampled_from([0, 1, 2, 7]))
    if step:
        return [stream[at : at + step] for at in range(0, len(stream), step)]
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


@given(cut_streams())
def test_every_cut_gives_what_the_standard_says_and_every_byte_back(chunks: list[bytes]):
    reading = sse_checks.read(sse, chunks)
    outcome = sse_oracle.interpret(b"".join(chunks))
    events = [(event, data.decode("utf-8", "replace"), event_id) for event, data, event_id in reading.events]
    assert (events, reading.last_event_id, reading.retry_ms) == (
        outcome.events,
        outcome.last_event_id,
        outcome.retry_ms,
    )


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_no_bytes_make_it_raise_or_lose_one(chunks: list[bytes]):
    sse_checks.read(sse, chunks)


@given(cut_streams(), st.integers(1, 40))
def test_a_limit_never_costs_a_byte_and_never_lets_a_larger_frame_pass(chunks: list[bytes], limit: int):
    parser = SseParser(max_event_bytes=limit)
    passed = b""
    rest = list(chunks)
    with contextlib.suppress(MessageTooLarge):
        while rest:
            raws = [frame.raw for frame in parser.feed(rest[0])]
            assert all(len(raw) <= limit or raw == b"\xef\xbb\xbf" for raw in raws)
            passed += b"".join(raws)
            del rest[0]
    held = parser.close()
    assert len(held) <= max(limit, 2)
    assert passed + held + b"".join(rest) == b"".join(chunks)


ONE_LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(
    st.lists(VALUES | st.sampled_from([b"\n", b"\r", b"\r\n", b" "])).map(b"".join) | st.binary(),
    st.none() | ONE_LINE,
    st.none() | ONE_LINE.filter(lambda text: "\0" not in text),
    st.none() | st.integers(0, 2**53 - 1),
)
def test_what_is_encoded_is_read_back(data: bytes, event: str | None, event_id: str | None, retry_ms: int | None):
    parser = SseParser()
    [frame] = parser.feed(encode(data, event=event, id=event_id, retry_ms=retry_ms))
    assert frame.dispatches
    assert frame.data == b"\n".join((data + b"|").splitlines())[:-1]
    assert (frame.event, frame.id, parser.retry_ms) == (event or "message", event_id, retry_ms)
    assert encode(frame.data, event=event, id=event_id, retry_ms=retry_ms) == frame.raw
