"""Hostile HTTP: heads, lengths, chunks and endings that no well-meant partner sends."""

from collections.abc import Iterator

from tests.e2e import wire
from tests.e2e.hostile import ANSWER, EVENT, Case, ask, body_of, raw, stream_of, until_gone
from tests.e2e.hostile_bodies import RESULT

OK = b"HTTP/1.1 200 OK\r\n"
AS_JSON = b"Content-Type: application/json\r\n"
AS_EVENTS = b"Content-Type: text/event-stream\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NO_LENGTH = b"Content-Length: 0\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(RESULT)
WHOLE = OK + AS_JSON + LENGTH + b"\r\n" + RESULT
STREAM = OK + AS_EVENTS + CHUNKED + b"\r\n"


def chunk(data: bytes, size: bytes | None = None) -> bytes:
    return (b"%x" % len(data) if size is None else size) + b"\r\n" + data + b"\r\n"


SIZE = b"%X" % len(EVENT)
CHUNKS = {
    "extensions": chunk(EVENT, SIZE + b';name=value;q="a;b"') + b"0;last\r\n\r\n",
    "an extension of ten thousand bytes": chunk(EVENT, SIZE + b";" + b"e" * 10_000) + b"0\r\n\r\n",
    "upper-case sizes": chunk(EVENT, SIZE) + b"0\r\n\r\n",
    "sizes with zeros before": chunk(EVENT, b"0000" + SIZE) + b"000\r\n\r\n",
    "a size with blanks behind": chunk(EVENT, SIZE + b"  ") + b"0\r\n\r\n",
    "a size with a blank before": chunk(EVENT, b" " + SIZE) + b"0\r\n\r\n",
    "a size with 0x before": chunk(EVENT, b"0x" + SIZE) + b"0\r\n\r\n",
    "a negative size": chunk(EVENT, b"-1") + b"0\r\n\r\n",
    "a size that is no number": chunk(EVENT, b"zz") + b"0\r\n\r\n",
    "a size of thirty digits": chunk(EVENT, b"f" * 30),
    "no size": chunk(EVENT, b"") + b"0\r\n\r\n",
    "LF as line end": b"%x\n%b\n0\n\n" % (len(EVENT), EVENT),
    "a chunk longer than it says": b"5\r\n" + EVENT + b"\r\n0\r\n\r\n",
    "trailers": chunk(EVENT) + b"0\r\nX-Trailer: a\r\nMcp-Session-Id: b\r\n\r\n",
    "trailers that are none": chunk(EVENT) + b"0\r\nno colon\r\n\r\n",
    "two ends": chunk(EVENT) + b"0\r\n\r\n0\r\n\r\n",
    "more behind the end": chunk(EVENT) + b"0\r\n\r\n" + WHOLE,
    "nothing but an end": b"0\r\n\r\n",
}

HEADS = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + AS_EVENTS + b"\r\n" + ANSWER,
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\n" + AS_JSON + LENGTH + b"\r\n" + RESULT,
    "no head at all": ANSWER,
    "a status of 99": WHOLE.replace(b"200", b"99"),
    "a status of 1000": WHOLE.replace(b"200", b"1000"),
    "a status of 600": WHOLE.replace(b"200", b"600"),
    "no reason": WHOLE.replace(b" OK", b""),
    "a reason that is no ASCII": WHOLE.replace(b"OK", b"\xff\xe2\x86\x92"),
    "a line without a colon": WHOLE.replace(LENGTH, b"no colon\r\n" + LENGTH),
    "a name with a blank": WHOLE.replace(LENGTH, b"X Y: z\r\n" + LENGTH),
    "a blank before the colon": WHOLE.replace(LENGTH, b"X : z\r\n" + LENGTH),
    "an empty name": WHOLE.replace(LENGTH, b": z\r\n" + LENGTH),
    "NUL in a value": WHOLE.replace(LENGTH, b"X: a\x00b\r\n" + LENGTH),
    "a folded line": WHOLE.replace(LENGTH, b"X: a\r\n b\r\n" + LENGTH),
    "bytes that are no UTF-8": WHOLE.replace(LENGTH, b"X: \xff\xfe\r\n" + LENGTH),
    "LF as line end": WHOLE.replace(b"\r\n", b"\n"),
    "a value of 60,000 bytes": WHOLE.replace(LENGTH, b"X: " + b"x" * 60_000 + b"\r\n" + LENGTH),
    "two thousand lines": WHOLE.replace(LENGTH, b"X: y\r\n" * 2_000 + LENGTH),
    "a session id with odd bytes": WHOLE.replace(LENGTH, b"Mcp-Session-Id: \xff\x80 \t!;,\r\n" + LENGTH),
    "two session ids": WHOLE.replace(LENGTH, b"Mcp-Session-Id: a\r\nMcp-Session-Id: b\r\n" + LENGTH),
    "an empty session id": WHOLE.replace(LENGTH, b"Mcp-Session-Id:\r\n" + LENGTH),
    "no content type": OK + LENGTH + b"\r\n" + RESULT,
    "a redirection with a secret": b"HTTP/1.1 307 x\r\nLocation: https://u:p@x.test/?token=s\r\n" + NO_LENGTH,
    "a demand for a token": b'HTTP/1.1 401 x\r\nWWW-Authenticate: Bearer resource_metadata="x"\r\n' + NO_LENGTH,
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + WHOLE,
    "processing, then a stream": b"HTTP/1.1 102 x\r\n\r\n" + STREAM + chunk(ANSWER) + b"0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "204 with a body": b"HTTP/1.1 204 x\r\n" + AS_JSON + LENGTH + b"\r\n" + RESULT,
    "204 with a stream": STREAM.replace(b"200", b"204") + chunk(ANSWER) + b"0\r\n\r\n",
    "304 with a body": b"HTTP/1.1 304 x\r\n" + AS_JSON + LENGTH + b"\r\n" + RESULT,
    "205 with nothing": b"HTTP/1.1 205 x\r\nContent-Length: 0\r\n\r\n",
    "202 with a stream": STREAM.replace(b"200", b"202") + chunk(ANSWER) + b"0\r\n\r\n",
    "a stream of no length": OK + AS_EVENTS + b"Content-Length: 0\r\n\r\n",
}

