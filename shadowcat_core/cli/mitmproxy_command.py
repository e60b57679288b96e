"""The command line that starts one of mitmproxy's programs with the suite loaded."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

from shadowcat_core.cli.group import MissingProgramError
from shadowcat_core.listen_address import ListenAddress

type Program = Literal["mitmweb", "mitmdump"]

DEFAULT_CONFDIR = Path("~/.mitmproxy")


@dataclass(frozen=True, slots=True)
class Upstream:
    """The MCP server behind a reverse proxy."""

    parts: SplitResult

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an http(s) URL. Raises ValueError that says what is wrong."""
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a server is a URL, such as http://127.0.0.1:3001/mcp")
        if parts.username is not None:
            raise ValueError("put credentials into the client's headers, not into the URL")
        _ = parts.port  # raises for a port that is no number
        return cls(parts)

    @property
    def origin(self) -> str:
        return f"{self.parts.scheme}://{self.parts.netloc}"

    def through(self, listen: ListenAddress) -> str:
        """The URL that clients use instead of the server's own: same path and query, the proxy's origin."""
        proxy = urlsplit(listen.origin)
        return urlunsplit((proxy.scheme, proxy.netloc, self.parts.path, self.parts.query, ""))


def find_program(program: Program) -> Path:
    """The program of this Python's environment, else the one on PATH. Raises `MissingProgramError`."""
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(program, path=beside_python) or shutil.which(program)
    if found is None:
        raise MissingProgramError(
            f"{program} is neither beside {sys.executable} nor on PATH; "
            f"run: {sys.executable} -m pip install 'mitmproxy>=12.1,<13'"
        )
    return Path(found)


def addon_script() -> Path:
    """The script that `mitmproxy -s` loads: inside the package when installed, beside it in a checkout."""
    spec = find_spec("shadowcat_addons")
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    for folder in (*places, *(place.parent for place in places)):
        if (script := folder / "shadowcat.py").is_file():
            return script
    raise MissingProgramError(
        f"the addon script is not part of this installation; run: {sys.executable} -m pip install --force-reinstall "
        "shadowcat"
    )


def mitmproxy_command(
    program: Program,
    *,
    listen: ListenAddress,
    upstream: Upstream | None = None,
    tape: Path | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
    extra: Sequence[str] = (),
) -> list[str]:
    """The whole command: without `upstream` a forward proxy; `extra` comes last and has the last word.

    `options` are mitmproxy's own. It refuses one that is set twice, so those that `extra` sets are left to it.
    """
    command = [str(find_program(program)), "-s", str(addon_script())]
    command += ["--listen-host", listen.host, "--listen-port", str(listen.port)]
    if upstream is not None:
        command += ["--mode", f"reverse:{upstream.origin}"]
    if tape is not None:
        options = {**options, "shadowcat_tape": str(tape)}
    chosen = options_in(extra)
    for name, value in options.items():
        if name not in chosen:
            command += ["--set", f"{name}={value}"]
    return [*command, *extra]


def options_in(arguments: Sequence[str]) -> set[str]:
    """The names of the options that mitmproxy's arguments set with `--set`."""
    settings = [after for before, after in pairwise(arguments) if before == "--set"]
    settings += [argument.removeprefix("--set=") for argument in arguments if argument.startswith("--set=")]
    return {setting.partition("=")[0] for setting in settings}


def ca_certificate(extra: Sequence[str]) -> Path:
    """Where mitmproxy keeps the certificate that clients must trust, given its own arguments."""
    confdir = DEFAULT_CONFDIR
    for argument in extra:
        if argument.removeprefix("--set=").startswith("confdir="):
            confdir = Path(argument.partition("confdir=")[2])
    return confdir.expanduser().absolute() / "mitmproxy-ca-cert.pem"
