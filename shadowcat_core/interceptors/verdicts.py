"""What an interceptor may say about a message, as values.

`docs/interceptors.md` has the table of what each verdict does to each kind of message. A `reason` is for people: it is
on the tape, and the peer reads that of a `Block`.
"""

from collections.abc import AsyncGenerator, Awaitable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from shadowcat_core.jsonrpc import ErrorCode, Json
from shadowcat_core.messages import Content, RpcError


@dataclass(frozen=True, slots=True)
class Continue:
    """Let the message go on as it is."""


@dataclass(frozen=True, slots=True)
class Modify:
    """Let another message go on in its place: a payload, JSON text, or a message made of this one."""

    content: Content
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Stop the message. Who waits for it, or for the answer to it, gets a JSON-RPC error with the id they know."""

    reason: str = ""
    code: int = ErrorCode.BLOCKED
    data: Json = None


@dataclass(frozen=True, slots=True)
class Mock:
    """Answer a request in the place of its receiver, who never sees it: with a result, or with an error."""

    result: Json = field(default_factory=dict[str, Json])
    error: RpcError | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.error is not None and self.result:
            raise ValueError("an answer is a result or an error, not both")


@dataclass(frozen=True, slots=True)
class Delay:
    """Let the message go on later. Everything behind it on its stream waits too, and nothing else."""

    seconds: float
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < float("inf"):
            raise ValueError(f"a message cannot be delayed by {self.seconds} s")


@dataclass(frozen=True, slots=True)
class Inject:
    """Let other messages go on around this one: on its stream, in its direction."""

    before: Sequence[Content] = ()
    after: Sequence[Content] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Hold the message until somebody has decided.

    `until` gives the verdict that is then carried out, which may be another `Pause`. None and True let the message go,
    so a future, an event's `wait()` and a coroutine all serve. After `timeout_s`, when it is given, the verdict is
    `on_timeout`.
    """

    until: Awaitable["Verdict | Literal[True] | None"]
    timeout_s: float | None = None
    on_timeout: "Verdict" = field(default_factory=Continue)
    reason: str = ""

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not 0 <= self.timeout_s < float("inf"):
            raise ValueError(f"a message cannot be held for {self.timeout_s} s")


type Verdict = Continue | Modify | Block | Mock | Pause | Delay | Inject
_VERDICTS: Final = (Continue, Modify, Block, Mock, Pause, Delay, Inject)


def why_no_verdict(answer: object) -> str:
    """Say why something is no verdict, and what to write instead where that can be guessed."""
    if answer is None:
        return "None is no verdict: a message goes on with `return Continue()`"
    if isinstance(answer, type) and issubclass(answer, _VERDICTS):
        return f"the class {answer.__name__} is no verdict: write `{answer.__name__}(…)`, with parentheses"
    if isinstance(answer, Generator | AsyncGenerator):
        return "a generator is no verdict: `yield` made one of the function, so write `return` or `await` in its place"
    return f"{type(answer).__name__} is no verdict"
