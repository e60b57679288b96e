"""Hostile event streams: framing, content, JSON-RPC and MCP that no well-meant server sends."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import brotli
import zstandard

from tests.e2e import wire
from tests.e2e.hostile import ANSWER, EVENT, STANDALONE, Case, ask, chunks_of, raw, stream_of, then_until_gone
from tests.e2e.origin import EVENT_STREAM

DEEP = 100_000
BOM = b"\xef\xbb\xbf"


PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":%b}'
CANCELLED = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":%b}'
ERROR = b'{"jsonrpc":"2.0","id":1,"error":%b}'


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def message(**members: Any) -> bytes:
    return event(json.dumps({"jsonrpc": "2.0"} | members).encode())


def deep(opening: bytes, core: bytes, closing: bytes, levels: int = DEEP) -> bytes:
    return opening * levels + core + closing * levels


FRAMING = {
    "a line without end": b"data: " + b"x" * 300_000,
    "a field name without end": b"x" * 300_000,
    "an event of ten thousand data lines": b"data: x\n" * 10_000 + b"\n",
    "NUL in every field": b"id: \x00\nevent: a\x00b\nretry: \x00\ndata: \x00\x00\n\n\x00\n\n",
    "only NUL": b"\x00" * 10_000,
    "invalid UTF-8": b'data: {"jsonrpc":"2.0","id":1,"result":"\xff\xfe\xc3("}\n\n'
    b"id: \xff\xfe\nevent: \xc0\xaf\ndata\n\n",
    "UTF-8 cut off by the end of a line": b"data: \xe2\x86\ndata: \x92\n\n",
    "lone CR as line end": ANSWER.replace(b"\r\n", b"\r"),
    "CR LF and LF CR mixed": b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\r\n\r\r\n" + ANSWER,
    "only line ends": b"\n\r\n\r" * 5_000,
    "other Unicode line ends": b"data: a\xe2\x80\xa8data: b\x0b\x0c\xc2\x85\n\n",
    "a byte order mark at the start": BOM + ANSWER,
    "two byte order marks": BOM + BOM + ANSWER,
    "a byte order mark in the middle": EVENT + BOM + ANSWER,
    "a byte order mark in a field": b"da" + BOM + b"ta: x\n\ndata: " + BOM + b"{}\n\n",
    "UTF-16": ANSWER.decode().encode("utf-16"),
    "no colon, only colons": b"data\n\n:\n\n::::\n\ndata:::\n\n:data: x\n\n" * 100,
    "five thousand digits of retry": b"retry: " + b"9" * 5_000 + b"\ndata: {}\n\n",
    "retry that is no number": "retry: -1\nretry: 1.5\nretry: ٣\nretry: ²\nretry:\nretry\ndata\n\n".encode(),
    "an id of a megabyte": b"id: " + b"i" * 1_000_000 + b"\ndata: {}\n\n",
    "five thousand ids": b"".join(b"id: %d\ndata: {}\n\n" % number for number in range(5_000)),
    "one id again and again": b"id: 7\ndata: {}\n\n" * 2_000,
    "empty ids": b"id\ndata: {}\n\nid:\ndata: {}\n\nid: \ndata: {}\n\n",
    "empty events": b"data\n\ndata:\n\ndata: \n\nevent: message\n\nid: 1\n\n: \n\n",
    "HTML": b"<!doctype html><title>oops</title>",
    "JSON in place of events": json.dumps(wire.result(1)).encode(),
    "JSON lines in place of events": b'{"jsonrpc":"2.0","method":"notifications/message"}\n' * 50,
    "HTTP inside": b"data: x\n\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "no byte at all": b"",
    "one line end": b"\n",
    "a hundred thousand comments": b":\n\n" * 100_000,
}

CONTENT = {
    "arrays a hundred thousand deep": b'{"jsonrpc":"2.0","id":1,"result":' + deep(b"[", b"", b"]") + b"}",
    "arrays that never close": b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * DEEP,
    "objects a hundred thousand deep": b'{"jsonrpc":"2.0","id":1,"result":' + deep(b'{"a":', b"1", b"}") + b"}",
    "objects a thousand deep": b'{"jsonrpc":"2.0","id":1,"result":' + deep(b'{"a":', b"1", b"}", 1_000) + b"}",
    "an error a hundred thousand deep": b'{"jsonrpc":"2.0","id":1,"error":' + deep(b'{"a":', b"1", b"}") + b"}",
    "parameters a hundred thousand deep": b'{"jsonrpc":"2.0","method":"notifications/progress","params":'
    + deep(b'{"progressToken":', b"1", b"}")
    + b"}",
    "an answer whose inside is no JSON": b'{"jsonrpc":"2.0","id":1,"result":{oops}}',
    "an error whose inside is no JSON": b'{"jsonrpc":"2.0","id":1,"error":{oops}}',
    "progress whose inside is no JSON": b'{"jsonrpc":"2.0","method":"notifications/progress","params":{oops}}',
    "a cancellation whose inside is no JSON": CANCELLED % b'{"requestId":1 2}',
    "input required, and no JSON": b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required" oops}}',
    "a tool error, and no JSON": b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,}}',
    "an id of a hundred thousand digits": b'{"jsonrpc":"2.0","id":' + b"9" * 100_000 + b',"result":{}}',
    "an id of 4,299 digits": b'{"jsonrpc":"2.0","id":' + b"9" * 4_299 + b',"result":{}}',
    "an id of 5,000 digits": b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"result":{}}',
    "an id of 1e999": b'{"jsonrpc":"2.0","id":1e999,"result":{}}',
    "an id of 1.0": b'{"jsonrpc":"2.0","id":1.0,"result":{}}',
    "an id of -0": b'{"jsonrpc":"2.0","id":-0,"result":{}}',
    "an id that is null": b'{"jsonrpc":"2.0","id":null,"result":{}}',
    "an id that is an object": b'{"jsonrpc":"2.0","id":{"a":[]},"result":{}}',
    "an id that is an array": b'{"jsonrpc":"2.0","id":[1],"error":{"code":1,"message":"x"}}',
    "an id that is true": b'{"jsonrpc":"2.0","id":true,"result":{}}',
    "an id of a megabyte of text": b'{"jsonrpc":"2.0","id":"' + b"i" * 1_000_000 + b'","result":{}}',
    "an id with a lone surrogate": b'{"jsonrpc":"2.0","id":"\\udc00","method":"ping"}',
    "huge numbers": b'{"jsonrpc":"2.0","id":1,"result":{"n":[1e999,-1e999,1e-999,' + b"1" * 6_000 + b"]}}",
    "NaN and Infinity": b'{"jsonrpc":"2.0","id":1,"result":{"n":[NaN,Infinity,-Infinity]}}',
    "lone surrogates": b'{"jsonrpc":"2.0","method":"\\ud800","params":{"a":"\\udfff\\ud800"}}',
    "a lone surrogate in an error": b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"\\ud800 \\udfff"}}',
    "a lone surrogate in progress": PROGRESS % b'{"progressToken":1,"message":"\\ud800"}',
    "control characters in an error": ERROR
    % b'{"code":1,"message":"\\u001b]0;owned\\u0007\\u001b[2J\\n[x] shadowcat: lie"}',
    "raw control characters": b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"\x1b[2J\x07\x00"}}',
    "duplicate keys": b'{"jsonrpc":"2.0","id":2,"id":1,"result":{},"result":{"isError":true}}',
    "duplicate methods": b'{"jsonrpc":"2.0","method":"a","method":"b","method":3}',
    "result and error together": b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}',
    "an empty array": b"[]",
    "an array of arrays": b'[[],[[{"jsonrpc":"2.0","id":1,"result":{}}]],null,1,"x"]',
    "an array of a hundred thousand": b"[" + b",".join([b'{"jsonrpc":"2.0","id":1,"result":{}}'] * 100_000) + b"]",
    "an array of nothing but brackets": b"[" + b",".join([b"[]"] * 100_000) + b"]",
    "an array that never closes": b'[{"jsonrpc":"2.0","id":1,"result":{}},',
    "a string": b'"jsonrpc"',
    "an object without a name of ours": b"{" + b",".join(b'"k%d":0' % number for number in range(50_000)) + b"}",
}


ODD_VALUES: tuple[object, ...] = (None, True, -1, 10**400, 1.5, "", "x", [], [1], {}, {"a": [1]}, "\ud800")


def odd_messages() -> Iterator[bytes]:
    """Every member that is read somewhere, with every kind of value it ought not to have."""
    for odd in ODD_VALUES:
        yield message(id=1, result=odd)
        yield message(id=1, error=odd)
        yield message(id=1, error={"code": odd, "message": odd, "data": odd})
        yield message(id=1, result={"isError": odd, "content": odd, "resultType": odd})
        yield message(id=1, result={"resultType": "input_required", "requestState": odd, "inputRequests": odd})
        yield message(id=odd, method=odd, params=odd)
        yield message(id=5, method="tools/call", params={"name": odd, "arguments": odd, "_meta": odd})
        yield message(id=6, method="tools/call", params={"name": "x", "_meta": {"progressToken": odd}})
        yield message(method="notifications/progress", params=odd)
        yield message(method="notifications/progress", params={"progressToken": odd, "progress": 1})
        yield message(
            method="notifications/progress",
            params={"progressToken": 1, "progress": odd, "total": odd, "message": odd},
        )
        yield message(method="notifications/message", params={"level": odd, "data": odd, "logger": odd})
        yield message(method="notifications/cancelled", params={"requestId": odd, "reason": odd})
        yield message(method="notifications/resources/updated", params={"uri": odd})
        yield message(jsonrpc=odd, id=1, result={})


ANSWERING = {
    "the wrong id": message(id=2, result={}),
    "the id as text": message(id="1", result={}),
    "two answers": message(id=1, result={}) + message(id=1, result={"isError": True}),
    "an answer and an error": message(id=1, result={}) + message(id=1, error={"code": -1, "message": "no"}),
    "no answer": EVENT * 3,
    "a request of the same id": message(id=1, method="sampling/createMessage", params={}) + ANSWER,
    "an answer, then progress": ANSWER + EVENT * 10,
    "ten thousand open requests": b"".join(message(id=number, method="ping") for number in range(10_000)),
    "odd values everywhere": b"".join(odd_messages()),
}


def flushed(coding: str) -> list[bytes]:
    """A stream whose server flushes after each event."""
    events = [wire.sse(wire.progress(step)) for step in range(5)] + [ANSWER]
    match coding:
        case "gzip":
            packer = zlib.compressobj(wbits=31)
            chunks = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events]
            return [*chunks, packer.flush()]
        case "br":
            brotli_packer = brotli.Compressor()
            chunks = [brotli_packer.process(event) + brotli_packer.flush() for event in events]
            return [*chunks, brotli_packer.finish()]
        case _:
            zstd_packer = zstandard.ZstdCompressor().compressobj()
            chunks = [
                zstd_packer.compress(event) + zstd_packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for event in events
            ]
            return [*chunks, zstd_packer.flush()]


_NOT_SEEN = "content coding"
CODED: dict[str, tuple[str, bytes, str | None]] = {  # coding, body, what is said of it
    "gzip that is none": ("gzip", ANSWER, _NOT_SEEN),
    "br that is none": ("br", ANSWER, _NOT_SEEN),
    "zstd that is none": ("zstd", ANSWER, _NOT_SEEN),
    "gzip that turns into something else": ("gzip", gzip.compress(EVENT)[:30] + b"\x00" * 400, _NOT_SEEN),
    "gzip cut off": ("gzip", gzip.compress(EVENT * 100)[:-20], None),
    "gzip with more behind it": ("gzip", gzip.compress(EVENT) + ANSWER, _NOT_SEEN),
    "gzip of several members": ("gzip", gzip.compress(EVENT) + gzip.compress(ANSWER), None),
    "zstd of several frames": ("zstd", zstandard.compress(EVENT) + zstandard.compress(ANSWER), None),
    "deflate without its wrapper": ("deflate", zlib.compress(ANSWER, wbits=-15), None),
    "a coding nobody knows": ("sdch", ANSWER, "unknown content coding"),
    "gzip twice": ("gzip, gzip", gzip.compress(gzip.compress(ANSWER)), None),
    "identity": ("identity", ANSWER, None),
    "commas only": (",,,", ANSWER, None),
    "a hundred codings": (", ".join(["gzip"] * 100), gzip.compress(ANSWER), _NOT_SEEN),
    "UPPER CASE": ("GZIP", gzip.compress(ANSWER), None),
}


ENDPOINTS: dict[str, tuple[bytes, str | None]] = {
    "to elsewhere": (b"event: endpoint\ndata: https://elsewhere.test/mcp?session_id=s\n\n", "announces the endpoint"),
    "to elsewhere, in two lines": (
        b"event: endpoint\ndata: //x.test/\ndata: [1] shadowcat: lie\n\n",
        "announces the endpoint",
    ),
    "to elsewhere, with control characters": (
        b"event: endpoint\ndata: //x/\x1b]0;owned\x07\x0b\x0c\xc2\x85\n\n",
        "announces the endpoint",
    ),
    "that is no URI": (b"event: endpoint\ndata: http://[::1\n\n", "endpoint"),
    "of bytes that are no UTF-8": (b"event: endpoint\ndata: /\xff\xfe\n\n", None),
    "of nothing": (b"event: endpoint\ndata:\n\n", None),
    "of sixty thousand bytes": (b"event: endpoint\ndata: /" + b"e" * 60_000 + b"\n\n", None),
    "that is too late": (EVENT + b"event: endpoint\ndata: https://elsewhere.test/mcp\n\n", None),
    "after a long silence": (b":" + b"." * 150_000 + b"\n\nevent: endpoint\ndata: https://elsewhere.test/\n\n", None),
    "by a script": (b"event: endpoint\ndata: javascript:alert(1)\n\n", None),
}


# Bodies that a lenient reader reads to their end.
MESSAGES = {
    "gzip of several members": 2,
    "zstd of several frames": 2,
    "deflate without its wrapper": 1,
    "gzip twice": 1,
    "identity": 1,
    "commas only": 1,
    "UPPER CASE": 1,
}


def _cases() -> Iterator[Case]:
    for name, body in FRAMING.items():
        yield Case(f"framing: {name}", stream_of(body, cut=4_096), ask())
    for name, data in CONTENT.items():
        yield Case(f"content: {name}", stream_of(EVENT + event(data) + ANSWER, cut=30_000), ask())
    for name, body in ANSWERING.items():
        yield Case(f"answers: {name}", stream_of(body, cut=30_000), ask())
    yield Case("framing: every shape, byte by byte", stream_of(wire.EVERY_SHAPE * 8, cut=1), ask())
    yield Case("framing: a long silence in bytes", stream_of(b": keep-alive\n\n" * 200 + ANSWER, cut=1), ask())
    split = [
        b"data: {}\r",
        b"\n\r",
        b"\n",
        b"\xef",
        b"\xbb\xbfdata: ",
        b"\xe2",
        b"\x86\x92",
        b"\r",
        b"\rdata: x\n",
        b"\n",
    ]
    yield Case("framing: cut within line ends and characters", chunks_of(*split), ask())
    for name, (coding, body, said) in CODED.items():
        part = stream_of(body, EVENT_STREAM | {"content-encoding": coding}, cut=50)
        yield Case(f"coded: {name}", part, ask(), said=said, messages=MESSAGES.get(name))
    for coding in ("gzip", "br", "zstd"):
        headers = EVENT_STREAM | {"content-encoding": coding}
        yield Case(
            f"coded: {coding} flushed at each event", chunks_of(*flushed(coding), headers=headers), ask(), messages=6
        )
    for name, (first, said) in ENDPOINTS.items():
        part = stream_of(first + EVENT, cut=20_000)
        request = ask(b"", {"Accept": "text/event-stream"}, method="GET")
        yield Case(f"an endpoint {name}", part, request, asked=b"", said=said)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    start = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
    yield Case("a reset in an event", raw(start, b"10\r\ndata: ", then="resets"), ask())
    yield Case("a close in an event", raw(start, b"10\r\ndata: ", then="closes"), ask())
    yield Case("a close between events", raw(start, then="closes"), ask())
    yield Case("a reset right after the head", raw(head + b"Transfer-Encoding: chunked\r\n\r\n", then="resets"), ask())
    yield Case("a close right after the head", raw(head + b"\r\n", then="closes"), ask())
    yield Case(
        "a reset of a stream of known length", raw(head + b"Content-Length: 9999\r\n\r\n", EVENT, then="resets"), ask()
    )
    yield Case("a client that leaves in a stream", then_until_gone(EVENT, EVENT[:30]), ask(), leaves=len(EVENT) + 30)
    standalone = ask(b"", STANDALONE, method="GET")
    yield Case("a client that leaves its own stream", then_until_gone(EVENT), standalone, asked=b"", leaves=len(EVENT))
    listen = ask(wire.request("subscriptions/listen"), wire.headers("subscriptions/listen"))
    lines = b'{"jsonrpc":"2.0","method":"x"}\r\n\n\xff\n[' + b"[" * DEEP + b"\n{}"
    yield Case(
        "lines that are no messages", stream_of(lines, {"content-type": "application/json"}, cut=9_000), listen,
        asked=wire.request("subscriptions/listen"),
    )  # fmt: skip


CASES = list(_cases())
