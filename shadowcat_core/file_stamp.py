"""Tells whether a file is another than it was, for those that are loaded anew when they change."""

from pathlib import Path

type Stamp = tuple[int, int, int] | None
"""What a file that was replaced or written to has another one of; None for a file that is not there."""


def stamp_of(path: Path) -> Stamp:
    """Look at a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
