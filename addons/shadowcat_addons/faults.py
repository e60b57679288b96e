"""Breaks MCP on purpose: named toxics on messages, streams and requests, set by an option and by commands.

What a toxic is and does is said by `shadowcat_core.interceptors.faults`; here it meets mitmproxy's flows. Without
toxics nothing of this is on anybody's path.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader

from shadowcat_core.errors import BadToxic
from shadowcat_core.exchange import Exchange
from shadowcat_core.interceptors import Pipeline
from shadowcat_core.interceptors.faults import (
    Answer,
    Asked,
    Body,
    FaultOutlet,
    HeaderEdit,
    Rack,
    parse_toxic,
)
from shadowcat_core.mcp import Direction, HeaderFields, RecognitionKind, is_event_stream
from shadowcat_core.outlet import Send, Step

type OnFault = Callable[[Exchange, str, str], None]
"""Takes an exchange, who broke it (`fault:NAME`), and what was done in words."""


class Faults:
    """Keeps the rack of toxics, and brings it to exchanges."""

    def __init__(self, pipeline: Pipeline, on_fault: OnFault) -> None:
        """Make a room without toxics.

        Args:
            pipeline: judges messages, and records what toxics do to them.
            on_fault: told of what toxics do beside it, once for each toxic and exchange.
        """
        self._on_fault = on_fault
        self._rack = Rack(pipeline, self._note)
        self._settings: tuple[Sequence[str], int] = ([], 0)
        self._from_option: list[str] = []
        self._running: dict[int, tuple[Exchange, http.HTTPFlow]] = {}

    def load(self, loader: Loader) -> None:
        loader.add_option(
            "shadowcat_faults",
            Sequence[str],
            [],
            "Toxics that break MCP on purpose, such as latency:ms=200,method=tools/call (docs/faults.md has them all).",
        )
        loader.add_option("shadowcat_faults_seed", int, 0, "Seed of what toxics leave to chance: the same, the same.")
        loader.add_command("shadowcat.faults", self.faults)
        loader.add_command("shadowcat.faults.add", self.add)
        loader.add_command("shadowcat.faults.remove", self.remove)
        loader.add_command("shadowcat.faults.clear", self.clear)

    def configure(self, _updated: AbstractSet[str]) -> None:
        specs, seed = settings = ctx.options.shadowcat_faults, ctx.options.shadowcat_faults_seed
        if settings == self._settings:  # mitmproxy also calls for options that were set to what they were
            return
        try:
            toxics = [parse_toxic(spec) for spec in specs]
            self._from_option = self._rack.swap(self._from_option, toxics, seed=seed)
        except BadToxic as exc:
            raise exceptions.OptionsError(f"shadowcat_faults: {exc}") from exc
        self._settings = settings
        self._reach_running()

    def done(self) -> None:
        self.clear()
        self._settings = ([], 0)

    def faults(self) -> str:
        """List the toxics in force, and how many each was shown and took."""
        return (
            "\n".join(
                f"{one.name}: {one.text}; {one.tally.matched} matched, {one.tally.taken} taken"
                for one in self._rack.listed
            )
            or "no toxics (add one with shadowcat.faults.add)"
        )

    def add(self, spec: str) -> str:
        """Put a toxic in force, such as latency:ms=200; running streams included. Gives its name."""
        try:
            name = self._rack.add(spec)
        except BadToxic as exc:
            raise exceptions.CommandError(str(exc)) from exc
        self._reach_running()
        return name

    def remove(self, name: str) -> None:
        """Put a toxic out of force, by its name."""
        try:
            self._rack.remove(name)
        except BadToxic as exc:
            raise exceptions.CommandError(str(exc)) from exc
        if name in self._from_option:
            self._from_option.remove(name)

    def clear(self) -> None:
        """Put all toxics out of force."""
        self._rack.clear()
        self._from_option = []

    def opened(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        self._running[exchange.number] = (exchange, flow)
        if len(self._rack):
            self._rack.open(exchange.number, flow.request.method, list(exchange.asked))

    def asking(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        request = flow.request
        if self._rack.has_streams:
            request.headers["accept-encoding"] = "identity"  # in a coded stream nobody finds an event
        if not self._rack.has_http:
            return
        head = HeaderFields(request.headers.fields)
        for act in self._rack.ask(Asked(exchange.number, request.method, head, list(exchange.asked))):
            match act:
                case Answer(status, body, headers):
                    exchange.answered_by_us = True
                    fields = {"content-type": "application/json", **dict(headers)}
                    flow.response = http.Response.make(status, body, fields)
                case HeaderEdit(name, value):
                    request.headers.pop(name, None)
                    if value is not None:
                        request.headers[name] = value

    def answering(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        response = flow.response
        if not self._rack.has_streams or response is None or exchange.answered_by_us:
            return
        if exchange.recognition.kind is RecognitionKind.MAYBE_STREAM:
            exchange.outlet = _OnceKnown(exchange, lambda: self._outlet(exchange, flow))
            return
        outlet = self._outlet(exchange, flow)
        if outlet is None:
            return
        exchange.outlet = outlet
        if is_event_stream(response.headers.get("content-type")):
            response.headers.pop("content-length", None)  # faults of events may change it
        if outlet.begin() is not None:
            flow.kill()

    def ended(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        self._running.pop(exchange.number, None)
        self._rack.close(exchange.number)

    def _note(self, exchange_number: int, toxic: str, text: str) -> None:
        """Say what a toxic did beside the pipeline: once on the tape, and in the exchange's comment how often."""
        if exchange_number not in self._running:
            return
        exchange, _ = self._running[exchange_number]
        by = f"fault:{toxic}"
        broken = f"broken by {by}"
        exchange.deeds[broken] += 1
        if exchange.deeds[broken] == 1:
            self._on_fault(exchange, by, f"fault {toxic}: {text}")

    def _reach_running(self) -> None:
        """Give the streams that run without an outlet one, where new toxics have to do with them."""
        if not self._rack.has_streams:
            return
        for exchange, flow in self._running.values():
            if exchange.tap is not None and exchange.outlet is None and flow.response is not None:
                exchange.outlet = self._outlet(exchange, flow)

    def _outlet(self, exchange: Exchange, flow: http.HTTPFlow) -> FaultOutlet | None:
        """Make the outlet of an exchange that is MCP; None when no toxic has to do with it."""
        if not _is_known(exchange) or flow.response is None:
            return None
        headers = flow.response.headers
        coded = headers.get("content-encoding", "identity").lower() != "identity"
        return self._rack.outlet(
            Body(
                exchange.number,
                flow.request.method,
                is_event_stream(headers.get("content-type")) and not coded,
                exchange.context(Direction.SERVER_TO_CLIENT),
                list(exchange.asked),
            )
        )


class _OnceKnown:
    """The outlet of a stream that may be MCP: lets it pass until its first event has told, and is another's then."""

    def __init__(self, exchange: Exchange, outlet: Callable[[], FaultOutlet | None]) -> None:
        self._exchange = exchange
        self._outlet = outlet

    def send(self, data: bytes) -> Iterable[Step]:
        if _is_known(self._exchange):
            self._exchange.outlet = self._outlet()
        return (Send(data),)

    def end(self) -> Iterable[Step]:
        return ()


def _is_known(exchange: Exchange) -> bool:
    recognition = exchange.recognition
    return recognition.is_mcp and recognition.kind is not RecognitionKind.MAYBE_STREAM
