"""Streams that a client can come back for, whoever broke them: events under ids of ours, logged, each sent once.

`StreamKeeper` has the streams that a proxy reads, `way_back` leads a client on from its `Last-Event-ID`.

Source: MCP 2025-11-25, Basic / Transports / Resumability and Redelivery.
"""

from shadowcat_core.resumption.event_ids import EventPlace, UpstreamMark
from shadowcat_core.resumption.keeper import StreamKeeper
from shadowcat_core.resumption.stream import ResumableStream, StreamPurpose, UnloggedRoom
from shadowcat_core.resumption.way_back import GoOn, WayBack, way_back

__all__ = [
    "EventPlace",
    "GoOn",
    "ResumableStream",
    "StreamKeeper",
    "StreamPurpose",
    "UnloggedRoom",
    "UpstreamMark",
    "WayBack",
    "way_back",
]
