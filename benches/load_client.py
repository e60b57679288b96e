"""The MCP client of the proxy's bench: blocking sockets, no parsing but what a figure needs."""

import re
import selectors
import socket
import time
from typing import Self

from benches.load_origin import LAST_CHUNK, PATIENCE_S, SENT, STREAMED_CALL, Stream, WireDiffersError

CALL = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":'
    b'{"name":"echo","arguments":{"message":"hello"},"_meta":{"progressToken":7}}}'
)
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"load","version":"1"}}}'
)
SESSION = re.compile(rb"(?i)mcp-session-id: ([!-~]+)")
RECEIVE_BYTES = 1 << 20


class Client:
    """One keep-alive connection to a proxy, or to the origin itself, in one MCP session."""

    def __init__(self, port: int, session: str = "bench") -> None:
        self._port = port
        self._session = session
        self._buffer = bytearray(RECEIVE_BYTES)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, target: str, body: bytes = CALL) -> bytes:
        session = f"Mcp-Session-Id: {self._session}\r\n" if body is CALL else ""
        return (
            f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
            f"{session}MCP-Protocol-Version: 2025-11-25\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def begin(self) -> str:
        """Begin a session as clients do, and go on in it. Returns its id.

        Raises:
            WireDiffersError: the answer names no session.
        """
        self.socket.sendall(self._request("/mcp", INITIALIZE))
        received = b""
        while not received.endswith(b"}}"):
            received += self.more()
        named = SESSION.search(received)
        if named is None:
            raise WireDiffersError(f"no session: {received[:200]!r}")
        self._session = named[1].decode()
        return self._session

    def calls(self, count: int) -> list[float]:
        """Call a tool `count` times, one after the other. Returns the round trips in µs."""
        return self._round_trips(self._request("/mcp"), b"}}", count)

    def streamed_calls(self, count: int) -> list[float]:
        """Do what `calls` does with a tool whose results come as event streams."""
        return self._round_trips(self._request(STREAMED_CALL), LAST_CHUNK, count)

    def _round_trips(self, request: bytes, end: bytes, count: int) -> list[float]:
        found = []
        for _ in range(count):
            started = time.perf_counter_ns()
            self.socket.sendall(request)
            received = self.socket.recv(RECEIVE_BYTES)
            while not received.endswith(end) or b"\r\n\r\n" not in received:
                received += self.more()
            found.append((time.perf_counter_ns() - started) / 1000)
        return found

    def ask(self, stream: Stream) -> bytes:
        """Ask for a stream and give what of its body came together with the head."""
        self.socket.sendall(self._request(stream.target))
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self.more()
        if b"chunked" not in received[:end]:
            raise WireDiffersError(f"not a stream: {received[:200]!r}")
        return received[end + 4 :]

    def more(self) -> bytes:
        """Receive what there is, at least a byte."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise WireDiffersError("the connection was closed")
        return data

    def flood(self, stream: Stream) -> float:
        """Take a stream as fast as it comes. Returns the seconds from the request to the last byte."""
        started = time.perf_counter()
        first = self.ask(stream)
        size, tail = len(first), first[-len(LAST_CHUNK) :]
        buffer, receive = self._buffer, self.socket.recv_into
        while not tail.endswith(LAST_CHUNK):
            count = receive(buffer)
            if not count:
                break
            size += count
            tail = tail_of(tail, buffer, count)
        elapsed = time.perf_counter() - started
        stream.check(size)
        return elapsed

    def drip(self, stream: Stream) -> list[float]:
        """Take a paced stream. Returns each event's latency in µs, from the origin's write to this read."""
        return take_all([self], stream)


def take_all(clients: list[Client], stream: Stream) -> list[float]:
    """Take the same stream on every client at once. Returns the latencies in µs of the events that are paced."""
    waiting = selectors.DefaultSelector()
    sizes: dict[Client, int] = {}
    tails: dict[Client, bytes] = {}
    latencies: list[float] = []
    for client in clients:
        first = client.ask(stream)
        sizes[client], tails[client] = len(first), first[-len(LAST_CHUNK) :]
        waiting.register(client.socket, selectors.EVENT_READ, client)
    while waiting.get_map():
        for key, _ in waiting.select(PATIENCE_S):
            client = key.data
            data = client.more()
            now_ns = time.monotonic_ns()
            if stream.per_s:
                latencies.extend((now_ns - int(seconds + ns)) / 1000 for seconds, ns in SENT.findall(data))
            sizes[client] += len(data)
            tails[client] = tail_of(tails[client], data, len(data))
            if tails[client].endswith(LAST_CHUNK):
                waiting.unregister(client.socket)
    waiting.close()
    for size in sizes.values():
        stream.check(size)
    return latencies


def tail_of(before: bytes, data: bytes | bytearray, count: int) -> bytes:
    """The last bytes of what was received until now, enough to know the end by; `count` bytes of `data` are new."""
    return (before + data[max(0, count - len(LAST_CHUNK)) : count])[-len(LAST_CHUNK) :]
