"""One rule, ready to judge: what it may concern, whether it holds, and its verdict. No I/O."""

from typing import Final

from shadowcat_core.interceptors.rules import actions, conditions
from shadowcat_core.interceptors.rules.models import Rule
from shadowcat_core.interceptors.rules.occurrences import Occurrences
from shadowcat_core.interceptors.rules.patterns import globs
from shadowcat_core.interceptors.rules.subject import ANSWERS, Subject
from shadowcat_core.interceptors.verdicts import Continue, Verdict
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction

_CONTINUE: Final = Continue()


class CompiledRule:
    """A rule of a file with its counters. `is_silent`: it is played through and says nothing."""

    def __init__(self, rule: Rule, *, seed: int, hold: actions.Hold, is_silent: bool = False) -> None:
        when, self.name = rule.when, rule.name or ""
        self.rule = rule
        self.is_silent = is_silent
        self.kinds = conditions.kinds_of(when)
        self.methods = conditions.possible(when, "method")
        self.targets = conditions.possible(when, "target")
        directions = conditions.possible(when, "direction")
        self.directions = frozenset(Direction) if directions is None else frozenset(map(Direction, directions))
        self.occurrences = Occurrences(when.nth, when.probability, f"{seed}/{self.name}")
        self._fits_method = globs(when.method) if when.method is not None else None
        self._fits_target = globs(when.target) if when.target is not None else None
        self._holds = conditions.compiled(when, self.name)
        self._comes_so = conditions.circumstances(when)
        self._act = actions.compiled(rule.do, self.name, hold)

    @property
    def hits(self) -> int:
        """How often it decided."""
        return self.occurrences.hits

    @property
    def counts(self) -> bool:
        """True when what it does depends on what it has seen before."""
        return self.rule.when.nth is not None or self.rule.when.probability is not None

    @property
    def is_about_answers(self) -> bool:
        """True when it may concern responses or errors."""
        return not self.kinds.isdisjoint(ANSWERS)

    @property
    def is_about_calls(self) -> bool:
        """True when it may concern anything else."""
        return not self.kinds <= ANSWERS

    def may_be(self, method: str | None) -> bool:
        """False when it cannot hold for messages of a method; None stands for those without one."""
        if self.methods is not None:
            return method in self.methods
        return self._fits_method is None or (method is not None and self._fits_method(method))

    def may_be_about(self, target: str | None) -> bool:
        """The same for a target."""
        return self._fits_target is None or (target is not None and self._fits_target(target))

    def may_be_unreadable(self, subject: Subject) -> bool:
        """True when it might hold for an unreadable message, if only that could be read."""
        return (
            Kind.INVALID not in self.kinds and subject.message.direction in self.directions and self._comes_so(subject)
        )

    def judge(self, subject: Subject) -> Verdict | None:
        """Give the verdict, None when the rule does not hold or it is not its turn.

        Raises:
            RuleFailed: it cannot be told whether it holds, or what it says cannot be done to this message.
        """
        if not subject.is_any_of(self.kinds) or not self._holds(subject):
            return None
        if not self.occurrences.admits(subject.message):
            return None
        self.occurrences.hits += 1
        if self.is_silent:
            return _CONTINUE
        return self._act(subject, self.occurrences.count)

    def continues(self, other: "CompiledRule") -> None:
        """Go on counting where another one is that says the same."""
        self.occurrences = other.occurrences
