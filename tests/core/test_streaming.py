"""Which responses stream, how they are read, and what becomes of those that nobody can judge."""

import gzip
import json
import zlib

import pytest

from shadowcat_core.exchange import Exchange
from shadowcat_core.interceptors import BatchPolicy, Block, Continue
from shadowcat_core.limits import MAX_HELD_BODY_BYTES
from shadowcat_core.mcp import Direction, Era, HeaderFields, Recognition, RecognitionKind
from shadowcat_core.outlet import Cut, Refusal
from shadowcat_core.streaming import Judges, is_judged, make_tap, may_be_message, must_stream
from tests.core.interception import Says, in_virtual_time, pipeline_of
from tests.core.judged_stream import clock_ns, event, said, steered

SSE, JSON = "text/event-stream; charset=utf-8", "application/json"
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}'
LISTEN = b'{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}'


def exchange_of(body=CALL, kind=RecognitionKind.MESSAGES):
    return Exchange(1, "flow", Recognition(kind, "", Era.MODERN), body)


def head(**fields):
    return HeaderFields([(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()])


def judges_of(*interceptors, policy=None, **settings):
    replies = []
    return Judges(pipeline_of(*interceptors, **settings), replies.extend, policy)


@pytest.mark.parametrize(
    ("exchange", "fields", "streams"),
    [
        (exchange_of(), head(content_type=SSE, content_length="5"), True),
        (exchange_of(), head(content_type=JSON, content_length="5"), False),
        (exchange_of(), head(content_type=JSON, content_length=str(MAX_HELD_BODY_BYTES)), False),
        (exchange_of(), head(content_type=JSON, content_length=str(MAX_HELD_BODY_BYTES + 1)), True),
        (exchange_of(), head(content_type=JSON), True),
        (exchange_of(), head(content_type=JSON, content_length="many"), True),
        (exchange_of(LISTEN), head(content_type=JSON, content_length="5"), True),
    ],
)
def test_a_response_streams_unless_it_is_short_and_says_so(exchange, fields, streams):
    assert must_stream(exchange, fields) is streams


@pytest.mark.parametrize(("content_type", "streams"), [(JSON, False), ("text/html", False), (SSE, True)])
def test_a_body_that_answers_given_here_are_to_join_is_held_whole(content_type, streams):
    exchange = exchange_of()
    exchange.owed = list(exchange.asked)
    assert must_stream(exchange, head(content_type=content_type)) is streams


def test_a_response_with_an_outlet_streams_however_short():
    exchange = exchange_of()
    exchange.outlet = Refusal("no")
    assert must_stream(exchange, head(content_type=JSON, content_length="5"))


@pytest.mark.parametrize(
    ("content_type", "may"), [(None, True), ("", True), (JSON, True), ("text/html", False), ("image/png", False)]
)
def test_a_page_is_no_message(content_type, may):
    assert may_be_message(content_type) is may


@pytest.mark.parametrize(
    ("kind", "judged"),
    [(RecognitionKind.MESSAGES, True), (RecognitionKind.STREAM, True), (RecognitionKind.MAYBE_STREAM, False)],
)
def test_only_what_is_known_to_be_mcp_is_judged(kind, judged):
    assert is_judged(exchange_of(kind=kind)) is judged


async def through(exchange, fields, body, judges, cut=10_000):
    """What goes to the client, and what failed; the cut's reason in place of bytes when the stream was cut."""
    failures = []
    tap = make_tap(exchange, fields, clock_ns=clock_ns, on_failure=failures.append, judges=judges)
    sent = []
    for at in range(0, len(body), cut):
        passed = tap.take(body[at : at + cut])
        steps = tap.outlet.send(passed) if tap.outlet is not None else [passed]
        for step in steps:
            if isinstance(step, Cut):
                return step.reason, failures
            sent.append(step)
    sent += tap.end()
    return b"".join(sent), failures


BLOCKED = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -31010, "message": "no"}})


