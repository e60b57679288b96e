"""A small world to come back in: a server that resumes, proxies that die, one client with a bad line. No sockets."""

import asyncio

from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.resumption import GoOn, StreamKeeper, way_back
from shadowcat_core.sessions import Handshake, MemoryStore, SessionTimes, Upstream, begin_session
from shadowcat_core.sse import SseParser, encode

SESSION = "the-session"


async def new_session(store, clock, session_id=SESSION):
    record = begin_session(
        Upstream("one", f"upstream-of-{session_id}"),
        Handshake(b"{}", b"{}"),
        "2025-11-25",
        credential="",
        times=SessionTimes.starting(clock()),
        session_id=session_id,
    )
    assert await store.create(record)


async def at_once(_seconds):
    await asyncio.sleep(0)


async def settle(turns=60):
    for _ in range(turns):
        await asyncio.sleep(0)


class Turning(asyncio.SelectorEventLoop):
    """An event loop whose time passes a millisecond a look at it, so that timers are due after so many turns."""

    looks = 0

    def time(self):
        self.looks += 1
        return self.looks / 1000


def payloads(frames: bytes) -> list[bytes]:
    """What a client makes of frames: the data of events that have some."""
    return [frame.data for frame in SseParser().feed(frames) if frame.data]


def ids(frames: bytes) -> list[str]:
    return [frame.id for frame in SseParser().feed(frames) if frame.id is not None]


class Unsteady:
    """A log that is away while it is told to be; `before` and `after` say when a step that fails was taken."""

    def __init__(self, store):
        self.store = store
        self.is_away = False
        self.takes_the_step = False
        self.asked = []

    def __getattr__(self, verb):
        async def step(*args, **kwargs):
            self.asked.append(verb)
            if not self.is_away:
                return await getattr(self.store, verb)(*args, **kwargs)
            if self.takes_the_step:
                await getattr(self.store, verb)(*args, **kwargs)
            raise StoreUnavailable("away")

        return step


class Server:
    """One stream of a server that keeps all its events. The newest connection gets them; it may repeat some."""

    def __init__(self, line_end=b"\n"):
        self.events = []  # (id, frame)
        self.sent = []  # payloads
        self.connection = None
        self.line_end = line_end
        self.repeats = 0

    def frame(self, event_id, data):
        return encode(data, id=event_id, event="message").replace(b"\n", self.line_end)

    def emit(self, count=1):
        for _ in range(count):
            data = b"event %d" % len(self.sent)
            self.sent.append(data)
            self._add(data)

    def prime(self):
        self._add(b"")

    def _add(self, data):
        event_id = f"u{len(self.events)}"
        raw = self.frame(event_id, data)
        self.events.append((event_id, raw))
        if self.connection is not None:
            self.connection.receive(raw)

    def connect(self, connection, last_event_id):
        if self.connection is not None:
            self.connection.is_open = False
        self.connection = connection
        connection.is_open = True
        known = [each for each, _ in self.events]
        start = known.index(last_event_id) + 1 if last_event_id else 0
        for _, raw in self.events[max(0, start - self.repeats) :]:
            connection.receive(raw)


class Reading:
    """A connection between a proxy and the server: what comes goes into a stream, and on to whoever is there."""

    def __init__(self, stream, line):
        self.stream = stream
        self.line = line  # to the client; None when it has left
        self.is_open = False

    def receive(self, raw):
        middle = len(raw) // 2
        for piece in (raw[:middle], raw[middle:]):
            self._send(self.stream.feed(piece))

    def end(self):
        """The connection breaks in the midst of an event."""
        self._send(self.stream.feed(b"data: half an ev"))
        self._send(self.stream.end())

    def _send(self, frames):
        if frames and self.line is not None:
            self.line.send(frames)


class Line:
    """One connection between client and proxy, read late, in pieces, or never to the end."""

    def __init__(self):
        self.waiting = bytearray()
        self.is_open = True
        self.reading = None
        self.way = None
        self.task = None

    def send(self, frames):
        self.waiting += frames


class Client:
    def __init__(self):
        self.received = []
        self.last_event_id = None
        self.line = None
        self.proxy = None
        self.parser = SseParser()

    def read(self, size=None):
        if self.line is None:
            return
        size = len(self.line.waiting) if size is None else size
        chunk = bytes(self.line.waiting[:size])
        del self.line.waiting[:size]
        for frame in self.parser.feed(chunk):
            if frame.id is not None:
                self.last_event_id = frame.id
            if frame.data:
                self.received.append(frame.data)


