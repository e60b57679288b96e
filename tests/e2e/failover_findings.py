"""What the clients saw held against what the servers have run: the table of what happened, and what must not have."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

UNREACHABLE, CLOSED = -31001, -31002
OUTCOMES = ("ok", "did not run", "may have run", "other error", "no answer", "lost with its session")
EXAMPLES = 4
UNSAFE, SAFE = "transfer", "look"
GIVEN_UP = "nobody took it again"
"""So says the proxy of a safe call that it sent again until its patience ended."""


def outcome_of(call: Mapping[str, Any]) -> str:
    """One of OUTCOMES."""
    if call["outcome"] == "error":
        if call["code"] not in {UNREACHABLE, CLOSED} or call["may_have_run"] is None:
            return "other error"
        return "may have run" if call["may_have_run"] else "did not run"
    return {"ok": "ok", "silent": "no answer", "lost": "lost with its session"}[call["outcome"]]


@dataclass(frozen=True)
class Findings:
    """All that is known of one run. Without `entries` nobody kept a ledger."""

    people: Mapping[str, Mapping[str, Any]]
    entries: Sequence[Mapping[str, Any]] | None
    kills: Mapping[str, int]
    progress: Sequence[int]
    patience_s: float

    @cached_property
    def calls(self) -> list[Mapping[str, Any]]:
        return [call for person in self.people.values() for call in person["calls"]]

    @cached_property
    def outcomes(self) -> Counter[str]:
        return Counter(outcome_of(call) for call in self.calls)

    @cached_property
    def errors(self) -> Counter[str]:
        """The errors, by code and message."""
        return Counter(f"{call['code']} {call['message']}" for call in self.calls if call["outcome"] == "error")

    @cached_property
    def lost(self) -> list[str]:
        """The sessions that were lost, each with why."""
        return [f"{name}: {reason}" for name, person in self.people.items() for reason in person["lost"]]

    @cached_property
    def refused(self) -> list[str]:
        """The sessions that did not begin, each with why."""
        return [f"{name}: {reason}" for name, person in self.people.items() for reason in person["refused"]]

    @cached_property
    def dead(self) -> list[str]:
        """Who could not call in the end, or heard nothing on the event stream."""
        return [name for name, person in self.people.items() if not person["works"]]

    @cached_property
    def begun(self) -> Counter[str]:
        """How often each call was begun, in all servers."""
        return Counter(entry["call"] for entry in self.entries or () if entry["what"] == "begin")

    @cached_property
    def ended(self) -> Counter[str]:
        return Counter(entry["call"] for entry in self.entries or () if entry["what"] == "end")

    @cached_property
    def run_twice(self) -> list[str]:
        """The unsafe calls that were begun more than once."""
        tools = {entry["call"]: entry["tool"] for entry in self.entries or ()}
        return [call for call, times in self.begun.items() if times > 1 and tools[call] == UNSAFE]

    @cached_property
    def run_again(self) -> list[str]:
        """The safe calls that were begun more than once."""
        return [call for call, times in self.begun.items() if times > 1 and call not in self.run_twice]

    @cached_property
    def safe_failed(self) -> list[str]:
        """The safe calls that ended with an error that says whether they ran, though they could be sent again."""
        return [
            f"{call['id']}: {call['code']} {call['message']}"
            for outcome in ("did not run", "may have run")
            for call in self._with_outcome(outcome)
            if call["tool"] == SAFE and not self._was_patient(call)
        ]

    def _was_patient(self, call: Mapping[str, Any]) -> bool:
        """Whether no server came up for as long as the proxy waits for one."""
        had_begun = outcome_of(call) == "may have run" and GIVEN_UP in call["message"]
        return (outcome_of(call) == "did not run" or had_begun) and call["ms"] >= self.patience_s * 1000

    @cached_property
    def safe_answered(self) -> list[str]:
        """The safe calls that were cut by a kill, and that their clients have the answers to all the same."""
        again = set(self.run_again)
        return [call["id"] for call in self.calls if call["outcome"] == "ok" and call["id"] in again]

    @cached_property
    def ok_but_not_run(self) -> list[str]:
        """The calls that their client saw succeed, and that no server has brought to its end."""
        if self.entries is None:
            return []
        return [call["id"] for call in self.calls if call["outcome"] == "ok" and not self.ended[call["id"]]]

    @cached_property
    def denied_but_run(self) -> list[str]:
        """The calls that did not run, as their client was told, and did."""
        return [call["id"] for call in self.calls if outcome_of(call) == "did not run" and self.begun[call["id"]]]

    @cached_property
    def progress_lost(self) -> list[str]:
        """Calls that went well without all of their progress, or with a gap in it."""
        return [f"{call['id']}: {call['progress']}" for call in self.calls if self._lacks_progress(call)]

    def _lacks_progress(self, call: Mapping[str, Any]) -> bool:
        heard = sorted(set(call["progress"]))
        wanted = self.progress if call["outcome"] == "ok" else self.progress[: len(heard)]
        return heard != list(wanted)

    @cached_property
    def progress_doubled(self) -> list[str]:
        """Calls that heard of some progress twice, or in another order."""
        return [
            f"{call['id']}: {call['progress']}"
            for call in self.calls
            if call["progress"] != sorted(set(call["progress"]))
        ]

    @property
    def news_lost(self) -> list[str]:
        """What is missing on event streams between two events of one session at one server."""
        return [f"{name}: {one} then {two}" for name, one, two in self._news_steps() if two > one + 1]

    @property
    def news_doubled(self) -> list[str]:
        return [f"{name}: {one} then {two}" for name, one, two in self._news_steps() if two <= one]

    def _news_steps(self) -> Iterator[tuple[str, int, int]]:
        for name, person in self.people.items():
            numbers: dict[str, list[int]] = defaultdict(list)
            for session, number in person["news"]:
                numbers[session].append(number)
            for each in numbers.values():
                for one, two in pairwise(each):
                    yield name, one, two

    @cached_property
    def unheard(self) -> int:
        """How many events of the server's own nobody heard: sent while there was no stream, or just before a kill."""
        told = Counter(entry["session"] for entry in self.entries or () if entry["what"] == "end")
        return told.total() - sum(len({tuple(news) for news in person["news"]}) for person in self.people.values())

    @property
    def statuses(self) -> Counter[str]:
        """HTTP's methods and status codes."""
        total: Counter[str] = Counter()
        for person in self.people.values():
            total.update(person["statuses"])
        return total

    def problems(self) -> list[str]:
        """What must not have happened, each with examples. Empty when all is well."""
        other = [f"{call['id']}: {call['code']} {call['message']}" for call in self._with_outcome("other error")]
        found: dict[str, Iterable[str]] = {
            "sessions were lost": self.lost,
            "sessions did not begin": self.refused,
            "sessions do not work in the end": self.dead,
            "unsafe calls ran twice": self.run_twice,
            "safe calls failed, and could have been sent again": self.safe_failed,
            "calls succeeded and never ran": self.ok_but_not_run,
            "calls ran, and were said not to": self.denied_but_run,
            "calls had no answer": [call["id"] for call in self._with_outcome("no answer")],
            "calls failed without saying whether they ran": other,
            "calls lack progress": self.progress_lost,
            "calls heard of progress twice or in disorder": self.progress_doubled,
            "events of the server's own are missing": self.news_lost,
            "events of the server's own came twice or in disorder": self.news_doubled,
        }
        return [
            f"{len(each)} {what}: {examples(each)}" for what, each in ((w, list(e)) for w, e in found.items()) if each
        ]

    def _with_outcome(self, outcome: str) -> Iterator[Mapping[str, Any]]:
        return (call for call in self.calls if outcome_of(call) == outcome)

    def rows(self) -> dict[str, str]:
        """The table of what happened."""
        rows = {
            "kills": ", ".join(f"{times} × {who}" for who, times in self.kills.items()) or "none",
            "sessions": f"{len(self.people)}",
            "sessions lost": f"{len(self.lost)}",
            "sessions that work in the end": f"{len(self.people) - len(self.dead)}",
            "calls": f"{len(self.calls):,}",
        }
        rows |= {f"  {outcome}": f"{self.outcomes[outcome]:,}" for outcome in OUTCOMES}
        rows |= {
            "progress events": f"{sum(len(call['progress']) for call in self.calls):,}",
            "  calls that lack some": f"{len(self.progress_lost)}",
            "  calls that had some twice": f"{len(self.progress_doubled)}",
        }
        if self.entries is not None:
            cut = self.begun.total() - self.ended.total()
            rows |= {
                "events of the server's own": f"{sum(len(person['news']) for person in self.people.values()):,}",
                "  gaps in what came": f"{len(self.news_lost)}",
                "  twice": f"{len(self.news_doubled)}",
                "  sent while a stream was cut": f"{self.unheard}",
                "runs in the ledger": f"{self.begun.total():,}",
                "  cut by a kill": f"{cut}",
                "  safe calls that failed": f"{len(self.safe_failed)}",
                "  safe calls that ran again": f"{len(self.run_again)}",
                "  safe calls answered in spite of a kill": f"{len(self.safe_answered)}",
                "  unsafe calls that ran twice": f"{len(self.run_twice)}",
                "  succeeded, and never ran": f"{len(self.ok_but_not_run)}",
                "  said not to have run, and ran": f"{len(self.denied_but_run)}",
            }
        rows["longest call"] = f"{max((call['ms'] for call in self.calls), default=0) / 1000:.1f} s"
        rows["HTTP"] = ", ".join(f"{times:,} × {what}" for what, times in sorted(self.statuses.items()))
        return rows


def examples(found: Sequence[str]) -> str:
    return "; ".join(found[:EXAMPLES]) + ("; …" if len(found) > EXAMPLES else "")


def table(columns: Mapping[str, Findings]) -> Table:
    """Runs side by side."""
    shown = Table("what happened", *columns)
    each = [findings.rows() for findings in columns.values()]
    for name in dict.fromkeys(name for rows in each for name in rows):
        shown.add_row(name, *(rows.get(name, "") for rows in each))
    return shown


def text_of(columns: Mapping[str, Findings]) -> str:
    """The table as text, for a report of a failure."""
    console = Console(width=130, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table(columns))
        for name, findings in columns.items():
            for error, times in findings.errors.most_common(EXAMPLES):
                console.print(f"{name}: {times} × {error}", markup=False)
    return capture.get()
