"""Puts the built-in guards into the pipeline as options ask for them: redaction, tools, pins, scan, size cap."""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from shadowcat_core.errors import PinsError
from shadowcat_core.interceptors import BatchInterceptor, Interceptor, Mode, Pipeline
from shadowcat_core.interceptors.guards import (
    PRIORITIES,
    WELL_KNOWN,
    CapResults,
    Drift,
    Excess,
    HideTools,
    Pins,
    RedactMessages,
    Redactor,
    RefuseCalls,
    RefuseDrifted,
    ScanAction,
    ScanTexts,
    ToolPolicy,
    WatchToolLists,
    own_pattern,
)
from shadowcat_core.limits import KiB
from shadowcat_core.mcp import Direction
from shadowcat_core.transcript import shortened

logger = logging.getLogger(__name__)

DIRECTIONS: Final[dict[str, Direction | None]] = {
    "both": None,
    "to-client": Direction.SERVER_TO_CLIENT,
    "to-server": Direction.CLIENT_TO_SERVER,
}
# The first is the default. mitmproxy only shows choices: it takes any text.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "redact_wire": ("off", *DIRECTIONS),
    "pins_mode": ("learn", "locked"),
    "pins_action": ("warn", "block"),
    "scan": ("off", *map(str, ScanAction)),
    "max_result_action": tuple(map(str, Excess)),
    "max_result_of": ("calls", "all"),
}
MAX_WARNINGS: Final = 1_000
"""Warnings that are remembered, so that each is given once."""


@dataclass(frozen=True, slots=True)
class _Guard:
    """One interceptor as it is to stand in the pipeline."""

    name: str
    interceptor: Interceptor | BatchInterceptor
    priority: int
    mode: Mode = Mode.ENFORCE


type _Maker = Callable[[], list[_Guard]]


