"""What the log says of upstreams and of the store that go away and come back."""

import pytest

from shadowcat_addons.outages import Outages
from shadowcat_core.errors import StoreUnavailable
from shadowcat_core.sessions import StoreReport
from shadowcat_core.upstreams import FailureKind
from tests.core.upstream_parts import break_down, file, fleet, named, route, upstream

AWAY = "the store of sessions is away (refused); sessions go on here without it"
AT_ONCE = {"health": {"passive": {"failures": 1}}}


@pytest.fixture
def outages():
    return Outages()


@pytest.fixture
def said(caplog):
    def said():
        messages = [record.getMessage().removeprefix("shadowcat: ") for record in caplog.records]
        caplog.clear()
        return messages

    return said


def test_an_upstream_that_goes_down_and_comes_back_is_said_once_each(outages, said):
    found = fleet(route("a", "b", **AT_ONCE))
    (pool,) = found.pools()
    outages.look(found.pools())
    assert said() == []
    break_down(pool, "a")
    outages.look(found.pools())
    outages.look(found.pools())
    assert said() == ["upstream a is down: cannot be reached: refused"]
    named(pool, "a").breaker.probed(1_000.0)
    outages.look(found.pools())
    outages.look(found.pools())
    assert said() == ["upstream a is back"]


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(route("b", **AT_ONCE), id="removed"),
        pytest.param(route(upstream("a", port=3999), "b", **AT_ONCE), id="at-another-url"),
    ],
)
def test_one_that_a_reload_has_taken_away_is_not_back(outages, said, after):
    found = fleet(route("a", "b", **AT_ONCE))
    break_down(found.pools()[0], "a")
    outages.look(found.pools())
    said()
    found.apply(file(after))
    outages.look(found.pools())
    assert said() == []


def test_one_that_is_removed_while_its_sessions_are_there_is_back_when_it_is(outages, said):
    found = fleet(route("a", "b", **AT_ONCE))
    (pool,) = found.pools()
    pool.session_began("a")
    pool.failed(named(pool, "a"), FailureKind.CONNECT)
    outages.look(found.pools())
    found.apply(file(route("b", **AT_ONCE)))
    outages.look(found.pools())
    assert said() == ["upstream a is down: cannot be reached"]
    named(pool, "a").breaker.probed(1_000.0)
    outages.look(found.pools())
    assert said() == ["upstream a is back"]


def test_a_store_that_is_away_and_back_is_said_once_each(outages, said):
    outages.store_is(None)
    for _ in range(2):
        outages.store_is(StoreUnavailable("refused"))
    assert outages.is_store_away
    for _ in range(2):
        outages.store_is(None)
    assert not outages.is_store_away
    assert said() == ["the store of sessions is away: refused", "the store of sessions is back"]


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (
            StoreReport(error="refused", waiting=0, away_ms=0),
            AWAY,
        ),
        (
            StoreReport(error="refused", waiting=1200, away_ms=0),
            f"{AWAY} (1,200 of them changed and will be written to it)",
        ),
        (StoreReport(error=None, waiting=0, away_ms=1500), "the store of sessions is back after 1.5 s"),
    ],
)
def test_what_a_store_that_is_gone_on_without_tells_is_easy_to_read(outages, said, report, line):
    outages.store_says(report)
    assert said() == [line]
