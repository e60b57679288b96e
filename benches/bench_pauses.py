"""For how long a full garbage collection stops all streams of a proxy.

    python -m benches.bench_pauses

Python does one whenever what has lived for a while has grown by a quarter. It looks through all objects that may refer
to others, and nothing moves meanwhile. Asked for here by a script (`collect.py`), after tool calls, in real mitmdump
processes that take turns: without the suite, with it, and with it and upstreams. Wall time.
"""

import statistics
import sys
import tempfile
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches.bench_proxy import Rounds, turns
from benches.collect import COLLECT, TOOK
from benches.figures import Figure
from benches.load_client import Client
from benches.proxies import PLAIN, QUIET, STREAM_EVENTS, Variant
from benches.report import machine, number, print_figures
from tests.e2e.processes import ChildProcess, free_port
from tests.e2e.proxies import SHADOWCAT, Proxies

SUITE, LED = "suite", "upstreams, memory"
SCRIPT = Path(__file__).parent / "collect.py"
MOST_OF_PLAIN_PERCENT = 20.0


def started(stack: ExitStack, folder: Path) -> list[Variant]:
    port = free_port()
    argv = [sys.executable, "-m", "benches.load_origin", str(port)]
    stack.enter_context(ChildProcess("load origin", argv, port=port, log=folder / "origin.log")).wait_listening()
    proxies = stack.enter_context(Proxies(folder))
    mode = f"reverse:http://127.0.0.1:{port}"
    file = folder / "upstreams.yaml"
    file.write_text(f"routes: [{{path: /mcp, upstreams: [{{name: load, url: 'http://127.0.0.1:{port}/mcp'}}]}}]\n")
    ways = {
        PLAIN: proxies.stock(mode, STREAM_EVENTS, SCRIPT, **QUIET),
        SUITE: proxies.stock(mode, SCRIPT, SHADOWCAT, **QUIET),
        LED: proxies.stock(mode, SCRIPT, SHADOWCAT, **QUIET, shadowcat_upstreams=str(file)),
    }
    return [Variant(name, proxy.process) for name, proxy in ways.items()]


def pause_ms(way: Variant) -> float:
    """Have the proxy collect."""
    connection = HTTPConnection("127.0.0.1", way.port, timeout=30)
    connection.request("GET", COLLECT)
    took = connection.getresponse().getheader(TOOK)
    connection.close()
    if took is None:
        raise RuntimeError(f"{way.name} did not collect")
    return int(took) / 1e6


def main(quick: bool = False) -> list[Figure]:
    rounds, calls = (5, 100) if quick else (15, 200)
    pauses = Rounds("ms")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ways = started(stack, Path(folder))
        clients = {way.name: stack.enter_context(Client(way.port)) for way in ways}
        for client in clients.values():
            client.begin()
        for way in turns(ways, rounds):
            clients[way.name].streamed_calls(calls)
            pauses.add(way.name, pause_ms(way))
    table = Table(f"a full collection after {calls} tool calls, ms", "median", "longest", title=machine("mitmproxy"))
    for name, found in pauses.found.items():
        table.add_row(name, number(statistics.median(found)), number(max(found)))
    console = Console()
    console.print(table)
    shares = {
        name: statistics.median(100 * a / b for a, b in zip(pauses.found[name], pauses.found[PLAIN], strict=True))
        for name in (SUITE, LED)
    }
    figures = [
        Figure(f"full collection, {name}, of that without", share, "%", MOST_OF_PLAIN_PERCENT)
        for name, share in shares.items()
    ]
    print_figures(console, "Pauses", figures)
    return figures


if __name__ == "__main__":
    main()
