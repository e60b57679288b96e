"""Real mitmproxy programs with our addon or without it, each with a port and a certificate authority of its own."""

import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.processes import ChildProcess, free_port

ROOT = Path(__file__).parent.parent.parent
SHADOWCAT = ROOT / "addons" / "shadowcat.py"
SCRIPTS = Path(__file__).parent / "scripts"
STREAM_ALL = SCRIPTS / "stream_all.py"
IMPATIENT = SCRIPTS / "impatient.py"
PROGRAMS = Path(sys.executable).parent

STARTED = SCRIPTS / "started.py"
"""The last script of every proxy."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: where it listens and which authority its certificates come from."""

    process: ChildProcess
    confdir: Path
    web_url: str | None = None

    @property
    def port(self) -> int:
        return self.process.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.confdir / "mitmproxy-ca-cert.pem"

    def tls_context(self) -> ssl.SSLContext:
        """A client's view of the world in which only this proxy's authority is trusted."""
        return ssl.create_default_context(cafile=self.ca_file)


def wait_started(process: ChildProcess, confdir: Path) -> ChildProcess:
    """Block until all addons of a mitmproxy run: it listens before, and only then decides whether an error ends it."""
    mark = confdir / f"started-{process.pid}"
    return process.wait_until(mark.exists, "has not started")


class Proxies:
    """Starts proxies on demand; the same wish gets the same process, and all end together."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._started: dict[tuple[object, ...], Proxy] = {}

    def shadowcat(self, mode: str, *before: Path, **options: str) -> Proxy:
        """mitmdump with our addon, after the scripts `before`. `options` are mitmproxy's `--set` options."""
        return self._get("mitmdump", mode, (*before, SHADOWCAT), options)

    def stock(self, mode: str, *scripts: Path, **options: str) -> Proxy:
        """mitmdump without our addon."""
        return self._get("mitmdump", mode, scripts, options)

    def web(self, mode: str, **options: str) -> Proxy:
        """mitmweb with our addon, its page at `web_url` (the token is in it)."""
        return self._get("mitmweb", mode, (SHADOWCAT,), options)

    def _get(self, program: str, mode: str, scripts: tuple[Path, ...], options: Mapping[str, str]) -> Proxy:
        wish = (program, mode, scripts, *sorted(options.items()))
        if wish not in self._started:
            self._started[wish] = self._start(program, mode, scripts, options)
        return self._started[wish]

    def _start(self, program: str, mode: str, scripts: tuple[Path, ...], options: Mapping[str, str]) -> Proxy:
        port = free_port()
        confdir = self._folder / f"{program}-{port}"
        confdir.mkdir()
        settings = dict(options) | {"confdir": str(confdir)}
        argv: list[str | Path] = [PROGRAMS / program, "--listen-host", "127.0.0.1", "-p", str(port), "--mode", mode]
        web_url = None
        if program == "mitmweb":
            web_port, token = free_port(), "a-token-for-this-test"
            settings |= {"web_host": "127.0.0.1", "web_port": str(web_port), "web_password": token}
            settings |= {"web_open_browser": "false"}
            web_url = f"http://127.0.0.1:{web_port}/?token={token}"
        for script in (*scripts, STARTED):
            argv += ["-s", script]
        for name, value in settings.items():
            argv += ["--set", f"{name}={value}"]
        process = ChildProcess(f"{program} {mode}", argv, port=port, log=confdir / "log.txt")
        return Proxy(wait_started(process, confdir), confdir, web_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for proxy in self._started.values():
            proxy.process.stop()
