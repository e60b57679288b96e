"""Interceptors that raise, hang, answer nonsense or break messages: covered for, counted, told, and recorded."""

import asyncio
import json

import pytest

from shadowcat_core.errors import BadVerdict, InterceptorTimedOut
from shadowcat_core.interceptors import Action, Block, Continue, Inject, Mock, Modify, Pause, Pipeline, adapt
from shadowcat_core.jsonrpc import ErrorCode
from shadowcat_core.messages import RpcError
from tests.core.interception import (
    TO_CLIENT,
    TO_SERVER,
    Does,
    Says,
    events,
    in_virtual_time,
    judged,
    lines,
    payloads,
    scheduler,
)

GOOD = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
BAD = b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{}}'
NOTE = b'{"jsonrpc":"2.0","method":"notifications/x"}'


async def hang(_):
    await asyncio.Event().wait()


async def hang_on(_):
    """Not even a cancellation ends the wait; the answer comes after it."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return


async def give(value):
    await asyncio.sleep(0)
    return value


async def yields(_):
    yield Continue()


def raises(_):
    raise KeyError("name")


async def raises_later(_):
    await asyncio.sleep(1)
    raise KeyError("name")


async def raises_at_once(_):
    raise KeyError("name")


async def times_out_itself(_):
    async with asyncio.timeout(1):
        await asyncio.Event().wait()


async def cancels_what_it_waits_for(_):
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.cancel)
    await future


def edits_then(action):
    def edit(batch):
        batch.drop(0)
        batch.replace(1, NOTE)
        batch.insert_before(1, NOTE)
        return action(batch)

    return edit


def edits_then_later(action):
    async def edit(batch):
        await asyncio.sleep(1)
        edits_then(action)(batch)

    return edit


def invalid(raw):
    def edit(batch):
        batch.drop(0)
        batch.replace(1, raw)

    return edit


KEY_ERROR = "KeyError: 'name'"
NO_ANSWER = "InterceptorTimedOut: no answer within 5 s"
NOTHING = "BadVerdict: None is no verdict: a message goes on with `return Continue()`"
GENERATOR = "BadVerdict: a generator is no verdict: `yield` made one of the function"
NO_RESULT = "BadVerdict: a result must be an object"
CANCELLED = "BadVerdict: it let itself be cancelled"
NO_MESSAGE = "BadVerdict: a message was made into what is no JSON-RPC message"

OF_MESSAGES = {
    "raises": (raises, KEY_ERROR),
    "raises later": (raises_later, KEY_ERROR),
    "raises at once": (raises_at_once, KEY_ERROR),
    "hangs": (hang, NO_ANSWER),
    "hangs on": (hang_on, NO_ANSWER),
    "hangs in a future": (lambda _: asyncio.get_running_loop().create_future(), NO_ANSWER),
    "times out itself": (times_out_itself, "TimeoutError"),
    "its future is cancelled": (cancels_what_it_waits_for, CANCELLED),
    "nothing": (lambda _: None, NOTHING),
    "nothing later": (lambda _: give(None), NOTHING),
    "a class": (lambda _: Block, "BadVerdict: the class Block is no verdict: write `Block(…)`, with parentheses"),
    "another class": (lambda _: int, "BadVerdict: type is no verdict"),
    "a generator": (lambda _: (each for each in ()), GENERATOR),
    "an async generator": (yields, GENERATOR),
    "a text as a result": (lambda _: Mock("hi"), NO_RESULT),
    "a text with braces as a result": (lambda _: Mock("}}"), NO_RESULT),
    "a list of objects as a result": (lambda _: Mock([{}]), NO_RESULT),
    "no result later": (lambda _: give(Mock(3)), NO_RESULT),
    "a string": (lambda _: "block", "BadVerdict: str is no verdict"),
    "a coroutine of a coroutine": (lambda _: give(asyncio.sleep), "BadVerdict: function is no verdict"),
    "no JSON": (lambda _: Modify(b"{"), NO_MESSAGE),
    "no JSON later": (lambda _: give(Modify(b"{")), NO_MESSAGE),
    "no JSON-RPC": (lambda _: Modify({"a": 1}), NO_MESSAGE),
    "NaN": (lambda _: Modify(float("nan")), "InvalidMessage: NaN and infinity cannot be written as JSON"),
    "no Python either": (lambda _: Modify({1, 2}), "InvalidMessage: cannot be written as JSON"),
    "empty": (lambda _: Modify(b""), "InvalidMessage: an empty message cannot be sent; drop it instead"),
    "injects no JSON": (lambda _: Inject([GOOD, b"{"]), "BadVerdict: no JSON-RPC message"),
    "injects half": (lambda _: Inject([GOOD, b""]), "InvalidMessage: an empty message"),
    "pauses for nothing": (lambda _: Pause(until=None), "TypeError: "),
    "decision raises": (lambda _: Pause(raises_later(None)), KEY_ERROR),
    "decision times out itself": (lambda _: Pause(times_out_itself(None), 9), "TimeoutError"),
}
OF_BATCHES = {
    "raises": (raises, KEY_ERROR),
    "raises after edits": (edits_then(raises), KEY_ERROR),
    "raises after edits later": (edits_then_later(raises), KEY_ERROR),
    "hangs": (hang, NO_ANSWER),
    "hangs on": (hang_on, NO_ANSWER),
    "its future is cancelled": (cancels_what_it_waits_for, CANCELLED),
    "a list": (lambda batch: list(batch), "BadVerdict: a batch interceptor edits the batch, and gives nothing back"),
    "a generator": (lambda batch: (batch.drop(at) for at in range(2)), "BadVerdict: nothing was done: `yield` made a"),
    "an async generator": (yields, "BadVerdict: nothing was done: `yield` made a generator of the function"),
    "no result": (lambda batch: batch.answer(1, "hi"), NO_RESULT),
    "a verdict": (lambda _: Continue(), "BadVerdict: a batch interceptor edits the batch, and gives nothing back"),
    "a verdict later": (lambda _: give(Block()), "BadVerdict: a batch interceptor edits the batch"),
    "no JSON": (invalid(b"{"), NO_MESSAGE),
    "no JSON-RPC": (invalid(b"[]"), NO_MESSAGE),
    "beyond the batch": (lambda batch: batch.drop(7), "IndexError: no position 7 in a batch of 3"),
}


def insert(batch):
    batch.insert_before(0, NOTE)


def failing(interceptor, raws, context, **settings):
    """Run a failing interceptor between two good ones; gives the batch, the stage, and what was told."""
    records, told = [], []
    pipeline = Pipeline(scheduler(), on_verdict=records.append, on_failure=told.append)
    after = Does(lambda batch: None)
    pipeline.add(Does(insert))
    stage = pipeline.add(interceptor, name="weak", timeout_s=5, **settings)
    pipeline.add(after)
    batch = lines(raws, context)

    async def main():
        await judged(pipeline, batch)
        assert after.calls == 1
        await asyncio.sleep(60)  # audits end in their own time

    in_virtual_time(main())
    return batch, stage, [record for record in records if record.interceptor == "weak"], told


@pytest.mark.parametrize("mode", ["enforce", "audit"])
@pytest.mark.parametrize("fail", ["open", "closed"])
@pytest.mark.parametrize("case", OF_MESSAGES)
def test_a_failure_on_one_message_concerns_no_other(case, fail, mode):
    answer, reason = OF_MESSAGES[case]
    weak = Says(
        lambda message: Block("as it should") if message.id == 1 else answer(message),
        methods={"tools/call", "tools/list"},
    )
    batch, stage, records, told = failing(weak, [GOOD, BAD, NOTE], TO_SERVER, fail=fail, mode=mode)
    if mode == "audit" and any(word in case for word in ("pauses", "decision")):
        assert stage.metrics.failures == 0  # nobody waits for the decision
        return
    metrics = stage.metrics
    assert metrics.failures == 1
    assert metrics.timeouts == (reason == NO_ANSWER)
    (failure,) = told
    assert (failure.interceptor, failure.suppressed) == ("weak", 0)
    assert f"{type(failure.error).__name__}: {failure.error}".startswith(reason)
    assert isinstance(failure.error, InterceptorTimedOut) == (reason == NO_ANSWER)
    (record,) = [record for record in records if record.action is Action.FAIL]
    assert record.reason.startswith(reason)
    assert (record.original, record.result) == (BAD, BAD if fail == "open" else None)
    blocked = [record.original for record in records if record.action is Action.BLOCK]
    assert blocked == ([GOOD] if fail == "open" else [GOOD, BAD])
    passed = [message.raw for message in batch]
    if mode == "audit":
        assert passed == [NOTE, GOOD, BAD, NOTE]
        assert batch.replies == []
    elif fail == "open":
        assert passed == [NOTE, BAD, NOTE]
        assert [reply.id for reply in batch.replies] == [1]
    else:
        assert passed == [NOTE, NOTE]
        assert payloads(batch.replies)[1] == {
            "jsonrpc": "2.0",
            "id": 2,
            "error": {"code": ErrorCode.INTERCEPTOR_FAILED, "message": "interceptor weak failed"},
        }


@pytest.mark.parametrize("mode", ["enforce", "audit"])
@pytest.mark.parametrize("fail", ["open", "closed"])
@pytest.mark.parametrize("case", OF_BATCHES)
def test_a_failure_on_a_batch_undoes_all_its_edits_and_none_of_the_others(case, fail, mode):
    action, reason = OF_BATCHES[case]
    batch, stage, records, told = failing(Does(action), [GOOD, BAD], TO_SERVER, fail=fail, mode=mode)
    assert stage.metrics.failures == 1
    assert stage.metrics.timeouts == (reason == NO_ANSWER)
    assert f"{type(told[0].error).__name__}: {told[0].error}".startswith(reason)
    assert records[0].action is Action.FAIL
    assert records[0].reason.startswith(reason)
    assert [record.action for record in records[1:]] == [Action.BLOCK] * (3 if fail == "closed" else 0)
    if fail == "open" or mode == "audit":
        assert [message.raw for message in batch] == [NOTE, GOOD, BAD]
        assert batch.replies == []
    else:
        assert batch.emit() == b""
        assert [(reply.kind, reply.id) for reply in batch.replies] == [("error", 1), ("error", 2)]


def test_a_failed_batch_is_blocked_only_where_the_interceptor_cares():
    weak = Does(raises, methods={"tools/call"})
    batch, *_ = failing(weak, [GOOD, BAD], TO_SERVER)
    assert [message.raw for message in batch] == [NOTE, GOOD]
    assert [reply.id for reply in batch.replies] == [2]


def test_a_failure_on_an_answer_still_answers_the_asker():
    result = b'{"jsonrpc":"2.0","id":9,"result":{}}'
    batch, *_ = failing(Says(raises, kinds={"response"}), [result], TO_CLIENT)
    assert [(message.kind, message.id) for message in batch] == [("notification", None), ("error", 9)]
    assert batch.replies == []


def test_an_interceptor_may_break_messages_when_that_is_its_purpose():
    batch, stage, *_ = failing(Says(lambda message: Modify(b"{broken")), [GOOD], TO_SERVER, allow_invalid=True)
    assert [message.raw for message in batch] == [b"{broken", b"{broken"]
    assert stage.metrics.verdicts == {Action.MODIFY: 2}


def test_what_was_no_message_may_be_made_into_another_one_that_is_none():
    redact = Says(lambda message: Modify(b"log: ...") if message.raw.startswith(b"log") else Continue())
    batch, stage, *_ = failing(redact, [b"log: secret"], TO_CLIENT)
    assert [message.raw for message in batch] == [NOTE, b"log: ..."]
    assert stage.metrics.failures == 0


@pytest.mark.parametrize("answer", [Mock({}), Mock({"a": {}}), Mock(error=RpcError(1, "no")), Block("}")])
def test_a_result_that_is_an_object_and_an_error_are_answers(answer):
    for raw, context in ((GOOD, TO_SERVER), (b'{"jsonrpc":"2.0","id":9,"result":{}}', TO_CLIENT), (NOTE, TO_CLIENT)):
        _, stage, *_ = failing(Says(lambda message: answer), [raw], context)
        assert stage.metrics.failures == 0


def test_a_result_that_is_no_object_is_for_those_who_test_with_broken_messages():
    batch, stage, *_ = failing(Says(lambda message: Mock("hi")), [GOOD], TO_SERVER, allow_invalid=True)
    assert payloads(batch.replies)[0]["result"] == "hi"
    assert stage.metrics.failures == 0


def test_failures_are_all_counted_and_told_once_a_minute():
    async def main():
        told = []
        pipeline = Pipeline(scheduler(), on_failure=told.append)
        pipeline.add(Says(raises), name="a", fail="open")
        pipeline.add(Says(raises), name="b", fail="open")
        for _ in range(130):
            await judged(pipeline, events([GOOD], TO_SERVER))
            await asyncio.sleep(1)
        assert [stage.metrics.failures for stage in pipeline.stages] == [130, 130]
        by_name = [failure.suppressed for failure in told if failure.interceptor == "a"]
        assert by_name == [0, 59, 59]
        assert len(told) == 6
        pipeline.remove("a")
        pipeline.add(Says(raises), name="a", fail="open")
        await judged(pipeline, events([GOOD], TO_SERVER))
        assert [failure.suppressed for failure in told if failure.interceptor == "a"] == [0, 59, 59, 0]

    in_virtual_time(main())


def test_a_sink_that_raises_breaks_nothing_and_is_told_of():
    told = []
    pipeline = Pipeline(scheduler(), on_verdict=raises, on_failure=told.append)
    pipeline.add(Says(lambda message: Block()))
    for _ in range(3):
        pipeline.run(lines([GOOD], TO_SERVER))
    assert pipeline.sink_failures == 3
    assert [failure.interceptor for failure in told] == ["on_verdict"]
    worse = Pipeline(scheduler(), on_failure=raises)
    worse.add(Says(raises), fail="open")
    batch = lines([GOOD], TO_SERVER)
    assert worse.run(batch) is None
    assert batch.emit() == GOOD + b"\n"
    assert worse.sink_failures == 1


def test_failures_that_nobody_wants_to_hear_of_are_counted():
    pipeline = Pipeline(scheduler())
    stage = pipeline.add(Says(raises), fail="open")
    pipeline.run(lines([GOOD], TO_SERVER))
    assert stage.metrics.failures == 1


@pytest.mark.parametrize("interceptor", [Does(raises), Says(raises)], ids=["batch", "message"])
def test_what_ends_the_program_is_no_failure(interceptor):
    def leave(_):
        raise KeyboardInterrupt

    if isinstance(interceptor, Does):
        interceptor.action = leave
    else:
        interceptor.answer = leave
    with pytest.raises(KeyboardInterrupt):
        Pipeline(scheduler()).add(interceptor).judge(lines([GOOD], TO_SERVER))


def test_letting_oneself_be_cancelled_is_a_failure_with_and_without_a_loop():
    def cancelled(_):
        raise asyncio.CancelledError

    def judge():
        pipeline = Pipeline(scheduler())
        stage = pipeline.add(Says(cancelled))
        batch = lines([GOOD], TO_SERVER)
        assert pipeline.run(batch) is None
        assert batch.emit() == b""
        assert stage.metrics.failures == 1

    async def judge_in_a_loop():
        judge()

    judge()
    in_virtual_time(judge_in_a_loop())


def test_an_adapter_alone_leaves_failures_to_its_caller():
    weak = adapt(Says(lambda message: Modify(b"{") if message.id == 2 else Block("no")), scheduler())
    batch = lines([GOOD, BAD], TO_SERVER)
    with pytest.raises(BadVerdict):
        weak.intercept_batch(batch)
    assert [message.raw for message in batch] == [BAD]

    async def later():
        batch = lines([BAD], TO_SERVER)
        with pytest.raises(KeyError):
            await adapt(Says(raises_later)).intercept_batch(batch)
        assert batch.emit() == BAD + b"\n"

    in_virtual_time(later())


def test_a_closed_failure_does_not_tell_the_peer_what_went_wrong():
    batch, *_ = failing(Says(raises), [GOOD], TO_SERVER)
    assert "name" not in json.dumps(payloads(batch.replies))


def test_a_coroutine_that_fails_before_it_waits_is_covered_for():
    async def fail(batch):
        batch.drop(0)
        raise KeyError("at once")

    async def main():
        for interceptor in (Does(fail), Says(fail_at_once)):
            pipeline = Pipeline(scheduler())
            stage = pipeline.add(interceptor, fail="open")
            batch = lines([GOOD], TO_SERVER)
            assert pipeline.run(batch) is None
            assert batch.emit() == GOOD + b"\n"
            assert stage.metrics.failures == 1

    async def fail_at_once(message):
        raise KeyError("at once")

    in_virtual_time(main())
