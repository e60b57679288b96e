"""Interceptors of single messages do in batches what they would do one event at a time: a literal reference says so."""

import asyncio
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadowcat_core.framing import LineFraming, SseFraming
from shadowcat_core.interceptors import (
    Block,
    Continue,
    Delay,
    Inject,
    Mock,
    Modify,
    Pause,
    adapt,
    apply,
    on_asyncio,
)
from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.messages import RpcError
from shadowcat_core.sse import SseParser
from tests.core.interception import (
    TO_CLIENT,
    TO_SERVER,
    Says,
    events,
    in_virtual_time,
    judged,
    lines,
    pipeline_of,
    scheduler,
)

NOTE = {"jsonrpc": "2.0", "method": "notifications/injected"}
VERDICTS = {
    "continue": Continue(),
    "modify": Modify(NOTE, "why"),
    "bytes": Modify(b'{"jsonrpc":"2.0","method":"notifications/bytes"}'),
    "broken": Modify(b"{"),
    "block": Block("no"),
    "mock": Mock({"a": 1}),
    "mock error": Mock(error=RpcError(-1, "x")),
    "delay": Delay(1),
    "inject": Inject([NOTE], [NOTE, NOTE]),
    "nonsense": None,
    "raise": "raise",
    "hang": "hang",
    "release": "release",
    "hold and block": "hold and block",
}
KINDS = [
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}},
    {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}},
    {"result": {"content": []}, "jsonrpc": "2.0", "id": "x"},
    {"jsonrpc": "2.0", "id": 0, "error": {"code": 1, "message": "m"}},
    {"no": "message", "id": 4},
]


class Scripted:
    """Gives verdicts by the number in a message, as interceptors of single messages do, sync or async."""

    def __init__(self, verdicts, style):
        self.verdicts, self.style = verdicts, style

    def intercept(self, message):
        name = self.verdicts[message.payload["n"] % len(self.verdicts)]
        if self.style == "sync" or (self.style == "mixed" and message.payload["n"] % 2):
            return self.now(name)
        return self.later(name)

    def now(self, name):
        match VERDICTS[name]:
            case "raise":
                raise LookupError(name)
            case "hang":
                return asyncio.get_running_loop().create_future()
            case "release":
                return Pause(asyncio.sleep(2))
            case "hold and block":
                return Pause(asyncio.Event().wait(), 3, Block("nobody came"))
            case verdict:
                return verdict

    async def later(self, name):
        if self.style == "slow":
            await asyncio.sleep(0.5)
        verdict = self.now(name)
        return await verdict if isinstance(verdict, asyncio.Future) else verdict


async def reference(interceptor, batch, fail):
    """One event at a time, written down as plainly as can be. Gives its bytes and the replies."""
    (message,) = batch
    try:
        verdict = interceptor.intercept(message)
        if not isinstance(verdict, Continue | Modify | Block | Mock | Inject | Delay | Pause):
            verdict = await asyncio.wait_for(verdict, 5)
        if isinstance(verdict, Delay):
            await asyncio.sleep(verdict.seconds)
            verdict = Continue()
        if isinstance(verdict, Pause):
            try:
                decision = await asyncio.wait_for(verdict.until, verdict.timeout_s)
            except TimeoutError:
                decision = verdict.on_timeout
            verdict = Continue() if decision is None else decision
        if not isinstance(verdict, Continue | Modify | Block | Mock | Inject):
            raise TypeError("no verdict")
        if isinstance(verdict, Modify) and isinstance(verdict.content, bytes):
            json.loads(verdict.content)
        apply(verdict, batch, 0)
    except Exception:  # noqa: BLE001 - whatever it is
        batch.undo(0)
        if fail == "closed":
            apply(Block("interceptor weak failed", ErrorCode.INTERCEPTOR_FAILED), batch, 0)
    return batch.emit(), [reply.raw for reply in batch.replies]


def framed(kinds, framing):
    raws = [json.dumps({**KINDS[kind], "n": n}).encode() for n, kind in enumerate(kinds)]
    if framing == "lines":
        return [raw + b"\n" for raw in raws]
    eol = b"\r\n" if framing == "events, CRLF" else b"\n"
    return [eol.join((b"event: message", b"id: %d" % n, b"data: " + raw, b"", b"")) for n, raw in enumerate(raws)]


def framing_of(framing, context):
    return LineFraming(context) if framing == "lines" else SseFraming(context)


