"""Requests and answers find each other, by scope, direction and id, and nothing grows without a limit."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.correlation import Call, Correlator
from shadowcat_core.jsonrpc import dump
from shadowcat_core.mcp import Direction, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext
from shadowcat_core.sse import SseParser, encode

C2S, S2C = Direction.CLIENT_TO_SERVER, Direction.SERVER_TO_CLIENT


def message(direction, at_ns=0, **members):
    return Message(dump({"jsonrpc": "2.0", **members}), MessageContext(direction, Transport.HTTP), at_ns=at_ns)


def ask(request_id, direction=C2S, method="tools/call", at_ns=0, **params):
    return message(direction, at_ns, id=request_id, method=method, params=params)


def answer(request_id, direction=S2C, at_ns=0, **result):
    return message(direction, at_ns, id=request_id, result=result)


def progress(token, direction=S2C):
    return message(direction, method="notifications/progress", params={"progressToken": token, "progress": 1})


def cancel(request_id, direction=C2S, at_ns=0):
    return message(direction, at_ns, method="notifications/cancelled", params={"requestId": request_id})


def test_an_answer_finds_its_request():
    correlator = Correlator()
    request = ask(1, at_ns=100)
    call = correlator.see(request, "s")
    assert (call.request, call.answer, call.duration_ns, call.round, call.first) == (request, None, None, 1, call)
    assert len(correlator) == 1
    response = answer(1, at_ns=350)
    assert correlator.see(response, "s") is call
    assert (call.answer, call.duration_ns) == (response, 250)
    assert len(correlator) == 0


def test_an_error_is_an_answer():
    correlator = Correlator()
    call = correlator.see(ask("x"), "s")
    error = message(S2C, id="x", error={"code": 1, "message": "no"})
    assert correlator.see(error, "s") is call
    assert call.answer is error


@pytest.mark.parametrize(
    ("request_", "scope", "other", "other_scope"),
    [
        pytest.param(ask(1), "s", answer("1"), "s", id="number-and-string"),
        pytest.param(ask(1), "s", answer(2), "s", id="other-id"),
        pytest.param(ask(1), "s", answer(1), "t", id="other-scope"),
        pytest.param(ask(1), "s", answer(1, direction=C2S), "s", id="same-direction"),
        pytest.param(ask(0), "s", message(S2C, id=None, error={"code": 1}), "s", id="error-with-null-id"),
        pytest.param(ask(1), "s", progress(1), "s", id="progress"),
        pytest.param(ask(1), "s", cancel(1, S2C), "s", id="cancelled-by-the-other-side"),
        pytest.param(ask(1), "s", cancel([1]), "s", id="cancelled-list"),
        pytest.param(ask(1), "s", message(S2C, method="notifications/message", params={}), "s", id="log"),
    ],
)
def test_what_does_not_belong_to_a_call_is_not_given_to_it(request_, scope, other, other_scope):
    correlator = Correlator()
    call = correlator.see(request_, scope)
    assert correlator.see(other, other_scope) is None
    assert (len(correlator), call.answer, call.cancelled_ns) == (1, None, None)


@pytest.mark.parametrize(
    "raw", [b"nonsense", b"[]", b'{"jsonrpc":"2.0","id":null,"method":"x"}', b'{"id":1,"method":"x"}']
)
def test_what_is_no_request_begins_no_call(raw):
    correlator = Correlator()
    assert correlator.see(Message(raw, MessageContext(C2S, Transport.STDIO)), "s") is None
    assert len(correlator) == 0


def test_both_sides_may_use_one_id_at_the_same_time():
    correlator = Correlator()
    clients = correlator.see(ask(1), "s")
    servers = correlator.see(ask(1, S2C, "sampling/createMessage"), "s")
    assert correlator.see(answer(1, C2S), "s") is servers
    assert correlator.see(answer(1), "s") is clients


def test_a_cancelled_call_is_over():
    correlator = Correlator()
    call = correlator.see(ask(1), "s")
    assert correlator.see(cancel(1, at_ns=9), "s") is call
    assert (call.cancelled_ns, call.answer, len(correlator)) == (9, None, 0)
    assert correlator.see(answer(1), "s") is None
    assert correlator.forgotten == 0


def test_the_next_round_of_a_call_is_linked_to_the_first():
    correlator = Correlator()
    first = correlator.see(ask(1, name="book"), "exchange 1")
    correlator.see(answer(1, resultType="input_required", requestState="opaque-1"), "exchange 1")
    second = correlator.see(ask(2, name="book", requestState="opaque-1", inputResponses={}), "exchange 2")
    correlator.see(answer(2, resultType="input_required", requestState="opaque-2"), "exchange 2")
    third = correlator.see(ask(3, name="book", requestState="opaque-2"), "exchange 3")
    done = answer(3, resultType="complete")
    assert correlator.see(done, "exchange 3") is third
    assert [call.round for call in (first, second, third)] == [1, 2, 3]
    assert {call.first for call in (first, second, third)} == {first}
    assert third.answer is done


@pytest.mark.parametrize(
    ("result", "retry"),
    [
        pytest.param({"resultType": "input_required"}, {"name": "book"}, id="no-state"),
        pytest.param(
            {"resultType": "input_required", "requestState": "a"}, {"name": "book", "requestState": "b"}, id="other"
        ),
        pytest.param(
            {"resultType": "input_required", "requestState": "a"}, {"name": "pay", "requestState": "a"}, id="target"
        ),
        pytest.param(
            {"resultType": "complete", "requestState": "a"}, {"name": "book", "requestState": "a"}, id="complete"
        ),
        pytest.param(
            {"text": "input_required", "requestState": "a"}, {"name": "book", "requestState": "a"}, id="only-said"
        ),
        pytest.param(
            {"resultType": "input_required", "requestState": "a"}, {"name": "book", "requestState": 1}, id="number"
        ),
    ],
)
def test_only_the_same_state_continues_a_call(result, retry):
    correlator = Correlator()
    correlator.see(ask(1, name="book"), "x")
    correlator.see(answer(1, **result), "x")
    call = correlator.see(ask(2, **retry), "y")
    assert (call.round, call.first) == (1, call)


def test_an_id_that_is_used_again_gives_up_the_older_call():
    correlator = Correlator()
    older = correlator.see(ask(1), "s")
    newer = correlator.see(ask(1), "s")
    assert correlator.see(answer(1), "s") is newer
    assert (older.answer, correlator.forgotten, len(correlator)) == (None, 1, 0)


def test_the_oldest_call_beyond_the_limit_is_forgotten_and_counted():
    correlator = Correlator(max_calls=3)
    calls = [correlator.see(ask(number), f"s{number % 2}") for number in range(5)]
    assert (len(correlator), correlator.forgotten) == (3, 2)
    assert [correlator.see(answer(number), f"s{number % 2}") for number in range(5)] == [None, None, *calls[2:]]
    assert correlator._scopes == correlator._calls == {}


def test_open_calls_are_bounded_in_bytes_too():
    correlator = Correlator(max_bytes=10_000)
    for number in range(20):
        correlator.see(ask(number, text="x" * 1_000), "s")
    assert len(correlator) == 9
    assert correlator.forgotten == 11
    huge = correlator.see(ask(99, text="x" * 50_000), "s")
    assert len(correlator) == 1
    assert correlator.see(answer(99), "s") is huge
    assert correlator._bytes == 0


def test_calls_that_never_get_their_next_round_are_bounded_too():
    correlator = Correlator(max_calls=3)
    for number in range(5):
        correlator.see(ask(number), "s")
        correlator.see(answer(number, resultType="input_required", requestState=f"state {number}"), "s")
    assert (len(correlator._rounds), correlator.forgotten) == (3, 2)


def test_rounds_that_never_go_on_are_bounded_in_bytes_too():
    correlator = Correlator(max_bytes=10_000)
    for number in range(20):
        correlator.see(ask(number, text="x" * 1_000), "s")
        correlator.see(answer(number, resultType="input_required", requestState=f"s{number}", text="x" * 1_000), "s")
    assert len(correlator._rounds) == 4
    assert correlator._round_bytes < 10_000
    for number in range(16, 20):
        assert correlator.see(ask(100 + number, requestState=f"s{number}"), "s").round == 2
    assert correlator._round_bytes == 0


def test_a_scope_that_ends_gives_what_was_left_unanswered():
    correlator = Correlator()
    calls = [correlator.see(ask(number), "s") for number in range(3)]
    other = correlator.see(ask(0), "t")
    correlator.see(answer(1), "s")
    assert correlator.forget("s") == [calls[0], calls[2]]
    assert correlator.forget("s") == correlator.forget("unknown") == []
    assert (len(correlator), correlator.forgotten) == (1, 0)
    assert correlator.see(answer(0), "t") is other


def test_a_hint_that_is_not_json_does_no_harm():
    correlator = Correlator()
    broken = b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"requestState":}}'
    call = correlator.see(Message(broken, MessageContext(C2S, Transport.HTTP)), "s")
    assert isinstance(call, Call)
    broken = b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required",}}'
    assert correlator.see(Message(broken, MessageContext(S2C, Transport.HTTP)), "s") is call


def batch_of(*messages):
    chunk = b"".join(encode(one.raw) for one in messages)
    return MessageBatch.of_frames(SseParser().feed(chunk), MessageContext(messages[0].direction, Transport.HTTP))


def test_a_batch_is_seen_in_order_without_objects_for_what_is_of_no_use():
    correlator = Correlator()
    log = message(S2C, method="notifications/message", params={"data": "x"})
    call = correlator.see(ask(1), "s")
    batch = batch_of(log, progress(1), log)
    assert correlator.see_batch(batch, "s") == []
    assert not batch._originals
    other = correlator.see(ask(2), "s")
    servers = ask(9, S2C, "ping")
    calls = correlator.see_batch(
        batch_of(progress(7), answer(1), servers, progress(7), answer(2), log, cancel(9, S2C)), "s"
    )
    assert calls == [call, calls[1], other, calls[1]]
    assert calls[1].request.raw == servers.raw
    assert len(correlator) == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "cancel", "forget"]),
        st.sampled_from([C2S, S2C]),
        st.sampled_from([1, 2, "1", 0]),
        st.sampled_from(["s", "t"]),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 5))
def test_any_conversation_keeps_the_tables_in_step(conversation, max_calls):
    correlator = Correlator(max_calls=max_calls)
    model: dict[tuple, Call] = {}
    forgotten = 0
    for verb, direction, request_id, scope in conversation:
        key = (scope, direction, request_id)
        match verb:
            case "ask":
                forgotten += model.pop(key, None) is not None
                model[key] = correlator.see(ask(request_id, direction), scope)
                if len(model) > max_calls:
                    del model[next(iter(model))]
                    forgotten += 1
            case "answer":
                assert correlator.see(answer(request_id, direction.opposite), scope) is model.pop(key, None)
            case "cancel":
                assert correlator.see(cancel(request_id, direction), scope) is model.pop(key, None)
            case "forget":
                left = [call for known, call in model.items() if known[0] == scope]
                assert correlator.forget(scope) == left
                model = {known: call for known, call in model.items() if known[0] != scope}
        assert (len(correlator), correlator.forgotten) == (len(model), forgotten)
        assert set(correlator._calls) == set(model)
        assert set(correlator._scopes) == {known[0] for known in model}


def test_a_call_that_is_over_is_freed_without_a_collection():
    gc.collect()
    gc.disable()
    try:
        before = [id(known) for known in gc.get_objects() if isinstance(known, Call)]
        correlator = Correlator()
        correlator.see(ask(1), "s")
        correlator.see(answer(1), "s")
        after = [id(known) for known in gc.get_objects() if isinstance(known, Call)]
        assert set(after) <= set(before)
    finally:
        gc.enable()
