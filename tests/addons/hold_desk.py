"""What the tests of held messages share: the room with a pipeline and a flow of its own, in time that takes none."""

import asyncio
import json

from mitmproxy.test import taddons

from shadowcat_addons.hold import Hold
from shadowcat_core.exchange import Exchange
from shadowcat_core.interceptors import Pipeline
from shadowcat_core.kept_body import TIMES_KEY
from shadowcat_core.mcp import Direction, Era, Recognition, RecognitionKind
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.sse import SseParser, encode
from tests.addons.conftest import CALL, request_flow, response_of
from tests.core.interception import in_virtual_time, now_s, scheduler

MCP = Recognition(RecognitionKind.MESSAGES, "a test", Era.LEGACY, "2025-11-25", "s-1")
RAW = json.dumps(CALL).encode()
EDITED = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"shout","arguments":{}}}'
NOTE = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":3}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'
TO_SERVER, TO_CLIENT = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT


class Desk:
    """The room alone, with a pipeline of its own and one flow."""

    def __init__(self, context, flow):
        self.context, self.flow = context, flow
        self.records = []
        self.pipeline = Pipeline(scheduler(), on_verdict=self.records.append)
        self.exchange = Exchange(3, flow.id, MCP, RAW)
        self.exchange.request_of = lambda _scope, _answer: Message(RAW, self.exchange.context(TO_SERVER))
        self.redrawn = []
        self.room = Hold(
            self.pipeline,
            lambda flow_id: (self.exchange, flow) if flow_id == flow.id else None,
            self.redrawn.append,
            clock_ns=lambda: int(now_s() * 1e9),
        )
        context.master.addons.add(self.room)
        self.set("method:*")

    def set(self, words, **options):
        self.context.configure(
            self.room, shadowcat_hold=words, **{f"shadowcat_hold_{name}": value for name, value in options.items()}
        )

    def call(self, name, *arguments):
        return self.context.master.commands.call_strings(f"shadowcat.{name}", list(arguments))

    def request(self, body=RAW):
        return MessageBatch.of_body(body, self.exchange.context(TO_SERVER))

    def event(self, *messages):
        chunk = b"".join(map(encode, messages))
        return MessageBatch.of_frames(SseParser().feed(chunk), self.exchange.context(TO_CLIENT))

    @property
    def said(self):
        return [(record.action, record.reason) for record in self.records]


def hold(act, *, batch=Desk.request, flow=None):
    """Hold a message, let somebody act after a second; gives the desk, what went on, and if all is as before."""

    async def main():
        with taddons.context() as context:
            desk = Desk(context, request_flow() if flow is None else flow)
            before = snapshot(desk.flow)
            held = batch(desk)
            pending = desk.pipeline.run(held)
            assert pending is not None, "it is not held"
            await asyncio.sleep(1)
            if (acting := act(desk)) is not None:
                await acting
            await pending
            assert desk.exchange.held is None
            assert desk.redrawn[-1] is desk.exchange
            assert desk.room.held() == []
            return desk, held.emit(), before == snapshot(desk.flow)

    return soon(main())


def soon(work):
    """Run a test without waiting, and without waiting for ever for what never comes."""

    async def limited():
        async with asyncio.timeout(60):
            return await work

    return in_virtual_time(limited())


def snapshot(flow):
    """What of a flow a hold changes for a while."""
    parts = [part for part in (flow.request, flow.response) if part is not None]
    bodies = [(part.raw_content, part.headers.fields) for part in parts]
    return bodies, flow.intercepted, flow.marked, flow.metadata.get(TIMES_KEY)


def laid_out(raw):
    """A message as people see it while it is held."""
    return json.dumps(json.loads(raw), indent=2).encode()


def answered_flow(**headers):
    flow = request_flow()
    flow.response = response_of(RESULT, headers=headers)
    return flow


def answer_of(desk):
    return MessageBatch.of_body(RESULT, desk.exchange.context(TO_CLIENT))


def release(desk):
    desk.call("release", "all")
