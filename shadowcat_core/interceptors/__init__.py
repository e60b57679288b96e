"""Interceptors: who judges messages, what they may say, and the pipeline that asks them and carries it out.

They know the protocol and nothing of the transport. No I/O: time and concurrency are handed in as a `Scheduler`.
`docs/interceptors.md` is the manual.
"""

from shadowcat_core.interceptors.adapter import AdaptedInterceptor, adapt
from shadowcat_core.interceptors.batching import Batcher, BatchPolicy
from shadowcat_core.interceptors.declarations import check_declared
from shadowcat_core.interceptors.failures import failure_line, failure_traceback
from shadowcat_core.interceptors.message_stage import apply
from shadowcat_core.interceptors.pipeline import Pipeline, Release
from shadowcat_core.interceptors.protocols import BatchInterceptor, Interceptor, Interest, is_unroutable
from shadowcat_core.interceptors.records import (
    Action,
    Fail,
    Failure,
    FailureSink,
    Mode,
    Outcome,
    Settings,
    StageMetrics,
    VerdictRecord,
    VerdictSink,
)
from shadowcat_core.interceptors.scheduling import Deadline, Running, Scheduler, on_asyncio
from shadowcat_core.interceptors.stage import Stage
from shadowcat_core.interceptors.verdicts import Block, Continue, Delay, Inject, Mock, Modify, Pause, Verdict

__all__ = [
    "Action",
    "AdaptedInterceptor",
    "BatchInterceptor",
    "BatchPolicy",
    "Batcher",
    "Block",
    "Continue",
    "Deadline",
    "Delay",
    "Fail",
    "Failure",
    "FailureSink",
    "Inject",
    "Interceptor",
    "Interest",
    "Mock",
    "Mode",
    "Modify",
    "Outcome",
    "Pause",
    "Pipeline",
    "Release",
    "Running",
    "Scheduler",
    "Settings",
    "Stage",
    "StageMetrics",
    "Verdict",
    "VerdictRecord",
    "VerdictSink",
    "adapt",
    "apply",
    "check_declared",
    "failure_line",
    "failure_traceback",
    "is_unroutable",
    "on_asyncio",
]
