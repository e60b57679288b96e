"""Prints each MCP message as it passes, one line, to the standard output of mitmdump (option `shadowcat_print`).

08:46:13.207 → tools/call #7 echo {"text":"hi"}
08:46:13.219 ← result #7 tools/call echo hi [12 ms]
08:46:14.551 → tools/call #8 delete
08:46:14.552 ! → tools/call #8 delete · blocked by no-deletes: not today

A message is noted when it passes and put into words up to `DELAY_S` later: what waits on the wire goes first, and a
burst costs one write. Switched off, the addon hears of nothing.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple, TextIO

import click
from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

from shadowcat_core.correlation import Call
from shadowcat_core.exchange import Exchange, ExchangeRegistry
from shadowcat_core.interceptors import Action, Mode, VerdictRecord
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.messages import Message, MessageBatch
from shadowcat_core.summary import ended_unsaid, summary
from shadowcat_core.transcript import (
    ARROWS,
    COLOURS,
    deed,
    deed_line,
    duration_text,
    is_failure,
    note_line,
    title,
    words,
)

DELAY_S = 0.02
"""Shorter than a person can notice, long enough for a burst to be written at once."""

CONNECTIONS = logging.getLogger("mitmproxy.proxy.server")
"""Says who connected and disconnected, which is noise between messages."""


type _Paint = Callable[..., str]


class _Line(NamedTuple):
    """What is to be printed, put into words when it is."""

    at_ns: int
    words: Callable[[_Paint], str]


class Console:
    """Watches the registry while the option is on."""

    def __init__(
        self,
        registry: ExchangeRegistry,
        *,
        out: TextIO | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC).astimezone(),
    ) -> None:
        self._registry = registry
        self._out = out
        self._now = now
        self._lines: list[_Line] = []
        self._behind: dict[Exchange, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_print", bool, False, "Print each MCP message as it passes, one line (mitmdump and mitmweb)."
        )

    def configure(self, updated: AbstractSet[str]) -> None:
        if not updated & {"shadowcat_print", "termlog_verbosity"}:
            return
        # The full-screen program `mitmproxy` has options of that name, and a screen that lines would spoil.
        wanted = ctx.options.shadowcat_print and "console_layout" not in ctx.options
        self._watch(wanted=wanted)
        quiet = wanted and ctx.options.termlog_verbosity == "info"
        CONNECTIONS.setLevel(logging.WARNING if quiet else logging.NOTSET)

    def done(self) -> None:
        self._print()
        self._watch(wanted=False)
        CONNECTIONS.setLevel(logging.NOTSET)

    @property
    def _is_on(self) -> bool:
        return self in self._registry.watchers

    def _watch(self, *, wanted: bool) -> None:
        if wanted is not self._is_on:
            (self._registry.watchers.append if wanted else self._registry.watchers.remove)(self)

    def opened(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        if self._is_on:
            # The messages of a stream are seen when its tap catches up: soon after each chunk has passed.
            exchange.passed_sinks.append(lambda _at_ns, _chunk: self._print_soon(exchange))
            self._print_soon(exchange)

    def answering(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Nothing is printed for a head."""

    def ended(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        if self._is_on:
            self._print_soon(exchange)

    def saw(self, exchange: Exchange, batch: MessageBatch, calls: list[Call]) -> None:
        recognition = exchange.recognition
        if not recognition.is_mcp:
            return
        answered = {id(call.answer): call for call in calls if call.answer is not None}
        for message in batch:
            call = answered.get(id(message))
            if recognition.endpoint is not None and message.raw == recognition.endpoint.encode():
                continue  # how a stream of HTTP+SSE begins: no message
            self._lines.append(_Line(message.at_ns, partial(_said, message, call)))
        self._print_soon(exchange)

    def closed(self, exchange: Exchange) -> None:
        if exchange.recognition.is_mcp and ended_unsaid(exchange):
            now_ns = self._registry.clock_ns()
            self._lines.append(_Line(now_ns, partial(_remark, f"· {summary(exchange, now_ns)}", "red")))
            self._print_soon(exchange)

    def judged(self, record: VerdictRecord) -> None:
        """Print what an interceptor did, too."""
        if self._is_on:
            message = Message(record.original or record.result or b"", record.context, at_ns=self._registry.clock_ns())
            # Its request is looked up now: once it is answered nobody knows.
            self._lines.append(_Line(message.at_ns, partial(_done, record, message, message.request)))
            self._print_soon()

    def faulted(self, exchange: Exchange, text: str) -> None:
        """Print a fault that was made, where no verdict tells of it."""
        if self._is_on:
            line = note_line(next(iter(exchange.asked), None), text)
            self._lines.append(_Line(self._registry.clock_ns(), partial(_remark, line, "magenta")))
            self._print_soon(exchange)

    def _print_soon(self, exchange: Exchange | None = None) -> None:
        if exchange is not None:
            self._behind[exchange] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._print)

    def _print(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._registry.catch_up()
        for exchange in list(self._behind):
            if exchange.tap is not None:
                exchange.tap.catch_up()
        # Catching up has added lines; they are printed now, and nothing is behind any more.
        self._behind.clear()
        self._timer = None
        lines, self._lines = self._lines, []
        lines.sort(key=lambda line: line.at_ns)
        out = self._out or sys.stdout
        now, now_ns = self._now(), self._registry.clock_ns()
        paint = _coloured if out.isatty() and not os.environ.get("NO_COLOR") else _plain
        text = "".join(
            f"{paint(_time_of_day(now - timedelta(microseconds=(now_ns - line.at_ns) / 1000)), dim=True)} "
            f"{line.words(paint)}\n"
            for line in lines
        )
        encoding = out.encoding or "utf-8"
        try:
            out.write(text.encode(encoding, "replace").decode(encoding))
            out.flush()
        except OSError:  # whoever read it is gone; the traffic goes on
            self._watch(wanted=False)


def _coloured(text: str, **style: str | bool | None) -> str:
    return click.style(text, **style) if text else ""  # type: ignore[arg-type] # click names each style


def _plain(text: str, **_style: str | bool | None) -> str:
    return text


def _time_of_day(at: datetime) -> str:
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def _remark(text: str, colour: str, paint: _Paint) -> str:
    return paint(text, fg=colour)


def _done(record: VerdictRecord, message: Message, request: Message | None, paint: _Paint) -> str:
    done = deed(record.action, record.interceptor, record.reason, audited=record.mode is Mode.AUDIT)
    changed = record.result if record.action is Action.MODIFY else None
    became = None if changed is None else message.with_raw(changed)
    answers = None if request is None else title(request)
    return paint(deed_line(message, done, answers=answers, became=became), fg="magenta")


def _said(message: Message, answered: Call | None, paint: _Paint) -> str:
    answers = None if answered is None else title(answered.request)
    duration_ns = None if answered is None else answered.duration_ns
    what, number, about, gist = words(message, answers=answers)
    failed = is_failure(message) or message.kind is Kind.INVALID
    colour = "red" if failed else COLOURS[message.kind]
    parts = (
        paint(f"{ARROWS[message.direction]} {what}", fg=colour),
        paint(number, dim=True),
        paint(about, bold=True),
        paint(gist, fg="red" if failed else None),
        "" if duration_ns is None else paint(f"[{duration_text(duration_ns)}]", dim=True),
    )
    return " ".join(part for part in parts if part)