@pytest.mark.parametrize("cut", [1, 20, 10_000])
@pytest.mark.parametrize("coding", [None, "gzip", "GZIP", "identity"])
def test_events_are_judged_and_pass_without_their_coding(cut, coding):
    async def scenario():
        body = event(1) + event(2, block=1) + event(3)
        fields = head(content_type=SSE) if coding is None else head(content_type=SSE, content_encoding=coding)
        coded = gzip.compress(body) if coding in ("gzip", "GZIP") else body
        sent, failures = await through(exchange_of(), fields, coded, judges_of(Says(steered)), cut)
        assert said(sent) == ["1", "3"]
        assert failures == []

    in_virtual_time(scenario())


def owing(judges, **fields):
    """The tap of an event stream that answers given here join, and the messages of it that were seen."""
    exchange, seen = exchange_of(), []
    exchange.owed = list(exchange.asked)
    exchange.batch_sinks.append(lambda batch: seen.extend(message.raw for message in batch))
    tap = make_tap(
        exchange, head(content_type=SSE, **fields), clock_ns=lambda: 0, on_failure=seen.append, judges=judges
    )
    tap.owe(event(0))
    return tap, seen


@pytest.mark.parametrize("cut", [7, 10_000])
def test_what_joins_a_coded_stream_that_nobody_judges_joins_it_without_its_coding(cut):
    judges = judges_of(Says(lambda _: Block("no"), direction=Direction.CLIENT_TO_SERVER))
    tap, seen = owing(judges, content_encoding="gzip")
    coded = gzip.compress(event(1) + event(2))
    sent = b"".join([*tap.flush(), *(tap.take(coded[at : at + cut]) for at in range(0, len(coded), cut)), *tap.end()])
    assert said(sent) == ["0", "1", "2"]
    assert len(seen) == 2
    assert (tap.passes_decoded, tap.may_change, tap.passes_first()) == (True, True, False)


def test_what_is_to_join_a_stream_of_an_unknown_coding_refuses_it():
    judges = judges_of(Says(lambda _: Block("no"), direction=Direction.CLIENT_TO_SERVER))
    tap, failures = owing(judges, content_encoding="own")
    assert tap.outlet is not None
    assert any(isinstance(step, Cut) for step in tap.outlet.send(b"x"))
    assert len(failures) == 1


@pytest.mark.parametrize("fields", [head(content_type=JSON), head(), head(content_type=JSON, content_encoding="gzip")])
def test_a_body_of_unknown_length_is_judged_as_one(fields):
    async def scenario():
        body = b'{"jsonrpc":"2.0","id":1,"result":{}}'
        coded = gzip.compress(body) if fields.get("content-encoding") else body
        sent, failures = await through(exchange_of(), fields, coded, judges_of(Says(lambda _: Block("no"))), cut=7)
        assert json.loads(sent) == json.loads(BLOCKED)
        assert failures == []

    in_virtual_time(scenario())


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_unpacks_to_much_at_once_is_judged_all_the_same(coding):
    async def scenario():
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"text": "x" * 5_000_000}}).encode()
        coded = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
        fields = head(content_type=JSON, content_encoding=coding)
        sent, failures = await through(exchange_of(), fields, coded, judges_of(Says(lambda _: Continue())))
        assert sent == body
        assert failures == []

    in_virtual_time(scenario())


def test_the_lines_that_answer_a_subscription_are_judged_one_by_one():
    async def scenario():
        lines = b'{"jsonrpc":"2.0","method":"a"}\n{"jsonrpc":"2.0","method":"b"}\n'
        judges = judges_of(Says(lambda message: Block("no") if message.method == "a" else Continue()))
        sent, _ = await through(exchange_of(LISTEN), head(content_type="application/x-ndjson"), lines, judges)
        assert sent == lines.splitlines(keepends=True)[1]

    in_virtual_time(scenario())


