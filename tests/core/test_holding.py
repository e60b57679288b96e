"""A person holds messages: what is held, and what may become of it."""

import asyncio
import json

import pytest

from shadowcat_core.errors import InvalidMessage, NotHeld
from shadowcat_core.interceptors import Action, Block, Continue
from shadowcat_core.interceptors.holding import HeldMessages, Hold
from tests.core.holding_desk import CALL, ERROR, OTHER, RESULT, TO_CLIENT_ANSWERS, Desk
from tests.core.interception import (
    FRAMINGS,
    TO_CLIENT,
    TO_SERVER,
    again,
    events,
    in_virtual_time,
    lines,
    note,
    now_s,
)


def one_held(raw, act, context=TO_SERVER, framing="body", **options):
    """Hold one message, let somebody act 2 s later, and give the desk, what went on and what the sender got."""

    async def main():
        desk = Desk(**options)
        batch = FRAMINGS[framing]([raw], context)
        pending = desk.pipeline.run(batch)
        assert pending is not None, "it is not held"
        asyncio.get_running_loop().call_later(2, act, desk.held)
        await pending
        await asyncio.sleep(0)
        assert len(desk.held) == 0
        assert desk.told == [("held", 1), ("over", 1)]
        return desk, batch.emit(), [reply.payload for reply in batch.replies]

    return in_virtual_time(main())


def test_a_released_message_goes_on_as_it_was():
    desk, sent, replies = one_held(CALL, lambda held: held.release(1))
    assert (sent, replies) == (CALL, [])
    assert desk.said == [(Action.PAUSE, "hold 1"), (Action.RELEASE, "released")]
    assert {record.original for record in desk.records} == {record.result for record in desk.records} == {CALL}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_edited_message_goes_on_in_the_place_of_the_original(framing):
    pretty = json.dumps(json.loads(OTHER), indent=1).encode()
    desk, sent, replies = one_held(CALL, lambda held: held.edit(1, b"\n" + pretty + b"\n"), framing=framing)
    assert [message.payload for message in again(framing, sent, TO_SERVER)] == [json.loads(OTHER)]
    assert replies == []
    assert desk.said == [(Action.PAUSE, "hold 1"), (Action.MODIFY, "edited by hand")]
    assert json.loads(desk.records[1].original) == json.loads(CALL)
    assert desk.records[1].result == pretty


def test_a_dropped_request_does_not_go_on_and_its_sender_is_told():
    desk, sent, (reply,) = one_held(CALL, lambda held: held.drop(1))
    assert sent == b""
    assert (reply["id"], reply["error"]["code"], reply["error"]["message"]) == (7, -31010, "dropped by hand")
    assert desk.said[1] == (Action.BLOCK, "dropped by hand")
    assert (desk.records[1].original, desk.records[1].result) == (CALL, None)


def test_a_dropped_notification_vanishes():
    _, sent, replies = one_held(note("progress"), lambda held: held.drop(1), TO_CLIENT, "events")
    assert (sent, replies) == (b"", [])


RPC_ERROR = {"code": 5, "message": "not today", "data": [1]}


@pytest.mark.parametrize(
    ("answer", "member"),
    [
        ({"content": []}, {"result": {"content": []}}),
        ({}, {"result": {}}),
        ({"error": RPC_ERROR}, {"error": RPC_ERROR}),
        ({"error": {"code": 5, "message": ""}}, {"error": {"code": 5, "message": ""}}),
        ({"error": RPC_ERROR, "and": "more"}, {"result": {"error": RPC_ERROR, "and": "more"}}),
        ({"jsonrpc": "2.0", "id": 99, "result": {"a": 1}}, {"result": {"a": 1}}),
        ({"jsonrpc": "2.0", "id": 99, "error": RPC_ERROR}, {"error": RPC_ERROR}),
    ],
)
def test_an_answered_request_never_reaches_the_server(answer, member):
    desk, sent, replies = one_held(CALL, lambda held: held.answer(1, json.dumps(answer).encode()))
    assert (sent, replies) == (b"", [{"jsonrpc": "2.0", "id": 7} | member])
    assert desk.said[1] == (Action.MOCK, "answered by hand")
    assert json.loads(desk.records[1].reply) == replies[0]


def test_an_answer_can_be_exchanged_for_another():
    desk, sent, replies = one_held(RESULT, lambda held: held.answer(1, b'{"a":1}'), TO_CLIENT_ANSWERS)
    assert (json.loads(sent), replies) == ({"jsonrpc": "2.0", "id": 7, "result": {"a": 1}}, [])
    assert desk.records[1].original == RESULT


@pytest.mark.parametrize(("original", "edited"), [(RESULT, ERROR), (ERROR, RESULT)])
def test_a_result_can_be_made_an_error_and_back(original, edited):
    assert one_held(original, lambda held: held.edit(1, edited), TO_CLIENT_ANSWERS)[1] == edited


