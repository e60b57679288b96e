"""Exchanges while they run: what they mean, whose answers they bring, who is told, and what is forgotten."""

import json
from dataclasses import replace

import pytest

from shadowcat_core.exchange import ExchangeRegistry
from shadowcat_core.framing import SseFraming
from shadowcat_core.mcp import Direction, Era, Recognition, RecognitionKind, Transport
from shadowcat_core.messages import MessageBatch
from shadowcat_core.outlet import Refusal
from shadowcat_core.stream import StreamTap

C2S, S2C = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT
MODERN = Recognition(RecognitionKind.MESSAGES, "", Era.MODERN)
LEGACY = Recognition(RecognitionKind.MESSAGES, "", Era.LEGACY, session_id="s")
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}}
ANSWER = {"jsonrpc": "2.0", "id": 7, "result": {}}
QUESTION = {"jsonrpc": "2.0", "id": 7, "method": "roots/list"}


def body(payload):
    return json.dumps(payload).encode()


class Clock:
    now_ns = 100

    def __call__(self):
        return self.now_ns


class Watching:
    """A watcher that remembers what it was told."""

    def __init__(self):
        self.told = []

    def saw(self, exchange, batch, calls):
        self.told.append(("saw", exchange.number, [str(message.kind) for message in batch], len(calls)))

    def closed(self, exchange):
        self.told.append(("closed", exchange.number))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(clock):
    return ExchangeRegistry(clock)


def ask(registry, flow, payload=CALL, recognition=MODERN):
    exchange = registry.open(flow, recognition, b"" if payload is None else body(payload))
    registry.catch_up()
    return exchange


def test_an_exchange_is_known_by_its_flow_while_it_runs(registry):
    first, second = ask(registry, "f1"), ask(registry, "f2")
    assert (first.number, second.number, registry.opened, len(registry)) == (1, 2, 2, 2)
    assert registry.get("f1") is first
    assert first.started_ns == 100
    registry.close("f1")
    assert registry.get("f1") is None
    assert registry.get("unheard-of") is None
    assert len(registry) == 1


def test_an_exchange_knows_what_was_asked(registry):
    exchange = ask(registry, "f", [CALL, {"jsonrpc": "2.0", "method": "notifications/initialized"}])
    assert [message.method for message in exchange.asked] == ["tools/call", "notifications/initialized"]
    assert [message.method for message in exchange.requests] == ["tools/call"]
    assert [call.request.id for call in exchange.calls] == [7]
    assert not exchange.listens
    assert ask(registry, "g", {**CALL, "method": "subscriptions/listen"}).listens


def test_what_goes_to_the_server_is_read_again_only_when_it_was_changed(registry):
    exchange = ask(registry, "f")
    assert exchange.asked_in(body(CALL)) is exchange.asked
    changed = exchange.asked_in(body(CALL | {"id": 8}))
    assert [message.id for message in changed] == [8]
    assert [message.id for message in exchange.asked] == [7]
    assert not list(exchange.asked_in(b""))


def test_an_exchange_without_a_body_asks_nothing(registry):
    exchange = ask(registry, "f", None)
    assert (list(exchange.asked), exchange.requests, exchange.calls, exchange.listens) == ([], [], [], False)


def test_messages_know_their_exchange(registry):
    context = ask(registry, "f", recognition=LEGACY).context(S2C)
    assert (context.direction, context.transport) == (S2C, Transport.HTTP)
    assert (context.session_id, context.exchange_id, context.stream_id) == ("s", 1, "f")


def test_an_answer_knows_its_request_until_it_was_seen(registry):
    exchange = ask(registry, "f")
    answers = MessageBatch.of_body(body(ANSWER), exchange.context(S2C))
    assert answers[0].request.method == "tools/call"
    for other in (ANSWER | {"id": "7"}, ANSWER | {"id": 8}, QUESTION):
        assert MessageBatch.of_body(body(other), exchange.context(S2C))[0].request is None
    registry.see_answer(exchange, answers)
    assert answers[0].request is None


def test_ids_count_within_the_session_or_else_within_the_exchange(registry):
    assert ask(registry, "f", recognition=LEGACY).scope == "s"
    assert ask(registry, "g").scope == "g"


def test_a_session_that_the_response_opens_is_the_scope_only_of_what_was_not_asked(registry):
    initialize, stream = ask(registry, "f"), ask(registry, "g", None)
    for exchange in (initialize, stream):
        exchange.settle(replace(MODERN, session_id="fresh"))
        assert exchange.recognition.session_id == "fresh"
    assert (initialize.scope, stream.scope) == ("f", "fresh")


