"""An interceptor of whole batches at its place in a pipeline."""

from collections.abc import AsyncGenerator, Awaitable, Generator
from functools import partial
from typing import Final

from shadowcat_core.errors import BadVerdict
from shadowcat_core.interceptors.protocols import BatchInterceptor
from shadowcat_core.interceptors.records import Settings, StageMetrics
from shadowcat_core.interceptors.reports import Reports
from shadowcat_core.interceptors.scheduling import Scheduler, Work
from shadowcat_core.interceptors.stage import Ahead, Finish, Stage
from shadowcat_core.messages import MessageBatch

TIMED_CALLS: Final = 256
"""So many calls are timed; then one in `SAMPLE`, as two looks at the clock cost as much as a small interceptor."""
SAMPLE: Final = 16


class BatchStage(Stage):
    """Calls the interceptor once a batch. What it edited stays all together, or not at all."""

    def __init__(
        self,
        interceptor: BatchInterceptor,
        settings: Settings,
        scheduler: Scheduler,
        reports: Reports,
        metrics: StageMetrics,
    ) -> None:
        super().__init__(interceptor, settings, scheduler, reports, metrics)
        self._intercept_batch = interceptor.intercept_batch
        self._is_general = self.interest.is_general

    def judge(self, batch: MessageBatch, in_task: bool = False) -> Finish | None:
        del in_task  # one partial a batch is little beside a coroutine
        if self._is_general:
            shown = 1 if batch.hint is not None else len(batch)
        else:
            shown = len(self.admit(batch))
            if not shown:
                return None
        metrics = self.metrics
        metrics.batches = calls = metrics.batches + 1
        metrics.messages += shown
        mark = len(batch.changes) if batch.edited else 0
        weight = 1 if calls <= TIMED_CALLS else 0 if calls % SAMPLE else SAMPLE
        started_ns = self.clock_ns() if weight else 0
        try:
            answer = self._intercept_batch(batch)
            if weight:
                metrics.spent_ns += (self.clock_ns() - started_ns) * weight
            if answer is not None:
                return partial(self._go_on, batch, mark, _awaitable(answer))
            if batch.edited:
                self.settle(batch, mark)
        except Exception as exc:  # noqa: BLE001 -- the pipeline's promise: a failure is covered for
            self.fail(batch, mark, None, exc)
        return None

    def _go_on(self, batch: MessageBatch, mark: int, answer: Awaitable[object], _: Ahead | None) -> Work | None:
        # Nothing goes ahead: the interceptor may come back to any message of the batch.
        try:
            outcome = self.step(answer)
            if isinstance(outcome, Awaitable):
                return self._finish(batch, mark, outcome)
            self._end(batch, mark, outcome)
        except BaseException as exc:  # noqa: BLE001 -- likewise; what is no failure is raised again
            self.cover(batch, mark, None, exc)
        return None

    async def _finish(self, batch: MessageBatch, mark: int, answer: Awaitable[object]) -> None:
        try:
            self._end(batch, mark, await self.wait_for(answer, 0, None))
        except BaseException as exc:  # noqa: BLE001 -- likewise
            self.cover(batch, mark, None, exc)

    def _end(self, batch: MessageBatch, mark: int, outcome: object) -> None:
        if outcome is not None:
            raise _no_answer_expected(outcome)
        self.settle(batch, mark)


def _awaitable(answer: object) -> Awaitable[object]:
    if isinstance(answer, Awaitable):
        return answer
    raise _no_answer_expected(answer)


def _no_answer_expected(answer: object) -> BadVerdict:
    if isinstance(answer, Generator | AsyncGenerator):
        return BadVerdict("nothing was done: `yield` made a generator of the function")
    return BadVerdict(f"a batch interceptor edits the batch, and gives nothing back: {type(answer).__name__}")
