"""What upstreams and sessions add to a tool call through real mitmdump processes, and what finding a session takes.

    python -m benches.bench_relay

One origin, and these ways to it: none between, mitmproxy without any script, mitmproxy with the one line that lets
event streams pass (`stream_events.py`), the suite, the suite that leads requests to an upstream in sessions kept in
memory, and the same with sessions in Redis. Each has one client on a kept-alive connection that has begun a session,
and calls a tool that is answered with JSON, or with an event stream whose only event is the result, as the SDKs'
servers do unless told otherwise. What is added to the former is measured from mitmproxy without a script, and to the
latter from the one that streams. Ways take turns in rounds, and what is added is taken within a round.

Round trips are wall time; processor time is that of the proxy's event loop, from the kernel's scheduler (Linux).
`bench_proxy` has the suite's other costs, `bench_sessions` each verb of each store and the memory of a session.
"""

import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from operator import sub
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

from benches.bench_proxy import Rounds, share, turns, used_ns
from benches.bench_sessions import REQUEST, RESULT, SESSIONS
from benches.figures import Figure
from benches.load_client import Client
from benches.load_origin import SESSION_ID
from benches.proxies import ORIGIN, PLAIN, QUIET, STREAM_EVENTS, Variant
from benches.report import machine, number, print_figures
from shadowcat_core.sessions import CredentialBinder, Handshake, MemoryStore, SessionMapping, Upstream
from shadowcat_core.sessions.lifecycle import Answer, Headers
from shadowcat_core.sessions.manager import SessionManager
from tests.e2e.processes import ChildProcess, free_port
from tests.e2e.proxies import Proxies
from tests.store_contract.redis_server import RedisServer, missing

BARE, SUITE, IN_MEMORY, IN_REDIS = "mitmproxy", "suite", "upstreams, memory", "upstreams, Redis"
P95_BUDGET_PERCENT = 5.0
USE_BUDGET_US = 100.0
VERSION = "2025-11-25"
TOKEN = "Bearer eyJhbGciOiJSUzI1NiJ9." + "x" * 600
"""As long as an access token is."""

type Measures = dict[str, Rounds]
type Calls = Callable[[Client, int], list[float]]

KINDS: dict[str, tuple[Calls, str]] = {"JSON": (Client.calls, BARE), "stream": (Client.streamed_calls, PLAIN)}
"""How a tool is called, and the peer of those calls."""