LENGTHS = {
    "two of them, equal": b"Content-Length: %d\r\n" % len(RESULT) + LENGTH,
    "two of them, different": b"Content-Length: 1\r\n" + LENGTH,
    "a list": b"Content-Length: %d, %d\r\n" % (len(RESULT), len(RESULT)),
    "beside chunks": CHUNKED + LENGTH,
    "below zero": b"Content-Length: -1\r\n",
    "with a plus": b"Content-Length: +%d\r\n" % len(RESULT),
    "no number": b"Content-Length: many\r\n",
    "a number of others": "Content-Length: ٣\r\n".encode(),
    "of five thousand digits": b"Content-Length: " + b"9" * 5_000 + b"\r\n",
    "of twenty digits": b"Content-Length: " + b"9" * 20 + b"\r\n",
    "empty": b"Content-Length:\r\n",
}

CODINGS = (b"Chunked", b"gzip, chunked", b"identity", b"chunked, chunked", b"chunked\x0b", b"x", b"")

TYPES = {
    "upper case": 'Text/EVENT-Stream ; Charset="UTF-8"',
    "an open quote": 'text/event-stream; charset="utf-8',
    "odd parameters": "text/event-stream;;;=;a;=b;charset==;\t;",
    "a list": "text/event-stream, application/json",
    "no UTF-8": "text/event-stream; x=\xff\xfe",
    "a parameter in five thousand parts": "text/event-stream; a*" + "9" * 5_000 + "*=x",
    "a parameter in parts": "text/event-stream; a*0*=utf-8''x; a*1=y; a*=zz''%ff; b*=\x80''x; c*=''",
    "a charset nobody knows": "text/event-stream; charset*=nobody'x'%80",
    "a thousand quotes": "text/event-stream; a=" + '"' * 1_001,
    "twenty thousand semicolons": "text/event-stream" + ";" * 20_000,
    "a longer name": "text/event-streams",
    "a slash less": "textevent-stream",
    "blanks before": "   text/event-stream",
}


def _cases() -> Iterator[Case]:
    for name, chunks in CHUNKS.items():
        yield Case(f"chunks: {name}", raw(STREAM + chunks, then="closes"), ask())
    for name, head in HEADS.items():
        yield Case(f"head: {name}", raw(head, then="closes"), ask())
    for name, length in LENGTHS.items():
        yield Case(f"length: {name}", raw(OK + AS_JSON + length + b"\r\n" + RESULT, then="closes"), ask())
        yield Case(f"length of a stream: {name}", raw(OK + AS_EVENTS + length + b"\r\n" + ANSWER, then="closes"), ask())
    for coding in CODINGS:
        head = OK + AS_EVENTS + b"Transfer-Encoding: " + coding + b"\r\n\r\n"
        yield Case(
            f"transfer coding {coding.decode()!r}", raw(head + chunk(ANSWER) + b"0\r\n\r\n", then="closes"), ask()
        )
    for name, content_type in TYPES.items():
        yield Case(f"content type: {name}", stream_of(ANSWER, {"content-type": content_type}), ask())
    two = AS_JSON + AS_EVENTS
    for name, types in (("JSON first", two), ("events first", AS_EVENTS + AS_JSON)):
        yield Case(
            f"content type: two, {name}", raw(OK + types + CHUNKED + b"\r\n" + chunk(ANSWER) + b"0\r\n\r\n"), ask()
        )
    yield from _breaking()
    yield from _asking()


