"""Tries a rules file with the tests it carries: real messages through a real pipeline, in no time at all.

Every test begins anew, with rules that have counted nothing. Delays and pauses end at once; nobody decides about what
is paused. No I/O.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from shadowcat_core.interceptors.pipeline import Pipeline
from shadowcat_core.interceptors.records import Action, VerdictRecord
from shadowcat_core.interceptors.rules.models import Case, RulesFile
from shadowcat_core.interceptors.rules.rule_set import RuleSet
from shadowcat_core.interceptors.rules.values import same
from shadowcat_core.interceptors.scheduling import Scheduler, on_asyncio
from shadowcat_core.jsonrpc import Json, dump
from shadowcat_core.mcp import Direction, HeaderFields, Transport
from shadowcat_core.messages import Message, MessageBatch, MessageContext

_NAME: Final = "rules"
_UNSAID: Final = (Action.FAIL, Action.DELAY, Action.PAUSE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one test. It passed when there are no differences."""

    name: str
    differences: tuple[str, ...]
    hits: frozenset[str]
    """The rules that decided about any of its messages."""


@dataclass(slots=True)
class _Seen:
    """What became of the last message."""

    records: list[VerdictRecord] = field(default_factory=list)
    failure: str = ""
    deciders: list[str] = field(default_factory=list)
    sent: list[Json] = field(default_factory=list)
    replied: Json = None


def try_rules(file: RulesFile, seed: int = 0) -> list[Outcome]:
    """Run every test of a file."""
    return [
        asyncio.run(_tried(file, case, case.name or f"test-{number}", seed))
        for number, case in enumerate(file.tests, 1)
    ]


async def _tried(file: RulesFile, case: Case, name: str, seed: int) -> Outcome:
    rules, seen = RuleSet(file, seed=seed), _Seen()
    pipeline = Pipeline(
        _hurried(),
        on_verdict=seen.records.append,
        on_failure=lambda failure: setattr(seen, "failure", str(failure.error)),
    )
    rules.install(pipeline, _NAME)
    context = _context(case)
    messages = case.given * case.times
    for message in messages:
        seen.records.clear()
        before = {rule.name: rule.hits for rule in rules.rules}
        batch = MessageBatch.of_lines(dump(message) + b"\n", context)
        pending = pipeline.run(batch)
        if pending is not None:
            await pending
        seen.deciders = [rule.name for rule in rules.rules if rule.hits > before[rule.name]]
        seen.sent = [each.payload for each in batch]
        seen.replied = batch.replies[0].payload if batch.replies else None
    pipeline.close()
    return Outcome(name, tuple(_differences(case, seen)), frozenset(rule.name for rule in rules.rules if rule.hits))


def _context(case: Case) -> MessageContext:
    is_answer = isinstance(case.given[-1], dict) and "method" not in case.given[-1]
    direction = case.direction or ("s2c" if is_answer else "c2s")
    context = MessageContext(
        Direction(direction),
        Transport(case.transport),
        session_id=case.session,
        stream_id="test",
        server=case.server,
        headers=HeaderFields([(name.encode(), value.encode()) for name, value in case.headers.items()]),
    )
    if case.answers is None:
        return context
    asked = Message(dump(case.answers), MessageContext(context.direction.opposite, context.transport))
    return replace(context, request_of=lambda _: asked)


def _differences(case: Case, seen: _Seen) -> Sequence[str]:
    expect, given = case.expect, case.expect.model_fields_set
    found: list[str] = []
    if expect.verdict is not None and expect.verdict not in (verdicts := _verdicts(seen.records)):
        cause = f" ({seen.failure})" if "fail" in verdicts and seen.failure else ""
        found.append(f"verdict: expected {expect.verdict}, got {', '.join(verdicts)}{cause}")
    if "rule" in given and (expect.rule not in seen.deciders if expect.rule else seen.deciders):
        found.append(f"rule: expected {expect.rule or 'none'}, got {', '.join(seen.deciders) or 'none'}")
    if "sent" in given:
        wanted = [message for message in expect.sent or () if message is not None]
        if not same(list(wanted), seen.sent):
            found.append(f"sent: expected {_text(list(wanted))}, got {_text(seen.sent)}")
    if "replied" in given and not same(expect.replied, seen.replied):
        found.append(f"replied: expected {_text(expect.replied)}, got {_text(seen.replied)}")
    return found


def _verdicts(records: Sequence[VerdictRecord]) -> list[str]:
    """What was said, in order; how a hold ended and how a failure was covered for are not said by a rule."""
    said: list[str] = []
    for record in records:
        if record.action is not Action.RELEASE:
            said.append(str(record.action))
        if record.action in _UNSAID:
            break
    return said or ["continue"]


def _text(value: Json) -> str:
    return dump(value).decode("utf-8", "replace")


def _hurried() -> Scheduler:
    """A scheduler on which nothing takes time: a delay is over, and a pause has timed out, as soon as it waits."""

    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    usual = on_asyncio(lambda: 0)
    return Scheduler(usual.clock_ns, at_once, lambda _seconds: asyncio.timeout(0), usual.start, usual.is_cancelled)
