"""What happened to sessions, requests and streams since the proxy began, for commands and whoever collects metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class RelayCounts:
    """Plain counters; they only grow."""

    requests: int = 0
    """Exchanges that a route was about."""
    sessions_begun: int = 0
    sessions_moved: int = 0
    """Begun anew at a server, behind the client's back."""
    sessions_not_moved: int = 0
    """Attempts at that which failed."""
    sessions_ended: int = 0
    """By their clients."""
    sessions_expired: int = 0
    refused: int = 0
    """Requests of sessions that are unknown, or somebody else's."""
    sent_again: int = 0
    waited: int = 0
    """Times that a request waited for a server to come back."""
    given_up: int = 0
    """Requests that were answered with an error, as they may have run."""
    unreachable: int = 0
    """Requests that were answered with an error, as no server took them."""
    undelivered: int = 0
    """Notifications, and answers to requests of a server's, that reached nobody."""
    streams: int = 0
    """Event streams that clients can come back for."""
    streams_resumed: int = 0
    """Clients that came back."""
    streams_reconnected: int = 0
    """Streams that went on from their server, or another one, on the client's open connection."""
    streams_read_on: int = 0
    """Streams that were read on when their clients had left."""
    answers_lost: int = 0
    """Answers that broke off with their streams, told to the client as errors."""
    events_lost: int = 0
    """Events that nobody had any more when their client came back."""

    def __str__(self) -> str:
        named = ((name, getattr(self, name)) for name in self.__slots__)
        return ", ".join(f"{count:,} {_words(name, count)}" for name, count in named if count) or "nothing happened yet"


def _words(name: str, count: int) -> str:
    """A counter's name behind its count: what is counted comes first, where it is said."""
    what, *happened = name.split("_")
    return " ".join([what.removesuffix("s") if count == 1 else what, *happened])
