"""The test bed: partners that must be there, proxies and origins that start on demand, logs shown on failure."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e import partners
from tests.e2e.authority import Authority
from tests.e2e.origin import Origin
from tests.e2e.origin_h2 import serve_h2
from tests.e2e.processes import LOG_TAIL_CHARS, ChildProcess, free_port
from tests.e2e.proxies import Proxies
from tests.e2e.sdk import Servers


def require(reason: str | None) -> None:
    """Skip with the reason a partner is missing; where partners are required, fail with it."""
    if reason is None:
        return
    if os.environ.get("SHADOWCAT_REQUIRE_PARTNERS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def terminated_as_interrupted() -> Iterator[None]:
    """A run that is told to end takes its children with it, as one that is interrupted at the keyboard does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def sdk1() -> None:
    """The official SDK's 1.x line, in its own environment."""
    require(partners.SDK1.missing())


@pytest.fixture(scope="session")
def npm() -> None:
    """server-everything, the Inspector and the TypeScript SDK."""
    require(partners.NPM.missing())


@pytest.fixture(scope="session")
def chromium() -> None:
    """Chromium and its driver."""
    require(partners.chromium_missing())


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxies]:
    """Proxies of this module, one for each mode and set of options that is asked for."""
    with Proxies(tmp_path_factory.mktemp("proxies")) as started:
        yield started


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Real MCP servers of this module, one of each kind that is asked for."""
    with Servers(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority") / "ca")


@pytest.fixture(scope="module")
def origin_port() -> int:
    """The port of the module's scripted origins, so that one proxy serves many tests."""
    return free_port()


@pytest.fixture
async def origin(origin_port: int) -> AsyncIterator[Origin]:
    """A scripted origin over plain HTTP/1.1."""
    async with Origin(origin_port).listening() as listening:
        yield listening


@pytest.fixture
async def tls_origin(origin_port: int, authority: Authority) -> AsyncIterator[Origin]:
    """A scripted origin over TLS: HTTP/2 for those who offer it."""
    tls = authority.server_context("h2", "http/1.1")
    async with Origin(origin_port, tls=tls, h2=serve_h2).listening() as listening:
        yield listening


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """What the children said belongs to a failure's report."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for child in ChildProcess.running:
            report.sections.append((f"log of {child.name} (pid {child.pid})", child.log[-LOG_TAIL_CHARS:]))


@pytest.fixture(scope="module")
def example_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the example server listens."""
    port = free_port()
    argv = [sys.executable, "-m", "shadowcat_core.demo.server", "--port", str(port)]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with ChildProcess("example server", argv, port=port, log=log) as started:
        started.wait_listening()
        yield f"http://127.0.0.1:{port}"
