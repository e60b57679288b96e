"""What is known about an interceptor at work: its settings, its counters, and a record of everything it did."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from shadowcat_core.messages import MessageContext


class Mode(StrEnum):
    """ENFORCE carries verdicts out. AUDIT only records them, and nothing waits for it (SEP-2624)."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Fail(StrEnum):
    """What happens to the messages that an interceptor failed on: OPEN passes them, CLOSED blocks them."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a pipeline uses an interceptor.

    Smaller priorities come first, as in SEP-2624; among equals, who was added first. `timeout_s` is the time to answer:
    for a batch, or for a message when the interceptor judges single ones. A `Delay` or `Pause` is an answer, and does
    not count. An interceptor with `allow_invalid` may make messages that are no JSON-RPC.
    """

    name: str
    priority: int = 0
    mode: Mode = Mode.ENFORCE
    fail: Fail = Fail.CLOSED
    timeout_s: float | None = None
    allow_invalid: bool = False


class Action(StrEnum):
    """What a record tells. RELEASE: a held message went on as it was. FAIL: the interceptor failed."""

    MODIFY = "modify"
    DROP = "drop"
    INJECT = "inject"
    BLOCK = "block"
    MOCK = "mock"
    DELAY = "delay"
    PAUSE = "pause"
    RELEASE = "release"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """One thing that an interceptor did, with the original. In mode AUDIT, what it would have done."""

    interceptor: str
    mode: Mode
    action: Action
    reason: str
    context: MessageContext
    at_ns: int
    """When the message arrived."""
    original: bytes | None
    """None for an injected message, and for a failure that concerns a whole batch."""
    result: bytes | None
    """What went on instead; None when nothing did. A held message that went on is its own result."""
    reply: bytes | None
    """What the sender was answered."""


class Outcome(StrEnum):
    """What became of the messages that an interceptor failed on. UNTOUCHED: it was in mode AUDIT."""

    PASSED = "passed"
    BLOCKED = "blocked"
    UNTOUCHED = "untouched"


@dataclass(frozen=True, slots=True)
class Failure:
    """An interceptor failed. Failures are alike when the same interceptor's errors have one type and text."""

    interceptor: str
    error: Exception
    subject: str
    """What it failed on, in words: `tools/call echo`, `3 messages`; empty for a sink."""
    outcome: Outcome | None
    """None for a sink, which concerns no message."""
    suppressed: int
    """How many failures like it there were since the one told before this."""
    is_first: bool
    """Whether none like it was told before, since the interceptor was added or loaded anew."""


@dataclass(slots=True)
class StageMetrics:
    """Counters of one interceptor: plain ints, always on."""

    batches: int = 0
    messages: int = 0
    """How many it was shown."""
    verdicts: dict[Action, int] = field(default_factory=dict)
    """By action; what just went on is not counted."""
    failures: int = 0
    timeouts: int = 0
    """Those among the failures."""
    unaudited: int = 0
    """Batches that were not audited, because too many audits were waiting."""
    spent_ns: int = 0
    """Time within its calls, up to where they first waited."""
    waited_ns: int = 0
    """Time from there to the end of the calls."""

    def count(self, action: Action) -> None:
        """Count a verdict."""
        self.verdicts[action] = self.verdicts.get(action, 0) + 1


type VerdictSink = Callable[[VerdictRecord], None]
type FailureSink = Callable[[Failure], None]
