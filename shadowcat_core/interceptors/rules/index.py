"""Finds the rules that may concern a message by its method and target, so that the others cost nothing. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shadowcat_core.interceptors.rules.rule import CompiledRule
from shadowcat_core.limits import MAX_RULE_FINDS

type Positions = tuple[int, ...]


@dataclass(slots=True)
class _OfMethod:
    """Rules that may concern a method: those that name their targets, by target, and the others."""

    by_target: dict[str, list[int]] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)
    found: dict[str | None, Positions] = field(default_factory=dict)
    """For targets that were there before."""


class Index:
    """Rules, told by their position in a list."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = rules
        self._by_method: dict[str | None, _OfMethod] = {}
        self.kept = 0
        """How many rules are kept in mind, each as often as it is, and one more for each name."""

    def concerns(self, method: str | None) -> bool:
        """True when some rule may concern messages of a method, or, for None, those without one."""
        found = self._of(method)
        return bool(found.others or found.by_target)

    def find(self, method: str | None, target: str | None) -> Positions:
        """Find what may concern a message, in order."""
        of_method = self._of(method)
        found = of_method.found.get(target)
        if found is None:
            named = [] if target is None else of_method.by_target.get(target, [])
            others = [position for position in of_method.others if self._rules[position].may_be_about(target)]
            found = of_method.found[target] = tuple(sorted(named + others))
            self._keep(len(found))
        return found

    def _of(self, method: str | None) -> _OfMethod:
        found = self._by_method.get(method)
        if found is None:
            found = self._by_method[method] = _OfMethod()
            for position, rule in enumerate(self._rules):
                if rule.may_be(method):
                    for target in rule.targets or ():
                        found.by_target.setdefault(target, []).append(position)
                    if rule.targets is None:
                        found.others.append(position)
            self._keep(len(found.others) + sum(map(len, found.by_target.values())))
        return found

    def _keep(self, count: int) -> None:
        self.kept += count + 1
        if self.kept > MAX_RULE_FINDS:
            self._by_method.clear()
            self.kept = 0
