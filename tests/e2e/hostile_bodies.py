"""Hostile bodies: requests and answers that come as one document, of kinds that no well-meant partner sends."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import brotli
import zstandard

from tests.e2e import wire
from tests.e2e.hostile import ANSWER, EVENT, STANDALONE, Case, ask, body_of, stream_of
from tests.e2e.hostile_streams import BOM, CONTENT, ODD_VALUES, deep
from tests.e2e.origin import EVENT_STREAM, JSON

RESULT = json.dumps(wire.result(1)).encode()
PLAIN = {"Accept": wire.ACCEPT, "Content-Type": "application/json"}
LEGACY = wire.headers("tools/call", era="legacy", session="s-1")
BOMB = b"\x00" * 40_000_000


def _odd_requests() -> Iterator[dict[str, Any]]:
    for odd in ODD_VALUES:
        yield {"id": odd, "method": "tools/call", "params": {"name": odd, "arguments": odd, "_meta": odd}}
        yield {"id": 1, "method": odd, "params": odd}
        yield {"id": 1, "method": "initialize", "params": {"protocolVersion": odd, "clientInfo": odd}}
        yield {"id": 1, "method": "tools/call", "params": {"name": "x", "_meta": {"progressToken": odd}}}
        meta = {"io.modelcontextprotocol/protocolVersion": odd}
        yield {"id": 1, "method": "tools/call", "params": {"name": "x", "requestState": odd, "_meta": meta}}
        yield {"id": 1, "method": "tasks/get", "params": {"taskId": odd}}
        yield {"id": 1, "method": "resources/read", "params": {"uri": odd}}
        yield {"method": "notifications/cancelled", "params": {"requestId": odd}}
        yield {"id": odd, "result": odd}
        yield {"id": odd, "error": odd}


CALLS = b",".join(b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"x"}}' % n for n in range(20_000))

# MCP by its headers, whatever the body says.
REQUESTS = {
    "nothing": b"",
    "blanks": b" \r\n\t ",
    "a byte order mark": BOM + wire.CALL,
    "UTF-16": wire.CALL.decode().encode("utf-16"),
    "no JSON": b"\xff\xfe not JSON \x00",
    "an empty array": b"[]",
    "an array of arrays": b"[[],[[]],null,1]",
    "an array of odd requests": json.dumps([{"jsonrpc": "2.0"} | odd for odd in _odd_requests()]).encode(),
    "twenty thousand requests": b"[" + CALLS + b"]",
    "arrays a hundred thousand deep": deep(b"[", b"", b"]"),
    "a call a hundred thousand deep": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
    + deep(b'{"name":', b"1", b"}")
    + b"}",
    "a call whose inside is no JSON": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{oops}}',
    "duplicate keys": wire.CALL.replace(b'"id": 1', b'"id": 2, "method": "x", "id": 1'),
    "an id of 4,299 digits": wire.CALL.replace(b'"id": 1', b'"id": ' + b"9" * 4_299),
    "an id of 5,000 digits": wire.CALL.replace(b'"id": 1', b'"id": ' + b"9" * 5_000),
    "an id of a megabyte": wire.CALL.replace(b'"id": 1', b'"id": "' + b"i" * 1_000_000 + b'"'),
    "a name with lone surrogates": wire.CALL.replace(b'"echo"', b'"\\ud800\\udfff"'),
    "a name with control characters": wire.CALL.replace(
        b'"echo"', b'"\\u001b]0;owned\\u0007\\u001b[2J\\n[1] shadowcat: lie"'
    ),
    "a name of a megabyte": wire.CALL.replace(b'"echo"', b'"' + b"n" * 1_000_000 + b'"'),
    "a method with control characters": b'{"jsonrpc":"2.0","id":1,"method":"\\u001b[2J\\u0000/x","params":{}}',
    "a form": b"jsonrpc=2.0&id=1&method=tools%2Fcall",
}

ANSWERS = {
    "nothing": b"",
    "blanks": b" \n\t ",
    "a byte order mark": BOM + RESULT,
    "UTF-16": RESULT.decode().encode("utf-16"),
    "events in JSON's clothes": ANSWER,
    "HTML": b"<!doctype html><title>502</title>",
    "NUL": b"\x00" * 1_000,
    "two documents": RESULT + RESULT,
}


def _cases() -> Iterator[Case]:
    for name, body in REQUESTS.items():
        yield Case(f"request: {name}", body_of(RESULT), ask(body), asked=body)
    for name in (
        "nothing",
        "blanks",
        "a byte order mark",
        "an array of odd requests",
        "a call whose inside is no JSON",
    ):
        body = REQUESTS[name]
        yield Case(f"request of a session: {name}", stream_of(ANSWER), ask(body, LEGACY), asked=body)
    for number, odd in enumerate(_odd_requests()):
        body = json.dumps({"jsonrpc": "2.0"} | odd).encode()
        if number % 7 == 0:  # one of each kind of value and each kind of message; the array has them all
            yield Case(f"odd request {number}", stream_of(ANSWER), ask(body, LEGACY), asked=body)
    for name, body in (ANSWERS | CONTENT).items():
        yield Case(f"answer: {name}", body_of(body), ask())
        yield Case(f"answer of unknown length: {name}", body_of(body, framing="chunked", cut=9_000), ask())
    for kind in ("text/plain", "text/event-stream, text/event-stream", "", "*/*", "application/json; charset=utf-16"):
        yield Case(f"answer as {kind or 'nothing'}", body_of(RESULT, {"content-type": kind}), ask())
    yield from _coded()
    yield from _not_ours()
    big = b'{"jsonrpc":"2.0","id":1,"result":{"text":"' + b"t" * 3_000_000 + b'"}}'
    yield Case("answer of three megabytes", body_of(big, cut=100_000), ask())
    yield Case("answer of three megabytes of unknown length", body_of(big, framing="close", cut=100_000), ask())
    yield Case("request of three megabytes", body_of(RESULT), ask(big), asked=big)


def _coded() -> Iterator[Case]:
    packed = {"gzip": gzip.compress(BOMB, 1), "br": brotli.compress(BOMB, quality=3), "zstd": zstandard.compress(BOMB)}
    for coding, bomb in packed.items():
        headers = {"content-encoding": coding}
        yield Case(f"bomb: {coding} answer", body_of(bomb, JSON | headers), ask())
        yield Case(
            f"bomb: {coding} stream", stream_of(bomb, EVENT_STREAM | headers, cut=len(bomb)), ask(), said="limit"
        )
        yield Case(f"bomb: {coding} request", body_of(RESULT), ask(bomb, wire.CALL_HEADERS | headers), asked=bomb)
    gzipped = gzip.compress(wire.CALL)
    coded = wire.CALL_HEADERS | {"Content-Encoding": "gzip"}
    yield Case("request: gzip", body_of(RESULT), ask(gzipped, coded), asked=gzipped)
    yield Case("request: gzip cut off", body_of(RESULT), ask(gzipped[:-9], coded), asked=gzipped[:-9])
    yield Case("request: gzip that is none", body_of(RESULT), ask(wire.CALL, coded))
    unknown = wire.CALL_HEADERS | {"Content-Encoding": "sdch"}
    yield Case("request: a coding nobody knows", body_of(RESULT), ask(wire.CALL, unknown))
    for name, coding, body in (
        ("gzip that is none", "gzip", RESULT),
        ("gzip cut off", "gzip", gzip.compress(RESULT)[:-9]),
        ("a coding nobody knows", "sdch", RESULT),
        ("a hundred codings", ", ".join(["gzip"] * 100), RESULT),
    ):
        yield Case(f"answer: {name}", body_of(body, JSON | {"content-encoding": coding}), ask())


def _not_ours() -> Iterator[Case]:
    """What is not MCP, or only looks like it: left alone, and not recorded."""
    plain = {"Accept": "*/*", "Content-Type": "application/json"}
    rpc = b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[]}'
    for name, body in {
        "JSON-RPC of others": rpc,
        "nothing": b"",
        "deep": deep(b"[", b"", b"]"),
        "bom": BOM + rpc,
    }.items():
        yield Case(f"not ours: {name}", body_of(RESULT), ask(body, plain), asked=body, taped=False)
    yield Case(
        "not ours: a form",
        body_of(RESULT),
        ask(b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
        asked=b"a=b",
        taped=False,
    )
    for method in ("PUT", "PATCH", "OPTIONS", "DELETE"):
        headers = {"Content-Type": "application/json"}
        yield Case(f"not ours: {method}", body_of(RESULT), ask(wire.CALL, headers, method=method), taped=False)
    odd = {"Accept": wire.ACCEPT, "Content-Type": 'application/json;;=;charset="utf-8'}
    yield Case("request as JSON with odd parameters", body_of(RESULT), ask(wire.CALL, odd))
    yield Case("request without a content type", body_of(RESULT), ask(wire.CALL, {"Accept": wire.ACCEPT}))
    yield Case(
        "the end of a session",
        body_of(b"", {}, status=204),
        ask(b"", {"Mcp-Session-Id": "s"}, method="DELETE"),
        asked=b"",
    )
    yield Case(
        "a stream that the server refuses",
        body_of(b"no", JSON, status=405),
        ask(b"", STANDALONE, method="GET"),
        asked=b"",
    )
    yield Case(
        "a stream that is an image",
        body_of(b"\x89PNG", {"content-type": "image/png"}),
        ask(b"", STANDALONE, method="GET"),
        asked=b"",
    )
    yield Case(
        "somebody else's stream",
        stream_of(EVENT[:20] + b"\n\n" + EVENT),
        ask(b"", {"Accept": "text/event-stream"}, method="GET"),
        asked=b"",
    )


CASES = list(_cases())
