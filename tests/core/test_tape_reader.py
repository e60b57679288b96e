"""The reader: every tape that a recorder can leave behind is readable, and damage is told apart from an end."""

import json
import os

import pytest
import zstandard

from shadowcat_core.errors import TapeError
from shadowcat_core.limits import TAPE_LINE_BYTES
from shadowcat_core.tape import reader
from shadowcat_core.tape.encoding import encode, encode_header
from shadowcat_core.tape.reader import Damage, Tape
from shadowcat_core.tape.records import Chunk, End, Gap, Note, Open, Request, Response, Unknown, Verdict, header_value
from tests.core.tape_parts import ORIGIN_NS, chunk, header


def at(t_us):
    return ORIGIN_NS + t_us * 1000


OPEN = Open(at(0), 1, "f", "POST", "http://h/mcp", "HTTP/1.1", [("Accept", "*/*")])
REQUEST = Request(at(1), 1, b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
RESPONSE = Response(at(2), 1, 200, "OK", [("content-type", "text/event-stream")])
END = End(at(9), 1, "eof")
RECORDS = [OPEN, REQUEST, RESPONSE, chunk(3), chunk(4, b"\xff"), Note(at(5), None, "hello"), END]


def plain(batches):
    return b"".join([encode_header(header()), *(encode(batch, ORIGIN_NS) for batch in batches)])


def packed(batches):
    compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
    return b"".join([compress(encode_header(header())), *(compress(encode(batch, ORIGIN_NS)) for batch in batches)])


@pytest.fixture(params=[plain, packed])
def pack(request):
    return request.param


@pytest.fixture
def read(tmp_path):
    def read_bytes(data, *, strict=False):
        path = tmp_path / "a.tape.jsonl"
        path.write_bytes(data)
        tape = Tape.open(path, strict=strict)
        return tape, list(tape.records())

    return read_bytes


def test_a_whole_tape_gives_every_record(read, pack):
    tape, records = read(pack([RECORDS[:3], RECORDS[3:]]))
    assert tape.header == header()
    assert records == RECORDS
    assert not tape.cut_off
    assert tape.damages == []


def test_a_tape_can_be_read_again(read, pack):
    tape, records = read(pack([RECORDS]))
    assert list(tape.records()) == records
    assert tape.line_count == len(records) + 1


def test_a_plain_tape_cut_anywhere_is_a_valid_tape(read):
    data = plain([RECORDS])
    first = data.index(b"\n") + 1
    seen = 0
    for size in range(first, len(data)):
        tape, records = read(data[:size], strict=True)
        assert records == RECORDS[: len(records)]
        assert len(records) >= seen
        seen = len(records)
        assert tape.cut_off == (data[size - 1] != ord("\n"))
    assert seen == len(RECORDS)


def test_a_compressed_tape_cut_anywhere_is_a_valid_tape(read):
    batches = [RECORDS[:2], RECORDS[2:5], RECORDS[5:]]
    ends = [len(packed(batches[:n])) for n in range(4)]
    data = packed(batches)
    for size in range(ends[0], len(data)):
        tape, records = read(data[:size], strict=True)
        whole = sum(len(batch) for batch, end in zip(batches, ends[1:], strict=True) if end <= size)
        assert records == RECORDS[: len(records)]
        assert len(records) >= whole
        assert tape.cut_off == (size not in ends)


def test_a_tape_cut_inside_its_header_says_that_nothing_was_recorded(read, pack):
    data = pack([])
    for size in range(len(data) - 6):  # a frame's last bytes are only its checksum
        with pytest.raises(TapeError, match="nothing was recorded"):
            read(data[:size])


def test_a_line_damaged_in_the_middle_is_skipped_and_reported(read):
    lines = plain([RECORDS]).splitlines(keepends=True)
    lines[2] = b"\x00\x00\x00\n"
    tape, records = read(b"".join(lines))
    assert records == [OPEN, *RECORDS[2:]]
    assert tape.damage_count == 1
    assert tape.damages[0].line == 3
    assert tape.damages[0].message.startswith("not JSON")
    assert not tape.cut_off


def test_strict_reading_raises_at_the_damaged_line(read):
    lines = plain([RECORDS]).splitlines(keepends=True)
    lines[4] = b'{"kind":"chunk","t":1}\n'
    with pytest.raises(TapeError, match="line 5") as caught:
        read(b"".join(lines), strict=True)
    assert caught.value.line == 5


@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_frame_does_not_hide_the_frames_after_it(read, where):
    batches = [[chunk(n * 100 + i, os.urandom(400)) for i in range(3)] for n in range(20)]
    data = bytearray(packed(batches))
    data[int(len(data) * where)] ^= 0xFF
    tape, records = read(bytes(data))
    assert tape.damage_count >= 1
    assert "compressed frame" in tape.damages[0].message
    assert records[-3:] == batches[-1]
    assert len(records) >= 3 * 18
    with pytest.raises(TapeError):
        read(bytes(data), strict=True)


def test_a_large_damaged_hole_is_crossed(read):
    batches = [[chunk(n, os.urandom(3000))] for n in range(20)]
    starts = [len(packed(batches[:n])) for n in range(21)]
    data = packed(batches)
    hole = data[: starts[3]] + b"\0" * 20_000 + data[starts[10] :]
    tape, records = read(hole)
    assert records == [batch[0] for batch in batches[:3] + batches[10:]]
    assert tape.damage_count == 1


@pytest.mark.parametrize("size", range(1, 9))
def test_frames_are_found_however_the_file_is_cut_into_blocks(read, monkeypatch, size):
    monkeypatch.setattr(reader, "ZSTD_BLOCK_BYTES", size)
    batches = [[chunk(n, os.urandom(40))] for n in range(5)]
    data = packed(batches[:2]) + b"garbage" + packed(batches)[len(packed(batches[:2])) :]
    tape, records = read(data)
    assert records == [batch[0] for batch in batches]
    assert tape.damage_count == 1


def test_a_tape_full_of_damage_keeps_a_bounded_list(read):
    tape, records = read(plain([]) + b"x\n" * 3_000)
    assert records == []
    assert tape.damage_count == 3_000
    assert len(tape.damages) == 1_000


@pytest.mark.parametrize("piece", [1_000, 10**6])
def test_a_line_beyond_the_limit_is_damage_and_not_memory(read, monkeypatch, piece):
    monkeypatch.setattr(reader, "BLOCK_BYTES", piece)
    monkeypatch.setattr(reader.limits, "TAPE_LINE_BYTES", TAPE_LINE_BYTES.__class__(5_000, unit="bytes", reason=""))
    tape, records = read(plain([[chunk(1)]]) + b"x" * 20_000 + b"\n" + encode([chunk(2)], ORIGIN_NS))
    assert records == [chunk(1), chunk(2)]
    assert tape.damages == [Damage(3, "longer than 5,000 bytes")]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "nothing was recorded"),
        (b"GET / HTTP/1.1\r\n", "line 1: not JSON"),
        (b"{}\n", "line 1: not a Shadowcat tape"),
        (b'{"kind":"header","format":"shadowcat-tape","version":99}\n', "upgrade"),
        (reader.ZSTD_MAGIC + b"\xff" * 50, "compressed frame"),
    ],
)
def test_what_is_no_tape_is_refused_with_a_reason(read, data, complaint):
    with pytest.raises(TapeError, match=complaint):
        read(data)


