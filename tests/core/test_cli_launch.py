"""`shadowcat web` and `shadowcat dump`: what they start, and what they tell the person."""

import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shadowcat_core.cli import main
from shadowcat_core.cli import mitmproxy_command as under_test
from shadowcat_core.cli.mitmproxy_command import Upstream, addon_script, ca_certificate
from shadowcat_core.listen_address import ListenAddress

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have replaced this process."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, command: commands.append(command))
    return commands


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(("command", "program"), [("web", "mitmweb"), ("dump", "mitmdump")])
def test_the_program_of_the_same_environment_starts_with_the_suite(
    command: str, program: str, started: list[list[str]]
):
    result = run(command)
    assert result.exit_code == 0
    (argv,) = started
    assert argv[0] == str(Path(sys.executable).parent / program)
    assert argv[1:3] == ["-s", str(ROOT / "addons" / "shadowcat.py")]


@pytest.mark.parametrize(
    ("arguments", "contains"),
    [
        ([], ["--listen-host", "127.0.0.1", "--listen-port", "8080"]),
        (["--listen", "0.0.0.0:9000"], ["--listen-host", "0.0.0.0", "--listen-port", "9000"]),
        (["--upstream", "http://127.0.0.1:3001/mcp"], ["--mode", "reverse:http://127.0.0.1:3001"]),
        (["--upstream", "https://mcp.example.com/v1?k=1"], ["--mode", "reverse:https://mcp.example.com"]),
        (["--tape", "my tapes"], ["--set", "shadowcat_tape=my tapes"]),
        (["--metrics", "9464"], ["--set", "shadowcat_metrics=127.0.0.1:9464"]),
        (["--metrics", "[::]:9464"], ["--set", "shadowcat_metrics=[::]:9464"]),
    ],
)
def test_options_become_mitmproxys_own(arguments: list[str], contains: list[str], started: list[list[str]]):
    run("web", *arguments)
    assert contains == [word for word in started[0] if word in contains]


def test_a_forward_proxy_gets_no_mode_and_nothing_is_recorded_unasked(started: list[list[str]]):
    run("web")
    assert not {"--mode", "--set"} & set(started[0])


@pytest.mark.parametrize(
    ("extra", "settings"),
    [
        ([], ["shadowcat_print=true", "flow_detail=0"]),
        (["--set", "other=1", "~u mcp"], ["shadowcat_print=true", "flow_detail=0", "other=1"]),
        (["--set", "flow_detail=2"], ["shadowcat_print=true", "flow_detail=2"]),
        (["--flow-detail", "2"], ["shadowcat_print=true", "flow_detail=0"]),
        (["--set", "shadowcat_print=false"], ["shadowcat_print=false"]),
        (["--set=shadowcat_print=false"], []),
        (["-q"], []),
        (["--quiet"], []),
    ],
)
def test_dump_prints_messages_in_place_of_flows_unless_told_otherwise(
    extra: list[str], settings: list[str], started: list[list[str]]
):
    run("dump", "--", *extra)
    (argv,) = started
    assert [after for before, after in pairwise(argv) if before == "--set"] == settings
    assert argv[len(argv) - len(extra) :] == extra


def test_an_option_that_is_set_after_the_dashes_is_not_set_twice(started: list[list[str]]):
    run("web", "--tape", "ours", "--", "--set", "shadowcat_tape=theirs")
    assert [word for word in started[0] if "shadowcat_tape" in word] == ["shadowcat_tape=theirs"]


def test_everything_after_the_dashes_comes_last_and_unchanged(started: list[list[str]]):
    extra = ["--set", "confdir=/x", "-q", "--", "~u mcp", "--listen", "is not ours"]
    run("dump", "--listen", "127.0.0.1:9000", "--", *extra)
    assert started[0][-len(extra) :] == extra


@pytest.mark.parametrize(
    ("upstream", "listen", "url"),
    [
        ("http://127.0.0.1:3001/mcp", "127.0.0.1:8080", "http://127.0.0.1:8080/mcp"),
        ("https://mcp.example.com", "127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://mcp.example.com/a/b?key=1", "9000", "http://127.0.0.1:9000/a/b?key=1"),
        ("http://[::1]:3001/mcp", "[::1]:8080", "http://[::1]:8080/mcp"),
        ("http://127.0.0.1:3001/mcp", "0.0.0.0:8080", "http://127.0.0.1:8080/mcp"),
        ("http://127.0.0.1:3001/mcp", "[::]:8080", "http://[::1]:8080/mcp"),
        ("http://127.0.0.1:3001/mcp", ":8080", "http://127.0.0.1:8080/mcp"),
    ],
)
def test_the_client_is_told_the_proxys_url_with_the_servers_path(
    upstream: str, listen: str, url: str, started: list[list[str]]
):
    result = run("web", "--upstream", upstream, "--listen", listen)
    assert f"clients use {url} instead of {upstream}\n" in result.stderr
    assert result.stdout == ""