def test_settling_without_a_session_leaves_the_scope(registry):
    stream = ask(registry, "g", None)
    stream.settle(replace(MODERN, kind=RecognitionKind.NONE))
    assert (stream.scope, stream.recognition.kind) == ("g", RecognitionKind.NONE)


def test_a_body_answers_the_call(registry, clock):
    exchange = ask(registry, "f")
    clock.now_ns = 350
    registry.see_body(exchange, body(ANSWER))
    assert exchange.messages == 1
    assert exchange.calls[0].answer.payload == ANSWER
    assert exchange.calls[0].duration_ns == 250


def test_an_empty_body_says_nothing(registry):
    exchange = ask(registry, "f")
    registry.see_body(exchange, b"")
    assert (exchange.messages, exchange.calls[0].answer) == (0, None)


def test_a_streams_batches_are_seen_through_the_exchanges_own_sink(registry):
    exchange = ask(registry, "f")
    (sink,) = exchange.batch_sinks
    sink(MessageBatch.of_body(body(ANSWER), exchange.context(S2C), 0))
    assert exchange.calls[0].answer is not None


def test_equal_ids_of_two_exchanges_without_a_session_are_not_mixed_up(registry):
    first, second = ask(registry, "f"), ask(registry, "g")
    registry.see_body(second, body(ANSWER))
    assert [exchange.calls[0].answer is not None for exchange in (first, second)] == [False, True]


def test_an_answer_on_another_exchange_of_the_session_is_told(registry):
    elsewhere = []
    registry.when_answered_elsewhere = elsewhere.append
    stream, post = ask(registry, "f", None, LEGACY), ask(registry, "g", recognition=LEGACY)
    registry.see_body(stream, body(ANSWER))
    assert elsewhere == post.calls
    registry.see_body(post, body(ANSWER))
    assert len(elsewhere) == 1


def test_an_answer_on_its_own_exchange_is_not_told_as_one_elsewhere(registry):
    elsewhere = []
    registry.when_answered_elsewhere = elsewhere.append
    registry.see_body(ask(registry, "f"), body(ANSWER))
    assert elsewhere == []


def test_without_anybody_to_tell_an_answer_elsewhere_is_no_harm(registry):
    post, stream = ask(registry, "g", recognition=LEGACY), ask(registry, "f", None, LEGACY)
    registry.see_body(stream, body(ANSWER))
    assert post.calls[0].answer is not None


def test_a_posted_answer_is_no_call_of_the_exchange_that_posted_it(registry):
    stream = ask(registry, "f", None, LEGACY)
    registry.see_body(stream, body(QUESTION))
    post = ask(registry, "g", ANSWER, LEGACY)
    assert post.calls == []


def test_closing_twice_is_no_harm_and_closing_what_never_was_neither(registry):
    ask(registry, "f")
    for flow in ("f", "f", "unheard-of"):
        registry.close(flow)
    assert len(registry) == 0


@pytest.mark.parametrize(("recognition", "answered"), [(MODERN, False), (LEGACY, True)], ids=["exchange", "session"])
def test_an_exchanges_end_forgets_its_calls_and_a_sessions_calls_outlive_it(registry, recognition, answered):
    ended = ask(registry, "f", recognition=recognition)
    registry.close("f")
    registry.see_body(ask(registry, "f", None, recognition), body(ANSWER))
    assert (ended.calls[0].answer is not None) is answered


def test_what_a_stream_counted_is_added_up_when_it_ends(registry):
    for flow in ("f", "g"):
        exchange = ask(registry, flow)
        exchange.tap = StreamTap(SseFraming(exchange.context(S2C)), clock_ns=registry.clock_ns, on_failure=print)
        exchange.tap(b"data: " + body(ANSWER) + b"\n\n")
        exchange.tap(b"")
        registry.close(flow)
    assert (registry.metrics.chunks, registry.metrics.messages) == (2, 2)


def test_what_is_put_off_is_done_in_order_and_not_before_it_is_wanted(registry):
    watching = Watching()
    registry.watchers.append(watching)
    exchange = registry.open("f", MODERN, body(CALL))
    registry.later(lambda: registry.see_body(exchange, body(ANSWER)))
    registry.close("f")
    assert watching.told == []
    assert registry.catch_up()
    assert watching.told == [("saw", 1, ["request"], 1), ("saw", 1, ["response"], 1), ("closed", 1)]
    assert exchange.calls[0].answer is not None


