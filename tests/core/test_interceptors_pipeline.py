"""The pipeline: who is asked, in which order, and what may be changed while it runs."""

import asyncio

import pytest

from shadowcat_core.interceptors import Continue, Pipeline, adapt
from tests.core.interception import (
    FRAMINGS,
    TO_CLIENT,
    TO_SERVER,
    Does,
    Says,
    events,
    in_virtual_time,
    judged,
    lines,
    names,
    note,
    pipeline_of,
    scheduler,
    tagging,
)


def run(pipeline, batch, **options):
    return in_virtual_time(judged(pipeline, batch, **options))


def test_interceptors_are_asked_by_priority_and_then_in_the_order_they_were_added():
    pipeline = Pipeline(scheduler())
    for tag, priority in (("c", 5), ("d", 5), ("a", -1), ("b", 0)):
        pipeline.add(tagging(tag), name=tag, priority=priority)
    assert [stage.settings.name for stage in pipeline.stages] == ["a", "b", "c", "d"]
    batch = events([note("x")], TO_CLIENT)
    run(pipeline, batch)
    assert names(batch) == ["xabcd"]


def test_a_pipeline_may_be_changed_at_any_time():
    pipeline = Pipeline(scheduler())
    first, second = pipeline.add(tagging("a"), name="one"), pipeline.add(tagging("b"))

    def tagged():
        batch = events([note("x")], TO_CLIENT)
        run(pipeline, batch)
        return names(batch)

    assert tagged() == ["xab"]
    replaced = pipeline.replace("one", tagging("A"))
    assert tagged() == ["xAb"]
    assert replaced.metrics is first.metrics
    assert replaced.metrics.batches == 2
    pipeline.remove(second)
    assert tagged() == ["xA"]
    pipeline.add(tagging("c"), priority=-1)
    assert tagged() == ["xcA"]
    pipeline.remove("one")
    assert tagged() == ["xc"]


def test_what_is_not_in_the_pipeline_cannot_be_removed_or_replaced():
    pipeline = Pipeline(scheduler())
    stage = pipeline.add(tagging("a"), name="one")
    pipeline.remove(stage)
    for gone in ("one", stage):
        with pytest.raises(KeyError, match="one"):
            pipeline.remove(gone)
        with pytest.raises(KeyError, match="one"):
            pipeline.replace(gone, tagging("b"))


def test_names_are_those_of_the_classes_and_never_twice_the_same():
    pipeline = Pipeline(scheduler())
    pipeline.add(Does(print), name="mine")
    for _ in range(3):
        pipeline.add(Does(print))
    pipeline.add(adapt(Says(print)))
    assert [stage.settings.name for stage in pipeline.stages] == ["mine", "Does", "Does-2", "Does-3", "Says"]
    with pytest.raises(ValueError, match="there is an interceptor 'mine' already"):
        pipeline.add(Does(print), name="mine")


@pytest.mark.parametrize(
    ("interceptor", "settings", "error"),
    [
        (object(), {}, TypeError),
        (Does(print, methods="tools/call"), {}, ValueError),
        (Does(print, kinds="request"), {}, ValueError),
        (Does(print, kinds={"question"}), {}, ValueError),
        (Does(print, direction="up"), {}, ValueError),
        (Does(print), {"mode": "maybe"}, ValueError),
        (Does(print), {"fail": "softly"}, ValueError),
        (Does(print), {"priority": "first"}, ValueError),
        (Does(print), {"timeout_s": "soon"}, ValueError),
        (Does(print), {"timeout_s": 0}, ValueError),
        (Does(print), {"timeout_s": float("nan")}, ValueError),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_pipeline_stays_as_it_was(interceptor, settings, error):
    pipeline = pipeline_of(tagging("a"))
    with pytest.raises(error):
        pipeline.add(interceptor, **settings)
    assert len(pipeline.stages) == 1


def test_a_batch_ends_with_the_interceptors_it_began_with():
    async def main():
        gate = asyncio.Event()

        async def wait(batch):
            await gate.wait()

        pipeline = pipeline_of(Does(wait))
        old = pipeline.add(tagging("a"))
        batch = events([note("x")], TO_CLIENT)
        pending = pipeline.run(batch)
        pipeline.replace(old, tagging("b"))
        for stage in pipeline.stages:
            pipeline.remove(stage)
        gate.set()
        await pending
        assert names(batch) == ["xa"]
        untouched = events([note("x")], TO_CLIENT)
        assert pipeline.run(untouched) is None
        assert not untouched.edited

    in_virtual_time(main())


def test_interceptors_of_one_direction_do_not_see_the_other():
    pipeline = pipeline_of(tagging("s", direction="c2s"), tagging("c", direction="s2c"), tagging("b"))
    for context, expected in ((TO_SERVER, "xsb"), (TO_CLIENT, "xcb")):
        batch = lines([note("x")], context)
        run(pipeline, batch)
        assert names(batch) == [expected]


@pytest.mark.parametrize("wait_s", [None, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_what_an_interceptor_makes_is_shown_to_those_behind_it_who_care_for_it(wait_s, count):
    def edit(batch):
        batch.replace(0, note("wanted"))

    async def edit_later(batch):
        await asyncio.sleep(wait_s)
        edit(batch)

    seen = [Says(lambda message: Continue(), methods={"notifications/wanted"}, exact=exact) for exact in (True, False)]
    batch = events([note("x")] * count, TO_CLIENT)
    run(pipeline_of(seen[0], Does(edit if wait_s is None else edit_later), *seen[1:], Does(lambda batch: None)), batch)
    assert [interceptor.shown for interceptor in seen] == [[], [note("wanted")]]


@pytest.mark.parametrize("chunk", [[], None], ids=["no frames", "a comment"])
def test_nobody_is_asked_about_nothing(chunk):
    does, says = Does(print), Says(print)
    pipeline = pipeline_of(does, says)
    batch = events([], TO_CLIENT) if chunk is not None else lines([b" "], TO_CLIENT)
    assert pipeline.run(batch) is None
    assert (does.calls, says.shown) == (0, [])


def test_a_pipeline_without_interceptors_leaves_everything_as_it_is():
    pipeline = Pipeline(scheduler())
    for make in FRAMINGS.values():
        batch = make([note("x")], TO_CLIENT)
        original = batch.emit()
        assert pipeline.run(batch) is None
        assert batch.emit() is original