def test_a_forward_proxys_clients_get_lines_to_paste(started: list[list[str]], tmp_path: Path):
    result = run("dump", "--listen", "9000", "--", "--set", f"confdir={tmp_path}")
    certificate = tmp_path / "mitmproxy-ca-cert.pem"
    assert result.stdout == ""
    assert result.stderr.splitlines()[1:] == [
        "export HTTP_PROXY=http://127.0.0.1:9000 HTTPS_PROXY=http://127.0.0.1:9000 NO_PROXY=",
        f"export SSL_CERT_FILE={certificate}",
        f"export NODE_USE_ENV_PROXY=1 NODE_EXTRA_CA_CERTS={certificate}",
    ]


@pytest.mark.parametrize("program", ["web", "dump"])
def test_a_file_of_upstreams_leads_requests(program: str, started: list[list[str]], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sc.yaml").write_text("routes: []")
    result = run(program, "--upstreams", "sc.yaml", "--listen", "9000")
    assert f"shadowcat_upstreams={tmp_path / 'sc.yaml'}" in started[0]
    assert f"clients use http://127.0.0.1:9000 and the paths of the routes in {tmp_path / 'sc.yaml'}\n" in result.stderr


def test_an_address_of_metrics_that_is_none_is_said_before_anything_starts(started: list[list[str]]):
    result = run("dump", "--metrics", "127.0.0.1")
    assert result.exit_code == 2
    assert "--metrics" in result.stderr
    assert not started


def test_a_file_of_upstreams_that_is_not_there_is_said_before_anything_starts(started: list[list[str]]):
    result = run("web", "--upstreams", "nowhere.yaml")
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.stderr
    assert not started


@pytest.mark.parametrize("mode", [["--mode", "local"], ["-m", "local"], ["--mode=local"]])
def test_a_mode_of_the_persons_own_gets_no_advice(mode: list[str], started: list[list[str]]):
    assert run("dump", "--", *mode).stderr == ""


def test_a_port_that_the_system_chooses_is_left_to_mitmproxy_to_say(started: list[list[str]]):
    assert "mitmproxy says below" in run("dump", "--listen", "127.0.0.1:0").stderr


@pytest.mark.parametrize(
    ("extra", "folder"),
    [
        ((), Path.home() / ".mitmproxy"),
        (("--set", "confdir=/a", "--set=confdir=/b"), Path("/b")),
        (("--set", "other=confdir=/a"), Path.home() / ".mitmproxy"),
        (("--set", "confdir=~/mine"), Path.home() / "mine"),
    ],
)
def test_the_certificate_is_where_mitmproxy_keeps_it(extra: tuple[str, ...], folder: Path):
    assert ca_certificate(extra) == folder / "mitmproxy-ca-cert.pem"


@pytest.mark.parametrize(
    "text",
    ["", "here", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "u@h:1", "h:1/path", "h:1?x", "h:1#x", "-1"],
)
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(ValueError, match=r"\w"):
        ListenAddress.parse(text)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "[::1]:9464", ":80", "localhost:0"])
def test_an_address_is_written_as_it_is_read(text: str):
    assert str(ListenAddress.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "localhost:3001", "http://", "ftp://h/", "http://user:secret@h/", "http://h:x/", "/mcp", "http://[::1"]
)
def test_what_is_no_server_is_refused(text: str):
    with pytest.raises(ValueError, match=r"\w"):
        Upstream.parse(text)


def test_a_missing_mitmproxy_ends_with_127_and_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("web", "--upstream", "http://127.0.0.1:3001/mcp")
    assert result.exit_code == 127
    assert result.stderr.startswith("shadowcat: mitmweb is neither beside")
    assert "pip install 'mitmproxy" in result.stderr


def test_mitmproxy_on_the_path_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / "mitmdump"
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert under_test.find_program("mitmdump") == program


class Spec:
    def __init__(self, *places: Path) -> None:
        self.submodule_search_locations = [str(place) for place in places]


@pytest.mark.parametrize("inside", [True, False], ids=["installed", "checkout"])
def test_the_addon_script_is_found_installed_and_in_a_checkout(
    inside: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    package = tmp_path / "shadowcat_addons"
    package.mkdir()
    script = (package if inside else tmp_path) / "shadowcat.py"
    script.touch()
    monkeypatch.setattr(under_test, "find_spec", lambda _name: Spec(package))
    assert addon_script() == script


@pytest.mark.parametrize("spec", [None, Spec(Path("/nowhere/shadowcat_addons"))])
def test_an_installation_without_the_addons_says_so(spec: Spec | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "find_spec", lambda _name: spec)
    result = run("dump")
    assert result.exit_code == 127
    assert "the addon script is not part of this installation" in result.stderr
