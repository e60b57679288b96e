"""Faults of messages: late, lost, broken or misaddressed, on every framing, and on the pipeline's record."""

import json

import pytest

from shadowcat_core.interceptors import Action
from shadowcat_core.interceptors.faults.aim import Aim, Places
from shadowcat_core.interceptors.faults.message_faults import interceptor_of
from shadowcat_core.interceptors.faults.subjects import subject_of
from shadowcat_core.interceptors.faults.toxics import MessageToxic
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.sse import SseParser
from tests.core.fault_parts import CALL, Lab, context, parsed, payloads, progress, request, result
from tests.core.interception import FRAMINGS, in_virtual_time, judged, now_s


def timed(lab, *messages, **of):
    """What a pipeline made of messages, and how long that took."""

    async def work():
        began_s = now_s()
        return await lab.judge(*messages, **of), now_s() - began_s

    return in_virtual_time(work())


def test_latency_delays_each_message_and_changes_none():
    lab = Lab("latency:ms=200")
    emitted, took_s = timed(lab, progress(1), result())
    assert payloads(emitted) == [progress(1), result()]
    assert took_s == pytest.approx(0.4)
    assert [(record.interceptor, record.action, record.reason) for record in lab.records] == [
        ("fault:latency", Action.DELAY, "200 ms later")
    ] * 2


@pytest.mark.parametrize(
    ("toxic", "least_s", "most_s"),
    [
        ("latency:ms=200,jitter_ms=50", 0.150, 0.250),
        ("latency:ms=10,jitter_ms=50", 0.0, 0.060),
        ("jitter:ms=300", 0.0, 0.300),
    ],
)
def test_jitter_stays_within_its_bounds_and_differs_from_message_to_message(toxic, least_s, most_s):
    delays = [timed(Lab(f"{toxic},seed={seed}"), result())[1] for seed in range(30)]
    assert all(least_s - 1e-6 <= delay <= most_s + 1e-6 for delay in delays)
    assert len(set(delays)) > 10
    assert max(delays) - min(delays) > (most_s - least_s) / 2


def test_latency_of_some_messages_leaves_the_others_on_time():
    lab = Lab("latency:method=tools/call")
    assert timed(lab, progress(1), progress(2))[1] == 0
    assert timed(lab, result())[1] == pytest.approx(1)


def test_a_dropped_message_is_gone_with_its_event_and_nobody_is_told():
    lab = Lab("drop:method=notifications/progress,from=2,times=1")
    emitted, _ = timed(lab, progress(1), progress(2), progress(3), result())
    assert payloads(emitted) == [progress(1), progress(3), result()]
    [record] = lab.records
    assert (record.action, record.reply, json.loads(record.original)) == (Action.DROP, None, progress(2))


@pytest.mark.parametrize("how", ["cut", "utf8"])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("seed", range(5))
def test_a_corrupted_message_is_no_json_to_anybody(how, framing, seed):
    lab = Lab(f"corrupt:how={how},seed={seed}")
    raw = json.dumps(result()).encode()
    batch = FRAMINGS[framing]([raw], context())
    emitted = in_virtual_time(judged(lab.pipeline, batch))
    [record] = lab.records
    assert record.action is Action.MODIFY
    assert record.interceptor == "fault:corrupt"
    with pytest.raises(ValueError, match=r"."):
        json.loads(record.result)
    assert record.result.strip(b"\n ") in emitted or framing == "folded"


@pytest.mark.parametrize("raw", [b'"words"', b"12", b"not json"])
def test_what_is_no_object_cannot_be_corrupted(raw):
    lab = Lab("corrupt")
    batch = MessageBatch.of_body(raw, context())
    assert in_virtual_time(judged(lab.pipeline, batch)) == raw
    assert lab.taken == [0]


@pytest.mark.parametrize(
    ("how", "right", "wrong"),
    [
        ("other", 7, 1_000_007),
        ("other", "a", "a-other"),
        ("other", 1.5, 1_000_000),
        ("type", 7, "7"),
        ("type", "7", 1_000_000),
        ("null", 7, None),
    ],
)
def test_a_wrong_id_is_another_one_of_the_same_or_another_type(how, right, wrong):
    lab = Lab(f"wrong_id:how={how}")
    emitted, _ = timed(lab, result(request_id=right))
    assert payloads(emitted) == [result(request_id=wrong)]


