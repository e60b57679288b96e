"""What the kernel knows of loopback connections (Linux): whether the other side has read, and whether it has closed.

A test that may only go on when its peer has noticed something waits for that here, and not for a while.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

WITHIN_S = 30.0
LOOK_S = 0.002
OPEN_STATES = ("01", "08")
"""Established, and left by its peer: in these is a side that has not closed (Linux's tcp_states.h)."""


class Side(NamedTuple):
    """One side of a connection: its state, what its peer has not acknowledged, and what its program has not read."""

    state: str = ""
    unsent_bytes: int = 0
    unread_bytes: int = 0


async def until_read(writer: asyncio.StreamWriter) -> None:
    """Until the other side has read everything that was written, or has closed."""

    def is_read(ours: Side, theirs: Side) -> bool:
        return not (writer.transport.get_write_buffer_size() or ours.unsent_bytes or theirs.unread_bytes)

    await _until(writer, is_read)


async def until_closed(writer: asyncio.StreamWriter) -> None:
    """Until the other side has closed the connection as well."""
    await _until(writer, lambda _, theirs: theirs.state not in OPEN_STATES)


async def _until(writer: asyncio.StreamWriter, holds: Callable[[Side, Side], bool]) -> None:
    ours, theirs = (writer.get_extra_info(name)[1] for name in ("sockname", "peername"))
    async with asyncio.timeout(WITHIN_S):
        while not holds(*_sides(ours, theirs)):  # noqa: ASYNC110 -- the kernel's table tells only who asks
            await asyncio.sleep(LOOK_S)


def _sides(ours: int, theirs: int) -> tuple[Side, Side]:
    """Both sides of the connection between two ports (Linux's proc_net_tcp.rst); one that is gone has no state."""
    table = Path("/proc/net/tcp").read_text()
    return _side(table, ours, theirs), _side(table, theirs, ours)


def _side(table: str, own: int, peer: int) -> Side:
    found = re.search(rf":{own:04X} \w+:{peer:04X} (\w\w) (\w+):(\w+)", table)
    return Side(found[1], int(found[2], 16), int(found[3], 16)) if found else Side()