class Ways:
    """The origin and every way to it, started together and ended together."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._folder = folder
        self.all: dict[str, Variant] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        port = free_port()
        argv = [sys.executable, "-m", "benches.load_origin", str(port)]
        origin = ChildProcess("load origin", argv, port=port, log=self._folder / "origin.log")
        stack.enter_context(origin).wait_listening()
        proxies = stack.enter_context(Proxies(self._folder))
        mode = f"reverse:http://127.0.0.1:{port}"

        def led(store: str) -> str:
            file = self._folder / f"{store.partition(':')[0]}.yaml"
            upstream = f"{{name: load, url: 'http://127.0.0.1:{port}/mcp'}}"
            file.write_text(f"sessions: {{store: '{store}'}}\nroutes: [{{upstreams: [{upstream}]}}]\n")
            return str(file)

        started = {
            BARE: proxies.stock(mode, **QUIET),
            PLAIN: proxies.stock(mode, STREAM_EVENTS, **QUIET),
            SUITE: proxies.shadowcat(mode, **QUIET),
            IN_MEMORY: proxies.shadowcat(mode, **QUIET, shadowcat_upstreams=led("memory")),
        }
        if not missing():
            redis = stack.enter_context(RedisServer(self._folder))
            started[IN_REDIS] = proxies.shadowcat(mode, **QUIET, shadowcat_upstreams=led(redis.url))
        self.all = {ORIGIN: Variant(ORIGIN, origin)}
        self.all |= {name: Variant(name, proxy.process) for name, proxy in started.items()}

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def tool_calls(ways: Ways, rounds: int, calls: int) -> Measures:
    """Round trips of both kinds of tool calls on one connection and session for each way."""
    measures: Measures = {}
    with ExitStack() as stack:
        clients = {name: stack.enter_context(Client(way.port)) for name, way in ways.all.items()}
        for name, client in clients.items():
            if (client.begin() == SESSION_ID) is (name in (IN_MEMORY, IN_REDIS)):
                raise RuntimeError(f"{name}: sessions are not what they should be, and figures would mean nothing")
            for call, _ in KINDS.values():
                call(client, calls)
        for kind, (call, _) in KINDS.items():
            p50, p95, cpu = Rounds("µs"), Rounds("µs"), Rounds("µs")
            for way in turns(list(ways.all.values()), rounds):
                found: list[float] = []
                loop_ns, _ = used_ns(way, lambda: found.extend(call(clients[way.name], calls)))  # noqa: B023
                p50.add(way.name, share(found, 0.5))
                p95.add(way.name, share(found, 0.95))
                cpu.add(way.name, loop_ns / calls / 1000)
            measures |= {f"{kind}, p50": p50, f"{kind}, p95": p95, f"{kind}, loop CPU": cpu}
    return measures


def within_rounds(rounds: Rounds, way: str, peer: str, difference: Callable[[float, float], float]) -> float:
    """Compare a way with its peer in each round; the median of all rounds."""
    return statistics.median(map(difference, rounds.found[way], rounds.found[peer]))


def percent(way: float, peer: float) -> float:
    return (way / peer - 1) * 100


def figures_of(measures: Measures) -> list[Figure]:
    figures = []
    for kind, (_, peer) in KINDS.items():
        for way in (SUITE, IN_MEMORY, IN_REDIS):
            if way not in measures[f"{kind}, p50"].found:
                continue
            for part in ("p50", "p95"):
                more = within_rounds(measures[f"{kind}, {part}"], way, peer, percent)
                budget = P95_BUDGET_PERCENT if part == "p95" and way != SUITE else None
                figures.append(Figure(f"{kind}, {part}, {way}, added", more, "%", budget))
            if way != SUITE:
                for part in ("p50", "loop CPU"):
                    more = within_rounds(measures[f"{kind}, {part}"], way, SUITE, sub)
                    figures.append(Figure(f"{kind}, {part}, {way}, beyond the suite", more, "µs"))
    return figures


async def _nobody(_upstream: str, _method: str, _headers: Headers, _body: bytes) -> Answer:
    raise ConnectionError


async def lookups(count: int) -> dict[str, list[float]]:
    """Wall time in µs of `SessionManager.use` among 10,000 sessions, with a token and without."""
    store = MemoryStore()
    manager = SessionManager(store, CredentialBinder(bytes(range(32))), _nobody)
    handshake = Handshake(REQUEST, RESULT)
    ids: dict[str | None, list[str]] = {None: [], TOKEN: []}
    for made in range(SESSIONS):
        token = TOKEN if made % 2 else None
        mapping = await manager.begin(Upstream(f"server-{made % 3}", f"{made:032x}"), handshake, VERSION, token)
        ids[token].append(mapping.session_id)
    rng = random.Random(4)
    found: dict[str, list[float]] = {"use, without a token": [], "use, with a token": []}
    gc.collect()
    for _ in range(count // 100):
        for token, times in zip(ids, found.values(), strict=True):
            for session_id in rng.choices(ids[token], k=100):
                started = time.perf_counter_ns()
                mapping_or_not = await manager.use(session_id, token)
                times.append((time.perf_counter_ns() - started) / 1000)
                if not isinstance(mapping_or_not, SessionMapping):
                    raise RuntimeError("a session was not found")
    await manager.aclose()
    await store.aclose()
    return found


def print_rows(console: Console, title: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
    table = Table(title, *columns)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def main(quick: bool = False) -> list[Figure]:
    """Print what was measured, and the figures with their budgets; `quick` takes fewer rounds."""
    console = Console(width=130)
    console.print(f"Relay: {machine('mitmproxy', 'redis')}")
    if reason := missing():
        console.print(f"without Redis: {reason}")
    with tempfile.TemporaryDirectory() as name, Ways(Path(name)) as ways:
        measures = tool_calls(ways, 6 if quick else 16, 60)
        names = list(ways.all)
    rows = {name: [f"{number(rounds.median(way))} µs" for way in names] for name, rounds in measures.items()}
    print_rows(console, "a tool call, medians", names, rows)
    found = asyncio.run(lookups(4_000 if quick else 20_000))
    rows = {name: [number(share(times, part)) for part in (0.5, 0.95, 0.99)] for name, times in found.items()}
    print_rows(console, f"µs among {SESSIONS:,} sessions", ("p50", "p95", "p99"), rows)
    figures = figures_of(measures)
    figures += [Figure(f"{name}, p99", share(times, 0.99), "µs", USE_BUDGET_US) for name, times in found.items()]
    print_figures(console, "Upstreams and sessions", figures)
    return figures


if __name__ == "__main__":
    main("--quick" in sys.argv)
