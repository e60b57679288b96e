"""Connections to servers that are reset, or given up, while they are made.

mitmproxy asserts that a connection which was just made has a peer. One that was reset in that moment has none, and then
nobody is ever told how connecting ended: whoever waits for it, waits for ever. So it is when connecting is given up
before it has begun.
"""

import asyncio
from collections.abc import Callable

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, server

GIVEN_UP = "connecting was given up"
RESET = "the connection was reset as it was made"


def tell_of_resets() -> Callable[[], None]:
    """Let those who wait for a connection be told that it was reset. Returns what undoes this."""
    original = server.ConnectionHandler.open_connection

    async def open_connection(self: server.ConnectionHandler, command: commands.OpenConnection) -> None:
        connection = command.connection
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

    server.ConnectionHandler.open_connection = open_connection  # type: ignore[method-assign]

    def undo() -> None:
        if server.ConnectionHandler.open_connection is open_connection:
            server.ConnectionHandler.open_connection = original  # type: ignore[method-assign]

    return undo
