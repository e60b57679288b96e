"""`shadowcat demo` and `shadowcat dump` as people run them: real processes from end to end."""

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner
from mcp import Client

from shadowcat_core.cli import demo as under_test
from shadowcat_core.cli import main
from shadowcat_core.demo.listener import Heard, Listener, TapeFollower
from shadowcat_core.demo.processes import Cast, Part

SHADOWCAT = [sys.executable, "-m", "shadowcat_core.cli"]
OF_ONE_ERA = {
    "legacy": {"initialize"},
    "modern": {"server/discover", "subscriptions/listen"},
}
IN_BOTH_ERAS = {
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
}
WITHIN_S = 100.0


def demo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*SHADOWCAT, "demo", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def on_tape(tape: Path) -> list[Heard]:
    follower, listener = TapeFollower(tape), Listener()
    return [message for record in follower.poll() for message in listener.hear(record, follower.origin_ns or 0)]


def alive(group: list[int]) -> list[int]:
    return [pid for pid in group if Path(f"/proc/{pid}").exists()]


@pytest.fixture(scope="module")
def performed(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One `shadowcat demo --json`, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("demo")
    return demo("--json", cwd=folder), folder


def test_the_demo_shows_every_call_of_both_eras_and_leaves_a_tape(
    performed: tuple[subprocess.CompletedProcess[str], Path],
):
    result, folder = performed
    assert (result.returncode, result.stderr) == (0, "")
    started, *messages, summary = map(json.loads, result.stdout.splitlines())
    assert started["type"] == "started"
    assert {message["type"] for message in messages} == {"message"}
    for era, own in OF_ONE_ERA.items():
        asked = {m["method"] for m in messages if m["era"] == era and m["kind"] == "request"}
        assert asked == own | IN_BOTH_ERAS
        notified = {m["method"] for m in messages if m["era"] == era and m["kind"] == "notification"}
        assert {"notifications/progress", "notifications/message"} <= notified
        assert any(m["kind"] == "error" for m in messages if m["era"] == era)
        assert any(m["kind"] == "response" and m["failed"] for m in messages if m["era"] == era)
    assert summary["records_missing"] == 0
    assert summary["messages"] == len(messages)

    # What was shown is what is on the tape.
    assert [(m.direction, m.kind, m.id, m.method) for m in on_tape(folder / summary["tape"])] == [
        (m["direction"], m["kind"], m["id"], m["method"]) for m in messages
    ]


def test_the_demo_is_for_people_and_names_its_tape(tmp_path: Path):
    result = demo("--no-color", "--tape", "my tapes", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    (tape,) = (tmp_path / "my tapes").iterdir()
    for words in ("tools/call", "deploy", "p95 ms", "5/5 check", f"my tapes/{tape.name}", "shadowcat tape show"):
        assert words in result.stdout
    assert "\x1b" not in result.stdout


def test_progress_passes_while_the_call_is_still_running(performed: tuple[subprocess.CompletedProcess[str], Path]):
    messages = [json.loads(line) for line in performed[0].stdout.splitlines()][1:-1]
    times = [m["at_ms"] for m in messages if m["stream"] == ["tools/call", "deploy"] and m["era"] == "legacy"]
    # Eight events of a call that takes five steps of 100 ms: held back, they would all come at its end, within a few
    # milliseconds. A busy machine may bring the first ones late.
    assert len(times) == 8
    assert times[-1] - times[0] > 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_no_process_behind(number: signal.Signals, tmp_path: Path):
    cast = Cast(tmp_path)
    # Not measured: an exit that a signal raises while coverage holds its lock is lost there, and the lock never freed.
    for name in [name for name in cast.environment if name.startswith("COVERAGE_PROCESS_")]:
        del cast.environment[name]
    part = cast.start("demo", [*SHADOWCAT, "demo", "--json", "--tape", str(tmp_path / "tapes")])
    part.wait_for_line('"type":"(message)"', WITHIN_S)
    children = Path(f"/proc/{part.process.pid}/task/{part.process.pid}/children").read_text().split()
    assert children
    part.process.send_signal(number)
    assert part.process.wait(WITHIN_S) == 128 + number
    assert alive([int(pid) for pid in children]) == []


def test_a_part_that_fails_is_named_with_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(
        under_test,
        "mitmproxy_command",
        lambda *_args, **_options: [sys.executable, "-c", "raise SystemExit('no port')"],
    )
    result = CliRunner().invoke(main, ["demo", "--tape", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == "no port\nshadowcat: the proxy ended with status 1 before it was ready\n"


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"uvicorn": "0.30.0"}, "mcp is not installed"),
        ({"mcp": "1.30.0", "uvicorn": "0.30.0"}, "mcp 1.30.0 is too old"),
        ({"mcp": "2.3.0"}, "uvicorn is not installed"),
    ],
)
def test_a_demo_without_its_packages_says_how_to_get_them(
    versions: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
):
    def version(package: str) -> str:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(under_test, "version", version)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 127
    assert result.stderr.startswith(f"shadowcat: {said}")
    assert "pip install 'shadowcat[demo]'" in result.stderr


def dump(cast: Cast, *arguments: str) -> tuple[Part, str]:
    """Start `shadowcat dump` on a free port; give it and the address where it listens."""
    part = cast.start("proxy", [*SHADOWCAT, "dump", "--listen", "127.0.0.1:0", *arguments])
    return part, part.wait_for_line(r"listening at (?:http://)?(\S+?)\.?$", WITHIN_S)


@pytest.fixture
def cast(tmp_path: Path):
    with Cast(tmp_path) as cast:
        yield cast


async def test_dump_stands_in_front_of_a_server_and_records(cast: Cast, tmp_path: Path):
    server = cast.start("server", [sys.executable, "-m", "shadowcat_core.demo.server", "--port", "0"])
    upstream = server.wait_for_line(r"listening on (\S+)", WITHIN_S)
    proxy, address = dump(cast, "--upstream", upstream, "--tape", str(tmp_path / "tapes"))
    with anyio.fail_after(WITHIN_S):
        async with Client(f"http://{address}/mcp") as client:
            answer = await client.call_tool("add", {"a": 2, "b": 3})
    assert answer.structured_content == {"result": 5}
    cast.dismiss(proxy)
    assert proxy.process.returncode == 0
    (tape,) = (tmp_path / "tapes").iterdir()
    assert [m.words.gist for m in on_tape(tape) if m.target == "add"] == ['{"a":2,"b":3}', "5"]


def test_mitmproxys_exit_status_is_the_commands_own(cast: Cast, tmp_path: Path):
    script = tmp_path / "leave.py"
    script.write_text("import os; os._exit(7)")
    part = cast.start("proxy", [*SHADOWCAT, "dump", "--listen", "127.0.0.1:0", "--", "-s", str(script)])
    assert part.process.wait(WITHIN_S) == 7


@pytest.mark.parametrize(
    ("command", "extra"),
    [("dump", []), ("web", ["--no-web-open-browser", "--web-host", "127.0.0.1", "--web-port", "0"])],
)
def test_ctrl_c_reaches_mitmproxy_itself(command: str, extra: list[str], cast: Cast):
    part = cast.start("proxy", [*SHADOWCAT, command, "--listen", "127.0.0.1:0", "--", *extra])
    part.wait_for_line(r"proxy (listening) at", WITHIN_S)
    part.process.send_signal(signal.SIGINT)
    assert part.process.wait(WITHIN_S) == 0
