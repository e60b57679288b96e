"""One interceptor in a pipeline: shown what it cares for, counted, kept to its time, and covered when it fails."""

from abc import ABC, abstractmethod
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import CoroutineType
from typing import Final

from shadowcat_core.errors import BadVerdict, InterceptorTimedOut, UnroutableMessage
from shadowcat_core.interceptors.failures import error_text, subject_of
from shadowcat_core.interceptors.protocols import Interest, is_unroutable
from shadowcat_core.interceptors.records import Action, Fail, Mode, Outcome, Settings, StageMetrics, VerdictRecord
from shadowcat_core.interceptors.reports import Reports
from shadowcat_core.interceptors.scheduling import Scheduler, Suspended, Work, advance
from shadowcat_core.jsonrpc import ErrorCode, Kind
from shadowcat_core.messages import Act, Change, Message, MessageBatch

type Ahead = Callable[[int], Awaitable[None]]
"""Lets go ahead what stands before a position."""
type Finish = Callable[[Ahead | None], Work | None]
"""What is left to do on a batch, as it may take waiting. To be called once, in the task that then awaits what it gives:
the rest, when it did take waiting. Coroutines that do not wait are driven by hand in there, without one of our own."""
type Found = Sequence[tuple[int, Message]]

_ACTIONS: Final = {act: Action(act) for act in Act}


async def finished(finish: Finish, ahead: Ahead | None = None) -> None:
    """Do what is left to do on a batch."""
    rest = finish(ahead)
    if rest is not None:
        await rest


