"""Server-sent events: bytes into frames and back. Every byte fed comes back, in order, in a frame or from `close()`.

No I/O. Source: WHATWG HTML, 9.2 "Server-sent events".
"""

from shadowcat_core.sse.blocks import FOLDED, NO_DATA, Record
from shadowcat_core.sse.encoding import encode
from shadowcat_core.sse.frames import Frame, FrameBatch
from shadowcat_core.sse.parser import SseParser

__all__ = ["FOLDED", "NO_DATA", "Frame", "FrameBatch", "Record", "SseParser", "encode"]