def test_a_file_that_cannot_be_read_is_a_tape_error(tmp_path):
    with pytest.raises(TapeError, match="No such file") as caught:
        Tape.open(tmp_path / "none")
    assert caught.value.path == tmp_path / "none"
    with pytest.raises(TapeError, match="cannot be read"):
        Tape.open(tmp_path)


def test_later_versions_of_the_format_may_add_kinds_and_fields(read):
    line = json.dumps({"kind": "weather", "t": 7, "sky": "blue"}).encode() + b"\n"
    tape, records = read(plain([[OPEN]]) + line + encode([END], ORIGIN_NS))
    assert records == [OPEN, Unknown(at(7), "weather", {"sky": "blue"}), END]
    assert [exchange.number for exchange in tape.exchanges()] == [1]


def test_progress_is_told_in_bytes_of_the_file(read, pack, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 100)
    monkeypatch.setattr(reader, "ZSTD_BLOCK_BYTES", 100)
    data = pack([RECORDS])
    tape, _ = read(data)
    heard = []
    assert list(tape.records(progress=heard.append)) == RECORDS
    assert heard == sorted(heard)
    assert heard[-1] == len(data)


def test_records_are_grouped_by_exchange(read):
    other = Open(at(3), 2, "g", "GET", "http://h/mcp", "HTTP/1.1", [])
    verdict = Verdict(at(4), 1, "rules", "block", "denied", b"x")
    note = Note(at(4), 1, "slow")
    tape, _ = read(plain([[OPEN, REQUEST, other, RESPONSE, chunk(3), verdict, note, chunk(5), END]]))
    first, second = tape.exchanges()
    assert (first.number, first.opened, first.request, first.response, first.end) == (1, OPEN, REQUEST, RESPONSE, END)
    assert first.chunks == [chunk(3), chunk(5)]
    assert (first.verdicts, first.notes) == ([verdict], [note])
    assert first.response_body == b"data: 1\n\ndata: 1\n\n"
    assert first.request_body == REQUEST.data
    assert first.is_complete
    assert (second.number, second.end, second.is_complete) == (2, None, False)


def test_an_exchange_is_given_as_soon_as_it_ends(read):
    tape, _ = read(plain([[OPEN, END], [Open(at(10), 2, "g", "GET", "u", "HTTP/1.1", [])]]))
    exchanges = tape.exchanges()
    assert next(exchanges).end == END
    assert next(exchanges).number == 2


def test_a_gap_is_known_to_every_exchange_it_touched(read):
    gap = Gap(at(3), 5, 100, "the queue was full", [1, 7])
    tape, _ = read(plain([[OPEN, gap, END]]))
    first, seventh = tape.exchanges()
    assert first.gaps == seventh.gaps == [gap]
    assert not first.is_complete
    assert seventh.opened is None


def test_what_comes_after_the_end_is_not_lost(read):
    late = chunk(20, b"late")
    tape, _ = read(plain([[OPEN, END, late]]))
    first, more = tape.exchanges()
    assert first.is_complete
    assert (more.number, more.opened, more.chunks) == (1, None, [late])


def test_a_body_that_streamed_up_is_its_chunks(read):
    up = [Chunk(at(1), 1, "c2s", b"ab"), Chunk(at(2), 1, "c2s", b"cd")]
    tape, _ = read(plain([[OPEN, *up, END]]))
    (exchange,) = tape.exchanges()
    assert exchange.request_body == b"abcd"
    assert exchange.response_body == b""


def test_headers_of_one_name_are_one_value():
    headers = [("Content-Encoding", "gzip"), ("X", "1"), ("content-encoding", "br")]
    assert header_value(headers, "content-encoding") == "gzip, br"
    assert header_value(headers, "accept") == ""
