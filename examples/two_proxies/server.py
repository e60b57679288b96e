"""The example server with event ids, so that a stream can be resumed: what a proxy cannot give back, the server can.

Run as:  python examples/two_proxies/server.py --port 3091

The SDK names a stream to its event store by the request's id alone, which two clients may share: this store is good
for one client at a time.
"""

import argparse

import uvicorn
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage

from shadowcat_core.demo.server import desk

MAX_EVENTS = 10_000


class Events(EventStore):
    """The latest events of all streams, by ids that count up."""

    def __init__(self) -> None:
        self._events: dict[int, tuple[str, JSONRPCMessage | None]] = {}
        self._latest = 0

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep an event; one without a message only tells a client from where to come back."""
        self._latest += 1
        self._events[self._latest] = (stream_id, message)
        self._events.pop(self._latest - MAX_EVENTS, None)
        return str(self._latest)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came behind an event in its stream, and say which stream that was."""
        last = int(last_event_id) if last_event_id.isdecimal() else 0
        if last not in self._events:
            return None
        stream_id, _ = self._events[last]
        while last < self._latest:  # which may grow while the client is slow
            last += 1
            other, message = self._events[last]
            if other == stream_id and message is not None:
                await send_callback(EventMessage(message, str(last)))
        return stream_id


def main() -> None:
    """Serve the desk until Ctrl-C."""
    parser = argparse.ArgumentParser(description="The example MCP server, with event ids.")
    parser.add_argument("--port", type=int, default=3091)
    port: int = parser.parse_args().port
    app = desk.streamable_http_app(event_store=Events(), retry_interval=200)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
