"""Where a pipeline's interceptors report to: their verdicts all, their failures at most once a minute each."""

from collections.abc import Callable
from typing import Final

from shadowcat_core.interceptors.records import Failure, FailureSink, VerdictRecord, VerdictSink
from shadowcat_core.limits import FAILURE_REPORT_INTERVAL_S

_INTERVAL_NS: Final = int(FAILURE_REPORT_INTERVAL_S) * 1_000_000_000


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
        self._told: dict[str, tuple[int, int]] = {}  # when, and how many failures since, by name

    def verdict(self, record: VerdictRecord) -> None:
        """Pass a record on to who wants them."""
        try:
            if self._on_verdict is not None:
                self._on_verdict(record)
        except Exception as exc:  # noqa: BLE001 -- a watcher never breaks what it watches
            self.failures += 1
            self.failure("on_verdict", exc)

    def failure(self, name: str, error: Exception) -> None:
        """Tell of a failure, unless one of the same interceptor was told of less than a minute ago."""
        now_ns = self._clock_ns()
        told_ns, suppressed = self._told.get(name, (now_ns - _INTERVAL_NS, 0))
        if now_ns - told_ns < _INTERVAL_NS:
            self._told[name] = (told_ns, suppressed + 1)
            return
        self._told[name] = (now_ns, 0)
        if self._on_failure is None:
            return
        try:
            self._on_failure(Failure(name, error, suppressed))
        except Exception:  # noqa: BLE001 -- likewise
            self.failures += 1

    def forget(self, name: str) -> None:
        """An interceptor is gone."""
        self._told.pop(name, None)