def test_an_answer_may_come_without_any_id():
    emitted, _ = timed(Lab("wrong_id:how=missing"), result())
    [payload] = payloads(emitted)
    assert payload == {key: value for key, value in result().items() if key != "id"}


@pytest.mark.parametrize("payload", [progress(1), {"jsonrpc": "2.0", "id": 3, "method": "ping"}, [1], {"id": 1}])
def test_only_answers_get_a_wrong_id(payload):
    lab = Lab("wrong_id")
    assert payloads(timed(lab, payload)[0]) == [payload]
    assert lab.records == []


def test_events_keep_their_ids_and_types_when_their_messages_change():
    lab = Lab("wrong_id")
    chunk = b"event: message\nid: e1\ndata: " + json.dumps(result()).encode() + b"\n\n"
    batch = MessageBatch.of_frames(SseParser().feed(chunk), context())
    [(event, event_id, _)] = parsed(in_virtual_time(judged(lab.pipeline, batch)))
    assert (event, event_id) == ("message", "e1")


@pytest.mark.parametrize(
    ("filters", "direction", "message", "hit"),
    [
        ("", "s2c", result(), True),
        ("", "c2s", json.loads(CALL.raw), False),
        ("direction=c2s", "c2s", json.loads(CALL.raw), True),
        ("direction=c2s", "s2c", result(), False),
        ("direction=both", "c2s", json.loads(CALL.raw), True),
        ("direction=both", "s2c", result(), True),
        ("method=tools/call", "s2c", result(), True),
        ("method=tools/call", "s2c", progress(1), False),
        ("method=tools/*,target=ec?o", "s2c", result(), True),
        ("method=TOOLS/*", "s2c", result(), False),
        ("target=other", "s2c", result(), False),
        ("target=echo", "s2c", progress(1), False),
        ("method=notifications/*", "s2c", progress(1), True),
        ("method=tools/*", "s2c", [1], False),
        ("method=*", "s2c", [1], True),
    ],
)
def test_filters_look_at_the_method_and_target_of_what_was_asked(filters, direction, message, hit):
    lab = Lab(f"drop:{filters}" if filters else "drop")
    emitted, _ = timed(lab, message, direction=direction)
    assert (emitted == b"") is hit


def test_an_answer_to_what_nobody_knows_of_is_about_nothing():
    lab = Lab("drop:method=tools/call")
    emitted, _ = timed(lab, result(), request_of=lambda _answer: None)
    assert payloads(emitted) == [result()]


def test_faults_see_what_the_other_interceptors_made():
    class Renames:
        def intercept_batch(self, batch):
            for position, message in batch.where():
                batch.replace(position, {**message.payload, "method": "notifications/other"})

    lab = Lab("drop:method=notifications/progress")
    lab.pipeline.add(Renames())
    assert payloads(timed(lab, progress(1))[0])[0]["method"] == "notifications/other"


def test_a_message_on_a_pipe_needs_no_exchange():
    lab = Lab("drop:from=2,per=exchange")
    lines = b"".join(json.dumps(progress(n)).encode() + b"\n" for n in range(3))
    batch = MessageBatch.of_lines(lines, context(exchange_id=None))
    assert in_virtual_time(judged(lab.pipeline, batch)) == json.dumps(progress(0)).encode() + b"\n"


def test_a_toxic_of_another_level_is_no_interceptor():
    class Other(MessageToxic):
        kind = "other"

    toxic = Other(name="other")
    with pytest.raises(TypeError, match="other works on no messages"):
        interceptor_of(toxic, Aim(toxic, 0), Places())


def test_an_answer_belongs_to_the_request_with_its_id_in_its_type():
    asked = [request(request_id="7", name="text"), request(request_id=7, name="number")]
    for right, target in ((7, "number"), ("7", "text"), (8, None)):
        answer = Message(json.dumps(result(request_id=right)).encode(), context())
        assert answer.kind is Kind.RESPONSE
        assert subject_of(answer, asked).target == target