@pytest.mark.parametrize(
    "fields",
    [
        head(content_type="text/html"),
        head(content_type="image/png"),
        head(content_type="text/html", content_encoding="gzip"),
        head(content_type="text/html", content_encoding="own"),
    ],
)
def test_what_is_no_message_passes_as_it_is(fields):
    async def scenario():
        seen = Says(lambda _: Block("no"))
        sent, _ = await through(exchange_of(), fields, b"<html>", judges_of(seen))
        assert (sent, seen.shown) == (b"<html>", [])

    in_virtual_time(scenario())


def test_a_body_in_an_unknown_coding_passes_when_everybody_fails_open():
    async def scenario():
        fields = head(content_type=SSE, content_encoding="own")
        sent, failures = await through(exchange_of(), fields, b"\1\2\3", judges_of(Says(steered), fail="open"))
        assert sent == b"\1\2\3"
        assert len(failures) == 1

    in_virtual_time(scenario())


def test_a_body_in_an_unknown_coding_is_refused_when_somebody_fails_closed():
    async def scenario():
        fields = head(content_type=SSE, content_encoding="own")
        sent, _ = await through(exchange_of(), fields, b"\1\2\3", judges_of(Says(steered), fail="closed"))
        assert "own" in sent
        assert "no interceptor can judge" in sent

    in_virtual_time(scenario())


@pytest.mark.parametrize("fields", [head(content_type=SSE), head(content_type=SSE, content_encoding="gzip")])
def test_a_stream_of_somebody_elses_is_not_judged_until_it_is_known_to_be_mcp(fields):
    async def scenario():
        exchange = exchange_of(b"", RecognitionKind.MAYBE_STREAM)
        exchange.may_tell = True
        body = event(1, block=1) + event(2)
        coded = gzip.compress(body) if fields.get("content-encoding") else body
        judges = judges_of(Says(steered))
        assert await through(exchange, fields, coded, judges, cut=9) == (body, [])
        exchange.settle(Recognition(RecognitionKind.STREAM, "an event told", Era.LEGACY))
        assert await through(exchange, fields, coded, judges, cut=9) == (event(2), [])

    in_virtual_time(scenario())


def test_a_stream_that_no_event_may_tell_to_be_mcp_is_only_watched():
    exchange = exchange_of(b"", RecognitionKind.NONE)
    exchange.settle(Recognition(RecognitionKind.NONE, "an answer of an LLM"))
    tap = make_tap(
        exchange, head(content_type=SSE), clock_ns=clock_ns, on_failure=print, judges=judges_of(Says(steered))
    )
    assert tap.passes_first()


def test_whether_to_decide_is_asked_when_the_head_is_here():
    judges = judges_of()
    assert not judges.decide_now
    judges.pipeline.add(Says(steered, direction=Direction.CLIENT_TO_SERVER))
    assert not judges.decide_now
    judges.pipeline.add(Says(steered), name="both")
    assert judges.decide_now


def test_the_policy_for_larger_batches_reaches_the_stream():
    async def scenario():
        tap = make_tap(
            exchange_of(),
            head(content_type=SSE),
            clock_ns=clock_ns,
            on_failure=lambda _exc: None,
            judges=judges_of(Says(steered), policy=BatchPolicy(max_delay_ms=5)),
        )
        assert tap.take(event(1)) == b""
        assert tap.due_ns is not None

    in_virtual_time(scenario())


@pytest.mark.parametrize("judges", [None, judges_of()], ids=["nobody", "no-interceptors"])
def test_without_interceptors_everything_passes_as_it_came(judges):
    async def scenario():
        coded = gzip.compress(event(1, block=1))
        sent, failures = await through(
            exchange_of(), head(content_type=SSE, content_encoding="gzip"), coded, judges, cut=3
        )
        assert sent == coded
        assert failures == []

    in_virtual_time(scenario())


def test_a_refusal_sends_nothing_and_ends_without_a_step():
    refusal = Refusal("why")
    assert list(refusal.send(b"x")) == [Cut("why")]
    assert list(refusal.end()) == []
