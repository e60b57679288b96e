"""Connections to servers that are reset, or given up, while they are made, and who makes them.

mitmproxy asserts that a connection which was just made has a peer. One that was reset in that moment has none, and then
nobody is ever told how connecting ended: whoever waits for it, waits for ever. So it is when connecting is given up
before it has begun.

Of who handles a connection mitmproxy's layers know nothing. Those of clients are listed by its proxy server; those of
flows that are replayed are by nobody but us.
"""

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from mitmproxy import ctx
from mitmproxy.addons.clientplayback import ReplayHandler
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.proxy import commands, events, server

from shadowcat_addons.http_stream.replacing import replace

GIVEN_UP = "connecting was given up"
RESET = "the connection was reset as it was made"

_replays: WeakValueDictionary[str, server.ConnectionHandler] = WeakValueDictionary()


def handler_of(client: Client) -> server.ConnectionHandler | None:
    """Find who handles a client's connection, also one that is only played; None when it is over."""
    listed: server.ConnectionHandler | None = ctx.master.addons.get("proxyserver").connections.get(client.id)
    return listed or _replays.get(client.id)


def tell_of_resets() -> Callable[[], None]:
    """Let those who wait for a connection be told that it was reset. Returns what undoes this."""
    original = server.ConnectionHandler.open_connection

    async def open_connection(self: server.ConnectionHandler, command: commands.OpenConnection) -> None:
        connection = command.connection
        if isinstance(self, ReplayHandler):
            _replays[self.client.id] = self
        try:
            await original(self, command)
        except asyncio.CancelledError:
            if connection.timestamp_start is None:  # it waited for its turn
                self.transports.pop(connection, None)
                connection.error = GIVEN_UP
                await self.server_event(events.OpenConnectionCompleted(command, GIVEN_UP))
            raise
        except AssertionError:
            if connection.peername or connection.state is not ConnectionState.OPEN:
                raise
            io = self.transports.pop(connection, None)
            if io is not None and io.writer is not None:
                io.writer.close()
            connection.state = ConnectionState.CLOSED
            connection.error = RESET
            await self.server_event(events.OpenConnectionCompleted(command, RESET))

    return replace(server.ConnectionHandler, "open_connection", open_connection)
