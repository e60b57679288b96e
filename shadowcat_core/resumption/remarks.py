"""What proxies tell each other in a stream's log: comments that take a position and are not for clients."""

from typing import Final

STILL_READ: Final = b": read without its client\n\n"
"""The client has left this proxy, which goes on reading from the server: its events will be in the log."""
TAKEN_OVER: Final = b": taken over\n\n"
"""The client is at another proxy, which reads from the server now; whoever wrote the stream before is to stop."""
READ_NO_MORE: Final = b": read no more\n\n"
"""The connection to the server is over before the answers came: nobody has to wait for more from here."""
CAME_BACK: Final = b": came back\n\n"
"""The client is back at the proxy that reads the stream. If that has been taken over, the log refuses this, and so says
it to a proxy that has nothing else to write."""
REMARKS: Final = frozenset({STILL_READ, TAKEN_OVER, READ_NO_MORE, CAME_BACK})
