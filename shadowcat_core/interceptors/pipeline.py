"""Runs interceptors over batches, one after the other: who is asked, in which order, and what is left to wait for.

No I/O. Whoever runs a pipeline sends `batch.emit()` on, and `batch.replies` back.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Final

from shadowcat_core.interceptors.adapter import AdaptedInterceptor
from shadowcat_core.interceptors.audit import Audit
from shadowcat_core.interceptors.batch_stage import BatchStage
from shadowcat_core.interceptors.declarations import check_declared
from shadowcat_core.interceptors.message_stage import MessageStage
from shadowcat_core.interceptors.protocols import BatchInterceptor, Interceptor
from shadowcat_core.interceptors.records import Fail, FailureSink, Mode, Settings, StageMetrics, VerdictSink
from shadowcat_core.interceptors.reports import Reports
from shadowcat_core.interceptors.scheduling import Running, Scheduler
from shadowcat_core.interceptors.stage import Finish, Stage
from shadowcat_core.jsonrpc import Kind, classify
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import MessageBatch, burst_hints, proves_method, proves_methods
from shadowcat_core.sse import FrameBatch

type Judge = Callable[[MessageBatch, bool], Finish | None]
"""`Stage.judge`, or an audit's."""
type Release = Callable[[MessageBatch], None]
"""Takes a batch that goes on before the rest of the one it was part of."""


@dataclass(frozen=True, slots=True)
class Route:
    """The interceptors of one direction, and what all of them together care for."""

    judges: tuple[Judge, ...] = ()
    general: tuple[int, ...] = ()
    """Where among them those stand who want every message."""
    methods: AbstractSet[str] = frozenset()
    kinds: AbstractSet[Kind] = frozenset()
    exact: bool = False
    """Whether somebody decides by method, so that a hint needs a proof."""
    closed: bool = False
    """Whether somebody who enforces fails closed."""
    narrows: bool = False
    """Whether it can be told that a batch is for the general ones alone. Deciding by kind would take a parse."""

    @classmethod
    def of(cls, stages: Sequence[tuple[Stage, Judge]]) -> "Route":
        """Join the interests of stages, each given with what runs it."""
        interests = [stage.interest for stage, _ in stages]
        by_method = [interest for interest in interests if interest.methods is not None]
        by_kind = [interest for interest in interests if interest.methods is None and interest.kinds is not None]
        return cls(
            judges=tuple(judge for _, judge in stages),
            general=tuple(index for index, interest in enumerate(interests) if interest.is_general),
            methods=frozenset().union(*(interest.methods or () for interest in by_method)),
            kinds=frozenset().union(*(interest.kinds or () for interest in by_kind)),
            exact=any(interest.exact for interest in by_method),
            closed=any(
                stage.settings.mode is Mode.ENFORCE and stage.settings.fail is Fail.CLOSED for stage, _ in stages
            ),
            narrows=bool(by_method or by_kind) and not any(interest.exact for interest in by_kind),
        )

    def is_quiet(self, batch: MessageBatch) -> bool:
        """True when a batch, as it is now, holds nothing for those who want something in particular."""
        if not self.narrows:
            return False
        if self.exact:
            return batch.lacks(self.methods, self.kinds)
        return not batch.where(self.methods) and not batch.where(None, self.kinds)

    def lets_pass(self, frames: FrameBatch) -> bool:
        """True when the bytes of a burst tell that it holds nothing for anybody."""
        hints = burst_hints(frames)
        if hints is None or not self.methods.isdisjoint(hints.methods) or not self.kinds.isdisjoint(hints.kinds):
            return False
        return not self.exact or proves_methods(hints.named, frames.buffer)


_NOBODY: Final = Route()