REFUSED = [
    (CALL, "edit", b"{", "JSON"),
    (CALL, "edit", b"", "JSON"),
    (CALL, "edit", b"null", "no JSON-RPC"),
    (CALL, "edit", b'{"id":7,"method":"ping"}', "no JSON-RPC"),
    (CALL, "edit", b"[%s]" % CALL, "no JSON-RPC"),
    (CALL, "edit", note("x"), "a request is held, and that is a notification"),
    (CALL, "edit", RESULT, "a request is held, and that is a response"),
    (CALL, "edit", CALL.replace(b"7", b'"7"'), "the id must stay 7, and that has '7'"),
    (CALL, "edit", CALL.replace(b"7", b"8"), "the id must stay 7"),
    (CALL, "edit", CALL.replace(b"7", b"7.0"), "the id must stay 7"),
    (note("x"), "edit", CALL, "a notification is held"),
    (RESULT, "edit", CALL, "a response is held"),
    (CALL, "answer", b"ok", "JSON"),
    (CALL, "answer", b'"ok"', "an object"),
    (CALL, "answer", b'{"error":"no"}', "an error is"),
    (CALL, "answer", b'{"error":{"code":"5","message":"x"}}', "an error is"),
    (CALL, "answer", b'{"error":{"code":true,"message":"x"}}', "an error is"),
    (CALL, "answer", b'{"error":{"code":5}}', "an error is"),
    (CALL, "answer", b'{"error":{"code":5,"message":"x","more":1}}', "an error is"),
    (CALL, "answer", b'{"jsonrpc":"2.0","id":7}', "has a result, an object, or an error"),
    (CALL, "answer", b'{"jsonrpc":"2.0","id":7,"result":3}', "has a result"),
    (CALL, "answer", b'{"jsonrpc":"2.0","id":7,"result":{},"error":{}}', "has a result"),
    (note("x"), "answer", b"{}", "nobody waits"),
]


@pytest.mark.parametrize(("raw", "verb", "text", "complaint"), REFUSED)
def test_what_cannot_stand_in_the_place_of_a_message_is_refused_and_it_stays_held(raw, verb, text, complaint):
    def act(held):
        with pytest.raises(InvalidMessage, match=complaint):
            getattr(held, verb)(1, text)
        assert [one.number for one in held] == [1]
        held.release(1)

    context = TO_CLIENT_ANSWERS if raw == RESULT else TO_SERVER
    assert one_held(raw, act, context)[1] == raw


@pytest.mark.parametrize(("number", "complaint"), [(1, "hold 1 is over"), (2, "no hold 2"), (0, "no"), (-1, "no")])
def test_what_is_not_held_cannot_be_decided_about(number, complaint):
    def act(held):
        held.release(1)
        for decide in (held.release, held.drop, lambda at: held.edit(at, CALL), lambda at: held.answer(at, b"{}")):
            with pytest.raises(NotHeld, match=complaint):
                decide(number)

    assert one_held(CALL, act)[1] == CALL


@pytest.mark.parametrize(
    ("on_timeout", "sent", "record"),
    [
        (Continue(), CALL, (Action.RELEASE, "nobody decided within 1 s")),
        (Block("too late"), b"", (Action.BLOCK, "too late")),
    ],
)
def test_after_its_time_a_message_meets_what_was_set_for_it(on_timeout, sent, record):
    def act(held):
        with pytest.raises(NotHeld, match="hold 1 is over"):
            held.release(1)

    async def main():
        desk = Desk(timeout_s=1, on_timeout=on_timeout)
        batch = FRAMINGS["body"]([CALL], TO_SERVER)
        await desk.pipeline.run(batch)
        assert now_s() == pytest.approx(1001)
        act(desk.held)
        await asyncio.sleep(0)
        assert desk.told == [("held", 1), ("over", 1)]
        assert desk.said[1] == record
        return batch.emit()

    assert in_virtual_time(main()) == sent


def test_what_the_pipeline_gives_up_is_held_no_more():
    async def main():
        desk = Desk()
        pending = desk.pipeline.run(FRAMINGS["body"]([CALL], TO_SERVER))
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        with pytest.raises(NotHeld):
            desk.held.release(1)
        await asyncio.sleep(0)
        assert (len(desk.held), desk.told) == (0, [("held", 1), ("over", 1)])

    in_virtual_time(main())


def test_a_message_whose_receiver_is_gone_is_given_up_once():
    def act(held):
        (one,) = held
        held.give_up(one, "the client left")
        held.give_up(one, "the client left")

    desk, sent, _ = one_held(CALL, act)
    assert (sent, desk.said[1]) == (b"", (Action.BLOCK, "the client left"))


def test_closing_lets_every_message_meet_what_was_set_for_it():
    desk, sent, _ = one_held(CALL, lambda held: held.close(), on_timeout=Block("closed"))
    assert (sent, desk.said[1]) == (b"", (Action.BLOCK, "closed"))
    assert one_held(CALL, lambda held: [held.close(), held.close()])[1] == CALL


