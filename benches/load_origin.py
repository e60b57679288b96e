"""The MCP server of the proxy's bench: answers at once, and streams as fast as told.

    python -m benches.load_origin PORT

What a request wants is in its URI: `/mcp` is answered with a small JSON-RPC result, and
`/mcp?events=2000&together=1&per_s=1000&party=1` with a stream of 2,000 events, one in each HTTP chunk, 1,000 a second
(`per_s=0`: as fast as the socket takes them), in a party of one. `/mcp?answer=stream` is answered with the result as
the only event of a stream, as servers on the SDKs do; `initialize` begins a session, always the same. A thread for each
connection, blocking sockets, buffers made beforehand: the origin must never be what is measured.
"""

import re
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from functools import cache
from urllib.parse import urlencode

SENT = re.compile(rb'"sent":"(\d{10})\.(\d{9})"')
"""Every event carries the time it was sent, in s of the machine's monotonic clock; zeros where nobody asks.

Two numbers, not one of nineteen digits, which costs JSON readers more than events usually do.
"""

EVENT_BYTES = 270
CHUNK_OVERHEAD_BYTES = 7
"""The size of a chunk of one event, and two line ends."""

SLAB_EVENTS = 2_048
"""What is sent again and again. More than the suite's memory for event ids, so that none seems to be repeated."""

PATIENCE_S = 60.0
LAST_CHUNK = b"0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"Echo: hello"}],"isError":false}}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(RESULT), RESULT)
STREAMED_CALL = "/mcp?answer=stream"
STREAMED_EVENT = b"event: message\nid: 6f9619ff-8b86-d011-b42d-00c04fc964ff_1\ndata: %b\n\n" % RESULT
STREAMED_ANSWER = b"%b%x\r\n%b\r\n%b" % (STREAM_HEAD, len(STREAMED_EVENT), STREAMED_EVENT, LAST_CHUNK)
INITIALIZE = b'"method":"initialize"'
BEGUN = (
    b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
    b'"serverInfo":{"name":"load","version":"1"}}}'
)
SESSION_ID = "5c0f7ce1a9f0454a8d9b6fa8c7a4d2e3"
SESSION = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: %b\r\nContent-Length: %d\r\n\r\n%b"
SESSION %= (SESSION_ID.encode(), len(BEGUN), BEGUN)


class WireDiffersError(Exception):
    """What came back is not what the origin sent."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream to be asked for: how many events, how many of them in one HTTP chunk, how many a second.

    `party` streams of the same kind wait for each other: paced ones before the first event, so that opening them is
    not measured, and take turns from then on; others before they end, so that all are open at once.
    """

    events: int
    together: int = 1
    per_s: int = 0
    party: int = 1

    @property
    def target(self) -> str:
        """The URI that asks for it."""
        return "/mcp?" + urlencode(asdict(self))

    @classmethod
    def asked_by(cls, target: str) -> "Stream | None":
        numbers = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", target)}
        return cls(**numbers) if numbers else None

    @property
    def data_bytes(self) -> int:
        """Bytes of all events together."""
        return self.events * EVENT_BYTES

    def check(self, body_bytes: int) -> None:
        """Compare with the size of a body that arrived, its HTTP chunks included.

        A proxy forwards what it has read, so a chunk may arrive as two; but none may be missing.

        Raises:
            WireDiffersError: whatever was measured, it was not this stream.
        """
        least = self.data_bytes + len(LAST_CHUNK)
        most = (self.data_bytes + self.events * CHUNK_OVERHEAD_BYTES) * 1.05 + 1_000
        if not least <= body_bytes <= most:
            raise WireDiffersError(f"{body_bytes:,} bytes arrived of {self.events:,} events of {EVENT_BYTES}")


def event(number: int, sent_ns: int = 0) -> bytes:
    """One SSE event of `EVENT_BYTES`, as a server on the official SDK writes a progress notification."""
    head = b"event: message\nid: %08d\ndata: " % number
    sent = divmod(sent_ns, 1_000_000_000)
    params = b'"progressToken":7,"progress":1%07d,"total":99999999,"sent":"%010d.%09d","message":"' % (number, *sent)
    start = head + b'{"jsonrpc":"2.0","method":"notifications/progress","params":{' + params
    end = b'"}}\n\n'
    return start + b"rows read ".ljust(EVENT_BYTES - len(start) - len(end), b".") + end


def chunk(numbers: list[int], sent_ns: int = 0) -> bytes:
    """One HTTP chunk of events."""
    data = b"".join([event(number, sent_ns) for number in numbers])
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def slab(together: int) -> bytes:
    """`SLAB_EVENTS` events in chunks of `together`."""
    return b"".join(
        [chunk(list(range(first, first + together))) for first in range(0, SLAB_EVENTS, together)],
    )


@cache
def party(size: int) -> threading.Barrier:
    """Where the streams of a party wait for each other."""
    return threading.Barrier(size)


def flood(connection: socket.socket, stream: Stream) -> None:
    whole, rest = divmod(stream.events, SLAB_EVENTS)
    for _ in range(whole):
        connection.sendall(slab(stream.together))
    pieces = [
        chunk(list(range(first, min(first + stream.together, rest)))) for first in range(0, rest, stream.together)
    ]
    connection.sendall(b"".join(pieces))
    party(stream.party).wait(PATIENCE_S)
    connection.sendall(LAST_CHUNK)


def drip(connection: socket.socket, stream: Stream) -> None:
    """Send one event at a time, each with the time when it was sent."""
    period_ns = 1_000_000_000 // stream.per_s
    turn = party(stream.party).wait(PATIENCE_S)
    due_ns = time.monotonic_ns() + period_ns * turn // stream.party
    for number in range(stream.events):
        due_ns = max(due_ns + period_ns, time.monotonic_ns())
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        connection.sendall(chunk([number], time.monotonic_ns()))
    connection.sendall(LAST_CHUNK)


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection until the client closes it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    with connection:
        while True:
            while (end := received.find(b"\r\n\r\n")) < 0:
                data = connection.recv(65_536)
                if not data:
                    return
                received += data
            head, received = received[:end], received[end + 4 :]
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body_bytes = int(length[1]) if length else 0
            while len(received) < body_bytes:
                received += connection.recv(65_536)
            body, received = received[:body_bytes], received[body_bytes:]
            target = head.split(b" ", 2)[1].decode()
            stream = Stream.asked_by(target)
            if stream is None:
                streamed = STREAMED_ANSWER if target == STREAMED_CALL else ANSWER
                connection.sendall(SESSION if INITIALIZE in body else streamed)
                continue
            connection.sendall(STREAM_HEAD)
            (drip if stream.per_s else flood)(connection, stream)


def guarded(connection: socket.socket) -> None:
    """Serve; a client that has gone is no event."""
    try:
        serve(connection)
    except (OSError, threading.BrokenBarrierError):
        connection.close()


def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