class World:
    """Two proxies before one server."""

    def __init__(self, clock, store=None, retention=None, gather_s=0):
        self.clock = clock
        self.gather_s = gather_s
        self.store = store or MemoryStore(clock_ms=clock, retention=retention)
        self.log = Unsteady(self.store)
        self.server = Server()
        self.client = Client()
        self.keepers = [self.keeper(), self.keeper()]
        self.readings = [[], []]
        self.requests = ()
        self.epoch = 1
        self.outcomes = []

    def keeper(self):
        return StreamKeeper(self.log, gather_s=self.gather_s, sleep=at_once, on_taken=self._taken)

    def _taken(self, stream):
        """Whoever reads it is to hang up on the server."""
        for reading in (each for readings in self.readings for each in readings if each.stream is stream):
            reading.is_open = False
            if self.server.connection is reading:
                self.server.connection = None

    def is_reading(self, proxy):
        return [each for each in self.readings[proxy] if each.is_open]

    async def connect(self, proxy):
        """The client comes, for the first time or back."""
        client = self.client
        line = Line()
        client.line, client.proxy, client.parser = line, proxy, SseParser()
        keeper = self.keepers[proxy]
        if client.last_event_id is None:
            stream = keeper.open(SESSION, epoch=self.epoch, requests=self.requests)
            self.read_on(proxy, stream, line, None)
        else:
            line.task = asyncio.create_task(self._lead_back(proxy, line))
        await settle()

    async def _lead_back(self, proxy, line):
        way = line.way = way_back(self.keepers[proxy], SESSION, self.client.last_event_id, epoch=self.epoch)
        try:
            async for frames in way.frames():
                if line.is_open:
                    line.send(frames)
        except StoreUnavailable:
            line.is_open = False
            return
        self.outcomes.append((way.go_on, way.lost))
        if way.go_on in (GoOn.AT_SERVER, GoOn.ANEW):
            mark = way.stream.mark
            self.read_on(proxy, way.stream, line, None if mark is None else mark.event_id)
        else:
            line.is_open = False

    def read_on(self, proxy, stream, line, last_event_id):
        reading = Reading(stream, line)
        line.reading = reading
        self.readings[proxy].append(reading)
        self.server.connect(reading, last_event_id)

    async def drop_client(self, *, noticed=True, read_on=True):
        """The line breaks. The proxy may notice or not, and go on reading or not."""
        client, line = self.client, self.client.line
        if line is None:
            return
        client.line = None
        line.is_open = False
        if line.task is not None and not line.task.done():
            line.task.cancel()
        if noticed and line.reading is not None:
            line.reading.line = None
            keeper = self.keepers[client.proxy]
            if line.reading.is_open and read_on:
                keeper.leave(line.reading.stream)
            elif line.reading.is_open:
                self.hang_up(line.reading, keeper)
        elif noticed and line.way is not None:
            line.way.leave()
        await settle()

    def hang_up(self, reading, keeper):
        if self.server.connection is reading:
            self.server.connection = None
        reading.is_open = False
        reading.end()
        keeper.release(reading.stream)

    async def drop_server(self, *, reconnect=True):
        """The connection to the server breaks; its proxy makes another one, or gives up."""
        for proxy, readings in enumerate(self.readings):
            for reading in readings:
                if reading is self.server.connection:
                    self.server.connection = None
                    reading.end()
                    mark = reading.stream.mark
                    if reconnect and mark is not None:
                        reading.stream.reconnect(self.epoch)
                        self.server.connect(reading, mark.event_id)
                    else:
                        reading.is_open = False
                        self.keepers[proxy].release(reading.stream)
        await settle()

    async def kill(self, proxy):
        """A proxy dies at once; what it had not logged is gone."""
        if self.client.proxy == proxy:
            await_line, self.client.line = self.client.line, None
            if await_line is not None and await_line.task is not None:
                await_line.task.cancel()
        for reading in self.readings[proxy]:
            if self.server.connection is reading:
                self.server.connection = None
            reading.is_open = False
        self.readings[proxy] = []
        await self.keepers[proxy].aclose()
        self.keepers[proxy] = self.keeper()
        await settle()

    async def aclose(self):
        if self.client.line is not None and self.client.line.task is not None:
            self.client.line.task.cancel()
        for keeper in self.keepers:
            await keeper.aclose()
        await settle()
