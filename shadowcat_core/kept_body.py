"""A bounded copy of a stream's body for people to look at: its beginning and its latest part. No I/O.

What lies between is counted and said inside the copy, as an SSE comment, so no reader takes the copy for the whole.
"""

from collections import deque

from shadowcat_core.limits import CHUNK_OVERHEAD_BYTES, MAX_KEPT_BODY_BYTES

TIMES_KEY = "shadowcat.times"
"""Where a flow's metadata holds `KeptBody.times()`: who keeps a body writes it, who shows it reads it."""


class KeptBody:
    """Keeps at most `max_bytes` of a body, and when each kept chunk came (in µs from a start the caller chose)."""

    def __init__(self, max_bytes: int = MAX_KEPT_BODY_BYTES, *, keep_tail: bool = True) -> None:
        """Keep the first half of `max_bytes` and the latest half; with `keep_tail=False` the first bytes only.

        A coded body (gzip …) can only be read from its beginning, so its tail is of no use.
        """
        self._head: list[bytes] = []
        self._head_times: list[list[int]] = []
        self._head_bytes = 0
        self._head_room = max_bytes // 2 if keep_tail else max_bytes
        self._tail: deque[tuple[int, bytes]] = deque()
        self._tail_room = max_bytes - self._head_room
        self._head_is_full = False
        self._keep_tail = keep_tail
        self.dropped_bytes = 0

    def add(self, at_us: int, chunk: bytes) -> None:
        """Keep a chunk, whole or not at all: the copy is cut only where chunks were."""
        cost = len(chunk) + CHUNK_OVERHEAD_BYTES
        if not self._head_is_full and cost <= self._head_room:
            self._head.append(chunk)
            self._head_bytes += len(chunk)
            self._head_times.append([self._head_bytes, at_us])
            self._head_room -= cost
            return
        self._head_is_full = True
        self._tail.append((at_us, chunk))
        self._tail_room -= cost
        while self._tail_room < 0:
            _, dropped = self._tail.popleft()
            self._tail_room += len(dropped) + CHUNK_OVERHEAD_BYTES
            self.dropped_bytes += len(dropped)

    def content(self) -> bytes:
        """The copy as it stands. While all of the body is kept it is held once, by the caller and here together."""
        if len(self._head) > 1:
            self._head = [b"".join(self._head)]
        tail = [chunk for _, chunk in self._tail]
        if not tail and not self._said:
            return self._head[0] if self._head else b""
        return b"".join([*self._head, self._said, *tail])

    def times(self) -> list[list[int]]:
        """For each kept chunk, in order: [its end's offset in `content()`, when it came in µs]."""
        times = list(self._head_times)
        end = self._head_bytes
        if self._said:
            end += len(self._said)
            times.append([end, self._tail[0][0] if self._tail else 0])
        for at_us, chunk in self._tail:
            end += len(chunk)
            times.append([end, at_us])
        return times

    @property
    def _said(self) -> bytes:
        """What stands in the copy for the bytes that do not. The blank lines end a frame that was cut."""
        if not self.dropped_bytes or not self._keep_tail:
            return b""
        return b"\n\n: shadowcat: %d bytes of this stream are not kept here\n\n" % self.dropped_bytes