class Stage(ABC):
    """An interceptor, its settings, and what it did so far. Made by a `Pipeline`."""

    def __init__(
        self, interceptor: object, settings: Settings, scheduler: Scheduler, reports: Reports, metrics: StageMetrics
    ) -> None:
        self.interceptor = interceptor
        self.settings = settings
        self.interest = Interest.of(interceptor)
        self.metrics = metrics
        self.scheduler = scheduler
        self.clock_ns = scheduler.clock_ns
        self._reports = reports

    @abstractmethod
    def judge(self, batch: MessageBatch, in_task: bool = False) -> Finish | None:
        """Let the interceptor see and edit a batch; gives what is left to do when that takes waiting.

        `in_task`: the caller is in a task that will do the rest, so coroutines may begin at once.
        Never raises, and neither does the rest, unless it is cancelled: the edits of an interceptor that did not get
        to its end are undone.
        """

    def admit(self, batch: MessageBatch) -> Found:
        """Find what to show to the interceptor, after covering for it where that cannot be told."""
        interest = self.interest
        methods, kinds = interest.methods, interest.kinds
        found = interest.find(batch)
        if not found or not interest.exact or interest.is_general:
            return found
        admitted = []
        for entry in found:
            position, message = entry
            kind, method, _ = message.envelope
            if (methods is None or method in methods) and (kinds is None or kind in kinds):
                admitted.append(entry)
            elif is_unroutable(message):
                error = UnroutableMessage("no JSON-RPC message to us, but perhaps one to its receiver")
                self.fail(batch, len(batch.changes), [position], error)
        return admitted

    def step(self, answer: object) -> object:
        """Drive a coroutine as far as it goes without waiting; anything else is its own outcome."""
        if not isinstance(answer, CoroutineType):
            return answer
        started_ns = self.clock_ns()
        try:
            return advance(answer)
        finally:
            self.metrics.spent_ns += self.clock_ns() - started_ns

    async def wait_for(self, answer: Awaitable[object], position: int, ahead: Ahead | None) -> object:
        """Await the answer of an interceptor, within its time; meanwhile what stands before `position` goes ahead.

        Raises:
            InterceptorTimedOut: its time is over.
        """
        waits_since_ns = self.clock_ns()
        try:
            if ahead is not None:
                await ahead(position)
            return await self._within_its_time(answer)
        finally:
            self.metrics.waited_ns += self.clock_ns() - waits_since_ns
            if isinstance(answer, Suspended):
                answer.close()

    async def _within_its_time(self, answer: Awaitable[object]) -> object:
        timeout_s = self.settings.timeout_s
        if timeout_s is None:
            return await answer
        deadline = self.scheduler.timeout(timeout_s)
        try:
            async with deadline:
                value = await answer
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            raise InterceptorTimedOut(f"no answer within {timeout_s:g} s") from exc
        if deadline.expired():  # it answered its own cancellation
            raise InterceptorTimedOut(f"no answer within {timeout_s:g} s")
        return value

    def cover(self, batch: MessageBatch, mark: int, positions: Sequence[int] | None, exc: BaseException) -> None:
        """Deal with what the interceptor raised while it was awaited.

        Raises:
            BaseException: it, after its edits are undone, when it is no failure: the work itself is being cancelled.
        """
        if isinstance(exc, CancelledError) and not self.scheduler.is_cancelled():
            exc = BadVerdict("it let itself be cancelled")
        if not isinstance(exc, Exception):
            batch.undo(mark)
            raise exc
        self.fail(batch, mark, positions, exc)

    def settle(self, batch: MessageBatch, mark: int) -> None:
        """Check, count and record the edits made since `mark`.

        Raises:
            BadVerdict: a message was made into what is none.
        """
        changes = batch.changes[mark:] if mark else batch.changes
        if not self.settings.allow_invalid:
            for change in changes:
                _check(change)
        count, is_recorded = self.metrics.count, self._reports.wants_verdicts
        for _, act, before, after, reply, reason in changes:
            count(_ACTIONS[act])
            if is_recorded:
                self.record(_ACTIONS[act], reason, before, after, reply, batch)

    def fail(self, batch: MessageBatch, mark: int, positions: Sequence[int] | None, error: Exception) -> None:
        """Undo what was edited since `mark`, and cover for the interceptor at some positions, or all it cares for."""
        settings, metrics = self.settings, self.metrics
        batch.undo(mark)
        metrics.failures += 1
        metrics.timeouts += isinstance(error, InterceptorTimedOut)
        affected = self._affected(batch) if positions is None else positions
        messages = [batch[position] for position in affected]
        message = messages[0] if len(messages) == 1 else None
        passed = message if settings.fail is Fail.OPEN else None
        self._reports.failure(settings.name, error, partial(subject_of, messages), self._outcome)
        self.record(Action.FAIL, error_text(error), message, passed, None, batch)
        if settings.fail is Fail.CLOSED:
            for position in affected:
                batch.block(position, f"interceptor {settings.name} failed", ErrorCode.INTERCEPTOR_FAILED)
            for change in batch.changes[mark:]:
                metrics.count(Action.BLOCK)
                self.record(Action.BLOCK, change.reason, change.before, change.after, change.reply, batch)

    def forget_failures(self) -> None:
        """Tell of failures as if there had been none: the interceptor is another one now."""
        self._reports.forget(self.settings.name)

    @property
    def _outcome(self) -> Outcome:
        if self.settings.mode is Mode.AUDIT:
            return Outcome.UNTOUCHED
        return Outcome.PASSED if self.settings.fail is Fail.OPEN else Outcome.BLOCKED

    def _affected(self, batch: MessageBatch) -> list[int]:
        interest = self.interest
        found = interest.find(batch)
        return [at for at, message in found if not interest.exact or interest.wants(message)]

    def record(
        self,
        action: Action,
        reason: str,
        before: Message | None,
        after: Message | None,
        reply: Message | None,
        batch: MessageBatch,
    ) -> None:
        """Tell the pipeline's owner what was done."""
        if self._reports.wants_verdicts:
            original, result, answer = (None if each is None else each.raw for each in (before, after, reply))
            context, at_ns, settings = batch.context, batch.at_ns, self.settings
            self._reports.verdict(
                VerdictRecord(settings.name, settings.mode, action, reason, context, at_ns, original, result, answer)
            )


def _check(change: Change) -> None:
    """Refuse a message that an interceptor made into something less than it was, and a result that is no object."""
    _, act, before, after, reply, _ = change
    answer = reply or after
    # Results are objects in MCP; a peer that is sent another one may wait on. The answer was written here, without
    # blanks, so that only what is in braces, a result or an error, ends with its own brace and the answer's.
    if act is Act.MOCK and answer is not None and not answer.raw.endswith(b"}}"):
        raise BadVerdict("a result must be an object")
    if after is None or (act is not Act.MODIFY and act is not Act.INJECT) or after.is_json_rpc:
        return
    if before is None:
        raise BadVerdict("no JSON-RPC message")
    if before.kind is not Kind.INVALID or (before.is_json and not after.is_json):
        raise BadVerdict("a message was made into what is no JSON-RPC message")
