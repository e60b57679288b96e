"""Edits of a batch that others rely on: undone, copied, parted with, and settled with who waits for an answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.errors import InvalidMessage
from shadowcat_core.jsonrpc import ErrorCode, Kind
from shadowcat_core.messages import Act, MessageBatch, RpcError
from tests.core.interception import FRAMINGS, TO_CLIENT, TO_SERVER, events, lines, payloads

RAWS = [b'{"jsonrpc":"2.0","id":%d,"method":"m%d"}' % (n, n) for n in range(5)]
NEW = {"jsonrpc": "2.0", "method": "new"}

verbs = st.lists(
    st.tuples(
        st.sampled_from(["replace", "drop", "insert_before", "insert_after", "block", "answer"]), st.integers(0, 40)
    ),
    max_size=10,
)


def edit(batch, edits):
    """Do what can be done of some edits."""
    for verb, choice in edits:
        live = [position for position, _ in batch.where()]
        if not live:
            return
        position = live[choice % len(live)]
        match verb:
            case "drop":
                batch.drop(position, "gone")
            case "block":
                batch.block(position, "no")
            case "answer":
                batch.answer(position, {"n": choice})
            case _:
                getattr(batch, verb)(position, {**NEW, "n": choice}, "why")


def state(batch):
    return (
        batch.emit(),
        [(position, message.raw) for position, message in batch.where()],
        [reply.raw for reply in batch.replies],
        len(batch),
        [position for position, _ in batch.where(methods={"new", "m1"}, exact=True)],
        [position for position, _ in batch.where(methods={"m2"})],
    )


@pytest.mark.parametrize("framing", ["events", "lines", "array", "folded"])
@given(first=verbs, second=verbs, third=verbs)
def test_undone_is_as_if_it_had_never_been(framing, first, second, third):
    batch, other = (FRAMINGS[framing](RAWS, TO_SERVER) for _ in range(2))
    edit(batch, first)
    edit(other, first)
    before, mark = state(batch), len(batch.changes)
    edit(batch, second)
    batch.undo(mark)
    assert state(batch) == before == state(other)
    assert batch.edited == bool(batch.changes)
    edit(batch, third)
    edit(other, third)
    assert state(batch) == state(other)
    batch.undo(0)
    assert batch.emit() == FRAMINGS[framing](RAWS, TO_SERVER).emit()
    assert not batch.edited


def test_the_only_message_of_a_chunk_is_routed_as_before_when_its_edit_is_undone():
    batch = events([b'{"jsonrpc":"2.0","id":1,"method":"a","params":{}}'], TO_SERVER)
    hint = batch.hint
    batch.replace(0, NEW)
    assert batch.hint is None
    batch.undo(0)
    assert batch.hint == hint
    assert len(batch.where(methods={"a"})) == 1
    batch.undo(0)


@given(first=verbs, second=verbs, third=verbs)
def test_a_copy_goes_its_own_way(first, second, third):
    batch = lines(RAWS, TO_SERVER)
    edit(batch, first)
    twin, before = batch.copy(), state(batch)
    assert state(twin) == before
    edit(twin, second)
    assert state(batch) == before
    after = state(twin)
    edit(batch, third)
    assert state(twin) == after


@pytest.mark.parametrize("framing", ["events", "lines", "array", "folded"])
@given(first=verbs, at=st.integers(0, 40), second=verbs, third=verbs)
def test_the_parts_of_a_split_are_together_the_whole(framing, first, at, second, third):
    batch, whole = (FRAMINGS[framing](RAWS, TO_SERVER) for _ in range(2))
    edit(batch, first)
    edit(whole, first)
    live = [position for position, _ in batch.where()]
    if not live:
        return
    position = live[at % len(live)]
    head = batch.split(position)
    if head is None:
        assert framing == "array" or batch.emit() == whole.emit()
        return
    assert head.emit() + batch.emit() == whole.emit()
    assert [m.raw for part in (head, batch) for m in part] == [m.raw for m in whole]
    assert sorted(r.raw for part in (head, batch) for r in part.replies) == sorted(r.raw for r in whole.replies)
    assert len(head) + len(batch) == len(whole)
    assert batch[position].raw == whole[position].raw
    for part, edits in ((head, second), (batch, third)):
        before, mark = state(part), len(part.changes)
        edit(part, edits)
        part.undo(mark)
        assert state(part) == before
    assert head.emit() + batch.emit() == whole.emit()


def test_a_batch_may_be_split_again_and_again():
    batch = lines(RAWS, TO_SERVER)
    parts = [batch.split(1), batch.split(3), batch.split(4)]
    assert [[message.id for message in part] for part in [*parts, batch]] == [[0], [1, 2], [3], [4]]
    assert [message.id for message in parts[1].split(2)] == [1]
    assert batch.split(4) is None
    with pytest.raises(IndexError):
        batch[1]


def test_what_has_no_message_before_it_is_not_split():
    batch = MessageBatch.of_lines(b"\n\n" + RAWS[0] + b"\n", TO_SERVER)
    assert batch.split(0) is None
    assert not batch.edited


def test_a_reply_is_taken_back_when_the_request_goes_on_after_all():
    batch = lines(RAWS[:2], TO_SERVER)
    batch.block(0)
    batch.answer(1, {})
    assert [reply.id for reply in batch.replies] == [0, 1]
    batch.drop(0, "dropping what was answered changes nothing")
    batch.replace(1, RAWS[1])
    assert [reply.id for reply in batch.replies] == [0]
    assert [change.act for change in batch.changes] == [Act.BLOCK, Act.MOCK, Act.MODIFY]
    for verb in (batch.block, lambda position: batch.answer(position, {})):
        with pytest.raises(IndexError, match="was dropped"):
            verb(0)


def test_an_answer_that_cannot_be_written_changes_nothing():
    batch = lines(RAWS, TO_SERVER)
    for answer in (float("nan"), {"a": {1}}, RpcError(1, "x", float("inf"))):
        with pytest.raises(InvalidMessage):
            batch.answer(0, answer)
    assert not batch.edited


def test_a_reply_goes_the_other_way_with_the_circumstances_of_the_request():
    for context in (TO_SERVER, TO_CLIENT):
        batch = lines(RAWS, context)
        batch.block(3, "why", ErrorCode.TIMED_OUT, [1])
        (reply,) = batch.replies
        assert (reply.kind, reply.id, reply.direction) == (Kind.ERROR, 3, context.direction.opposite)
        assert (reply.session_id, reply.exchange_id, reply.at_ns) == ("s1", 7, 5)
        error = {"code": ErrorCode.TIMED_OUT, "message": "why", "data": [1]}
        assert payloads([reply]) == [{"jsonrpc": "2.0", "id": 3, "error": error}]


def test_changes_tell_what_was_and_what_is():
    batch = events(RAWS, TO_SERVER)
    batch.replace(0, NEW, "nicer")
    batch.replace(0, RAWS[1], "again")
    batch.insert_before(1, NEW, "more")
    batch.drop(5, "less")
    told = [
        (c.position, c.act, c.before and c.before.raw, c.after and c.after.raw, c.reply, c.reason)
        for c in batch.changes
    ]
    new = json.dumps(NEW, separators=(",", ":")).encode()
    assert told == [
        (0, "modify", RAWS[0], new, None, "nicer"),
        (0, "modify", new, RAWS[1], None, "again"),
        (5, "inject", None, new, None, "more"),
        (5, "drop", new, None, None, "less"),
    ]


def test_a_message_tells_whether_it_can_be_read():
    batch = lines([b"{}", b"talk"], TO_SERVER)
    assert [message.is_json for message in batch] == [True, False]
