"""An interceptor of single messages at its place in a pipeline."""

from asyncio import CancelledError
from collections.abc import Awaitable, Coroutine, Iterator
from functools import partial
from inspect import iscoroutinefunction
from itertools import chain
from types import CoroutineType
from typing import Final

from shadowcat_core.errors import BadVerdict
from shadowcat_core.interceptors.protocols import Interceptor
from shadowcat_core.interceptors.records import Action, Mode, Settings, StageMetrics
from shadowcat_core.interceptors.reports import Reports
from shadowcat_core.interceptors.scheduling import Scheduler, Suspended, Work
from shadowcat_core.interceptors.stage import Ahead, Finish, Stage
from shadowcat_core.interceptors.verdicts import Block, Continue, Delay, Inject, Mock, Modify, Pause, why_no_verdict
from shadowcat_core.messages import Message, MessageBatch

type Edit = Continue | Modify | Block | Mock | Inject
"""The verdicts that take no time."""
EDITS: Final = (Modify, Block, Mock, Inject)
HOLDS: Final = (Delay, Pause)
WAITING: Final = (*HOLDS, CoroutineType, Awaitable)

type Left = Iterator[tuple[int, Message]]
"""The messages that a batch still has for an interceptor."""
type Held = tuple[int, Message, object]
"""A message, its position, and what its judge answered, which takes waiting."""


def apply(verdict: Edit, batch: MessageBatch, position: int) -> None:
    """Carry out a verdict on one message of a batch.

    Raises:
        InvalidMessage: its content cannot be written as JSON, or is empty.
        ValueError: there is no room for an injected message: the batch is a body of one message.
    """
    match verdict:
        case Continue():
            pass
        case Modify(content, reason):
            batch.replace(position, content, reason)
        case Block(reason, code, data):
            batch.block(position, reason, code, data)
        case Mock(result, error, reason):
            batch.answer(position, result if error is None else error, reason)
        case Inject(before, after, reason):
            for content in before:
                batch.insert_before(position, content, reason)
            for content in reversed(after):
                batch.insert_after(position, content, reason)


class MessageStage(Stage):
    """Calls the interceptor once a message, in their order. A failure concerns the message it happened on, alone."""

    def __init__(
        self,
        interceptor: Interceptor,
        settings: Settings,
        scheduler: Scheduler,
        reports: Reports,
        metrics: StageMetrics,
    ) -> None:
        super().__init__(interceptor, settings, scheduler, reports, metrics)
        self._intercept = interceptor.intercept
        self._is_general = self.interest.is_general
        self._is_async = iscoroutinefunction(interceptor.intercept)

    def judge(self, batch: MessageBatch, in_task: bool = False) -> Finish | None:
        found = batch.where() if self._is_general else self.admit(batch)
        if not found:
            return None
        metrics = self.metrics
        metrics.batches += 1
        metrics.messages += len(found)
        if self._is_async and not in_task:
            return partial(self._go_on, batch, iter(found), None)
        left = iter(found)
        held = self._ask(batch, left, None, in_task)
        return None if held is None else partial(self._go_on, batch, left, held)

    def _go_on(self, batch: MessageBatch, left: Left, held: Held | None, ahead: Ahead | None) -> Work | None:
        if held is None or isinstance(held[2], CoroutineType):
            held = self._ask(batch, left, held, in_task=True)
        return None if held is None else self._finish(batch, left, held, ahead)

    def _ask(self, batch: MessageBatch, left: Left, held: Held | None, in_task: bool) -> Held | None:
        """Judge the messages that are left, beginning with one that is held, until one is to be held."""
        started_ns = self.clock_ns()
        try:
            for position, message in left if held is None else chain((held[:2],), left):
                try:
                    answer, held = self._intercept(message) if held is None else held[2], None
                    if in_task and isinstance(answer, CoroutineType):
                        try:  # `advance`, which is called for every message here
                            answer = Suspended(answer, answer.send(None))
                        except StopIteration as done:
                            answer = done.value
                except BaseException as exc:  # noqa: BLE001 -- the pipeline's promise: a failure is covered for
                    self.cover(batch, len(batch.changes), (position,), exc)
                    continue
                if isinstance(answer, Continue):
                    continue
                if isinstance(answer, WAITING):
                    return position, message, answer
                self._carry_out(batch, position, answer)
        finally:
            self.metrics.spent_ns += self.clock_ns() - started_ns
        return None

    def _carry_out(self, batch: MessageBatch, position: int, answer: object) -> None:
        mark = len(batch.changes)
        try:
            if not isinstance(answer, EDITS):
                raise BadVerdict(why_no_verdict(answer))
            apply(answer, batch, position)
            self.settle(batch, mark)
        except Exception as exc:  # noqa: BLE001 -- likewise
            self.fail(batch, mark, (position,), exc)

    async def _finish(self, batch: MessageBatch, left: Left, held: Held | None, ahead: Ahead | None) -> None:
        """Wait for the messages that take it, one after the other, and judge those between them."""
        while held is not None:
            position, message, answer = held
            try:
                if isinstance(answer, Awaitable):
                    answer = await self.wait_for(answer, position, ahead)
                while isinstance(answer, HOLDS):
                    answer = await self._held(batch, position, message, answer, ahead)
            except BaseException as exc:  # noqa: BLE001 -- likewise; what is no failure is raised again
                self.cover(batch, len(batch.changes), (position,), exc)
            else:
                if not isinstance(answer, Continue):
                    self._carry_out(batch, position, answer)
            held = self._ask(batch, left, None, in_task=True)

    async def _held(
        self, batch: MessageBatch, position: int, message: Message, verdict: Delay | Pause, ahead: Ahead | None
    ) -> object:
        """Hold a message back, while what stands before it goes ahead, and give the verdict that ends it."""
        action = Action.DELAY if isinstance(verdict, Delay) else Action.PAUSE
        self.metrics.count(action)
        self.record(action, verdict.reason, message, message, None, batch)
        try:
            if self.settings.mode is Mode.AUDIT:
                return Continue()
            if ahead is not None:
                await ahead(position)
            if isinstance(verdict, Delay):
                await self.scheduler.sleep(verdict.seconds)
                return Continue()
            decision, reason = await self._decision(verdict)
        except CancelledError:
            if self.scheduler.is_cancelled():  # the work itself, as its client has left
                self.metrics.count(Action.DROP)
                self.record(Action.DROP, "nobody waits for it any more", message, None, None, batch)
            raise
        finally:
            if isinstance(verdict, Pause) and isinstance(verdict.until, Coroutine):
                verdict.until.close()
        if isinstance(decision, Continue):
            self.metrics.count(Action.RELEASE)
            self.record(Action.RELEASE, reason, message, message, None, batch)
        return decision

    async def _decision(self, pause: Pause) -> tuple[object, str]:
        """Wait for the decision about a held message; gives it and how it came about."""
        if pause.timeout_s is None:
            decision = await pause.until
        else:
            deadline = self.scheduler.timeout(pause.timeout_s)
            try:
                async with deadline:
                    decision = await pause.until
            except TimeoutError:
                if not deadline.expired():
                    raise
                return pause.on_timeout, f"nobody decided within {pause.timeout_s:g} s"
        return Continue() if decision is None or decision is True else decision, "released"
