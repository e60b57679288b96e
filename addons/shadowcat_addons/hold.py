"""Holds messages for a person (option `shadowcat_hold`), who sees and decides about them where flows are shown.

A held message shows as mitmproxy's own intercepted flow: marked, with the message in the body that can be edited, and
released by mitmproxy's own resume. `shadowcat.held` lists them, and `shadowcat.release`, `.edit`, `.drop` and `.answer`
decide. Off, it is not in the pipeline.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.log import ALERT
from mitmproxy.tools.dump import DumpMaster

from shadowcat_core import sse
from shadowcat_core.errors import ShadowcatError
from shadowcat_core.exchange import Exchange
from shadowcat_core.filter_words import split_words
from shadowcat_core.interceptors import Block, Continue, Pause, Pipeline, Verdict
from shadowcat_core.interceptors.held_text import compact, indented
from shadowcat_core.interceptors.holding import HeldMessage, HeldMessages
from shadowcat_core.interceptors.holding import Hold as HoldInterceptor
from shadowcat_core.jsonrpc import Json
from shadowcat_core.kept_body import TIMES_KEY
from shadowcat_core.mcp import Direction, is_event_stream
from shadowcat_core.messages import Message
from shadowcat_core.transcript import headline, title

logger = logging.getLogger(__name__)

NAME = "hold"
PRIORITY = 1_000
"""Behind all others: a person sees what would go on."""
NOTHING = ("-dir:*",)
"""Words that describe no message."""
MARK = ":raised_hand:"
LOOK_S = 0.1
"""mitmproxy tells nobody that a flow was resumed or killed, so those with a held message are looked at so often."""

OUTCOMES: dict[str, Verdict] = {"release": Continue(), "block": Block("nobody decided in time")}

type Find = Callable[[str], tuple[Exchange, http.HTTPFlow] | None]
"""Finds the running exchange of a message's `stream_id`, and its flow."""


