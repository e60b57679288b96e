"""The suite as a whole: what is wrong with its options is said in one line, before anything runs."""

import gc
import logging
import weakref

import pytest
from mitmproxy import exceptions
from mitmproxy.test import taddons

from shadowcat_addons.suite import Shadowcat


@pytest.fixture
async def suite():
    suite = Shadowcat()
    yield suite
    suite.done()


async def test_a_bad_value_at_start_up_is_one_line_and_no_traceback(suite, caplog):
    with taddons.context(suite) as context:
        context.options.update(shadowcat_faults=["latncy:ms=3"])
        context.options.update(shadowcat_live_ms=100)
    (record,) = [record for record in caplog.records if "latncy" in record.getMessage()]
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert "did you mean latency" in record.getMessage()


async def test_a_bad_value_while_it_runs_is_refused(suite):
    with taddons.context(suite) as context:
        suite.running()
        with pytest.raises(exceptions.OptionsError, match="latncy"):
            context.options.update(shadowcat_faults=["latncy:ms=3"])


async def test_an_option_of_ours_that_there_is_not_is_an_error(suite, caplog):
    with taddons.context(suite) as context:
        context.options.update_defer(shadowcat_tool_deny="delete_*", somebody_elses="1")
        suite.running()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ["there is no option shadowcat_tool_deny; did you mean shadowcat_tools_deny?"]


async def test_what_is_loaded_when_it_begins_to_run_is_no_longer_looked_through_for_garbage(suite):
    with taddons.context(suite):
        assert gc.get_freeze_count() == 0
        suite.running()
        assert gc.get_freeze_count() > 10_000
        suite.done()
        assert gc.get_freeze_count() == 0


async def test_the_young_are_collected_often_while_it_runs(suite):
    before = gc.get_threshold()
    with taddons.context(suite):
        suite.running()
        assert gc.get_threshold() == (500, *before[1:])
        suite.done()
        assert gc.get_threshold() == before


async def test_who_wants_still_fewer_objects_to_wait_for_a_collection_has_them(suite):
    before = gc.get_threshold()
    gc.set_threshold(100)
    with taddons.context(suite):
        suite.running()
        assert gc.get_threshold()[0] == 100
        suite.done()
    gc.set_threshold(*before)


async def test_of_a_suite_that_is_loaded_anew_nothing_stays(suite):
    with taddons.context(before := Shadowcat()) as context:
        before.running()
        gone = weakref.ref(before)
        context.master.addons.remove(before)
        del before
        context.master.addons.add(suite)
        suite.running()
        assert gone() is None
