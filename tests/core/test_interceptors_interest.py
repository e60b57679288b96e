"""What an interceptor declares to care for: it is shown all of that and nothing else, whoever tries to hide it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core import messages
from shadowcat_core.interceptors import Action, Block, Continue, Interest, Pipeline, is_unroutable
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.sse import SseParser
from tests.core.interception import (
    FRAMINGS,
    TO_CLIENT,
    TO_SERVER,
    Does,
    Says,
    body,
    events,
    lines,
    payloads,
    pipeline_of,
    scheduler,
)

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm"}}'
LIST = b'{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}'
PING = b'{"jsonrpc":"2.0","id":3,"method":"ping"}'
NOTE = b'{"method":"notifications/progress","params":{"progress":1},"jsonrpc":"2.0"}'
RESULT = b'{"result":{"content":[]},"jsonrpc":"2.0","id":1}'
ERROR = b'{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"x"}}'
TALK = b"server started"
ALL = [CALL, LIST, PING, NOTE, RESULT, ERROR, TALK]

DECLARED = [
    ({}, ALL),
    ({"methods": {"tools/call"}}, [CALL]),
    ({"methods": ["ping", "notifications/progress"]}, [PING, NOTE]),
    ({"methods": ()}, []),
    ({"kinds": {"error"}}, [ERROR]),
    ({"kinds": (Kind.RESPONSE, Kind.ERROR)}, [RESULT, ERROR]),
    ({"kinds": {"invalid"}}, [TALK]),
    ({"kinds": set()}, []),
    ({"methods": {"ping"}, "kinds": {"request"}}, [PING]),
    ({"methods": {"ping"}, "kinds": {"notification"}}, []),
    ({"direction": "s2c"}, ALL),
    ({"direction": Direction.CLIENT_TO_SERVER}, []),
    ({"methods": {"ping"}, "direction": "c2s"}, []),
]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("interest", "expected"), DECLARED)
@pytest.mark.parametrize("apart", [True, False], ids=["one a chunk", "all in one"])
def test_an_interceptor_is_shown_what_it_cares_for_and_nothing_else(interest, expected, exact, apart):
    says, does = Says(lambda message: Continue(), exact=exact, **interest), Does(lambda batch: None, **interest)
    does.exact = exact
    pipeline = pipeline_of(says, does, Says(lambda message: Continue(), methods={"nothing"}))
    for raws in [[raw] for raw in ALL] if apart else [ALL]:
        pipeline.run(events(raws, TO_CLIENT))
    assert says.shown == expected
    assert does.calls == (len(expected) if apart else bool(expected))
    assert [stage.metrics.messages for stage in pipeline.stages] == [len(expected), len(expected), 0]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("interest", "expected"), DECLARED)
def test_a_chunk_passes_without_a_batch_only_if_nobody_would_be_shown_it(interest, expected, exact):
    for raw in ALL:
        frames = SseParser().feed(b"data: " + raw + b"\n\n")
        passes = pipeline_of(Does(print, exact=exact, **interest)).passes(frames, Direction.SERVER_TO_CLIENT)
        assert not (passes and raw in expected)
        if "kinds" not in interest and raw not in (*expected, PING, TALK) and interest:
            assert passes, raw
    assert Pipeline(scheduler()).passes(SseParser().feed(b""), Direction.SERVER_TO_CLIENT)


def test_a_burst_that_nobody_cares_for_passes_without_a_batch():
    for interest in (
        {"methods": {"ping"}},
        {"methods": {"ping"}, "exact": False},
        {"kinds": {"error"}, "exact": False},
    ):
        pipeline = pipeline_of(Does(print, **interest))
        for raws in ([NOTE, NOTE], [NOTE, RESULT, CALL, NOTE], [RESULT, RESULT]):
            frames = SseParser().feed(b"".join(b"data: " + raw + b"\n\n" for raw in raws))
            assert pipeline.passes(frames, Direction.SERVER_TO_CLIENT), raws


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("interest", "expected"), DECLARED)
@given(st.lists(st.sampled_from([b"data: " + raw + b"\n\n" for raw in ALL] + [b": comment\n\n"]), max_size=6))
def test_a_burst_passes_without_a_batch_only_if_nobody_would_be_shown_any_of_it(interest, expected, exact, parts):
    says = Says(lambda message: Continue(), exact=exact, **interest)
    pipeline = pipeline_of(says)
    frames = SseParser().feed(b"".join(parts))
    passes = pipeline.passes(frames, Direction.SERVER_TO_CLIENT)
    pipeline.run(MessageBatch.of_frames(frames, TO_CLIENT))
    assert not (passes and says.shown)


def test_bursts_pass_again_after_some_that_did_not():
    pipeline = pipeline_of(Does(lambda batch: None, methods={"ping"}))
    quiet, wanted = (SseParser().feed(b"data: " + NOTE + b"\n\ndata: " + raw + b"\n\n") for raw in (NOTE, PING))

    def passes(frames):
        if pipeline.passes(frames, Direction.SERVER_TO_CLIENT):
            return True
        pipeline.run(MessageBatch.of_frames(frames, TO_CLIENT))
        return False

    # The first quiet one behind those that were wanted is looked at in its batch.
    assert [*map(passes, [quiet, wanted, wanted, quiet, quiet])] == [True, False, False, False, True]


def test_what_nobody_cares_for_is_not_parsed_and_no_message_is_made_of_it(monkeypatch):
    parsed = []
    original = messages.message.parse
    monkeypatch.setattr(messages.message, "parse", lambda raw: parsed.append(raw) or original(raw))
    pipeline = pipeline_of(
        Does(print, methods={"tools/call"}),
        Says(print, methods={"ping", "prompts/get"}),
        Says(print, kinds={"error"}, exact=False),
    )
    escaped = b'{"result":{"text":"a \\"method\\" of \\n {}","x":{}},"jsonrpc":"2.0","id":1}'
    for raws in ([NOTE], [NOTE] * 16, [RESULT], [NOTE, RESULT, NOTE, LIST], [escaped]):
        batch = events(raws, TO_CLIENT)
        assert pipeline.run(batch) is None
        assert not batch._originals
    assert parsed == []


# --- Smuggling: messages that the hints take for something else, or that only lenient endpoints can read ----------

HIDDEN = {
    "second method": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"method":"tools/call"}',
    "second method, escaped": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"\\u006dethod":"tools/call"}',
    "second method, escaped late": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"metho\\u0064":"tools/call"}',
    "second method, with blanks": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{} ,"method" : "tools/call"}',
    "second method, its value escaped": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"method":"tools\\/call"}',
    "second method and params": b'{"id":7,"method":"ping","params":{},"method":"tools/call","params":{}}',
    "behind the id": b'{"method":"notifications/x","params":{},"method":"tools/call","jsonrpc":"2.0","id":1}',
    "a result with a method": b'{"result":{},"method":"tools/call","jsonrpc":"2.0","id":1}',
    "a note with a late method": b'{"method":"notifications/x","params":{},"method":"tools/call","jsonrpc":"2.0"}',
    "method only escaped": b'{"jsonrpc":"2.0","id":1,"\\u006dethod":"tools/call","params":{}}',
    "value escaped": b'{"jsonrpc":"2.0","id":1,"method":"\\u0074ools/call","params":{}}',
    "no version": b'{"id":1,"method":"tools/call","params":{}}',
    "other version": b'{"jsonrpc":"1.0","id":1,"method":"tools/call","params":{}}',
    "id is true": b'{"jsonrpc":"2.0","id":true,"method":"tools/call"}',
    "byte order mark": b"\xef\xbb\xbf" + CALL,
    "broken UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"a":"\xff"}}',
    "blanks": b" \t" + CALL + b"  ",
}
UNREADABLE = {
    "NaN": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"a":NaN}}',
    "NaN in a notification": b'{"jsonrpc":"2.0","method":"tools/call","params":{"a":-Infinity}}',
    "UTF-16": CALL.decode().encode("utf-16"),
    "UTF-16 without a mark": CALL.decode().encode("utf-16-be"),
    "UTF-32": CALL.decode().encode("utf-32-le"),
    "trailing comma": CALL[:-1] + b",}",
    "two documents": NOTE + CALL,
    "too deep": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b'{"a":' * 600 + b"1" + b"}" * 601,
    "broken array": b"[" + CALL + b",",
    "in capitals": b'{"jsonrpc":"2.0","id":1,"METHOD":"tools/call"}',
    "in an array of an array": b"[[" + CALL + b"]]",
    "cut off": CALL[:-1],
}
LINE_SAFE = {name: raw for name, raw in UNREADABLE.items() if b"\n" not in raw and not raw.startswith(b"\xff")}


@pytest.mark.parametrize("beside", [[], [NOTE, RESULT]], ids=["alone", "among others"])
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("shape", ["message", "batch"])
@pytest.mark.parametrize("framing", ["events", "lines", "array"])
def test_who_decides_is_not_deceived(framing, shape, name, beside):
    if framing == "array" and name == "byte order mark":
        return
    if shape == "message":
        deny = Says(lambda message: Block("no"), methods={"tools/call"})
    else:
        deny = Does(
            lambda batch: [batch.block(at, "no") for at, _ in batch.where(methods={"tools/call"}, exact=True)] and None,
            methods={"tools/call"},
        )
    pipeline = pipeline_of(deny, Says(print, methods={"nothing/at/all"}))
    batch = FRAMINGS[framing]([*beside, HIDDEN[name], *beside], TO_SERVER)
    frames = SseParser().feed(batch.emit())
    assert framing != "events" or not pipeline.passes(frames, Direction.CLIENT_TO_SERVER)
    pipeline.run(batch)
    assert [message.raw for message in batch] == [*beside, *beside]
    assert [metric.failures for metric in (stage.metrics for stage in pipeline.stages)] == [0, 0]


@pytest.mark.parametrize(
    "hidden",
    [
        b'{"method":"notifications/x","params":{},"method":"tools/call","jsonrpc":"2.0"}',
        b'{"method":"notifications/x","params":{"a":{}},"method":"tools/call","jsonrpc":"2.0"}',
        b'{"method":"notifications/x","params":{},"\\u006dethod":"tools/call","jsonrpc":"2.0"}',
        b'{"method":"notifications/x","params":{"a":"}"},"method":"tools/call","params":{},"jsonrpc":"2.0"}',
    ],
)
@pytest.mark.parametrize("param", [b"1", b'"}"', b'{"b":{}}', b'"\\u006dethod"'])
def test_a_burst_of_equal_messages_hides_none_that_is_different(hidden, param):
    like_it = b'{"method":"notifications/x","params":{"a":%s},"jsonrpc":"2.0"}' % param
    deny = Says(lambda message: Block("no"), methods={"tools/call"})
    for make in (events, lines):
        for at in range(4):
            raws = [like_it] * 3
            raws.insert(at, hidden)
            batch = make(raws, TO_CLIENT)
            assert batch.hint is None
            pipeline_of(deny).run(batch)
            assert [message.raw for message in batch] == [like_it] * 3


@pytest.mark.parametrize("fail", ["closed", "open"])
@pytest.mark.parametrize("interest", [{"methods": {"tools/call"}}, {"kinds": {"request"}}], ids=["method", "kind"])
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_but_perhaps_elsewhere_meets_the_failure_policy_of_who_decides(name, interest, fail):
    raw, records = UNREADABLE[name], []
    pipeline = Pipeline(scheduler(), on_verdict=records.append)
    deny = Says(lambda message: Block("no"), **interest)
    stage = pipeline.add(deny, fail=fail)
    watcher = pipeline.add(Says(lambda message: Continue(), exact=False, **interest))
    batch = body([raw], TO_SERVER)
    pipeline.run(batch)
    assert deny.shown == []
    assert stage.metrics.failures == 1
    assert watcher.metrics.failures == 0
    assert records[0].action is Action.FAIL
    assert records[0].reason.startswith("UnroutableMessage: no JSON-RPC message to us")
    if fail == "open":
        assert batch.emit() == raw
    else:
        assert batch.emit() == b""
        assert payloads(batch.replies)[0]["error"]["message"] == "interceptor Says failed"


@pytest.mark.parametrize("name", LINE_SAFE)
@pytest.mark.parametrize("beside", [[], [NOTE, RESULT]], ids=["alone", "among others"])
def test_such_a_message_takes_none_of_its_neighbours_with_it(name, beside):
    pipeline = pipeline_of(Does(lambda batch: None, methods={"tools/call"}))
    for make in (lines, events):
        batch = make([*beside, LINE_SAFE[name], *beside], TO_CLIENT)
        if make is events and len(beside):
            assert not pipeline.passes(SseParser().feed(batch.emit()), Direction.SERVER_TO_CLIENT)
        pipeline.run(batch)
        left = [message.raw for message in batch]
        if b'"id":1' in LINE_SAFE[name] and len(left) > 2 * len(beside):
            left.pop(len(beside))  # an error in its place
        assert left == [*beside, *beside]


@pytest.mark.parametrize(
    "raw", [b"/messages?session=1", b"server started {ok}", b"<html>{}</html>", b'"{}"', b"17", b"null", b"//", b"#"]
)
def test_what_nobody_could_take_for_json_is_left_alone(raw):
    assert not is_unroutable(Message(raw, TO_CLIENT))
    pipeline = pipeline_of(Says(print, methods={"tools/call"}), Says(print, kinds={"request"}))
    batch = events([raw], TO_CLIENT)
    pipeline.run(batch)
    assert [message.raw for message in batch] == [raw]


def test_who_wants_everything_is_shown_what_cannot_be_read():
    says = Says(lambda message: Block("unreadable") if message.kind is Kind.INVALID else Continue())
    batch = events([UNREADABLE["NaN"], NOTE], TO_SERVER)
    pipeline_of(says).run(batch)
    assert [message.raw for message in batch] == [NOTE]
    assert len(says.shown) == 2


members = st.lists(
    st.sampled_from(
        [
            b'"jsonrpc":"2.0"',
            b'"id":1',
            b'"id":"a}"',
            b'"method":"tools/call"',
            b'"method":"ping"',
            b'"method":"notifications/x"',
            b'"\\u006dethod":"tools/call"',
            b'"params":{}',
            b'"params":{"method":"tools/call"}',
            b'"params":{"a":{"b":"}"}}',
            b'"params":{"a":"\\u0041\\n"}',
            b'"result":{"method":"x"}',
            b'"error":{}',
            b'"x":NaN',
            b'"x":[{"method":"tools/call"}]',
        ]
    ),
    max_size=7,
).map(lambda parts: b"{" + b",".join(parts) + b"}")


def as_a_lenient_reader(raw):
    """What a reader that allows NaN takes a message for."""
    try:
        payload = json.loads(raw)
    except ValueError:
        return None
    return payload.get("method") if isinstance(payload, dict) else None


@pytest.mark.parametrize("framing", ["events", "lines", "array", "folded"])
@given(st.lists(members, min_size=1, max_size=4))
def test_no_arrangement_of_members_hides_a_method(framing, raws):
    batch = FRAMINGS[framing](raws, TO_SERVER)
    candidates = [position for position, _ in batch.candidates({"tools/call"})]
    for position, raw in enumerate(raws):
        if as_a_lenient_reader(raw) == "tools/call":
            assert position in candidates
    exact = [at for at, message in enumerate(batch) if message.method == "tools/call"]
    assert [at for at, _ in batch.where(methods={"tools/call"}, exact=True)] == exact
    requests = [at for at in exact if batch[at].kind is Kind.REQUEST]
    assert [at for at, _ in batch.where({"tools/call"}, {Kind.REQUEST}, exact=True)] == requests
    batch.insert_after(0, CALL)
    assert len(batch.where(methods={"tools/call"}, exact=True)) == len(exact) + 1
    single = MessageBatch.of_frames(SseParser().feed(b"data: " + raws[0] + b"\n\n"), TO_SERVER)
    assert len(single.where(methods={"tools/call"}, exact=True)) == (0 in exact)
    if as_a_lenient_reader(raws[0]) == "tools/call":
        pipeline = pipeline_of(Says(print, methods={"tools/call"}))
        assert not pipeline.passes(SseParser().feed(b"data: " + raws[0] + b"\n\n"), Direction.CLIENT_TO_SERVER)


@given(st.lists(members, min_size=1, max_size=5))
def test_a_denied_method_never_passes_to_any_reader(raws):
    pipeline = pipeline_of(Says(lambda message: Block("no"), methods={"tools/call"}))
    batch = lines(raws, TO_SERVER)
    pipeline.run(batch)
    for line in batch.emit().splitlines():
        assert as_a_lenient_reader(line) != "tools/call"


def test_an_interest_is_read_once_when_the_interceptor_is_added():
    says = Says(lambda message: Continue(), methods=["ping"])
    pipeline = pipeline_of(says)
    says.methods.append("tools/call")
    pipeline.run(events([CALL], TO_SERVER))
    assert says.shown == []
    assert pipeline.stages[0].interest == Interest(frozenset({"ping"}))
    pipeline.replace("Says", says)
    pipeline.run(events([CALL], TO_SERVER))
    assert says.shown == [CALL]
