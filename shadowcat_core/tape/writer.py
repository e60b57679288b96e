"""Lines onto a file: private, whole or not at all, and patient with a full disk.

A write that fails is cut back to the last whole line and tried again later; nothing is half written and nothing that
was taken is forgotten. The files are for their owner alone, because a tape holds what people said.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Protocol

import zstandard

from shadowcat_core.errors import TapeError
from shadowcat_core.tape.encoding import encode, encode_header
from shadowcat_core.tape.records import Gap, Header, Record, payload_bytes

SUFFIX = ".tape.jsonl"
ZSTD_SUFFIX = ".zst"
# Level 1: 0.1 µs for a record of 270 bytes and the interpreter lock released meanwhile; level 3 saves little more.
ZSTD_LEVEL = 1

type Redactor = Callable[[Record], Record]


class TapeFile(Protocol):
    """What a writer needs of a file opened for appending; `io.FileIO` is one."""

    def write(self, data: bytes, /) -> int | None: ...
    def truncate(self, size: int, /) -> int: ...
    def close(self) -> None: ...


def new_tape_path(directory: Path, now: datetime, pid: int, *, compress: bool = False) -> Path:
    """Name a new tape: `20261121T073200Z-1234.tape.jsonl`, in UTC, with `.zst` when it is compressed.

    A second tape of the same process and second is named `…-1234-2…`, and so on.
    """
    stem = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{pid}"
    suffix = SUFFIX + ZSTD_SUFFIX if compress else SUFFIX
    names = (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}" for number in count(1))
    return next(path for path in map(directory.joinpath, names) if not path.exists())


def open_private(path: Path) -> TapeFile:
    """Create `path` for its owner alone (0600), and its directory (0700) when there is none.

    Raises: TapeError when it exists already, for a tape is never written over, or cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        if isinstance(exc, FileExistsError) and exc.filename == str(path):
            raise TapeError("is there already; a tape is never written over", path=path) from exc
        raise TapeError(f"cannot be written: {exc.strerror}; choose another directory", path=path) from exc
    return FileIO(descriptor, "ab")


class TapeWriter:
    """Redacts, encodes and appends batches of records to one file; used by one thread at a time.

    Each batch is one write. With `compress`, each is one independent zstd frame with a checksum, so a tape that was
    cut off can be read up to its last whole batch.
    """

    def __init__(self, file: TapeFile, header: Header, redact: Redactor, *, compress: bool) -> None:
        self._file = file
        self._redact = redact
        self._origin_ns = header.origin_ns
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True) if compress else None
        self._pending = self._pack(encode_header(header))
        self._pending_records = 0
        self._torn = False
        self.bytes_written = 0
        self.recorded = 0
        self.writes = 0

    @property
    def pending_records(self) -> int:
        """Records taken by `take` that are not in the file yet."""
        return self._pending_records

    def take(self, records: Sequence[Record], count: int) -> int:
        """Redact and encode `records`, `count` of which somebody put; only with nothing pending.

        Returns how many could not be stored; each left a gap in its place.
        """
        lines, refused = self._encode(records)
        self._pending = self._pack(lines)
        self._pending_records = count - refused
        return refused

    def write(self) -> None:
        """Append what is pending. Raises: OSError; it is still pending then, and the file ends in a whole line."""
        if not self._pending:
            return
        if self._torn:
            self._cut_back()
        self._torn = True
        try:
            self._append(self._pending)
        except OSError:
            self._cut_back()
            raise
        self._torn = False
        self.writes += 1
        self.bytes_written += len(self._pending)
        self.recorded += self._pending_records
        self._pending = b""
        self._pending_records = 0

    def close(self) -> None:
        """Close the file. Raises: OSError when the system reports a late failure."""
        self._file.close()

    def _append(self, data: bytes) -> None:
        # Raw files may take less than all of it, a nearly full disk does.
        while data:
            taken = self._file.write(data)
            if not taken:
                raise BlockingIOError("the file takes no more bytes")
            data = data[taken:]

    def _cut_back(self) -> None:
        self._file.truncate(self.bytes_written)
        self._torn = False

    def _pack(self, lines: bytes) -> bytes:
        return lines if self._compressor is None else self._compressor.compress(lines)

    def _encode(self, records: Sequence[Record]) -> tuple[bytes, int]:
        redact = self._redact
        try:
            return encode([redact(record) for record in records], self._origin_ns), 0
        except Exception:  # noqa: BLE001 - a redactor is anyone's code; the record at fault is found below
            lines = []
            refused = 0
            for record in records:
                try:
                    lines.append(encode((redact(record),), self._origin_ns))
                except Exception as exc:  # noqa: BLE001 - what could not be redacted is never stored
                    refused += 1
                    lines.append(encode((self._gap_for(record, exc),), self._origin_ns))
            return b"".join(lines), refused

    def _gap_for(self, record: Record, exc: Exception) -> Gap:
        exchange = getattr(record, "exchange", None)
        reason = f"a record of kind {record.kind} could not be stored: {type(exc).__name__}"
        return Gap(record.at_ns, 1, payload_bytes(record), reason, () if exchange is None else (exchange,))