def test_beyond_the_limit_messages_meet_at_once_what_was_set_for_them():
    async def main():
        desk = Desk(max_held=2, on_timeout=Block("too many"))
        batches = [FRAMINGS["body"]([CALL], TO_SERVER) for _ in range(3)]
        pending = [desk.pipeline.run(batch) for batch in batches]
        await pending[2]
        assert (batches[2].emit(), now_s()) == (b"", 1000)
        assert desk.told == [("held", 1), ("held", 2), ("full", 3)]
        assert desk.said[2:] == [(Action.PAUSE, "not held, as 2 are held already"), (Action.BLOCK, "too many")]
        with pytest.raises(NotHeld, match="hold 3 is over"):
            desk.held.release(3)
        desk.held.drop(1)
        await pending[0]
        more = desk.pipeline.run(FRAMINGS["body"]([CALL], TO_SERVER))
        assert [held.number for held in desk.held] == [2, 4]
        desk.held.close()
        await asyncio.gather(pending[1], more)

    in_virtual_time(main())


def test_the_third_of_five_events_is_held_and_what_stands_before_it_goes_ahead():
    async def main():
        desk = Desk(["method:notifications/c"])
        batch, ahead = events([note(name) for name in "abcde"], TO_CLIENT), []
        pending = desk.pipeline.run(batch, release=lambda part: ahead.append(part.emit()))
        assert b"".join(ahead).count(b"data:") == 2
        desk.held.edit(1, note("C"))
        await pending
        return [message.method for message in again("events", b"".join(ahead) + batch.emit(), TO_CLIENT)]

    assert in_virtual_time(main()) == [f"notifications/{name}" for name in "abCde"]


@pytest.mark.parametrize(
    ("words", "raw", "context", "held"),
    [
        ([], CALL, TO_SERVER, True),
        (["method:tools/call", "target:delete_*"], CALL, TO_SERVER, True),
        (["method:tools/call", "target:delete_*"], RESULT, TO_CLIENT_ANSWERS, True),
        (["method:tools/call"], RESULT, TO_CLIENT, False),
        (["method:ping"], CALL, TO_SERVER, False),
        (["method:ping"], b'{"jsonrpc":NaN,"method":"ping"}', TO_SERVER, True),
        (["method:ping", "dir:c2s"], b"{'no'", TO_SERVER, True),
        (["method:ping", "dir:s2c"], b"{'no'", TO_SERVER, False),
        (["method:ping", "-session:s1"], b"{'no'", TO_SERVER, False),
        ([], b"/messages?session=1", TO_CLIENT, False),
        (["method:ping"], b'{"id":1,"method":"ping"}', TO_SERVER, True),
        (["method:pong"], b'{"id":1,"method":"ping"}', TO_SERVER, False),
        (["kind:invalid"], b'{"id":1,"method":"ping"}', TO_SERVER, True),
    ],
)
def test_what_is_meant_is_held_and_so_is_what_cannot_be_read(words, raw, context, held):
    async def main():
        desk = Desk(words)
        batch = lines([raw], context)
        pending = desk.pipeline.run(batch)
        assert (pending is not None) is held
        desk.held.close()
        if pending is not None:
            await pending
        assert batch.emit() == raw + b"\n"

    in_virtual_time(main())


def test_an_unreadable_message_can_be_edited_into_any_message():
    assert one_held(b"{'no'", lambda held: held.edit(1, CALL))[1] == CALL


@pytest.mark.parametrize(
    ("raw", "context", "name"),
    [
        (CALL, TO_SERVER, "tools/call delete_all"),
        (RESULT, TO_CLIENT_ANSWERS, "answer to tools/call delete_all"),
        (ERROR, TO_CLIENT, "an answer"),
        (b"{'no'", TO_SERVER, "a message that cannot be read"),
    ],
)
def test_a_held_message_has_a_name_and_an_age(raw, context, name):
    def act(held):
        (one,) = held
        assert (one.name, held.age_s(one)) == (name, pytest.approx(2))
        assert held[1] is one
        held.release(1)

    one_held(raw, act, context, words=())


def test_a_hold_of_one_direction_is_not_shown_the_other():
    assert [Hold(HeldMessages(int), words, on_timeout=Continue()).direction for words in (["dir:s2c"], ["dir:*"])] == [
        "s2c",
        None,
    ]


def test_a_batch_that_has_begun_meets_the_words_that_are_set_while_one_of_its_messages_is_held():
    async def main():
        desk = Desk(["notifications/a"])
        batch = lines([note(name) for name in "abc"], TO_CLIENT)
        pending = desk.pipeline.run(batch)
        (first,) = (stage.interceptor for stage in desk.pipeline.stages)
        first.heir = Hold(desk.held, ["notifications/b"], on_timeout=Continue())
        first.heir.heir = Hold(desk.held, ["notifications/c"], on_timeout=Continue())
        desk.held.release(1)
        await asyncio.sleep(1)
        assert [held.name for held in desk.held] == ["notifications/c"]
        desk.held.release(2)
        await pending

    in_virtual_time(main())