class Guards:
    """Five guards, each off until its option is set; off, it is not in the pipeline and costs nothing."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._settings: dict[str, tuple[str, ...]] = {}
        self._installed: dict[str, list[str]] = {}
        self._pins: Pins | None = None
        self._pins_path = Path()
        self._warned: dict[str, None] = {}
        self._makers: Final[dict[str, tuple[_Maker, tuple[str, ...]]]] = {
            "tools": (self._make_tools, ("tools_allow", "tools_deny")),
            "scan": (self._make_scan, ("scan",)),
            "redact": (self._make_redact, ("redact_wire", "redact_patterns", "redact_keys")),
            "cap": (self._make_cap, ("max_result_kb", "max_result_action", "max_result_of")),
            # Last: its maker takes up other pins, and nobody behind it can refuse the options.
            "pins": (self._make_pins, ("pins", "pins_mode", "pins_action")),
        }

    def load(self, loader: Loader) -> None:
        def choice(name: str, text: str) -> None:
            choices = CHOICES[name]
            loader.add_option(f"shadowcat_{name}", str, choices[0], text, choices=choices)

        def listed(name: str, text: str) -> None:
            loader.add_option(f"shadowcat_{name}", Sequence[str], [], text)

        choice("redact_wire", "Mask well-known secrets in messages, on their way to whom.")
        listed("redact_patterns", "Further secrets to mask, as regular expressions (a group masks the group alone).")
        listed("redact_keys", "Members whose values are masked: a name, or a JSON Pointer from /params or /result.")
        listed("tools_allow", "Globs of the tools that may be called and are listed; empty: all that are not denied.")
        listed("tools_deny", "Globs of tools that may not be called and are not listed.")
        loader.add_option("shadowcat_pins", str, "", "Pin the tools' definitions in this file; empty: off.")
        choice("pins_mode", "Pin the tools of servers met for the first time, or (locked) pin nothing unasked.")
        choice("pins_action", "Tell of tools that differ from their pins, or also hide and refuse them.")
        choice("scan", "Look for hidden text in what servers say: tell, take it out, or block the message.")
        loader.add_option("shadowcat_max_result_kb", int, 0, "Largest result that passes, in KB; 0: any.")
        choice("max_result_action", "Replace a result that is too large by an error, or cut a tool's text.")
        choice("max_result_of", "Cap the results of tool calls, or all results.")
        loader.add_command("shadowcat.pins", self.pins)
        loader.add_command("shadowcat.pins.accept", self.accept)

    def configure(self, _updated: AbstractSet[str]) -> None:
        changed: dict[str, list[_Guard]] = {}
        settings = {
            guard: tuple(str(_option(name)) for name in options) for guard, (_, options) in self._makers.items()
        }
        # All are made before any is changed: an option that makes no sense leaves everything as it was.
        for guard, (make, _) in self._makers.items():
            if settings[guard] != self._settings.get(guard):
                changed[guard] = make()
        for guard, made in changed.items():
            self._install(guard, made)
        self._settings = settings

    def done(self) -> None:
        for guard in list(self._installed):
            self._install(guard, [])

    def pins(self) -> Sequence[str]:
        """Say how many tools of each server are pinned, and which differ from their pins."""
        if self._pins is None:
            return ["nothing is pinned (set shadowcat_pins to a file)"]
        lines = [f"{self._pins_path}: {len(self._pins)} tools"]
        for server, counts in self._pins.summary().items():
            lines.append(f"{server}: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
            lines += [f"  {shortened(tool)}: {why}" for other, tool, why in self._pins.departures() if other == server]
        return lines

    def accept(self, server: str, tool: str) -> str:
        """Pin the definitions that were found of a server's tool, or of all its tools (*)."""
        if self._pins is None:
            raise exceptions.CommandError("nothing is pinned (set shadowcat_pins to a file)")
        accepted = self._pins.accept(server, tool)
        if not accepted:
            raise exceptions.CommandError(f"no tool {tool} of {server} differs from its pin (see shadowcat.pins)")
        _write(self._pins, self._pins_path)
        return f"accepted {', '.join(map(shortened, accepted))} of {server}"

    def _install(self, guard: str, made: Sequence[_Guard]) -> None:
        for name in self._installed.pop(guard, ()):
            self._pipeline.remove(name)
        for each in made:
            self._pipeline.add(each.interceptor, name=each.name, priority=each.priority, mode=each.mode)
        if made:
            self._installed[guard] = [each.name for each in made]

    def _make_redact(self) -> list[_Guard]:
        where, keys = _option("redact_wire"), _option("redact_keys")
        try:
            own = [own_pattern(text, number) for number, text in enumerate(_option("redact_patterns"), 1)]
        except ValueError as exc:
            raise exceptions.OptionsError(f"shadowcat_redact_patterns: {exc}") from exc
        try:
            redactor = Redactor(
                (*WELL_KNOWN, *own),
                names=[key for key in keys if not key.startswith("/")],
                pointers=[key for key in keys if key.startswith("/")],
            )
        except ValueError as exc:
            raise exceptions.OptionsError(f"shadowcat_redact_keys: {exc}") from exc
        if where == "off":
            return []
        return [_Guard("guard-redact", RedactMessages(redactor, DIRECTIONS[where]), PRIORITIES["redact"])]

    def _make_tools(self) -> list[_Guard]:
        allow, deny = _option("tools_allow"), _option("tools_deny")
        try:
            policy = ToolPolicy(allow, deny)
        except ValueError as exc:
            raise exceptions.OptionsError(f"shadowcat_tools_allow, shadowcat_tools_deny: {exc}") from exc
        if not allow and not deny:
            return []
        return [
            _Guard("guard-tools-refuse", RefuseCalls(policy), PRIORITIES["tools"]),
            _Guard("guard-tools-hide", HideTools(policy), PRIORITIES["tools"]),
        ]

    def _make_pins(self) -> list[_Guard]:
        path = Path(_option("pins")).expanduser().resolve()
        if not _option("pins"):
            self._pins = None
            return []
        try:
            pins = Pins.parse(path.read_bytes()) if path.exists() else Pins()
            if not path.parent.is_dir():
                raise FileNotFoundError(f"there is no directory {path.parent}")
        except (OSError, PinsError) as exc:
            raise exceptions.OptionsError(f"shadowcat_pins: {path}: {exc}") from exc
        self._pins, self._pins_path = pins, path
        drift = Drift(
            pins, locked=_option("pins_mode") == "locked", on_change=partial(_write, pins, path), on_drift=self._warn
        )
        mode = Mode.ENFORCE if _option("pins_action") == "block" else Mode.AUDIT
        return [
            _Guard("guard-pins-refuse", RefuseDrifted(drift), PRIORITIES["pins"], mode),
            _Guard("guard-pins-watch", WatchToolLists(drift), PRIORITIES["pins"], mode),
        ]

    def _make_scan(self) -> list[_Guard]:
        if (chosen := _option("scan")) == "off":
            return []
        action = ScanAction(chosen)
        mode = Mode.AUDIT if action is ScanAction.WARN else Mode.ENFORCE
        return [_Guard("guard-scan", ScanTexts(action, self._warn), PRIORITIES["scan"], mode)]

    def _make_cap(self) -> list[_Guard]:
        max_kb = _option("max_result_kb")
        if max_kb < 0:
            raise exceptions.OptionsError("shadowcat_max_result_kb must be at least 0 (0: no cap)")
        if not max_kb:
            return []
        every = _option("max_result_of") == "all"
        cap = CapResults(max_kb * KiB, Excess(_option("max_result_action")), every=every)
        return [_Guard("guard-cap", cap, PRIORITIES["cap"])]

    def _warn(self, text: str) -> None:
        """Log a warning, unless it was given before: a server says the same again and again."""
        if text in self._warned:
            return
        if len(self._warned) >= MAX_WARNINGS:
            del self._warned[next(iter(self._warned))]
        self._warned[text] = None
        logger.warning("shadowcat: %s", text)


def _write(pins: Pins, path: Path) -> None:
    """Write the pins, whole or not at all. Rare and small, so it is not put off to a thread."""
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(pins.dump())
            Path(draft).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(draft).unlink()
            raise
    except OSError as exc:
        logger.error("shadowcat: the pins cannot be written to %s: %s (they hold until the end)", path, exc)


def _option(name: str) -> Any:
    value = getattr(ctx.options, f"shadowcat_{name}")
    if value not in CHOICES.get(name, (value,)):
        raise exceptions.OptionsError(f"shadowcat_{name} must be one of {', '.join(CHOICES[name])}, not {value}")
    return value
