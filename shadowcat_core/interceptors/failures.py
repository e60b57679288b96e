"""What is said of a failure: where in whose code, on which message, and what became of that.

mine.py:2 in mcp_request: ZeroDivisionError: division by zero (on tools/call echo; passed, as it fails open)
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from shadowcat_core.errors import RuleFailed, ShadowcatError
from shadowcat_core.interceptors.records import Failure, Outcome
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.messages import Message
from shadowcat_core.transcript import printable, shortened, title, words

MAX_ERROR_CHARS: Final = 300
"""Enough for what an error says; what a peer sent, and an error repeats, has no end."""
_NOT_THEIRS: Final = frozenset({"shadowcat_core", "shadowcat_addons", *sys.stdlib_module_names})
_BECAUSE: Final = {
    Outcome.PASSED: "passed, as {} fails open",
    Outcome.BLOCKED: "blocked, as {} fails closed",
    Outcome.UNTOUCHED: "nothing came of it, as {} only audits",
}

type Frames = Sequence[tuple[FrameType, int]]


def error_text(error: BaseException) -> str:
    """Name an error and say what it says."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 -- somebody else's error, whose text is just another thing that may fail
        text = "(it fails to say what)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def subject_of(messages: Sequence[Message]) -> str:
    """Name what an interceptor failed on: `tools/call echo`, `result tools/call echo`, `3 messages`."""
    if len(messages) != 1:
        return f"{len(messages)} messages"
    (message,) = messages
    request = message.request
    said = words(message, answers="" if request is None else title(request))
    return " ".join(filter(None, (said.what, said.gist if message.kind is Kind.INVALID else said.about)))


def failure_line(failure: Failure) -> str:
    """Tell of a failure in one line."""
    frames = _frames(failure.error)
    if frames:
        # Where it left the code that was called: a library's inside would say less.
        called = frames[0][0].f_code.co_filename
        frame, line = next(each for each in reversed(frames) if each[0].f_code.co_filename == called)
        where = f"{Path(called).name}:{line} in {frame.f_code.co_qualname}"
        what = error_text(failure.error)
    else:
        where = failure.interceptor
        what = str(failure.error) if isinstance(failure.error, ShadowcatError) else error_text(failure.error)
    more = []
    if failure.outcome is not None:
        who = "the file" if isinstance(failure.error, RuleFailed) else "it"
        more += [f"on {failure.subject}", _BECAUSE[failure.outcome].format(who)]
    if failure.suppressed:
        more.append(f"{failure.suppressed} like it before were not told")
    return f"{printable(where)}: {shortened(what, MAX_ERROR_CHARS)}" + (f" ({'; '.join(more)})" if more else "")


def failure_traceback(failure: Failure) -> str:
    """Show the way through the code of whoever wrote the interceptor; empty when it was not there."""
    return "".join(traceback.StackSummary.extract(iter(_frames(failure.error))).format()).rstrip()


def _frames(error: BaseException) -> Frames:
    """The frames of an error that are neither ours nor Python's own; all of them when we have no such excuse."""
    frames = list(traceback.walk_tb(error.__traceback__))
    theirs = [each for each in frames if _package(each[0]) not in _NOT_THEIRS]
    return theirs if theirs or isinstance(error, ShadowcatError) else frames


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
