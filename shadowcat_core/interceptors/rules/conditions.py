"""Conditions as functions: compiled once, cheapest first, and asked for messages that may concern them.

Here is also what can be told of a condition without a message: which methods, targets, kinds and directions it leaves
possible. `RuleSet` finds the rules to ask by it, and a pipeline the messages to show. No I/O.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from jsonpath import JSONPathError

from shadowcat_core.errors import RuleFailed
from shadowcat_core.interceptors.rules.models import Condition, SizeTest, TextTest, ValueTest
from shadowcat_core.interceptors.rules.patterns import expression, globs, is_literal
from shadowcat_core.interceptors.rules.subject import ANSWERS, Part, Subject
from shadowcat_core.interceptors.rules.values import contains, finder, is_pointer, same
from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.limits import MAX_RULE_PATH_BYTES
from shadowcat_core.messages import Message

type Test = Callable[[Subject], bool]
type ValueCheck = Callable[[Json], bool]

_ASKING: Final = frozenset({Kind.REQUEST, Kind.NOTIFICATION})
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def compiled(condition: Condition, rule: str) -> Test:
    """Make a test of a condition; `rule` is for errors."""
    return _all([*_circumstances(condition), *_contents(condition, rule)])


def circumstances(condition: Condition) -> Test:
    """Make a test of what a condition says about the way a message comes: what can be told of an unreadable one."""
    return _all(list(_circumstances(condition)))


def kinds_of(condition: Condition) -> frozenset[Kind]:
    """The kinds of message that a whole rule is about.

    Those it names. If it names none anywhere: answers when it looks at `result` or `error`, requests and notifications
    when it looks at what only these have, otherwise all.
    """
    parts = list(_parts(condition))
    if any(part.kind is not None for part in parts):
        named = possible(condition, "kind")
        return frozenset(Kind) if named is None else frozenset(map(Kind, named))
    if any(part.result is not None or part.error is not None for part in parts):
        return ANSWERS
    if any(part.method is not None or part.target is not None or part.params is not None for part in parts):
        return _ASKING
    return frozenset(Kind)


def possible(condition: Condition, field: Literal["kind", "method", "target", "direction"]) -> frozenset[str] | None:
    """The values of a field without which a condition cannot hold; None when they cannot be counted."""
    found: frozenset[str] | None = None
    own = getattr(condition, field)
    names: list[str] = [] if own is None else [own] if isinstance(own, str) else own
    choices: list[frozenset[str] | None] = []
    if own is not None and (field in ("kind", "direction") or all(map(is_literal, names))):
        choices.append(frozenset(names))
    choices += [possible(inner, field) for inner in condition.all or ()]
    if condition.any is not None:
        branches = [possible(inner, field) for inner in condition.any]
        joined = [branch for branch in branches if branch is not None]
        choices.append(frozenset().union(*joined) if len(joined) == len(branches) else None)
    for choice in choices:
        if choice is not None:
            found = choice if found is None else found & choice
    return found


def _parts(condition: Condition) -> Iterator[Condition]:
    yield condition
    for inner in (*(condition.all or ()), *(condition.any or ()), *([condition.not_] if condition.not_ else ())):
        yield from _parts(inner)


def _all(tests: Sequence[Test]) -> Test:
    if not tests:
        return lambda _: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda subject: first(subject) and second(subject)
    return lambda subject: all(test(subject) for test in tests)


def _circumstances(condition: Condition) -> Iterator[Test]:
    if condition.direction is not None:
        direction = condition.direction
        yield lambda subject: subject.message.context.direction == direction
    if condition.transport is not None:
        transport = condition.transport
        yield lambda subject: subject.message.context.transport == transport
    if condition.size is not None:
        size = _size(condition.size)
        yield lambda subject: size(len(subject.message.raw))
    if condition.session is not None:
        session = _text(condition.session)
        yield lambda subject: session(subject.message.context.session_id)
    if condition.server is not None:
        server = _text(condition.server)
        yield lambda subject: server(subject.message.context.server)
    for name, test in (condition.header or {}).items():
        yield _header(name, _text(test))


def _contents(condition: Condition, rule: str) -> Iterator[Test]:
    if condition.kind is not None:
        kinds = frozenset(map(Kind, condition.kind))
        yield lambda subject: subject.is_any_of(kinds)
    if condition.method is not None:
        yield _method(globs(condition.method))
    if condition.target is not None:
        yield _target(globs(condition.target))
    for part in Part:
        for path, test in (getattr(condition, part) or {}).items():
            yield _value(part, path, test, rule)
    if condition.all is not None:
        yield _all([compiled(inner, rule) for inner in condition.all])
    if condition.any is not None:
        branches = [compiled(inner, rule) for inner in condition.any]
        yield lambda subject: any(branch(subject) for branch in branches)
    if condition.not_ is not None:
        denied = compiled(condition.not_, rule)
        yield lambda subject: not denied(subject)


def _method(matches: Callable[[str], bool]) -> Test:
    def test(subject: Subject) -> bool:
        return subject.method is not None and matches(subject.method)

    return test


def _target(matches: Callable[[str], bool]) -> Test:
    def test(subject: Subject) -> bool:
        return subject.target is not None and matches(subject.target)

    return test


def _header(name: str, matches: Callable[[str | None], bool]) -> Test:
    def test(subject: Subject) -> bool:
        headers = subject.message.context.headers
        return matches(None if headers is None else headers.get(name))

    return test


def _text(test: TextTest) -> Callable[[str | None], bool]:
    checks: list[Callable[[str], bool]] = []
    if test.glob is not None:
        checks.append(globs(test.glob))
    if test.matches is not None:
        checks.append(expression(test.matches))
    wanted = test.exists is not False

    def check(text: str | None) -> bool:
        return not wanted if text is None else wanted and all(each(text) for each in checks)

    return check


def _size(test: SizeTest) -> Callable[[int], bool]:
    bounds = [(_COMPARISONS[name], getattr(test, name)) for name in test.model_fields_set]
    return lambda size: all(holds(size, bound) for holds, bound in bounds)


def _value(part: Part, path: str, test: ValueTest, rule: str) -> Test:
    find = finder(path) if is_pointer(path) else None
    checks = list(_checks(test))
    wanted = test.exists is not False

    def holds(subject: Subject) -> bool:
        roots = subject.part(part)
        if not roots:
            return not wanted
        found = _searched(roots[0], path, rule, subject.holder(part)) if find is None else find(roots[0])
        if not wanted:
            return not any(True for _ in found)
        return any(all(check(value) for check in checks) for value in found)

    return holds


def _searched(root: Json, path: str, rule: str, holder: Message | None) -> Iterable[Json]:
    """Look for a JSONPath, within limits."""
    if holder is not None and len(holder.raw) > MAX_RULE_PATH_BYTES:
        raise RuleFailed(rule, f"{path} is not looked for in a message of {len(holder.raw):,} bytes")
    try:
        return finder(path)(root)
    except JSONPathError as exc:
        raise RuleFailed(rule, f"{path}: {str(exc).splitlines()[0]}") from exc


def _checks(test: ValueTest) -> Iterator[ValueCheck]:
    given = test.model_fields_set
    if "equals" in given:
        wanted = test.equals
        yield lambda value: same(value, wanted)
    if test.one_of is not None:
        choices = test.one_of
        yield lambda value: any(same(value, choice) for choice in choices)
    if test.matches is not None:
        matches = expression(test.matches)
        yield lambda value: isinstance(value, str) and matches(value)
    if "contains" in given:
        part = test.contains
        yield lambda value: contains(value, part)
    for name, comparison in _COMPARISONS.items():
        if (bound := getattr(test, name)) is not None:
            yield _compared(comparison, bound)


def _compared(holds: Callable[[float, float], bool], bound: float) -> ValueCheck:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and holds(value, bound)
