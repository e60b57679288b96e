"""Judges messages by rules from files (option `shadowcat_rules`), which are loaded anew when they change.

A file is validated and compiled apart, in a thread, and takes its predecessor's place at once. When it cannot be used,
the rules that are there stay, and the log says why, once a change. Without files nothing is in the pipeline.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.utils.asyncio_utils import create_task

from shadowcat_core.errors import RulesError
from shadowcat_core.file_stamp import Stamp, stamp_of
from shadowcat_core.interceptors import Pipeline

if TYPE_CHECKING:
    from shadowcat_core.interceptors.rules import Hold, RuleSet

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often files are looked at: soon enough for who edits one, and one `stat` a file."""


@dataclass(slots=True)
class _Watched:
    """A file whose rules are at work. `stamp` is that of the last attempt to load it."""

    path: Path
    rules: "RuleSet"
    stamp: Stamp
    name: str = ""
    """How records call its interceptors, and peers are told when they fail: without the path."""


class Rules:
    """The rules files and their place in the pipeline."""

    def __init__(
        self, pipeline: Pipeline, *, hold: "Hold | None" = None, stamp_of: Callable[[Path], Stamp] = stamp_of
    ) -> None:
        """Make a room without rules. `hold` holds what a rule pauses, else it waits; `stamp_of` looks at a file."""
        self._pipeline = pipeline
        self._hold = hold
        self._stamp_of = stamp_of
        self._settings: tuple[tuple[str, ...], int] = ((), 0)
        self._files: list[_Watched] = []
        self._watch: asyncio.Task[None] | None = None

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_rules",
            Sequence[str],
            [],
            "Judge messages by the rules in these files, one after the other; a file that changes is loaded anew.",
        )
        loader.add_option(
            "shadowcat_rules_seed", int, 0, "Where the chance of rules with a probability begins, unless a file says."
        )
        loader.add_command("shadowcat.rules", self.rules)
        loader.add_command("shadowcat.rules.reload", self.reload)

    def configure(self, _updated: AbstractSet[str]) -> None:
        paths, seed = tuple(ctx.options.shadowcat_rules), ctx.options.shadowcat_rules_seed
        if (paths, seed) == self._settings:  # mitmproxy also calls for options that were set to what they were
            return
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise exceptions.OptionsError(f"shadowcat_rules: {twice} is there twice")
        known = {file.path: file for file in self._files if seed == self._settings[1]}
        try:
            files = [
                known.get(path) or self._opened(path, seed) for path in (Path(path).expanduser() for path in paths)
            ]
        except RulesError as exc:
            raise exceptions.OptionsError(f"shadowcat_rules: {exc}") from exc
        self._settings = (paths, seed)
        for file in self._files:
            file.rules.remove(self._pipeline, file.name)
        for index, file in enumerate(files):
            alike = sum(other.path.name == file.path.name for other in files[:index])
            file.name = f"rules {file.path.name}" + (f" ({alike + 1})" if alike else "")
            file.rules.install(self._pipeline, file.name)
        self._files = files
        self._keep_watch()

    def done(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for file in self._files:
            file.rules.remove(self._pipeline, file.name)
        self._files, self._settings = [], ((), 0)

    def rules(self) -> Sequence[str]:
        """List the rules: how often each decided, and whether it is enforced."""
        return [
            f"{file.path} | {rule.name} | "
            f"{'audit' if 'audit' in (rule.rule.mode, file.rules.file.mode) else 'enforce'} | {rule.hits} hits"
            for file in self._files
            for rule in file.rules.rules
        ] or ["no rules (set shadowcat_rules to files)"]

    def reload(self) -> str:
        """Load all rules files anew, whether or not they changed. If one cannot be used, all stay as they are."""
        try:
            # All are loaded before any is replaced.
            fresh = [(file, self._opened(file.path, self._settings[1], file.rules)) for file in self._files]
        except RulesError as exc:
            raise exceptions.CommandError(str(exc)) from exc
        for file, new in fresh:
            self._exchange(file, new.rules, new.stamp)
        return f"{sum(len(file.rules.rules) for file in self._files)} rules from {len(self._files)} files"

    async def look(self) -> None:
        """Load the files that changed since they were looked at last."""
        for file in tuple(self._files):
            stamp = self._stamp_of(file.path)
            if stamp == file.stamp:
                continue
            file.stamp = stamp
            seed = self._settings[1]
            try:
                new = await asyncio.to_thread(self._opened, file.path, seed, file.rules)
            except RulesError as exc:
                logger.error("shadowcat: %s\nThe rules of %s stay as they were.", exc, file.path)
                continue
            # Meanwhile a command or an option may have done the same, or taken it out.
            if file in self._files and seed == self._settings[1]:
                self._exchange(file, new.rules, new.stamp)
                logger.info("shadowcat: %s loaded anew: %d rules", file.path, len(new.rules.rules))

    def _opened(self, path: Path, seed: int, previous: "RuleSet | None" = None) -> _Watched:
        # Here, as what reads rules takes 0.2 s to import, and most proxies have none.
        from shadowcat_core.interceptors.rules import RuleSet, load_rules, until_timeout

        # The stamp first: what is written after it makes another one, and is seen the next time.
        stamp = self._stamp_of(path)
        rules = RuleSet(load_rules(path), seed=seed, hold=self._hold or until_timeout, previous=previous)
        return _Watched(path, rules, stamp)

    def _exchange(self, file: _Watched, rules: "RuleSet", stamp: Stamp) -> None:
        rules.succeed(file.rules, self._pipeline, file.name)
        file.rules, file.stamp = rules, stamp

    def _keep_watch(self) -> None:
        if self._watch is None and self._files:
            self._watch = create_task(self._look_on(), name="shadowcat: watch rules files", keep_ref=True)
        elif self._watch is not None and not self._files:
            self._watch.cancel()
            self._watch = None

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()
