"""Finds the rules that may concern a message by its method and target, so that the others cost nothing. No I/O."""

from collections.abc import Sequence
from typing import NamedTuple

from shadowcat_core.interceptors.rules.rule import CompiledRule
from shadowcat_core.limits import MAX_RULE_METHODS

type Positions = tuple[int, ...]


class _OfMethod(NamedTuple):
    """Rules that may concern a method: those for one target, by target, and those for any."""

    by_target: dict[str, Positions]
    others: Positions


class Index:
    """Rules, told by their position in a list."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = rules
        self._by_method: dict[str | None, _OfMethod] = {}

    def concerns(self, method: str | None) -> bool:
        """True when some rule may concern messages of a method, or, for None, those without one."""
        by_target, others = self._of(method)
        return bool(others or by_target)

    def find(self, method: str | None, target: str | None) -> Positions:
        """Find what may concern a message, in order."""
        by_target, others = self._of(method)
        named = () if target is None else by_target.get(target, ())
        return tuple(sorted(named + others)) if named and others else named or others

    def _of(self, method: str | None) -> _OfMethod:
        found = self._by_method.get(method)
        if found is None:
            if len(self._by_method) >= MAX_RULE_METHODS:
                self._by_method.clear()
            found = self._by_method[method] = self._looked_up(method)
        return found

    def _looked_up(self, method: str | None) -> _OfMethod:
        by_target: dict[str, list[int]] = {}
        others = []
        for position, rule in enumerate(self._rules):
            if not rule.may_be(method):
                continue
            if rule.targets is None:
                others.append(position)
            else:
                for target in rule.targets:
                    by_target.setdefault(target, []).append(position)
        return _OfMethod({target: tuple(found) for target, found in by_target.items()}, tuple(others))
