"""Interceptors of single messages as interceptors of batches, for whoever runs batches without a pipeline."""

from collections.abc import Awaitable, Sequence
from typing import Final

from shadowcat_core.interceptors.message_stage import MessageStage
from shadowcat_core.interceptors.protocols import Interceptor
from shadowcat_core.interceptors.records import Settings, StageMetrics
from shadowcat_core.interceptors.reports import Reports
from shadowcat_core.interceptors.scheduling import Scheduler, on_asyncio
from shadowcat_core.interceptors.stage import finished
from shadowcat_core.messages import MessageBatch

# An adapter alone has nobody to show its counters to, so its clock may stand still.
_UNTIMED: Final = on_asyncio(lambda: 0)


class _Strict(MessageStage):
    """Leaves failures to whoever called."""

    def fail(self, batch: MessageBatch, mark: int, positions: Sequence[int] | None, error: Exception) -> None:
        del positions
        batch.undo(mark)
        raise error


class AdaptedInterceptor:
    """An interceptor of single messages, called for each message of a batch in their order."""

    def __init__(self, interceptor: Interceptor, scheduler: Scheduler) -> None:
        self.interceptor = interceptor
        settings, reports = Settings(name=type(interceptor).__name__), Reports(scheduler.clock_ns, None, None)
        self._stage = _Strict(interceptor, settings, scheduler, reports, StageMetrics())

    def intercept_batch(self, batch: MessageBatch) -> Awaitable[None] | None:
        """Carry out the interceptor's verdicts on a batch; an awaitable is given when that takes waiting.

        Raises what the interceptor raises; the edits of the message it was about are undone.
        """
        if self._stage.interest.direction not in (None, batch.context.direction):
            return None
        finish = self._stage.judge(batch)
        return None if finish is None else finished(finish)


def adapt(interceptor: Interceptor, scheduler: Scheduler = _UNTIMED) -> AdaptedInterceptor:
    """Make an interceptor of batches from one of single messages, which need not change for it.

    A `Pipeline` takes both shapes and does this by itself; there, a failure concerns one message and not the batch.
    """
    return AdaptedInterceptor(interceptor, scheduler)
