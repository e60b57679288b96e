"""Where a pipeline's interceptors report to: their verdicts all, failures that are alike at most once a minute."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from shadowcat_core.interceptors.failures import MAX_ERROR_CHARS, error_text
from shadowcat_core.interceptors.records import Failure, FailureSink, Outcome, VerdictRecord, VerdictSink
from shadowcat_core.limits import FAILURE_REPORT_INTERVAL_S, MAX_FAILURE_KINDS

_INTERVAL_NS: Final = int(FAILURE_REPORT_INTERVAL_S) * 1_000_000_000
_ANY_OTHER: Final = ""
"""Stands for the text of every error beyond those that are told apart."""


@dataclass(slots=True)
class _Told:
    """When failures that are alike were told of, and how many there were since."""

    at_ns: int
    suppressed: int = 0


class Reports:
    """The sinks of a pipeline. One that raises does not stop the traffic: it is counted, and told where it can be."""

    def __init__(
        self, clock_ns: Callable[[], int], on_verdict: VerdictSink | None, on_failure: FailureSink | None
    ) -> None:
        self.failures = 0
        """Of the sinks themselves."""
        self.wants_verdicts = on_verdict is not None
        self._clock_ns = clock_ns
        self._on_verdict = on_verdict
        self._on_failure = on_failure
        self._told: dict[str, dict[str, _Told]] = {}  # by the interceptor's name and the error's text

    def verdict(self, record: VerdictRecord) -> None:
        """Pass a record on to who wants them."""
        try:
            if self._on_verdict is not None:
                self._on_verdict(record)
        except Exception as exc:  # noqa: BLE001 -- a watcher never breaks what it watches
            self.failures += 1
            self.failure("on_verdict", exc, lambda: "", None)

    def failure(self, name: str, error: Exception, subject: Callable[[], str], outcome: Outcome | None) -> None:
        """Tell of a failure, unless one like it was told of less than a minute ago. `subject` says what it was on."""
        if self._on_failure is None:
            return
        now_ns = self._clock_ns()
        kinds = self._told.setdefault(name, {})
        text = _kind(kinds, error_text(error)[:MAX_ERROR_CHARS], now_ns)
        told = kinds.get(text)
        if told is not None and now_ns - told.at_ns < _INTERVAL_NS:
            told.suppressed += 1
            return
        kinds[text] = _Told(now_ns)
        suppressed = 0 if told is None else told.suppressed
        try:
            self._on_failure(Failure(name, error, subject(), outcome, suppressed, is_first=told is None))
        except Exception:  # noqa: BLE001 -- likewise
            self.failures += 1

    def forget(self, name: str) -> None:
        """An interceptor is gone, or another one now."""
        self._told.pop(name, None)


def _kind(kinds: dict[str, _Told], text: str, now_ns: int) -> str:
    """Find what to count an error as, which is one of a few."""
    if text in kinds or len(kinds) < MAX_FAILURE_KINDS:
        return text
    for other, told in list(kinds.items()):
        if other != _ANY_OTHER and now_ns - told.at_ns >= _INTERVAL_NS:
            del kinds[other]
    return text if len(kinds) < MAX_FAILURE_KINDS else _ANY_OTHER
