"""What tests of the relay are made of: one virtual time, and servers that die, restart empty, refuse. No sockets."""

import asyncio
import heapq
import itertools
import json
from collections import Counter, deque

from shadowcat_core.mcp import HeaderFields
from shadowcat_core.sessions.lifecycle import Answer
from shadowcat_core.sse import encode
from tests.core.resumption_world import settle

VERSION = "2025-11-25"
SDK_404 = (404, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}')
EVERYTHING_400 = (
    400,
    b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}',
)
END = object()


def request(request_id, method, **params) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()


def notification(method, **params) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()


def result(request_id, **value) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": value}).encode()


def call(request_id, tool="write", how="json", key=None) -> bytes:
    """A tool call; `key` tells in a server's ledger which one ran."""
    arguments = {"how": how, "key": request_id if key is None else key}
    return request(request_id, "tools/call", name=tool, arguments=arguments)


def initialize(version=VERSION, request_id=0) -> bytes:
    info = {"name": "client", "version": "1"}
    return request(request_id, "initialize", protocolVersion=version, capabilities={}, clientInfo=info)


class Time:
    """Seconds that pass when a test says so, for clocks and sleeps alike."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self._sleepers = []
        self._numbers = itertools.count()
        self.slept = []

    def clock_s(self) -> float:
        return self.now_s

    def clock_ms(self) -> int:
        return round(self.now_s * 1000)

    async def sleep(self, seconds) -> None:
        self.slept.append(seconds)
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, next(self._numbers), woken))
        await woken

    def _wake_next(self) -> None:
        at, _, woken = heapq.heappop(self._sleepers)
        self.now_s = max(self.now_s, at)
        if not woken.done():
            woken.set_result(None)

    async def pass_s(self, seconds) -> None:
        until = self.now_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self._wake_next()
            await settle()
        self.now_s = until

    async def finish(self, *tasks) -> None:
        """Let time pass until these are done, an hour at most."""
        until = self.now_s + 3_600
        await settle()
        while not all(task.done() for task in tasks):
            assert self._sleepers, "they wait for something that does not come"
            assert self._sleepers[0][0] <= until, "they wait for longer than an hour"
            self._wake_next()
            await settle()


class Connection:
    """The bytes of an answer on their way from a server."""

    def __init__(self) -> None:
        self._queue = asyncio.Queue()
        self.is_open = True

    def send(self, data: bytes) -> None:
        assert self.is_open
        self._queue.put_nowait(data)

    def close(self, how=END) -> None:
        """The server ends it in good order, or it breaks (`how` says why)."""
        if self.is_open:
            self.is_open = False
            self._queue.put_nowait(how)

    def nudge(self) -> None:
        """Wake who reads, with nothing."""
        self._queue.put_nowait(b"")

    def hang_up(self) -> None:
        """Who reads has left."""
        self.is_open = False

    async def read(self):
        """Give the next bytes, END, or the reason as a text."""
        return await self._queue.get()


class Head:
    """An answer of a server's: its body, or the connection that it comes on."""

    def __init__(self, status, body=b"", connection=None, **headers) -> None:
        self.status = status
        self.fields = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if connection is None:
            connection = Connection()
            if body:
                connection.send(body)
            connection.close()
        self.connection = connection

    @property
    def headers(self) -> HeaderFields:
        return HeaderFields((name.encode(), value.encode()) for name, value in self.fields.items())


def event_stream(connection, **headers) -> Head:
    return Head(200, connection=connection, content_type="text/event-stream", **headers)


class ServerStream:
    """One stream of a server's. With ids it keeps its events; without, an event that nobody reads is gone."""

    def __init__(self, name, *, has_ids: bool) -> None:
        self.name = name
        self.has_ids = has_ids
        self.frames = []
        self.sent = []
        self.connection = None
        self.is_over = False

    def emit(self, payload: bytes) -> None:
        is_read = self.connection is not None and self.connection.is_open
        frame = encode(payload, id=f"{self.name}/{len(self.frames)}" if self.has_ids else None)
        if self.has_ids:
            self.frames.append(frame)
        if is_read:
            self.connection.send(frame)
        if (is_read or self.has_ids) and payload:
            self.sent.append(payload)

    def finish(self, payload: bytes) -> None:
        if not self.is_over:
            self.emit(payload)
            self.is_over = True
            if self.connection is not None:
                self.connection.close()

    def attach(self, behind: int) -> Connection:
        """Go on at another connection, behind so many events."""
        if self.connection is not None:
            self.connection.close("another connection took the stream")
        self.connection = Connection()
        for frame in self.frames[behind:]:
            self.connection.send(frame)
        if self.is_over:
            self.connection.close()
        return self.connection


class ServerSession:
    def __init__(self, session_id) -> None:
        self.session_id = session_id
        self.streams = {}
        self.own = None
        """The stream that GET opens."""


