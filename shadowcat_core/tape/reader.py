"""Read a tape of any size, whole, cut off or damaged.

A tape that ends in the middle of a line or of a compressed frame is what a killed process leaves: it reads to its end
and says `cut_off`. A line that is damaged in the middle is skipped and reported, or raises in strict mode.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import zstandard

from shadowcat_core import limits
from shadowcat_core.errors import TapeError
from shadowcat_core.tape.encoding import decode, decode_header
from shadowcat_core.tape.exchange import RecordedExchange, group
from shadowcat_core.tape.records import Header, Record

BLOCK_BYTES = 256 * limits.KiB
# A few bytes of zstd can stand for 128 KiB, and a block is unpacked at once: small blocks bound what that gives.
ZSTD_BLOCK_BYTES = 4 * limits.KiB
# RFC 8878 section 3.1.1.
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
KEPT_DAMAGES = 1_000

type Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Damage:
    """A place that could not be read; `line` counts from 1 and is the header's."""

    line: int
    message: str


class Tape:
    """One tape being read, as often as wanted: every reading goes through the file once and holds one line of it.

    After a reading has come to its end, `cut_off`, `damage_count`, `damages` (the first thousand) and `line_count`
    tell about it.
    """

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        self.path = path
        self.strict = strict
        self._reset()
        try:
            first = next(self._lines(None), None)
        except OSError as exc:
            raise TapeError(f"cannot be read: {exc.strerror}", path=path) from exc
        if first is None:
            raise TapeError(
                "is empty or cut off inside its first line: nothing was recorded"
                if self.damage_count == 0
                else f"not a tape: {self.damages[0].message}",
                path=path,
                line=1,
            )
        try:
            self.header: Header = decode_header(first)
        except ValueError as exc:
            raise TapeError(str(exc), path=path, line=1) from exc

    @classmethod
    def open(cls, path: Path, *, strict: bool = False) -> Self:
        """Open `path` and read its header.

        Raises: TapeError when it cannot be read or is no tape; in strict mode any later reading raises it at the
        first damaged line.
        """
        return cls(path, strict=strict)

    def records(self, *, progress: Progress | None = None) -> Iterator[Record]:
        """Yield every record in the order of the tape; `progress` hears how many bytes of the file were read."""
        self._reset()
        lines = self._lines(progress)
        next(lines, None)
        for line in lines:
            try:
                yield from decode(line, self.header.origin_ns)
            except ValueError as exc:
                self._damaged(str(exc))

    def exchanges(self, *, progress: Progress | None = None) -> Iterator[RecordedExchange]:
        """Yield each exchange when it ends, then those that never did; holds the open ones."""
        return group(self.records(progress=progress))

    def _reset(self) -> None:
        self.cut_off = False
        self.damage_count = 0
        self.damages: list[Damage] = []
        self.line_count = 0

    def _damaged(self, message: str) -> None:
        if self.strict:
            raise TapeError(message, path=self.path, line=self.line_count)
        self.damage_count += 1
        if len(self.damages) < KEPT_DAMAGES:
            self.damages.append(Damage(self.line_count, message))

    def _lines(self, progress: Progress | None) -> Iterator[bytes]:
        """Yield whole lines without their ends, and an unfinished last one when it is a whole record all the same."""
        held: list[bytes] = []
        held_bytes = 0
        with self.path.open("rb") as file:
            for piece in self._pieces(file, progress):
                if piece is None:
                    held, held_bytes = [], 0
                    continue
                start = 0
                while (end := piece.find(b"\n", start)) >= 0:
                    held.append(piece[start:end])
                    start = end + 1
                    self.line_count += 1
                    if held_bytes + len(held[-1]) <= limits.TAPE_LINE_BYTES:
                        yield b"".join(held)
                    else:
                        self._damaged(f"longer than {limits.TAPE_LINE_BYTES:,} bytes")
                    held, held_bytes = [], 0
                rest = piece[start:]
                held_bytes += len(rest)
                if held_bytes <= limits.TAPE_LINE_BYTES:
                    held.append(rest)
        rest = b"".join(held)
        if rest:
            self.cut_off = True
            if rest.endswith(b"}") and _is_whole(rest):
                self.line_count += 1
                yield rest

    def _pieces(self, file: BinaryIO, progress: Progress | None) -> Iterator[bytes | None]:
        """Yield text in pieces of any size, and None where what was held before makes no sense any more."""
        compressed = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
        file.seek(0)
        if compressed:
            yield from self._unpack(_blocks(file, ZSTD_BLOCK_BYTES, progress))
        else:
            yield from _blocks(file, BLOCK_BYTES, progress)

    def _unpack(self, blocks: Iterable[bytes]) -> Iterator[bytes | None]:
        decompressor = zstandard.ZstdDecompressor()
        frame = None
        is_fresh = False
        lost = b""
        for fetched in blocks:
            block = lost + fetched
            if lost:
                block, lost = _from_magic(block, 0)
            while block:
                if frame is None:
                    frame = decompressor.decompressobj()
                    is_fresh = True
                try:
                    yield frame.decompress(block)
                except zstandard.ZstdError as exc:
                    self.line_count += 1
                    self._damaged(f"compressed frame: {exc}")
                    yield None
                    frame = None
                    # The next frame begins with the magic number; should these bytes be there by chance, it fails too.
                    block, lost = _from_magic(block, 1 if is_fresh else 0)
                    continue
                is_fresh = False
                if not frame.eof:
                    break
                block = frame.unused_data
                frame = None
        self.cut_off = frame is not None


def _from_magic(block: bytes, start: int) -> tuple[bytes, bytes]:
    """Return the block from its next frame on; when there is none, its last bytes, where one may begin."""
    at = block.find(ZSTD_MAGIC, start)
    return (block[at:], b"") if at >= 0 else (b"", block[-len(ZSTD_MAGIC) + 1 :])


def _is_whole(line: bytes) -> bool:
    try:
        decode_header(line)
    except ValueError:
        try:
            decode(line, 0)
        except ValueError:
            return False
    return True


def _blocks(file: BinaryIO, size: int, progress: Progress | None) -> Iterator[bytes]:
    done = 0
    while block := file.read(size):
        done += len(block)
        yield block
        if progress is not None:
            progress(done)
