"""Whole conversations on tape: a legacy session with streams and a server that asks back, and a stdio pipe."""

import gzip
import json

from shadowcat_core.tape.encoding import encode, encode_header
from shadowcat_core.tape.records import Chunk, End, Open, Request, Response
from tests.core.tape_parts import ORIGIN_NS, header

SESSION = "[REDACTED:mcp-session-id:0a1b2c3d]"
EVENTS = [("Content-Type", "text/event-stream; charset=utf-8")]
JSON = [("Content-Type", "application/json")]


def at(ms):
    return ORIGIN_NS + ms * 1_000_000


def rpc(**fields):
    return json.dumps({"jsonrpc": "2.0"} | fields).encode()


def event(number, **fields):
    return b"event: message\nid: %d\ndata: %b\n\n" % (number, rpc(**fields))


def post(number, ms, body, session=SESSION):
    opened = Open(at(ms), number, f"f{number}", "POST", "http://h/mcp", "HTTP/1.1", JSON, session=session, era="legacy")
    return [opened, Request(at(ms), number, body)]


def reply(number, ms, chunks, headers, *, how="eof", status=200):
    """A response whose chunks come a millisecond after one another, the first a millisecond after the head."""
    records = [Response(at(ms), number, status, "OK", headers)]
    records += [Chunk(at(ms + 1 + n), number, "s2c", chunk) for n, chunk in enumerate(chunks)]
    return [*records, End(at(ms + 1 + len(chunks)), number, how)]


def session():
    """initialize, a listening GET, a tool call that streams and asks back, one that fails, and one tool error."""
    result = rpc(id=0, result={"protocolVersion": "2025-11-25"})
    ask = event(1, id=1, method="elicitation/create", params={"message": "sure?"})
    progress = event(2, method="notifications/progress", params={"progress": 1, "total": 2})
    stream = ask[:30], ask[30:] + progress, event(3, id=7, result={"content": []})
    get = Open(at(20), 2, "f2", "GET", "http://h/mcp", "HTTP/1.1", [("Accept", "text/event-stream")], session=SESSION)
    return [
        *post(1, 0, rpc(id=0, method="initialize", params={}), session=None),
        *reply(1, 8, [result[:20], result[20:]], [*JSON, ("Mcp-Session-Id", SESSION)]),
        get,
        Response(at(21), 2, 200, "OK", EVENTS),
        *post(3, 30, rpc(id=7, method="tools/call", params={"name": "echo", "arguments": {}})),
        *reply(3, 40, stream[:2], EVENTS)[:-1],
        *post(4, 45, rpc(id=1, result={"action": "accept"})),
        *reply(4, 46, [], [], status=202),
        Chunk(at(47), 3, "s2c", stream[2]),
        End(at(48), 3, "eof"),
        Chunk(at(50), 2, "s2c", event(9, method="notifications/tools/list_changed")),
        *post(5, 60, rpc(id="8", method="tools/call", params={"name": "missing"})),
        *reply(5, 61, [rpc(id="8", error={"code": -32602, "message": "no such tool"})], JSON),
        *post(6, 70, rpc(id=9, method="tools/call", params={"name": "echo"})),
        *reply(6, 71, [gzip.compress(rpc(id=9, result={"isError": True}))], [*JSON, ("Content-Encoding", "gzip")]),
    ]


def pipe():
    """A stdio server: one exchange, lines both ways, one line cut into two chunks, one line that is no JSON."""
    ask, answer = rpc(id=1, method="ping") + b"\n", rpc(id=1, result={}) + b"\r\n"
    return [
        Open(at(0), 1, "pid 7", "", "node server.js", "", [], transport="stdio"),
        Chunk(at(1), 1, "c2s", ask[:9]),
        Chunk(at(2), 1, "s2c", b"starting up\n"),
        Chunk(at(3), 1, "c2s", ask[9:]),
        Chunk(at(5), 1, "s2c", answer),
        End(at(6), 1, "eof"),
    ]


def tape_of(records):
    return encode_header(header()) + encode(records, ORIGIN_NS)