class FakeServer:
    """A server of the stateful era. `say` has what it says to a method next, once each: a Head, or what is raised."""

    def __init__(self, name, time: Time, *, has_ids=True) -> None:
        self.name = name
        self.has_ids = has_ids
        self.primes = False
        """Whether its streams begin with an event that has an id alone."""
        self.gives_sessions = True
        self.unknown = SDK_404
        self.is_up = True
        self.lives = 1
        self.say = {}
        self.asked = []
        self.was_asked = asyncio.Event()
        self.sessions = {}
        self.begun = []
        self.executed = Counter()
        self.calls = {}
        """The newest stream of a call, by its key."""
        self._time = time
        self._numbers = itertools.count(1)

    def then(self, method, *said) -> None:
        self.say.setdefault(method, deque()).extend(said)

    def methods(self) -> list[str]:
        return [method for method, *_ in self.asked]

    def die(self) -> None:
        self.is_up = False
        self.break_off("connection reset")
        self.sessions.clear()

    def restart(self) -> None:
        """Come up with nothing of before."""
        self.die()
        self.is_up = True
        self.lives += 1

    def break_off(self, why) -> None:
        """All connections break; what the server knows stays."""
        for session in self.sessions.values():
            for stream in (*session.streams.values(), session.own):
                if stream is not None and stream.connection is not None:
                    stream.connection.close(why)

    async def handle(self, method, headers: HeaderFields, body: bytes) -> Head:
        """Answer a request, or raise what becomes of it."""
        await asyncio.sleep(0)
        if not self.is_up:
            raise ConnectionRefusedError("refused")
        documents = json.loads(body) if body else []
        messages = documents if isinstance(documents, list) else [documents]
        named = [message.get("method") or "answer" for message in messages] or [method]
        session_id = headers.get("mcp-session-id")
        self.asked.append((named[0], session_id, headers, body))
        self.was_asked.set()
        if self.say.get(named[0]):
            said = self.say[named[0]].popleft()
            if isinstance(said, BaseException):
                raise said
            if said is not None:
                return said
        if named[0] == "initialize":
            return self._initialize(messages[0])
        if not self.gives_sessions:
            session_id = None
            self.sessions.setdefault(None, ServerSession(None))
        session = self.sessions.get(session_id)
        if session is None:
            status, text = self.unknown
            return Head(status, text)
        if method == "DELETE":
            del self.sessions[session_id]
            return Head(200)
        if method == "GET":
            return self._get(session, headers.get("last-event-id"))
        return self._post(session, messages)

    def _initialize(self, message) -> Head:
        session = ServerSession(f"{self.name}-{self.lives}-{next(self._numbers)}" if self.gives_sessions else None)
        self.sessions[session.session_id] = session
        self.begun.append(session.session_id)
        version = message["params"]["protocolVersion"]
        body = result(message["id"], protocolVersion=version, capabilities={}, serverInfo={"name": "server"})
        return Head(200, body, **({"mcp_session_id": session.session_id} if self.gives_sessions else {}))

    def _get(self, session, last_event_id) -> Head:
        if last_event_id:
            name, _, number = last_event_id.rpartition("/")
            found = session.own if session.own is not None and session.own.name == name else session.streams.get(name)
            if found is None:
                return Head(400, b"Invalid event id")
            return event_stream(found.attach(int(number) + 1))
        if session.own is None:
            session.own = ServerStream(f"{session.session_id}/own", has_ids=self.has_ids)
        connection = session.own.attach(len(session.own.frames))
        self._prime(session.own)
        return event_stream(connection)

    def _prime(self, stream) -> None:
        if self.primes:
            stream.emit(b"")

    def _post(self, session, messages) -> Head:
        asked = [message for message in messages if "method" in message and "id" in message]
        if not asked:
            return Head(202)
        answers = []
        for message in asked:
            params = message.get("params", {})
            how = params.get("arguments", {}).get("how") if message["method"] == "tools/call" else "json"
            if message["method"] == "tools/call":
                self.executed[params["arguments"]["key"]] += 1
            if how == "dies":
                raise ConnectionResetError("reset")
            if how == "stream":
                return self._stream(session, params["arguments"]["key"])
            answers.append(result(message["id"], by=self.name))
        return Head(200, answers[0] if len(answers) == 1 else b"[" + b",".join(answers) + b"]")

    def _stream(self, session, key) -> Head:
        stream = ServerStream(f"{session.session_id}/{key}/{self.executed[key]}", has_ids=self.has_ids)
        session.streams[stream.name] = self.calls[key] = stream
        connection = stream.attach(0)
        self._prime(stream)
        return event_stream(connection, mcp_session_id=session.session_id)

    async def ask(self, method, headers, body) -> Answer:
        """Answer a request of the proxy's own."""
        fields = HeaderFields((name.encode(), value.encode()) for name, value in headers)
        head = await self.handle(method, fields, body)
        whole = b""
        while (data := await head.connection.read()) is not END:
            whole += data
        return Answer(head.status, head.headers, whole)
