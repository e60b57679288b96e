"""Ids and sessions of a first run mean nothing in the second; what is kept of its progress has a limit."""

import json

import pytest

from shadowcat_core.limits import MAX_PROGRESS_TOKENS
from shadowcat_core.relay.progress import ProgressFilter
from tests.core.relay_driver import begun, called, error_in, note
from tests.core.relay_parts import EVERYTHING_400, Head, result
from tests.core.relay_second_runs import LOST_7, progress, safe_world, second_run
from tests.core.resumption_world import settle

pytest_plugins = ["tests.core.relay_fixtures"]


async def running_again(its, client):
    """A call whose first run has told one event with an id, and cannot be gone on with; its second run."""
    exchange, stream = await called(client)
    stream.emit(note(1))
    await settle()
    its.servers["a"].then("GET", Head(405))
    stream.connection.close("reset")
    return exchange, stream, await second_run(its, but=stream)


async def test_a_second_run_that_breaks_before_its_first_event_is_not_resumed_where_the_first_one_was(world):
    its = safe_world(world, has_ids=True, retry={"attempts": 3})
    client = await begun(its)
    exchange, _, second = await running_again(its, client)
    second.connection.close("reset")
    third = await second_run(its, but=second)
    third.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [note(1), result(7)]
    assert its.servers["a"].methods().count("GET") == 1


async def test_a_second_run_whose_server_numbers_its_events_from_one_again_is_heard_from_its_first_event(world):
    its = safe_world(world, has_ids=True)
    client = await begun(its)
    exchange, first, second = await running_again(its, client)
    second.name = first.name
    second.finish(result(7))
    await its.time.finish(exchange.task)
    assert exchange.payloads == [note(1), result(7)]
    assert first.frames[0].split(b"\n")[0] == second.frames[0].split(b"\n")[0]


async def test_a_server_that_says_no_in_the_session_begun_just_now_is_believed(world):
    its = safe_world(world, "a", "b")
    client = await begun(its)
    exchange, _ = await called(client)
    its.servers["b"].then("tools/call", Head(*EVERYTHING_400))
    its.servers["a"].die()
    await its.time.finish(exchange.task)
    assert [error_in(each) for each in exchange.payloads] == [LOST_7]
    assert "HTTP 400" in json.loads(exchange.payloads[0])["error"]["message"]
    assert (its.servers["b"].methods().count("tools/call"), len(its.servers["b"].begun)) == (1, 1)


# --- Progress of many tokens ------------------------------------------------------------------------------------------


def told(*payloads) -> bytes:
    return b"".join(b"data: " + each + b"\n\n" for each in payloads)


@pytest.mark.parametrize("latest", [b"", progress(5, token="first")])
def test_progress_of_more_tokens_than_the_limit_passes_and_is_not_kept(latest):
    kept = int(MAX_PROGRESS_TOKENS) - bool(latest)
    its = ProgressFilter(latest)
    told_once = [told(progress(1, token=number)) for number in range(3 * MAX_PROGRESS_TOKENS)]
    assert [its.feed(each) for each in told_once] == told_once
    assert [its.feed(each) for each in told_once] == [b""] * kept + told_once[kept:]
    assert its.feed(told(progress(2, token=0), progress(2, token=0))) == told(progress(2, token=0))
    assert its.feed(told(progress(5, token="first"))) == (b"" if latest else told(progress(5, token="first")))


@pytest.mark.parametrize(("chars", "expected"), [(256, b""), (257, None)])
def test_a_token_that_is_too_long_to_keep_is_not_filtered(chars, expected):
    its = ProgressFilter(b"")
    frame = told(progress(1, token="x" * chars))
    assert its.feed(frame) == frame
    assert its.feed(frame) == (frame if expected is None else expected)
