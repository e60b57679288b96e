"""The requests that go to a server for a client: its own, or one that goes on with its stream. No I/O."""

from shadowcat_core.mcp import SESSION_ID_HEADER, Era
from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.steps import Leg, Sends
from shadowcat_core.resumption import UpstreamMark
from shadowcat_core.sessions import SessionMapping
from shadowcat_core.sessions.lifecycle import HeaderEdit, request_edits
from shadowcat_core.upstreams import Member, Pool

_UNCODED: HeaderEdit = ("Accept-Encoding", "identity")
"""In a coded stream nobody finds an event, and an answer's reason cannot be read."""


def request_leg(
    pool: Pool, asked: Asked, mapping: SessionMapping | None, member: Member, sends: Sends = Sends.REQUEST
) -> Leg:
    """Make out a client's request for an upstream; `mapping` is its session's, None for what belongs to none."""
    edits: list[HeaderEdit] = list(member.config.headers.items())
    if mapping is not None:
        edits += [*request_edits(mapping), _UNCODED]
    elif asked.initialize is not None:
        edits += [(SESSION_ID_HEADER, None), _UNCODED]
    else:
        if asked.era is Era.MODERN:
            edits.append((SESSION_ID_HEADER, None))  # there it has no meaning, and at a server of both eras another's
        if sends is not Sends.REQUEST:
            edits.append(_UNCODED)
    return Leg(member.endpoint, member.endpoint.target(pool.route.path, asked.path), edits, sends)


def resuming_leg(pool: Pool, asked: Asked, mapping: SessionMapping, member: Member, mark: UpstreamMark | None) -> Leg:
    """Make out a GET that goes on with a stream behind `mark`; None for one that is opened anew."""
    edits: list[HeaderEdit] = [
        *member.config.headers.items(),
        *request_edits(mapping),
        _UNCODED,
        ("Accept", "text/event-stream"),
        ("Last-Event-ID", None if mark is None else mark.event_id),
    ]
    return Leg(member.endpoint, member.endpoint.target(pool.route.path, asked.path), edits, Sends.RESUMPTION)