def test_an_answer_that_streams_comes_after_what_was_asked_before(registry):
    exchange = registry.open("f", MODERN, body(CALL))
    (sink,) = exchange.batch_sinks
    sink(MessageBatch.of_body(body(ANSWER), exchange.context(S2C), 0))
    assert exchange.calls[0].answer is not None


def test_catching_up_stops_when_its_time_is_over(registry, clock):
    done = []

    def read(number):
        done.append(number)
        clock.now_ns += 10

    for number in range(5):
        registry.later(lambda number=number: read(number))
    assert not registry.catch_up(until_ns=clock.now_ns + 15)
    assert done == [0, 1]
    assert registry.catch_up()
    assert done == [0, 1, 2, 3, 4]


def test_a_reading_that_fails_is_told_and_takes_no_other_with_it(clock):
    done, failures = [], []
    registry = ExchangeRegistry(clock, on_failure=failures.append)
    registry.later(lambda: 1 / 0)
    registry.later(lambda: done.append("after"))
    assert registry.catch_up()
    assert done == ["after"]
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


def test_what_waits_is_bounded(registry):
    for number in range(2_000):
        registry.open(f"f{number}", MODERN, body(CALL))
    assert len(registry._waiting) <= 512


@pytest.mark.parametrize(
    "literal", [b'"subscriptions/listen"', b'"subscriptions\\/listen"', b'"subscriptions\\u002flisten"']
)
def test_a_subscription_is_known_however_json_writes_it(registry, literal):
    raw = b'{"jsonrpc":"2.0","id":1,"method":' + literal + b"}"
    assert registry.open("f", MODERN, raw).listens is (b"u002f" not in literal)


def test_a_name_in_the_arguments_is_no_subscription(registry):
    call = {**CALL, "params": {"name": "echo", "arguments": {"text": "subscriptions/listen"}}}
    assert not ask(registry, "f", call).listens


def test_watchers_are_told_of_everything_once(registry):
    watching = Watching()
    registry.watchers.append(watching)
    stream, post = ask(registry, "f", None, LEGACY), ask(registry, "g", recognition=LEGACY)
    registry.see_body(stream, body([{"jsonrpc": "2.0", "method": "notifications/message"}, ANSWER]))
    for flow in ("g", "g", "f"):
        registry.close(flow)
    registry.catch_up()
    assert watching.told == [
        ("saw", post.number, ["request"], 1),
        ("saw", stream.number, ["notification", "response"], 1),
        ("closed", post.number),
        ("closed", stream.number),
    ]


ENDPOINT = "/messages?session_id=s"
SSE_STREAM = Recognition(RecognitionKind.SSE_STREAM, "", Era.LEGACY, session_id="s", endpoint=ENDPOINT)
POSTED = replace(LEGACY, endpoint=ENDPOINT)


@pytest.mark.parametrize(
    ("others", "asked", "found"),
    [
        pytest.param([SSE_STREAM], POSTED, "other-0", id="its-stream"),
        pytest.param([SSE_STREAM, SSE_STREAM], POSTED, "other-1", id="the-latest-of-two"),
        pytest.param([replace(SSE_STREAM, session_id="t")], POSTED, None, id="of-another-session"),
        pytest.param([replace(SSE_STREAM, endpoint="/other")], POSTED, None, id="of-another-endpoint"),
        pytest.param([LEGACY, POSTED], POSTED, None, id="no-stream"),
        pytest.param([SSE_STREAM], LEGACY, None, id="posted-elsewhere"),
        pytest.param([], POSTED, None, id="nobody"),
    ],
)
def test_the_stream_where_a_client_of_http_with_sse_looks_for_answers_is_found(registry, others, asked, found):
    for number, recognition in enumerate(others):
        registry.open(f"other-{number}", recognition, b"")
    stream = registry.stream_of(ask(registry, "asks", recognition=asked))
    assert (None if stream is None else stream.flow_id) == found


def test_an_outlet_may_be_set_before_a_response_begins_or_while_it_streams(registry):
    exchange = ask(registry, "flow")
    before, later = Refusal("before"), Refusal("later")
    exchange.outlet = before
    assert exchange.outlet is before
    exchange.tap = StreamTap(None, clock_ns=registry.clock_ns, on_failure=print)
    exchange.outlet = later
    assert exchange.outlet is exchange.tap.outlet is later
    assert not exchange.tap.passes_first()


def test_a_page_that_explains_a_status_is_no_answer(registry):
    exchange = ask(registry, "flow")
    exchange.status = 502
    registry.see_body(exchange, b"<html>")
    registry.see_body(exchange, b"")
    assert exchange.messages == 0
    registry.see_body(exchange, body(ANSWER))
    assert exchange.messages == 1
