"""The rules of a file as interceptors of a pipeline: the first rule that holds for a message decides about it.

A file becomes up to four interceptors, each shown only what it may concern: of calls (requests, notifications, and
what is no JSON-RPC) and of answers, as a pipeline tells the ones by their methods and the others by their kinds; and
both again for a rehearsal, when some rules are in mode audit. No I/O.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Self

from shadowcat_core.errors import UnroutableMessage
from shadowcat_core.interceptors.pipeline import Pipeline
from shadowcat_core.interceptors.protocols import is_unroutable
from shadowcat_core.interceptors.records import Mode
from shadowcat_core.interceptors.rules.actions import Hold
from shadowcat_core.interceptors.rules.index import Index
from shadowcat_core.interceptors.rules.models import RulesFile
from shadowcat_core.interceptors.rules.rule import CompiledRule
from shadowcat_core.interceptors.rules.subject import ANSWERS, Subject
from shadowcat_core.interceptors.verdicts import Continue, Pause, Verdict
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, proves_method

_CONTINUE: Final = Continue()


def until_timeout(message: Message, timeout_s: float | None, on_timeout: Verdict) -> Pause:
    """Hold a message with nobody there to decide, so that the pause ends with its time."""
    del message
    return Pause(asyncio.Event().wait(), timeout_s, on_timeout)


class _Rules:
    """An interceptor that asks the rules of a list, in order."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self.rules = tuple(rules)
        self.index = Index(self.rules)
        directions = frozenset[Direction]().union(*(rule.directions for rule in rules))
        self.direction = next(iter(directions)) if len(directions) == 1 else None

    def first(self, subject: Subject) -> Verdict:
        """Give the verdict of the first rule that holds."""
        for position in self.index.find(subject.method, subject.target):
            rule = self.rules[position]
            verdict = rule.judge(subject)
            if verdict is not None:
                return verdict
        return _CONTINUE


class CallRules(_Rules):
    """Judges requests, notifications, and what is no JSON-RPC message and may be one to somebody."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        super().__init__(rules)
        methods = [rule.methods for rule in rules]
        counted = [each for each in methods if each is not None]
        self.methods = frozenset[str]().union(*counted) if len(counted) == len(methods) else None

    def intercept(self, message: Message) -> Verdict:
        hint = message.hint
        # Where the bytes prove which method any reader finds, it takes no parse to rule a message out.
        if (
            hint is not None
            and proves_method(message.raw, 0, len(message.raw))
            and not self.index.concerns(hint.method)
        ):
            return _CONTINUE
        if message.kind in ANSWERS:
            return _CONTINUE
        if is_unroutable(message):
            return self._unreadable(Subject(message))
        return self.first(Subject(message))

    def _unreadable(self, subject: Subject) -> Verdict:
        """Judge what cannot be read by what there is to see, as far as no rule stands before that might hold."""
        for rule in self.rules:
            verdict = rule.judge(subject)
            if verdict is not None:
                return verdict
            if rule.may_be_unreadable(subject):
                raise UnroutableMessage(f"rule {rule.name} may be about it, which cannot be told")
        return _CONTINUE


class AnswerRules(_Rules):
    """Judges responses and errors, by the requests that they answer."""

    kinds = ANSWERS

    def intercept(self, message: Message) -> Verdict:
        return self.first(Subject(message))


class RuleSet:
    """The rules of one file, compiled."""

    def __init__(
        self, file: RulesFile, *, seed: int = 0, hold: Hold = until_timeout, previous: "RuleSet | None" = None
    ) -> None:
        """Compile a file's rules.

        Args:
            file: as `load_rules` gives it.
            seed: where the file has none.
            hold: holds what a rule pauses, such as `HeldMessages.hold`, which asks a person.
            previous: the set that this one follows; rules that are still the same go on counting where they are.
        """
        self.file = file
        self.seed = seed if file.seed is None else file.seed
        audited = [file.mode == "audit" or rule.mode == "audit" for rule in file.rules]
        self._enforced = [
            CompiledRule(rule, seed=self.seed, hold=hold)
            for rule, is_audited in zip(file.rules, audited, strict=True)
            if not is_audited
        ]
        # An audited rule says what it would do if it were enforced: after all that stand before it have had their say.
        self._rehearsed = [
            CompiledRule(rule, seed=self.seed, hold=until_timeout, is_silent=not is_audited)
            for rule, is_audited in zip(file.rules, audited, strict=True)
            if any(audited)
        ]
        if previous is not None and previous.seed == self.seed:
            self._continue(previous)
        self.interceptors = _interceptors(self._rehearsed, Mode.AUDIT) | _interceptors(self._enforced, Mode.ENFORCE)
        """What a pipeline runs, by mode and what it is about."""

    @property
    def at_work(self) -> tuple[CompiledRule, ...]:
        """What judges: rules that are enforced, and, in a rehearsal, all of them."""
        return (*self._enforced, *self._rehearsed)

    @property
    def rules(self) -> list[CompiledRule]:
        """Every rule of the file, in order, with its counters."""
        speaking = {rule.name: rule for rule in self.at_work if not rule.is_silent}
        return [speaking[rule.name or ""] for rule in self.file.rules]

    def install(self, pipeline: Pipeline, name: str) -> None:
        """Add the set's interceptors to a pipeline, under a name of the set's."""
        for (mode, about), interceptor in self.interceptors.items():
            pipeline.add(interceptor, name=_stage_name(name, mode, about), mode=mode, fail=self.file.fail)

    def remove(self, pipeline: Pipeline, name: str) -> None:
        """Take them out again."""
        for mode, about in self.interceptors:
            pipeline.remove(_stage_name(name, mode, about))

    def succeed(self, old: Self, pipeline: Pipeline, name: str) -> None:
        """Take another set's place in a pipeline: every batch meets one of them, whole."""
        if self.interceptors.keys() != old.interceptors.keys() or self.file.fail != old.file.fail:
            old.remove(pipeline, name)
            self.install(pipeline, name)
            return
        for (mode, about), interceptor in self.interceptors.items():
            pipeline.replace(_stage_name(name, mode, about), interceptor)

    def _continue(self, previous: "RuleSet") -> None:
        known = {(rule.is_silent, rule.name): rule for rule in previous.at_work}
        for rule in self.at_work:
            other = known.get((rule.is_silent, rule.name))
            if other is not None and (other.rule.when, other.rule.do) == (rule.rule.when, rule.rule.do):
                rule.continues(other)


type _Interceptors = dict[tuple[Mode, str], CallRules | AnswerRules]


def _interceptors(rules: Sequence[CompiledRule], mode: Mode) -> _Interceptors:
    calls = [rule for rule in rules if rule.is_about_calls]
    answers = [rule for rule in rules if rule.is_about_answers]
    # A silent rule is asked for the sake of others, and one that counts must not miss what it counts.
    found: _Interceptors = {}
    if any(rule.counts or not rule.is_silent for rule in calls):
        found[mode, "calls"] = CallRules(calls)
    if any(rule.counts or not rule.is_silent for rule in answers):
        found[mode, "answers"] = AnswerRules(answers)
    return found


def _stage_name(name: str, mode: Mode, about: str) -> str:
    return name + (" answers" if about == "answers" else "") + (" (audit)" if mode is Mode.AUDIT else "")