class Hold:
    """The messages that are held, on their flows and in commands."""

    def __init__(
        self,
        pipeline: Pipeline,
        find: Find,
        show: Callable[[Exchange], None],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Make a hold that is off. `show` is called when something about an exchange is to be seen anew."""
        self._pipeline = pipeline
        self._find = find
        self._show = show
        self._held = HeldMessages(clock_ns, on_held=self._begin, on_over=self._end, on_full=self._say_full)
        self._settings: tuple[str, int, str] = ("", 0, "")
        self._interceptor: HoldInterceptor | None = None
        self._shown: dict[int, _Shown] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._said_full = False

    def hold(self, message: Message, timeout_s: float | None, on_timeout: Verdict) -> Pause:
        """Hold a message because somebody else says so, such as a rule that pauses it."""
        return self._held.hold(message, timeout_s, on_timeout)

    @property
    def count(self) -> int:
        """How many messages are held."""
        return len(self._held)

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_hold",
            str,
            "",
            "Hold the messages that these words describe until somebody decides, such as method:tools/call "
            "target:delete_* kind:request. Empty: none.",
        )
        loader.add_option(
            "shadowcat_hold_timeout_s", int, 0, "Hold a message for so many seconds at most; 0: until somebody decides."
        )
        loader.add_option(
            "shadowcat_hold_on_timeout",
            str,
            "release",
            "What becomes of a held message after that time.",
            choices=tuple(OUTCOMES),
        )
        loader.add_command("shadowcat.held", self.held)
        loader.add_command("shadowcat.held.json", self.held_json)
        loader.add_command("shadowcat.release", self.release)
        loader.add_command("shadowcat.edit", self.edit)
        loader.add_command("shadowcat.drop", self.drop)
        loader.add_command("shadowcat.answer", self.answer)

    def configure(self, _updated: AbstractSet[str]) -> None:
        options = ctx.options
        settings = (options.shadowcat_hold, options.shadowcat_hold_timeout_s, options.shadowcat_hold_on_timeout)
        if settings == self._settings:  # mitmproxy also calls for options that were set to what they were
            return
        text, timeout_s, outcome = settings
        if timeout_s < 0:
            raise exceptions.OptionsError("shadowcat_hold_timeout_s must be 0 or more")
        try:
            words = split_words(text)
            interceptor = HoldInterceptor(
                self._held, words or NOTHING, timeout_s=timeout_s or None, on_timeout=OUTCOMES[outcome]
            )
        except ValueError as exc:
            raise exceptions.OptionsError(f"shadowcat_hold: {exc}") from exc
        except KeyError as exc:
            raise exceptions.OptionsError(f"shadowcat_hold_on_timeout: {outcome!r} is not {_either()}") from exc
        self._settings = settings
        if self._interceptor is not None:
            self._interceptor.heir = interceptor
        self._interceptor = interceptor
        if not words:
            self._leave_pipeline()
        elif self._is_on:
            self._pipeline.replace(NAME, interceptor)
        else:
            self._pipeline.add(interceptor, name=NAME, priority=PRIORITY)
        if words and not timeout_s and isinstance(ctx.master, DumpMaster):
            logger.warning(
                "shadowcat: in mitmdump only a script can decide about held messages; shadowcat_hold_timeout_s limits "
                "how long they wait"
            )

    def done(self) -> None:
        self._leave_pipeline()
        self._held.close()

    def opened(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Nothing is held yet."""

    def answering(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Nothing is held for a head."""

    def ended(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        for shown in [*self._shown.values()]:
            if shown.exchange is exchange:
                self._held.give_up(shown.held, "the exchange ended while this was held")

    def held(self) -> Sequence[str]:
        """List the messages that are held, the oldest first: number, age, message, and flow."""
        lines = []
        for held in self._held:
            message = held.message
            request = message.request
            what = headline(message, answers=None if request is None else title(request))
            shown = self._shown.get(held.number)
            where = "" if shown is None else f" | flow {shown.flow.id}"
            lines.append(f"{held.number} | {self._held.age_s(held):.0f} s | {message.kind} {what}{where}")
        # mitmproxy's console cannot show a list without anything in it.
        return lines or (["nothing is held"] if "console_layout" in ctx.options else [])

    def held_json(self) -> str:
        """Give the messages that are held to a program, the oldest first: a JSON array of objects."""
        return json.dumps([self._about(held) for held in self._held])

    def release(self, which: str) -> str:
        """Let a held message go on, by its number, or `all`: as it is, or as it was edited on its flow."""
        if which != "all":
            return self._told("released", lambda: self._go_on(_number(which)))
        refused = []
        count = len(self._held)
        for held in self._held:
            try:
                self._go_on(held.number)
            except ShadowcatError as exc:
                refused.append(f"; hold {held.number} stays: {exc}")
        return f"released {count - len(refused)}" + "".join(refused)

    def edit(self, number: int, message: str) -> str:
        """Let another message go on in the place of a held one: JSON of the same kind and with the same id."""
        return self._told("edited and released", lambda: self._held.edit(number, message.encode()))

    def drop(self, number: int) -> str:
        """Do not let a held message go on; who waits for it gets an error."""
        return self._told("dropped", lambda: self._held.drop(number))

    def answer(self, number: int, result: str) -> str:
        """Answer a held request in the place of its receiver: with a result, or with {"error": {…}}."""
        return self._told("answered", lambda: self._held.answer(number, result.encode()))

    def _about(self, held: HeldMessage) -> dict[str, Json]:
        message = held.message
        asked = message.request or message
        found = self._find(message.stream_id or "")
        return {
            "number": held.number,
            "age_s": round(self._held.age_s(held), 3),
            "name": held.name,
            "kind": message.kind,
            "direction": message.direction,
            "method": asked.method,
            "target": asked.target,
            "session": message.session_id,
            "flow": None if found is None else found[1].id,
            "message": message.raw.decode("utf-8", "replace"),
        }

    @property
    def _is_on(self) -> bool:
        return any(stage.settings.name == NAME for stage in self._pipeline.stages)

    def _leave_pipeline(self) -> None:
        if self._is_on:
            self._pipeline.remove(NAME)
            if count := len(self._held):
                waiting = "a message still is" if count == 1 else f"{count} messages still are"
                logger.log(ALERT, "shadowcat: nothing more is held; %s", waiting)

    def _told(self, deed: str, decide: Callable[[], HeldMessage]) -> str:
        try:
            held = decide()
        except ShadowcatError as exc:
            raise exceptions.CommandError(str(exc)) from exc
        return f"{deed}: {held.name} (hold {held.number})"

    def _begin(self, held: HeldMessage) -> None:
        self._said_full = False
        number = held.number
        logger.log(ALERT, "shadowcat: held: %s (hold %d)", held.name, number)
        found = self._find(held.message.stream_id or "")
        if found is None:
            return
        exchange, its_flow = found
        if any(shown.flow is its_flow for shown in self._shown.values()):
            return  # a flow has room for one; the commands have for all
        self._shown[number] = _Shown(held, exchange, its_flow)
        self._show(exchange)
        self._look_soon()

    def _end(self, held: HeldMessage) -> None:
        logger.info("shadowcat: %s: %s (hold %d)", self._held.how_it_ended(held), held.name, held.number)
        shown = self._shown.pop(held.number, None)
        if shown is not None:
            shown.close()
            self._show(shown.exchange)

    def _go_on(self, number: int) -> HeldMessage:
        """Let a message go on as it is on its flow, which is where people edit."""
        shown = self._shown.get(number)
        edited = None if shown is None else shown.edited()
        return self._held.release(number) if edited is None else self._held.edit(number, edited)

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """See what people did to the flows themselves."""
        self._timer = None
        for number, shown in [*self._shown.items()]:
            if not shown.flow.live:
                self._held.give_up(shown.held, "its flow was killed")
            elif not shown.flow.intercepted:
                try:
                    self._go_on(number)
                except ShadowcatError as exc:
                    logger.log(ALERT, "shadowcat: hold %d stays: %s", number, exc)
                    shown.refuse(str(exc))
                    self._show(shown.exchange)
        if self._shown:
            self._look_soon()

    def _say_full(self, _held: HeldMessage) -> None:
        if not self._said_full:
            self._said_full = True
            logger.warning(
                "shadowcat: %d messages are held, which is as many as there may be: more meet the outcome of a "
                "time-out (%s) at once", len(self._held), self._settings[2],
            )  # fmt: skip


class _Shown:
    """A held message on its flow: intercepted, marked, and in the body that people edit.

    JSON is laid out for them, of a stream without the event around it, and goes on without that layout when they edited
    it. What they did not edit goes on byte for byte as it came.
    """

    def __init__(self, held: HeldMessage, exchange: Exchange, its_flow: http.HTTPFlow) -> None:
        self.held = held
        self.exchange = exchange
        self.flow = its_flow
        self._side: Literal["request", "response"] = (
            "request" if held.message.direction is Direction.CLIENT_TO_SERVER else "response"
        )
        self._was_intercepted = its_flow.intercepted
        its_flow.intercept()
        self._marked = its_flow.marked
        its_flow.marked = MARK
        self._times = its_flow.metadata.pop(TIMES_KEY, None)  # of chunks that are not shown for now
        part = self._part()
        self._head = None if part is None else part.headers.copy()
        self._body = None if part is None else part.raw_content
        self._indented = indented(held.message.raw) if held.message.raw.startswith(b"{") else None
        if part is not None and (self._content() or b"").strip() != (text := self._text(part)).strip():
            part.content = text
        self._as_shown = self._content()
        self._say("")

    def edited(self) -> bytes | None:
        """The message that somebody put in the place of the held one; None when nobody did."""
        content = self._content()
        if content is None or content == self._as_shown:
            return None
        content = _in_utf8(content)
        events = [frame for frame in sse.SseParser().feed(content + b"\n\n") if frame.dispatches]
        bare = content.lstrip().startswith(b"{")
        text = content if bare or len(events) != 1 else events[0].data
        return text if self._indented is None else compact(text)

    def refuse(self, why: str) -> None:
        """Keep the message after somebody resumed its flow with an edit that cannot be sent."""
        self.flow.intercept()
        self._say(f": {why}")

    def close(self) -> None:
        """Let the flow be as it was: the message goes on by itself."""
        self.exchange.held = None
        part = self._part()
        if part is not None:
            part.data.content = self._body
            self._restore_head(part)
        if self._times is not None:
            self.flow.metadata[TIMES_KEY] = self._times
        if self.flow.marked == MARK:
            self.flow.marked = self._marked
        if not self._was_intercepted:
            self.flow.resume()

    def _restore_head(self, part: http.Message) -> None:
        """Take back what mitmproxy does to a head when a body is written; what people wrote themselves stays."""
        if self._head is None:
            return
        for name in ("content-length", "content-type"):
            if name in self._head:
                part.headers[name] = self._head[name]
            else:
                part.headers.pop(name, None)

    def _say(self, more: str) -> None:
        self.exchange.held = f"{self.held.name} (hold {self.held.number}){more}"

    def _part(self) -> http.Message | None:
        # Looked up each time: a person who reverts a flow gives it other objects.
        return self.flow.request if self._side == "request" else self.flow.response

    def _content(self) -> bytes | None:
        part = self._part()
        return None if part is None else part.get_content(strict=False)

    def _text(self, part: http.Message) -> bytes:
        raw = self.held.message.raw
        if self._indented is not None:
            return self._indented
        if self._side == "response" and is_event_stream(part.headers.get("content-type")):
            return sse.encode(raw)  # so that the views of streams show it
        return raw


def _in_utf8(content: bytes) -> bytes:
    """Undo that mitmproxy writes edited text in Latin-1 where a head names no charset, as that of a stream."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1").encode()
    return content


def _number(which: str) -> int:
    if not which.isdecimal():
        raise exceptions.CommandError(f"{which!r} is neither the number of a hold nor `all`; shadowcat.held lists them")
    return int(which)


def _either() -> str:
    return " or ".join(OUTCOMES)