class Pipeline:
    """An ordered list of interceptors. It may be changed at any time; a batch ends with those it began with."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        on_verdict: VerdictSink | None = None,
        on_failure: FailureSink | None = None,
    ) -> None:
        """Make a pipeline without interceptors.

        Args:
            scheduler: its time and concurrency, such as `on_asyncio(time.perf_counter_ns)`.
            on_verdict: gets a record of everything that an interceptor did.
            on_failure: is told of failures; of those that are alike, once a minute at most.
        """
        self._scheduler = scheduler
        self._reports = Reports(scheduler.clock_ns, on_verdict, on_failure)
        self._stages: tuple[Stage, ...] = ()
        self._audits: dict[Stage, Audit] = {}
        self._routes = dict.fromkeys(Direction, _NOBODY)
        self._bursts_pass = True  # the last one did; where they do not, none is looked at before its batch is made
        self.active: frozenset[Direction] = frozenset()
        """The directions in which there is an interceptor."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The interceptors in the order they are called, with their settings and counters."""
        return self._stages

    @property
    def sink_failures(self) -> int:
        """How often `on_verdict` or `on_failure` raised."""
        return self._reports.failures

    def add(
        self,
        interceptor: Interceptor | BatchInterceptor,
        *,
        name: str | None = None,
        priority: int = 0,
        mode: Mode | str = Mode.ENFORCE,
        fail: Fail | str = Fail.CLOSED,
        timeout_s: float | None = None,
        allow_invalid: bool = False,
    ) -> Stage:
        """Add an interceptor, behind those with the same priority; see `Settings`.

        Without a name it gets that of its class, and a number when there is one already.

        Raises:
            TypeError: it has no method that makes it an interceptor.
            ValueError: the name is taken, or the mode, policy, time or interest makes no sense.
        """
        check_declared({"priority": priority, "mode": mode, "fail": fail, "timeout_s": timeout_s})
        settings = Settings(
            name=self._free_name(interceptor, name),
            priority=priority,
            mode=Mode(mode),
            fail=Fail(fail),
            timeout_s=timeout_s,
            allow_invalid=allow_invalid,
        )
        stage = self._stage(interceptor, settings, StageMetrics())
        self._install((*self._stages, stage))
        return stage

    def remove(self, stage: Stage | str) -> None:
        """Take an interceptor out, by name or by what `add` gave. What it still holds is left to it.

        Raises:
            KeyError: it is not in the pipeline.
        """
        gone = self._find(stage)
        self._install([other for other in self._stages if other is not gone])
        gone.forget_failures()

    def replace(self, stage: Stage | str, interceptor: Interceptor | BatchInterceptor) -> Stage:
        """Put another interceptor in the place of one, with its settings, counters and rank. No batch meets neither.

        Raises:
            KeyError: it is not in the pipeline.
            TypeError: the other one is no interceptor.
        """
        old = self._find(stage)
        new = self._stage(interceptor, old.settings, old.metrics)
        self._install([new if other is old else other for other in self._stages])
        old.forget_failures()
        return new

    def fails_closed(self, direction: Direction) -> bool:
        """True when what cannot be judged must not pass: somebody who decides fails closed."""
        return self._routes[direction].closed

    def passes(self, frames: FrameBatch, direction: Direction) -> bool:
        """True when no interceptor cares for a chunk, so that it may pass without a batch being made of it.

        False does not say that somebody does. What may pass are the frames: bytes behind them are held by the parser.
        """
        route = self._routes[direction]
        if not route.judges:
            return True
        if route.general or not route.narrows:
            return False
        buffer, records = frames.buffer, frames.records
        if len(records) != 1:
            self._bursts_pass = self._bursts_pass and route.lets_pass(frames)
            return self._bursts_pass
        _, _, start, end = records[0]
        hint = classify(buffer, start, end)
        if hint is None or hint.method in route.methods or hint.kind in route.kinds:
            return False
        return not route.exact or proves_method(buffer, start, end)

    def run(self, batch: MessageBatch, release: Release | None = None) -> Running | None:
        """Let all interceptors see and edit a batch, each what those before it left.

        Gives None when that is done. Otherwise somebody waits: the work goes on by itself, and what is given is to be
        awaited before the batch is sent, or cancelled when it cannot be sent any more. `release` gets what may be sent
        before that: the messages in front of one that is held, when nobody has anything against them.
        """
        route = self._routes[batch.context.direction]
        judges, start = route.judges, 0
        if batch.hint is None and not len(batch):
            return None
        self._bursts_pass = route.is_quiet(batch)
        if self._bursts_pass:
            start = len(judges)
            for index in route.general:
                finish = judges[index](batch, False)
                if finish is not None:
                    return self._start(batch, judges, index, finish, release)
                if batch.edited:  # it may hold something for the others now
                    start = index + 1
                    break
        for index in range(start, len(judges)):
            finish = judges[index](batch, False)
            if finish is not None:
                return self._start(batch, judges, index, finish, release)
        return None

    def close(self) -> None:
        """Give up audits that wait. The pipeline may still be used."""
        for audit in self._audits.values():
            audit.close()

    def _start(
        self, batch: MessageBatch, judges: tuple[Judge, ...], index: int, finish: Finish, release: Release | None
    ) -> Running | None:
        running = self._scheduler.start(self._finish(batch, judges, index, finish, release))
        if not running.done():
            return running
        running.result()
        return None

    async def _finish(
        self, batch: MessageBatch, judges: tuple[Judge, ...], index: int, finish: Finish | None, release: Release | None
    ) -> None:
        """Finish what the judge at an index left, if it did, and ask those behind it."""
        while True:
            if finish is not None:
                rest = finish(None if release is None else partial(self._ahead, batch, judges, index, release))
                if rest is not None:
                    await rest
            index += 1
            if index >= len(judges):
                return
            finish = judges[index](batch, True)

    async def _ahead(
        self, batch: MessageBatch, judges: tuple[Judge, ...], index: int, release: Release, position: int
    ) -> None:
        """Part with what stands before a position, show it to those behind the judge at an index, and release it."""
        head = batch.split(position)
        if head is not None:
            await self._finish(head, judges, index, None, release)
            release(head)

    def _stage(
        self,
        interceptor: Interceptor | BatchInterceptor | AdaptedInterceptor,
        settings: Settings,
        metrics: StageMetrics,
    ) -> Stage:
        if isinstance(interceptor, AdaptedInterceptor):
            interceptor = interceptor.interceptor
        if isinstance(interceptor, BatchInterceptor):
            return BatchStage(interceptor, settings, self._scheduler, self._reports, metrics)
        if isinstance(interceptor, Interceptor):
            return MessageStage(interceptor, settings, self._scheduler, self._reports, metrics)
        raise TypeError(f"{type(interceptor).__name__} has neither intercept nor intercept_batch")

    def _install(self, stages: Sequence[Stage]) -> None:
        """Make these the interceptors, at once."""
        audits = {
            stage: self._audits.get(stage) or Audit(stage, self._scheduler)
            for stage in stages
            if stage.settings.mode is Mode.AUDIT
        }
        routes = {
            direction: Route.of([
                (stage, audits[stage].judge if stage in audits else stage.judge)
                for stage in sorted(stages, key=lambda stage: stage.settings.priority)
                if stage.interest.direction in (None, direction)
            ])
            for direction in Direction
        }  # fmt: skip
        self._stages = tuple(sorted(stages, key=lambda stage: stage.settings.priority))
        self._audits, self._routes = audits, routes
        self.active = frozenset(direction for direction, route in routes.items() if route.judges)

    def _find(self, stage: Stage | str) -> Stage:
        for candidate in self._stages:
            if stage in (candidate, candidate.settings.name):
                return candidate
        raise KeyError(stage if isinstance(stage, str) else stage.settings.name)

    def _free_name(self, interceptor: object, name: str | None) -> str:
        taken = {stage.settings.name for stage in self._stages}
        if name is not None:
            if name in taken:
                raise ValueError(f"there is an interceptor {name!r} already")
            return name
        if isinstance(interceptor, AdaptedInterceptor):
            interceptor = interceptor.interceptor
        base, number = type(interceptor).__name__, 2
        free = base
        while free in taken:
            free, number = f"{base}-{number}", number + 1
        return free