def _breaking() -> Iterator[Case]:
    """Servers that fail before or in their answer. What asks in JSON-RPC is answered in JSON-RPC."""
    for then in ("closes", "resets"):
        yield Case(f"the server {then} before the head", raw(then=then), ask())
        yield Case(f"the server {then} in the head", raw(OK + b"Content-Ty", then=then), ask())
        short = OK + AS_JSON + LENGTH + b"\r\n" + RESULT[:9]
        yield Case(f"the server {then} in a short answer", raw(short, then=then), ask(), held=True)
        long = OK + AS_JSON + b"Content-Length: 900000\r\n\r\n" + RESULT[:9]
        yield Case(f"the server {then} in a long answer", raw(long, then=then), ask())
        note = wire.notification("notifications/initialized")
        yield Case(f"the server {then} on a notification", raw(then=then), ask(note), asked=note, ids=())
        chunked = OK + AS_JSON + CHUNKED + b"\r\n" + b"ff\r\n{"
        yield Case(f"the server {then} in a chunk of JSON", raw(chunked, then=then), ask())
    pings = [b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % each for each in (b'"a"', b"0")]
    ids = b"[" + b",".join([*pings, wire.notification("x")]) + b"]"
    yield Case("the server closes on an array", raw(then="closes"), ask(ids), asked=ids, ids=("a", 0))
    big = wire.CALL.replace(b'"id": 1', b'"id": ' + b"9" * 40)
    yield Case("the server closes on a huge id", raw(then="closes"), ask(big), asked=big, ids=(int("9" * 40),))
    surrogate = wire.CALL.replace(b'"id": 1', b'"id": "\\ud800"')
    yield Case(
        "the server closes on an id with a lone surrogate",
        raw(then="closes"),
        ask(surrogate),
        asked=surrogate,
        ids=("\ud800",),
    )
    null = wire.CALL.replace(b'"id": 1', b'"id": null')
    yield Case("the server closes on a null id", raw(then="closes"), ask(null), asked=null, ids=(None,))
    fraction = wire.CALL.replace(b'"id": 1', b'"id": 1.5')
    yield Case("the server closes on an id of 1.5", raw(then="closes"), ask(fraction), asked=fraction, ids=(1.5,))
    odd = wire.CALL.replace(b'"id": 1', b'"id": {}')
    yield Case("the server closes on an id that is an object", raw(then="closes"), ask(odd), asked=odd, ids=())
    yield Case("the server says more than it said", raw(WHOLE + b"more", then="closes"), ask())
    yield Case("the server says it twice", raw(WHOLE + WHOLE, then="closes"), ask())
    yield Case("the server answers in two pieces", raw(WHOLE[:40], WHOLE[40:]), ask())


def _asking() -> Iterator[Case]:
    """Clients that are odd themselves."""
    yield Case("a client that leaves before the head", until_gone, ask(), leaves="asked")
    yield Case("HEAD", raw(OK + AS_EVENTS + CHUNKED + b"\r\n"), ask(b"", method="HEAD"), asked=b"", ids=())
    yield Case("HEAD, answered with a body", raw(WHOLE, then="closes"), ask(b"", method="HEAD"), asked=b"", taped=False)
    yield Case("three requests at once", body_of(RESULT), ask() * 3, responses=3)
    yield Case("two streams asked for at once", stream_of(ANSWER), ask() * 2, responses=2)
    values = {
        "a session id with odd bytes": ("Mcp-Session-Id", "\xff\x80 !;,\"'"),
        "a session id of eight thousand bytes": ("Mcp-Session-Id", "s" * 8_000),
        "a version nobody has": ("MCP-Protocol-Version", "\xff; 2099-99-99"),
        "a name in broken base64": ("Mcp-Name", "=?base64?!!!?="),
        "a name of eight thousand bytes": ("Mcp-Name", "n" * 8_000),
        "a last event id with odd bytes": ("Last-Event-ID", "\xff\xfe"),
        "an accept of odd shape": ("Accept", ",,;q=;application/json;q=x,\xff/*"),
        "an accept of five thousand types": ("Accept", ",".join(["a/b"] * 2_000)),
    }
    for name, (header, value) in values.items():
        headers = tuple((wire.CALL_HEADERS | {header: value}).items())
        yield Case(f"request with {name}", stream_of(ANSWER), ask(headers=headers))
    twice = (*wire.CALL_HEADERS.items(), ("Mcp-Method", "x"), ("MCP-Protocol-Version", "2025-06-18"))
    yield Case("request with headers twice", body_of(RESULT), ask(headers=twice))
    yield Case("request with secrets in its URL", body_of(RESULT), ask(query="?access_token=xyzzy-secret&a=b"))
    yield Case("request with odd bytes in its URL", body_of(RESULT), ask(query="?%00%ff%&[]={}|\\^`"))
    yield Case("request in HTTP/1.0", body_of(RESULT), ask().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    expecting = wire.CALL_HEADERS | {"Expect": "100-continue"}
    yield Case("request that expects to be told to go on", body_of(RESULT), ask(headers=expecting))
    chunked = ask(b"", wire.CALL_HEADERS | {"Transfer-Encoding": "chunked"}).replace(b"Content-Length: 0\r\n", b"")
    yield Case(
        "request in chunks", body_of(RESULT), chunked + chunk(wire.CALL[:9]) + chunk(wire.CALL[9:]) + b"0\r\n\r\n"
    )
    short = ask().replace(b"Content-Length: ", b"Content-Length: 1")
    yield Case("request that does not come to its end", until_gone, short, leaves="sent", taped=False)


CASES = list(_cases())