def events_of(stream):
    return [(frame.event, frame.id, frame.data) for frame in SseParser().feed(stream) if frame.dispatches]


@pytest.mark.parametrize("direction", [TO_SERVER, TO_CLIENT], ids=["c2s", "s2c"])
@pytest.mark.parametrize("framing", ["events", "events, CRLF", "lines"])
@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=7),
    verdicts=st.lists(st.sampled_from(list(VERDICTS)), min_size=1, max_size=7),
    cuts=st.lists(st.integers(0, 700), max_size=6),
    style=st.sampled_from(["sync", "async", "slow", "mixed"]),
    fail=st.sampled_from(["open", "closed"]),
    releasing=st.booleans(),
)
def test_any_stream_in_any_chunks_is_what_it_is_one_event_at_a_time(
    framing, direction, kinds, verdicts, cuts, style, fail, releasing
):
    units = framed(kinds, framing)
    stream = b"".join(units)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})

    async def in_batches():
        pipeline = pipeline_of(Scripted(verdicts, style), name="weak", fail=fail, timeout_s=5)
        reader, emitted, replies = framing_of(framing, direction), [], []

        def release(part):
            emitted.append(part.emit())
            replies.extend(reply.raw for reply in part.replies)

        for start, end in itertools.pairwise(edges):
            batch = reader.read(stream[start:end], 5)
            if batch is not None:
                pending = pipeline.run(batch, release if releasing else None)
                if pending is not None:
                    await pending
                release(batch)
        return b"".join(emitted), replies, pipeline.stages[0].metrics

    async def one_by_one():
        interceptor, emitted, replies = Scripted(verdicts, style), [], []
        for unit in units:
            sent, replied = await reference(interceptor, framing_of(framing, direction).read(unit, 5), fail)
            emitted.append(sent)
            replies += replied
        return b"".join(emitted), replies

    emitted, replies, metrics = in_virtual_time(in_batches())
    expected, expected_replies = in_virtual_time(one_by_one())
    if framing == "events, CRLF":  # a cut within the last CRLF of an event that is edited leaves its LF: no event
        emitted, expected = map(events_of, (emitted, expected))
    assert (emitted, replies) == (expected, expected_replies)
    used = [verdicts[n % len(verdicts)] for n in range(len(kinds))]
    assert metrics.failures == sum(name in ("broken", "nonsense", "raise", "hang") for name in used)
    assert metrics.timeouts == used.count("hang")
    assert metrics.messages == len(kinds)


@pytest.mark.parametrize("style", ["sync", "async", "slow", "mixed"])
def test_adapted_alone_or_by_a_pipeline_it_is_the_same(style):
    names = ["continue", "modify", "block", "mock", "inject", "delay", "release", "hold and block"]
    raws = [json.dumps({**KINDS[n % 4], "n": n}).encode() for n in range(16)]

    async def by_pipeline(interceptor):
        batch = lines(raws, TO_SERVER)
        return await judged(pipeline_of(interceptor), batch), [reply.raw for reply in batch.replies]

    async def alone():
        batch = lines(raws, TO_SERVER)
        waits = adapt(Scripted(names, style), scheduler()).intercept_batch(batch)
        if waits is not None:
            await waits
        return batch.emit(), [reply.raw for reply in batch.replies]

    expected = in_virtual_time(by_pipeline(Scripted(names, style)))
    assert in_virtual_time(alone()) == expected
    assert in_virtual_time(by_pipeline(adapt(Scripted(names, style)))) == expected
    assert len(expected[1]) == 2 * sum(n % 8 in (2, 3, 7) and n % 4 == 0 for n in range(8))


def test_an_adapted_interceptor_keeps_its_interest():
    says = Says(lambda message: Block(), methods={"tools/call"}, direction="c2s")
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}'
    note = b'{"jsonrpc":"2.0","method":"notifications/x","params":{}}'
    for context, left in ((TO_SERVER, [note]), (TO_CLIENT, [call, note])):
        for run in (adapt(says).intercept_batch, pipeline_of(adapt(says)).run):
            batch = events([call, note], context)
            assert run(batch) is None
            assert [message.raw for message in batch] == left
    assert says.shown == [call, call]


def test_an_adapter_alone_tells_no_time():
    clock = on_asyncio(lambda: 0).clock_ns
    assert clock() == 0
    batch = events([json.dumps({**KINDS[1], "n": 0}).encode()], TO_CLIENT)
    assert adapt(Scripted(["continue"], "sync")).intercept_batch(batch) is None
    assert not batch.edited
