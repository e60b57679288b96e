"""The house keeps its own rules: floors, file sizes, names, and one room that may touch mitmproxy's internals."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "shadowcat_core"
ADDONS = ROOT / "addons" / "shadowcat_addons"
SEAM = ADDONS / "http_stream"
MAX_LINES = 400

# A module imports only from lower floors; a room (package) may import within itself.
FLOORS = {
    "errors": 0,
    "limits": 0,
    "sse": 1,
    "jsonrpc": 1,
    "content_coding": 1,
    "dedup": 1,
    "histogram": 1,
    "kept_body": 1,
    "listen_address": 1,
    "documents": 2,
    "file_stamp": 2,
    "mcp": 2,
    "messages": 3,
    "correlation": 4,
    "mirroring": 4,
    "filter_words": 4,
    "framing": 4,
    "outlet": 4,
    "interceptors": 5,
    "stream": 6,
    "waiting": 6,
    "exchange": 7,
    "tape": 5,
    "sessions": 5,
    "resumption": 6,
    "upstreams": 5,
    "streaming": 8,
    "summary": 8,
    "relay": 8,
    "transcript": 4,
    "demo": 9,
    "metrics": 9,
    "cli": 10,
}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc"}


def python_files(*roots: Path) -> Iterator[Path]:
    for root in roots:
        yield from sorted(root.rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)


def room(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


@pytest.mark.parametrize("path", list(python_files(CORE)), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_core_module_imports_only_from_lower_floors(path: Path):
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in FLOORS, f"{own} has no floor: give it one in this test and in docs/architecture.md"
    for module in imported_modules(path):
        assert not module.startswith(("mitmproxy", "shadowcat_addons")), f"{path} imports {module}"
        if module.startswith("shadowcat_core."):
            other = room(module)
            allowed = other == own or other == "__version__" or FLOORS[other] < FLOORS[own]
            assert allowed, f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS.get(other)})"


def test_addon_files_meet_only_in_the_suite():
    for path in python_files(ADDONS):
        if path.name == "suite.py":
            continue
        for module in imported_modules(path):
            own = path.parent == SEAM and module.startswith("shadowcat_addons.http_stream")
            assert own or not module.startswith("shadowcat_addons"), f"{path.name} imports {module}"


def test_one_room_touches_mitmproxys_internals():
    internals = {
        path.parent
        for path in python_files(ADDONS)
        if any(module.startswith("mitmproxy.proxy.layers") for module in imported_modules(path))
    }
    assert internals <= {SEAM}


def test_files_are_short_and_their_names_say_something():
    for path in python_files(CORE, ROOT / "addons", ROOT / "tests", ROOT / "benches", ROOT / "examples"):
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines; one room, one job"
        assert path.stem not in FORBIDDEN_NAMES, f"{path.relative_to(ROOT)} says nothing"


def test_every_module_says_its_job_in_its_first_line():
    for path in python_files(CORE, ROOT / "addons"):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, f"{path.relative_to(ROOT)} has no docstring"
