"""What the kernel knows of loopback connections (Linux): whether the other side has read, and whether it has closed.

A test that may only go on when its peer has noticed something waits for that here, and not for a while.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

WITHIN_S = 30.0
LOOK_S = 0.002
OPEN_STATES = ("01", "08")
"""Established, and left by its peer: in these is a side that has not closed (Linux's tcp_states.h)."""


class Side(NamedTuple):
    """One side of a connection: its state, what its peer has not acknowledged, and what its program has not read."""

    state: str
    unsent_bytes: int
    unread_bytes: int


NO_SIDE = Side("", 0, 0)

type Ends = tuple[int, int]
"""A side's own port, and that of its peer."""


async def until_read(writer: asyncio.StreamWriter) -> None:
    """Until the other side has read everything that was written, or has closed."""

    def is_read(sides: Mapping[Ends, Side]) -> bool:
        ours, theirs = sides.get(_ends(writer), NO_SIDE), sides.get(_ends(writer)[::-1], NO_SIDE)
        return not (writer.transport.get_write_buffer_size() or ours.unsent_bytes or theirs.unread_bytes)

    await _until(is_read)


async def until_closed(writer: asyncio.StreamWriter) -> None:
    """Until the other side has closed the connection as well."""
    await _until(lambda sides: sides.get(_ends(writer)[::-1], NO_SIDE).state not in OPEN_STATES)


def _ends(writer: asyncio.StreamWriter) -> Ends:
    return writer.get_extra_info("sockname")[1], writer.get_extra_info("peername")[1]


async def _until(holds: Callable[[Mapping[Ends, Side]], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds(_sides()):  # noqa: ASYNC110 -- the kernel's table tells only who asks
            await asyncio.sleep(LOOK_S)


def _sides() -> dict[Ends, Side]:
    """Every side of every connection (Linux's proc_net_tcp.rst)."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        unsent, unread = (int(each, 16) for each in queues.split(":"))
        found[_port(local), _port(remote)] = Side(state, unsent, unread)
    return found


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)
