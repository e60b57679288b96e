"""What the tests of faults share: a rack with its pipeline, bodies that go through its outlets, and what came of it."""

import json

from shadowcat_core.interceptors import Pipeline
from shadowcat_core.interceptors.faults import Asked, Body, Rack
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.outlet import Cut, Send, Stall, Wait
from shadowcat_core.sse import SseParser
from tests.core.interception import judged, scheduler


def context(direction="s2c", exchange_id=1, request_of=None):
    return MessageContext(Direction(direction), Transport.HTTP, exchange_id=exchange_id, request_of=request_of)


def request(method="tools/call", name="echo", request_id=7, **params):
    payload = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {"name": name, **params}}
    return Message(json.dumps(payload).encode(), context("c2s"))


def result(request_id=7, text="hi"):
    return {"jsonrpc": "2.0", "id": request_id, "result": {"content": [{"type": "text", "text": text}]}}


def progress(n):
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": n}}


def event(payload, event_id=None, end="\n"):
    lines = ["event: message"] + ([] if event_id is None else [f"id: {event_id}"])
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    return "".join(line + end for line in [*lines, f"data: {text}", ""]).encode()


FIVE = [event(progress(n), event_id=n) for n in range(1, 5)] + [event(result(), event_id=5)]
"""A call's stream: four notifications of progress, and the result."""
CALL = request()


class Lab:
    """A rack with a pipeline, and everything that it noted."""

    def __init__(self, *toxics, seed=0):
        self.records = []
        self.notes = []
        self.pipeline = Pipeline(scheduler(), on_verdict=self.records.append)
        self.rack = Rack(self.pipeline, lambda *note: self.notes.append(note), seed=seed)
        for toxic in toxics:
            self.rack.add(toxic)

    @property
    def taken(self):
        return [one.tally.taken for one in self.rack.listed]

    def outlet(self, exchange_id=1, *, asked=(CALL,), http_method="POST", is_event_stream=True):
        self.rack.open(exchange_id, http_method, asked)
        body = Body(exchange_id, http_method, is_event_stream, context(exchange_id=exchange_id), asked)
        return self.rack.outlet(body)

    def steps(self, chunks, **of):
        """What becomes of a body that comes in these pieces."""
        outlet = self.outlet(**of)
        if outlet is None:
            return [Send(chunk) for chunk in chunks]
        steps = [step for chunk in chunks for step in outlet.send(chunk)]
        return steps + list(outlet.end())

    def ask(self, *, http_method="POST", headers=None, messages=(CALL,), exchange_id=1):
        self.rack.open(exchange_id, http_method, messages)
        lookup = {name.lower(): value for name, value in (headers or {}).items()}

        class Lookup:
            def get(self, name):
                return lookup.get(name.lower())

        return self.rack.ask(Asked(exchange_id, http_method, Lookup(), messages))

    async def judge(self, *payloads, direction="s2c", exchange_id=1, request_of=lambda _answer: CALL):
        """What a pipeline makes of the events of one chunk."""
        chunk = b"".join(event(payload) for payload in payloads)
        batch = MessageBatch.of_frames(SseParser().feed(chunk), context(direction, exchange_id, request_of))
        return await judged(self.pipeline, batch)


def sent(steps):
    return b"".join(step.data for step in steps if isinstance(step, Send))


def waits(steps):
    return [step.seconds for step in steps if isinstance(step, Wait)]


def ending(steps):
    """The step that ends a body early, which must be the last; None when it ends in good order."""
    ends = [step for step in steps if isinstance(step, Cut | Stall)]
    assert len(ends) <= 1
    assert not ends or steps[-1] is ends[0]
    return ends[0] if ends else None


def parsed(data):
    """What a client reads: type, id and data of each event, and whether it dispatches."""
    return [(frame.event, frame.id, frame.data) for frame in SseParser().feed(data) if frame.dispatches]


def payloads(data):
    return [json.loads(event_data) for _, _, event_data in parsed(data)]
