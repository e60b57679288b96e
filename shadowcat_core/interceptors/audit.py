"""An interceptor that is only asked for its opinion: on a copy, and without anything waiting for it."""

from shadowcat_core.interceptors.scheduling import Running, Scheduler
from shadowcat_core.interceptors.stage import Stage, finished
from shadowcat_core.limits import MAX_WAITING_AUDITS
from shadowcat_core.messages import MessageBatch


class Audit:
    """Runs a stage in mode AUDIT beside the traffic."""

    def __init__(self, stage: Stage, scheduler: Scheduler) -> None:
        self._stage = stage
        self._scheduler = scheduler
        self._waiting: set[Running] = set()

    def judge(self, batch: MessageBatch, in_task: bool = False) -> None:
        """Let the interceptor judge a copy of the batch, now or while the batch goes on."""
        if len(self._waiting) >= MAX_WAITING_AUDITS:
            self._stage.metrics.unaudited += 1
            return
        del in_task  # it needs one of its own, as nothing waits for it
        finish = self._stage.judge(batch.copy())
        if finish is None:
            return
        running = self._scheduler.start(finished(finish))
        if not running.done():
            self._waiting.add(running)
            running.add_done_callback(self._waiting.discard)

    def close(self) -> None:
        """Give up what still waits."""
        for running in list(self._waiting):
            running.cancel()
