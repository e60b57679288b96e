"""The file side of a tape: its name, its permissions, its frames, and a process that dies."""

import io
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
import zstandard

from shadowcat_core.errors import TapeError
from shadowcat_core.tape.encoding import decode
from shadowcat_core.tape.recorder import Recorder
from shadowcat_core.tape.writer import new_tape_path, open_private
from tests.core.tape_parts import ORIGIN_NS, Recording, as_it_is, chunk, header

MOMENT = datetime(2026, 11, 21, 7, 32, 0, tzinfo=UTC)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_tape_is_named_for_its_moment_and_its_process(tmp_path):
    assert new_tape_path(tmp_path, MOMENT, 1234) == tmp_path / "20261121T073200Z-1234.tape.jsonl"
    assert new_tape_path(tmp_path, MOMENT, 1, compress=True).name == "20261121T073200Z-1.tape.jsonl.zst"


def test_the_name_is_in_utc_wherever_it_is_made(tmp_path):
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=-8)))
    assert new_tape_path(tmp_path, elsewhere, 1234).name.startswith("20261121T073200Z")


def test_tape_and_directory_are_for_their_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        path = tmp_path / "tapes" / "a.tape.jsonl"
        open_private(path).close()
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700


def test_a_directory_that_is_there_keeps_its_permissions(tmp_path):
    tmp_path.chmod(0o755)
    open_private(tmp_path / "a.tape.jsonl").close()
    assert mode_of(tmp_path) == 0o755


def test_a_tape_is_never_written_over(tmp_path):
    path = tmp_path / "a.tape.jsonl"
    path.write_text("precious")
    with pytest.raises(TapeError, match="never written over") as caught:
        open_private(path)
    assert caught.value.path == path
    assert path.read_text() == "precious"


def test_a_tape_does_not_follow_a_link_laid_out_for_it(tmp_path):
    target = tmp_path / "target"
    (tmp_path / "a.tape.jsonl").symlink_to(target)
    with pytest.raises(TapeError):
        open_private(tmp_path / "a.tape.jsonl")
    assert not target.exists()


def test_a_place_that_cannot_be_written_is_an_error_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TapeError, match="choose another directory"):
        Recorder(tmp_path / "file" / "a.tape.jsonl", header(), redact=as_it_is, on_failure=print)


def test_a_recorder_writes_a_real_file(tmp_path):
    path = tmp_path / "tapes" / "a.tape.jsonl"
    failures = []
    recorder = Recorder(path, header(), redact=as_it_is, on_failure=failures.append)
    recorder.put(chunk(1))
    assert recorder.close()
    lines = path.read_bytes().splitlines()
    assert decode(lines[1], ORIGIN_NS) == (chunk(1),)
    assert recorder.bytes_written == path.stat().st_size
    assert failures == []


def frames(data):
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(data)
        assert frame.eof
        data = frame.unused_data


def test_a_compressed_tape_is_one_independent_frame_a_flush():
    with Recording(name="a.tape.jsonl.zst") as (recorder, disk, _):
        for t in range(3):
            recorder.put(chunk(t))
            recorder.put(chunk(t, b"again"))
            recorder.flush()
        texts = list(frames(disk.data))
        assert len(texts) == 4
        assert b'"kind":"header"' in texts[0]
        assert all(text.endswith(b"\n") for text in texts)
        assert recorder.bytes_written == len(disk.data)


def test_a_damaged_frame_is_noticed():
    with Recording(name="a.tape.jsonl.zst") as (recorder, disk, _):
        recorder.put(chunk(1, os.urandom(300)))
        recorder.flush()
        damaged = bytearray(disk.data)
        damaged[-100] ^= 1
        with (
            pytest.raises(zstandard.ZstdError),
            zstandard.ZstdDecompressor().stream_reader(io.BytesIO(damaged), read_across_frames=True) as reader,
        ):
            reader.read()


CHILD = """
import itertools, sys
from pathlib import Path
from shadowcat_core.tape.recorder import Recorder
from tests.core.tape_parts import as_it_is, chunk, header

recorder = Recorder(Path(sys.argv[1]), header(), redact=as_it_is, on_failure=print, flush_ms=20)
for n in itertools.count(1):
    recorder.put(chunk(n, b"%d" % n))
    if n % 100 == 0:
        assert recorder.flush()
        recorder.put(chunk(0, b"promised"))
        print(n, flush=True)
        sys.stdin.readline()
"""


@pytest.mark.parametrize("name", ["a.tape.jsonl", "a.tape.jsonl.zst"])
def test_a_killed_process_leaves_all_but_the_last_interval(tmp_path, name):
    path = tmp_path / name
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        for _ in range(7):
            flushed = int(child.stdout.readline())
            child.stdin.write("go on\n")
            child.stdin.flush()
        flushed = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    data = path.read_bytes()
    text = b"".join(frames(data)) if name.endswith(".zst") else data
    *lines, rest = text.split(b"\n")
    assert rest == b""
    numbers = [
        int(record.data) for line in lines[1:] for record in decode(line, ORIGIN_NS) if record.data != b"promised"
    ]
    assert numbers == list(range(1, flushed + 1))
    assert flushed == 800
